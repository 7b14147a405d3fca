//! The loader of RAVDESS's speech recordings: `Actor_NN/<take>.<mp4|wav|flac>`, where a take is
//! `<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>`.
//!
//! Modality 01 is video with sound, 02 video only, 03 sound only. If a take has a file with both,
//! this file is the item's media; otherwise its video and sound files are. Songs (channel 02) are
//! left out. All files may also be in one folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::catalogue::Catalogue;
use super::ravdess::{Take, split_of};
use super::tree::{AUDIO, VIDEO, walk};
use super::{DataError, Item, Listing, Media, Options, Target};
use crate::labels::RAVDESS;

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str =
    "Actor_NN/03-01-EE-II-SS-RR-AA.wav (or .flac) and Actor_NN/01-01-EE-II-SS-RR-AA.mp4";

/// The sentences that the actors speak; the number in a file's name is the index plus 1.
const STATEMENTS: [&str; 2] = [
    "Kids are talking by the door",
    "Dogs are sitting by the door",
];

/// Lists the takes of RAVDESS in the folder `root`, one item a take.
///
/// # Errors
/// `options.fold` is above 9, the folder cannot be read, or there is no item.
pub fn list(root: &Path, options: &Options) -> Result<Listing, DataError> {
    // An invalid fold is refused before the folder is read.
    split_of(1, options.fold)?;
    let mut catalogue = Catalogue::default();
    let extensions: Vec<&str> = VIDEO.iter().chain(&AUDIO).copied().collect();
    let mut takes: BTreeMap<Take, [Option<PathBuf>; 3]> = BTreeMap::new();
    let mut songs = 0;
    for file in walk(root, &extensions, &mut catalogue)? {
        let at = file.path.display().to_string();
        let Some((modality, take)) = Take::parse(file.stem()) else {
            catalogue.fault(
                at,
                "is not named as RAVDESS names its files (03-01-06-01-02-01-12): left out",
            );
            continue;
        };
        if take.channel == 2 {
            songs += 1;
            continue;
        }
        let place = &mut takes.entry(take).or_default()[modality - 1];
        match place {
            None => *place = Some(file.path),
            Some(first) => catalogue.fault(
                at,
                format!("{} is the same take: left out", first.display()),
            ),
        }
    }
    if songs > 0 {
        catalogue.fault(
            root.display().to_string(),
            format!("{songs} files are sung, not spoken: left out"),
        );
    }
    for (take, files) in takes {
        let (id, media) = match files {
            [Some(both), _, _] => (take.name(1), Media::Recording(both)),
            [None, Some(video), Some(audio)] => (take.name(2), Media::Separate { video, audio }),
            [None, Some(video), None] => (take.name(2), Media::Recording(video)),
            [None, None, Some(audio)] => (take.name(3), Media::Recording(audio)),
            [None, None, None] => continue,
        };
        let item = Item {
            id: id.clone(),
            split: split_of(take.actor, options.fold)?,
            group: format!("Actor_{:02}", take.actor),
            media,
            interval: None,
            text: Some(STATEMENTS[take.statement as usize - 1].to_string()),
            target: Some(Target::Class(take.emotion as usize - 1)),
        };
        catalogue.add(item, id);
    }
    catalogue.finish("ravdess", &RAVDESS, root, LAYOUT)
}

#[cfg(test)]
mod tests {
    use super::super::Split;
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn a_take_is_one_item_with_video_and_sound_if_it_has_both() {
        let tree = Tree::new(&[
            "Actor_01/01-01-06-01-02-01-01.mp4",
            "Actor_01/02-01-06-01-02-01-01.mp4",
            "Actor_01/03-01-06-01-02-01-01.wav",
            "Actor_16/02-01-01-01-01-01-16.mp4",
            "Actor_16/03-01-01-01-01-01-16.wav",
            "Actor_18/03-01-08-01-01-01-18.flac",
            "audio_speech_actors_01-24/Actor_18/03-01-08-01-01-01-18.wav",
            "Actor_22/02-01-03-02-01-02-22.mp4",
            "Actor_22/03-02-03-02-01-02-22.wav",
            "Actor_22/03-01-09-02-01-02-22.wav",
            "Actor_22/03-01-01-01-01-01-25.wav",
            "Actor_22/notes.wav",
        ]);
        let listing = tree.list("ravdess").unwrap();
        assert_eq!(
            ids(&listing),
            [
                "01-01-06-01-02-01-01",
                "02-01-01-01-01-01-16",
                "02-01-03-02-01-02-22",
                "03-01-08-01-01-01-18"
            ]
        );
        let first = item(&listing, "01-01-06-01-02-01-01");
        assert_eq!(
            first.media,
            Media::Recording(tree.path().join("Actor_01/01-01-06-01-02-01-01.mp4"))
        );
        assert_eq!(
            (first.group.as_str(), first.text.as_deref(), &first.target),
            ("Actor_01", Some(STATEMENTS[1]), &Some(Target::Class(5)))
        );
        assert!(matches!(
            &item(&listing, "02-01-01-01-01-01-16").media,
            Media::Separate { .. }
        ));
        assert_eq!(
            [0, 1, 2, 3].map(|i| listing.items[i].split),
            [Split::Train, Split::Val, Split::Train, Split::Test]
        );
        assert_eq!(faults(&listing, "audio_speech", "same take"), 1);
        assert_eq!(faults(&listing, "", "1 files are sung"), 1);
        assert_eq!(faults(&listing, "", "is not named"), 3);
        assert_eq!(listing.faults.len(), 5);
    }

    #[test]
    fn the_fold_in_the_options_selects_the_splits() {
        let tree = Tree::new(&[
            "03-01-01-01-01-01-01.wav",
            "03-01-01-01-01-01-18.wav",
            "03-01-01-01-01-01-24.wav",
        ]);
        let of = |fold| {
            super::super::list(
                "ravdess",
                tree.path(),
                &Options {
                    fold,
                    ..Options::default()
                },
            )
        };
        let splits = |fold| {
            of(fold)
                .unwrap()
                .items
                .iter()
                .map(|i| i.split)
                .collect::<Vec<_>>()
        };
        assert_eq!(splits(None), [Split::Train, Split::Test, Split::Train]);
        assert_eq!(splits(Some(0)), [Split::Test, Split::Train, Split::Val]);
        assert_eq!(splits(Some(9)), [Split::Val, Split::Train, Split::Test]);
        assert!(matches!(of(Some(10)), Err(DataError::Refused { .. })));
    }

    #[test]
    fn the_published_folders_are_listed_without_faults() {
        let (Some(voices), Some(faces)) = (
            crate::testing::material("speech/ravdess"),
            crate::testing::material("av/ravdess_actor01"),
        ) else {
            return;
        };
        let listing = super::super::list("ravdess", &voices, &Options::default()).unwrap();
        let count = |split| listing.items.iter().filter(|i| i.split == split).count();
        assert_eq!(
            [Split::Train, Split::Val, Split::Test].map(count),
            [15 * 60, 2 * 60, 4 * 60]
        );
        assert_eq!(listing.faults, []);
        let listing = super::super::list("ravdess", &faces, &Options::default()).unwrap();
        assert_eq!((listing.items.len(), &listing.faults), (26, &vec![]));
        assert!(
            listing
                .items
                .iter()
                .all(|i| i.group == "Actor_01" && i.id.starts_with("01-01-"))
        );
    }
}
