//! CREMA-D (Cao et al. 2014): twelve sentences in six emotions by 91 actors.
//!
//! ```text
//! VideoFlash/1001_DFA_ANG_XX.flv     AudioWAV/1001_DFA_ANG_XX.wav      either, or both
//! VideoDemographics.csv              optional: the actors
//! ```
//! The splits are by actor: 1001 to 1063 are train, 1064 to 1077 val, 1078 to 1091 test. The label
//! is the emotion that the actor was asked to play, not the raters' choice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::catalogue::Catalogue;
use super::table::Table;
use super::tree::{self, AUDIO, VIDEO, has_extension, walk};
use super::{DataError, Item, Listing, Media, Options, Split, Target};

/// The emotions, in alphabetical order of their codes in file names.
pub const LABELS: [&str; 6] = ["anger", "disgust", "fear", "happy", "neutral", "sad"];

/// The codes of [`LABELS`] in file names.
const CODES: [&str; 6] = ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"];

/// The codes of the sentences in file names, and the sentences.
const SENTENCES: [(&str, &str); 12] = [
    ("IEO", "It's eleven o'clock."),
    ("TIE", "That is exactly what happened."),
    ("IOM", "I'm on my way to the meeting."),
    ("IWW", "I wonder what this is about."),
    ("TAI", "The airplane is almost full."),
    ("MTI", "Maybe tomorrow it will be cold."),
    ("IWL", "I would like a new alarm clock."),
    ("ITH", "I think I have a doctor's appointment."),
    ("DFA", "Don't forget a jacket."),
    ("ITS", "I think I've seen this before."),
    ("TSI", "The surface is slick."),
    ("WSI", "We'll stop in a couple of minutes."),
];

/// The take whose published file has no sound.
const SILENT: &str = "1076_MTI_SAD_XX";

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str =
    "AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav and VideoFlash/….flv, as in 1001_DFA_ANG_XX";

/// An actor of CREMA-D, from `VideoDemographics.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// In years.
    pub age: u32,
    /// `male` or `female`.
    pub sex: String,
}

/// Reads `VideoDemographics.csv`: the actors by number (1001 to 1091). Malformed rows are left out.
///
/// # Errors
/// The file cannot be read, or a column is missing.
pub fn actors(path: &Path) -> Result<BTreeMap<u32, Actor>, DataError> {
    read_actors(path, &mut Catalogue::default())
}

/// As [`actors`]; malformed rows are added to `catalogue` as faults.
fn read_actors(path: &Path, catalogue: &mut Catalogue) -> Result<BTreeMap<u32, Actor>, DataError> {
    let mut table = Table::open(path)?;
    let (id, age, sex) = (
        table.column("ActorID")?,
        table.column("Age")?,
        table.column("Sex")?,
    );
    let mut actors = BTreeMap::new();
    while let Some(row) = table.next(catalogue)? {
        match (row.get(id).parse(), row.get(age).parse()) {
            (Ok(id), Ok(age)) => {
                actors.insert(
                    id,
                    Actor {
                        age,
                        sex: row.get(sex).to_lowercase(),
                    },
                );
            }
            _ => catalogue.fault(
                table.at(row.line),
                "the actor or the age is not a number: left out",
            ),
        }
    }
    Ok(actors)
}

/// Lists the takes of CREMA-D in the folder `root`.
///
/// # Errors
/// The folder or `VideoDemographics.csv` cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let actors = match tree::file(
        root,
        &["VideoDemographics.csv", "annotations/VideoDemographics.csv"],
    ) {
        Some(path) => Some(read_actors(&path, &mut catalogue)?),
        None => None,
    };
    // The video and the sound file of each take.
    let mut takes: BTreeMap<String, [Option<PathBuf>; 2]> = BTreeMap::new();
    let extensions: Vec<&str> = VIDEO.iter().chain(&AUDIO).copied().collect();
    for file in walk(root, &extensions, &mut catalogue)? {
        let kind = usize::from(has_extension(&file.path, &AUDIO));
        let place = &mut takes.entry(file.stem().to_string()).or_default()[kind];
        match place {
            // A copy may have every sound twice, as WAV and as MP3: the lossless file is used.
            Some(first) if first.extension() == file.path.extension() => {
                catalogue.fault(
                    file.path.display().to_string(),
                    format!("{} is the same take: left out", first.display()),
                );
            }
            Some(first) if has_extension(first, &["wav", "flac"]) => {}
            _ => *place = Some(file.path),
        }
    }
    for (name, files) in takes {
        let media = match files {
            [Some(video), Some(audio)] => Media::Separate { video, audio },
            [Some(file), None] | [None, Some(file)] => Media::Recording(file),
            [None, None] => continue,
        };
        let Some((actor, text, label)) = parse(&name) else {
            catalogue.fault(
                name,
                "is not named as CREMA-D names its files (1001_DFA_ANG_XX): left out",
            );
            continue;
        };
        if name == SILENT {
            catalogue.fault(name, "has no sound as published: left out");
            continue;
        }
        if actors.as_ref().is_some_and(|a| !a.contains_key(&actor)) {
            catalogue.fault(
                name,
                format!("actor {actor} is not in VideoDemographics.csv: left out"),
            );
            continue;
        }
        let item = Item {
            id: name.clone(),
            split: split_of(actor),
            group: actor.to_string(),
            media,
            interval: None,
            text: Some(text.to_string()),
            target: Some(Target::Class(label)),
        };
        catalogue.add(item, name);
    }
    catalogue.finish("crema-d", &LABELS, root, LAYOUT)
}

/// The split of an actor (1001 to 1091): 63 actors are train, 14 val and 14 test. About half of the
/// actors of train and val are women; of test, six.
pub fn split_of(actor: u32) -> Split {
    match actor {
        ..=1063 => Split::Train,
        1064..=1077 => Split::Val,
        1078.. => Split::Test,
    }
}

/// The actor's number, the sentence, and the emotion's index in [`LABELS`], from a file name
/// without extension. `None` if the name has another form.
fn parse(name: &str) -> Option<(u32, &'static str, usize)> {
    let [actor, sentence, emotion, level] = name.split('_').collect::<Vec<_>>()[..] else {
        return None;
    };
    let actor = actor.parse().ok().filter(|a| (1001..=1091).contains(a))?;
    let text = SENTENCES.iter().find(|(code, _)| *code == sentence)?.1;
    let label = CODES.iter().position(|c| *c == emotion)?;
    // One published file has the level `X` by mistake.
    ["XX", "X", "LO", "MD", "HI"]
        .contains(&level)
        .then_some((actor, text, label))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn video_and_sound_of_a_take_are_paired_and_takes_split_by_actor() {
        let tree = Tree::new(&[
            "AudioWAV/1001_DFA_ANG_XX.wav",
            "VideoFlash/1001_DFA_ANG_XX.flv",
            "AudioWAV/1064_IEO_HAP_LO.wav",
            "VideoFlash/1091_WSI_SAD_XX.flv",
            "AudioWAV/1076_MTI_SAD_XX.wav",
            "AudioWAV/1001_DFA_BOR_XX.wav",
            "AudioMP3/1001_DFA_ANG_XX.mp3",
            "AudioMP3/1064_IEO_HAP_LO.mp3",
            "copy/1064_IEO_HAP_LO.wav",
            "AudioWAV/1200_DFA_ANG_XX.wav",
            "finishedResponses.csv",
        ]);
        let listing = tree.list("crema-d").unwrap();
        assert_eq!(
            ids(&listing),
            ["1001_DFA_ANG_XX", "1064_IEO_HAP_LO", "1091_WSI_SAD_XX"]
        );
        let first = item(&listing, "1001_DFA_ANG_XX");
        let of = |file: &str| tree.path().join(file);
        assert_eq!(
            first.media,
            Media::Separate {
                video: of("VideoFlash/1001_DFA_ANG_XX.flv"),
                audio: of("AudioWAV/1001_DFA_ANG_XX.wav")
            }
        );
        assert_eq!(
            (first.text.as_deref(), first.group.as_str(), &first.target),
            (
                Some("Don't forget a jacket."),
                "1001",
                &Some(Target::Class(0))
            )
        );
        assert_eq!(
            [0, 1, 2].map(|i| listing.items[i].split),
            [Split::Train, Split::Val, Split::Test]
        );
        assert_eq!(faults(&listing, "1076_MTI_SAD_XX", "no sound"), 1);
        assert_eq!(faults(&listing, "1001_DFA_BOR_XX", "is not named"), 1);
        assert_eq!(faults(&listing, "1200_DFA_ANG_XX", "is not named"), 1);
        assert_eq!(
            faults(
                &listing,
                "copy/1064_IEO_HAP_LO.wav",
                "AudioWAV/1064_IEO_HAP_LO.wav is the same take"
            ),
            1
        );
        assert_eq!(listing.faults.len(), 4);
    }

    #[test]
    fn all_names_in_the_published_annotations_are_parsed() {
        let tree = Tree::new(&[]);
        if !tree.copy(
            "annotations/crema_d/VideoDemographics.csv",
            "VideoDemographics.csv",
        ) {
            return;
        }
        let actors = actors(&tree.path().join("VideoDemographics.csv")).unwrap();
        assert_eq!(
            (actors.len(), &actors[&1001]),
            (
                91,
                &Actor {
                    age: 51,
                    sex: "male".into()
                }
            )
        );
        assert_eq!(
            actors
                .keys()
                .filter(|a| split_of(**a) == Split::Test && actors[a].sex == "female")
                .count(),
            6
        );
        // Every file name in the raters' table is the name of a take.
        assert!(tree.copy("annotations/crema_d/summaryTable.csv", "summaryTable.csv"));
        let mut table = Table::open(&tree.path().join("summaryTable.csv")).unwrap();
        let (name, mut catalogue, mut count) =
            (table.column("FileName").unwrap(), Catalogue::default(), 0);
        while let Some(row) = table.next(&mut catalogue).unwrap() {
            assert!(parse(row.get(name)).is_some(), "{}", row.get(name));
            count += 1;
        }
        assert_eq!(count, 7442);
        tree.write("AudioWAV/1001_DFA_ANG_XX.wav", "x");
        assert_eq!(tree.list("crema-d").unwrap().faults, []);
    }
}
