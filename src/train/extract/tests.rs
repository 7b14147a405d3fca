use std::path::{Path, PathBuf};

use super::*;
use crate::testing::{material, project};
use crate::train::data::{Media, Options, Picture, Split, Target};
use crate::train::store::Store;

fn args(store: PathBuf, clips: ClipsRule, workers: usize) -> ExtractArgs {
    ExtractArgs {
        dataset: "folder".into(),
        root: PathBuf::new(),
        encoders: vec![project("models/default")],
        store,
        shard: None,
        workers: Some(workers),
        clips,
        limit: None,
        provider: Provider::Cpu,
        text_only: false,
        fold: None,
        public_test_selects: false,
    }
}

/// Two recordings of people, one that is no recording, one of sound alone.
fn tree(root: &Path) -> Option<()> {
    let [ravdess, grid] = [material("av/ravdess_actor01/01-01-03-01-01-01-01.mp4")?, material("av/grid_s1/bbwm5s.mpg")?];
    std::fs::create_dir(root.join("anna")).unwrap();
    std::fs::copy(ravdess, root.join("anna/one.mp4")).unwrap();
    std::fs::copy(grid, root.join("two.mpg")).unwrap();
    std::fs::write(root.join("broken.mp4"), b"this is no film").unwrap();
    std::fs::copy(material("speech/ravdess/Actor_17/03-01-03-01-01-01-17.flac")?, root.join("voice.flac")).unwrap();
    std::fs::write(root.join("labels.csv"), "file,label\nanna/one.mp4,happy\ntwo.mpg,neutral\nbroken.mp4,happy\nvoice.flac,\n").unwrap();
    Some(())
}

fn rows(store: &Path) -> Vec<(Entry, Vec<f32>)> {
    let store = Store::open(store).unwrap();
    let dim = store.spec().dim();
    let read = |i| {
        let mut row = vec![0.0; dim];
        store.read(i, &mut row).unwrap();
        row
    };
    store.entries().iter().cloned().enumerate().map(|(i, entry)| (entry, read(i))).collect()
}

#[test]
fn a_folder_becomes_rows_whatever_the_workers_and_shards_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    let Some(()) = tree(&root) else { return };
    let listing = data::list("folder", &root, &Options::default()).unwrap();
    assert_eq!(listing.items.len(), 4, "{:?}", listing.faults);

    let one = args(folder.path().join("one"), ClipsRule::Recording, 1);
    let extracted = extract(&listing, &one).unwrap();
    assert_eq!((extracted.items, extracted.rows, extracted.done_before), (4, 3, 0), "{extracted:?}");
    assert!(extracted.refused.len() == 1 && extracted.refused.keys().all(|r| r.starts_with("unreadable: ")), "{extracted:?}");
    assert!(extracted.graph_share > 0.0 && extracted.graph_share <= 1.0 && extracted.waiting_share >= 0.0, "{extracted:?}");
    let first = rows(&one.store);
    let of = |id: &str| first.iter().find(|(entry, _)| entry.id == id).unwrap_or_else(|| panic!("{id}: {:?}", first.iter().map(|r| &r.0.id)));
    let (anna, values) = of("anna/one.mp4");
    assert_eq!((anna.present.as_slice(), &anna.target), (&[true, true][..], &Some(Target::Class(0))));
    assert!((3.0..4.5).contains(&anna.seconds) && values.iter().all(|v| v.is_finite()) && values.iter().any(|v| *v != 0.0), "{anna:?}");
    let (voice, values) = of("voice.flac");
    assert_eq!(voice.present, [false, true]);
    assert!(values[..128].iter().all(|v| *v == 0.0) && values[128..].iter().any(|v| *v != 0.0));

    // Again: nothing is left to do.
    let again = extract(&listing, &one).unwrap();
    assert_eq!((again.items, again.done_before), (0, 4));
    assert_eq!(rows(&one.store), first);

    // Two workers, two shards, one after the other.
    let mut two = args(folder.path().join("two"), ClipsRule::Recording, 2);
    let mut done = 0;
    for shard in ["0/2", "1/2"] {
        two.shard = Some(shard.parse().unwrap());
        done += extract(&listing, &two).unwrap().items;
    }
    assert_eq!(done, 4);
    assert!(rows(&two.store) == first, "rows depend on workers or shards");

    // Windows: whole ones of one subject, a hop apart.
    let windows = args(folder.path().join("windows"), ClipsRule::Window, 2);
    extract(&listing, &windows).unwrap();
    let windows = rows(&windows.store);
    let mut starts: Vec<i64> = windows.iter().filter_map(|(e, _)| e.id.strip_prefix("anna/one.mp4#")?.parse().ok()).collect();
    starts.sort();
    assert!(starts.len() >= 6 && starts.windows(2).all(|w| (100..=200).contains(&(w[1] - w[0]))), "{starts:?}");
    assert!(windows.iter().all(|(e, _)| e.seconds <= 2.0 + 1e-9));
}

fn item(media: Media, interval: Option<[f64; 2]>) -> Item {
    Item { id: "x".into(), split: Split::Train, group: String::new(), media, interval, text: None, target: None }
}

fn worker() -> Worker {
    let files = SetFiles::read(&[project("models/default")]).unwrap();
    Worker::new(&Runtime::load().unwrap(), &files, Provider::Cpu, ClipsRule::Recording).unwrap()
}

#[test]
fn an_interval_is_a_recording_of_its_own_and_two_files_are_one() {
    let Some(path) = material("av/ravdess_actor01/01-01-03-01-01-01-01.mp4") else { return };
    let mut worker = worker();
    let whole = worker.extract(&item(Media::Recording(path.clone()), None)).rows.unwrap();
    let apart = worker.extract(&item(Media::Apart { video: path.clone(), audio: path.clone() }, None)).rows.unwrap();
    assert_eq!(whole, apart);
    let all = worker.extract(&item(Media::Recording(path.clone()), Some([0.0, 60.0]))).rows.unwrap();
    assert_eq!(whole, all);
    let part = worker.extract(&item(Media::Recording(path.clone()), Some([1.0, 2.5]))).rows.unwrap();
    assert!((part[0].seconds - 1.5).abs() < 1e-6, "{}", part[0].seconds);
    assert!(part[0].embeddings.contains_key("face") && part[0].embeddings != whole[0].embeddings);
    let beyond = worker.extract(&item(Media::Recording(path), Some([60.0, 61.0]))).rows;
    assert_eq!(beyond.unwrap_err(), Refusal::NobodyThere);
}

#[test]
fn pictures_go_to_the_face_encoder_as_they_are() {
    let mut worker = worker();
    let pixels: Vec<u8> = (0..48 * 48u32).map(|i| (i * 7 % 251) as u8).collect();
    let grey = Media::Picture(Picture::Grey { size: 48, pixels: pixels.clone() });
    let row = worker.extract(&item(grey, None)).rows.unwrap().remove(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("face.png");
    image::GrayImage::from_raw(48, 48, pixels).unwrap().save(&file).unwrap();
    assert_eq!(worker.extract(&item(Media::Picture(Picture::File(file)), None)).rows.unwrap()[0], row);
    assert_eq!(row.embeddings.keys().collect::<Vec<_>>(), ["face"]);
    let missing = Media::Picture(Picture::File(folder.path().join("nothing.png")));
    assert!(matches!(worker.extract(&item(missing, None)).rows, Err(Refusal::Unreadable(_))));
    // Words alone, and no encoder of words.
    let words = Item { text: Some("good morning".into()), ..item(Media::None, None) };
    assert_eq!(worker.extract(&words).rows.unwrap_err(), Refusal::NothingToEncode);
}
