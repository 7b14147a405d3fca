//! Tests of the metrics: small cases that are computed by hand, and a random sequence that
//! TrackEval and py-motmetrics have computed.

use super::*;

/// A square with sides of ten pixels, whose left edge is at `x`.
fn square(id: u32, x: f32) -> LabelledBox {
    let rect = Rect {
        x,
        y: 0.0,
        w: 10.0,
        h: 10.0,
    };
    LabelledBox { id, rect }
}

/// Metrics of a sequence of ten frames. `truth` and `tracked` return the squares in a frame as (id,
/// left edge).
fn figures(
    truth: impl Fn(usize) -> Vec<(u32, f32)>,
    tracked: impl Fn(usize) -> Vec<(u32, f32)>,
) -> Figures {
    let boxes = |list: Vec<(u32, f32)>| list.into_iter().map(|(id, x)| square(id, x)).collect();
    let frames: Vec<AnnotatedFrame> = (0..10)
        .map(|frame| AnnotatedFrame {
            truth: boxes(truth(frame)),
            ignored: Vec::new(),
            tracked: boxes(tracked(frame)),
        })
        .collect();
    let mut sequence = Sequence::default();
    sequence.append(&frames);
    sequence.figures()
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
}

/// [Misses, false positives, identity switches, fragmentations].
fn counts(figures: &Figures) -> [usize; 4] {
    [
        figures.misses,
        figures.false_positives,
        figures.switches,
        figures.fragmentations,
    ]
}

#[test]
fn perfect_tracks_have_all_shares_equal_to_one() {
    let two = |frame: usize| vec![(1, frame as f32), (2, 50.0 - frame as f32)];
    let renamed = |frame: usize| vec![(9, 50.0 - frame as f32), (4, frame as f32)];
    let found = figures(two, renamed);
    assert_eq!((found.boxes, counts(&found)), (20, [0; 4]));
    for share in [
        found.mota,
        found.motp,
        found.idf1,
        found.idp,
        found.idr,
        found.hota,
        found.det_a,
        found.ass_a,
        found.loc_a,
    ] {
        near(share, 1.0);
    }
}

#[test]
fn without_tracks_every_box_is_a_miss() {
    let found = figures(|_| vec![(1, 0.0)], |_| Vec::new());
    assert_eq!(counts(&found), [10, 0, 0, 0]);
    near(found.mota, 0.0);
    near(found.idf1, 0.0);
    near(found.hota, 0.0);
}

#[test]
fn a_switch_in_the_middle_halves_identity_and_association_metrics() {
    let id = |frame: usize| if frame < 5 { 1 } else { 2 };
    let found = figures(|_| vec![(1, 0.0)], |frame| vec![(id(frame), 0.0)]);
    assert_eq!(counts(&found), [0, 0, 1, 0]);
    near(found.mota, 0.9);
    // Five of the ten boxes have the assigned identity.
    near(found.idf1, 0.5);
    near(found.idp, 0.5);
    near(found.idr, 0.5);
    near(found.det_a, 1.0);
    // For each match: five frames together, ten frames with either.
    near(found.ass_a, 0.5);
    near(found.hota, 0.5f64.sqrt());
}

#[test]
fn a_missed_frame_is_one_miss_and_one_fragmentation() {
    let tracked = |frame: usize| Vec::from_iter((frame != 4).then_some((1, 0.0)));
    let found = figures(|_| vec![(1, 0.0)], tracked);
    assert_eq!(counts(&found), [1, 0, 0, 1]);
    near(found.mota, 0.9);
    near(found.idp, 1.0);
    near(found.idr, 0.9);
    near(found.idf1, 18.0 / 19.0);
    near(found.det_a, 0.9);
    near(found.ass_a, 0.9);
    near(found.hota, 0.9);
}

#[test]
fn an_absent_person_is_neither_a_miss_nor_a_fragmentation() {
    let present = |frame: usize| Vec::from_iter((frame != 4).then_some((1, 0.0)));
    let found = figures(present, present);
    assert_eq!((found.boxes, counts(&found)), (9, [0; 4]));
    near(found.hota, 1.0);
}

#[test]
fn false_positives_reduce_precision_and_not_recall() {
    let tracked = |frame: usize| {
        let mut boxes = vec![(1, 0.0)];
        boxes.extend((frame >= 8).then_some((2, 100.0)));
        boxes
    };
    let found = figures(|_| vec![(1, 0.0)], tracked);
    assert_eq!(counts(&found), [0, 2, 0, 0]);
    near(found.mota, 0.8);
    near(found.idp, 10.0 / 12.0);
    near(found.idr, 1.0);
    near(found.idf1, 20.0 / 22.0);
    near(found.det_a, 10.0 / 12.0);
    near(found.ass_a, 1.0);
    near(found.hota, (10.0f64 / 12.0).sqrt());
}

#[test]
fn swapped_identities_are_two_switches() {
    let truth = |_| vec![(1, 0.0), (2, 50.0)];
    let tracked = |frame: usize| {
        if frame < 5 {
            vec![(1, 0.0), (2, 50.0)]
        } else {
            vec![(1, 50.0), (2, 0.0)]
        }
    };
    let found = figures(truth, tracked);
    assert_eq!(counts(&found), [0, 0, 2, 0]);
    near(found.mota, 0.9);
    near(found.idf1, 0.5);
    // For each match: five frames together, fifteen boxes of person or track.
    near(found.ass_a, 1.0 / 3.0);
    near(found.hota, (1.0f64 / 3.0).sqrt());
}

#[test]
fn boxes_off_by_a_tenth_match_at_sixteen_of_the_nineteen_thresholds() {
    // Squares of ten pixels that are one pixel apart have an IoU of 9/11, above 0.80 and below
    // 0.85.
    let found = figures(|_| vec![(1, 0.0)], |_| vec![(1, 1.0)]);
    near(found.motp, 9.0 / 11.0);
    near(found.mota, 1.0);
    near(found.hota, 16.0 / 19.0);
    near(found.loc_a, (16.0 * 9.0 / 11.0 + 3.0) / 19.0);
    // With an IoU below 0.5 a pair is both a miss and a false positive.
    let found = figures(|_| vec![(1, 0.0)], |_| vec![(1, 4.0)]);
    assert_eq!(counts(&found), [10, 10, 0, 0]);
    near(found.mota, -1.0);
    near(found.idf1, 0.0);
}

#[test]
fn a_match_continues_although_another_track_overlaps_more() {
    let tracked = |frame: usize| {
        let mut boxes = vec![(1, 2.0)];
        boxes.extend((frame >= 5).then_some((2, 0.0)));
        boxes
    };
    let found = figures(|_| vec![(1, 0.0)], tracked);
    assert_eq!(counts(&found), [0, 5, 0, 0]);
    near(found.motp, 8.0 / 12.0);
}

#[test]
fn a_track_is_assigned_to_the_person_of_most_of_its_frames() {
    // Track 1 is on person 1 for four frames and on person 2 for six; track 2 is on the other
    // person.
    let truth = |_| vec![(1, 0.0), (2, 50.0)];
    let tracked = |frame: usize| {
        if frame < 4 {
            vec![(1, 0.0), (2, 50.0)]
        } else {
            vec![(1, 50.0), (2, 0.0)]
        }
    };
    near(figures(truth, tracked).idf1, 0.6);
}

#[test]
fn a_track_on_an_ignored_box_does_not_count() {
    let frame = |ignored: Vec<LabelledBox>| AnnotatedFrame {
        truth: vec![square(1, 0.0)],
        ignored: ignored.into_iter().map(|b| b.rect).collect(),
        tracked: vec![square(1, 0.0), square(2, 50.0)],
    };
    let figures = |frame: AnnotatedFrame| {
        let mut sequence = Sequence::default();
        sequence.append(&[frame]);
        sequence.figures()
    };
    assert_eq!(figures(frame(Vec::new())).false_positives, 1);
    // The second ignored box has no track, which is not a miss.
    let found = figures(frame(vec![square(0, 51.0), square(0, 90.0)]));
    assert_eq!((found.boxes, counts(&found)), (1, [0; 4]));
    // The person beside an ignored box keeps its track.
    let found = figures(frame(vec![square(0, 1.0)]));
    assert_eq!((found.misses, found.false_positives), (0, 1));
}

#[test]
fn ids_of_two_recordings_are_unrelated() {
    let recording = |id: u32| {
        let frame = AnnotatedFrame {
            truth: vec![square(1, 0.0)],
            ignored: Vec::new(),
            tracked: vec![square(id, 0.0)],
        };
        vec![frame; 3]
    };
    let mut sequence = Sequence::default();
    sequence.append(&recording(1));
    sequence.append(&recording(2));
    let found = sequence.figures();
    assert_eq!(counts(&found), [0; 4]);
    near(found.hota, 1.0);
    near(found.idf1, 1.0);
}

/// The golden file holds the metrics of a random sequence by TrackEval and py-motmetrics.
#[test]
fn a_random_sequence_has_the_metrics_of_trackeval_and_py_motmetrics() {
    #[derive(Deserialize)]
    struct Golden {
        figures: Figures,
        /// Truth and tracks of each frame, as `[id, x, y, w, h]`.
        frames: Vec<[Vec<[u16; 5]>; 2]>,
    }
    let path = crate::testing::project("tests/golden/tracking_metrics.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let boxes = |list: &Vec<[u16; 5]>| {
        let labelled = |[id, x, y, w, h]: &[u16; 5]| LabelledBox {
            id: u32::from(*id),
            rect: Rect {
                x: f32::from(*x),
                y: f32::from(*y),
                w: f32::from(*w),
                h: f32::from(*h),
            },
        };
        list.iter().map(labelled).collect()
    };
    let frames: Vec<AnnotatedFrame> = golden
        .frames
        .iter()
        .map(|[truth, tracked]| AnnotatedFrame {
            truth: boxes(truth),
            ignored: Vec::new(),
            tracked: boxes(tracked),
        })
        .collect();
    let mut sequence = Sequence::default();
    sequence.append(&frames);
    let (found, expected) = (sequence.figures(), golden.figures);
    assert_eq!(found.boxes, expected.boxes);
    assert_eq!(counts(&found), counts(&expected));
    let shares = |f: &Figures| {
        [
            f.mota, f.motp, f.idf1, f.idp, f.idr, f.hota, f.det_a, f.ass_a, f.loc_a,
        ]
    };
    for (found, expected) in shares(&found).into_iter().zip(shares(&expected)) {
        near(found, expected);
    }
}
