//! Tests of the extraction from a data set to a store: shards, resumption, labels, views.

mod changed;
mod clips;
mod worker;

use std::path::{Path, PathBuf};

use super::*;
use crate::testing::{material, project};
use crate::train::data::{Options, Target};
use crate::train::store::Store;

/// The options of an extraction with the default bundle's encoders.
fn args(store: PathBuf, clips: ClipsRule, workers: usize) -> ExtractArgs {
    ExtractArgs {
        dataset: "folder".into(),
        root: PathBuf::new(),
        encoders: vec![project("models/default")],
        store,
        shard: None,
        workers: Some(workers),
        clips,
        views: 1,
        changed: WhenChanged::Refuse,
        limit: None,
        detector: "models/yunet".into(),
        provider: Provider::Cpu,
        text_only: false,
        fold: None,
        public_test_selects: false,
    }
}

/// Fills `root` with two recordings of people, a file that is not a recording, a file with sound
/// only, and `labels.csv`. `None` if the material is not installed.
fn tree(root: &Path) -> Option<()> {
    let [ravdess, grid] = [
        material("av/ravdess_actor01/01-01-03-01-01-01-01.mp4")?,
        material("av/grid_s1/bbwm5s.mpg")?,
    ];
    std::fs::create_dir(root.join("anna")).unwrap();
    std::fs::copy(ravdess, root.join("anna/one.mp4")).unwrap();
    std::fs::copy(grid, root.join("two.mpg")).unwrap();
    std::fs::write(root.join("broken.mp4"), b"this is no film").unwrap();
    std::fs::copy(
        material("speech/ravdess/Actor_17/03-01-03-01-01-01-17.flac")?,
        root.join("voice.flac"),
    )
    .unwrap();
    std::fs::write(
        root.join("labels.csv"),
        "file,label\nanna/one.mp4,happy\ntwo.mpg,neutral\nbroken.mp4,happy\nvoice.flac,\n",
    )
    .unwrap();
    Some(())
}

/// The metadata and values of all rows of a store.
fn rows(store: &Path) -> Vec<(Entry, Vec<f32>)> {
    let store = Store::open(store).unwrap();
    let dim = store.spec().dim();
    let read = |i| {
        let mut row = vec![0.0; dim];
        store.read(i, &mut row).unwrap();
        row
    };
    store
        .entries()
        .iter()
        .cloned()
        .enumerate()
        .map(|(i, entry)| (entry, read(i)))
        .collect()
}

#[test]
fn extraction_is_resumable_and_independent_of_workers_and_shards() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    let Some(()) = tree(&root) else { return };
    let listing = data::list("folder", &root, &Options::default()).unwrap();
    assert_eq!(listing.items.len(), 4, "{:?}", listing.faults);

    let one = args(folder.path().join("one"), ClipsRule::Recording, 1);
    let extracted = extract(&listing, &one, &AtomicBool::new(false)).unwrap();
    assert_eq!(
        (extracted.items, extracted.rows, extracted.done_before),
        (4, 3, 0),
        "{extracted:?}"
    );
    assert!(
        extracted.refused.len() == 1
            && extracted
                .refused
                .keys()
                .all(|r| r.starts_with("unreadable: ")),
        "{extracted:?}"
    );
    assert!(
        extracted.graph_share > 0.0
            && extracted.graph_share <= 1.0
            && extracted.waiting_share >= 0.0,
        "{extracted:?}"
    );
    let refused = std::fs::read_to_string(one.store.join("refused-0000-of-0001.txt")).unwrap();
    assert!(
        refused.lines().count() == 1 && refused.starts_with("broken.mp4: unreadable: "),
        "{refused}"
    );
    let first = rows(&one.store);
    let of = |id: &str| {
        first
            .iter()
            .find(|(entry, _)| entry.id == id)
            .unwrap_or_else(|| panic!("{id}: {:?}", first.iter().map(|r| &r.0.id)))
    };
    let (anna, values) = of("anna/one.mp4");
    assert_eq!(
        (anna.present.as_slice(), &anna.target),
        (&[true, true, false][..], &Some(Target::Class(0)))
    );
    assert!(
        (3.0..4.5).contains(&anna.seconds)
            && values.iter().all(|v| v.is_finite())
            && values.iter().any(|v| *v != 0.0),
        "{anna:?}"
    );
    let (voice, values) = of("voice.flac");
    assert_eq!(voice.present, [false, true, false]);
    assert!(
        values[..128].iter().all(|v| *v == 0.0)
            && values[128..256].iter().any(|v| *v != 0.0)
            && values[256..].iter().all(|v| *v == 0.0)
    );

    // A second run has no work left, and writes the faults of the copy to the store's folder.
    let listing = Listing {
        faults: vec![data::Fault {
            at: "labels.csv line 9".into(),
            what: "is odd".into(),
        }],
        ..listing
    };
    let again = extract(&listing, &one, &AtomicBool::new(false)).unwrap();
    assert_eq!((again.items, again.done_before), (0, 4));
    assert_eq!(
        std::fs::read_to_string(one.store.join("faults-0000-of-0001.txt")).unwrap(),
        "labels.csv line 9: is odd\n"
    );
    assert_eq!(rows(&one.store), first);

    // A corrected label and a new one are stored without playing a recording.
    let relabelled = folder.path().join("relabelled");
    std::fs::create_dir(&relabelled).unwrap();
    std::fs::read_dir(&one.store)
        .unwrap()
        .flatten()
        .for_each(|file| {
            _ = std::fs::copy(file.path(), relabelled.join(file.file_name())).unwrap()
        });
    let labels =
        "file,label\nanna/one.mp4,sad\ntwo.mpg,neutral\nbroken.mp4,happy\nvoice.flac,happy\n";
    let old = std::fs::read(root.join("labels.csv")).unwrap();
    std::fs::write(root.join("labels.csv"), labels).unwrap();
    let newer = data::list("folder", &root, &Options::default()).unwrap();
    assert_eq!(
        newer
            .label_counts()
            .iter()
            .map(|(label, counts)| (*label, counts.iter().sum()))
            .collect::<Vec<(_, usize)>>(),
        [("happy", 2), ("neutral", 1), ("sad", 1)]
    );
    let taken = extract(
        &newer,
        &args(relabelled.clone(), ClipsRule::Recording, 1),
        &AtomicBool::new(false),
    )
    .unwrap();
    assert_eq!((taken.items, taken.relabelled.words), (0, 0));
    let targets: Vec<_> = rows(&relabelled)
        .into_iter()
        .map(|(entry, _)| (entry.id, entry.target))
        .collect();
    let class = |id: &str, class| (id.to_owned(), Some(Target::Class(class)));
    assert_eq!(
        targets,
        [
            class("anna/one.mp4", 2),
            class("two.mpg", 1),
            class("voice.flac", 0)
        ]
    );
    std::fs::write(root.join("labels.csv"), old).unwrap();

    // Two workers; two shards, one after the other.
    let mut two = args(folder.path().join("two"), ClipsRule::Recording, 2);
    let mut done = 0;
    for shard in ["0/2", "1/2"] {
        two.shard = Some(shard.parse().unwrap());
        done += extract(&listing, &two, &AtomicBool::new(false))
            .unwrap()
            .items;
    }
    assert_eq!(done, 4);
    assert!(
        rows(&two.store) == first,
        "rows depend on workers or shards"
    );

    // With rule `window`: full windows of one subject, at most a hop apart.
    let windows = args(folder.path().join("windows"), ClipsRule::Window, 2);
    extract(&listing, &windows, &AtomicBool::new(false)).unwrap();
    let windows = rows(&windows.store);
    let mut starts: Vec<i64> = windows
        .iter()
        .filter_map(|(e, _)| e.id.strip_prefix("anna/one.mp4#")?.parse().ok())
        .collect();
    starts.sort();
    assert!(
        starts.len() >= 6
            && starts
                .windows(2)
                .all(|w| (100..=200).contains(&(w[1] - w[0]))),
        "{starts:?}"
    );
    assert!(windows.iter().all(|(e, _)| e.seconds <= 2.0 + 1e-9));
}

/// The demonstration recording, which is part of the repository.
fn demo() -> PathBuf {
    project("config/demo/demo.mp4")
}

#[test]
fn augmented_views_follow_the_unchanged_clip_also_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    std::fs::copy(demo(), root.join("demo.mp4")).unwrap();
    std::fs::write(
        root.join("labels.csv"),
        "file,label,start,end\ndemo.mp4,a,0,1.5\ndemo.mp4,b,1.5,3\n",
    )
    .unwrap();
    let listing = data::list("folder", &root, &Options::default()).unwrap();
    let args = |name: &str, views| ExtractArgs {
        views,
        ..args(folder.path().join(name), ClipsRule::Recording, 1)
    };
    let (plain, three) = (args("plain", 1), args("three", 3));
    extract(&listing, &plain, &AtomicBool::new(false)).unwrap();
    // The extraction ends after the first item; another one is stopped at once; the last resumes.
    let stop = AtomicBool::new(true);
    assert_eq!(
        extract(
            &listing,
            &ExtractArgs {
                limit: Some(1),
                ..three.clone()
            },
            &AtomicBool::new(false)
        )
        .unwrap()
        .rows,
        3
    );
    let stopped = extract(&listing, &three, &stop).unwrap();
    assert_eq!((stopped.items, stopped.left), (0, 1));
    assert_eq!(
        extract(&listing, &three, &AtomicBool::new(false))
            .unwrap()
            .rows,
        3
    );
    let (plain, rows) = (rows(&plain.store), rows(&three.store));
    let places: Vec<(&str, u32)> = rows
        .iter()
        .map(|(entry, _)| (entry.id.as_str(), entry.view))
        .collect();
    let ids = [listing.items[0].id.as_str(), listing.items[1].id.as_str()];
    assert_eq!(
        places,
        ids.iter()
            .flat_map(|id| (0..3).map(|view| (*id, view)))
            .collect::<Vec<_>>()
    );
    for (i, (entry, values)) in plain.iter().enumerate() {
        let views = &rows[3 * i..3 * i + 3];
        assert!(
            views[0] == (entry.clone(), values.clone()),
            "view 0 is the clip as it is"
        );
        let cosine = |a: &[f32], b: &[f32]| {
            let dot =
                |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        for pair in [(0, 1), (0, 2), (1, 2)] {
            let (a, b) = (&views[pair.0].1, &views[pair.1].1);
            assert!(
                a[..128] != b[..128]
                    && a[128..] != b[128..]
                    && views[pair.1].0.present == entry.present,
                "{pair:?}"
            );
            println!(
                "{} {pair:?}: cosine of faces {:.3}, of voices {:.3}",
                entry.id,
                cosine(&a[..128], &b[..128]),
                cosine(&a[128..], &b[128..])
            );
        }
    }
}
