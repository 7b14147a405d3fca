//! Tests of how a store records what its rows cover (windows or recordings).

use super::*;

const SERVED: WindowRule = WindowRule {
    length_ms: 2000,
    hop_ms: 200,
    half_life_ms: Some(100),
};

/// The specification of a store with these values.
fn of(clips: &str, window: Option<WindowRule>) -> StoreSpec {
    StoreSpec {
        clips: clips.into(),
        window,
        ..spec()
    }
}

#[test]
fn a_store_keeps_its_window_and_refuses_another() {
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
fn a_store_of_an_earlier_version_without_a_window_is_continued() {
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

/// Earlier versions of `extract` made a row per recording by default; now the default is a row per
/// window.
#[test]
fn the_error_for_a_store_of_recordings_states_the_remedy() {
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
fn item_and_start_of_a_window_are_parsed_from_its_id() {
    let of = |id: &str| {
        let entry = row(id).0;
        (entry.item().to_owned(), entry.start_ms())
    };
    assert_eq!(of("anna/one.mp4#1400"), ("anna/one.mp4".into(), Some(1400)));
    assert_eq!(of("take#3.mp4"), ("take#3.mp4".into(), None));
    assert_eq!(of("smile.png"), ("smile.png".into(), None));
}
