//! Compares YuNet's proposals with those of the authors' library, and tests the decoding of the
//! network's output.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::clip::{ColorMatrix, Colorimetry};
use crate::testing::{material, project};

#[derive(Deserialize)]
struct Reference {
    pictures: Vec<ReferencePicture>,
}

#[derive(Deserialize)]
struct ReferencePicture {
    picture: String,
    faces: Vec<ReferenceFace>,
}

/// Whole pixels and hundredths.
#[derive(Deserialize)]
struct ReferenceFace {
    score: f32,
    #[serde(rename = "box")]
    rect: [f32; 4],
    landmarks: Landmarks,
}

fn detector() -> YuNet {
    YuNet::open(
        &Runtime::load().unwrap(),
        &project("models/yunet"),
        Provider::Cpu,
        DetectorSettings::default(),
    )
    .unwrap()
}

/// Whether `whole` is `found` as the library truncates it to whole pixels.
fn is_truncation(found: f32, whole: f32) -> bool {
    (found.trunc() - whole).abs() < 0.5 || (found - whole).abs() < 1.05
}

#[test]
fn proposals_match_the_authors_library() {
    let Some(folder) = material("detector") else {
        return;
    };
    let golden = std::fs::read(project("tests/golden/yunet.json")).unwrap();
    let reference: Reference = serde_json::from_slice(&golden).unwrap();
    let mut detector = detector();
    let (mut faces, mut pictures) = (0, 0);
    for expected in &reference.pictures {
        let png = image::open(folder.join(&expected.picture))
            .unwrap()
            .to_rgb8();
        let image = RgbImage {
            width: png.width() as usize,
            height: png.height() as usize,
            pixels: png.into_raw(),
        };
        let (w, h) = (image.width, image.height);
        detector.fill_inputs(&image, w, h);
        detector
            .propose(w.next_multiple_of(GRID), h.next_multiple_of(GRID))
            .unwrap();
        // Proposals exactly at the threshold may be missing.
        let certain = |score: f32| score >= 100.0 * THRESHOLD + 1.0;
        for face in expected.faces.iter().filter(|f| certain(f.score)) {
            let near = detector.proposals.iter().any(|p| {
                let Rect { x, y, w, h } = p.rect;
                is_truncation(100.0 * p.score, face.score)
                    && [x, y, w, h]
                        .iter()
                        .zip(face.rect)
                        .all(|(found, whole)| is_truncation(*found, whole))
                    && p.landmarks
                        .iter()
                        .flatten()
                        .zip(face.landmarks.iter().flatten())
                        .all(|(found, whole)| is_truncation(*found, *whole))
            });
            assert!(near, "{}: {:?} is missing", expected.picture, face.rect);
            faces += 1;
        }
        merge(&mut detector.proposals);
        let merged = detector
            .proposals
            .iter()
            .filter(|p| certain((100.0 * p.score).trunc()))
            .count();
        let wanted = expected.faces.iter().filter(|f| certain(f.score)).count();
        assert_eq!(merged, wanted, "{}", expected.picture);
        pictures += 1;
    }
    println!("{faces} faces in {pictures} pictures are those of the library");
    assert!(faces > 20);
}

#[test]
fn pictures_of_any_size_can_be_searched() {
    let mut detector = detector();
    for (w, h) in [(1usize, 1usize), (2, 700), (700, 2), (33, 31), (640, 360)] {
        let length = w * h + 2 * w.div_ceil(2) * h.div_ceil(2);
        let grey = Picture::from_i420(
            w,
            h,
            Colorimetry {
                matrix: ColorMatrix::Bt601,
                full_range: true,
            },
            vec![128; length],
        );
        assert!(detector.detect(&grey).unwrap().is_empty(), "{w}x{h}");
    }
}

fn proposal(score: f32, x: f32, y: f32, side: f32) -> Proposal {
    Proposal {
        score,
        rect: Rect {
            x,
            y,
            w: side,
            h: side,
        },
        landmarks: [[x, y]; 5],
    }
}

#[test]
fn proposals_of_one_face_become_their_weighted_mean() {
    let mut proposals = vec![
        proposal(0.6, 13.0, 10.0, 40.0),
        proposal(0.7, 200.0, 10.0, 40.0),
        proposal(0.9, 8.0, 10.0, 40.0),
    ];
    merge(&mut proposals);
    assert_eq!(proposals.len(), 2);
    assert_eq!(proposals[0].score, 0.9);
    assert!((proposals[0].rect.x - 10.0).abs() < 1e-4);
    assert!((proposals[0].landmarks[4][0] - 10.0).abs() < 1e-4);
    assert_eq!(proposals[1], proposal(0.7, 200.0, 10.0, 40.0));
}

#[test]
fn a_cell_of_the_output_is_decoded_by_its_position_and_stride() {
    // Two rows of three cells; only the last one has a score.
    let (rows, columns) = (2, 3);
    let mut values = vec![0.0f32; CELL_VALUES * rows * columns];
    let mut set = |k: usize, value: f32| values[k * rows * columns + 5] = value;
    let cell = [0.81, 1.0, 0.5, -0.25, 2.0f32.ln(), 3.0f32.ln(), 1.0, 0.5];
    for (k, value) in cell.into_iter().enumerate() {
        set(k, value);
    }
    let level = Level {
        stride: 16,
        rows,
        columns,
        values: &values,
    };
    let mut proposals = Vec::new();
    level.propose(0.5, &mut proposals);
    let [found] = proposals[..] else {
        panic!("{proposals:?}")
    };
    assert!((found.score - 0.9).abs() < 1e-6);
    // The centre is at (2.5, 0.75) strides.
    let Rect { x, y, w, h } = found.rect;
    for (found, expected) in [x, y, w, h].into_iter().zip([24.0, -12.0, 32.0, 48.0]) {
        assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
    }
    assert_eq!(found.landmarks[0], [48.0, 24.0]);
}

proptest! {
    #[test]
    fn a_merged_box_has_the_best_score_and_lies_within_the_merged_boxes(
        all in prop::collection::vec(
            (0.0f32..200.0, 0.0f32..200.0, 10.0f32..60.0, 0.5f32..1.0),
            0..40,
        ),
    ) {
        let all: Vec<Proposal> = all
            .into_iter()
            .map(|(x, y, side, score)| proposal(score, x, y, side))
            .collect();
        let mut merged = all.clone();
        merge(&mut merged);
        prop_assert!(merged.len() <= all.len() && merged.is_empty() == all.is_empty());
        prop_assert!(merged.is_sorted_by(|a, b| a.score >= b.score));
        let sides = |p: &Proposal| [p.rect.x, p.rect.y, p.rect.w, p.rect.h];
        for one in &merged {
            for (i, value) in sides(one).into_iter().enumerate() {
                let among = |select: fn(f32, f32) -> f32, start: f32| {
                    all.iter().map(|p| sides(p)[i]).fold(start, select)
                };
                prop_assert!(value >= among(f32::min, f32::MAX) - 1e-2);
                prop_assert!(value <= among(f32::max, f32::MIN) + 1e-2);
            }
        }
    }

    #[test]
    fn probability_grows_with_the_score(a in 0.0f32..1.0, b in 0.0f32..1.0) {
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(probability(low) <= probability(high));
        prop_assert!((0.0..=1.0).contains(&probability(a)));
    }
}
