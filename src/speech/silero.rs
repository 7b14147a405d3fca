//! Silero VAD: probability of speech for 32 ms of sound, with memory of what came before.

use super::{SpeechError, vad_path};
use crate::encode::{EncodeError, Graph, Input, Provider, Runtime};

/// Samples a window: 32 ms at 16 kHz.
pub const WINDOW_SAMPLES: usize = 512;
/// The end of the window before, which the graph gets in front of each window.
const CONTEXT_SAMPLES: usize = 64;
const STATE_VALUES: usize = 128;

/// Silero VAD v6 (MIT), the variant `silero_vad_16k_sequence.onnx`: inputs `[windows, 576]`, hidden and cell state `[1, 1, 128]`; outputs
/// `[windows]` probabilities and both states. It is run on one window at a time, so that its answers cannot depend on the blocks' lengths.
#[derive(Debug)]
pub struct VoiceDetector {
    graph: Graph,
    /// Context, then the window.
    input: [f32; CONTEXT_SAMPLES + WINDOW_SAMPLES],
    hidden: Vec<f32>,
    cell: Vec<f32>,
}

impl VoiceDetector {
    pub fn new(graph: Graph) -> Self {
        VoiceDetector {
            graph,
            input: [0.0; CONTEXT_SAMPLES + WINDOW_SAMPLES],
            hidden: vec![0.0; STATE_VALUES],
            cell: vec![0.0; STATE_VALUES],
        }
    }

    /// Finds the graph ([`vad_path`]) and opens it on the CPU with the caller's thread alone: a window is 1 MFLOP.
    pub fn load(runtime: &Runtime) -> Result<Self, SpeechError> {
        let path = vad_path()?;
        let bytes = std::fs::read(&path).map_err(|source| SpeechError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let graph =
            Graph::open(runtime, "silero_vad", &bytes, Provider::Cpu, 1).map_err(|source| {
                SpeechError::Unusable {
                    path: path.clone(),
                    source,
                }
            })?;
        let mut detector = VoiceDetector::new(graph);
        // Another graph than the expected one is found out now, not at the first word.
        detector
            .probability(&[0.0; WINDOW_SAMPLES])
            .map_err(|source| SpeechError::Unusable { path, source })?;
        detector.reset();
        Ok(detector)
    }

    /// Probability that there is speech in the next window, 0..1.
    pub fn probability(&mut self, window: &[f32; WINDOW_SAMPLES]) -> Result<f32, EncodeError> {
        self.input[CONTEXT_SAMPLES..].copy_from_slice(window);
        let state_shape = [1, 1, STATE_VALUES];
        let outputs = self.graph.run(&[
            Input::F32(&[1, self.input.len()], &self.input),
            Input::F32(&state_shape, &self.hidden),
            Input::F32(&state_shape, &self.cell),
        ])?;
        let [probability, hidden, cell] = outputs.as_slice() else {
            return Err(self.wrong_output(format!("{} outputs", outputs.len())));
        };
        if probability.values.len() != 1
            || hidden.values.len() != STATE_VALUES
            || cell.values.len() != STATE_VALUES
        {
            return Err(self.wrong_output(format!(
                "{:?}, {:?}, {:?}",
                probability.shape, hidden.shape, cell.shape
            )));
        }
        self.hidden.copy_from_slice(&hidden.values);
        self.cell.copy_from_slice(&cell.values);
        self.input.copy_within(WINDOW_SAMPLES.., 0);
        Ok(probability.values[0])
    }

    /// Forgets what came before: the next window is the first one of something new.
    pub fn reset(&mut self) {
        self.input.fill(0.0);
        self.hidden.fill(0.0);
        self.cell.fill(0.0);
    }

    fn wrong_output(&self, found: String) -> EncodeError {
        EncodeError::WrongOutput {
            graph: self.graph.name().to_owned(),
            found,
            expected: "[1], [1, 1, 128], [1, 1, 128]".into(),
        }
    }
}
