//! Tests of the stage with a fake transcriber; [`real`] tests PocketSphinx on noises and recorded
//! speech.

// A single interval of speech is a list of one range.
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::clip::{AudioBlock, Transcript, VadBlock, VoiceActivity, samples_to_nanos};
use crate::speech::{TurnRule, Turns};
use crate::time::{MediaTime, Span};
use proptest::prelude::*;

#[cfg(feature = "capture")]
mod real;

const MS: i64 = 1_000_000;

/// Recognises a word in every 400 ms. The text of a word is the value of its first sample.
#[derive(Default)]
struct FakeTranscriber {
    samples: Vec<f32>,
    confidence: f32,
    /// Number of open utterances.
    open: i32,
}

/// Number of samples in a recognised word: 400 ms.
const WORD_SAMPLES: usize = 6400;

impl FakeTranscriber {
    fn hypotheses(&self, confidence: Option<f32>) -> Vec<WordHypothesis> {
        let place = |i: usize| WordHypothesis {
            text: format!("w{}", self.samples[i * WORD_SAMPLES]),
            samples: i * WORD_SAMPLES..(i + 1) * WORD_SAMPLES,
            confidence,
        };
        (0..self.samples.len() / WORD_SAMPLES).map(place).collect()
    }
}

impl Transcriber for FakeTranscriber {
    fn begin(&mut self) -> Result<(), TranscribeError> {
        self.samples.clear();
        self.open += 1;
        assert_eq!(self.open, 1);
        Ok(())
    }
    fn feed(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        assert_eq!(self.open, 1, "samples come only inside an utterance");
        self.samples.extend_from_slice(samples);
        Ok(())
    }
    fn partial(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        Ok(self.hypotheses(None))
    }
    fn finish(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
        self.open -= 1;
        Ok(self.hypotheses(Some(self.confidence)))
    }
}

/// A recording of `millis` milliseconds with ascending samples, so that each value is its own
/// position. `speech` and `gap` are in milliseconds; nothing is captured in the gap. `probability`:
/// of speech, in speech windows; `lengths`: samples of the blocks, repeated cyclically.
fn recording(
    speech: &[std::ops::Range<i64>],
    gap: Option<std::ops::Range<i64>>,
    millis: i64,
    probability: f32,
    lengths: &[usize],
) -> Vec<VadBlock> {
    let rate = 16;
    let (mut turns, mut output) = (Turns::new(TurnRule::default()), Vec::new());
    let mut lengths = lengths.iter().cycle();
    let at = |sample: i64| MediaTime::from_nanos(samples_to_nanos(sample));
    let mut classify = |first: i64, last: i64| {
        let span = Span::new(at(first), at(last));
        let is_speech = speech
            .iter()
            .any(|s| s.contains(&((first + last) / 2 / rate)));
        let probability = if is_speech { probability } else { 0.01 };
        let (speech, turn) = turns.update(span, probability);
        VoiceActivity {
            span,
            probability,
            speech,
            turn,
        }
    };
    let mut carried = None;
    let intervals = match gap {
        Some(gap) => vec![0..gap.start, gap.end..millis],
        None => vec![0..millis],
    };
    for interval in intervals {
        let (mut sample, last) = (interval.start * rate, interval.end * rate);
        let mut classified = sample;
        while sample < last {
            let end = (sample + *lengths.next().unwrap() as i64).min(last);
            let mut activity: Vec<VoiceActivity> = carried.take().into_iter().collect();
            while classified + 512 <= end {
                activity.push(classify(classified, classified + 512));
                classified += 512;
            }
            output.push(VadBlock {
                block: AudioBlock {
                    time: at(sample),
                    samples: (sample..end).map(|i| i as f32).collect(),
                },
                activity,
            });
            sample = end;
        }
        if classified < last {
            carried = Some(classify(classified, last));
        }
    }
    if let Some(activity) = carried {
        output.push(VadBlock {
            block: AudioBlock {
                time: at(millis * rate),
                samples: [].into(),
            },
            activity: vec![activity],
        });
    }
    output
}

fn transcribe(rule: WordRule, confidence: f32, recording: &[VadBlock]) -> Vec<Transcript> {
    let mut stage = TranscribeStage::new(
        Box::new(FakeTranscriber {
            confidence,
            ..FakeTranscriber::default()
        }),
        rule,
    );
    let mut output = Vec::new();
    for block in recording {
        output.extend(stage.push(block).unwrap());
        assert!(stage.known_until().unwrap() >= block.block.time);
    }
    output.extend(stage.finish().unwrap());
    output
}

fn finals(transcripts: &[Transcript]) -> Vec<&Transcript> {
    transcripts.iter().filter(|t| t.is_final).collect()
}

fn millis(span: Span) -> (i64, i64) {
    (span.start.nanos() / MS, span.end.nanos() / MS)
}

#[test]
fn an_utterance_is_a_turn_with_a_lead_and_its_words_keep_their_times() {
    let output = transcribe(
        WordRule::default(),
        0.9,
        &recording(&[1000..3000], None, 5000, 0.95, &[160]),
    );
    let last = finals(&output);
    assert_eq!(last.len(), 1, "{output:?}");
    // The turn begins at 992 ms, its utterance with the window that ends after 742 ms.
    let first = &last[0].words[0];
    assert_eq!(
        millis(first.span),
        (1136, 1536),
        "the previous word, from 736 ms on, is mostly silence"
    );
    for word in &last[0].words {
        // The text of a word is the value of its first sample.
        assert_eq!(
            word.text,
            format!("w{}", word.span.start.nanos() / samples_to_nanos(1))
        );
        assert_eq!(word.confidence, Some(0.9));
    }
    assert_eq!(
        last[0].span,
        Span::new(first.span.start, last[0].words.last().unwrap().span.end)
    );
    assert!(
        (3000..3400).contains(&(last[0].known_at.nanos() / MS)),
        "the final comes at the end of the turn: {output:?}"
    );
    let partials: Vec<_> = output
        .iter()
        .filter(|t| !t.is_final)
        .map(|t| (t.known_at.nanos() / MS, t.words.len()))
        .collect();
    assert!(
        partials.len() >= 2
            && partials.is_sorted()
            && partials.windows(2).all(|p| p[1].0 - p[0].0 >= 600),
        "{partials:?}"
    );
}

#[test]
fn silence_short_bursts_and_uncertain_noises_have_no_words() {
    for (speech, probability, confidence) in [
        (vec![], 0.95, 0.9),
        (vec![1000..1060, 2000..2060], 0.95, 0.9),
        // Low probability of speech, then low posteriors.
        (vec![1000..3000], 0.6, 0.9),
        (vec![1000..3000], 0.95, 0.05),
    ] {
        let output = transcribe(
            WordRule::default(),
            confidence,
            &recording(&speech, None, 5000, probability, &[160]),
        );
        assert!(
            finals(&output).iter().all(|t| t.words.is_empty()),
            "{speech:?} {probability} {confidence}: {output:?}"
        );
        // An empty final supersedes the partial.
        assert_eq!(
            output.iter().any(|t| !t.is_final),
            !finals(&output).is_empty()
        );
    }
}

#[test]
fn words_do_not_straddle_a_gap_and_long_turns_are_cut() {
    let output = transcribe(
        WordRule::default(),
        0.9,
        &recording(&[500..4000], Some(2000..2200), 5000, 0.95, &[160]),
    );
    let spans: Vec<_> = finals(&output).iter().map(|t| millis(t.span)).collect();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(spans[0].1 <= 2000 && spans[1].0 >= 2200, "{spans:?}");

    let output = transcribe(
        WordRule::default(),
        0.9,
        &recording(&[0..40_000], None, 41_000, 0.95, &[512]),
    );
    let last = finals(&output);
    assert_eq!(last.len(), 3, "18 s each");
    assert!(
        last.windows(2)
            .all(|pair| pair[0].span.end <= pair[1].span.start)
    );
    let words: usize = last.iter().map(|t| t.words.len()).sum();
    assert!(
        (96..=100).contains(&words),
        "{words} words of 400 ms in 40 s"
    );
}

#[test]
fn the_rest_of_a_turn_is_skipped_after_lost_audio() {
    let recording = recording(&[1000..4000, 5000..7000], None, 8000, 0.95, &[160]);
    let mut stage = TranscribeStage::new(
        Box::new(FakeTranscriber {
            confidence: 0.9,
            ..FakeTranscriber::default()
        }),
        WordRule::default(),
    );
    // 0.1 s is lost, 1.5 s after the start of the first turn.
    for block in &recording[..250] {
        assert!(
            stage
                .push(block)
                .unwrap()
                .iter()
                .all(|transcript| !transcript.is_final)
        );
    }
    let end = stage.interrupt().unwrap();
    assert!(
        end.len() == 1 && end[0].is_final && millis(end[0].span).1 <= 2500,
        "{end:?}"
    );
    assert!(
        stage.interrupt().unwrap().is_empty(),
        "the utterance has ended"
    );
    let (mut skipped, mut rest) = (0, Vec::new());
    for block in &recording[260..] {
        rest.extend(stage.push(block).unwrap());
        skipped += usize::from(stage.is_skipping());
    }
    // The turn ends 300 ms after its last speech.
    assert!((160..180).contains(&skipped), "{skipped} blocks of 10 ms");
    let last = finals(&rest);
    assert!(
        last.len() == 1 && millis(last[0].span).0 >= 4900 && last[0].words.len() >= 4,
        "{rest:?}"
    );
    assert!(
        rest.iter()
            .all(|transcript| millis(transcript.span).0 >= 4900),
        "{rest:?}"
    );
}

#[test]
fn lost_audio_ends_the_utterance_at_once() {
    // Three seconds are missing in the middle of a turn.
    let recording = recording(&[1000..9000], Some(3000..6000), 9000, 0.95, &[160]);
    let (before, after) = recording.split_at(300);
    let mut stage = TranscribeStage::new(
        Box::new(FakeTranscriber {
            confidence: 0.9,
            ..FakeTranscriber::default()
        }),
        WordRule::default(),
    );
    for block in before {
        assert!(
            stage
                .push(block)
                .unwrap()
                .iter()
                .all(|transcript| !transcript.is_final)
        );
    }
    let end = stage.interrupt().unwrap();
    assert!(
        end.len() == 1 && end[0].is_final && end[0].words.len() >= 3,
        "{end:?}"
    );
    assert!(
        (3000..3050).contains(&(end[0].known_at.nanos() / MS)) && millis(end[0].span).1 <= 3000,
        "{end:?}"
    );
    // The first block after the loss carries the last window before the loss, which starts no
    // utterance.
    let mut output = stage.push(&after[0]).unwrap();
    assert!(
        after[0]
            .activity
            .iter()
            .any(|activity| activity.turn.is_some())
            && stage.is_skipping()
            && output.is_empty()
    );
    for block in &after[1..] {
        output.extend(stage.push(block).unwrap());
    }
    output.extend(stage.finish().unwrap());
    let last = finals(&output);
    assert!(
        last.len() == 1 && millis(last[0].span).0 >= 6000 && last[0].words.len() >= 4,
        "{output:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Transcripts do not depend on the block lengths. They are in order, inside the recording and
    /// inside speech, and known only after their words.
    #[test]
    fn transcripts_depend_on_the_audio_alone(
        starts in prop::collection::vec((0i64..1500, 40i64..2500), 0..4),
        gap in prop::option::of((300i64..3000, 30i64..600)),
        millis in 200i64..6000,
        lengths in prop::collection::vec(1usize..3000, 1..5),
        other in prop::collection::vec(1usize..3000, 1..5),
        confidence in 0.0f32..1.0,
    ) {
        let mut at = 0;
        let next = |(pause, length): &(i64, i64)| {
            let start = at + pause;
            at = start + length;
            start..at
        };
        let speech: Vec<_> = starts.iter().map(next).collect();
        let gap = gap
            .map(|(start, length)| start..start + length)
            .filter(|gap| gap.end < millis);
        let with_blocks = |lengths: &[usize]| {
            let recording = recording(&speech, gap.clone(), millis, 0.95, lengths);
            transcribe(WordRule::default(), confidence, &recording)
        };
        let output = with_blocks(&lengths);
        prop_assert!(output == with_blocks(&other), "the output depends on the block lengths");
        prop_assert!(output.is_sorted_by_key(|t| t.known_at));
        let mut end = MediaTime::ZERO;
        for transcript in finals(&output) {
            for word in &transcript.words {
                let span = word.span;
                prop_assert!(end <= span.start && span.start < span.end);
                prop_assert!(span.end.nanos() <= millis * MS);
                end = span.end;
                let overlap = |s: &std::ops::Range<i64>| {
                    let (start, end) = (s.start, s.end);
                    span.intersection(&Span::new(
                        MediaTime::from_millis(start),
                        MediaTime::from_millis(end),
                    ))
                };
                let spoken: i64 = speech.iter().filter_map(overlap).map(|s| s.nanos()).sum();
                // The middle of a 32 ms window decides whether it is speech, and both ends of a
                // word may lie in such a window.
                prop_assert!(2 * spoken >= span.nanos() - 4 * 32 * MS, "{span:?}");
                if let Some(gap) = &gap {
                    let before = span.end.nanos() <= gap.start * MS;
                    let after = span.start.nanos() >= gap.end * MS;
                    prop_assert!(before || after || confidence < 0.1);
                }
                prop_assert!(word.span.end <= transcript.known_at);
            }
        }
    }
}
