//! Recordings of one person's face and voice, for the head and its calibration.

use crate::train::encoder_runs::{VoiceRun, load_voice};
use crate::train::net::Encoder;
#[cfg(feature = "capture")]
use crate::train::pairs;
use crate::train::recipe::Recipe;

use crate::train::embeddings::EmbeddingPair;

/// Face and voice embeddings of the material's recordings, paired by person.
#[derive(Clone, Debug, Default)]
pub(super) struct PairedEmbeddings {
    /// Pairs of the calibration actors. They calibrate, and the final head is trained on them.
    pub select: Vec<EmbeddingPair>,
    /// Pairs of people that no encoder was trained on.
    pub report: Vec<EmbeddingPair>,
}

/// The recordings as the daemon's stages cut them. Empty without the feature `capture`.
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
    pub fn read(recipe: &Recipe) -> anyhow::Result<Recordings> {
        let clips = pairs::read(recipe)?;
        Ok(Recordings { clips })
    }

    /// The recordings' embeddings by the face encoder and one of the voice encoders.
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
                // The calibration encoder was trained on this speaker, so the pair would not be
                // held out.
                Some(_) => {}
            }
        }
        Ok(all)
    }
}
