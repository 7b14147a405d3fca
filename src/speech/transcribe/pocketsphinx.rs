//! PocketSphinx 5 with its American English model, as `make setup-words` builds it: opened when it is wanted, never linked.

use std::ffi::{CStr, CString, c_char, c_double, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

use super::{Guess, TranscribeError, Transcriber};
use crate::assets;

/// The library's own frame: 10 ms.
const FRAME_SAMPLES: usize = 160;
const LIBRARY: &str = "libpocketsphinx.so";
const COMMAND: &str = "make setup-words";

/// The functions that are used, by the names of `pocketsphinx.h` 5.1.
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
    /// # Safety
    /// `library` is PocketSphinx 5.
    unsafe fn of(library: &Library) -> Result<Functions, libloading::Error> {
        // SAFETY: the types are those of pocketsphinx.h; pointers to its structures are opaque here.
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

/// One decoder: about 0.3 s to open.
pub struct PocketSphinx {
    functions: Functions,
    /// `ps_decoder_t`; ours alone.
    decoder: *mut c_void,
    /// Is an utterance begun and not ended?
    open: bool,
    samples: Vec<i16>,
    /// Last: what the functions belong to.
    _library: Library,
}

// SAFETY: a decoder has no tie to the thread that made it; `&mut self` everywhere keeps it to one at a time. Its random numbers are the
// thread's own (PS_THREAD_LOCAL_RNG), and are used for dither alone, which is off.
unsafe impl Send for PocketSphinx {}

impl PocketSphinx {
    /// Finds the library and its model: in the folder `$EXPRESSD_POCKETSPHINX`, else beside the program (`../lib/expressd/pocketsphinx`), else
    /// where `make setup-words` puts them (`.deps/pocketsphinx` in the working directory or the project's).
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

    pub(super) fn open_in(folder: &Path) -> Result<Self, TranscribeError> {
        let unusable = |path: PathBuf, problem: String| TranscribeError::Unusable {
            path,
            problem,
            remedy: "remove the folder and run `make setup-words`",
        };
        let path = folder.join(LIBRARY);
        let path = path.canonicalize().unwrap_or(path);
        let failed = |error: libloading::Error| unusable(path.clone(), error.to_string());
        // SAFETY: the library has no code that runs when it is opened, and its functions have the types of its header.
        let (functions, library) = unsafe {
            let library = Library::new(&path).map_err(failed)?;
            (Functions::of(&library).map_err(failed)?, library)
        };
        let model = folder.join("en-us");
        // A missing file would be an exit deep inside of the library, not an error.
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
            // What it says of itself names words.
            ("loglevel", "FATAL".into()),
            // The means of the voice so far, not of an utterance that has not ended.
            ("cmn", "live".into()),
            // The second pass costs half as much again, at the end, when words are waited for, and brought no better ones.
            ("fwdflat", "no".into()),
        ];
        // SAFETY: the configuration lives until it is freed; the decoder keeps a reference of its own.
        let decoder = unsafe {
            (functions.err_set_callback)(ptr::null_mut(), ptr::null_mut());
            let config = (functions.config_init)(ptr::null());
            for (key, value) in settings {
                let (key, value) = (
                    CString::new(key).expect("no zero"),
                    CString::new(value.into_encoded_bytes()),
                );
                let Ok(value) = value else {
                    return Err(unusable(model, "its path has a zero in it".into()));
                };
                (functions.config_set_str)(config, key.as_ptr(), value.as_ptr());
            }
            let decoder = (functions.init)(config);
            (functions.config_free)(config);
            (functions.err_set_callback)(ptr::null_mut(), ptr::null_mut());
            decoder
        };
        if decoder.is_null() {
            return Err(unusable(model, "PocketSphinx refused it".into()));
        }
        Ok(PocketSphinx {
            functions,
            decoder,
            open: false,
            samples: Vec::new(),
            _library: library,
        })
    }

    /// Best words so far; with posteriors once the utterance has ended.
    fn guesses(&mut self, ended: bool) -> Vec<Guess> {
        let functions = &self.functions;
        let mut guesses = Vec::new();
        // SAFETY: the iterator is ours until `seg_next` gives nothing, which frees it; words live as long as the decoder's dictionary.
        unsafe {
            if (functions.get_hyp)(self.decoder, ptr::null_mut()).is_null() {
                return guesses;
            }
            if ended {
                // The words' posteriors are computed on the way to the utterance's.
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
                // Silences and noises are in angle and square brackets; a second pronunciation is `word(2)`.
                if let Some(text) = word
                    .split('(')
                    .next()
                    .filter(|text| !text.is_empty() && !text.starts_with(['<', '[', '+']))
                {
                    let samples = first.max(0) as usize * FRAME_SAMPLES
                        ..(last.max(first).max(0) as usize + 1) * FRAME_SAMPLES;
                    guesses.push(Guess {
                        text: text.to_owned(),
                        samples,
                        confidence,
                    });
                }
                segment = (functions.seg_next)(segment);
            }
        }
        guesses
    }
}

impl Transcriber for PocketSphinx {
    fn begin(&mut self) -> Result<(), TranscribeError> {
        if self.open {
            self.finish()?;
        }
        // SAFETY: the decoder is ours.
        match unsafe { (self.functions.start_utt)(self.decoder) } {
            0 => self.open = true,
            _ => return Err(TranscribeError::Failed("begin an utterance")),
        }
        Ok(())
    }

    fn hear(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        self.samples.clear();
        self.samples.extend(
            samples
                .iter()
                .map(|sample| (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16),
        );
        // SAFETY: as many samples as are said; they are copied.
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
            _ => Err(TranscribeError::Failed("hear sound")),
        }
    }

    fn partial(&mut self) -> Result<Vec<Guess>, TranscribeError> {
        Ok(self.guesses(false))
    }

    fn finish(&mut self) -> Result<Vec<Guess>, TranscribeError> {
        self.open = false;
        // SAFETY: the decoder is ours, and an utterance is open.
        match unsafe { (self.functions.end_utt)(self.decoder) } {
            0.. => Ok(self.guesses(true)),
            _ => Err(TranscribeError::Failed("end an utterance")),
        }
    }
}

impl Drop for PocketSphinx {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { (self.functions.free)(self.decoder) };
    }
}
