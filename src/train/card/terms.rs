//! Definitions of the terms that the tables of the model card use.

use crate::manifest::Manifest;

/// The definitions as a Markdown list, with hop and window of `manifest`.
pub(super) fn list(manifest: &Manifest) -> String {
    let min_speech_ms = (manifest.audio.as_ref()).map_or(0, |audio| audio.min_speech_ms);
    [
        "*n*: the number of pictures, clips, windows or utterances.".to_owned(),
        "*Evidence*: a modality's score for each label, before the scores are added.".to_owned(),
        "*Head*: the model that combines the modalities.".to_owned(),
        format!(
            "*Hop*: the step between results, {} ms. *Window*: the last {} s before a result.",
            manifest.window.hop_ms,
            f64::from(manifest.window.length_ms) / 1000.0
        ),
        format!(
            "*Per hop*: one window for each hop during speech, as in the daemon. The first windows \
             of a clip contain only {min_speech_ms} ms of speech."
        ),
        "*Classes*: the number of classes that occur in the data. nEMO has six of the seven labels."
            .to_owned(),
        "*Deduplicated*: the pictures of PublicTest without a pixel-identical copy in Training. \
         All face figures use them, except the last row of *Subgroup accuracy*."
            .to_owned(),
        "*Majority label*: the label with more of a picture's ten votes than any other; there is \
         none in a tie. *All votes*: each label of a picture counts with its share of the votes."
            .to_owned(),
        "*Combined*: the modalities of a row are from different people and have the same label. \
         Each item is used in four rows. Such rows show that fusion works, not its accuracy on one \
         person."
            .to_owned(),
        "*Accuracy*: with Wilson's 95 % interval, which treats rows as independent. Rows of one \
         clip, clips of one actor and the four rows of one item are dependent, so their intervals \
         are too narrow."
            .to_owned(),
        "*Mean recall*: the mean over the classes that occur. *Weighted F1*: weighted by the \
         frequency of the classes."
            .to_owned(),
        "*Calibration error*: the expected calibration error with 15 bins. Classes have equal \
         weight, except for the face alone and for text alone: there, each item has equal weight. \
         *Expected by chance*: the value that sampling noise alone would give with perfectly \
         calibrated confidences."
            .to_owned(),
        "*Answered*: the share of rows without abstention, that is, with a confidence of at least \
         the abstention threshold (*Calibration*)."
            .to_owned(),
    ]
    .iter()
    .map(|term| format!("* {term}\n"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_state_hop_and_window_of_the_manifest() {
        let manifest = crate::testing::project("models/default/manifest.toml");
        let mut manifest: Manifest =
            toml::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
        (manifest.window.hop_ms, manifest.window.length_ms) = (250, 1500);
        let text = list(&manifest);
        let expected = "results, 250 ms. *Window*: the last 1.5 s before a result.";
        assert!(text.contains(expected), "{text}");
    }
}
