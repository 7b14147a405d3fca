//! Tests of the faces in clips.

use super::*;

#[test]
fn clips_have_one_face_per_slot_and_count_missing_ones() {
    let last = |fps: i64, rate_hz: f64, person: Person| {
        let output = play(
            AlignSettings {
                face_rate_hz: rate_hz,
                ..settings()
            },
            frames(&[person], 6000, fps),
            sound(&[], &[], 6000, &[160]),
            &[],
        );
        clips_of(&output, S1)
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
    let output = play(
        settings(),
        frames(&[Person::new(1, 0..9000)], 6000, 30),
        sound(&[], &[], 6000, &[160]),
        &[],
    );
    let ids: std::collections::BTreeSet<_> = clips(&output)
        .iter()
        .flat_map(|c| c.faces.iter().map(|f| f.id))
        .collect();
    // 6 s have the length of 6 * 16 slots, but touch one slot more: slots begin before the
    // multiples of their length.
    assert!(
        ids.len() <= 6 * 16 + 1,
        "{} faces to encode in 6 s at 16 Hz",
        ids.len()
    );
}
