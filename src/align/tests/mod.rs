//! Example-based tests of the aligner; the property tests are in [`streams`] and [`transcripts`].
#![expect(
    clippy::single_range_in_vec_init,
    reason = "a list of one interval of time"
)]

use std::collections::VecDeque;

use super::*;
use crate::clip::{Absence, samples_to_nanos};
use scene::*;

mod active_speaker;
mod faces;
#[cfg(feature = "capture")]
mod real;
mod scene;
mod sources;
mod streams;
mod transcripts;

const S1: SubjectId = SubjectId::Face(1);
const S2: SubjectId = SubjectId::Face(2);

#[test]
fn clips_start_at_the_appearance_and_end_on_the_grid() {
    let output = play(
        settings(),
        frames(&[Person::new(1, 320..9000)], 3000, 25),
        sound(&[], &[], 3000, &[160]),
        &[],
    );
    let spans = spans(&clips_of(&output, S1));
    // The first boundary is 80 ms after the appearance, less than half a hop: no clip ends there.
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
    let output = play(
        settings(),
        frames(&[Person::new(1, 0..9000)], 120, 25),
        sound(&[], &[], 140, &[160]),
        &[],
    );
    let clips = clips(&output);
    assert_eq!(spans(&clips), [(0, 120)]);
    assert_eq!(
        clips[0].faces.len(),
        2,
        "two slots of 62.5 ms begin in 120 ms, and their first frames are usable"
    );
}

#[test]
fn a_single_frame_yields_one_clip() {
    let output = play(
        AlignSettings {
            audio: false,
            ..settings()
        },
        frames(&[Person::new(1, 0..9000)], 30, 25),
        Vec::new(),
        &[],
    );
    let clips = clips(&output);
    assert_eq!((clips.len(), clips[0].faces.len()), (1, 1));
    assert!(matches!(clips[0].voice, Err(Absence::NoSource)));
}

#[test]
fn a_loss_comes_after_the_clip_of_the_last_data() {
    let output = play(
        settings(),
        frames(&[Person::new(1, 0..1120)], 2000, 25),
        sound(&[], &[], 2000, &[512]),
        &[],
    );
    let clips = clips_of(&output, S1);
    assert_eq!(spans(&clips)[4..], [(0, 1000), (0, 1120)]);
    let Some(Aligned::Subject(last)) = output.last() else {
        panic!("the loss comes last: {:?}", output.last())
    };
    assert_eq!((last.phase, last.time), (SubjectPhase::Lost, ms(1120)));

    let output = play(
        settings(),
        frames(&[Person::new(1, 0..1080)], 2000, 25),
        sound(&[], &[], 2000, &[512]),
        &[],
    );
    assert_eq!(
        spans(&clips_of(&output, S1)).last(),
        Some(&(0, 1000)),
        "80 ms are too short for a last clip"
    );
}
