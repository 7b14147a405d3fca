//! Silero VAD: probability of speech for windows of 32 ms, with recurrent state.

use super::{SpeechError, vad_path};
use crate::encode::{EncodeError, Graph, Input, Provider, Runtime};

/// Number of samples in a window: 32 ms at 16 kHz.
pub const WINDOW_SAMPLES: usize = 512;
/// Number of samples from the end of the previous window that precede each window in the graph's
/// input.
const CONTEXT_SAMPLES: usize = 64;
/// Number of values in the hidden state, and in the cell state.
const STATE_VALUES: usize = 128;

/// Silero VAD v6 (MIT), the variant `silero_vad_16k_sequence.onnx`.
///
/// The graph's inputs are `[windows, 576]` samples, and hidden and cell state `[1, 1, 128]`; its
/// outputs are `[windows]` probabilities and both states. The detector runs it on one window at a
/// time, so that the probabilities do not depend on the block lengths.
#[derive(Debug)]
pub struct VoiceDetector {
    graph: Graph,
    /// The graph's input: the context, then the window.
    input: [f32; CONTEXT_SAMPLES + WINDOW_SAMPLES],
    hidden: Vec<f32>,
    cell: Vec<f32>,
}

impl VoiceDetector {
    /// A detector with cleared state that runs `graph`.
    pub fn new(graph: Graph) -> Self {
        VoiceDetector {
            graph,
            input: [0.0; CONTEXT_SAMPLES + WINDOW_SAMPLES],
            hidden: vec![0.0; STATE_VALUES],
            cell: vec![0.0; STATE_VALUES],
        }
    }

    /// Opens the graph at [`vad_path`] on the CPU with a single thread: a window takes 1 MFLOP.
    ///
    /// # Errors
    /// The graph is missing, cannot be read, or has other inputs or outputs.
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
        // A trial run, so that a wrong graph fails here and not at the first window.
        detector
            .probability(&[0.0; WINDOW_SAMPLES])
            .map_err(|source| SpeechError::Unusable { path, source })?;
        detector.reset();
        Ok(detector)
    }

    /// Probability of speech, 0 to 1, in the next window of mono samples at 16 kHz.
    ///
    /// # Errors
    /// The graph fails, or returns outputs of another shape.
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

    /// Clears the recurrent state and the context.
    pub fn reset(&mut self) {
        self.input.fill(0.0);
        self.hidden.fill(0.0);
        self.cell.fill(0.0);
    }

    /// The error for outputs that are described by `found`.
    fn wrong_output(&self, found: String) -> EncodeError {
        EncodeError::WrongOutput {
            graph: self.graph.name().to_owned(),
            found,
            expected: "[1], [1, 1, 128], [1, 1, 128]".into(),
        }
    }
}
