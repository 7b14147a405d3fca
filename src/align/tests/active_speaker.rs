//! Tests of the attribution of voices to subjects, and of off-camera voices.

use super::*;

#[test]
fn an_off_camera_voice_has_clips_while_it_speaks() {
    let alone = AlignSettings {
        video: false,
        ..settings()
    };
    let output = play(
        alone,
        Vec::new(),
        sound(&[500..1500], &[], 4100, &[333]),
        &[],
    );
    let clips = clips_of(&output, SubjectId::Voice);
    assert_eq!(
        spans(&clips),
        [(0, 800), (0, 1000), (0, 1200), (0, 1400), (0, 1600)],
        "at least 250 ms of speech; no new speech after 1.5 s"
    );
    for clip in clips {
        let voice = clip.voice.as_ref().unwrap();
        assert_eq!(
            voice.samples.len() as i64,
            clip.span.nanos() / samples_to_nanos(1)
        );
        assert!(
            voice
                .samples
                .iter()
                .enumerate()
                .all(|(i, v)| *v == i as f32),
            "the cut is sample exact"
        );
        assert_eq!(
            (voice.missing_nanos, voice.newest, clip.face_absence),
            (0, clip.span.end, Some(Absence::NoSource))
        );
    }
    let turns: Vec<_> = output
        .iter()
        .filter_map(|a| {
            if let Aligned::Speech(t) = a {
                Some((t.start.nanos() / MS, t.end.map(|e| e.nanos() / MS), t.owner))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(
        turns,
        [
            (512, None, Some(SubjectId::Voice)),
            (512, Some(1504), Some(SubjectId::Voice))
        ]
    );
}

#[test]
fn a_short_audio_recording_yields_one_clip() {
    let alone = AlignSettings {
        video: false,
        hop_nanos: 1000 * MS,
        ..settings()
    };
    let output = play(alone, Vec::new(), sound(&[0..700], &[], 700, &[160]), &[]);
    assert_eq!(spans(&clips(&output)), [(0, 700)]);
    let ends: Vec<_> = output
        .iter()
        .filter_map(|a| {
            if let Aligned::Speech(t) = a {
                t.end
            } else {
                None
            }
        })
        .collect();
    assert_eq!(ends, [ms(700)], "the end of the recording ends the turn");
}

#[test]
fn a_face_that_appears_in_a_turn_takes_over_the_voice() {
    let people = [Person::new(1, 1560..9000).talking(&[1560..3000])];
    let output = play(
        settings(),
        frames(&people, 3000, 25),
        sound(&[200..3000], &[], 3000, &[160]),
        &[],
    );
    let voices = clips_of(&output, SubjectId::Voice);
    assert_eq!(
        spans(&voices).last(),
        Some(&(0, 1560)),
        "earlier speech is flushed when the face appears"
    );
    let faces = clips_of(&output, S1);
    assert_eq!(spans(&faces)[..2], [(1560, 1800), (1560, 2000)]);
    assert!(
        matches!(faces[0].voice, Err(Absence::NoSpeech)),
        "240 ms are less than the minimum of 250 ms"
    );
    assert!(faces[1..].iter().all(|c| c.voice.is_ok()));
    assert!(
        voices
            .iter()
            .all(|v| v.face_absence == Some(Absence::NoFace))
    );
}

#[test]
fn the_voice_is_attributed_to_the_moving_lips() {
    let people = [
        Person::new(1, 0..9000).talking(&[1000..3000]),
        Person::new(2, 0..9000).talking(&[4000..6000]),
    ];
    let output = play(
        settings(),
        frames(&people, 7000, 25),
        sound(&[1000..3000, 4000..6000], &[], 7000, &[160]),
        &[],
    );
    for (subject, talks) in [(S1, 1000..3000), (S2, 4000..6000)] {
        let other = if subject == S1 { S2 } else { S1 };
        let own: Vec<_> = clips_of(&output, subject)
            .into_iter()
            .filter(|c| (talks.start + 600..=talks.end).contains(&(c.span.end.nanos() / MS)))
            .collect();
        assert!(own.len() >= 8);
        for clip in own {
            let confidence = clip
                .voice
                .as_ref()
                .unwrap_or_else(|a| panic!("{subject} at {:?}: {a:?}", clip.span))
                .owner_confidence;
            assert!(confidence > 0.8, "{confidence} at {:?}", clip.span);
            let others = clips_of(&output, other)
                .into_iter()
                .find(|c| c.span.end == clip.span.end)
                .unwrap();
            assert!(matches!(others.voice, Err(Absence::NotOwner)));
        }
    }
    let owners: Vec<_> = output
        .iter()
        .filter_map(|a| {
            if let Aligned::Speech(t) = a {
                Some((t.end.is_some(), t.owner))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(
        owners,
        [
            (false, Some(S1)),
            (true, Some(S1)),
            (false, Some(S2)),
            (true, Some(S2))
        ]
    );
}

#[test]
fn the_speaker_changes_once_inside_a_turn() {
    // Two speakers without a pause between them: the attribution changes once, at most 1.2 s late.
    let people = [
        Person::new(1, 0..9000).talking(&[500..3000]),
        Person::new(2, 0..9000).talking(&[3000..6000]),
    ];
    let output = play(
        settings(),
        frames(&people, 6000, 25),
        sound(&[500..6000], &[], 6000, &[160]),
        &[],
    );
    let owners: Vec<_> = clips(&output)
        .into_iter()
        .filter(|c| c.voice.is_ok())
        .map(|c| (c.span.end.nanos() / MS, c.subject))
        .collect();
    let changes: Vec<_> = owners
        .windows(2)
        .filter(|w| w[0].1 != w[1].1)
        .map(|w| w[1].0)
        .collect();
    assert_eq!(
        (owners[0].1, owners.last().unwrap().1, changes.len()),
        (S1, S2, 1)
    );
    assert!(
        (3000..=4200).contains(&changes[0]),
        "changed at {changes:?}"
    );
    // Equal lip motion: the first attribution is kept, with low confidence.
    let people = [
        Person::new(1, 0..9000).talking(&[500..3000]),
        Person::new(2, 0..9000).talking(&[500..3000]),
    ];
    let output = play(
        settings(),
        frames(&people, 3000, 25),
        sound(&[500..3000], &[], 3000, &[160]),
        &[],
    );
    let owned: Vec<_> = clips(&output)
        .into_iter()
        .filter_map(|c| Some((c.subject, c.voice.as_ref().ok()?.owner_confidence)))
        .collect();
    assert!(
        owned.len() > 5
            && owned
                .iter()
                .all(|(subject, confidence)| *subject == S1 && *confidence < 0.75),
        "{owned:?}"
    );
}

#[test]
fn a_face_alone_gets_the_voice_with_low_confidence_for_still_lips() {
    let confidence = |talks: std::ops::Range<i64>| {
        let people = [Person::new(1, 0..9000).talking(&[talks])];
        let output = play(
            settings(),
            frames(&people, 4000, 25),
            sound(&[1000..4000], &[], 4000, &[160]),
            &[],
        );
        clips_of(&output, S1)
            .last()
            .unwrap()
            .voice
            .as_ref()
            .unwrap()
            .owner_confidence
    };
    let (moving, still) = (confidence(1000..4000), confidence(0..0));
    assert!(moving > 0.8 && still < 0.6, "{moving} {still}");
}
