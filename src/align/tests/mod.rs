//! By example; [`streams`] by property.
#![expect(
    clippy::single_range_in_vec_init,
    reason = "a list of one stretch of time"
)]

use std::collections::VecDeque;

use super::*;
use crate::clip::{Absence, samples_to_nanos};
use scene::*;

#[cfg(feature = "capture")]
mod real;
mod scene;
mod streams;
mod words;

const S1: SubjectId = SubjectId::Face(1);
const S2: SubjectId = SubjectId::Face(2);

#[test]
fn clips_grow_from_the_appearance_and_end_on_the_grid() {
    let said = play(
        settings(),
        frames(&[Person::new(1, 320..9000)], 3000, 25),
        sound(&[], &[], 3000, &[160]),
        &[],
    );
    let spans = spans(&clips_of(&said, S1));
    // 80 ms at the first boundary after the appearance are less than half a hop.
    assert_eq!(spans[..3], [(320, 600), (320, 800), (320, 1000)]);
    assert_eq!(
        spans[9..],
        [(320, 2400), (600, 2600), (800, 2800), (1000, 3000)].map(|(s, e)| if e == 2400 {
            (400, 2400)
        } else {
            (s, e)
        })
    );
}

#[test]
fn a_recording_shorter_than_a_hop_yields_one_clip_inside_it() {
    let said = play(
        settings(),
        frames(&[Person::new(1, 0..9000)], 120, 25),
        sound(&[], &[], 140, &[160]),
        &[],
    );
    let clips = clips(&said);
    assert_eq!(spans(&clips), [(0, 120)]);
    assert_eq!(
        clips[0].faces.len(),
        2,
        "slots of 62.5 ms: two begin in 120 ms, the first frames of which are usable"
    );
}

#[test]
fn a_single_picture_is_a_recording() {
    let said = play(
        AlignSettings {
            audio: false,
            ..settings()
        },
        frames(&[Person::new(1, 0..9000)], 30, 25),
        Vec::new(),
        &[],
    );
    let clips = clips(&said);
    assert_eq!((clips.len(), clips[0].faces.len()), (1, 1));
    assert!(matches!(clips[0].voice, Err(Absence::NoSource)));
}

#[test]
fn the_loss_flushes_what_was_not_shown_and_comes_after_it() {
    let said = play(
        settings(),
        frames(&[Person::new(1, 0..1120)], 2000, 25),
        sound(&[], &[], 2000, &[512]),
        &[],
    );
    let clips = clips_of(&said, S1);
    assert_eq!(spans(&clips)[4..], [(0, 1000), (0, 1120)]);
    let Some(Aligned::Subject(last)) = said.last() else {
        panic!("the loss comes last: {:?}", said.last())
    };
    assert_eq!((last.phase, last.time), (SubjectPhase::Lost, ms(1120)));

    let said = play(
        settings(),
        frames(&[Person::new(1, 0..1080)], 2000, 25),
        sound(&[], &[], 2000, &[512]),
        &[],
    );
    assert_eq!(
        spans(&clips_of(&said, S1)).last(),
        Some(&(0, 1000)),
        "80 ms are not worth a clip"
    );
}

#[test]
fn a_voice_without_a_face_is_reported_while_it_speaks() {
    let alone = AlignSettings {
        video: false,
        ..settings()
    };
    let said = play(
        alone,
        Vec::new(),
        sound(&[500..1500], &[], 4100, &[333]),
        &[],
    );
    let clips = clips_of(&said, SubjectId::Voice);
    assert_eq!(
        spans(&clips),
        [(0, 800), (0, 1000), (0, 1200), (0, 1400), (0, 1600)],
        "250 ms of speech are the least; nothing new after 1.5 s"
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
            "cut exactly"
        );
        assert_eq!(
            (voice.missing_nanos, voice.newest, clip.face_absence),
            (0, clip.span.end, Some(Absence::NoSource))
        );
    }
    let turns: Vec<_> = said
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
fn a_short_recording_of_a_voice_alone_yields_one_clip() {
    let alone = AlignSettings {
        video: false,
        hop_nanos: 1000 * MS,
        ..settings()
    };
    let said = play(alone, Vec::new(), sound(&[0..700], &[], 700, &[160]), &[]);
    assert_eq!(spans(&clips(&said)), [(0, 700)]);
    let ends: Vec<_> = said
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
fn a_face_that_appears_mid_turn_takes_over_the_voice_and_nothing_is_told_twice() {
    let people = [Person::new(1, 1560..9000).talking(&[1560..3000])];
    let said = play(
        settings(),
        frames(&people, 3000, 25),
        sound(&[200..3000], &[], 3000, &[160]),
        &[],
    );
    let voices = clips_of(&said, SubjectId::Voice);
    assert_eq!(
        spans(&voices).last(),
        Some(&(0, 1560)),
        "what was said before is flushed when the face appears"
    );
    let faces = clips_of(&said, S1);
    assert_eq!(spans(&faces)[..2], [(1560, 1800), (1560, 2000)]);
    assert!(
        matches!(faces[0].voice, Err(Absence::NoSpeech)),
        "240 ms are less than the 250 ms it takes"
    );
    assert!(faces[1..].iter().all(|c| c.voice.is_ok()));
    assert!(
        voices
            .iter()
            .all(|v| v.face_absence == Some(Absence::NoFace))
    );
}

#[test]
fn the_voice_belongs_to_who_moves_the_lips() {
    let people = [
        Person::new(1, 0..9000).talking(&[1000..3000]),
        Person::new(2, 0..9000).talking(&[4000..6000]),
    ];
    let said = play(
        settings(),
        frames(&people, 7000, 25),
        sound(&[1000..3000, 4000..6000], &[], 7000, &[160]),
        &[],
    );
    for (subject, talks) in [(S1, 1000..3000), (S2, 4000..6000)] {
        let other = if subject == S1 { S2 } else { S1 };
        let own: Vec<_> = clips_of(&said, subject)
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
            let theirs = clips_of(&said, other)
                .into_iter()
                .find(|c| c.span.end == clip.span.end)
                .unwrap();
            assert!(matches!(theirs.voice, Err(Absence::NotOwner)));
        }
    }
    let owners: Vec<_> = said
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
fn the_floor_changes_inside_a_turn_but_does_not_flip() {
    // One talks, then without a pause the other: one change, within a second.
    let people = [
        Person::new(1, 0..9000).talking(&[500..3000]),
        Person::new(2, 0..9000).talking(&[3000..6000]),
    ];
    let said = play(
        settings(),
        frames(&people, 6000, 25),
        sound(&[500..6000], &[], 6000, &[160]),
        &[],
    );
    let owners: Vec<_> = clips(&said)
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
    // Both move their lips alike: whoever got it keeps it, and nobody is sure.
    let people = [
        Person::new(1, 0..9000).talking(&[500..3000]),
        Person::new(2, 0..9000).talking(&[500..3000]),
    ];
    let said = play(
        settings(),
        frames(&people, 3000, 25),
        sound(&[500..3000], &[], 3000, &[160]),
        &[],
    );
    let owned: Vec<_> = clips(&said)
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
fn a_face_alone_has_the_voice_and_still_lips_make_it_doubtful() {
    let confidence = |talks: std::ops::Range<i64>| {
        let people = [Person::new(1, 0..9000).talking(&[talks])];
        let said = play(
            settings(),
            frames(&people, 4000, 25),
            sound(&[1000..4000], &[], 4000, &[160]),
            &[],
        );
        clips_of(&said, S1)
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

#[test]
fn faces_are_one_a_slot_and_what_is_missing_is_counted() {
    let last = |fps: i64, rate_hz: f64, person: Person| {
        let said = play(
            AlignSettings {
                face_rate_hz: rate_hz,
                ..settings()
            },
            frames(&[person], 6000, fps),
            sound(&[], &[], 6000, &[160]),
            &[],
        );
        clips_of(&said, S1)
            .last()
            .map(|c| (c.faces.len(), c.faces_missing, c.face_absence))
            .unwrap()
    };
    assert_eq!(last(25, 16.0, Person::new(1, 0..9000)), (32, 0, None));
    assert_eq!(last(30, 30.0, Person::new(1, 0..9000)), (60, 0, None));
    assert_eq!(last(6, 16.0, Person::new(1, 0..9000)), (12, 20, None));
    let blurred = Person {
        blurred: 5000..9000,
        ..Person::new(1, 0..9000)
    };
    assert_eq!(last(25, 16.0, blurred.clone()), (16, 16, None));
    assert_eq!(
        last(
            25,
            16.0,
            Person {
                blurred: 0..9000,
                ..blurred
            }
        ),
        (0, 32, Some(Absence::LowQuality))
    );
}

#[test]
fn neighbouring_clips_share_their_faces() {
    let said = play(
        settings(),
        frames(&[Person::new(1, 0..9000)], 6000, 30),
        sound(&[], &[], 6000, &[160]),
        &[],
    );
    let ids: std::collections::BTreeSet<_> = clips(&said)
        .iter()
        .flat_map(|c| c.faces.iter().map(|f| f.id))
        .collect();
    // Slots begin before the multiples of their length, so six seconds touch one slot more than they have room for.
    assert!(
        ids.len() <= 6 * 16 + 1,
        "{} faces to encode in 6 s at 16 Hz",
        ids.len()
    );
}

#[test]
fn missing_sound_is_zero_and_counted() {
    let people = [Person::new(1, 0..9000).talking(&[0..4000])];
    let said = play(
        settings(),
        frames(&people, 4000, 25),
        sound(&[0..4000], &[2000..2500], 4000, &[160]),
        &[],
    );
    let clip = clips_of(&said, S1)
        .into_iter()
        .find(|c| c.span.end == ms(3000))
        .unwrap();
    let voice = clip.voice.as_ref().unwrap();
    assert_eq!(voice.missing_nanos, 500 * MS);
    assert_eq!(
        (
            voice.samples[15_999],
            voice.samples[16_000],
            voice.samples[23_999],
            voice.samples[24_000]
        ),
        (31_999.0, 0.0, 0.0, 40_000.0)
    );
    assert!((voice.speech - 0.75).abs() < 0.02);
    assert_eq!(clip.skew_nanos, Some(3000 * MS - 2960 * MS));
}

#[test]
fn a_source_that_is_dead_holds_back_for_the_lateness_and_one_that_is_lost_not_at_all() {
    let live = AlignSettings {
        lateness_nanos: Some(60 * MS),
        ..settings()
    };
    let mut aligner = Aligner::new(live);
    let frames = frames(&[Person::new(1, 0..99_000)], 4000, 25);
    let mut ends = Vec::new();
    for frame in frames {
        let now = frame.time;
        // The microphone never says a word; the caller comes back when it is told to.
        while let Some(deadline) = aligner.next_deadline().filter(|d| *d < now) {
            while let Some(said) = aligner.pop(deadline) {
                if let Aligned::Clip(clip) = said {
                    ends.push((clip.span.end, deadline));
                }
            }
        }
        aligner.push(AlignInput::Faces(frame));
        assert!(aligner.held() < 600, "{}", aligner.held());
    }
    assert_eq!(ends.len(), 19, "from 200 to 3800 ms");
    assert!(ends.iter().all(|(end, at)| *at == end.plus_nanos(60 * MS)));
    aligner.push(AlignInput::AudioLost);
    assert!(aligner.pop(ms(3961)).is_none());
    let mut next = FramedFaces {
        time: ms(4000),
        picture_size: [1, 1],
        faces: Vec::new(),
        changes: Vec::new(),
    };
    aligner.push(AlignInput::Faces(next.clone()));
    assert!(
        matches!(aligner.pop(ms(4001)), Some(Aligned::Clip(c)) if c.span.end == ms(4000)),
        "nobody waits for a lost microphone"
    );
    // The camera is lost too: what it showed is flushed, nobody is there any more, and nothing is due.
    next.time = ms(4160);
    aligner.push(AlignInput::Faces(next));
    aligner.push(AlignInput::FacesLost);
    while aligner.pop(ms(4161)).is_some() {}
    assert_eq!(aligner.next_deadline(), None);
}

#[test]
fn a_dead_camera_gives_the_voice_back_to_nobody_in_particular() {
    let live = AlignSettings {
        lateness_nanos: Some(60 * MS),
        ..settings()
    };
    let mut aligner = Aligner::new(live);
    let mut said = Vec::new();
    let mut frames: VecDeque<_> = frames(&[Person::new(1, 0..99_000)], 1000, 25).into();
    for heard in sound(&[0..20_000], &[], 20_000, &[160]) {
        let now = heard.block.span().end;
        while frames.front().is_some_and(|f| f.time <= now) {
            aligner.push(AlignInput::Faces(frames.pop_front().unwrap()));
        }
        aligner.push(AlignInput::VadBlock(heard));
        said.extend(std::iter::from_fn(|| aligner.pop(now)));
        assert!(aligner.held() < 1200, "{}", aligner.held());
    }
    let voice = clips_of(&said, SubjectId::Voice);
    assert!(
        (3000..3400).contains(&(voice[0].span.end.nanos() / MS)),
        "{:?}",
        voice[0].span
    );
    assert_eq!(voice.last().unwrap().face_absence, Some(Absence::NoSource));
    assert_eq!(voice.last().unwrap().span.end, ms(19_800));
}

#[test]
fn stamps_that_go_back_are_refused_and_wild_ones_do_not_hang() {
    let mut aligner = Aligner::new(AlignSettings {
        audio: false,
        ..settings()
    });
    let mut frames = frames(&[Person::new(1, 0..99_000)], 1000, 25);
    let mut wild = frames.pop().unwrap();
    let mut back = frames[3].clone();
    frames
        .into_iter()
        .for_each(|f| aligner.push(AlignInput::Faces(f)));
    back.time = ms(100);
    aligner.push(AlignInput::Faces(back));
    assert_eq!(aligner.refused(), 1);
    wild.time = MediaTime::from_nanos(i64::MAX / 2);
    aligner.push(AlignInput::Faces(wild));
    aligner.push(AlignInput::FacesEnded);
    let said: Vec<_> = std::iter::from_fn(|| aligner.pop(MediaTime::ZERO)).collect();
    assert!(clips(&said).len() < 30, "{}", clips(&said).len());
}

#[test]
fn the_source_that_is_behind_is_wanted() {
    let mut aligner = Aligner::new(settings());
    let (mut video, mut audio) = (
        VecDeque::from(frames(&[Person::new(1, 0..99_000)], 60_000, 25)),
        VecDeque::from(sound(&[0..60_000], &[], 60_000, &[1024])),
    );
    loop {
        match aligner.wanted() {
            Wanted::Faces => aligner.push(
                video
                    .pop_front()
                    .map_or(AlignInput::FacesEnded, AlignInput::Faces),
            ),
            Wanted::VadBlock => aligner.push(
                audio
                    .pop_front()
                    .map_or(AlignInput::AudioEnded, AlignInput::VadBlock),
            ),
            Wanted::Nothing => break,
        }
        while aligner.pop(MediaTime::ZERO).is_some() {}
        assert!(aligner.held() < 1300, "{}", aligner.held());
    }
}
