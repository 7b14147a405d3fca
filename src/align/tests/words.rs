//! Words on the timeline: whose they are, which clips they are in, and that nothing but the streams decides it.

use super::*;
use crate::clip::{OwnedTranscript, Transcript, TranscriptSource};
use proptest::prelude::*;

fn told(text: &str, start: i64, end: i64, known_at: i64, is_final: bool) -> Transcript {
    let span = Span::new(ms(start), ms(end));
    Transcript {
        source: TranscriptSource::Daemon,
        subject: None,
        text: text.into(),
        words: Transcript::spread(text, span),
        span,
        is_final,
        known_at: ms(known_at),
    }
}

/// Plays all three streams, taking turns as `choices` says (0: video, 1: sound, 2: words), then to their ends.
fn play_words(
    settings: AlignSettings,
    frames: Vec<FramedFaces>,
    heard: Vec<VadBlock>,
    words: Vec<Transcript>,
    choices: &[u8],
) -> Vec<Aligned> {
    let mut aligner = Aligner::new(settings).awaiting_words();
    let until = heard.last().map(|h| h.block.span().end);
    let mut lanes: [VecDeque<AlignInput>; 3] = [
        frames
            .into_iter()
            .map(AlignInput::Faces)
            .chain([AlignInput::FacesEnded])
            .collect(),
        heard
            .into_iter()
            .map(AlignInput::VadBlock)
            .chain([AlignInput::AudioEnded])
            .collect(),
        VecDeque::new(),
    ];
    for transcript in words {
        lanes[2].push_back(AlignInput::WordsUntil(transcript.known_at.plus_nanos(-1)));
        lanes[2].push_back(AlignInput::Words(transcript));
    }
    lanes[2].extend(until.map(AlignInput::WordsUntil));
    lanes[2].push_back(AlignInput::WordsEnded);
    let (mut said, mut choices) = (Vec::new(), choices.iter().copied().chain((0..3).cycle()));
    while lanes.iter().any(|lane| !lane.is_empty()) {
        if let Some(input) = lanes[usize::from(choices.next().unwrap())].pop_front() {
            aligner.push(input);
            said.extend(std::iter::from_fn(|| aligner.pop(MediaTime::ZERO)));
        }
    }
    said
}

fn texts<'a>(said: &'a [Aligned], subject: SubjectId) -> Vec<(i64, &'a str)> {
    let text = |clip: &&'a Clip| {
        clip.text
            .as_ref()
            .ok()
            .map(|text| (clip.span.end.nanos() / MS, text.text.as_str()))
    };
    clips_of(said, subject).iter().filter_map(text).collect()
}

fn owners(said: &[Aligned]) -> Vec<Option<SubjectId>> {
    said.iter()
        .filter_map(|a| {
            if let Aligned::Words(told) = a {
                Some(told.owner)
            } else {
                None
            }
        })
        .collect()
}

/// Whose the turns are, where they begin and where they end.
fn turn_owners(said: &[Aligned]) -> Vec<Option<SubjectId>> {
    said.iter()
        .filter_map(|a| {
            if let Aligned::Speech(turn) = a {
                Some(turn.owner)
            } else {
                None
            }
        })
        .collect()
}

fn by_a_client(transcript: Transcript) -> Transcript {
    Transcript {
        source: TranscriptSource::Client(1),
        ..transcript
    }
}

#[test]
fn a_clip_has_the_words_of_its_window() {
    let people = [Person::new(1, 0..9000).talking(&[1000..2000])];
    let words = [
        told("one two", 1000, 1600, 2100, false),
        told("one too many", 1000, 2000, 2300, true),
    ]
    .map(by_a_client)
    .to_vec();
    let said = play_words(
        settings(),
        frames(&people, 5000, 25),
        sound(&[1000..2000], &[], 5000, &[160]),
        words,
        &[],
    );
    assert_eq!(owners(&said), [Some(S1), Some(S1)]);
    // "one" is spoken from 1000 to 1300, "too" to 1600, "many" to 2000; the final takes the partial's place.
    let texts = texts(&said, S1);
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
    let clip = clips_of(&said, S1)
        .into_iter()
        .find(|c| c.span.end == ms(2400))
        .unwrap();
    assert_eq!(clip.text.as_ref().unwrap().newest, ms(2000));
    assert!(
        clips_of(&said, S1)
            .iter()
            .filter(|c| c.span.end > ms(3800))
            .all(|c| c.text == Err(Absence::NoTranscript))
    );
}

#[test]
fn words_are_whose_lips_moved_and_the_named_ones_are_the_named_subjects() {
    let people = [
        Person::new(1, 0..9000).talking(&[1000..3000]),
        Person::new(2, 0..9000).talking(&[4000..6000]),
    ];
    let named = Transcript {
        subject: Some(S1),
        ..told("mine", 4500, 5000, 6300, true)
    };
    let words = vec![
        told("hello there", 1200, 2800, 3300, true),
        told("good day", 4200, 5800, 6300, true),
        named,
    ];
    let said = play_words(
        settings(),
        frames(&people, 7000, 25),
        sound(&[1000..3000, 4000..6000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(owners(&said), [Some(S1), Some(S2), Some(S1)]);
    assert!(texts(&said, S1).iter().all(|(end, text)| if *end < 6000 {
        "hello there".contains(text)
    } else {
        *text == "mine"
    }));
    assert!(
        texts(&said, S2)
            .iter()
            .all(|(end, text)| *end > 6000 && "good day".contains(text))
            && !texts(&said, S2).is_empty()
    );
    let other = clips_of(&said, S2)
        .into_iter()
        .find(|c| c.span.end == ms(3600))
        .unwrap();
    assert_eq!(other.text, Err(Absence::NotOwner));
}

#[test]
fn what_the_daemon_believes_so_far_is_evidence_where_it_says_how_surely() {
    let people = || frames(&[Person::new(1, 0..9000).talking(&[1000..2000])], 5000, 25);
    let partial = told("one two", 1000, 1600, 2100, false);
    let mut sure = partial.clone();
    sure.words
        .iter_mut()
        .for_each(|word| word.confidence = Some(0.5));
    for (partial, before) in [(partial, None), (sure, Some((2200, "one two")))] {
        let words = vec![partial, told("one too many", 1000, 2000, 2300, true)];
        let said = play_words(
            settings(),
            people(),
            sound(&[1000..2000], &[], 5000, &[160]),
            words,
            &[],
        );
        assert_eq!(
            owners(&said),
            [Some(S1), Some(S1)],
            "it is told in either case"
        );
        let texts = texts(&said, S1);
        assert_eq!(texts.iter().find(|(end, _)| *end < 2300).copied(), before);
        assert!(texts.contains(&(2400, "one too many")), "{texts:?}");
    }
}

#[test]
fn a_partial_is_told_anew_whoever_it_was_said_to_be_of() {
    let people = [
        Person::new(1, 0..9000).talking(&[1000..2000]),
        Person::new(2, 0..9000),
    ];
    for (before, after) in [(None, Some(S1)), (Some(S2), Some(S1)), (Some(S1), None)] {
        let partial = by_a_client(Transcript {
            subject: before,
            ..told("one two", 1000, 1600, 2100, false)
        });
        let last = by_a_client(Transcript {
            subject: after,
            ..told("one too many", 1000, 2000, 2300, true)
        });
        let said = play_words(
            settings(),
            frames(&people, 5000, 25),
            sound(&[1000..2000], &[], 5000, &[160]),
            vec![partial, last],
            &[],
        );
        assert!(
            texts(&said, S1).contains(&(2400, "one too many")),
            "{before:?} {after:?}: {said:?}"
        );
        assert!(
            texts(&said, S2).iter().all(|(end, _)| *end < 2300),
            "{before:?} {after:?}: {said:?}"
        );
    }
}

#[test]
fn words_stay_with_who_said_them_when_the_picture_cuts_to_another() {
    // One talks from 500 to 5000; from 3500 on the picture shows another one, who listens.
    let people = [
        Person::new(1, 0..3500).talking(&[500..5000]),
        Person::new(2, 3500..9000),
    ];
    let words = vec![
        told("one two", 500, 2000, 2100, false),
        told("one two three four", 500, 4900, 5300, true),
    ];
    let said = play_words(
        settings(),
        frames(&people, 7000, 25),
        sound(&[500..5000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(owners(&said), [Some(S1), Some(S1)]);
    assert_eq!(turn_owners(&said), [Some(S1), Some(S1)]);
    assert!(texts(&said, S2).is_empty(), "{said:?}");
    // Nobody comes in the place of who leaves: then too.
    let (frames, words) = (
        frames(&people[..1], 7000, 25),
        vec![told("one two", 500, 4900, 5300, true)],
    );
    let said = play_words(
        settings(),
        frames,
        sound(&[500..5000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(
        (owners(&said), turn_owners(&said)),
        (vec![Some(S1)], vec![Some(S1); 2])
    );
    assert!(
        texts(&said, S1).is_empty() && !texts(&said, SubjectId::Voice).is_empty(),
        "a voice without a face has its words: {said:?}"
    );
}

#[test]
fn a_face_alone_that_came_late_gets_nobodys_words() {
    // Somebody who is not seen talks from 500 to 5000; a face comes for the last words.
    let people = [Person::new(2, 4500..9000)];
    let words = vec![told("one two three four", 500, 4900, 5300, true)];
    let said = play_words(
        settings(),
        frames(&people, 7000, 25),
        sound(&[500..5000], &[], 7000, &[160]),
        words.clone(),
        &[],
    );
    assert_eq!(
        (owners(&said), turn_owners(&said)),
        (vec![None], vec![Some(SubjectId::Voice), None])
    );
    assert!(texts(&said, S2).is_empty(), "{said:?}");
    // There for most of it, it is taken to be the one.
    let people = [Person::new(2, 1500..9000)];
    let said = play_words(
        settings(),
        frames(&people, 7000, 25),
        sound(&[500..5000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(
        (owners(&said), turn_owners(&said)),
        (vec![Some(S2)], vec![Some(SubjectId::Voice), Some(S2)])
    );
}

#[test]
fn words_without_a_face_are_the_voices_and_are_worth_a_clip() {
    let alone = AlignSettings {
        video: false,
        ..settings()
    };
    let said = play_words(
        alone,
        Vec::new(),
        sound(&[500..1500], &[], 4100, &[333]),
        vec![told("hello there", 600, 1400, 1830, true)],
        &[],
    );
    assert_eq!(owners(&said), [Some(SubjectId::Voice)]);
    assert_eq!(
        texts(&said, SubjectId::Voice),
        [(2000, "hello there")],
        "the last clip of the sound alone ended at 1600"
    );
    // Live, from a client, with neither camera nor microphone that delivers anything.
    let live = AlignSettings {
        lateness_nanos: Some(60 * MS),
        ..settings()
    };
    let mut aligner = Aligner::new(live);
    aligner.push(AlignInput::Words(Transcript {
        source: TranscriptSource::Client(1),
        ..told("hello there", 3_599_000, 3_600_000, 3_600_100, true)
    }));
    assert!(matches!(
        aligner.pop(ms(3_600_101)),
        Some(Aligned::Words(OwnedTranscript {
            owner: Some(SubjectId::Voice),
            ..
        }))
    ));
    assert_eq!(
        aligner.next_deadline(),
        Some(ms(3_600_260)),
        "the next boundary, not all of the past hour's"
    );
    let said: Vec<_> = std::iter::from_fn(|| aligner.pop(ms(3_600_260))).collect();
    assert_eq!(texts(&said, SubjectId::Voice), [(3_600_200, "hello there")]);
    assert_eq!(aligner.next_deadline(), None, "nothing new to show");
}

#[test]
fn words_that_come_after_a_face_left_are_not_waited_with_for_ever() {
    // Spoken while the face was there and nobody's in particular, told after it left, in a silence.
    let named = Transcript {
        subject: Some(SubjectId::Voice),
        ..told("hello there", 500, 900, 1500, true)
    };
    let said = play_words(
        settings(),
        frames(&[Person::new(1, 0..1000)], 6000, 25),
        sound(&[], &[], 6000, &[160]),
        vec![named],
        &[],
    );
    assert_eq!(owners(&said), [Some(SubjectId::Voice)]);
    assert!(clips_of(&said, SubjectId::Voice).is_empty(), "{said:?}");
}

#[test]
fn words_of_who_is_merged_move_along() {
    let people = [Person::new(1, 0..9000), Person::new(2, 1500..9000)];
    let mut frames = frames(&people, 3000, 25);
    let merging = frames.iter_mut().find(|f| f.time == ms(2000)).unwrap();
    let change = crate::clip::SubjectChange {
        subject: S1,
        time: ms(2000),
        phase: SubjectPhase::Merged,
        into: Some(S2),
        rect: [0.0; 4],
        quality: 1.0,
    };
    merging.changes.push(change);
    frames
        .iter_mut()
        .filter(|f| f.time >= ms(2000))
        .for_each(|f| f.faces.retain(|face| face.subject == S2));
    let words = vec![Transcript {
        subject: Some(S1),
        ..told("hello there", 1600, 1900, 1950, true)
    }];
    let said = play_words(
        settings(),
        frames.clone(),
        sound(&[], &[], 3000, &[160]),
        words,
        &[],
    );
    assert!(
        texts(&said, S2)
            .iter()
            .any(|(end, text)| *end == 2200 && *text == "hello there"),
        "{said:?}"
    );
    // A partial of the one is told anew by words of the other, whenever those were said.
    let partial = by_a_client(Transcript {
        subject: Some(S1),
        ..told("hello", 1600, 1900, 1950, false)
    });
    let last = by_a_client(Transcript {
        subject: Some(S2),
        ..told("there", 1900, 2100, 2150, true)
    });
    let said = play_words(
        settings(),
        frames,
        sound(&[], &[], 3000, &[160]),
        vec![partial, last],
        &[],
    );
    assert!(
        texts(&said, S2)
            .iter()
            .any(|(end, text)| *end == 2200 && *text == "there"),
        "{said:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever the picture cuts to a listener, words and turn are the speaker's, who had been seen for a while.
    #[test]
    fn a_cut_to_a_listener_takes_no_words_away(cut in 1500i64..6000, until in 2000i64..6000, fps in 10i64..31) {
        let people = [Person::new(1, 0..cut).talking(&[500..until]), Person::new(2, cut..9000)];
        let words = vec![told("one two three four", 500, until, until + 350, true)];
        let said = play_words(settings(), frames(&people, 8000, fps), sound(&[500..until], &[], 8000, &[160]), words, &[]);
        prop_assert_eq!(owners(&said), [Some(S1)]);
        prop_assert_eq!(turn_owners(&said), [Some(S1); 2]);
    }

    /// Each word is in the clips of its owner whose span holds its middle, in order, and in no other; whatever the interleaving.
    #[test]
    fn words_are_in_the_clips_of_their_time(
        steps in prop::collection::vec((0i64..900, 60i64..1500, 1usize..6, 0i64..900), 0..6), hop_ms in 90i64..500, appears in 0i64..1500,
        choices in prop::collection::vec(0u8..3, 300), others in prop::collection::vec(0u8..3, 300),
    ) {
        let settings = AlignSettings { hop_nanos: hop_ms * MS, ..settings() };
        let (mut at, mut number, mut words) = (0, 0, Vec::new());
        for (pause, length, count, late) in steps {
            let start = at + pause;
            at = start + length;
            let text: Vec<String> = (0..count).map(|_| { number += 1; format!("w{number}") }).collect();
            words.push(told(&text.join(" "), start, at, at + late, true));
        }
        // Told in the order in which they are known.
        words.sort_by_key(|t| t.known_at);
        let scene = || (frames(&[Person::new(1, appears..99_000)], 6000, 25), sound(&[0..6000], &[], 6000, &[160]));
        let play = |choices: &[u8]| { let (frames, heard) = scene(); play_words(settings, frames, heard, words.clone(), choices) };
        let said = play(&choices);
        let again = play(&others);
        prop_assert_eq!(format!("{said:?}"), format!("{again:?}"));
        for (clip, twin) in clips(&said).into_iter().zip(clips(&again)) {
            prop_assert!(clip.text == twin.text);
        }
        // What was told before the clip was cut, by the order of what came out.
        let mut known: Vec<&OwnedTranscript> = Vec::new();
        for item in &said {
            match item {
                Aligned::Words(told) => known.push(told),
                Aligned::Clip(clip) => {
                    let mut expected: Vec<_> = known.iter()
                        .filter(|told| told.owner == Some(clip.subject) || (told.owner.is_none() && clip.subject != SubjectId::Voice))
                        .flat_map(|told| &told.transcript.words)
                        .filter(|word| clip.span.contains(word.span.start.plus_nanos(word.span.nanos() / 2)))
                        .collect();
                    expected.sort_by_key(|word| word.span.start);
                    let expected: Vec<&str> = expected.iter().map(|word| word.text.as_str()).collect();
                    let found: Vec<&str> = clip.text.as_ref().map_or(Vec::new(), |text| text.text.split(' ').collect());
                    prop_assert!(found == expected, "{:?}: {found:?}, not {expected:?}", clip.span);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn words_share_their_time_by_letters() {
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
