//! The detectors on composed pictures: recall by size and light, time.

use super::scene::{Actor, DETECTORS, HEIGHT, PEOPLE, WIDTH, compose, cutouts, stand_with};
use crate::clip::Picture;
use crate::face::{Detection, FaceSettings};
use crate::testing::material;

/// The picture with this share of its light.
fn dimmed(picture: &Picture, light: f32) -> Picture {
    let mut data = picture.bytes().to_vec();
    let (luma, chroma) = data.split_at_mut(WIDTH * HEIGHT);
    for value in luma {
        *value = (f32::from(*value) * light).round() as u8;
    }
    for value in chroma {
        *value = (128.0 + (f32::from(*value) - 128.0) * light).round() as u8;
    }
    Picture::from_i420(WIDTH, HEIGHT, picture.colorimetry, data)
}

/// Faces whose places are known: how many of them each detector finds, by size and light, and what else it finds.
#[test]
fn the_default_detector_finds_no_less_than_mtcnn() {
    let Some(folder) = material("detector") else {
        return;
    };
    const LIGHT: [f32; 3] = [1.0, 0.25, 0.08];
    const PLACES: [[f32; 2]; 3] = [[170.0, 170.0], [330.5, 180.25], [480.0, 190.75]];
    let sizes = [32.0f32, 40.0, 56.0, 90.0, 150.0, 220.0];
    let mut found = [0; DETECTORS.len()];
    for (d, folder_of) in DETECTORS.iter().enumerate() {
        let mut detector = stand_with(folder_of, FaceSettings::default()).detector;
        let (mut others, mut nanos, mut pictures, mut looked_for) = (0, 0, 0, 0);
        for light in LIGHT {
            let mut row = String::new();
            for side in sizes {
                let people = cutouts(&folder, &PEOPLE, side);
                let mut hits = 0;
                for (person, place) in people.iter().flat_map(|p| PLACES.map(|place| (p, place))) {
                    let actors = [Actor {
                        cutout: person,
                        path: Box::new(move |_| Some(place)),
                    }];
                    let picture = dimmed(&compose(&actors, 0.0, 7, None), light);
                    let started = crate::time::monotonic_nanos();
                    let faces = detector.detect(&picture).unwrap();
                    nanos += crate::time::monotonic_nanos() - started;
                    pictures += 1;
                    let on_it = |face: &&Detection| {
                        crate::face::associate::distance(face.rect.center(), place) < 0.3 * side
                            && (0.5..2.0).contains(&(face.rect.w.max(face.rect.h) / side))
                    };
                    hits += faces.iter().filter(on_it).count().min(1);
                    others += faces.iter().filter(|f| !on_it(f)).count();
                }
                found[d] += hits;
                looked_for += PEOPLE.len() * PLACES.len();
                row += &format!(
                    "  {side} px {:.2}",
                    hits as f32 / (PEOPLE.len() * PLACES.len()) as f32
                );
            }
            println!("{folder_of}, light {light}:{row}");
        }
        println!(
            "{folder_of}: {} of {looked_for} faces, {others} others, {:.2} ms a picture of {WIDTH}x{HEIGHT}",
            found[d],
            nanos as f64 * 1e-6 / f64::from(pictures)
        );
    }
    assert!(found[0] >= found[1], "{found:?}");
}
