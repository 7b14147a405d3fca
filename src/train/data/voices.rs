//! Reads the corpora of acted speech (RAVDESS, nEMO) by part.

use std::path::Path;

use serde::Serialize;

use crate::train::data::speech_clip::{Corpus, LabelledClip};
use crate::train::data::{Part, nemo, ravdess};

/// The selection speakers of a corpus, who are not trained on. Report speakers are used for neither
/// training nor selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HeldOut<'a> {
    /// Some speakers: RAVDESS's actor numbers, or positions in [`nemo::SPEAKERS`] counted from 1.
    Actors(&'a [u32]),
    /// All speakers except the report speakers: the corpus is not trained on.
    All,
}

/// The clips of one part of a corpus, sorted by path. `material`: the folder of all material. Empty
/// if `held_out` leaves no speaker for the part.
///
/// # Errors
/// The corpus is missing, or a clip cannot be decoded.
pub fn read(
    material: &Path,
    corpus: Corpus,
    part: Part,
    held_out: HeldOut<'_>,
) -> anyhow::Result<Vec<LabelledClip>> {
    if (part, held_out) == (Part::Train, HeldOut::All)
        || (part, held_out) == (Part::Select, HeldOut::Actors(&[]))
    {
        return Ok(Vec::new());
    }
    let folder = material.join(corpus.folder());
    let all: Vec<u32>;
    let select = match held_out {
        HeldOut::Actors(actors) => actors,
        HeldOut::All => {
            all = match corpus {
                Corpus::Ravdess => ravdess::ACTORS.collect(),
                Corpus::Nemo => (1..=nemo::SPEAKERS.len() as u32).collect(),
            };
            &all
        }
    };
    match corpus {
        Corpus::Ravdess => ravdess::read(&folder, part, select),
        Corpus::Nemo => nemo::read(&folder, part, select),
    }
}

/// Whether the speaker of the clip is a woman according to the corpus. In RAVDESS, women have even
/// numbers. `None` if the corpus has no such speaker.
pub fn is_woman(clip: &LabelledClip) -> Option<bool> {
    match clip.corpus {
        Corpus::Ravdess => ravdess::ACTORS
            .contains(&clip.actor)
            .then(|| clip.actor.is_multiple_of(2)),
        Corpus::Nemo => nemo::is_woman(clip.actor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_speakers_are_in_selection_and_never_in_training() {
        let Some(material) = crate::testing::material("speech") else {
            return;
        };
        let material = material.parent().unwrap();
        let read = |corpus, part, held_out| read(material, corpus, part, held_out).unwrap();
        let count = |corpus, part, held_out| read(corpus, part, held_out).len();
        for (corpus, all) in [(Corpus::Ravdess, 17 * 60), (Corpus::Nemo, 576)] {
            assert_eq!(count(corpus, Part::Train, HeldOut::All), 0);
            assert_eq!(count(corpus, Part::Select, HeldOut::All), all);
            assert_eq!(count(corpus, Part::Select, HeldOut::Actors(&[])), 0);
            let report = read(corpus, Part::Report, HeldOut::All);
            let select = read(corpus, Part::Select, HeldOut::Actors(&[2, 5]));
            let train = read(corpus, Part::Train, HeldOut::Actors(&[2, 5]));
            assert_eq!(select.len() + train.len(), all);
            assert!(select.iter().all(|clip| [2, 5].contains(&clip.actor)));
            let reports = |clip: &LabelledClip| report.iter().any(|r| r.actor == clip.actor);
            assert!(!select.iter().chain(&train).any(reports));
        }
    }
}
