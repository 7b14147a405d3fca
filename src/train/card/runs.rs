//! The training runs that the last table of the model card lists.

use crate::train::encoder_runs::{VoiceRun, face_parts};
use crate::train::recipe::Recipe;

/// The training runs of a recipe in the order of the card's table: for each run its folder name and
/// its name in the card.
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

/// The name in the card of the run of a distillation round; round 0 is the first training.
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
    fn names_of_face_runs_state_their_distillation_round() {
        assert_eq!(face_label(0), "face");
        assert_eq!(face_label(2), "face, distillation round 2");
    }
}
