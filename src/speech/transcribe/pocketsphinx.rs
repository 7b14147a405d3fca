//! PocketSphinx 5 with its American English model, as built by `make setup-words`. The library is
//! opened at run time, not linked.

use std::ffi::{CStr, CString, c_char, c_double, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

use super::{TranscribeError, Transcriber, WordHypothesis};
use crate::assets;

/// Number of samples in one frame of the library: 10 ms.
const FRAME_SAMPLES: usize = 160;
/// File name of the library.
const LIBRARY: &str = "libpocketsphinx.so";
/// Command that installs the library and its model, for error messages.
const COMMAND: &str = "make setup-words";

/// The functions of `pocketsphinx.h` 5.1 that are used.
struct Functions {
    err_set_callback: unsafe extern "C" fn(*mut c_void, *mut c_void),
    config_init: unsafe extern "C" fn(*const c_void) -> *mut c_void,
    config_free: unsafe extern "C" fn(*mut c_void) -> c_int,
    config_set_str:
        unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *const c_void,
    init: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void) -> c_int,
    start_utt: unsafe extern "C" fn(*mut c_void) -> c_int,
    process_raw: unsafe extern "C" fn(*mut c_void, *const i16, usize, c_int, c_int) -> c_int,
    end_utt: unsafe extern "C" fn(*mut c_void) -> c_int,
    get_hyp: unsafe extern "C" fn(*mut c_void, *mut i32) -> *const c_char,
    get_prob: unsafe extern "C" fn(*mut c_void) -> i32,
    get_logmath: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    logmath_exp: unsafe extern "C" fn(*mut c_void, c_int) -> c_double,
    seg_iter: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    seg_next: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    seg_word: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    seg_frames: unsafe extern "C" fn(*mut c_void, *mut c_int, *mut c_int),
    seg_prob: unsafe extern "C" fn(*mut c_void, *mut i32, *mut i32, *mut i32) -> i32,
}

impl Functions {
    /// Looks up the functions in `library`.
    ///
    /// # Safety
    /// `library` must be PocketSphinx 5.
    unsafe fn load(library: &Library) -> Result<Functions, libloading::Error> {
        // SAFETY: the types are those of pocketsphinx.h; pointers to its structures are opaque
        // here.
        unsafe {
            Ok(Functions {
                err_set_callback: *library.get(b"err_set_callback\0")?,
                config_init: *library.get(b"ps_config_init\0")?,
                config_free: *library.get(b"ps_config_free\0")?,
                config_set_str: *library.get(b"ps_config_set_str\0")?,
                init: *library.get(b"ps_init\0")?,
                free: *library.get(b"ps_free\0")?,
                start_utt: *library.get(b"ps_start_utt\0")?,
                process_raw: *library.get(b"ps_process_raw\0")?,
                end_utt: *library.get(b"ps_end_utt\0")?,
                get_hyp: *library.get(b"ps_get_hyp\0")?,
                get_prob: *library.get(b"ps_get_prob\0")?,
                get_logmath: *library.get(b"ps_get_logmath\0")?,
                logmath_exp: *library.get(b"logmath_exp\0")?,
                seg_iter: *library.get(b"ps_seg_iter\0")?,
                seg_next: *library.get(b"ps_seg_next\0")?,
                seg_word: *library.get(b"ps_seg_word\0")?,
                seg_frames: *library.get(b"ps_seg_frames\0")?,
                seg_prob: *library.get(b"ps_seg_prob\0")?,
            })
        }
    }
}

/// A decoder of PocketSphinx. Opening it takes about 0.3 s.
pub struct PocketSphinx {
    functions: Functions,
    /// `ps_decoder_t`, owned by this value.
    decoder: *mut c_void,
    /// Whether an utterance is open.
    open: bool,
    /// The fed samples as 16-bit integers.
    samples: Vec<i16>,
    /// The library of `functions`. As the last field it is dropped last.
    _library: Library,
}

// SAFETY: a decoder is not bound to the thread that created it, and every method takes `&mut self`.
// Its random numbers are thread-local (PS_THREAD_LOCAL_RNG) and serve only dither, which is off.
unsafe impl Send for PocketSphinx {}

impl PocketSphinx {
    /// Opens the library and its model: in the folder `$EXPRESSD_POCKETSPHINX`, else beside the
    /// program (`../lib/expressd/pocketsphinx`), else where `make setup-words` puts them
    /// (`.deps/pocketsphinx` in the working directory or the project's).
    ///
    /// # Errors
    /// The library or its model is missing or cannot be used.
    pub fn open() -> Result<Self, TranscribeError> {
        let candidates: Vec<PathBuf> = match std::env::var_os("EXPRESSD_POCKETSPHINX") {
            Some(path) => vec![path.into()],
            None => assets::candidates(
                Path::new("lib/expressd/pocketsphinx"),
                &[".deps/pocketsphinx".into()],
            ),
        };
        match candidates
            .iter()
            .find(|folder| folder.join(LIBRARY).is_file())
        {
            Some(folder) => PocketSphinx::open_in(folder),
            None => Err(TranscribeError::NotSetUp {
                what: "PocketSphinx",
                looked_at: candidates,
                command: COMMAND,
            }),
        }
    }

    /// Opens the library and its model in `folder`.
    pub(super) fn open_in(folder: &Path) -> Result<Self, TranscribeError> {
        let unusable = |path: PathBuf, problem: String| TranscribeError::Unusable {
            path,
            problem,
            remedy: "remove the folder and run `make setup-words`",
        };
        let path = folder.join(LIBRARY);
        let path = path.canonicalize().unwrap_or(path);
        let failed = |error: libloading::Error| unusable(path.clone(), error.to_string());
        // SAFETY: the library runs no code when it is opened, and its functions have the types of
        // its header.
        let (functions, library) = unsafe {
            let library = Library::new(&path).map_err(failed)?;
            (Functions::load(&library).map_err(failed)?, library)
        };
        let model = folder.join("en-us");
        // A missing file would make the library exit the process.
        for file in [
            "en-us/mdef",
            "en-us/means",
            "en-us/variances",
            "en-us/transition_matrices",
            "en-us/feat.params",
            "en-us.lm.bin",
            "cmudict-en-us.dict",
        ] {
            if !model.join(file).is_file() {
                return Err(unusable(model.join(file), "not there".into()));
            }
        }
        let settings = [
            ("hmm", model.join("en-us").into_os_string()),
            ("lm", model.join("en-us.lm.bin").into_os_string()),
            ("dict", model.join("cmudict-en-us.dict").into_os_string()),
            // Its log messages contain recognised words.
            ("loglevel", "FATAL".into()),
            // Running cepstral mean: the mean of a whole utterance is unknown before its end.
            ("cmn", "live".into()),
            // The second pass adds half of the cost at the end of an utterance, when latency
            // counts, and did not improve the words.
            ("fwdflat", "no".into()),
        ];
        // SAFETY: the configuration lives until it is freed; the decoder holds its own reference.
        let decoder = unsafe {
            (functions.err_set_callback)(ptr::null_mut(), ptr::null_mut());
            let config = (functions.config_init)(ptr::null());
            for (key, value) in settings {
                let (key, value) = (
                    CString::new(key).expect("no zero"),
                    CString::new(value.into_encoded_bytes()),
                );
                let Ok(value) = value else {
                    return Err(unusable(model, "its path contains a zero byte".into()));
                };
                (functions.config_set_str)(config, key.as_ptr(), value.as_ptr());
            }
            let decoder = (functions.init)(config);
            (functions.config_free)(config);
            (functions.err_set_callback)(ptr::null_mut(), ptr::null_mut());
            decoder
        };
        if decoder.is_null() {
            return Err(unusable(model, "PocketSphinx cannot load it".into()));
        }
        Ok(PocketSphinx {
            functions,
            decoder,
            open: false,
            samples: Vec::new(),
            _library: library,
        })
    }

    /// The words of the best hypothesis. They have posteriors if the utterance has `ended`.
    fn hypotheses(&mut self, ended: bool) -> Vec<WordHypothesis> {
        let functions = &self.functions;
        let mut hypotheses = Vec::new();
        // SAFETY: the iterator is valid until `seg_next` returns null, which frees it. Words live
        // as long as the decoder's dictionary.
        unsafe {
            if (functions.get_hyp)(self.decoder, ptr::null_mut()).is_null() {
                return hypotheses;
            }
            if ended {
                // This call also computes the words' posteriors.
                (functions.get_prob)(self.decoder);
            }
            let logmath = (functions.get_logmath)(self.decoder);
            let mut segment = (functions.seg_iter)(self.decoder);
            while !segment.is_null() {
                let word = CStr::from_ptr((functions.seg_word)(segment)).to_string_lossy();
                let (mut first, mut last) = (0, 0);
                (functions.seg_frames)(segment, &mut first, &mut last);
                let confidence = ended.then(|| {
                    let log = (functions.seg_prob)(
                        segment,
                        ptr::null_mut(),
                        ptr::null_mut(),
                        ptr::null_mut(),
                    );
                    (functions.logmath_exp)(logmath, log).clamp(0.0, 1.0) as f32
                });
                // Silences and noises are in angle or square brackets; a second pronunciation is
                // `word(2)`.
                if let Some(text) = word
                    .split('(')
                    .next()
                    .filter(|text| !text.is_empty() && !text.starts_with(['<', '[', '+']))
                {
                    let samples = first.max(0) as usize * FRAME_SAMPLES
                        ..(last.max(first).max(0) as usize + 1) * FRAME_SAMPLES;
                    hypotheses.push(WordHypothesis {
                        text: text.to_owned(),
                        samples,
                        confidence,
                    });
                }
                segment = (functions.seg_next)(segment);
            }
        }
        hypotheses
    }
}

impl Transcriber for PocketSphinx {
    fn begin(&mut self) -> Result<(), TranscribeError> {
        if self.open {
            self.finish()?;
        }
        // SAFETY: the decoder is valid.
        match unsafe { (self.functions.start_utt)(self.decoder) } {
            0 => self.open = true,
            _ => return Err(TranscribeError::Failed("begin an utterance")),
        }
        Ok(())
    }

    fn feed(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        self.samples.clear();
        self.samples.extend(
            samples
                .iter()
                .map(|sample| (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16),
        );
        // SAFETY: pointer and length are those of `samples`, which the call copies.
        match unsafe {
            (self.functions.process_raw)(
                self.decoder,
                self.samples.as_ptr(),
                self.samples.len(),
                0,
                0,
            )
        } {
            0.. => Ok(()),
            _ => Err(TranscribeError::Failed("process audio")),
        }
    }

    fn partial(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        Ok(self.hypotheses(false))
    }

    fn finish(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        self.open = false;
        // SAFETY: the decoder is valid, and an utterance is open.
        match unsafe { (self.functions.end_utt)(self.decoder) } {
            0.. => Ok(self.hypotheses(true)),
            _ => Err(TranscribeError::Failed("end an utterance")),
        }
    }
}

impl Drop for PocketSphinx {
    fn drop(&mut self) {
        // SAFETY: this value owns the decoder.
        unsafe { (self.functions.free)(self.decoder) };
    }
}
