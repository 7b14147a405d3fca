use super::*;
use crate::clip::{Absence, Clip};
use crate::encode::{Provider, Runtime};
use crate::modality::Presence;
use crate::model::Bundle;
use crate::recognize::Recognizer;
use crate::recognize::tests::clip;
use crate::testing::project;

const BUDGET: Duration = Duration::from_millis(150);

fn bundle() -> Bundle {
    let runtime = Runtime::load().unwrap();
    Bundle::open(&runtime, &project("models/default"), Provider::Cpu, 1).unwrap()
}

/// A clip with a face, a voice and a text of `words` words. The same `first_id` gives the same
/// faces and words.
fn speaking(recognizer: &Recognizer, first_id: u64, words: usize) -> Clip {
    let all = Presence {
        face: true,
        voice: true,
        text: true,
    };
    let mut clip = clip(recognizer, all, first_id);
    let text: Vec<_> = (0..words)
        .map(|i| format!("word{}", first_id + i as u64))
        .collect();
    clip.text.as_mut().unwrap().text = text.join(" ");
    clip
}

#[test]
fn live_recognition_of_texts_in_time_equals_offline_recognition() {
    let mut offline = Recognizer::new(bundle());
    let mut live = Recognizer::live(bundle(), Duration::from_secs(400)).unwrap();
    for words in [3, 48] {
        let clip = speaking(&offline, 0, words);
        let expected = offline.recognize(&clip);
        assert!(expected.used.text && expected.used.face && expected.used.voice);
        assert_eq!(live.recognize(&clip), expected, "{words} words");
    }
}

#[test]
fn slow_texts_are_left_out_until_they_are_encoded() {
    let mut offline = Recognizer::new(bundle());
    let mut live = Recognizer::live(bundle(), BUDGET).unwrap();
    // Simulates a measured time of one second a token.
    live.text_thread.as_mut().unwrap().token_nanos = 1e9;
    let clip = speaking(&live, 0, 200);
    let without = live.recognize_within(&clip, 150_000_000);
    assert_eq!(without.absence.text, Some(Absence::Late));
    assert!(without.used.face && without.used.voice && !without.used.text);
    assert!(
        live.text_thread.as_ref().unwrap().pending.is_empty(),
        "words that change with each window are not encoded in vain"
    );
    // The next window holds the same text: it is encoded, and used when the embedding is ready.
    let expected = offline.recognize(&clip);
    let waits = crate::output::at_most(Duration::from_secs(60));
    let with = loop {
        let answer = live.recognize_within(&clip, 150_000_000);
        if answer.used.text {
            break answer;
        }
        assert_eq!(answer.absence.text, Some(Absence::Late));
        assert!(waits(), "the words are never used");
    };
    assert_eq!(with, expected);
}

#[test]
fn one_text_is_encoded_at_a_time() {
    let mut live = Recognizer::live(bundle(), BUDGET).unwrap();
    for i in 0..10 {
        let clip = speaking(&live, 1000 * i, 150);
        live.recognize_within(&clip, 150_000_000);
        assert!(live.text_thread.as_ref().unwrap().pending.len() <= 1);
    }
}

#[test]
fn an_estimate_that_is_too_high_decreases_until_texts_are_used() {
    let mut live = Recognizer::live(bundle(), BUDGET).unwrap();
    // Simulates a stall of the machine, which made the measured time per token far too long.
    live.text_thread.as_mut().unwrap().token_nanos = 1e8;
    let used = (0..1000).any(|i| {
        let mut clip = speaking(&live, 0, 1);
        clip.text.as_mut().unwrap().text = format!("word {i}");
        live.recognize_within(&clip, i64::MAX / 2).used.text
    });
    assert!(used);
}
