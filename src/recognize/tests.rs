mod batch;
#[cfg(feature = "sentence")]
mod heads;
// The module reads FER2013 with the trainer's loaders.
#[cfg(feature = "corpus")]
mod temporal;
#[cfg(feature = "sentence")]
mod text;

use std::sync::Arc;

use super::*;
use crate::clip::{ClipText, ClipVoice, Face, Rect, SubjectId};
use crate::encode::{Provider, Runtime};
use crate::manifest::FaceNormalisation;
use crate::model::golden::{golden_crop, golden_samples};
use crate::testing::project;
use crate::time::{MediaTime, Span};

fn recognizer() -> Recognizer {
    let runtime = Runtime::load().unwrap();
    Recognizer::new(Bundle::open(&runtime, &project("models/default"), Provider::Cpu, 1).unwrap())
}

/// A clip of 2 s with the modalities of `presence`: five faces with ids from `first_id`, 2 s of
/// sound, a text.
pub(super) fn clip(recognizer: &Recognizer, presence: Presence, first_id: u64) -> Clip {
    let face = recognizer.bundle().manifest.face.as_ref().unwrap();
    let at = |n: u32| MediaTime::from_millis(i64::from(n) * 100);
    let seen = |n: u32| {
        Arc::new(Face {
            id: first_id + u64::from(n),
            subject: SubjectId::Face(1),
            time: at(n),
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
            crop: Some(Arc::new(golden_crop(7, n, face.size, face.channels))),
        })
    };
    let voice = ClipVoice {
        samples: golden_samples(7, 32_000).into(),
        speech: 1.0,
        missing_nanos: 0,
        owner_confidence: 1.0,
        newest: at(20),
    };
    Clip {
        subject: SubjectId::Face(1),
        span: Span::new(at(0), at(20)),
        faces: if presence.face {
            (0..5).map(seen).collect()
        } else {
            Vec::new()
        },
        faces_missing: 0,
        face_absence: (!presence.face).then_some(Absence::NoFace),
        voice: if presence.voice {
            Ok(voice)
        } else {
            Err(Absence::NoSpeech)
        },
        text: if presence.text {
            Ok(ClipText {
                text: "what a day".into(),
                newest: at(20),
            })
        } else {
            Err(Absence::NoTranscript)
        },
        skew_nanos: None,
        aligned_at: at(20),
    }
}

#[test]
fn every_subset_of_modalities_gives_scores_and_no_evidence_abstains() {
    let mut recognizer = recognizer();
    for presence in Presence::subsets().chain([Presence::default()]) {
        let clip = clip(&recognizer, presence, 0);
        let answer = recognizer.recognize(&clip);
        let sum: f32 = answer.scores.iter().sum();
        assert!(
            (sum - 1.0).abs() < 1e-4 && answer.scores.iter().all(|s| s.is_finite()),
            "{}: {answer:?}",
            presence.name()
        );
        assert_eq!(answer.used, presence);
        assert_eq!(
            answer.absence.text,
            (!presence.text).then_some(Absence::NoTranscript)
        );
        if presence.is_none() {
            assert!(answer.abstain, "{}: no evidence", presence.name());
        }
    }
}

#[test]
fn cached_faces_give_the_same_recognition_and_are_encoded_once() {
    let mut recognizer = recognizer();
    let clip = clip(
        &recognizer,
        Presence {
            face: true,
            ..Presence::default()
        },
        100,
    );
    let first = recognizer.recognize(&clip);
    let cached = recognizer.caches.iter().map(|c| c.order.len()).max();
    assert_eq!(recognizer.recognize(&clip), first);
    assert_eq!(
        recognizer.caches.iter().map(|c| c.order.len()).max(),
        cached
    );
    assert_eq!(cached, Some(5));
}

#[test]
fn an_encoder_with_its_own_rate_gets_the_first_face_of_each_slot() {
    let mut recognizer = recognizer();
    let presence = Presence {
        face: true,
        ..Presence::default()
    };
    let (all, mut two) = (
        clip(&recognizer, presence, 0),
        clip(&recognizer, presence, 50),
    );
    // The faces are at 0, 100, … 400 ms. At 4 Hz the slots begin at 0 and 250 ms, so their first
    // faces are those at 0 and 300 ms.
    two.faces = [0, 3].map(|i| two.faces[i].clone()).to_vec();
    let expected = recognizer.recognize(&two);
    assert_ne!(recognizer.recognize(&all).scores, expected.scores);
    let mut slower = self::recognizer();
    let entry = &mut slower
        .bundle
        .encoders
        .iter_mut()
        .find(|e| e.entry.modality == Modality::Face)
        .unwrap()
        .entry;
    entry.rate_hz = Some(4.0);
    assert_eq!(slower.recognize(&all).scores, expected.scores);
    assert_eq!(slower.caches.iter().map(|c| c.order.len()).max(), Some(2));
}

#[test]
fn an_encoders_own_normalisation_replaces_that_of_the_manifest() {
    let (mut shared, mut own) = (recognizer(), recognizer());
    let clip = clip(
        &shared,
        Presence {
            face: true,
            ..Presence::default()
        },
        0,
    );
    let usual = shared.recognize(&clip).scores;
    let fixed = FaceNormalisation::Fixed {
        mean: vec![0.5],
        std: vec![0.25],
    };
    own.bundle
        .encoders
        .iter_mut()
        .find(|e| e.entry.modality == Modality::Face)
        .unwrap()
        .entry
        .normalise = Some(fixed.clone());
    assert_ne!(own.recognize(&clip).scores, usual);
    let mut all = recognizer();
    all.bundle.manifest.face.as_mut().unwrap().normalise = fixed;
    assert_eq!(own.recognize(&clip).scores, all.recognize(&clip).scores);
}

#[test]
fn non_finite_outputs_count_as_a_model_fault() {
    let mut recognizer = recognizer();
    let mut clip = clip(
        &recognizer,
        Presence {
            face: true,
            voice: true,
            text: false,
        },
        0,
    );
    clip.voice.as_mut().unwrap().samples = vec![f32::NAN; 32_000].into();
    let answer = recognizer.recognize(&clip);
    assert_eq!(answer.absence.voice, Some(Absence::ModelFault));
    assert!(answer.used.face && !answer.used.voice && answer.scores.iter().all(|s| s.is_finite()));
    clip.faces.clear();
    let answer = recognizer.recognize(&clip);
    assert!(answer.abstain && answer.scores.iter().all(|s| s.is_finite()));
}
