//! Tests of PocketSphinx on noises without words, and on recordings with known words.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::capture::{Outputs, Pace, Recording, SourceHealth};
use crate::clip::Word;
use crate::encode::Runtime;
use crate::lane::{Received, WhenFull, lane};
use crate::speech::{SpeechStage, VoiceDetector};
use crate::testing::{did_not_run, material, project};

/// The decoder; `None`, with a message, if `make setup-words` has not been run.
fn engine() -> Option<PocketSphinx> {
    match PocketSphinx::open() {
        Ok(engine) => Some(engine),
        Err(TranscribeError::NotSetUp { .. }) => {
            did_not_run("PocketSphinx is not there (make setup-words)");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The whole pipeline: voice-activity detection, turns and words. Each recording has its own stage;
/// all recordings share one decoder.
struct Pipeline {
    stage: Option<TranscribeStage>,
    detector: Option<VoiceDetector>,
    /// Total length of the recordings, in seconds.
    seconds: f64,
    /// CPU time of the pipeline, in nanoseconds.
    cpu_nanos: i64,
}

/// CPU time of the calling thread, in nanoseconds.
fn cpu_nanos() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

impl Pipeline {
    fn new(engine: impl Transcriber + 'static) -> Self {
        let detector = VoiceDetector::load(&Runtime::load().unwrap()).unwrap();
        Pipeline {
            stage: Some(TranscribeStage::new(Box::new(engine), WordRule::default())),
            detector: Some(detector),
            seconds: 0.0,
            cpu_nanos: 0,
        }
    }

    fn transcripts(&mut self, samples: &[f32]) -> Vec<Transcript> {
        let mut speech = SpeechStage::new(TurnRule::default(), self.detector.take().unwrap());
        let mut stage = self.stage.take().unwrap().reset();
        let mut output = Vec::new();
        let mut push = |block: &VadBlock| {
            let before = cpu_nanos();
            output.extend(stage.push(block).unwrap());
            self.cpu_nanos += cpu_nanos() - before;
        };
        for (i, block) in samples.chunks(320).enumerate() {
            push(
                &speech
                    .push(AudioBlock {
                        time: MediaTime::from_nanos(samples_to_nanos(320 * i as i64)),
                        samples: block.into(),
                    })
                    .unwrap(),
            );
        }
        if let Some(block) = speech.finish().unwrap() {
            push(&block);
        }
        output.extend(stage.finish().unwrap());
        self.seconds += samples.len() as f64 / 16_000.0;
        (self.stage, self.detector) = (Some(stage), Some(speech.into_detector()));
        output
    }

    fn words(&mut self, samples: &[f32]) -> Vec<Word> {
        finals(&self.transcripts(samples))
            .into_iter()
            .flat_map(|t| t.words.clone())
            .collect()
    }
}

fn sound(file: &Path) -> Vec<f32> {
    let (sender, audio) = lane("audio", 1 << 14, WhenFull::Block);
    let outputs = Outputs {
        frames: None,
        audio: Some(sender),
    };
    Recording::open(file)
        .unwrap()
        .play(
            Pace::Offline,
            outputs,
            Arc::new(SourceHealth::default()),
            Arc::new(AtomicBool::new(false)),
        )
        .unwrap();
    let mut samples = Vec::new();
    while let Received::Item(block) = audio.recv(None) {
        let first = (block.time.nanos() / samples_to_nanos(1)).max(0) as usize;
        samples.resize(samples.len().max(first), 0.0);
        samples.extend_from_slice(&block.samples);
    }
    samples
}

/// White noise from a small generator, the same on every machine.
fn white(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn noises() -> Vec<(&'static str, Vec<f32>)> {
    let count = 12 * 16_000;
    let at = |i: usize| i as f32 / 16_000.0;
    let tau = std::f32::consts::TAU;
    let mut noises = vec![("silence", vec![0.0; count])];
    for (name, level) in [
        ("faint white noise", 0.003),
        ("white noise", 0.05),
        ("loud white noise", 0.5),
    ] {
        let mut next = white(7);
        noises.push((name, (0..count).map(|_| level * next()).collect()));
    }
    let (mut next, mut rows) = (white(11), [0.0f32; 12]);
    let pink = (0..count).map(|i| {
        // Pink noise by Voss and McCartney: each row is redrawn half as often as the previous one.
        rows[(i.trailing_zeros() as usize).min(11)] = next();
        0.03 * (rows.iter().sum::<f32>() + next())
    });
    noises.push(("pink noise", pink.collect()));
    // Chords that change twice a second, each note with its harmonics, an attack and a vibrato.
    let music = (0..count).map(|i| {
        let (time, beat) = (at(i), at(i) % 0.5);
        let root = [220.0, 174.6, 261.6, 196.0][(time * 2.0) as usize % 4];
        let envelope = (beat * 60.0).min(1.0) * (-3.0 * beat).exp();
        let vibrato = 1.0 + 0.004 * (tau * 5.5 * time).sin();
        let notes = [1.0, 1.26, 1.5].iter().flat_map(|ratio| {
            (1..6).map(move |harmonic| (ratio * harmonic as f32, 1.0 / harmonic as f32))
        });
        0.12 * envelope
            * notes
                .map(|(ratio, level)| level * (tau * root * vibrato * ratio * time).sin())
                .sum::<f32>()
    });
    noises.push(("music", music.collect()));
    // Keystrokes: a click of 8 ms and its release, every 90 to 200 ms.
    let (mut next, mut keys, mut key) = (white(23), vec![0.0f32; count], 1600usize);
    while key + 1600 < count {
        for (offset, level) in [(0, 0.4), (900, 0.15)] {
            for i in 0..130 {
                keys[key + offset + i] += level * next() * (-(i as f32) / 40.0).exp();
            }
        }
        key += 2320 + (next() * 880.0) as usize;
    }
    noises.push(("keyboard", keys));
    noises.push((
        "hum",
        (0..count)
            .map(|i| 0.1 * (tau * 50.0 * at(i)).sin() + 0.05 * (tau * 150.0 * at(i)).sin())
            .collect(),
    ));
    noises.push((
        "a sweep",
        (0..count)
            .map(|i| 0.2 * (tau * (200.0 + 150.0 * at(i)) * at(i)).sin())
            .collect(),
    ));
    // The rhythm of syllables without a voice: noise with an envelope of 4 Hz.
    let mut next = white(31);
    noises.push((
        "wind",
        (0..count)
            .map(|i| 0.2 * next() * (0.5 + 0.5 * (tau * 4.0 * at(i)).sin()))
            .collect(),
    ));
    noises
}

/// Recognises a word in every 0.3 s, without confidences.
#[derive(Default)]
struct ConstantTranscriber(usize);

impl Transcriber for ConstantTranscriber {
    fn begin(&mut self) -> Result<(), TranscribeError> {
        self.0 = 0;
        Ok(())
    }
    fn feed(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        self.0 += samples.len();
        Ok(())
    }
    fn partial(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        let place = |i: usize| WordHypothesis {
            text: "word".into(),
            samples: i * 4800..((i + 1) * 4800).min(self.0),
            confidence: None,
        };
        Ok((0..self.0.div_ceil(4800)).map(place).collect())
    }
    fn finish(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        self.partial()
    }
}

/// Words without a confidence can only be rejected by voice activity.
#[test]
fn noise_yields_no_words_without_confidences() {
    let mut pipeline = Pipeline::new(ConstantTranscriber::default());
    for (name, samples) in noises() {
        assert!(pipeline.words(&samples).is_empty(), "{name}");
    }
    let bytes = std::fs::read(project("tests/golden/silero_vad.s16le")).unwrap();
    let speech: Vec<f32> = bytes
        .chunks_exact(2)
        .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
        .collect();
    assert!(pipeline.words(&speech).len() > 5, "speech yields words");
}

#[cfg(feature = "sherpa")]
#[test]
fn sherpa_models_yield_words_only_during_speech() {
    let bytes = std::fs::read(project("tests/golden/silero_vad.s16le")).unwrap();
    let speech: Vec<f32> = bytes
        .chunks_exact(2)
        .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
        .collect();
    for family in ["zipformer2-ctc", "zipformer2-transducer", "paraformer"] {
        let mut pipeline = Pipeline::new(
            super::super::Sherpa::open(&project("tests/sherpa").join(family)).unwrap(),
        );
        for (name, samples) in noises() {
            assert!(pipeline.words(&samples).is_empty(), "{family}: {name}");
        }
        let mut samples = vec![0.0; 32_000];
        samples.extend_from_slice(&speech);
        let words = pipeline.words(&samples);
        assert!(
            !words.is_empty() && words.iter().all(|word| millis(word.span).0 >= 1900),
            "{family}: {words:?}"
        );
        assert!(
            words
                .iter()
                .all(|word| word.confidence.is_some() == (family == "zipformer2-transducer"))
        );
        println!(
            "{family}: {:.4} s of one core for a second of sound",
            pipeline.cpu_nanos as f64 * 1e-9 / pipeline.seconds
        );
    }
}

#[test]
fn silence_and_noise_never_yield_words() {
    let Some(engine) = engine() else { return };
    let mut pipeline = Pipeline::new(engine);
    for (name, samples) in noises() {
        let output = pipeline.transcripts(&samples);
        assert!(
            output.iter().all(|t| t.words.is_empty()),
            "{name}: {output:?}"
        );
    }
    // Silence and noise, also before and after speech.
    let bytes = std::fs::read(project("tests/golden/silero_vad.s16le")).unwrap();
    let speech: Vec<f32> = bytes
        .chunks_exact(2)
        .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
        .collect();
    for (name, noise) in noises()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("loud"))
    {
        let mut samples = noise[..48_000].to_vec();
        samples.extend_from_slice(&speech);
        samples.extend_from_slice(&noise[..48_000]);
        let end = 3000 + speech.len() as i64 / 16;
        for word in pipeline.words(&samples) {
            let (start, last) = millis(word.span);
            assert!(
                start >= 2900 && last <= end + 100,
                "a word from {start} to {last} ms in {name} around speech from 3000 to {end} ms"
            );
        }
    }
}

/// The word-level edit distance, and the index pairs (reference, recognised) of matching words.
fn errors(reference: &[String], recognised: &[Word]) -> (usize, Vec<(usize, usize)>) {
    let (rows, columns) = (reference.len() + 1, recognised.len() + 1);
    let mut cost = vec![vec![0usize; columns]; rows];
    for i in 0..rows {
        for j in 0..columns {
            cost[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => (cost[i - 1][j - 1] + usize::from(reference[i - 1] != recognised[j - 1].text))
                    .min(cost[i - 1][j] + 1)
                    .min(cost[i][j - 1] + 1),
            };
        }
    }
    let (mut i, mut j, mut same) = (reference.len(), recognised.len(), Vec::new());
    while i > 0 && j > 0 {
        if reference[i - 1] == recognised[j - 1].text && cost[i][j] == cost[i - 1][j - 1] {
            same.push((i - 1, j - 1));
            (i, j) = (i - 1, j - 1);
        } else if cost[i][j] == cost[i - 1][j - 1] + 1 {
            (i, j) = (i - 1, j - 1);
        } else if cost[i][j] == cost[i - 1][j] + 1 {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    (cost[reference.len()][recognised.len()], same)
}

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Number of clips of each kind that are tested; `$EXPRESSD_CLIPS` overrides it.
fn clips(usual: usize) -> usize {
    std::env::var("EXPRESSD_CLIPS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(usual)
}

fn files(folder: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    files.sort();
    files
}

#[test]
fn the_word_error_rate_on_acted_sentences_is_bounded() {
    let (Some(engine), Some(ravdess)) = (engine(), material("speech/ravdess")) else {
        return;
    };
    let mut pipeline = Pipeline::new(engine);
    let (mut wrong, mut all, mut recognised) = (0, 0, 0);
    let actors = files(&ravdess, "")
        .into_iter()
        .flat_map(|actor| files(&actor, ".flac").into_iter().step_by(7).take(8));
    // Sorted by reversed name, so that actors, sentences and emotions alternate.
    let mut takes: Vec<_> = actors.collect();
    takes.sort_by_key(|path| {
        path.file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .chars()
            .rev()
            .collect::<String>()
    });
    let step = (takes.len() / clips(12)).max(1);
    for file in takes.iter().step_by(step) {
        let statement = file
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .split('-')
            .nth(4)
            .unwrap()
            .to_owned();
        let reference = split(if statement == "01" {
            "kids are talking by the door"
        } else {
            "dogs are sitting by the door"
        });
        let words = pipeline.words(&sound(file));
        wrong += errors(&reference, &words).0;
        all += reference.len();
        recognised += words.len();
    }
    let rate = wrong as f64 / all as f64;
    println!(
        "RAVDESS: word error rate {rate:.3} ({wrong} of {all} words wrong, {recognised} \
         recognised), {:.3} s of one core for a second of sound",
        pipeline.cpu_nanos as f64 * 1e-9 / pipeline.seconds
    );
    assert!(rate < 0.65, "{rate}");
}

#[test]
fn word_times_agree_with_the_alignment() {
    let (Some(engine), Some(grid)) = (engine(), material("av/grid_s1")) else {
        return;
    };
    let mut pipeline = Pipeline::new(engine);
    let (mut wrong, mut all, mut off) = (0, 0, Vec::new());
    for file in files(&grid, ".mpg").iter().take(clips(12)) {
        let alignment = std::fs::read_to_string(file.with_extension("align")).unwrap();
        let lines = alignment.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            // Times in the file are in units of 1/25,000 s.
            let mut millis = || fields.next()?.parse::<f64>().ok().map(|t| t / 25.0);
            Some((millis()?, millis()?, fields.next()?.to_owned()))
        });
        let truth: Vec<_> = lines
            .filter(|(_, _, word)| word != "sil" && word != "sp")
            .collect();
        let words = pipeline.words(&sound(file));
        let reference: Vec<String> = truth.iter().map(|(_, _, word)| word.clone()).collect();
        let (errors, same) = errors(&reference, &words);
        wrong += errors;
        all += reference.len();
        for (reference, recognised) in same {
            let (start, end) = (
                words[recognised].span.start.nanos() as f64 * 1e-6,
                words[recognised].span.end.nanos() as f64 * 1e-6,
            );
            off.extend([
                (start - truth[reference].0).abs(),
                (end - truth[reference].1).abs(),
            ]);
        }
    }
    off.sort_by(f64::total_cmp);
    let quantile = |q: f64| off[((off.len() - 1) as f64 * q) as usize];
    let rate = wrong as f64 / all as f64;
    println!(
        "GRID: word error rate {rate:.3} ({wrong} of {all}); absolute error of the starts and ends \
         of {} recognised words: median {:.0} ms, 90th percentile {:.0} ms; {:.3} s of one core \
         for a second of sound",
        off.len() / 2,
        quantile(0.5),
        quantile(0.9),
        pipeline.cpu_nanos as f64 * 1e-9 / pipeline.seconds
    );
    assert!(off.len() >= 8, "{} words recognised", off.len() / 2);
    assert!(quantile(0.5) <= 60.0 && quantile(0.9) <= 150.0, "{off:?}");
}

#[test]
fn the_error_for_an_unusable_folder_names_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libpocketsphinx.so"), "no library").unwrap();
    let message = PocketSphinx::open_in(folder.path())
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.contains("make setup-words") && message.contains("libpocketsphinx.so"),
        "{message}"
    );
    let missing = TranscribeError::NotSetUp {
        what: "PocketSphinx",
        looked_at: vec![folder.path().into()],
        command: "make setup-words",
    };
    assert!(
        missing.to_string().contains("run `make setup-words`"),
        "{missing}"
    );
}
