//! sherpa-onnx, through its C interface.
//!
//! The library brings its own ONNX Runtime. Both copies are in the process under different names,
//! and neither resolves the other's symbols.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use serde::Deserialize;
use sherpa_onnx_sys as sys;

use super::folder::Folder;
use super::model::Model;
use super::tokens::{DecodedTokens, Spelling, words};
use crate::clip::SAMPLE_RATE_HZ;
use crate::speech::{TranscribeError, Transcriber, WordHypothesis};

/// Silence that is appended to the last chunk, in seconds, so that a model emits the last word.
const TAIL_SECONDS: f32 = 0.3;
/// Length of a chunk of Paraformer in seconds. This family gives no token times, only the tokens of
/// each chunk.
const PARAFORMER_CHUNK_SECONDS: f32 = 0.6;
/// Assumed time from the newest token of a Paraformer chunk to the end of the chunk, in seconds
/// (three frames).
const PARAFORMER_LATE_SECONDS: f32 = 0.18;

/// A recogniser of sherpa-onnx that uses greedy search on one thread.
pub struct Sherpa {
    recognizer: *const sys::OnlineRecognizer,
    /// The stream of the open utterance, or null.
    stream: *const sys::OnlineStream,
    folder: Folder,
    spelling: Spelling,
    /// Number of samples in the open utterance so far.
    samples: usize,
    /// For a model without token times: the estimated time of each token, in seconds.
    arrivals: Vec<f32>,
    /// Time up to which tokens were distributed, in seconds.
    arrived: f32,
    /// Number of chunks of the utterance that were decoded.
    chunks: usize,
}

// SAFETY: recogniser and stream are not bound to the thread that created them, and every method
// takes `&mut self`.
unsafe impl Send for Sherpa {}

/// The fields that are used of sherpa-onnx's JSON result.
#[derive(Deserialize)]
struct SherpaResult {
    text: String,
    tokens: Vec<String>,
    /// Time of each token in seconds; empty for a model without token times.
    #[serde(default)]
    timestamps: Vec<f32>,
    /// Natural logarithm of the probability of each token; may be empty.
    #[serde(default)]
    ys_probs: Vec<f32>,
}

impl Sherpa {
    /// Opens the streaming model in the folder `path`; see [`Folder::read`] for its detection.
    ///
    /// # Errors
    /// The folder contains no usable model, or sherpa-onnx refuses the model.
    pub fn open(path: &Path) -> Result<Self, TranscribeError> {
        let folder = Folder::read(path)?;
        let mut texts: Vec<CString> = Vec::new();
        let mut text = |bytes: &[u8]| {
            texts.push(CString::new(bytes).unwrap_or_default());
            // The text's bytes do not move when `texts` grows.
            texts.last().map_or(ptr::null(), |text| text.as_ptr())
        };
        // SAFETY: the fields are numbers and pointers, for which zero means "not given".
        let mut config: sys::OnlineRecognizerConfig = unsafe { std::mem::zeroed() };
        config.feat_config = sys::FeatureConfig {
            sample_rate: SAMPLE_RATE_HZ as i32,
            feature_dim: 80,
        };
        config.decoding_method = text(b"greedy_search");
        config.model_config.provider = text(b"cpu");
        config.model_config.num_threads = 1;
        let mut file = |path: &Path| text(path.as_os_str().as_bytes());
        config.model_config.tokens = file(&folder.tokens);
        match &folder.model {
            Model::Transducer {
                encoder,
                decoder,
                joiner,
            } => {
                config.model_config.transducer = sys::OnlineTransducerModelConfig {
                    encoder: file(encoder),
                    decoder: file(decoder),
                    joiner: file(joiner),
                };
            }
            Model::Paraformer { encoder, decoder } => {
                config.model_config.paraformer = sys::OnlineParaformerModelConfig {
                    encoder: file(encoder),
                    decoder: file(decoder),
                };
            }
            Model::Zipformer2Ctc(path) => config.model_config.zipformer2_ctc.model = file(path),
            Model::NemoCtc(path) => config.model_config.nemo_ctc.model = file(path),
            Model::ToneCtc(path) => config.model_config.t_one_ctc.model = file(path),
        }
        // SAFETY: the texts outlive the call, which copies them.
        let recognizer = unsafe { sys::SherpaOnnxCreateOnlineRecognizer(&config) };
        if recognizer.is_null() {
            let problem = "sherpa-onnx cannot load it; its message is on standard error".into();
            return Err(TranscribeError::Unusable {
                path: path.to_owned(),
                problem,
                remedy: "fetch the model again, or name another",
            });
        }
        let spelling = if matches!(folder.model, Model::Paraformer { .. }) {
            Spelling::Joined
        } else {
            Spelling::Spaced
        };
        Ok(Sherpa {
            recognizer,
            stream: ptr::null(),
            folder,
            spelling,
            samples: 0,
            arrivals: Vec::new(),
            arrived: 0.0,
            chunks: 0,
        })
    }

    /// Passes samples to the open stream.
    fn accept(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        // SAFETY: the stream is open; the call copies the samples.
        unsafe {
            sys::SherpaOnnxOnlineStreamAcceptWaveform(
                self.stream,
                SAMPLE_RATE_HZ as i32,
                samples.as_ptr(),
                samples.len() as i32,
            )
        };
        self.decode()
    }

    /// Decodes all complete chunks of the stream.
    fn decode(&mut self) -> Result<(), TranscribeError> {
        // SAFETY: recogniser and stream are open.
        while unsafe { sys::SherpaOnnxIsOnlineStreamReady(self.recognizer, self.stream) } != 0 {
            // SAFETY: as above; a chunk is ready.
            unsafe { sys::SherpaOnnxDecodeOnlineStream(self.recognizer, self.stream) };
            if self.spelling == Spelling::Joined {
                let count = self.answer()?.tokens.len();
                self.distribute_tokens(count);
            }
        }
        Ok(())
    }

    /// Adds a decoded chunk, after which the utterance has `count` tokens. The new tokens are
    /// distributed over the time of the chunk.
    fn distribute_tokens(&mut self, count: usize) {
        self.chunks += 1;
        let now = self.chunks as f32 * PARAFORMER_CHUNK_SECONDS - PARAFORMER_LATE_SECONDS;
        let new = count.saturating_sub(self.arrivals.len());
        self.arrivals.extend(
            (0..new).map(|i| self.arrived + (now - self.arrived) * (i as f32 + 0.5) / new as f32),
        );
        self.arrived = now;
    }

    /// The result of sherpa-onnx for the open utterance so far.
    fn answer(&self) -> Result<SherpaResult, TranscribeError> {
        // SAFETY: recogniser and stream are open; the text is valid until it is destroyed.
        let answer = unsafe {
            let json = sys::SherpaOnnxGetOnlineStreamResultAsJson(self.recognizer, self.stream);
            if json.is_null() {
                return Err(TranscribeError::Failed("return its words"));
            }
            let answer = serde_json::from_str(&CStr::from_ptr(json).to_string_lossy());
            sys::SherpaOnnxDestroyOnlineStreamResultJson(json);
            answer
        };
        // The cause is omitted, because it may quote the words.
        answer.map_err(|_| TranscribeError::Failed("return its words"))
    }

    /// The words of the open utterance so far.
    fn hypotheses(&self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        let SherpaResult {
            text,
            tokens,
            timestamps,
            ys_probs,
        } = self.answer()?;
        let mut seconds = if timestamps.len() == tokens.len() {
            timestamps
        } else {
            self.arrivals.clone()
        };
        seconds
            .iter_mut()
            .for_each(|time| *time *= self.folder.time_scale);
        // Tokens without a time are placed at the end.
        seconds.resize(tokens.len(), self.samples as f32 / SAMPLE_RATE_HZ as f32);
        let mut hypotheses = words(
            DecodedTokens {
                text: &text,
                tokens: &tokens,
                seconds: &seconds,
                log_probs: &ys_probs,
            },
            self.spelling,
            self.samples,
        );
        if self.folder.capitals {
            hypotheses
                .iter_mut()
                .for_each(|hypothesis| hypothesis.text = hypothesis.text.to_lowercase());
        }
        Ok(hypotheses)
    }

    /// Closes the stream of the utterance, if one is open.
    fn close(&mut self) {
        if !self.stream.is_null() {
            // SAFETY: the stream is open, and the pointer is cleared below.
            unsafe { sys::SherpaOnnxDestroyOnlineStream(self.stream) };
            self.stream = ptr::null();
        }
    }
}

impl Transcriber for Sherpa {
    fn begin(&mut self) -> Result<(), TranscribeError> {
        self.close();
        (self.samples, self.arrived, self.chunks) = (0, 0.0, 0);
        self.arrivals.clear();
        // SAFETY: the recogniser is open.
        self.stream = unsafe { sys::SherpaOnnxCreateOnlineStream(self.recognizer) };
        if self.stream.is_null() {
            Err(TranscribeError::Failed("begin an utterance"))
        } else {
            Ok(())
        }
    }

    fn feed(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        if self.stream.is_null() {
            self.begin()?;
        }
        self.samples += samples.len();
        self.accept(samples)
    }

    fn partial(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        if self.stream.is_null() {
            Ok(Vec::new())
        } else {
            self.hypotheses()
        }
    }

    fn finish(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        if self.stream.is_null() {
            return Ok(Vec::new());
        }
        // Only whole chunks are decoded: silence pads the last one.
        let silence = vec![
            0.0;
            ((self.folder.window_seconds + TAIL_SECONDS) * SAMPLE_RATE_HZ as f32)
                as usize
        ];
        self.accept(&silence)?;
        // SAFETY: the stream is open.
        unsafe { sys::SherpaOnnxOnlineStreamInputFinished(self.stream) };
        self.decode()?;
        let hypotheses = self.hypotheses();
        self.close();
        hypotheses
    }
}

impl Drop for Sherpa {
    fn drop(&mut self) {
        self.close();
        // SAFETY: this value owns the recogniser.
        unsafe { sys::SherpaOnnxDestroyOnlineRecognizer(self.recognizer) };
    }
}
