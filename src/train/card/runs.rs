//! The training runs in the card's last table.

use crate::train::encoder_runs::{VoiceRun, face_parts};
use crate::train::recipe::Recipe;

/// The runs of a recipe, in order: folder name and label in the card.
pub(super) fn labelled(recipe: &Recipe) -> Vec<(String, String)> {
    let faces =
        (face_parts(recipe).into_iter().enumerate()).map(|(round, part)| (part, face_label(round)));
    let voices = VoiceRun::all(recipe).into_iter().map(|run| {
        let part = run.part().to_owned();
        let label = match (run, recipe.voice.calibration_corpus) {
            (VoiceRun::OtherCorpus, Some(corpus)) => {
                format!("voice, trained on {} only", corpus.name())
            }
            _ => part.clone(),
        };
        (part, label)
    });
    let heads = ["head-calibration", "head"].map(|part| (part.to_owned(), part.to_owned()));
    faces.chain(voices).chain(heads).collect()
}

fn face_label(round: usize) -> String {
    match round {
        0 => "face".to_owned(),
        _ => format!("face, distillation round {round}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn face_runs_have_the_number_of_their_distillation_round() {
        assert_eq!(face_label(0), "face");
        assert_eq!(face_label(2), "face, distillation round 2");
    }
}
