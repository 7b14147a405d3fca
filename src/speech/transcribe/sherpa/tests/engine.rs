//! Tests of the library on models that classify loudness, and beside the daemon's own ONNX Runtime.

use std::collections::BTreeSet;

use super::*;
use crate::encode::Runtime;
use crate::speech::{Sherpa, Transcriber, VoiceDetector, WINDOW_SAMPLES};

/// White noise in consecutive parts, each with a level and a duration in seconds.
fn noise(parts: &[(f32, f32)]) -> Vec<f32> {
    let mut state = 7u32;
    let mut samples = Vec::new();
    for (level, seconds) in parts {
        samples.extend((0..(seconds * 16_000.0).round() as usize).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            level * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        }));
    }
    samples
}

const QUIET: f32 = 0.01;
const LOUDER: f32 = 0.1;
const LOUDEST: f32 = 1.0;

fn transcribe(engine: &mut Sherpa, samples: &[f32], length: usize) -> Vec<WordHypothesis> {
    engine.begin().unwrap();
    for block in samples.chunks(length) {
        engine.feed(block).unwrap();
    }
    engine.finish().unwrap()
}

#[test]
fn every_family_places_its_words_in_time() {
    // Two bursts of noise, at multiples of the frame lengths of all families.
    let starts = [0.48, 1.92];
    let bursts = |level| {
        noise(&[
            (0.0, 0.48),
            (level, 0.48),
            (0.0, 0.96),
            (level, 0.48),
            (0.0, 0.6),
        ])
    };
    for family in FAMILIES {
        let samples = bursts(if family == "paraformer" {
            LOUDEST
        } else {
            QUIET
        });
        let mut engine = Sherpa::open(&model(family)).unwrap();
        let hypotheses = transcribe(&mut engine, &samples, 512);
        println!("{family}: {hypotheses:?} {:?}", texts(&hypotheses));
        if family == "paraformer" {
            // Paraformer gives no token times: words are located to a chunk of 600 ms.
            assert!(
                !hypotheses.is_empty()
                    && hypotheses
                        .iter()
                        .all(|hypothesis| hypothesis.text == "loud"),
                "{:?}",
                texts(&hypotheses)
            );
            for hypothesis in &hypotheses {
                let middle = (hypothesis.samples.start + hypothesis.samples.end) as f32 / 32_000.0;
                assert!(
                    starts
                        .iter()
                        .any(|start| (start - 0.4..start + 0.9).contains(&middle)),
                    "{family}: a word at {middle} s"
                );
            }
            assert!(
                hypotheses
                    .iter()
                    .any(|hypothesis| hypothesis.samples.end < 24_000)
                    && hypotheses
                        .iter()
                        .any(|hypothesis| hypothesis.samples.start > 24_000),
                "{hypotheses:?}"
            );
        } else {
            let word = if family == "t-one-ctc" { "ss" } else { "so" };
            match family {
                // The letters have no space between the bursts: one word covers both bursts.
                "t-one-ctc" => {
                    assert_eq!(texts(&hypotheses), [word]);
                    let (start, end) = (
                        hypotheses[0].samples.start as f32 / 16e3,
                        hypotheses[0].samples.end as f32 / 16e3,
                    );
                    assert!(
                        (0.3..=0.48).contains(&start) && (1.92..=2.1).contains(&end),
                        "{start} to {end} s"
                    );
                }
                // The decoders of these families do not repeat the last token.
                "zipformer2-transducer" | "nemo-transducer" => {
                    assert_eq!(texts(&hypotheses), [word])
                }
                _ => assert_eq!(texts(&hypotheses), [word, word], "{family}"),
            }
            for (hypothesis, start) in hypotheses
                .iter()
                .zip(starts)
                .filter(|_| family != "t-one-ctc")
            {
                let start_seconds = hypothesis.samples.start as f32 / 16_000.0 + 0.12;
                assert!(
                    (start_seconds - start).abs() <= 0.081,
                    "{family}: spoken from {start} s on, placed at {start_seconds} s"
                );
            }
        }
        // The transducer's probabilities are a softmax over four logits: high, but below 1.
        let is_confident = |hypothesis: &WordHypothesis| {
            hypothesis
                .confidence
                .is_some_and(|confidence| (0.5..1.0).contains(&confidence))
        };
        assert!(
            hypotheses
                .iter()
                .all(|hypothesis| if family.ends_with("transducer") {
                    is_confident(hypothesis)
                } else {
                    hypothesis.confidence.is_none()
                }),
            "{family}: {hypotheses:?}"
        );
        // Earlier utterances and block lengths do not change the words.
        for length in [160, 700, samples.len()] {
            assert!(
                hypotheses == transcribe(&mut engine, &samples, length),
                "{family}: in blocks of {length}"
            );
        }
        assert!(
            transcribe(&mut engine, &noise(&[(0.0, 1.5)]), 512).is_empty(),
            "{family} has words in silence"
        );
        assert!(transcribe(&mut engine, &[], 512).is_empty());
    }
}

#[test]
fn tokens_are_joined_and_the_last_word_is_complete() {
    // The word "soft" in both kinds of zipformer, with no sound after it.
    let samples = noise(&[(0.0, 0.4), (QUIET, 0.32), (LOUDER, 0.32)]);
    for family in ["zipformer2-ctc", "zipformer2-transducer"] {
        let mut engine = Sherpa::open(&model(family)).unwrap();
        engine.begin().unwrap();
        assert!(engine.partial().unwrap().is_empty());
        engine.feed(&samples).unwrap();
        let partial = engine.partial().unwrap();
        let hypotheses = engine.finish().unwrap();
        assert_eq!(
            texts(&hypotheses),
            ["soft"],
            "an all-capital vocabulary is lowercased"
        );
        assert!(
            partial.len() <= 1 && hypotheses[0].samples.end <= samples.len(),
            "{hypotheses:?}"
        );
        assert!(
            (3_500..=6_400).contains(&hypotheses[0].samples.start),
            "{hypotheses:?}"
        );
        assert!(engine.finish().unwrap().is_empty(), "no utterance is open");
    }
}

#[test]
fn a_refusal_by_the_library_is_an_error() {
    let folder = copy("nemo-ctc");
    let path = folder.path().join("model.onnx");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(10)
        .position(|window| window == b"LogSoftmax")
        .unwrap();
    bytes[at..at + 10].copy_from_slice(b"LogSoftmix");
    fs::write(&path, bytes).unwrap();
    let message = Sherpa::open(folder.path()).err().unwrap().to_string();
    assert!(
        message.contains("sherpa-onnx cannot load it") && message.contains("[speech] transcriber"),
        "{message}"
    );
    assert!(
        Sherpa::open(Path::new("nowhere"))
            .err()
            .unwrap()
            .to_string()
            .contains("no such folder")
    );
}

fn probabilities(detector: &mut VoiceDetector, samples: &[f32]) -> Vec<f32> {
    detector.reset();
    samples
        .as_chunks::<WINDOW_SAMPLES>()
        .0
        .iter()
        .map(|window| detector.probability(window).unwrap())
        .collect()
}

#[test]
fn both_onnx_runtimes_compute_correctly_in_one_process() {
    let bytes = fs::read(project("tests/golden/silero_vad.s16le")).unwrap();
    let speech: Vec<f32> = bytes
        .chunks_exact(2)
        .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
        .collect();
    let golden: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(project("tests/golden/silero_vad.json")).unwrap())
            .unwrap();
    let golden: Vec<f32> = golden["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_f64().unwrap() as f32)
        .collect();

    let runtime = Runtime::load().unwrap();
    let mut detector = VoiceDetector::load(&runtime).unwrap();
    let alone = probabilities(&mut detector, &speech);
    let worst = alone
        .iter()
        .zip(&golden)
        .map(|(found, expected)| (found - expected).abs())
        .fold(0.0, f32::max);
    assert!(worst < 1e-4, "off by {worst}");

    let samples = noise(&[(0.0, 0.4), (QUIET, 0.32), (LOUDER, 0.32), (0.0, 0.6)]);
    let mut first = Sherpa::open(&model("zipformer2-transducer")).unwrap();
    let expected = transcribe(&mut first, &samples, 512);
    assert_eq!(texts(&expected), ["soft"]);
    assert!(
        probabilities(&mut detector, &speech) == alone,
        "after the other runtime was opened"
    );
    // Concurrently, models of one runtime are opened and closed between runs of the other.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            for _ in 0..20 {
                let mut engine = Sherpa::open(&model("zipformer2-transducer")).unwrap();
                assert!(
                    transcribe(&mut engine, &samples, 512) == expected
                        && transcribe(&mut first, &samples, 512) == expected
                );
            }
        });
        let mut rounds = 0;
        while !other.is_finished() || rounds < 3 {
            assert!(probabilities(&mut detector, &speech) == alone);
            rounds += 1;
        }
        other.join().unwrap();
    });
    let mut fresh = VoiceDetector::load(&runtime).unwrap();
    assert!(probabilities(&mut fresh, &speech) == alone);

    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains("/libonnxruntime.so"))
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
}
