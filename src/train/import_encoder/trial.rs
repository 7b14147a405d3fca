//! Checks that a graph accepts the inputs of its modality: compares its declared axes, then runs it
//! on generated inputs.

use anyhow::{Context, bail, ensure};

use super::Sections;
use crate::encode::{Graph, Input};
use crate::manifest::EncoderKind;
use crate::modality::Modality;
use crate::model::golden::{golden_crop, golden_samples};
use crate::onnx::outline::{Outline, Values};
use crate::preprocess::{LogMel, Tokenizer, normalise};

/// Largest permitted difference between an embedding computed alone and in a batch, relative to the
/// largest value. Small differences are rounding. A network whose rows depend on each other (batch
/// normalisation in training mode) differs by far more.
const PERMITTED: f32 = 1e-3;
/// Number of generated inputs in a batch.
const BATCH: usize = 3;

/// The required shape of an input without the batch axis. 0: the axis must be dynamic. `None`: the
/// axis may be dynamic or fixed.
fn expected(
    modality: Modality,
    kind: EncoderKind,
    set: &Sections,
) -> anyhow::Result<Vec<Option<usize>>> {
    let face = || {
        set.face.as_ref().context(
            "nothing says how a face is preprocessed; give a file with [face] as --preprocessing",
        )
    };
    Ok(match (modality, kind) {
        (Modality::Face, EncoderKind::Frame) => {
            let face = face()?;
            vec![Some(face.channels), Some(face.size), Some(face.size)]
        }
        (Modality::Face, EncoderKind::Window) => {
            let face = face()?;
            vec![None, Some(face.channels), Some(face.size), Some(face.size)]
        }
        (Modality::Voice, EncoderKind::Window) => {
            let audio = set.audio.as_ref().context(
                "nothing says how a voice is preprocessed; give \
                a file with [audio] as --preprocessing",
            )?;
            vec![Some(1), Some(audio.mels), Some(0)]
        }
        (Modality::Text, EncoderKind::Utterance) => vec![Some(0)],
        (modality, kind) => bail!(
            "a {} encoder of kind {kind:?} does not exist: frame and window read faces, window \
             voices, utterance text",
            modality.name()
        ),
    })
}

/// The value of [`crate::manifest::EncoderEntry::input`] for a graph: its input shape without the
/// batch axis, 0 for a dynamic axis. `frames`: number of frames in a window, if the graph does not
/// fix it.
///
/// # Errors
/// The declared inputs do not fit the modality, the kind or the preprocessing.
pub(super) fn input_axes(
    modality: Modality,
    kind: EncoderKind,
    frames: Option<usize>,
    set: &Sections,
    outline: &Outline,
) -> anyhow::Result<Vec<usize>> {
    let expected = expected(modality, kind, set)?;
    let (count, values) = if modality == Modality::Text {
        (2, Values::I64)
    } else {
        (1, Values::F32)
    };
    ensure!(
        outline.inputs.len() == count,
        "the graph takes {} inputs, this kind of encoder takes {count}",
        outline.inputs.len()
    );
    let mut found = Vec::new();
    for input in &outline.inputs {
        let name = &input.name;
        ensure!(
            input.values == values,
            "input {name} must hold {}",
            if values == Values::F32 {
                "32-bit floats"
            } else {
                "64-bit integers"
            }
        );
        ensure!(
            input.axes.len() == expected.len() + 1,
            "input {name} has {} axes, expected {} with the batch",
            input.axes.len(),
            expected.len() + 1
        );
        ensure!(
            input.axes[0].is_none(),
            "input {name} has a fixed batch of {}; export it with axis 0 dynamic",
            input.axes[0].unwrap_or_default()
        );
        found = Vec::new();
        for (axis, (declared, expected)) in input.axes[1..].iter().zip(&expected).enumerate() {
            let axis = axis + 1;
            let declared = declared.map(|length| length as usize);
            match (declared, expected) {
                (Some(length), Some(0)) => bail!(
                    "axis {axis} of input {name} is fixed at {length}; export it with that axis \
                     dynamic"
                ),
                (Some(length), Some(expected)) if length != *expected => {
                    bail!(
                        "axis {axis} of input {name} is {length}, the preprocessing gives \
                         {expected}; change the preprocessing or export it again"
                    )
                }
                (Some(length), None) if frames.is_some_and(|frames| frames != length) => {
                    bail!("a window of input {name} has {length} frames; leave --frames out")
                }
                (None, None) if frames.is_none_or(|frames| frames == 0) => bail!(
                    "the frames of a window of input {name} are open; say how many with --frames"
                ),
                _ => {}
            }
            found.push(expected.or(declared).or(frames).unwrap_or(0));
        }
    }
    Ok(found)
}

/// Different generated inputs of one shape: [`BATCH`] of them.
struct Inputs {
    /// Without the batch axis.
    shape: Vec<usize>,
    /// The inputs of a face or voice encoder; empty for text.
    floats: Vec<Vec<f32>>,
    /// The token ids of a text encoder; empty for other modalities.
    tokens: Vec<Vec<i64>>,
}

/// Generates [`BATCH`] inputs. `input`: shape without the batch axis. `long`: the longer of two
/// lengths for a dynamic axis.
fn generated(
    modality: Modality,
    set: &Sections,
    input: &[usize],
    words: Option<&Tokenizer>,
    long: bool,
) -> anyhow::Result<Inputs> {
    let (mut floats, mut tokens, mut shape) = (Vec::new(), Vec::new(), input.to_vec());
    for row in 0..BATCH {
        let seed = 11 + row as u64;
        match modality {
            Modality::Face => {
                let face = set.face.as_ref().context("no [face]")?;
                let frames = if input.len() == 4 { input[0] } else { 1 };
                let crops = (0..frames)
                    .map(|frame| golden_crop(seed, frame as u32, face.size, face.channels));
                floats.push(
                    crops
                        .flat_map(|crop| normalise(&crop, &face.normalise))
                        .collect(),
                );
            }
            Modality::Voice => {
                let mel = LogMel::new(set.audio.as_ref().context("no [audio]")?);
                let (values, frames) =
                    mel.compute(&golden_samples(seed, if long { 48_000 } else { 24_000 }));
                shape[2] = frames;
                floats.push(values);
            }
            Modality::Text => {
                let words = words.context("no tokenizer")?;
                let text = if long {
                    "I did not think that you would come back so soon"
                } else {
                    "what a day"
                };
                let mut ids = words
                    .tokens(text)?
                    .context("the tokenizer makes no token of English words")?
                    .ids;
                shape[0] = ids.len();
                if ids.len() > 2 {
                    let inner = ids.len() - 1;
                    ids[1..inner].rotate_left(row % (inner - 1));
                }
                tokens.push(ids);
            }
        }
    }
    Ok(Inputs {
        shape,
        floats,
        tokens,
    })
}

impl Inputs {
    /// Runs the graph on the inputs `rows` as one batch. Returns shape and values of its first
    /// output.
    fn run(
        &self,
        graph: &mut Graph,
        rows: std::ops::Range<usize>,
    ) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
        let shape: Vec<usize> = [rows.len()]
            .into_iter()
            .chain(self.shape.iter().copied())
            .collect();
        let output = if self.tokens.is_empty() {
            graph.run(&[Input::F32(&shape, &self.floats[rows].concat())])
        } else {
            let ids = self.tokens[rows].concat();
            graph.run(&[
                Input::I64(&shape, &ids),
                Input::I64(&shape, &vec![1; ids.len()]),
            ])
        };
        let output = output
            .with_context(|| format!("the graph does not run on {shape:?}"))?
            .swap_remove(0);
        Ok((output.shape, output.values))
    }
}

/// Runs the graph on generated inputs, one at a time and in a batch, with two lengths if an axis is
/// dynamic. Returns the length of the embedding. `words`: the tokenizer of a text encoder.
///
/// # Errors
/// The output is not `[batch, dim]`, depends on other rows of the batch, or does not depend on the
/// input.
pub(super) fn run(
    graph: &mut Graph,
    modality: Modality,
    kind: EncoderKind,
    set: &Sections,
    input: &[usize],
    words: Option<&Tokenizer>,
) -> anyhow::Result<usize> {
    let mut dim = None;
    let lengths: &[bool] = if modality == Modality::Face {
        &[false]
    } else {
        &[false, true]
    };
    for &long in lengths {
        let inputs = generated(modality, set, input, words, long)?;
        let (shape, together) = inputs.run(graph, 0..BATCH)?;
        let [BATCH, found] = shape[..] else {
            bail!(
                "the first output is {shape:?}, expected [{BATCH}, dim]: a {kind:?} encoder pools; \
                 see `expressd-train import encoder --help`"
            )
        };
        ensure!(
            found > 0 && dim.is_none_or(|dim| dim == found),
            "the embedding's length depends on the input's: {dim:?}, then {found}; pool it"
        );
        dim = Some(found);
        let scale = together.iter().fold(1e-6f32, |scale, v| scale.max(v.abs()));
        let mut differs = false;
        for row in 0..BATCH {
            let (_, alone) = inputs.run(graph, row..row + 1)?;
            let in_batch = &together[row * found..(row + 1) * found];
            let off = alone
                .iter()
                .zip(in_batch)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            ensure!(
                alone.len() == found && off <= PERMITTED * scale,
                "row {row} of a batch is off by {off:.1e} from the same input alone: rows must not \
                 depend on each other; export it in evaluation mode"
            );
            differs |= alone[..] != together[..found];
        }
        ensure!(
            differs,
            "three different inputs give one embedding: the graph does not look at its input"
        );
    }
    dim.context("nothing was run")
}
