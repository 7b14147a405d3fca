use proptest::prelude::*;

use super::*;

fn spec() -> StoreSpec {
    let encoder = |name: &str, modality, dim| StoredEncoder { name: name.into(), modality, dim };
    StoreSpec {
        schema: SCHEMA,
        fingerprint: "f".into(),
        dataset: "folder".into(),
        labels: vec!["sad".into(), "happy".into()],
        clips: "recording".into(),
        encoders: vec![encoder("face", Modality::Face, 3), encoder("voice", Modality::Voice, 2)],
    }
}

fn row(id: &str) -> (Entry, Vec<f32>) {
    let entry = Entry {
        id: id.into(),
        split: Split::Train,
        group: String::new(),
        target: Some(Target::Class(1)),
        present: vec![true, false],
        seconds: 2.5,
        text: None,
        view: 0,
    };
    let seed = id.bytes().map(f32::from).sum::<f32>();
    (entry, (0..5).map(|i| seed + i as f32).collect())
}

fn fill(dir: &Path, shard: Shard, items: &[String]) {
    let mut writer = ShardWriter::open(dir, &spec(), shard).unwrap();
    for (i, item) in items.iter().enumerate().filter(|(i, _)| i % shard.count == shard.index) {
        if writer.is_done(item) {
            continue;
        }
        match i % 5 {
            4 => writer.skip(item, "no face").unwrap(),
            3 => writer.push(item, &[row(&format!("{item}#0")), row(&format!("{item}#1"))]).unwrap(),
            _ => writer.push(item, &[row(item)]).unwrap(),
        }
    }
}

fn contents(dir: &Path) -> (Vec<Entry>, Vec<Vec<f32>>, usize) {
    let store = Store::open(dir).unwrap();
    let values = (0..store.entries().len()).map(|i| {
        let mut out = vec![0.0; store.dim()];
        store.read(i, &mut out).unwrap();
        out
    });
    (store.entries().to_vec(), values.collect(), store.skipped().values().sum())
}

fn items(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("clip{i:03}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_killed_run_goes_on_without_loss_or_doubles(rows_cut in 0.0f64..1.0, index_cut in 0.0f64..1.0) {
        let whole = tempfile::tempdir().unwrap();
        fill(whole.path(), Shard::WHOLE, &items(17));
        let killed = tempfile::tempdir().unwrap();
        fill(killed.path(), Shard::WHOLE, &items(17));
        // As a kill leaves it: the index ends anywhere, the rows hold at least what it names.
        let index = Shard::WHOLE.path(killed.path(), "jsonl");
        let text = std::fs::read(&index).unwrap();
        let kept = &text[..(text.len() as f64 * index_cut) as usize];
        std::fs::write(&index, kept).unwrap();
        let named: usize = kept.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")).map(|l| serde_json::from_slice::<Line>(l).unwrap().rows.len()).sum();
        let rows = Shard::WHOLE.path(killed.path(), "rows");
        let bytes = std::fs::read(&rows).unwrap();
        let least = named * 20;
        std::fs::write(&rows, &bytes[..least + ((bytes.len() - least) as f64 * rows_cut) as usize]).unwrap();
        fill(killed.path(), Shard::WHOLE, &items(17));
        prop_assert_eq!(contents(whole.path()), contents(killed.path()));
    }
}

#[test]
fn the_union_of_shards_is_the_store() {
    let (one, four) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path(), Shard::WHOLE, &items(23));
    for index in [2, 0, 3, 1] {
        fill(four.path(), Shard { index, count: 4 }, &items(23));
    }
    assert_eq!(contents(one.path()), contents(four.path()));
}

#[test]
fn a_flipped_byte_a_cut_file_and_a_broken_line_are_told() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), Shard::WHOLE, &items(6));
    let rows = Shard::WHOLE.path(dir.path(), "rows");
    let good = std::fs::read(&rows).unwrap();
    let mut bytes = good.clone();
    bytes[21] ^= 1;
    std::fs::write(&rows, &bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut out = vec![0.0; 5];
    assert!(store.read(0, &mut out).is_ok());
    let error = store.read(1, &mut out).unwrap_err().to_string();
    assert!(error.contains("clip001") && error.contains("damaged"), "{error}");
    std::fs::write(&rows, &good[..good.len() - 1]).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Damaged { .. })));
    assert!(matches!(ShardWriter::open(dir.path(), &spec(), Shard::WHOLE), Err(StoreError::Damaged { .. })));
    std::fs::write(&rows, &good).unwrap();
    let index = Shard::WHOLE.path(dir.path(), "jsonl");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replacen('{', "[", 1)).unwrap();
    assert!(Store::open(dir.path()).unwrap_err().to_string().contains("line 1"));
}

#[test]
fn other_settings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), Shard { index: 0, count: 4 }, &items(4));
    let refused = |spec: &StoreSpec, shard| ShardWriter::open(dir.path(), spec, shard).unwrap_err().to_string();
    let part = Shard { index: 1, count: 4 };
    assert!(refused(&StoreSpec { fingerprint: "g".into(), ..spec() }, part).contains("fingerprint"));
    assert!(refused(&StoreSpec { clips: "window".into(), ..spec() }, part).contains("clips rule"));
    assert!(refused(&StoreSpec { encoders: vec![], ..spec() }, part).contains("encoders"));
    assert!(refused(&spec(), Shard { index: 0, count: 8 }).contains("shards of 4"));
    assert!("4/4".parse::<Shard>().is_err());
    assert_eq!("1/4".parse::<Shard>().unwrap(), part);
}

#[test]
fn a_full_disk_is_told_and_what_was_finished_stays() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), Shard::WHOLE, &items(2));
    let mut writer = ShardWriter::open(dir.path(), &spec(), Shard::WHOLE).unwrap();
    writer.rows = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = writer.push("clip002", &[row("clip002")]).unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    assert!(!writer.is_done("clip002"));
    assert_eq!(contents(dir.path()).0.len(), 2);
}
