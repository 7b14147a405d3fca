//! `reader.py` reads the stores of the Rust writer, bit for bit.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::*;
use crate::testing::project;

/// Prints a line of JSON for each row: its metadata, its values as little-endian hexadecimal
/// digits. If numpy is installed, its arrays must have the same bytes.
const SCRIPT: &str = r#"
import importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
import reader
split = sys.argv[3] if len(sys.argv) > 3 else None
found = list(reader.rows(sys.argv[2], split))
if importlib.util.find_spec("numpy"):
    meta, values = reader.arrays(sys.argv[2], split)
    assert values.shape == (len(found), 5), values.shape
    for row, one, array in zip(found, meta, values):
        assert array.tobytes() == row["values"].tobytes()
        assert one == {key: row[key] for key in one} and len(one) == len(row) - 1
for row in found:
    print(json.dumps({**row, "values": row["values"].tobytes().hex()}))
"#;

/// The rows that `reader.py` finds in the store, by id and view; or what it prints as its error.
fn read_by_python(
    dir: &Path,
    split: Option<&str>,
) -> Result<BTreeMap<(String, u64), Value>, String> {
    let output = Command::new("python3")
        .args(["-B", "-c", SCRIPT])
        .arg(project("src/train/store"))
        .arg(dir)
        .args(split)
        .output()
        .expect("python3 starts");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let rows = String::from_utf8(output.stdout).unwrap();
    let rows = rows.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let id = row["id"].as_str().unwrap().to_owned();
        ((id, row["view"].as_u64().unwrap()), row)
    });
    Ok(rows.collect())
}

/// The rows of the store as [`read_by_python`] returns them, read by [`Store`].
fn read_by_rust(dir: &Path, split: Option<Split>) -> BTreeMap<(String, u64), Value> {
    let store = Store::open(dir).unwrap();
    let labels = &store.spec().labels;
    let row = |(place, entry): (usize, &Entry)| {
        let mut values = vec![0.0; store.dim()];
        store.read(place, &mut values).unwrap();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        let label = match &entry.target {
            None => Value::Null,
            Some(Target::Class(class)) => labels[*class].clone().into(),
            Some(Target::Values(values)) => {
                let pairs = labels.iter().cloned().zip(values);
                pairs
                    .map(|(name, value)| (name, Value::from(*value)))
                    .collect()
            }
        };
        let json = serde_json::json!({
            "id": entry.id, "split": entry.split, "group": entry.group, "text": entry.text,
            "seconds": entry.seconds, "view": entry.view, "present": entry.present,
            "label": label, "values": hex,
        });
        ((entry.id.clone(), u64::from(entry.view)), json)
    };
    (store.entries().iter().enumerate())
        .filter(|(_, entry)| split.is_none_or(|split| entry.split == split))
        .map(row)
        .collect()
}

#[test]
fn the_python_reader_gives_the_rows_of_the_rust_reader_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let shard = |index| Shard { index, count: 2 };
    let names = items(40);
    (0..2).for_each(|index| fill(dir, shard(index), &names));
    // Values that a conversion would change, words outside ASCII, an augmented view.
    let unusual = [f32::from_bits(0x7fa0_0001), -0.0, f32::MIN_POSITIVE / 3.0];
    let (entry, values) = row("clip900");
    let values = [&unusual[..], &values[3..]].concat();
    let rows = [0, 1].map(|view| {
        let (text, split) = (Some("naïve\u{2028} \"so\"".into()), Split::Val);
        let entry = Entry {
            view,
            text,
            split,
            ..entry.clone()
        };
        (entry, values.clone())
    });
    let own = (0..2).map(shard).find(|s| s.holds("clip900")).unwrap();
    let mut writer = ShardWriter::open(dir, &spec(), own).unwrap();
    writer.push("clip900", &rows).unwrap();
    drop(writer);
    assert_eq!(read_by_python(dir, None).unwrap(), read_by_rust(dir, None));
    // A newer listing has other labels: shard 0 gets a header, and shard 1 keeps the first labels.
    let newer = StoreSpec {
        labels: ["happy", "angry", "sad"].map(String::from).to_vec(),
        ..spec()
    };
    let listing: Vec<_> = (names.iter().enumerate())
        .map(|(i, id)| {
            listed(
                id,
                [None, Some(Target::Class(1))][i % 2].clone(),
                Split::Test,
            )
        })
        .collect();
    drop(ShardWriter::open_for(dir, &newer, shard(0), &listing).unwrap());
    // One recording is to be extracted again, and a line is half written.
    let index = shard(0).path(dir, "jsonl");
    let text = std::fs::read_to_string(&index).unwrap();
    let id = (names.iter().step_by(5).find(|id| shard(0).holds(id))).unwrap();
    let line = format!(r#"{{"item":"{id}","#);
    let text = text.replacen(&line, &format!(r#"{line}"stale":true,"#), 1) + &line;
    std::fs::write(&index, text).unwrap();
    let expected = read_by_rust(dir, None);
    assert!(!expected.contains_key(&(id.clone(), 0)), "it is stale");
    let has = |label: &str| expected.values().any(|row| row["label"] == label);
    assert!(has("angry") && has("happy") && expected.values().any(|row| row["label"].is_null()));
    assert_eq!(read_by_python(dir, None).unwrap(), expected);
    let test = read_by_python(dir, Some("test")).unwrap();
    assert_eq!(test, read_by_rust(dir, Some(Split::Test)));
    assert!(!test.is_empty() && test.len() < expected.len());
}

#[test]
fn the_python_reader_gives_several_labels_and_reports_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::open(dir.path(), &spec(), Shard::WHOLE).unwrap();
    for (id, values) in [("a", [0.5, 0.0]), ("b", [0.0, 1.25])] {
        let (entry, row) = row(id);
        let target = Some(Target::Values(values.into()));
        writer
            .push(id, &[(Entry { target, ..entry }, row)])
            .unwrap();
    }
    drop(writer);
    let found = read_by_python(dir.path(), None).unwrap();
    assert_eq!(found, read_by_rust(dir.path(), None));
    let a = &found[&("a".to_owned(), 0)];
    assert_eq!(a["label"], serde_json::json!({"sad": 0.5, "happy": 0.0}));
    let path = Shard::WHOLE.path(dir.path(), "rows");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[25] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let error = read_by_python(dir.path(), None).unwrap_err();
    assert!(error.contains("the row of b is damaged"), "{error}");
}
