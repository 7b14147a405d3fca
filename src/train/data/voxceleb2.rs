//! VoxCeleb2's development set (Chung et al. 2018): talking faces without emotion labels, for
//! pre-training.
//!
//! ```text
//! dev/mp4/<idXXXXX>/<youtube>/<clip>.mp4   face tracks, without sound in the published archives
//! dev/aac/<idXXXXX>/<youtube>/<clip>.m4a   the sound of the face tracks
//! vox2_meta.csv                            optional: sex (m, f) and part (dev, test) by speaker
//! ```
//! The test set is not read, because the reference pre-trains on `dev`. The root may also be `dev`
//! itself, or another folder with `mp4` and `aac`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::catalogue::Catalogue;
use super::folded_names::folded;
use super::table::Table;
use super::tree::{FoundFile, folder, walk};
use super::{DataError, Item, Listing, Media, Options, Split, tree};

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str =
    "dev/mp4/<idXXXXX>/<youtube>/<clip>.mp4, and beside it dev/aac/<idXXXXX>/<youtube>/<clip>.m4a";

/// A speaker's data in `vox2_meta.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `m` or `f`, as published.
    pub sex: String,
    /// The published set of the speaker: `dev` or `test`.
    pub set: String,
}

/// Reads `vox2_meta.csv`: the speakers by id (`id00012`). Both published forms are accepted: commas
/// and a byte-order mark, or tabs and spaces.
///
/// # Errors
/// The file cannot be read, or a column is missing.
pub fn identities(path: &Path) -> Result<BTreeMap<String, Identity>, DataError> {
    read_identities(path, &mut Catalogue::default())
}

/// As [`identities`]; malformed rows are added to `catalogue` as faults.
fn read_identities(
    path: &Path,
    catalogue: &mut Catalogue,
) -> Result<BTreeMap<String, Identity>, DataError> {
    let mut table = Table::open(path)?;
    let (id, sex, set) = (
        table.column("VoxCeleb2ID")?,
        table.column("Gender")?,
        table.column("Set")?,
    );
    let mut identities = BTreeMap::new();
    while let Some(row) = table.next(catalogue)? {
        identities.insert(
            row.get(id).to_string(),
            Identity {
                sex: row.get(sex).to_lowercase(),
                set: row.get(set).to_lowercase(),
            },
        );
    }
    Ok(identities)
}

/// Lists the clips of VoxCeleb2's development set in the folder `root`.
///
/// # Errors
/// A folder or `vox2_meta.csv` cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let videos = folder(root, &["dev/mp4", "mp4", "dev", ""]).unwrap_or_else(|| root.to_path_buf());
    let beside = videos.parent().unwrap_or(root);
    let sounds = folder(root, &["dev/aac", "aac"]).or_else(|| folder(beside, &["aac"]));
    let mut meta = match tree::file(
        root,
        &["vox2_meta.csv", "dev/vox2_meta.csv", "../vox2_meta.csv"],
    ) {
        Some(path) => Some(read_identities(&path, &mut catalogue)?),
        None => None,
    };

    let mut sound_of: Option<HashMap<[String; 3], PathBuf>> = None;
    if let Some(sounds) = &sounds {
        let mut all = HashMap::new();
        for file in walk(sounds, &["m4a", "aac", "wav"], &mut catalogue)? {
            let Some(clip) = clip_of(&file) else {
                continue;
            };
            if let Some(first) = all.insert(clip.map(|name| folded(&name)), file.path.clone()) {
                let what = format!("{first:?} is the sound of the same clip: not taken");
                catalogue.fault(format!("{:?}", file.path), what);
            }
        }
        sound_of = Some(all);
    }
    for file in walk(&videos, &["mp4"], &mut catalogue)? {
        let at = file.path.display().to_string();
        let Some(clip) = clip_of(&file) else {
            catalogue.fault(at, "is not <idXXXXX>/<youtube>/<clip>.mp4: left out");
            continue;
        };
        if let Some(meta) = &mut meta {
            let known = meta.entry(clip[0].clone()).or_insert_with(|| {
                catalogue.fault(&clip[0], "is not in vox2_meta.csv: taken to be of dev");
                Identity {
                    sex: String::new(),
                    set: "dev".into(),
                }
            });
            if known.set != "dev" {
                catalogue.fault(
                    at,
                    format!(
                        "{} is of the {} set by vox2_meta.csv: left out",
                        clip[0], known.set
                    ),
                );
                continue;
            }
        }
        let media = match &mut sound_of {
            None => Media::Recording(file.path),
            Some(sound_of) => match sound_of.remove(&clip.each_ref().map(|name| folded(name))) {
                Some(audio) => Media::Separate {
                    video: file.path,
                    audio,
                },
                None => {
                    catalogue.fault(at, "its sound is missing in aac: left out");
                    continue;
                }
            },
        };
        let item = Item {
            id: clip.join("_"),
            split: Split::Train,
            group: clip[0].clone(),
            media,
            interval: None,
            text: None,
            target: None,
        };
        catalogue.add(item, at);
    }
    if let (Some(left), Some(sounds)) = (sound_of, sounds)
        && !left.is_empty()
    {
        catalogue.fault(
            sounds.display().to_string(),
            format!("{} sounds belong to no listed video", left.len()),
        );
    }
    catalogue.finish("voxceleb2", &[], root, LAYOUT)
}

/// The speaker's id, the YouTube video and the clip of a file, from the last three parts of its
/// path. `None` if the file is in another layout.
fn clip_of(file: &FoundFile) -> Option<[String; 3]> {
    let (video, identity) = (file.folder(1)?, file.folder(2)?);
    let number = identity.strip_prefix("id")?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then(|| {
        [
            identity.to_string(),
            video.to_string(),
            file.stem().to_string(),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn videos_are_paired_with_their_sound_files() {
        let tree = Tree::new(&[
            "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4",
            "dev/mp4/id00012/2DLq_Kkc1r8/00016.mp4",
            "dev/mp4/id00012/2DLq_Kkc1r8/00017.mp4",
            "dev/mp4/id00017/01dfn2spqyE/00001.mp4",
            "dev/mp4/00001.mp4",
            "dev/mp4/id00017/notes.txt",
            "dev/aac/id00012/21Uxsk56VDQ/00001.m4a",
            "dev/aac/id00012/2DLq_Kkc1r8/00016.m4a",
            "dev/aac/id00017/01dfn2spqyE/00001.m4a",
            "dev/aac/id00017/01dfn2spqyE/00002.m4a",
            "test/mp4/id00017/01dfn2spqyE/00001.mp4",
        ]);
        tree.write(
            "vox2_meta.csv",
            "VoxCeleb2 ID \tVGGFace2 ID \tGender \tSet \nid00012 \tn000012 \
                                     \tm \tdev \nid00017 \tn000017 \tm \ttest \n",
        );
        let listing = tree.list("voxceleb2").unwrap();
        assert_eq!(
            ids(&listing),
            ["id00012_21Uxsk56VDQ_00001", "id00012_2DLq_Kkc1r8_00016"]
        );
        let first = item(&listing, "id00012_21Uxsk56VDQ_00001");
        let [video, audio] = ["mp4", "aac"].map(|kind| {
            tree.path()
                .join("dev")
                .join(kind)
                .join("id00012/21Uxsk56VDQ")
        });
        assert_eq!(
            first.media,
            Media::Separate {
                video: video.join("00001.mp4"),
                audio: audio.join("00001.m4a")
            }
        );
        assert_eq!(
            (first.group.as_str(), first.split, &first.target),
            ("id00012", Split::Train, &None)
        );
        assert_eq!(faults(&listing, "00017.mp4", "sound is missing"), 1);
        assert_eq!(faults(&listing, "id00017", "of the test set"), 1);
        assert_eq!(faults(&listing, "mp4/00001.mp4", "is not <idXXXXX>"), 1);
        assert_eq!(
            faults(&listing, "dev/aac", "2 sounds belong to no listed video"),
            1
        );
        assert_eq!(listing.faults.len(), 4);
        assert!(listing.labels.is_empty());
    }

    #[test]
    fn sounds_are_paired_in_any_unicode_form() {
        let [composed, decomposed] = ["caf\u{e9}", "cafe\u{301}"];
        let sound = |name| format!("aac/id00012/{name}/00001.m4a");
        let video = format!("mp4/id00012/{composed}/00001.mp4");
        let tree = Tree::new(&[&video, &sound(decomposed)]);
        let listing = tree.list("voxceleb2").unwrap();
        assert_eq!(ids(&listing), [format!("id00012_{composed}_00001")]);
        assert_eq!(
            (&listing.items[0].media, listing.faults.len()),
            (
                &Media::Separate {
                    video: tree.path().join(&video),
                    audio: tree.path().join(sound(decomposed))
                },
                0
            )
        );
        tree.write(&sound(composed), "x");
        let listing = tree.list("voxceleb2").unwrap();
        assert_eq!(faults(&listing, "caf", "is the sound of the same clip"), 1);
    }

    #[test]
    fn videos_without_sound_files_and_metadata_are_recordings() {
        for below in ["dev/mp4/", "mp4/", ""] {
            let tree = Tree::new(&[&format!("{below}id00012/21Uxsk56VDQ/00001.mp4")]);
            let listing = tree.list("voxceleb2").unwrap();
            assert_eq!(ids(&listing), ["id00012_21Uxsk56VDQ_00001"]);
            assert!(
                matches!(listing.items[0].media, Media::Recording(_)) && listing.faults.is_empty()
            );
        }
    }

    #[test]
    fn the_published_metadata_is_read_with_its_byte_order_mark() {
        let tree = Tree::new(&[
            "dev/mp4/id00012/a/1.mp4",
            "dev/mp4/id99999/a/1.mp4",
            "dev/mp4/id99999/a/2.mp4",
        ]);
        if !tree.copy(
            "annotations/voxceleb2/vox2_meta_first2000.csv",
            "vox2_meta.csv",
        ) {
            return;
        }
        let identities = identities(&tree.path().join("vox2_meta.csv")).unwrap();
        assert_eq!(
            identities["id00012"],
            Identity {
                sex: "m".into(),
                set: "dev".into()
            }
        );
        assert!(
            identities.len() > 1900
                && identities
                    .values()
                    .all(|i| ["m", "f"].contains(&i.sex.as_str()))
        );
        let listing = tree.list("voxceleb2").unwrap();
        assert_eq!((listing.items.len(), listing.faults.len()), (3, 1));
        assert_eq!(faults(&listing, "id99999", "not in vox2_meta.csv"), 1);
    }
}
