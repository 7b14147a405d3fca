//! A labelled clip of acted speech, and the corpora with such clips.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::TrackType;
use symphonia::core::formats::probe::Hint;
use symphonia::core::io::MediaSourceStream;

use crate::clip::SAMPLE_RATE_HZ;
use crate::train::data::Part;

/// A corpus of acted speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Corpus {
    /// RAVDESS: English, North America (Livingstone & Russo 2018).
    Ravdess,
    /// nEMO: Polish (Christop 2024).
    Nemo,
}

impl Corpus {
    /// All corpora of acted speech.
    pub const ALL: [Corpus; 2] = [Corpus::Ravdess, Corpus::Nemo];

    /// The corpus's published name.
    pub fn name(self) -> &'static str {
        match self {
            Corpus::Ravdess => "RAVDESS",
            Corpus::Nemo => "nEMO",
        }
    }

    /// The emotions that the corpus has, as indices in [`RAVDESS`](crate::labels::RAVDESS).
    pub fn emotions(self) -> &'static [usize] {
        match self {
            Corpus::Ravdess => &[0, 1, 2, 3, 4, 5, 6, 7],
            Corpus::Nemo => &[0, 2, 3, 4, 5, 7],
        }
    }

    /// The corpus's folder, relative to the folder of the material.
    pub fn folder(self) -> &'static str {
        match self {
            Corpus::Ravdess => "speech/ravdess",
            Corpus::Nemo => "speech/nemo",
        }
    }
}

/// A recording of one spoken sentence with its emotion.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledClip {
    /// Mono samples at [`SAMPLE_RATE_HZ`], in [-1, 1].
    pub samples: Vec<f32>,
    /// The range of `samples` with speech: index of the first sample, and index after the last
    /// sample.
    pub speech: [usize; 2],
    /// The acted emotion, as an index in [`RAVDESS`](crate::labels::RAVDESS).
    pub emotion: usize,
    pub corpus: Corpus,
    /// The speaker. RAVDESS: the actor's number. nEMO: the position in
    /// [`SPEAKERS`](super::nemo::SPEAKERS), counted from 1.
    pub actor: u32,
    pub part: Part,
}

impl LabelledClip {
    /// Decodes the sound file at `path` and finds the speech in it. The other arguments become
    /// fields of the clip.
    ///
    /// # Errors
    /// The file cannot be decoded, or is not mono at [`SAMPLE_RATE_HZ`].
    pub fn read(
        path: &Path,
        corpus: Corpus,
        emotion: usize,
        actor: u32,
        part: Part,
    ) -> anyhow::Result<LabelledClip> {
        let samples =
            decode(path).with_context(|| format!("{} cannot be decoded", path.display()))?;
        Ok(LabelledClip {
            speech: speech_of(&samples),
            samples,
            emotion,
            corpus,
            actor,
            part,
        })
    }
}

/// Decodes a sound file to mono samples in [-1, 1]. Fails unless it is mono at [`SAMPLE_RATE_HZ`].
fn decode(path: &Path) -> anyhow::Result<Vec<f32>> {
    let stream = MediaSourceStream::new(Box::new(std::fs::File::open(path)?), Default::default());
    let mut format = symphonia::default::get_probe().probe(
        &Hint::new(),
        stream,
        Default::default(),
        Default::default(),
    )?;
    let track = format
        .default_track(TrackType::Audio)
        .context("no audio track")?;
    let id = track.id;
    let parameters = track
        .codec_params
        .as_ref()
        .and_then(|p| p.audio())
        .context("no audio track")?;
    ensure!(
        parameters.sample_rate == Some(SAMPLE_RATE_HZ),
        "the sample rate is {:?}, expected {SAMPLE_RATE_HZ}",
        parameters.sample_rate
    );
    if let Some(channels) = &parameters.channels
        && channels.count() != 1
    {
        bail!("{} channels, expected one", channels.count());
    }
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())?;
    let (mut samples, mut block) = (Vec::new(), Vec::new());
    while let Some(packet) = format.next_packet()? {
        if packet.track_id != id {
            continue;
        }
        let decoded = decoder.decode(&packet)?;
        block.resize(decoded.samples_interleaved(), 0.0f32);
        decoded.copy_to_slice_interleaved(&mut block);
        samples.extend_from_slice(&block);
    }
    ensure!(!samples.is_empty(), "no samples in it");
    Ok(samples)
}

/// The range of samples with speech: from the first to the last block of 20 ms whose power is
/// within 35 dB of the loudest block. Clips begin and end with about a second of silence.
fn speech_of(samples: &[f32]) -> [usize; 2] {
    let block = (SAMPLE_RATE_HZ / 50) as usize;
    let power: Vec<f32> = samples
        .chunks(block)
        .map(|b| b.iter().map(|s| s * s).sum::<f32>() / b.len() as f32)
        .collect();
    let threshold = power.iter().copied().fold(0.0, f32::max) * 10f32.powf(-3.5);
    let loud = |p: &f32| *p > threshold;
    match (power.iter().position(loud), power.iter().rposition(loud)) {
        (Some(first), Some(last)) => [first * block, ((last + 1) * block).min(samples.len())],
        _ => [0, samples.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_is_found_between_silences() {
        let mut samples = vec![0.0005f32; 16_000];
        samples.extend((0..16_000).map(|i| (i as f32 * 0.2).sin() * 0.3));
        samples.extend(vec![0.0005f32; 8_000]);
        let [start, end] = speech_of(&samples);
        assert!(
            start.abs_diff(16_000) <= 320 && end.abs_diff(32_000) <= 320,
            "{start}..{end}"
        );
    }
}
