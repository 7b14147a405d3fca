//! nEMO (Christop 2024), acted Polish speech: `<speaker>_<emotion>_<sentence>.flac`, 16 kHz mono,
//! with the speakers' data in `data.tsv`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::labels::RAVDESS;
use crate::train::data::Part;
use crate::train::data::speech_clip::{Corpus, LabelledClip};

/// The speakers, sorted, and for each whether she is a woman (from `data.tsv`).
const SPEAKERS_AND_SEX: [(&str, bool); 7] = [
    ("IC0", true),
    ("KD0", true),
    ("KS0", false),
    ("MK0", true),
    ("MP0", false),
    ("SM0", false),
    ("WR0", false),
];

/// The speakers' codes in nEMO, sorted. The `actor` of a clip is a position in this list, counted
/// from 1.
pub const SPEAKERS: [&str; 7] = {
    let mut names = [""; 7];
    let mut at = 0;
    while at < names.len() {
        names[at] = SPEAKERS_AND_SEX[at].0;
        at += 1;
    }
    names
};

/// The speakers whose clips are for the report in every recipe: a woman and a man.
pub const REPORT_SPEAKERS: [&str; 2] = ["IC0", "KS0"];

/// The code and the sex of speaker `actor`, a position in [`SPEAKERS`] counted from 1. `None` if
/// there is no such speaker.
fn speaker(actor: u32) -> Option<(&'static str, bool)> {
    let index = (actor as usize).checked_sub(1)?;
    SPEAKERS_AND_SEX.get(index).copied()
}

/// Whether speaker `actor`, a position in [`SPEAKERS`] counted from 1, is a woman. `None` if there
/// is no such speaker.
pub fn is_woman(actor: u32) -> Option<bool> {
    speaker(actor).map(|(_, is_woman)| is_woman)
}

/// The name in [`RAVDESS`] of the emotion `code` in a file's name. `None` if the code is unknown.
pub(super) fn emotion_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "anger" => "angry",
        "fear" => "fearful",
        "happiness" => "happy",
        "neutral" => "neutral",
        "sadness" => "sad",
        "surprised" => "surprised",
        _ => return None,
    })
}

/// The speaker's position in [`SPEAKERS`], counted from 1, and the emotion's index in [`RAVDESS`],
/// from a file name without extension. `None` if the name has another form.
fn parse(stem: &str) -> Option<(u32, usize)> {
    let mut fields = stem.split('_');
    let (speaker, emotion, sentence) = (fields.next()?, fields.next()?, fields.next()?);
    let place = SPEAKERS.iter().position(|known| *known == speaker)?;
    let emotion = emotion_of(emotion)?;
    let is_number = sentence.parse::<u32>().is_ok() && fields.next().is_none();
    let emotion = RAVDESS.iter().position(|known| *known == emotion)?;
    is_number.then_some((place as u32 + 1, emotion))
}

/// The part of the clips of speaker `actor`, a position in [`SPEAKERS`] counted from 1: report for
/// [`REPORT_SPEAKERS`], selection for the speakers in `select`, otherwise training.
pub fn part_of(actor: u32, select: &[u32]) -> Part {
    let is_report = speaker(actor).is_some_and(|(code, _)| REPORT_SPEAKERS.contains(&code));
    match actor {
        _ if is_report => Part::Report,
        actor if select.contains(&actor) => Part::Select,
        _ => Part::Train,
    }
}

/// Reads the clips of one part of nEMO, sorted by path. `select`: the selection speakers, as
/// positions in [`SPEAKERS`] counted from 1.
///
/// # Errors
/// The folder has no clips of this part, a file's name has another form, or a clip cannot be
/// decoded.
pub fn read(folder: &Path, part: Part, select: &[u32]) -> anyhow::Result<Vec<LabelledClip>> {
    let files = std::fs::read_dir(folder).with_context(|| {
        format!(
            "nEMO is not at {}: set $EXPRESSD_MATERIAL or the recipe's material",
            folder.display()
        )
    })?;
    let mut clips: Vec<(PathBuf, u32, usize)> = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_none_or(|e| e != "flac") {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let (actor, emotion) = stem
            .and_then(parse)
            .with_context(|| format!("{} is not named as nEMO names its files", path.display()))?;
        if part_of(actor, select) == part {
            clips.push((path, actor, emotion));
        }
    }
    ensure!(
        !clips.is_empty(),
        "no clips of this part in {}",
        folder.display()
    );
    clips.sort();
    clips
        .into_iter()
        .map(|(path, actor, emotion)| LabelledClip::read(&path, Corpus::Nemo, emotion, actor, part))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaker_and_emotion_are_parsed_from_file_names() {
        assert_eq!(parse("IC0_anger_12"), Some((1, 4)));
        assert_eq!(parse("WR0_surprised_4"), Some((7, 7)));
        for other in [
            "XX0_anger_12",
            "IC0_calm_12",
            "IC0_anger",
            "IC0_anger_x",
            "IC0_anger_1_2",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn report_speakers_are_never_in_training_or_selection() {
        for actor in 1..=7 {
            let reports = REPORT_SPEAKERS.contains(&SPEAKERS[actor as usize - 1]);
            for select in [&[][..], &[1, 2, 3, 4, 5, 6, 7]] {
                assert_eq!(part_of(actor, select) == Part::Report, reports);
            }
        }
        assert_eq!(
            (part_of(2, &[]), part_of(2, &[2])),
            (Part::Train, Part::Select)
        );
        assert_eq!([1, 3].map(is_woman), [Some(true), Some(false)]);
        for actor in [0, 8, u32::MAX] {
            assert_eq!(is_woman(actor), None, "{actor}");
            assert_eq!(part_of(actor, &[]), Part::Train, "{actor}");
        }
    }

    #[test]
    fn the_published_folder_is_read_by_part() {
        let Some(folder) = crate::testing::material("speech/nemo") else {
            return;
        };
        let report = read(&folder, Part::Report, &[]).unwrap();
        assert_eq!(report.len(), 2 * 132);
        assert!(report.iter().all(|clip| [1, 3].contains(&clip.actor)));
        let train = read(&folder, Part::Train, &[]).unwrap();
        assert_eq!(train.len() + report.len(), 840);
        let emotions: std::collections::BTreeSet<_> =
            train.iter().map(|clip| clip.emotion).collect();
        assert_eq!(
            emotions.into_iter().collect::<Vec<_>>(),
            Corpus::Nemo.emotions()
        );
    }
}
