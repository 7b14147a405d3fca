//! The command `inspect`: prints what is in a feature store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::train::store::{Store, StoreError, Summary};

/// Prints what is in a feature store: settings, encoders, rows for each split, label and set of
/// modalities, items without rows, files.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  expressd-train inspect stores/sessions\n  expressd-train inspect \
                  stores/sessions --json | jq .labels"
)]
pub struct InspectArgs {
    /// The store's folder.
    pub store: PathBuf,
    /// Print JSON, with the names of all items without rows.
    #[arg(long)]
    pub json: bool,
    /// Read all rows too and compare their checksums; takes as long as reading the files.
    #[arg(long)]
    pub verify: bool,
}

/// Prints the summary of the store on standard output.
///
/// # Errors
/// The folder is no feature store, or the store is damaged. Without `--verify` the values of the
/// rows are not read, so damage to them is not noticed.
pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let store = Store::open(&args.store)?;
    if args.verify {
        verify(&store)?;
    }
    let summary = Summary::new(&store);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{}", text(&args.store, &summary));
        if args.verify {
            println!("The checksums of all {} rows are right.", summary.rows);
        }
    }
    Ok(())
}

/// Reads each row of the store.
///
/// # Errors
/// The disk fails, or the checksum of a row is wrong.
fn verify(store: &Store) -> Result<(), StoreError> {
    let mut values = vec![0.0; store.dim()];
    (0..store.entries().len()).try_for_each(|row| store.read(row, &mut values))
}

/// The summary of the store in the folder `path` as text for a terminal.
fn text(path: &Path, summary: &Summary) -> String {
    let Summary { spec, .. } = summary;
    let mut out = format!("{}\n", path.display());
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<12} {value}");
    };
    line("format", format!("store of schema {}", spec.schema));
    line("data set", spec.dataset.clone());
    line("fingerprint", spec.fingerprint.clone());
    let window = spec.window.map_or(String::new(), |window| {
        let half_life = (window.half_life_ms)
            .map_or("no half-life".to_owned(), |ms| format!("half-life {ms} ms"));
        format!(
            ", windows of {} ms, hop {} ms, {half_life}",
            window.length_ms, window.hop_ms
        )
    });
    line("clips", format!("{}{window}", spec.clips));
    for encoder in &spec.encoders {
        let (modality, dim) = (encoder.modality.name(), encoder.dim);
        line(
            "encoder",
            format!("{} ({modality}), {dim} values", encoder.name),
        );
    }
    let views = match spec.views {
        1 => String::new(),
        views => format!(", {views} views of each clip"),
    };
    line(
        "rows",
        format!("{} of {} values{views}", summary.rows, summary.dim),
    );
    line(
        "items",
        format!(
            "{} with rows, {} without; {} groups, {:.1} h",
            summary.items,
            summary.skipped.len(),
            summary.groups,
            summary.seconds / 3600.0
        ),
    );
    line(
        "files",
        format!(
            "{} shards, {} bytes",
            summary.shards.len(),
            grouped(summary.bytes)
        ),
    );
    let stale: u64 = summary.shards.iter().map(|shard| shard.stale).sum();
    if stale > 0 {
        line(
            "stale",
            format!("{stale} rows of recordings that have changed since; they are not used"),
        );
    }
    if !summary.missing_shards.is_empty() {
        line(
            "missing",
            format!("shard {}", summary.missing_shards.join(", ")),
        );
    }
    out += &tables(summary);
    out
}

/// The counts of the summary as tables, each after an empty line.
fn tables(summary: &Summary) -> String {
    let mut out = format!(
        "\n{:<24} {:>9} {:>9} {:>9}\n",
        "split", "items", "rows", "labelled"
    );
    for count in &summary.splits {
        let name = format!("{:?}", count.split).to_lowercase();
        let _ = writeln!(
            out,
            "{name:<24} {:>9} {:>9} {:>9}",
            count.items, count.rows, count.labelled
        );
    }
    if !summary.labels.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<24} {:>9} {:>9} {:>9}",
            "rows by label", "train", "val", "test"
        );
    }
    for count in &summary.labels {
        let [train, val, test] = count.rows;
        let _ = writeln!(out, "{:<24} {train:>9} {val:>9} {test:>9}", count.label);
    }
    let _ = writeln!(out, "\nrows by modalities");
    for (names, rows) in &summary.modalities {
        let _ = writeln!(out, "{names:<24} {rows:>9}");
    }
    let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
    for skipped in &summary.skipped {
        let items = reasons.entry(skipped.reason.as_str()).or_default();
        items.push(&skipped.item);
    }
    if !reasons.is_empty() {
        let _ = writeln!(out, "\nitems without rows, by reason");
    }
    for (reason, items) in reasons {
        let first = items[..items.len().min(3)].join(", ");
        let more = if items.len() > 3 { ", …" } else { "" };
        let _ = writeln!(out, "{:>9} {reason}: {first}{more}", items.len());
    }
    out
}

/// The number with a comma between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::WindowRule;
    use crate::modality::Modality;
    use crate::train::data::{Split, Target};
    use crate::train::store::{
        Entry, SCHEMA, Shard, ShardWriter, StoreSpec, StoredEncoder, WINDOW,
    };

    /// A store of three clips and two skipped items in shard 0 of 2; `full`: with shard 1, which
    /// has no item.
    fn write(dir: &Path, full: bool) {
        let encoder = |name: &str, modality, dim| StoredEncoder {
            name: name.into(),
            modality,
            dim,
        };
        let spec = StoreSpec {
            schema: SCHEMA,
            fingerprint: "f1".into(),
            dataset: "folder".into(),
            labels: vec!["sad".into(), "happy".into()],
            clips: WINDOW.into(),
            window: Some(WindowRule {
                length_ms: 2000,
                hop_ms: 200,
                half_life_ms: Some(150),
            }),
            views: 1,
            encoders: vec![
                encoder("face", Modality::Face, 3),
                encoder("voice", Modality::Voice, 2),
            ],
        };
        let entry = |id: &str, split, target, present: [bool; 2]| Entry {
            id: id.into(),
            split,
            group: "anna".into(),
            target,
            present: present.into(),
            seconds: 1800.0,
            text: None,
            view: 0,
        };
        let row = |entry: Entry| (entry, vec![0.5f32; 5]);
        let shard = |index| Shard { index, count: 2 };
        let mut writer = ShardWriter::open(dir, &spec, shard(0)).unwrap();
        let happy = Some(Target::Class(1));
        let rows = [
            row(entry("a#0", Split::Train, happy.clone(), [true, true])),
            row(entry("a#200", Split::Train, happy, [true, false])),
        ];
        writer.push("a", &rows).unwrap();
        let rows = [row(entry("b#0", Split::Test, None, [false, false]))];
        writer.push("b", &rows).unwrap();
        writer.skip("c", "no face").unwrap();
        writer.skip("d", "no face").unwrap();
        drop(writer);
        if full {
            drop(ShardWriter::open(dir, &spec, shard(1)).unwrap());
        }
    }

    #[test]
    fn the_text_has_settings_counts_reasons_and_sizes() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), false);
        let summary = Summary::read(dir.path()).unwrap();
        let bytes: u64 = (std::fs::read_dir(dir.path()).unwrap().flatten())
            .filter(|file| file.file_name().to_string_lossy().starts_with("shard-"))
            .map(|file| file.metadata().unwrap().len())
            .sum();
        assert_eq!(summary.bytes, bytes);
        let text = text(Path::new("stores/mine"), &summary);
        let expected = format!(
            "stores/mine
  format       store of schema 2
  data set     folder
  fingerprint  f1
  clips        window, windows of 2000 ms, hop 200 ms, half-life 150 ms
  encoder      face (face), 3 values
  encoder      voice (voice), 2 values
  rows         3 of 5 values
  items        2 with rows, 2 without; 1 groups, 1.5 h
  files        1 shards, {bytes} bytes
  missing      shard 1/2

split                        items      rows  labelled
train                            1         2         2
test                             1         1         0

rows by label                train       val      test
sad                              0         0         0
happy                            2         0         0

rows by modalities
face                             1
face+voice                       1
none                             1

items without rows, by reason
        2 no face: c, d
",
            bytes = grouped(bytes)
        );
        assert_eq!(text, expected);
        assert_eq!(grouped(1_234_567), "1,234,567");
        let whole = tempfile::tempdir().unwrap();
        write(whole.path(), true);
        let summary = Summary::read(whole.path()).unwrap();
        assert!(summary.missing_shards.is_empty());
        assert_eq!(summary.shards.len(), 2);
    }

    #[test]
    fn json_has_the_counts_and_the_names_of_skipped_items() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), true);
        let json = serde_json::to_value(Summary::read(dir.path()).unwrap()).unwrap();
        assert_eq!(json["spec"]["window"]["length_ms"], 2000);
        assert_eq!(json["splits"][0]["split"], "train");
        assert_eq!(json["labels"][1]["rows"], serde_json::json!([2, 0, 0]));
        assert_eq!(json["modalities"]["face+voice"], 1);
        assert_eq!(json["skipped"][1]["item"], "d");
        assert_eq!(json["shards"][0]["shard"], "0000-of-0002");
    }

    #[test]
    fn foreign_and_damaged_folders_are_named_with_the_fault() {
        let dir = tempfile::tempdir().unwrap();
        let inspect = |verify| {
            let store = dir.path().to_owned();
            run(&InspectArgs {
                store,
                json: false,
                verify,
            })
        };
        let error = inspect(false).unwrap_err().to_string();
        assert!(
            error.contains("store.json is not there: is the path right"),
            "{error}"
        );
        std::fs::write(dir.path().join("store.json"), r#"{"schema": 2}"#).unwrap();
        let error = inspect(false).unwrap_err().to_string();
        assert!(error.contains("store.json is no feature store"), "{error}");
        std::fs::remove_file(dir.path().join("store.json")).unwrap();
        write(dir.path(), true);
        inspect(true).unwrap();
        let rows = dir.path().join("shard-0000-of-0002.rows");
        let mut bytes = std::fs::read(&rows).unwrap();
        bytes[21] ^= 1;
        std::fs::write(&rows, &bytes).unwrap();
        inspect(false).unwrap();
        let error = inspect(true).unwrap_err().to_string();
        assert!(
            error.contains("is damaged") && error.contains("a#200"),
            "{error}"
        );
        std::fs::write(&rows, &bytes[..50]).unwrap();
        let error = inspect(false).unwrap_err().to_string();
        assert!(error.contains("ends before the row of b"), "{error}");
    }
}
