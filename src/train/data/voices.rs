//! Corpora of acted voices: labelled clips, and where speech is in them.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::TrackType;
use symphonia::core::formats::probe::Hint;
use symphonia::core::io::MediaSourceStream;

use crate::clip::SAMPLE_RATE_HZ;
use crate::train::data::{Part, nemo, ravdess};

/// A corpus of acted speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Corpus {
    /// English, North America (Livingstone & Russo 2018).
    Ravdess,
    /// Polish (Christop 2024).
    Nemo,
}

impl Corpus {
    pub const ALL: [Corpus; 2] = [Corpus::Ravdess, Corpus::Nemo];

    /// As its authors write it.
    pub fn name(self) -> &'static str {
        match self {
            Corpus::Ravdess => "RAVDESS",
            Corpus::Nemo => "nEMO",
        }
    }

    /// The emotions that it has, as indices in [`RAVDESS`](crate::labels::RAVDESS).
    pub fn emotions(self) -> &'static [usize] {
        match self {
            Corpus::Ravdess => &[0, 1, 2, 3, 4, 5, 6, 7],
            Corpus::Nemo => &[0, 2, 3, 4, 5, 7],
        }
    }

    /// Its folder below the material's.
    pub fn folder(self) -> &'static str {
        match self {
            Corpus::Ravdess => "speech/ravdess",
            Corpus::Nemo => "speech/nemo",
        }
    }
}

/// Speakers of a corpus who do not train but select. Those who report do neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HeldOut<'a> {
    /// RAVDESS's numbers, nEMO's places in [`nemo::SPEAKERS`].
    Actors(&'a [u32]),
    All,
}

/// Clips of one part of a corpus, sorted by path; `material` is the folder that has the corpora.
///
/// # Errors
/// Where the corpus is not there, or a clip cannot be decoded.
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

/// One labelled clip.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledClip {
    /// Mono, [`SAMPLE_RATE_HZ`].
    pub samples: Vec<f32>,
    /// Where speech is, in samples: first and one past the last.
    pub speech: [usize; 2],
    /// Index in [`RAVDESS`](crate::labels::RAVDESS).
    pub emotion: usize,
    pub corpus: Corpus,
    /// RAVDESS's number; of nEMO the place in [`nemo::SPEAKERS`], from 1.
    pub actor: u32,
    pub part: Part,
}

impl LabelledClip {
    /// Decodes the clip at `path`.
    ///
    /// # Errors
    /// Where the file is not mono speech at [`SAMPLE_RATE_HZ`].
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

    /// The speaker's sex as the corpus has it: RAVDESS's even actors are women.
    pub fn is_woman(&self) -> bool {
        match self.corpus {
            Corpus::Ravdess => self.actor.is_multiple_of(2),
            Corpus::Nemo => nemo::is_woman(self.actor),
        }
    }
}

/// Decodes a mono file at [`SAMPLE_RATE_HZ`].
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

/// From the first to the last 20 ms that are louder than 35 dB under the loudest: clips begin and
/// end with a second of silence.
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
    fn who_is_held_out_selects_and_never_trains() {
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
