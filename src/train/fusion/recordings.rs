//! Recordings with face and voice of one person, for training and calibration of the fusion head.

use crate::train::encoder_runs::{VoiceRun, load_voice};
use crate::train::net::Encoder;
#[cfg(feature = "capture")]
use crate::train::pairs;
use crate::train::recipe::Recipe;

use crate::train::embeddings::EmbeddingPair;

/// Embeddings of a face and a voice of the same person at the same time, from the recordings in the
/// material folder.
#[derive(Clone, Debug, Default)]
pub(super) struct PairedEmbeddings {
    /// Pairs of the calibration actors: they calibrate the head, and the final head is trained on
    /// them.
    pub select: Vec<EmbeddingPair>,
    /// Pairs of people outside all training data, for metrics only.
    pub report: Vec<EmbeddingPair>,
}

/// The recordings, cut into clips by the daemon's own stages. Empty in a build without the feature
/// `capture`.
pub(super) struct Recordings {
    #[cfg(feature = "capture")]
    clips: Vec<pairs::PairedClip>,
}

#[cfg(not(feature = "capture"))]
impl Recordings {
    pub fn read(_: &Recipe) -> anyhow::Result<Recordings> {
        println!(
            "head: recordings of one person's face and voice are left out: this build lacks the \
             feature capture"
        );
        Ok(Recordings {})
    }

    pub fn embedded(
        &self,
        _: &Recipe,
        _: &Encoder,
        _: VoiceRun,
    ) -> anyhow::Result<PairedEmbeddings> {
        Ok(PairedEmbeddings::default())
    }
}

#[cfg(feature = "capture")]
impl Recordings {
    /// Reads the recordings of the recipe's material.
    ///
    /// # Errors
    /// A recording cannot be read or decoded.
    pub fn read(recipe: &Recipe) -> anyhow::Result<Recordings> {
        let clips = pairs::read(recipe)?;
        Ok(Recordings { clips })
    }

    /// The embeddings of the recordings by the face encoder `face` and the voice encoder `which`.
    ///
    /// # Errors
    /// The run of the voice encoder is not finished, or a network fails.
    pub fn embedded(
        &self,
        recipe: &Recipe,
        face: &Encoder,
        which: VoiceRun,
    ) -> anyhow::Result<PairedEmbeddings> {
        let voice = load_voice(recipe, which)?;
        let mut all = PairedEmbeddings::default();
        for clip in &self.clips {
            let embedded = pairs::embed(recipe, face, &voice, clip)?;
            match clip.actor {
                None => all.report.extend(embedded),
                Some(actor) if recipe.voice.calibration_actors.contains(&actor) => {
                    all.select.extend(embedded)
                }
                // The encoder of the calibration was trained on this speaker, so the pair is not
                // held out and is left out.
                Some(_) => {}
            }
        }
        Ok(all)
    }
}
