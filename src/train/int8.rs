//! Int8 encoders. They are quantised from the float graphs and compared with them. An int8 encoder
//! is kept if it is faster and nearly as accurate.

use anyhow::{Context, ensure};

use crate::clip::Crop;
use crate::encode::{Graph, Provider, Runtime};
use crate::manifest::{AudioPreprocessing, FacePreprocessing};
use crate::onnx::quantise::{Example, quantise};
use crate::preprocess::{LogMel, normalise};
use crate::time::thread_cpu_nanos;
use crate::train::augment::{vary_crop, vary_voice};
use crate::train::calibrate::argmax;
use crate::train::data::fer::VotedCrop;
use crate::train::data::speech_clip::LabelledClip;
use crate::train::samples::{generator, milliseconds, random_start, windows};

/// Largest permitted loss of accuracy (0..1) by int8.
const PERMITTED_LOSS: f64 = 0.005;
/// Number of inputs that determine the value ranges of quantisation.
const RANGE_INPUTS: usize = 360;

/// Inputs of an encoder for its quantisation and trial. Test data is not used.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Inputs from the training data that determine the value ranges.
    pub ranges: Vec<Example>,
    /// Inputs from the selection data, each with the index of its label.
    pub selection: Vec<(Example, usize)>,
}

/// Measured speed and accuracy of an int8 encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Name of the encoder.
    pub encoder: String,
    /// Number of selection inputs.
    pub n: usize,
    /// Median CPU time of one run of the float graph on one thread, in milliseconds.
    pub fp32_ms: f64,
    /// Median CPU time of one run of the int8 graph on one thread, in milliseconds.
    pub int8_ms: f64,
    /// Accuracy of the float encoder's own classes, 0..1.
    pub fp32_accuracy: f64,
    /// Accuracy of the int8 encoder's own classes, 0..1.
    pub int8_accuracy: f64,
    /// Share of activations that are clipped at each end of a value range, 0..1.
    pub beyond: f64,
}

impl Trial {
    /// Whether the int8 encoder is faster than the float one, and its accuracy at most 0.005 lower.
    pub fn is_kept(&self) -> bool {
        self.int8_ms < self.fp32_ms && self.fp32_accuracy - self.int8_accuracy <= PERMITTED_LOSS
    }

    /// The result as the text that `export` prints.
    pub fn sentence(&self) -> String {
        format!(
            "{} in int8: {:.2} ms per run instead of {:.2}, accuracy {:.4} instead of {:.4} (n \
             {}): {}",
            self.encoder,
            self.int8_ms,
            self.fp32_ms,
            self.int8_accuracy,
            self.fp32_accuracy,
            self.n,
            if self.is_kept() { "kept" } else { "not kept" }
        )
    }
}

/// Quantises an encoder's graph to int8, and runs both graphs alternately on the selection data.
/// Returns the trial and the bytes of the int8 graph. `encoder`: its name; `fp32`: the bytes of the
/// float graph.
///
/// # Errors
/// There is no selection data, the graph cannot be quantised, or it has no output of logits.
pub fn attempt(
    runtime: &Runtime,
    encoder: &str,
    fp32: &[u8],
    examples: &Examples,
) -> anyhow::Result<(Trial, Vec<u8>)> {
    ensure!(
        !examples.selection.is_empty(),
        "there is no selection data to try encoder {encoder} on"
    );
    let made = quantise(runtime, fp32, &examples.ranges)
        .with_context(|| format!("encoder {encoder} cannot be quantised to int8"))?;
    let open = |bytes: &[u8]| Graph::open(runtime, encoder, bytes, Provider::Cpu, 1);
    let (mut graphs, mut right, mut nanos) = (
        [open(fp32)?, open(&made.bytes)?],
        [0usize; 2],
        [Vec::new(), Vec::new()],
    );
    for (example, label) in &examples.selection {
        for ((graph, right), nanos) in graphs.iter_mut().zip(&mut right).zip(&mut nanos) {
            let started = thread_cpu_nanos();
            let outputs = graph.run(&[example.input()])?;
            nanos.push(thread_cpu_nanos() - started);
            let logits = outputs
                .get(1)
                .with_context(|| format!("encoder {encoder} gives no logits"))?;
            *right += usize::from(argmax(&logits.values) == *label);
        }
    }
    let n = examples.selection.len();
    let [fp32_ms, int8_ms] = nanos.map(|mut all| (all.sort_unstable(), all[n / 2] as f64 * 1e-6).1);
    let [fp32_accuracy, int8_accuracy] = right.map(|right| right as f64 / n as f64);
    let trial = Trial {
        encoder: encoder.to_owned(),
        n,
        fp32_ms,
        int8_ms,
        fp32_accuracy,
        int8_accuracy,
        beyond: made.beyond,
    };
    Ok((trial, made.bytes))
}

/// [`RANGE_INPUTS`] evenly spread indices below `count`.
fn spread_indices(count: usize) -> impl Iterator<Item = usize> {
    (0..RANGE_INPUTS).map(move |i| i * count / RANGE_INPUTS)
}

/// Inputs of a face encoder. Half of the training pictures are augmented as in training, because
/// cameras give darker and coarser pictures. Selection pictures without a majority label are
/// omitted.
pub fn faces(train: &[VotedCrop], select: &[VotedCrop], settings: &FacePreprocessing) -> Examples {
    let example = |crop: &Crop| Example {
        shape: vec![1, settings.channels, settings.size, settings.size],
        values: normalise(crop, &settings.normalise),
    };
    let mut rng = generator(0, 0, 0);
    let ranges = spread_indices(train.len())
        .enumerate()
        .map(|(i, at)| match i % 2 {
            0 => example(&train[at].crop),
            _ => example(&vary_crop(&train[at].crop, settings.size, &mut rng)),
        });
    Examples {
        ranges: ranges.collect(),
        selection: select
            .iter()
            .filter_map(|c| Some((example(&c.crop), c.votes.first()?)))
            .collect(),
    }
}

/// Inputs of a voice encoder. The training windows have several lengths, from the shortest that the
/// daemon evaluates to `window_ms`; half of them are augmented as in training.
pub fn voices(
    train: &[LabelledClip],
    select: &[LabelledClip],
    settings: &AudioPreprocessing,
    window_ms: u32,
) -> Examples {
    let mel = LogMel::new(settings);
    let example = |samples: &[f32]| {
        let (values, frames) = mel.compute(samples);
        Example {
            shape: vec![1, 1, settings.mels, frames],
            values,
        }
    };
    let lengths = [settings.min_speech_ms, 1000, window_ms, window_ms].map(milliseconds);
    let mut rng = generator(0, 0, 1);
    let ranges = spread_indices(train.len()).enumerate().map(|(i, at)| {
        let (clip, length) = (&train[at], lengths[i / 2 % lengths.len()]);
        let start = random_start(clip, length, &mut rng);
        match i % 2 {
            0 => example(
                &clip.samples
                    [start.min(clip.samples.len())..(start + length).min(clip.samples.len())],
            ),
            _ => example(&vary_voice(&clip.samples, start, length, &mut rng)),
        }
    });
    let ranges = ranges.collect();
    // Each clip gives many windows, of one second and of full length. With one window per clip the
    // permitted loss would be less than one window.
    let lengths = [1000, window_ms].map(milliseconds);
    let pieces = |clip: &LabelledClip| {
        lengths
            .iter()
            .flat_map(|length| windows(clip, *length, milliseconds(100)))
            .map(example)
            .collect::<Vec<_>>()
    };
    let selection = select
        .iter()
        .flat_map(|clip| {
            pieces(clip)
                .into_iter()
                .map(|example| (example, clip.emotion))
        })
        .collect();
    Examples { ranges, selection }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An int8 encoder that is kept: faster, and 0.004 less accurate.
    fn trial() -> Trial {
        Trial {
            encoder: "face".into(),
            n: 1000,
            fp32_ms: 1.5,
            int8_ms: 0.5,
            fp32_accuracy: 0.7,
            int8_accuracy: 0.696,
            beyond: 0.0,
        }
    }

    #[test]
    fn int8_is_kept_only_if_faster_and_at_most_0_005_less_accurate() {
        assert!(trial().is_kept() && trial().sentence().ends_with(": kept"));
        assert!(
            !Trial {
                int8_ms: 1.6,
                ..trial()
            }
            .is_kept()
        );
        assert!(
            !Trial {
                int8_accuracy: 0.694,
                ..trial()
            }
            .is_kept()
        );
        assert!(
            Trial {
                int8_accuracy: 0.71,
                ..trial()
            }
            .is_kept()
        );
    }
}
