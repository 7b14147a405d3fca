//! Tests of the attribution of transcripts and turns to speakers.

use proptest::prelude::*;

use super::*;

#[test]
fn transcripts_are_attributed_by_lips_unless_they_name_a_subject() {
    let people = [
        Person::new(1, 0..9000).talking(&[1000..3000]),
        Person::new(2, 0..9000).talking(&[4000..6000]),
    ];
    let named = Transcript {
        subject: Some(S1),
        ..transcript("mine", 4500, 5000, 6300, true)
    };
    let words = vec![
        transcript("hello there", 1200, 2800, 3300, true),
        transcript("good day", 4200, 5800, 6300, true),
        named,
    ];
    let output = play_with_transcripts(
        settings(),
        frames(&people, 7000, 25),
        sound(&[1000..3000, 4000..6000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(owners(&output), [Some(S1), Some(S2), Some(S1)]);
    assert!(texts(&output, S1).iter().all(|(end, text)| if *end < 6000 {
        "hello there".contains(text)
    } else {
        *text == "mine"
    }));
    assert!(
        texts(&output, S2)
            .iter()
            .all(|(end, text)| *end > 6000 && "good day".contains(text))
            && !texts(&output, S2).is_empty()
    );
    let other = clips_of(&output, S2)
        .into_iter()
        .find(|c| c.span.end == ms(3600))
        .unwrap();
    assert_eq!(other.text, Err(Absence::NotOwner));
}

#[test]
fn transcripts_stay_with_their_speaker_after_a_scene_cut() {
    // Subject 1 talks from 500 to 5000; from 3500 on the picture shows a listener.
    let people = [
        Person::new(1, 0..3500).talking(&[500..5000]),
        Person::new(2, 3500..9000),
    ];
    let words = vec![
        transcript("one two", 500, 2000, 2100, false),
        transcript("one two three four", 500, 4900, 5300, true),
    ];
    let output = play_with_transcripts(
        settings(),
        frames(&people, 7000, 25),
        sound(&[500..5000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(owners(&output), [Some(S1), Some(S1)]);
    assert_eq!(turn_owners(&output), [Some(S1), Some(S1)]);
    assert!(texts(&output, S2).is_empty(), "{output:?}");
    // The same turn without a visible listener.
    let (frames, words) = (
        frames(&people[..1], 7000, 25),
        vec![transcript("one two", 500, 4900, 5300, true)],
    );
    let output = play_with_transcripts(
        settings(),
        frames,
        sound(&[500..5000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(
        (owners(&output), turn_owners(&output)),
        (vec![Some(S1)], vec![Some(S1); 2])
    );
    assert!(
        texts(&output, S1).is_empty() && !texts(&output, SubjectId::Voice).is_empty(),
        "the off-camera voice has the words: {output:?}"
    );
}

#[test]
fn a_late_face_gets_no_words_of_the_off_camera_speaker() {
    // An off-camera speaker talks from 500 to 5000; a face appears at the last words.
    let people = [Person::new(2, 4500..9000)];
    let words = vec![transcript("one two three four", 500, 4900, 5300, true)];
    let output = play_with_transcripts(
        settings(),
        frames(&people, 7000, 25),
        sound(&[500..5000], &[], 7000, &[160]),
        words.clone(),
        &[],
    );
    assert_eq!(
        (owners(&output), turn_owners(&output)),
        (vec![None], vec![Some(SubjectId::Voice), None])
    );
    assert!(texts(&output, S2).is_empty(), "{output:?}");
    // A face that is present for most of the turn is taken as the speaker.
    let people = [Person::new(2, 1500..9000)];
    let output = play_with_transcripts(
        settings(),
        frames(&people, 7000, 25),
        sound(&[500..5000], &[], 7000, &[160]),
        words,
        &[],
    );
    assert_eq!(
        (owners(&output), turn_owners(&output)),
        (vec![Some(S2)], vec![Some(SubjectId::Voice), Some(S2)])
    );
}

#[test]
fn transcripts_of_a_merged_subject_move_to_the_surviving_one() {
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
        ..transcript("hello there", 1600, 1900, 1950, true)
    }];
    let output = play_with_transcripts(
        settings(),
        frames.clone(),
        sound(&[], &[], 3000, &[160]),
        words,
        &[],
    );
    assert!(
        texts(&output, S2)
            .iter()
            .any(|(end, text)| *end == 2200 && *text == "hello there"),
        "{output:?}"
    );
    // A final transcript of a track supersedes a partial of the track that was merged into it, at
    // any time.
    let partial = by_a_client(Transcript {
        subject: Some(S1),
        ..transcript("hello", 1600, 1900, 1950, false)
    });
    let last = by_a_client(Transcript {
        subject: Some(S2),
        ..transcript("there", 1900, 2100, 2150, true)
    });
    let output = play_with_transcripts(
        settings(),
        frames,
        sound(&[], &[], 3000, &[160]),
        vec![partial, last],
        &[],
    );
    assert!(
        texts(&output, S2)
            .iter()
            .any(|(end, text)| *end == 2200 && *text == "there"),
        "{output:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Transcript and turn stay with the speaker, wherever the picture cuts to a listener.
    #[test]
    fn a_cut_to_a_listener_does_not_change_the_speaker(
        cut in 1500i64..6000,
        until in 2000i64..6000,
        fps in 10i64..31,
    ) {
        let speaker = Person::new(1, 0..cut).talking(&[500..until]);
        let people = [speaker, Person::new(2, cut..9000)];
        let words = vec![transcript("one two three four", 500, until, until + 350, true)];
        let output = play_with_transcripts(
            settings(),
            frames(&people, 8000, fps),
            sound(&[500..until], &[], 8000, &[160]),
            words,
            &[],
        );
        prop_assert_eq!(owners(&output), [Some(S1)]);
        prop_assert_eq!(turn_owners(&output), [Some(S1); 2]);
    }
}
