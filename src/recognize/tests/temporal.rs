//! Stability and delay of the default bundle's scores over time: unchanged and changing faces with
//! camera noise. The faces are those of FER2013's PublicTest.

use std::io::Write;
use std::sync::Arc;

use super::*;
use crate::clip::{ClipText, ClipVoice, Crop, Face, Rect, SubjectId};
use crate::labels::label_index;
use crate::time::{MediaTime, Span};
use crate::train::data::Part;
use crate::train::data::fer::{self, LabelledCrop};

/// Interval between two faces, in milliseconds.
const FACE_MS: i64 = 100;
/// Interval between two recognitions, in milliseconds.
const HOP_MS: i64 = 200;

/// A face every [`FACE_MS`]: the first crop of `of` for `before_ms` milliseconds, then the second
/// for as long. Each frame has its own noise.
fn frames(of: [&Crop; 2], before_ms: i64, seed: u64) -> Vec<Arc<Face>> {
    let mut state = seed;
    let mut noise = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 13) as i16 - 6
    };
    (0..2 * before_ms / FACE_MS)
        .map(|n| {
            let crop = of[usize::from(n * FACE_MS >= before_ms)];
            let pixels = crop
                .pixels
                .iter()
                .map(|p| (i16::from(*p) + noise()).clamp(0, 255) as u8)
                .collect();
            Arc::new(Face {
                id: n as u64,
                subject: SubjectId::Face(1),
                time: MediaTime::from_millis(n * FACE_MS),
                rect: Rect {
                    x: 0.0,
                    y: 0.0,
                    w: 1.0,
                    h: 1.0,
                },
                landmarks: [[0.0; 2]; 5],
                score: 1.0,
                quality: 1.0,
                lip_motion: 0.0,
                crop: Some(Arc::new(Crop {
                    pixels,
                    ..crop.clone()
                })),
            })
        })
        .collect()
}

/// Recognises the faces at every hop; returns (end of the window in milliseconds, recognition).
fn answers(recognizer: &mut Recognizer, faces: &[Arc<Face>]) -> Vec<(i64, Recognition)> {
    recognizer
        .caches
        .iter_mut()
        .for_each(|cache| *cache = FaceCache::default());
    let length_ms = i64::from(recognizer.bundle().manifest.window.length_ms);
    let last_ms = faces.len() as i64 * FACE_MS;
    let clip = |end_ms: i64| {
        let span = Span::new(
            MediaTime::from_millis(end_ms - length_ms),
            MediaTime::from_millis(end_ms),
        );
        Clip {
            subject: SubjectId::Face(1),
            span,
            faces: faces
                .iter()
                .filter(|f| span.start <= f.time && f.time < span.end)
                .cloned()
                .collect(),
            faces_missing: 0,
            face_absence: None,
            voice: Err::<ClipVoice, _>(Absence::NoSpeech),
            text: Err::<ClipText, _>(Absence::NoTranscript),
            skew_nanos: None,
            aligned_at: span.end,
        }
    };
    (length_ms..=last_ms)
        .step_by(HOP_MS as usize)
        .map(|end_ms| (end_ms, recognizer.recognize(&clip(end_ms))))
        .collect()
}

/// The first `count` pictures with this label that the bundle classifies correctly.
fn pictures(
    recognizer: &mut Recognizer,
    crops: &[LabelledCrop],
    label: &str,
    count: usize,
) -> Vec<Crop> {
    let wanted = label_index(label).unwrap();
    let of_label = crops.iter().filter(|c| c.label == wanted);
    // Only faces that the bundle classifies correctly, because the test measures the delay and not
    // the accuracy.
    let rightly = of_label.filter(|c| {
        answers(recognizer, &frames([&c.crop; 2], 1000, 1))
            .last()
            .is_some_and(|(_, a)| a.top == wanted && a.confidence > 0.5)
    });
    rightly.take(count).map(|c| c.crop.clone()).collect()
}

#[test]
fn scores_of_unchanged_faces_are_stable_and_changes_show_within_400_ms() {
    let Some(archive) = crate::testing::material("faces/fer2013_training_publictest.tar.xz") else {
        return;
    };
    let crops: Vec<LabelledCrop> = fer::read(&archive, None)
        .unwrap()
        .into_iter()
        .filter(|c| c.part == Part::Report)
        .collect();
    let mut recognizer = recognizer();
    let neutral = pictures(&mut recognizer, &crops, "neutral", 12);
    let (mut flicker, mut delays_ms) = (Vec::new(), Vec::new());
    for other in ["happy", "surprised", "sad"] {
        for (i, (from, to)) in neutral
            .iter()
            .zip(pictures(&mut recognizer, &crops, other, 12))
            .enumerate()
        {
            let all = answers(&mut recognizer, &frames([from, &to], 3000, 7 + i as u64));
            let wanted = label_index(other).unwrap();
            for pair in all.windows(2).filter(|pair| pair[1].0 <= 3000) {
                let changes = pair[0]
                    .1
                    .scores
                    .iter()
                    .zip(&pair[1].1.scores)
                    .map(|(a, b)| (a - b).abs());
                flicker.push(changes.sum::<f32>() / pair[0].1.scores.len() as f32);
            }
            let seen = all
                .iter()
                .find(|(end, answer)| *end > 3000 && answer.top == wanted);
            delays_ms.push(seen.map_or(i64::MAX, |(end, _)| end - 3000));
        }
    }
    assert!(
        delays_ms.len() >= 24,
        "only {} pairs of faces",
        delays_ms.len()
    );
    let mean = flicker.iter().sum::<f32>() / flicker.len() as f32;
    delays_ms.sort_unstable();
    let (median, late) = (
        delays_ms[delays_ms.len() / 2],
        delays_ms.iter().filter(|d| **d > 400).count(),
    );
    let largest = flicker.iter().copied().fold(0.0, f32::max);
    let _ = writeln!(
        std::io::stderr(),
        "{} faces that change: seen after {median} ms (median), {late} later than 400 ms; still: \
         scores change by {mean:.4} a hop, at most {largest:.4}",
        delays_ms.len()
    );
    assert!(mean < 0.03, "still faces flicker by {mean}");
    assert!(
        median <= 400 && late * 10 <= delays_ms.len(),
        "changes are seen after {delays_ms:?} ms"
    );
}
