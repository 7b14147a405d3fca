//! The rule by which clips became rows.

use super::*;

const SERVED: WindowRule = WindowRule {
    length_ms: 2000,
    hop_ms: 200,
    half_life_ms: Some(100),
};

fn of(clips: &str, window: Option<WindowRule>) -> StoreSpec {
    StoreSpec {
        clips: clips.into(),
        window,
        ..spec()
    }
}

#[test]
fn a_store_states_length_hop_and_half_life_of_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let spec = of(WINDOW, Some(SERVED));
    drop(ShardWriter::open(dir.path(), &spec, Shard::WHOLE).unwrap());
    assert_eq!(Store::open(dir.path()).unwrap().spec(), &spec);
    let other = WindowRule {
        half_life_ms: None,
        ..SERVED
    };
    let error = ShardWriter::open(dir.path(), &of(WINDOW, Some(other)), Shard::WHOLE)
        .unwrap_err()
        .to_string();
    assert!(error.contains("its window is"), "{error}");
}

#[test]
fn a_store_of_an_earlier_version_is_read_and_continued() {
    for clips in [WINDOW, RECORDING] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::open(dir.path(), &of(clips, None), Shard::WHOLE).unwrap();
        writer.push("a", &[row("a")]).unwrap();
        drop(writer);
        let json = std::fs::read_to_string(dir.path().join("store.json")).unwrap();
        assert!(!json.contains("length_ms"), "{json}");
        let newer = of(clips, Some(SERVED));
        let mut writer = ShardWriter::open(dir.path(), &newer, Shard::WHOLE).unwrap();
        assert!(writer.is_done("a"));
        writer.push("b", &[row("b")]).unwrap();
        drop(writer);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((store.entries().len(), store.spec().window), (2, None));
    }
}

/// `extract` made a row per recording by default; the same command asks for windows now.
#[test]
fn the_remedy_for_a_store_of_recordings_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(ShardWriter::open(dir.path(), &of(RECORDING, None), Shard::WHOLE).unwrap());
    let error = ShardWriter::open(dir.path(), &of(WINDOW, Some(SERVED)), Shard::WHOLE)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("add --clips recording to continue it") && error.contains("served live"),
        "{error}"
    );
}

#[test]
fn a_window_is_of_an_item_and_starts_somewhere() {
    let of = |id: &str| {
        let entry = row(id).0;
        (entry.item().to_owned(), entry.start_ms())
    };
    assert_eq!(of("anna/one.mp4#1400"), ("anna/one.mp4".into(), Some(1400)));
    assert_eq!(of("take#3.mp4"), ("take#3.mp4".into(), None));
    assert_eq!(of("smile.png"), ("smile.png".into(), None));
}
