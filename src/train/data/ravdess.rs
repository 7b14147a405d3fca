//! RAVDESS's speech (Livingstone & Russo 2018) for training the voice encoder:
//! `Actor_NN/<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.flac`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::labels::RAVDESS;
use crate::train::data::speech_clip::{Corpus, LabelledClip};
use crate::train::data::{DataError, Part, Split};

/// The numbers of all actors of RAVDESS.
pub const ACTORS: RangeInclusive<u32> = 1..=24;
/// The actors whose clips are for the report in every recipe.
pub const REPORT_ACTORS: RangeInclusive<u32> = 18..=21;
/// The selection actors by default; a recipe may name others.
pub const SELECT_ACTORS: [u32; 2] = [16, 17];

/// The part of an actor's clips: report for [`REPORT_ACTORS`], selection for the actors in
/// `select`, otherwise training.
pub fn part_of(actor: u32, select: &[u32]) -> Part {
    match actor {
        actor if REPORT_ACTORS.contains(&actor) => Part::Report,
        actor if select.contains(&actor) => Part::Select,
        _ => Part::Train,
    }
}

/// The reference's ten folds (`src/train/method.md` a.2): for each, the test actors and the
/// validation actors. The other actors train.
#[rustfmt::skip]
const FOLDS: [(&[u32], &[u32]); 10] = [
    (&[1, 2, 3], &[23, 24]), (&[4, 5, 6], &[23, 24]), (&[7, 8], &[23, 24]),
    (&[9, 10], &[23, 24]), (&[13, 14, 15], &[23, 24]), (&[11, 12], &[23, 24]),
    (&[16, 17], &[23, 24]), (&[18, 19], &[1, 2]), (&[20, 21], &[1, 2]), (&[22, 23, 24], &[1, 2]),
];

/// The split of an actor. `fold`: one of the reference's ten folds, 0 to 9. `None`: actors 1 to 15
/// and 22 to 24 are train, 16 and 17 val, 18 to 21 test.
///
/// # Errors
/// [`DataError::Refused`]: `fold` is above 9.
pub fn split_of(actor: u32, fold: Option<usize>) -> Result<Split, DataError> {
    let Some(fold) = fold else {
        return Ok(match part_of(actor, &SELECT_ACTORS) {
            Part::Select => Split::Val,
            Part::Report => Split::Test,
            Part::Train => Split::Train,
        });
    };
    let (test, val) = FOLDS.get(fold).ok_or_else(|| DataError::Refused {
        what: format!("there is no fold {fold} of RAVDESS: give 0 to 9"),
    })?;
    Ok(if test.contains(&actor) {
        Split::Test
    } else if val.contains(&actor) {
        Split::Val
    } else {
        Split::Train
    })
}

/// One performance of a sentence, by the numbers in a file's name, which begin at 1. The modality
/// is not included, because a take has one file for each modality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Take {
    pub actor: u32,
    /// 1: speech, 2: song.
    pub channel: u32,
    /// Index in [`RAVDESS`] plus 1.
    pub emotion: u32,
    /// 1: normal, 2: strong.
    pub intensity: u32,
    /// Which of the two sentences.
    pub statement: u32,
    pub repetition: u32,
}

impl Take {
    /// The modality (1: video with sound, 2: video only, 3: sound only) and the take, from a file
    /// name without extension. `None` if the name has another form or a number is out of range.
    pub fn parse(stem: &str) -> Option<(usize, Take)> {
        let fields: Vec<u32> = stem
            .split('-')
            .map(|f| f.parse().ok())
            .collect::<Option<_>>()?;
        let [
            modality,
            channel,
            emotion,
            intensity,
            statement,
            repetition,
            actor,
        ] = fields[..]
        else {
            return None;
        };
        let all = [
            (modality, 3),
            (channel, 2),
            (emotion, RAVDESS.len() as u32),
            (intensity, 2),
            (statement, 2),
            (repetition, 2),
            (actor, 24),
        ];
        let take = Take {
            actor,
            channel,
            emotion,
            intensity,
            statement,
            repetition,
        };
        all.iter()
            .all(|(field, last)| (1..=*last).contains(field))
            .then_some((modality as usize, take))
    }

    /// The name, without extension, of the take's file of this modality (1 to 3).
    pub fn name(&self, modality: u32) -> String {
        let Take {
            actor,
            channel,
            emotion,
            intensity,
            statement,
            repetition,
        } = self;
        format!(
            "{modality:02}-{channel:02}-{emotion:02}-{intensity:02}-{statement:02}-\
             {repetition:02}-{actor:02}"
        )
    }
}

/// Reads the clips of one part of RAVDESS, sorted by path. `select`: the numbers of the selection
/// actors.
///
/// # Errors
/// The folder has no clips of this part, a file's name has another form, or a clip cannot be
/// decoded.
pub fn read(folder: &Path, part: Part, select: &[u32]) -> anyhow::Result<Vec<LabelledClip>> {
    let mut paths: Vec<(PathBuf, u32, usize)> = Vec::new();
    let actors = std::fs::read_dir(folder).with_context(|| {
        format!(
            "RAVDESS is not at {}: set $EXPRESSD_MATERIAL or the recipe's material",
            folder.display()
        )
    })?;
    for actor in actors {
        let actor = actor?.path();
        if !actor.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&actor)? {
            let path = file?.path();
            if path.extension().is_none_or(|e| e != "flac") {
                continue;
            }
            let (actor, emotion) = parse(&path).with_context(|| {
                format!("{} is not named as RAVDESS names its files", path.display())
            })?;
            if part_of(actor, select) == part {
                paths.push((path, actor, emotion));
            }
        }
    }
    ensure!(
        !paths.is_empty(),
        "no clips of this part in {}",
        folder.display()
    );
    paths.sort();
    paths
        .into_iter()
        .map(|(path, actor, emotion)| {
            LabelledClip::read(&path, Corpus::Ravdess, emotion, actor, part)
        })
        .collect()
}

/// The actor's number and the emotion's index in [`RAVDESS`], from a file's name. `None` if the
/// name has another form.
fn parse(path: &Path) -> Option<(u32, usize)> {
    let (_, take) = Take::parse(path.file_stem()?.to_str()?)?;
    Some((take.actor, take.emotion as usize - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actor_and_emotion_are_parsed_from_file_names() {
        assert_eq!(
            parse(Path::new("Actor_07/03-01-06-01-02-01-07.flac")),
            Some((7, 5))
        );
        assert_eq!(parse(Path::new("03-01-09-01-02-01-07.flac")), None);
        assert_eq!(parse(Path::new("readme.flac")), None);
    }

    #[test]
    fn each_actor_is_in_one_part_and_report_actors_never_select() {
        let of = |part, select: &[u32]| {
            ACTORS
                .filter(|a| part_of(*a, select) == part)
                .collect::<Vec<u32>>()
        };
        assert_eq!(
            of(Part::Train, &SELECT_ACTORS),
            (1..=15).chain(22..=24).collect::<Vec<_>>()
        );
        assert_eq!(of(Part::Select, &SELECT_ACTORS), [16, 17]);
        assert_eq!(of(Part::Report, &SELECT_ACTORS), [18, 19, 20, 21]);
        assert_eq!(of(Part::Select, &[3, 18]), [3], "who reports never selects");
    }

    #[test]
    fn each_actor_is_in_test_in_one_fold_and_names_round_trip() {
        // Every actor is in test in exactly one fold.
        for actor in 1..=24 {
            let tested = (0..10)
                .filter(|f| split_of(actor, Some(*f)).unwrap() == Split::Test)
                .count();
            assert_eq!(tested, 1, "actor {actor}");
        }
        for fold in 0..10 {
            assert_eq!(
                (1..=24)
                    .filter(|a| split_of(*a, Some(fold)).unwrap() == Split::Val)
                    .count(),
                2,
                "fold {fold}"
            );
        }
        let error = split_of(1, Some(10)).unwrap_err().to_string();
        assert_eq!(error, "there is no fold 10 of RAVDESS: give 0 to 9");
        let name = "03-01-06-01-02-01-07";
        assert_eq!(
            Take::parse(name)
                .map(|(modality, take)| take.name(modality as u32))
                .as_deref(),
            Some(name)
        );
    }

    #[test]
    fn the_published_folder_is_read_by_part() {
        let Some(folder) = crate::testing::material("speech/ravdess") else {
            return;
        };
        let clips = read(&folder, Part::Select, &SELECT_ACTORS).unwrap();
        assert_eq!(clips.len(), 120);
        assert!(
            clips
                .iter()
                .all(|c| (16..=17).contains(&c.actor) && c.part == Part::Select)
        );
        for emotion in 0..RAVDESS.len() {
            let expected = if emotion == 0 { 8 } else { 16 };
            assert_eq!(
                clips.iter().filter(|c| c.emotion == emotion).count(),
                expected,
                "{}",
                RAVDESS[emotion]
            );
        }
        assert!(
            clips
                .iter()
                .all(|c| (0.8..5.0).contains(&((c.speech[1] - c.speech[0]) as f32 / 16_000.0)))
        );
    }
}
