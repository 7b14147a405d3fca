//! The stage with a transcriber that is written down; [`real`]: PocketSphinx on noises and on people.

// One stretch of speech is a list of one range.
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::clip::{AudioBlock, Transcript, VadBlock, VoiceActivity, samples_to_nanos};
use crate::speech::{TurnRule, Turns};
use crate::time::{MediaTime, Span};
use proptest::prelude::*;

#[cfg(feature = "capture")]
mod real;

const MS: i64 = 1_000_000;

/// Believes to hear a word in every 400 ms, named by the first sample of it that it was given.
#[derive(Default)]
struct Parrot {
    heard: Vec<f32>,
    confidence: f32,
    /// Utterances begun less ended.
    open: i32,
}

const WORD_SAMPLES: usize = 6400;

impl Parrot {
    fn guesses(&self, confidence: Option<f32>) -> Vec<Guess> {
        let place = |i: usize| Guess {
            text: format!("w{}", self.heard[i * WORD_SAMPLES]),
            samples: i * WORD_SAMPLES..(i + 1) * WORD_SAMPLES,
            confidence,
        };
        (0..self.heard.len() / WORD_SAMPLES).map(place).collect()
    }
}

impl Transcriber for Parrot {
    fn begin(&mut self) -> Result<(), TranscribeError> {
        self.heard.clear();
        self.open += 1;
        assert_eq!(self.open, 1);
        Ok(())
    }
    fn feed(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
        assert_eq!(self.open, 1, "sound belongs to an utterance");
        self.heard.extend_from_slice(samples);
        Ok(())
    }
    fn partial(&mut self) -> Result<Vec<Guess>, TranscribeError> {
        Ok(self.guesses(None))
    }
    fn finish(&mut self) -> Result<Vec<Guess>, TranscribeError> {
        self.open -= 1;
        Ok(self.guesses(Some(self.confidence)))
    }
}

/// A recording whose samples count up, so that each says where it is from; speech where `speech` says (milliseconds), nothing in the `gaps`.
fn recording(
    speech: &[std::ops::Range<i64>],
    gap: Option<std::ops::Range<i64>>,
    millis: i64,
    probability: f32,
    lengths: &[usize],
) -> Vec<VadBlock> {
    let rate = 16;
    let (mut turns, mut heard) = (Turns::new(TurnRule::default()), Vec::new());
    let mut lengths = lengths.iter().cycle();
    let at = |sample: i64| MediaTime::from_nanos(samples_to_nanos(sample));
    let mut judge = |first: i64, last: i64| {
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
    let stretches = match gap {
        Some(gap) => vec![0..gap.start, gap.end..millis],
        None => vec![0..millis],
    };
    for stretch in stretches {
        let (mut sample, last) = (stretch.start * rate, stretch.end * rate);
        let mut judged = sample;
        while sample < last {
            let end = (sample + *lengths.next().unwrap() as i64).min(last);
            let mut activity: Vec<VoiceActivity> = carried.take().into_iter().collect();
            while judged + 512 <= end {
                activity.push(judge(judged, judged + 512));
                judged += 512;
            }
            heard.push(VadBlock {
                block: AudioBlock {
                    time: at(sample),
                    samples: (sample..end).map(|i| i as f32).collect(),
                },
                activity,
            });
            sample = end;
        }
        if judged < last {
            carried = Some(judge(judged, last));
        }
    }
    if let Some(activity) = carried {
        heard.push(VadBlock {
            block: AudioBlock {
                time: at(millis * rate),
                samples: [].into(),
            },
            activity: vec![activity],
        });
    }
    heard
}

fn transcribe(rule: WordRule, confidence: f32, recording: &[VadBlock]) -> Vec<Transcript> {
    let mut stage = TranscribeStage::new(
        Box::new(Parrot {
            confidence,
            ..Parrot::default()
        }),
        rule,
    );
    let mut told = Vec::new();
    for heard in recording {
        told.extend(stage.push(heard).unwrap());
        assert!(stage.known_until().unwrap() >= heard.block.time);
    }
    told.extend(stage.finish().unwrap());
    told
}

fn finals(told: &[Transcript]) -> Vec<&Transcript> {
    told.iter().filter(|t| t.is_final).collect()
}

fn millis(span: Span) -> (i64, i64) {
    (span.start.nanos() / MS, span.end.nanos() / MS)
}

#[test]
fn a_turn_is_an_utterance_with_a_lead_and_its_words_are_where_they_were_spoken() {
    let told = transcribe(
        WordRule::default(),
        0.9,
        &recording(&[1000..3000], None, 5000, 0.95, &[160]),
    );
    let last = finals(&told);
    assert_eq!(last.len(), 1, "{told:?}");
    // The turn begins at 992 ms, its sound with the window that ends after 742 ms.
    let first = &last[0].words[0];
    assert_eq!(
        millis(first.span),
        (1136, 1536),
        "the word before it, from 736 ms on, is mostly silence"
    );
    for word in &last[0].words {
        // A word is named by the sample that it begins with.
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
        "told when the turn was over: {told:?}"
    );
    let partials: Vec<_> = told
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
fn silence_blips_and_doubtful_noises_have_no_words() {
    for (speech, probability, confidence) in [
        (vec![], 0.95, 0.9),
        (vec![1000..1060, 2000..2060], 0.95, 0.9),
        // Voice activity half believes in it; the transcriber does not believe itself.
        (vec![1000..3000], 0.6, 0.9),
        (vec![1000..3000], 0.95, 0.05),
    ] {
        let told = transcribe(
            WordRule::default(),
            confidence,
            &recording(&speech, None, 5000, probability, &[160]),
        );
        assert!(
            finals(&told).iter().all(|t| t.words.is_empty()),
            "{speech:?} {probability} {confidence}: {told:?}"
        );
        // What a partial said too early is taken back.
        assert_eq!(told.iter().any(|t| !t.is_final), !finals(&told).is_empty());
    }
}

#[test]
fn words_do_not_straddle_a_gap_and_long_turns_are_cut() {
    let told = transcribe(
        WordRule::default(),
        0.9,
        &recording(&[500..4000], Some(2000..2200), 5000, 0.95, &[160]),
    );
    let spans: Vec<_> = finals(&told).iter().map(|t| millis(t.span)).collect();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(spans[0].1 <= 2000 && spans[1].0 >= 2200, "{spans:?}");

    let told = transcribe(
        WordRule::default(),
        0.9,
        &recording(&[0..40_000], None, 41_000, 0.95, &[512]),
    );
    let last = finals(&told);
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
fn the_rest_of_a_turn_of_which_sound_was_lost_is_skipped() {
    let recording = recording(&[1000..4000, 5000..7000], None, 8000, 0.95, &[160]);
    let mut stage = TranscribeStage::new(
        Box::new(Parrot {
            confidence: 0.9,
            ..Parrot::default()
        }),
        WordRule::default(),
    );
    // A tenth of a second is lost 1.5 s into the first turn.
    for heard in &recording[..250] {
        assert!(
            stage
                .hear(heard)
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
    assert!(stage.interrupt().unwrap().is_empty(), "it is over already");
    let (mut skipped, mut rest) = (0, Vec::new());
    for heard in &recording[260..] {
        rest.extend(stage.push(heard).unwrap());
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
fn when_the_sound_is_lost_its_last_words_are_told_at_once() {
    // Three seconds are missing in the middle of a turn.
    let recording = recording(&[1000..9000], Some(3000..6000), 9000, 0.95, &[160]);
    let (before, after) = recording.split_at(300);
    let mut stage = TranscribeStage::new(
        Box::new(Parrot {
            confidence: 0.9,
            ..Parrot::default()
        }),
        WordRule::default(),
    );
    for heard in before {
        assert!(
            stage
                .hear(heard)
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
    // With the first sound that comes again the verdict on the last before comes: no utterance is begun for that.
    let mut told = stage.push(&after[0]).unwrap();
    assert!(
        after[0]
            .activity
            .iter()
            .any(|activity| activity.turn.is_some())
            && stage.is_skipping()
            && told.is_empty()
    );
    for heard in &after[1..] {
        told.extend(stage.push(heard).unwrap());
    }
    told.extend(stage.finish().unwrap());
    let last = finals(&told);
    assert!(
        last.len() == 1 && millis(last[0].span).0 >= 6000 && last[0].words.len() >= 4,
        "{told:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is told depends on the sound alone; it is in order, inside of the recording, after it was spoken, and never where nobody spoke.
    #[test]
    fn what_is_told_depends_on_the_sound_alone(
        starts in prop::collection::vec((0i64..1500, 40i64..2500), 0..4), gap in prop::option::of((300i64..3000, 30i64..600)), millis in 200i64..6000,
        lengths in prop::collection::vec(1usize..3000, 1..5), other in prop::collection::vec(1usize..3000, 1..5), confidence in 0.0f32..1.0,
    ) {
        let mut at = 0;
        let speech: Vec<_> = starts.iter().map(|(pause, length)| { let start = at + pause; at = start + length; start..at }).collect();
        let gap = gap.map(|(start, length)| start..start + length).filter(|gap| gap.end < millis);
        let told = transcribe(WordRule::default(), confidence, &recording(&speech, gap.clone(), millis, 0.95, &lengths));
        prop_assert!(told == transcribe(WordRule::default(), confidence, &recording(&speech, gap.clone(), millis, 0.95, &other)), "blocks' lengths count");
        prop_assert!(told.is_sorted_by_key(|t| t.known_at));
        let mut end = MediaTime::ZERO;
        for transcript in finals(&told) {
            for word in &transcript.words {
                prop_assert!(end <= word.span.start && word.span.start < word.span.end && word.span.end.nanos() <= millis * MS);
                end = word.span.end;
                let spoken: i64 = speech.iter().filter_map(|s| word.span.intersection(&Span::new(MediaTime::from_millis(s.start), MediaTime::from_millis(s.end)))).map(|s| s.nanos()).sum();
                // Windows of 32 ms are speech or not by their middles, and both ends of a word may lie in one.
                prop_assert!(2 * spoken >= word.span.nanos() - 4 * 32 * MS, "{:?}", word.span);
                if let Some(gap) = &gap {
                    prop_assert!(word.span.end.nanos() <= gap.start * MS || word.span.start.nanos() >= gap.end * MS || confidence < 0.1);
                }
                prop_assert!(word.span.end <= transcript.known_at);
            }
        }
    }
}
