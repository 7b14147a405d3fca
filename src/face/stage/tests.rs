//! Tests of the face stage on composed recordings: subject ids through crossings, occlusions and
//! scene cuts; steadiness of landmarks; crops.

mod cost;
mod detectors;
mod figures;
mod head;
mod kinds;
mod recording;
mod scene;
mod simulated;
mod truth;

use super::*;
use crate::clip::{SubjectId, face_slot};
use crate::testing::material;
use figures::{figures, outcomes};
use recording::Scene;
use scene::{Actor, DETECTORS, FPS, PEOPLE, compose, cutouts, harness, linear};

#[test]
fn people_who_cross_each_other_keep_their_subject_ids() {
    let Some(folder) = material("detector") else {
        return;
    };
    for kind in ["crossing", "crossing, MTCNN"] {
        let crossings = outcomes(kind, &folder);
        assert_eq!(crossings.len(), 15, "every pair once");
        for (scene, outcome) in crossings.iter().enumerate() {
            let fine = outcome.is_one_id_each()
                && outcome
                    .clear
                    .iter()
                    .all(|(clear, followed)| *followed * 100 >= *clear * 95);
            assert!(
                fine,
                "{kind} {scene}: {:?} {:?}",
                outcome.ids, outcome.clear
            );
        }
        assert_eq!(figures(crossings).switches, 0, "{kind}");
    }
}

#[test]
fn a_subject_that_is_hidden_for_a_second_keeps_its_id() {
    let Some(folder) = material("detector") else {
        return;
    };
    for kind in ["occlusion", "occlusion, MTCNN"] {
        let occlusions = outcomes(kind, &folder);
        assert_eq!(occlusions.len(), 2 * PEOPLE.len(), "two scenes a person");
        for (scene, outcome) in occlusions.iter().enumerate() {
            assert!(
                outcome.is_one_id_each(),
                "{kind} {scene}: {:?} {:?}",
                outcome.ids,
                outcome.changes
            );
            assert!(
                outcome
                    .clear
                    .iter()
                    .all(|(clear, followed)| *followed * 100 >= *clear * 85),
                "{kind} {scene}: {:?}",
                outcome.clear
            );
            assert_eq!(
                outcome
                    .changes
                    .iter()
                    .filter(|c| c.phase == SubjectPhase::Appeared)
                    .count(),
                2
            );
        }
        assert_eq!(figures(occlusions).switches, 0, "{kind}");
    }
}

#[test]
fn a_departed_subject_is_lost_and_a_new_person_gets_a_new_id() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE[..2], 110.0);
    let actors = vec![
        Actor {
            cutout: &people[0],
            path: Box::new(|t| (t < 2.0).then_some([300.0 + 250.0 * t, 180.0])),
        },
        Actor {
            cutout: &people[1],
            path: Box::new(|t| (t >= 5.0).then_some([200.0, 180.0])),
        },
    ];
    let outcome = Scene::new(actors, 6.0).play(DETECTORS[0]);
    let phases: Vec<_> = outcome
        .changes
        .iter()
        .filter(|c| c.phase != SubjectPhase::Updated)
        .map(|c| (c.phase, c.subject, c.time.secs_f64()))
        .collect();
    let [
        (SubjectPhase::Appeared, first, _),
        (SubjectPhase::Lost, lost, when),
        (SubjectPhase::Appeared, second, _),
        (SubjectPhase::Lost, last, _),
    ] = phases[..]
    else {
        panic!("{phases:?}")
    };
    assert!(
        first == lost && second == last && first != second,
        "{phases:?}"
    );
    assert!(
        (2.5..4.2).contains(&when),
        "hidden for two seconds since it went over the border: {phases:?}"
    );
}

#[test]
fn at_a_scene_cut_subjects_are_lost_and_new_ones_appear() {
    let Some(folder) = material("detector") else {
        return;
    };
    let mut harness = harness(FaceSettings::default());
    let people = cutouts(&folder, &PEOPLE[..2], 140.0);
    let mut changes = Vec::new();
    for index in 0..50 {
        let (person, flip) = if index < 25 {
            (&people[0], false)
        } else {
            (&people[1], true)
        };
        let actors = [Actor {
            cutout: person,
            path: Box::new(|_| Some([300.0, 180.0])),
        }];
        let picture = compose(&actors, 0.0, index, flip.then_some(380..640));
        changes.extend(harness.frame(index, picture).changes);
    }
    let phases: Vec<_> = changes.iter().map(|c| (c.phase, c.subject)).collect();
    let (s1, s2) = (SubjectId::Face(1), SubjectId::Face(2));
    assert_eq!(
        phases,
        [
            (SubjectPhase::Appeared, s1),
            (SubjectPhase::Lost, s1),
            (SubjectPhase::Appeared, s2)
        ]
    );
}

#[test]
fn landmarks_of_a_still_face_deviate_by_less_than_a_third_of_a_pixel() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE, 110.0);
    let mut worst = 0.0f32;
    for (i, person) in people.iter().enumerate() {
        let mut harness = harness(FaceSettings::default());
        let actors = [Actor {
            cutout: person,
            path: Box::new(|_| Some([300.0, 180.0])),
        }];
        let mut seen: Vec<[[f32; 2]; 5]> = Vec::new();
        for index in 0..75 {
            let framed = harness.frame(index, compose(&actors, 0.0, index, None));
            seen.extend(
                framed
                    .faces
                    .iter()
                    .filter(|_| index >= 15)
                    .map(|f| f.landmarks),
            );
        }
        assert_eq!(seen.len(), 60, "{}", PEOPLE[i]);
        for point in 0..5 {
            for k in 0..2 {
                let mean = seen.iter().map(|l| l[point][k]).sum::<f32>() / 60.0;
                let deviation = (seen
                    .iter()
                    .map(|l| (l[point][k] - mean).powi(2))
                    .sum::<f32>()
                    / 60.0)
                    .sqrt();
                worst = worst.max(deviation);
            }
        }
    }
    println!("a still face's landmarks deviate by at most {worst:.3} px");
    assert!(worst < 0.3);
}

#[test]
fn a_recording_gives_the_same_faces_each_time_and_one_crop_per_slot() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE[..2], 110.0);
    let run = || {
        let actors = [
            Actor {
                cutout: &people[0],
                path: linear([110.0, 180.0], [530.0, 170.0], 2.0),
            },
            Actor {
                cutout: &people[1],
                path: linear([530.0, 190.0], [110.0, 180.0], 2.0),
            },
        ];
        let mut harness = harness(FaceSettings::default());
        (0..50)
            .map(|index| {
                harness.frame(
                    index,
                    compose(&actors, index as f32 / FPS as f32, index, None),
                )
            })
            .collect::<Vec<_>>()
    };
    let first = run();
    assert_eq!(format!("{first:?}"), format!("{:?}", run()));
    let mut slots = std::collections::BTreeSet::new();
    let mut ids = std::collections::BTreeSet::new();
    for face in first.iter().flat_map(|f| &f.faces) {
        assert!(ids.insert(face.id), "a face's id is unique");
        if face.crop.is_some() {
            assert!(
                slots.insert((face.subject, face_slot(face.time, 10.0))),
                "two crops in a slot"
            );
        }
    }
    assert!(slots.len() > 20);
}

#[test]
fn at_most_max_subjects_faces_are_tracked() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE[..3], 90.0);
    let actors: Vec<_> = people
        .iter()
        .enumerate()
        .map(|(i, cutout)| Actor {
            cutout,
            path: Box::new(move |_| Some([120.0 + 200.0 * i as f32, 180.0])),
        })
        .collect();
    let mut harness = harness(FaceSettings {
        max_subjects: 2,
        ..FaceSettings::default()
    });
    let mut subjects = std::collections::BTreeSet::new();
    for index in 0..50 {
        let framed = harness.frame(index, compose(&actors, 0.0, index, None));
        assert!(framed.faces.len() <= 2);
        subjects.extend(framed.faces.iter().map(|f| f.subject));
    }
    assert_eq!(subjects.len(), 2);
}
