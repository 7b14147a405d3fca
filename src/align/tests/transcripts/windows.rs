//! Tests of the words in clips.

use proptest::prelude::*;

use super::*;
use crate::clip::Word;

#[test]
fn a_clip_has_the_words_of_its_window() {
    let people = [Person::new(1, 0..9000).talking(&[1000..2000])];
    let words = [
        transcript("one two", 1000, 1600, 2100, false),
        transcript("one too many", 1000, 2000, 2300, true),
    ]
    .map(by_a_client)
    .to_vec();
    let output = play_with_transcripts(
        settings(),
        frames(&people, 5000, 25),
        sound(&[1000..2000], &[], 5000, &[160]),
        words,
        &[],
    );
    assert_eq!(owners(&output), [Some(S1), Some(S1)]);
    // "one" is spoken from 1000 to 1300, "too" to 1600, "many" to 2000. The final supersedes the
    // partial.
    let texts = texts(&output, S1);
    assert_eq!(texts[..2], [(2200, "one two"), (2400, "one too many")]);
    assert_eq!(
        texts[4..],
        [
            (3000, "one too many"),
            (3200, "too many"),
            (3400, "too many"),
            (3600, "many"),
            (3800, "many")
        ]
    );
    let clip = clips_of(&output, S1)
        .into_iter()
        .find(|c| c.span.end == ms(2400))
        .unwrap();
    assert_eq!(clip.text.as_ref().unwrap().newest, ms(2000));
    assert!(
        clips_of(&output, S1)
            .iter()
            .filter(|c| c.span.end > ms(3800))
            .all(|c| c.text == Err(Absence::NoTranscript))
    );
}

#[test]
fn partials_of_the_daemon_are_evidence_only_with_confidences() {
    let people = || frames(&[Person::new(1, 0..9000).talking(&[1000..2000])], 5000, 25);
    let partial = transcript("one two", 1000, 1600, 2100, false);
    let mut scored = partial.clone();
    scored
        .words
        .iter_mut()
        .for_each(|word| word.confidence = Some(0.5));
    for (partial, before) in [(partial, None), (scored, Some((2200, "one two")))] {
        let words = vec![partial, transcript("one too many", 1000, 2000, 2300, true)];
        let output = play_with_transcripts(
            settings(),
            people(),
            sound(&[1000..2000], &[], 5000, &[160]),
            words,
            &[],
        );
        assert_eq!(
            owners(&output),
            [Some(S1), Some(S1)],
            "it is published in either case"
        );
        let texts = texts(&output, S1);
        assert_eq!(texts.iter().find(|(end, _)| *end < 2300).copied(), before);
        assert!(texts.contains(&(2400, "one too many")), "{texts:?}");
    }
}

#[test]
fn a_final_supersedes_a_partial_of_another_subject() {
    let people = [
        Person::new(1, 0..9000).talking(&[1000..2000]),
        Person::new(2, 0..9000),
    ];
    for (before, after) in [(None, Some(S1)), (Some(S2), Some(S1)), (Some(S1), None)] {
        let partial = by_a_client(Transcript {
            subject: before,
            ..transcript("one two", 1000, 1600, 2100, false)
        });
        let last = by_a_client(Transcript {
            subject: after,
            ..transcript("one too many", 1000, 2000, 2300, true)
        });
        let output = play_with_transcripts(
            settings(),
            frames(&people, 5000, 25),
            sound(&[1000..2000], &[], 5000, &[160]),
            vec![partial, last],
            &[],
        );
        assert!(
            texts(&output, S1).contains(&(2400, "one too many")),
            "{before:?} {after:?}: {output:?}"
        );
        assert!(
            texts(&output, S2).iter().all(|(end, _)| *end < 2300),
            "{before:?} {after:?}: {output:?}"
        );
    }
}

#[test]
fn off_camera_transcripts_cause_a_clip_of_the_voice() {
    let alone = AlignSettings {
        video: false,
        ..settings()
    };
    let output = play_with_transcripts(
        alone,
        Vec::new(),
        sound(&[500..1500], &[], 4100, &[333]),
        vec![transcript("hello there", 600, 1400, 1830, true)],
        &[],
    );
    assert_eq!(owners(&output), [Some(SubjectId::Voice)]);
    assert_eq!(
        texts(&output, SubjectId::Voice),
        [(2000, "hello there")],
        "the last clip from audio alone ended at 1600"
    );
    // Live, from a client, while neither camera nor microphone delivers data.
    let live = AlignSettings {
        lateness_nanos: Some(60 * MS),
        ..settings()
    };
    let mut aligner = Aligner::new(live);
    aligner.push(AlignInput::Transcript(Transcript {
        source: TranscriptSource::Client(1),
        ..transcript("hello there", 3_599_000, 3_600_000, 3_600_100, true)
    }));
    assert!(matches!(
        aligner.pop(ms(3_600_101)),
        Some(Aligned::Transcript(OwnedTranscript {
            owner: Some(SubjectId::Voice),
            ..
        }))
    ));
    assert_eq!(
        aligner.next_deadline(),
        Some(ms(3_600_260)),
        "the next boundary, not all boundaries of the past hour"
    );
    let output: Vec<_> = std::iter::from_fn(|| aligner.pop(ms(3_600_260))).collect();
    assert_eq!(
        texts(&output, SubjectId::Voice),
        [(3_600_200, "hello there")]
    );
    assert_eq!(aligner.next_deadline(), None, "nothing new to show");
}

#[test]
fn transcripts_from_before_a_loss_do_not_stay_pending() {
    // Words of the off-camera voice, spoken while a face was present. The transcript comes after
    // the loss of the face, in silence.
    let named = Transcript {
        subject: Some(SubjectId::Voice),
        ..transcript("hello there", 500, 900, 1500, true)
    };
    let output = play_with_transcripts(
        settings(),
        frames(&[Person::new(1, 0..1000)], 6000, 25),
        sound(&[], &[], 6000, &[160]),
        vec![named],
        &[],
    );
    assert_eq!(owners(&output), [Some(SubjectId::Voice)]);
    assert!(clips_of(&output, SubjectId::Voice).is_empty(), "{output:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A word is in exactly those clips of its owner that contain its middle, in order, for every
    /// interleaving.
    #[test]
    fn words_are_in_the_clips_of_their_time(
        steps in prop::collection::vec((0i64..900, 60i64..1500, 1usize..6, 0i64..900), 0..6),
        hop_ms in 90i64..500,
        appears in 0i64..1500,
        choices in prop::collection::vec(0u8..3, 300),
        others in prop::collection::vec(0u8..3, 300),
    ) {
        let settings = AlignSettings { hop_nanos: hop_ms * MS, ..settings() };
        let (mut at, mut number, mut words) = (0, 0, Vec::new());
        for (pause, length, count, late) in steps {
            let start = at + pause;
            at = start + length;
            let next = |_| {
                number += 1;
                format!("w{number}")
            };
            let text: Vec<String> = (0..count).map(next).collect();
            words.push(transcript(&text.join(" "), start, at, at + late, true));
        }
        // Transcripts arrive in order of `known_at`.
        words.sort_by_key(|t| t.known_at);
        let play = |choices: &[u8]| {
            play_with_transcripts(
                settings,
                frames(&[Person::new(1, appears..99_000)], 6000, 25),
                sound(&[0..6000], &[], 6000, &[160]),
                words.clone(),
                choices,
            )
        };
        let output = play(&choices);
        let again = play(&others);
        prop_assert_eq!(format!("{output:?}"), format!("{again:?}"));
        for (clip, twin) in clips(&output).into_iter().zip(clips(&again)) {
            prop_assert!(clip.text == twin.text);
        }
        // The transcripts that precede the clip in the output.
        let mut known: Vec<&OwnedTranscript> = Vec::new();
        for item in &output {
            match item {
                Aligned::Transcript(owned) => known.push(owned),
                Aligned::Clip(clip) => {
                    let is_face = clip.subject != SubjectId::Voice;
                    let is_owned = |owned: &&&OwnedTranscript| {
                        owned.owner.map_or(is_face, |owner| owner == clip.subject)
                    };
                    let is_inside = |word: &&Word| {
                        let middle = word.span.start.plus_nanos(word.span.nanos() / 2);
                        clip.span.contains(middle)
                    };
                    let mut expected: Vec<_> = known
                        .iter()
                        .filter(is_owned)
                        .flat_map(|owned| &owned.transcript.words)
                        .filter(is_inside)
                        .collect();
                    expected.sort_by_key(|word| word.span.start);
                    let expected: Vec<&str> =
                        expected.iter().map(|word| word.text.as_str()).collect();
                    let expected = expected.join(" ");
                    let found = clip.text.as_ref().map_or("", |text| text.text.as_str());
                    prop_assert!(found == expected, "{:?}: {found:?}, not {expected:?}", clip.span);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn spread_words_share_the_span_by_letters() {
    let words = Transcript::spread(" to  be  true ", Span::new(ms(0), ms(800)));
    let spans: Vec<_> = words
        .iter()
        .map(|w| {
            (
                w.text.as_str(),
                w.span.start.nanos() / MS,
                w.span.end.nanos() / MS,
            )
        })
        .collect();
    assert_eq!(
        spans,
        [("to", 0, 200), ("be", 200, 400), ("true", 400, 800)]
    );
}
