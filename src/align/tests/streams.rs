//! Property tests of the aligner with random pairs of streams.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::is_end;
use super::scene::{MS, Person, frames, play, settings, sound};
use crate::align::{AlignSettings, Aligned};
use crate::clip::{SpeechTurn, SubjectId};

/// One random person, times in milliseconds: start and length of the presence; of each section of
/// speech; of the interval with an unusable face.
type PersonTimes = (i64, i64, Vec<(i64, i64)>, (i64, i64));

fn people() -> impl Strategy<Value = Vec<Person>> {
    let person = (
        0i64..3000,
        100i64..4000,
        prop::collection::vec((0i64..4000, 50i64..2000), 0..3),
        (0i64..4000, 0i64..1500),
    );
    prop::collection::vec(person, 0..4).prop_map(|people| {
        let person = |(i, (from, length, talks, blurred)): (usize, PersonTimes)| Person {
            id: i as u32 + 1,
            present: from..from + length,
            talking: talks
                .into_iter()
                .map(|(from, length)| from..from + length)
                .collect(),
            blurred: blurred.0..blurred.0 + blurred.1,
        };
        people.into_iter().enumerate().map(person).collect()
    })
}

/// Random intervals in milliseconds, disjoint and in order, each shorter than `longest`.
fn ranges(longest: i64) -> impl Strategy<Value = Vec<std::ops::Range<i64>>> {
    // Each step is a pause and the length of the interval after it.
    prop::collection::vec((100i64..2000, 40i64..longest), 0..3).prop_map(|steps| {
        let mut at = 0;
        let next = |(pause, length): (i64, i64)| {
            let start = at + pause;
            at = start + length;
            start..at
        };
        steps.into_iter().map(next).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The output is the same for every interleaving and every division of the audio into blocks.
    #[test]
    fn the_output_depends_on_the_streams_alone(
        people in people(),
        speech in ranges(2000),
        gaps in ranges(700),
        video_ms in 0i64..4500,
        audio_ms in 0i64..4500,
        fps in 6i64..31,
        hop_ms in 90i64..900,
        (lengths, other) in (
            prop::collection::vec(1usize..4000, 1..5),
            prop::collection::vec(1usize..4000, 1..5),
        ),
        (choices, others) in (
            prop::collection::vec(any::<bool>(), 400),
            prop::collection::vec(any::<bool>(), 400),
        ),
    ) {
        let settings = AlignSettings { hop_nanos: hop_ms * MS, ..settings() };
        let output = |lengths: &[usize], choices: &[bool]| {
            let frames = frames(&people, video_ms, fps);
            play(settings, frames, sound(&speech, &gaps, audio_ms, lengths), choices)
        };
        let (once, again) = (output(&lengths, &choices), output(&other, &others));
        prop_assert_eq!(format!("{once:?}"), format!("{again:?}"));
        check_invariants(&settings, &once, video_ms, audio_ms, fps)?;
    }
}

/// Checks the properties that the output has for every pair of streams.
fn check_invariants(
    settings: &AlignSettings,
    output: &[Aligned],
    video_ms: i64,
    audio_ms: i64,
    fps: i64,
) -> Result<(), TestCaseError> {
    // End of the last frame, slightly early if the frame rate does not divide a second.
    let video_end = ((video_ms * fps + 999) / 1000) * 1_000_000_000 / fps;
    let end = video_end.max(audio_ms * MS);
    let (mut present, mut departed) = (
        std::collections::BTreeSet::new(),
        std::collections::BTreeSet::new(),
    );
    let mut last_end = BTreeMap::new();
    let mut open_turn = None;
    for item in output {
        match item {
            Aligned::Subject(change) if is_end(change.phase) => {
                prop_assert!(present.remove(&change.subject));
                departed.insert(change.subject);
            }
            Aligned::Subject(change) => {
                present.insert(change.subject);
            }
            Aligned::Speech(SpeechTurn {
                start, end: None, ..
            }) => {
                prop_assert_eq!(open_turn.replace(*start), None);
            }
            Aligned::Speech(SpeechTurn {
                start,
                end: Some(turn_end),
                ..
            }) => {
                prop_assert_eq!(open_turn.take(), Some(*start));
                prop_assert!(start < turn_end && turn_end.nanos() <= audio_ms * MS);
            }
            Aligned::Transcript(_) => prop_assert!(false, "there is no transcript"),
            Aligned::Clip(clip) => {
                let face = clip.subject != SubjectId::Voice;
                prop_assert!(
                    !departed.contains(&clip.subject),
                    "{} after its loss",
                    clip.subject
                );
                prop_assert_eq!(face, present.contains(&clip.subject));
                prop_assert!(
                    0 <= clip.span.start.nanos()
                        && clip.span.start < clip.span.end
                        && clip.span.end.nanos() <= end,
                    "{:?} of {}",
                    clip.span,
                    end
                );
                prop_assert!(clip.span.nanos() <= settings.length_nanos);
                let before = last_end.insert(clip.subject, clip.span.end);
                prop_assert!(before.is_none_or(|before| before < clip.span.end));
                prop_assert!(clip.faces.iter().all(|f| clip.span.contains(f.time)
                    && f.crop.is_some()
                    && f.subject == clip.subject));
                prop_assert_eq!(clip.face_absence.is_none(), !clip.faces.is_empty());
                if let Ok(voice) = &clip.voice {
                    prop_assert_eq!(
                        voice.samples.len() as i64,
                        (clip.span.nanos() + 31_250) / 62_500
                    );
                    prop_assert!(
                        0.0 < voice.speech
                            && voice.speech <= 1.0
                            && 0.0 < voice.owner_confidence
                            && voice.owner_confidence <= 1.0
                    );
                    prop_assert!(clip.span.contains(voice.newest) || voice.newest == clip.span.end);
                } else {
                    prop_assert!(face, "an off-camera clip without a voice");
                }
            }
        }
    }
    prop_assert_eq!(open_turn, None, "the end of the recording ends its turn");
    Ok(())
}
