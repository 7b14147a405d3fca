//! Tests of the voice detector against its Python package, and of the speech stage on blocks and
//! gaps.

use std::sync::Arc;

use super::*;
use crate::clip::{AudioBlock, SAMPLE_RATE_HZ, VadBlock, VoiceActivity, samples_to_nanos};
use crate::encode::Runtime;
use crate::time::MediaTime;

fn detector() -> VoiceDetector {
    VoiceDetector::load(&Runtime::load().unwrap()).unwrap()
}

/// Two sentences by espeak-ng, made by `tests/golden/make_silero_golden.py`.
fn sentences() -> Vec<f32> {
    let bytes = std::fs::read(crate::testing::project("tests/golden/silero_vad.s16le")).unwrap();
    bytes
        .chunks_exact(2)
        .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
        .collect()
}

fn block(first_sample: i64, samples: &[f32]) -> AudioBlock {
    AudioBlock {
        time: MediaTime::from_nanos(samples_to_nanos(first_sample)),
        samples: samples.into(),
    }
}

/// Voice activity of all `samples`, in blocks of the given lengths, repeated cyclically.
fn detect(samples: &[f32], lengths: &[usize]) -> Vec<VoiceActivity> {
    let mut stage = SpeechStage::new(TurnRule::default(), detector());
    let (mut activity, mut at, mut lengths) = (Vec::new(), 0, lengths.iter().cycle());
    while at < samples.len() {
        let end = (at + lengths.next().unwrap()).min(samples.len());
        activity.extend(
            stage
                .push(block(at as i64, &samples[at..end]))
                .unwrap()
                .activity,
        );
        at = end;
    }
    activity.extend(stage.finish().unwrap().into_iter().flat_map(|h| h.activity));
    activity
}

/// Start and end of each turn in milliseconds. The end is that of the turn's last speech window.
fn turns(activity: &[VoiceActivity]) -> Vec<(i64, i64)> {
    let mut turns: Vec<(i64, i64)> = Vec::new();
    for a in activity {
        let Some(start) = a.turn.map(|t| t.nanos() / 1_000_000) else {
            continue;
        };
        if turns.last().is_none_or(|t| t.0 != start) {
            turns.push((start, start));
        }
        if a.speech {
            turns.last_mut().unwrap().1 = a.span.end.nanos() / 1_000_000;
        }
    }
    turns
}

#[test]
fn probabilities_equal_those_of_the_python_package() {
    let golden: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(crate::testing::project("tests/golden/silero_vad.json")).unwrap(),
    )
    .unwrap();
    let expected: Vec<f64> = golden["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_f64().unwrap())
        .collect();
    let activity = detect(&sentences(), &[160]);
    assert_eq!(activity.len(), expected.len());
    let worst = activity
        .iter()
        .zip(&expected)
        .map(|(a, e)| (f64::from(a.probability) - e).abs())
        .fold(0.0, f64::max);
    assert!(worst < 1e-4, "off by {worst}");
    assert_eq!(
        activity.last().unwrap().span.end,
        MediaTime::from_nanos(samples_to_nanos(sentences().len() as i64)),
        "the incomplete last window is classified up to its end"
    );
}

#[test]
fn two_sentences_are_two_turns() {
    // The recording has 250 ms of silence, a sentence, 500 ms of silence, a sentence, and 381 ms of
    // silence. espeak-ng adds silence at the ends of each sentence.
    let turns = turns(&detect(&sentences(), &[480]));
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert!(
        (250..400).contains(&turns[0].0) && (1900..2150).contains(&turns[0].1),
        "{turns:?}"
    );
    assert!(
        (2700..3000).contains(&turns[1].0) && (4300..4720).contains(&turns[1].1),
        "{turns:?}"
    );
}

#[test]
fn activity_does_not_depend_on_the_block_lengths() {
    let samples = sentences();
    let once = detect(&samples, &[160]);
    for lengths in [&[1024][..], &[1, 511, 512, 513, 7, 4000], &[samples.len()]] {
        assert_eq!(detect(&samples, lengths), once, "{lengths:?}");
    }
}

#[test]
fn silence_noise_and_tones_are_no_speech() {
    let rate = SAMPLE_RATE_HZ as f32;
    let mut seed = 1u32;
    let mut noise = |level: f32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        level * ((seed >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    let mut signals: Vec<(String, Vec<f32>)> = vec![("silence".into(), vec![0.0; 48_000])];
    for level in [0.001, 0.03, 0.3] {
        signals.push((
            format!("noise {level}"),
            (0..48_000).map(|_| noise(level)).collect(),
        ));
    }
    for hz in [50.0, 440.0, 1000.0, 3000.0] {
        signals.push((
            format!("{hz} Hz"),
            (0..48_000)
                .map(|i| 0.3 * (std::f32::consts::TAU * hz * i as f32 / rate).sin())
                .collect(),
        ));
    }
    for (name, samples) in signals {
        let turns = turns(&detect(&samples, &[160]));
        assert!(turns.is_empty(), "{name}: {turns:?}");
    }
}

#[test]
fn no_window_straddles_a_gap_and_the_detector_is_reset_after_it() {
    let samples = sentences();
    let rate = i64::from(SAMPLE_RATE_HZ);
    let (first, second) = (&samples[..16_100], &samples[..40_000]);
    let mut stage = SpeechStage::new(TurnRule::default(), detector());
    let mut blocks: Vec<VadBlock> = vec![stage.push(block(0, first)).unwrap()];
    blocks.push(stage.push(block(2 * rate, second)).unwrap());
    let activity: Vec<_> = blocks.iter().flat_map(|h| h.activity.clone()).collect();
    let (gap_start, gap_end) = (
        MediaTime::from_nanos(samples_to_nanos(16_100)),
        MediaTime::from_millis(2000),
    );
    assert!(
        activity
            .iter()
            .all(|a| a.span.end <= gap_start || a.span.start >= gap_end)
    );
    assert_eq!(
        activity.iter().filter(|a| a.span.end <= gap_start).count(),
        32,
        "31 whole windows and the rest"
    );
    let after_gap: Vec<_> = activity
        .iter()
        .filter(|a| a.span.start >= gap_end)
        .map(|a| a.probability)
        .collect();
    let alone: Vec<_> = detect(second, &[40_000])
        .iter()
        .take(after_gap.len())
        .map(|a| a.probability)
        .collect();
    assert_eq!(after_gap, alone);
    assert_eq!(
        turns(&activity)[0].0,
        turns(&activity)[1].0 - 2000,
        "the gap ends the turn, and the next one starts as in the first part"
    );
}

#[test]
fn slewed_stamps_are_followed_and_stamps_that_go_back_are_refused() {
    let samples = sentences();
    let mut stage = SpeechStage::new(TurnRule::default(), detector());
    let mut activity = Vec::new();
    for (i, chunk) in samples.chunks(160).enumerate() {
        // The device clock is 500 ppm fast, with half a millisecond of jitter.
        let nanos =
            samples_to_nanos(160 * i as i64) + i as i64 * 5_000 + (i as i64 % 3 - 1) * 500_000;
        let block = AudioBlock {
            time: MediaTime::from_nanos(nanos),
            samples: Arc::from(chunk),
        };
        activity.extend(stage.push(block).unwrap().activity);
    }
    let steady = detect(&samples, &[160]);
    assert!(
        activity
            .iter()
            .zip(&steady)
            .all(|(a, s)| a.probability == s.probability),
        "no sample is lost or repeated"
    );
    assert!(
        activity
            .windows(2)
            .all(|w| w[0].span.end <= w[1].span.start)
    );
    let drift = activity
        .last()
        .unwrap()
        .span
        .end
        .millis_since(steady[activity.len() - 1].span.end);
    assert!((1.5..3.5).contains(&drift), "{drift} ms");
    assert_eq!(stage.refused(), 0);
    assert!(
        stage
            .push(block(0, &samples[..1600]))
            .unwrap()
            .activity
            .is_empty()
    );
    assert_eq!(stage.refused(), 1);
}

#[test]
fn a_missing_graph_error_names_the_paths_and_the_remedy() {
    let error = SpeechError::NoGraph {
        looked_at: vec!["a/b.onnx".into(), "c.onnx".into()],
    };
    assert_eq!(
        error.to_string(),
        "the voice activity graph was not found; looked at a/b.onnx, c.onnx; \
         run `make setup`, or name it in $EXPRESSD_VAD"
    );
}

/// Tests on recorded voices, through the daemon's own decoder.
#[cfg(feature = "capture")]
mod real {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::capture::{Outputs, Pace, Recording, SourceHealth};
    use crate::lane::{Received, WhenFull, lane};

    /// Voice activity of a recording, and its length in milliseconds.
    fn detect_in(file: &Path, detector: VoiceDetector) -> (Vec<VoiceActivity>, i64) {
        let (sender, receiver) = lane("audio", 1 << 14, WhenFull::Block);
        let outputs = Outputs {
            frames: None,
            audio: Some(sender),
        };
        let played = Recording::open(file).unwrap().play(
            Pace::Offline,
            outputs,
            Arc::new(SourceHealth::default()),
            Arc::new(AtomicBool::new(false)),
        );
        let mut stage = SpeechStage::new(TurnRule::default(), detector);
        let mut activity = Vec::new();
        while let Received::Item(block) = receiver.recv(None) {
            activity.extend(stage.push(block).unwrap().activity);
        }
        activity.extend(stage.finish().unwrap().into_iter().flat_map(|h| h.activity));
        (activity, played.unwrap().end.nanos() / 1_000_000)
    }

    #[test]
    fn sentences_of_actors_are_detected() {
        let Some(folder) = crate::testing::material("speech/ravdess") else {
            return;
        };
        let (mut detected, mut count) = (0, 0);
        for actor in [1, 2, 9, 18, 21] {
            let folder = folder.join(format!("Actor_{actor:02}"));
            let mut files: Vec<_> = std::fs::read_dir(&folder)
                .unwrap()
                .map(|f| f.unwrap().path())
                .collect();
            files.sort();
            // One recording of each emotion and intensity.
            for file in files.iter().step_by(4) {
                let (activity, length) = detect_in(file, detector());
                let turns = turns(&activity);
                let speech: i64 = activity
                    .iter()
                    .filter(|a| a.speech && a.turn.is_some())
                    .map(|a| a.span.nanos())
                    .sum::<i64>()
                    / 1_000_000;
                assert!(
                    turns.iter().all(|t| 0 <= t.0 && t.0 < t.1 && t.1 <= length),
                    "{}: {turns:?} of {length}",
                    file.display()
                );
                // "Kids are talking by the door" takes a second or two.
                count += 1;
                detected +=
                    usize::from((1..=3).contains(&turns.len()) && (500..3000).contains(&speech));
            }
        }
        assert!(detected * 100 >= count * 97, "{detected} of {count}");
    }

    #[test]
    fn speech_agrees_with_the_forced_alignment() {
        let Some(folder) = crate::testing::material("av/grid_s1") else {
            return;
        };
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|f| f.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "align"))
            .collect();
        files.sort();
        let (mut right, mut words, mut silence, mut both) = (0i64, 0i64, 0i64, 0i64);
        for file in files.iter().step_by(4) {
            let (activity, _) = detect_in(&file.with_extension("mpg"), detector());
            let aligned: Vec<(i64, i64)> = std::fs::read_to_string(file)
                .unwrap()
                .lines()
                .filter_map(|line| {
                    let mut parts = line.split_whitespace();
                    let (start, end, word) = (
                        parts.next()?.parse::<i64>().ok()?,
                        parts.next()?.parse::<i64>().ok()?,
                        parts.next()?,
                    );
                    // The alignment counts 25,000 units per second.
                    (!["sil", "sp"].contains(&word)).then_some((start * 40_000, end * 40_000))
                })
                .collect();
            for a in &activity {
                let middle = (a.span.start.nanos() + a.span.end.nanos()) / 2;
                let word = aligned
                    .iter()
                    .any(|(start, end)| (*start..*end).contains(&middle));
                match (word, a.speech) {
                    (true, true) => right += 1,
                    (false, true) => both += 1,
                    _ => {}
                }
                *if word { &mut words } else { &mut silence } += 1;
            }
        }
        println!(
            "{right} of {words} windows in words are speech, {both} of {silence} outside of words"
        );
        assert!(
            right * 100 >= words * 85,
            "{right} of {words} windows in words are speech"
        );
        assert!(
            both * 100 <= silence * 25,
            "{both} of {silence} windows outside of words are speech"
        );
    }
}
