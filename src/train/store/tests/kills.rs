//! Tests that a kill between any two changes of files leaves a store that opens, in its old or its
//! new state.

use std::collections::BTreeMap;

use super::*;
use crate::train::data::{Item, Media};
use crate::train::store::files::stop;

/// Number of shards.
const COUNT: usize = 2;
const CLIPS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// The clip whose recording changes.
const CHANGED: &str = "b";

fn shards() -> impl Iterator<Item = Shard> {
    (0..COUNT).map(|index| Shard {
        index,
        count: COUNT,
    })
}

/// A listing of the data set, and the values of its recordings.
struct Version {
    labels: &'static [&'static str],
    /// The label of each of [`CLIPS`].
    held: [&'static str; CLIPS.len()],
    /// Added to the values of the clip [`CHANGED`].
    offset: f32,
}

const OLD: Version = Version {
    labels: &["sad", "hapy", "angry"],
    held: ["sad", "hapy", "angry", "hapy", "sad", "sad"],
    offset: 0.0,
};

/// Compared with [`OLD`]: a corrected typo, one label less, another order of labels, and two clips
/// with another label.
const NEW: Version = Version {
    labels: &["happy", "sad"],
    held: ["sad", "happy", "sad", "happy", "happy", "sad"],
    offset: 100.0,
};

impl Version {
    fn spec(&self) -> StoreSpec {
        StoreSpec {
            labels: self.labels.iter().map(|l| l.to_string()).collect(),
            ..spec()
        }
    }

    fn listing(&self, media: &Path) -> Vec<Item> {
        let place = |name: &&str| self.labels.iter().position(|l| l == name).unwrap();
        let item = |(clip, held): (&&str, &&str)| Item {
            media: Media::Recording(media.join(clip)),
            ..listed(clip, Some(Target::Class(place(held))), Split::Train)
        };
        CLIPS.iter().zip(&self.held).map(item).collect()
    }

    fn row(&self, item: &Item) -> (Entry, Vec<f32>) {
        let (entry, values) = row(&item.id);
        let entry = Entry {
            target: item.target.clone(),
            group: item.group.clone(),
            ..entry
        };
        let changed = |v: &f32| v + if item.id == CHANGED { self.offset } else { 0.0 };
        (entry, values.iter().map(changed).collect())
    }
}

/// Makes all changes to a store: it is created, relabelled, and a changed recording is extracted
/// again. `phase` counts the finished ones of these three. `media`: the recordings before and after
/// the change.
fn make_all_changes(dir: &Path, media: [&Path; 2], phase: &mut usize) -> Result<(), StoreError> {
    for (version, media, when) in [
        (&OLD, media[0], WhenChanged::Keep),
        (&NEW, media[0], WhenChanged::Keep),
        (&NEW, media[1], WhenChanged::Extract),
    ] {
        let listing = version.listing(media);
        for shard in shards() {
            let mut writer = ShardWriter::open_when(dir, &version.spec(), shard, &listing, when)?;
            for item in listing.iter().filter(|item| shard.holds(&item.id)) {
                if !writer.is_done(&item.id) {
                    let version = if when == WhenChanged::Extract {
                        &NEW
                    } else {
                        &OLD
                    };
                    let stamps = FileStamp::read(&item.media).unwrap();
                    writer.push_from(&item.id, &stamps, &[version.row(item)])?;
                }
            }
        }
        *phase += 1;
    }
    Ok(())
}

/// Label and values of every clip; panics if the store cannot be read.
fn state(dir: &Path) -> BTreeMap<String, (String, Vec<f32>)> {
    let store = Store::open(dir).unwrap();
    let clip = |(i, entry): (usize, &Entry)| {
        let mut values = vec![0.0; store.dim()];
        store.read(i, &mut values).unwrap();
        let Some(Target::Class(class)) = entry.target else {
            panic!("{entry:?} lost its label")
        };
        let label = store.spec().labels[class].clone();
        (entry.id.clone(), (label, values))
    };
    store.entries().iter().enumerate().map(clip).collect()
}

#[test]
fn a_kill_at_any_step_leaves_the_old_state_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
    for (media, version) in [(&before, &OLD), (&after, &NEW)] {
        std::fs::create_dir(media).unwrap();
        for clip in CLIPS {
            let offset = if clip == CHANGED { version.offset } else { 0.0 };
            std::fs::write(media.join(clip), format!("{clip} {offset:5}")).unwrap();
        }
    }
    let media = [before.as_path(), after.as_path()];
    let whole = folder.path().join("whole");
    make_all_changes(&whole, media, &mut 0).unwrap();
    let expected = state(&whole);
    assert_eq!(expected.len(), CLIPS.len());
    assert_eq!(Store::open(&whole).unwrap().spec().labels, NEW.labels);

    let mut steps = 0;
    loop {
        let dir = folder.path().join(format!("stopped-{steps}"));
        let mut phase = 0;
        stop::after(steps);
        let result = make_all_changes(&dir, media, &mut phase);
        stop::never();
        let begun = dir.join("store.json").exists();
        if begun {
            let found = state(&dir);
            for (i, clip) in CLIPS.iter().enumerate() {
                let Some((label, values)) = found.get(*clip) else {
                    assert!(
                        phase == 0 || (phase == 2 && *clip == CHANGED),
                        "{steps}: {clip}"
                    );
                    continue;
                };
                assert!(
                    [OLD.held[i], NEW.held[i]].contains(&label.as_str()),
                    "{steps}: {clip} is {label}"
                );
                let versions = [&OLD, &NEW].map(|v| v.row(&v.listing(&before)[i]).1);
                assert!(versions.contains(values), "{steps}: {clip} has {values:?}");
            }
        } else {
            let is_index = |name: &str| name.ends_with(".jsonl");
            let mut files = std::fs::read_dir(&dir).unwrap().flatten();
            assert!(!files.any(|f| is_index(&f.file_name().to_string_lossy())));
        }
        if result.is_ok() {
            break;
        }
        // The same commands resume the store.
        make_all_changes(&dir, media, &mut 0).unwrap();
        assert_eq!(state(&dir), expected, "after a stop at step {steps}");
        std::fs::remove_dir_all(&dir).unwrap();
        steps += 1;
    }
    assert!(steps > 60, "only {steps} steps were stopped");
}

#[test]
fn shards_may_have_different_lists_of_labels() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let media = Path::new("/no/media");
    let (old, new) = (OLD.listing(media), NEW.listing(media));
    let open = |version: &Version, shard, listing: &[Item]| {
        ShardWriter::open_for(&dir, &version.spec(), shard, listing).unwrap()
    };
    let of = |shard: Shard, listing: &[Item]| -> Vec<Item> {
        let ours = listing.iter().filter(|item| shard.holds(&item.id));
        ours.cloned().collect()
    };
    let [first, second]: [Shard; COUNT] = shards().collect::<Vec<_>>().try_into().unwrap();
    let (in_first, in_second) = (of(first, &old), of(second, &old));
    assert!(in_first.len() > 1 && in_second.len() > 1);
    let mut writer = open(&OLD, first, &old);
    for item in &in_first {
        writer.push(&item.id, &[OLD.row(item)]).unwrap();
    }
    drop(writer);
    // The second shard is still written with the old listing while the first gets the new one.
    let mut other = open(&OLD, second, &old);
    other
        .push(&in_second[0].id, &[OLD.row(&in_second[0])])
        .unwrap();
    assert!(open(&NEW, first, &new).relabelled().items > 0);
    for item in &in_second[1..] {
        other.push(&item.id, &[OLD.row(item)]).unwrap();
    }
    drop(other);
    let names = || -> Vec<String> {
        let all = state(&dir).into_values();
        all.map(|(label, _)| label).collect()
    };
    let mixed: Vec<&str> = (0..CLIPS.len())
        .map(|i| {
            if first.holds(CLIPS[i]) {
                NEW.held[i]
            } else {
                OLD.held[i]
            }
        })
        .collect();
    assert_eq!(names(), mixed);
    open(&NEW, second, &new);
    assert_eq!(names(), NEW.held);
    assert_eq!(Store::open(&dir).unwrap().spec().labels, NEW.labels);
    // Back to the old listing; opening again then changes nothing.
    open(&OLD, first, &old);
    open(&OLD, second, &old);
    assert_eq!(names(), OLD.held);
    assert_eq!(open(&OLD, second, &old).relabelled(), Relabelled::default());
}
