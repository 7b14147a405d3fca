//! sherpa-onnx, through the C interface that its crate binds.
//!
//! The library brings an ONNX Runtime of its own: both lie in the process under different names, and neither sees the other's symbols.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use serde::Deserialize;
use sherpa_onnx_sys as sys;

use super::folder::{Folder, Model};
use super::words::{self, Said, Spelling};
use crate::clip::SAMPLE_RATE_HZ;
use crate::speech::{Guess, TranscribeError, Transcriber};

/// What a model still waits for after it has heard all of a word.
const TAIL_SECONDS: f32 = 0.3;
/// Paraformer tells no times, but what it understood with each chunk: of sound from so long after the one before…
const PARAFORMER_CHUNK_SECONDS: f32 = 0.6;
/// … to so long before the chunk's end (three of its frames).
const PARAFORMER_LATE_SECONDS: f32 = 0.18;

/// One recogniser; greedy search, one thread.
pub struct Sherpa {
    recognizer: *const sys::OnlineRecognizer,
    /// The utterance that is open.
    stream: *const sys::OnlineStream,
    folder: Folder,
    spelling: Spelling,
    /// Of the open utterance.
    heard: usize,
    /// Where a model that tells no times was when it told each token, in seconds.
    arrivals: Vec<f32>,
    arrived: f32,
    chunks: usize,
}

// SAFETY: recogniser and stream have no tie to the thread that made them; `&mut self` keeps them to one at a time.
unsafe impl Send for Sherpa {}

/// The library's answer, of which it has more.
#[derive(Deserialize)]
struct Answer {
    text: String,
    tokens: Vec<String>,
    #[serde(default)]
    timestamps: Vec<f32>,
    #[serde(default)]
    ys_probs: Vec<f32>,
}

impl Sherpa {
    /// Opens the streaming model in a folder, of whichever family it is; see [`Folder::read`].
    pub fn open(path: &Path) -> Result<Self, TranscribeError> {
        let folder = Folder::read(path)?;
        let mut texts: Vec<CString> = Vec::new();
        let mut text = |bytes: &[u8]| {
            texts.push(CString::new(bytes).unwrap_or_default());
            // The bytes stay where they are when `texts` grows.
            texts.last().map_or(ptr::null(), |text| text.as_ptr())
        };
        // SAFETY: numbers and pointers, for all of which zero is "not given".
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
        // SAFETY: the texts live until it has returned; it copies what it keeps.
        let recognizer = unsafe { sys::SherpaOnnxCreateOnlineRecognizer(&config) };
        if recognizer.is_null() {
            let problem = "sherpa-onnx does not take it; its reason is on standard error".into();
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
            heard: 0,
            arrivals: Vec::new(),
            arrived: 0.0,
            chunks: 0,
        })
    }

    fn listen(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        // SAFETY: the stream is open and ours; the samples are copied.
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

    fn decode(&mut self) -> Result<(), TranscribeError> {
        // SAFETY: both are ours and open.
        while unsafe { sys::SherpaOnnxIsOnlineStreamReady(self.recognizer, self.stream) } != 0 {
            // SAFETY: as above, and there is enough to decode.
            unsafe { sys::SherpaOnnxDecodeOnlineStream(self.recognizer, self.stream) };
            if self.spelling == Spelling::Joined {
                let count = self.answer()?.tokens.len();
                self.arrive(count);
            }
        }
        Ok(())
    }

    /// There are `count` tokens after the next chunk: the new ones are spread over what it told of.
    fn arrive(&mut self, count: usize) {
        self.chunks += 1;
        let now = self.chunks as f32 * PARAFORMER_CHUNK_SECONDS - PARAFORMER_LATE_SECONDS;
        let new = count.saturating_sub(self.arrivals.len());
        self.arrivals.extend(
            (0..new).map(|i| self.arrived + (now - self.arrived) * (i as f32 + 0.5) / new as f32),
        );
        self.arrived = now;
    }

    fn answer(&self) -> Result<Answer, TranscribeError> {
        // SAFETY: both are ours and open; the text is ours until it is destroyed.
        let answer = unsafe {
            let json = sys::SherpaOnnxGetOnlineStreamResultAsJson(self.recognizer, self.stream);
            if json.is_null() {
                return Err(TranscribeError::Failed("tell its words"));
            }
            let answer = serde_json::from_str(&CStr::from_ptr(json).to_string_lossy());
            sys::SherpaOnnxDestroyOnlineStreamResultJson(json);
            answer
        };
        // Not with its reason, which may quote the words.
        answer.map_err(|_| TranscribeError::Failed("tell its words"))
    }

    fn guesses(&self) -> Result<Vec<Guess>, TranscribeError> {
        let Answer {
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
        // What it has no time for it said last.
        seconds.resize(tokens.len(), self.heard as f32 / SAMPLE_RATE_HZ as f32);
        let mut guesses = words::words(
            Said {
                text: &text,
                tokens: &tokens,
                seconds: &seconds,
                log_probs: &ys_probs,
            },
            self.spelling,
            self.heard,
        );
        if self.folder.capitals {
            guesses
                .iter_mut()
                .for_each(|guess| guess.text = guess.text.to_lowercase());
        }
        Ok(guesses)
    }

    fn close(&mut self) {
        if !self.stream.is_null() {
            // SAFETY: it is ours, and forgotten here.
            unsafe { sys::SherpaOnnxDestroyOnlineStream(self.stream) };
            self.stream = ptr::null();
        }
    }
}

impl Transcriber for Sherpa {
    fn begin(&mut self) -> Result<(), TranscribeError> {
        self.close();
        (self.heard, self.arrived, self.chunks) = (0, 0.0, 0);
        self.arrivals.clear();
        // SAFETY: the recogniser is ours.
        self.stream = unsafe { sys::SherpaOnnxCreateOnlineStream(self.recognizer) };
        if self.stream.is_null() {
            Err(TranscribeError::Failed("begin an utterance"))
        } else {
            Ok(())
        }
    }

    fn hear(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        if self.stream.is_null() {
            self.begin()?;
        }
        self.heard += samples.len();
        self.listen(samples)
    }

    fn partial(&mut self) -> Result<Vec<Guess>, TranscribeError> {
        if self.stream.is_null() {
            Ok(Vec::new())
        } else {
            self.guesses()
        }
    }

    fn finish(&mut self) -> Result<Vec<Guess>, TranscribeError> {
        if self.stream.is_null() {
            return Ok(Vec::new());
        }
        // It decodes whole windows alone: silence fills the last one.
        let silence = vec![
            0.0;
            ((self.folder.window_seconds + TAIL_SECONDS) * SAMPLE_RATE_HZ as f32)
                as usize
        ];
        self.listen(&silence)?;
        // SAFETY: the stream is open and ours.
        unsafe { sys::SherpaOnnxOnlineStreamInputFinished(self.stream) };
        self.decode()?;
        let guesses = self.guesses();
        self.close();
        guesses
    }
}

impl Drop for Sherpa {
    fn drop(&mut self) {
        self.close();
        // SAFETY: nobody else has it.
        unsafe { sys::SherpaOnnxDestroyOnlineRecognizer(self.recognizer) };
    }
}
