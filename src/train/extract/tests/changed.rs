//! Tests of recordings whose content changes after the extraction.

use super::*;

/// Writes a grey picture of 48x48 pixels: a gradient that begins with `first`.
fn write_picture(path: &Path, first: u8) {
    let pixel = |x: u32, y: u32| image::Luma([first.wrapping_add((3 * x + y) as u8)]);
    image::GrayImage::from_fn(48, 48, pixel).save(path).unwrap();
}

#[test]
fn a_changed_recording_is_refused_kept_or_extracted_again_as_selected() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    write_picture(&root.join("a.png"), 0);
    write_picture(&root.join("b.png"), 60);
    std::fs::write(root.join("labels.csv"), "file,label\na.png,x\nb.png,y\n").unwrap();
    let listing = data::list("folder", &root, &Options::default()).unwrap();
    let args_for = |name: &str, changed| ExtractArgs {
        changed,
        ..args(folder.path().join(name), ClipsRule::Recording, 1)
    };
    let run = |changed| {
        let args = args_for("store", changed);
        extract(&listing, &args, &AtomicBool::new(false))
    };
    let store = args_for("store", WhenChanged::Refuse).store;
    assert_eq!(run(WhenChanged::Refuse).unwrap().rows, 2);
    let first = rows(&store);

    // The same content with another time is not a change. The first run updates the stamp.
    write_picture(&root.join("a.png"), 0);
    for _ in 0..2 {
        let again = run(WhenChanged::Refuse).unwrap();
        assert_eq!((again.items, again.changed), (0, 0));
    }

    write_picture(&root.join("a.png"), 120);
    let error = run(WhenChanged::Refuse).unwrap_err().to_string();
    assert!(
        error.contains("have changed since: a.png; ") && error.contains("--changed extract"),
        "{error}"
    );
    let list = store.join("changed-0000-of-0001.txt");
    assert_eq!(std::fs::read_to_string(&list).unwrap(), "a.png\n");
    assert!(rows(&store) == first, "a refusal changes nothing");

    let kept = run(WhenChanged::Keep).unwrap();
    assert_eq!((kept.items, kept.changed), (0, 1));
    assert!(rows(&store) == first);

    let renewed = run(WhenChanged::Extract).unwrap();
    assert_eq!((renewed.items, renewed.changed, renewed.rows), (1, 1, 1));
    let fresh = args_for("fresh", WhenChanged::Refuse);
    extract(&listing, &fresh, &AtomicBool::new(false)).unwrap();
    let found = rows(&store);
    assert!(found == rows(&fresh.store) && found[0].1 != first[0].1);
    assert_eq!(found[1], first[1]);
    let again = run(WhenChanged::Refuse).unwrap();
    assert_eq!((again.items, again.done_before, again.changed), (0, 2, 0));
    assert!(!list.exists());

    // A store of an earlier version has no stamps: it opens, and changes are not detected.
    let index = store.join("shard-0000-of-0001.jsonl");
    let lines: Vec<serde_json::Value> = std::fs::read_to_string(&index)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let without = lines.into_iter().map(|mut line| {
        assert!(line.as_object_mut().unwrap().remove("media").is_some());
        line.to_string() + "\n"
    });
    std::fs::write(&index, without.collect::<String>()).unwrap();
    write_picture(&root.join("b.png"), 200);
    let old = run(WhenChanged::Refuse).unwrap();
    assert_eq!((old.items, old.done_before, old.changed), (0, 2, 0));
}
