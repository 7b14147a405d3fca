//! Compares MTCNN's detections on real pictures with stored ones of facenet-pytorch 2.5.3.

use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::clip::Landmarks;
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

#[derive(Deserialize)]
struct ReferenceFace {
    box_x1y1x2y2: [f32; 4],
    probability: f32,
    landmarks_xy: Landmarks,
}

fn read_png(path: &Path) -> RgbImage {
    let image = image::open(path).unwrap().to_rgb8();
    RgbImage {
        width: image.width() as usize,
        height: image.height() as usize,
        pixels: image.into_raw(),
    }
}

fn detector() -> Mtcnn {
    Mtcnn::open(
        &Runtime::load().unwrap(),
        &project("models/mtcnn"),
        Provider::Cpu,
        DetectorSettings::default(),
    )
    .unwrap()
}

#[test]
fn detections_match_those_of_facenet_pytorch() {
    let Some(folder) = material("detector") else {
        return;
    };
    let reference: Reference =
        serde_json::from_slice(&std::fs::read(folder.join("mtcnn.json")).unwrap()).unwrap();
    let mut detector = detector();
    let (mut faces, mut worst_px, mut worst_probability, mut nanos) = (0, 0.0f32, 0.0f32, 0);
    for expected in &reference.pictures {
        let image = read_png(&folder.join(&expected.picture));
        detector.detect_rgb(&image, 40.0).unwrap();
        let started = crate::time::monotonic_nanos();
        let found = detector.detect_rgb(&image, 40.0).unwrap();
        nanos += crate::time::monotonic_nanos() - started;
        assert_eq!(found.len(), expected.faces.len(), "{}", expected.picture);
        for face in &expected.faces {
            let [x1, y1, x2, y2] = face.box_x1y1x2y2;
            let rect = Rect {
                x: x1,
                y: y1,
                w: x2 - x1,
                h: y2 - y1,
            };
            let near = found
                .iter()
                .max_by(|a, b| a.rect.iou(&rect).total_cmp(&b.rect.iou(&rect)))
                .unwrap();
            let corners = [
                near.rect.x - x1,
                near.rect.y - y1,
                near.rect.x + near.rect.w - x2,
                near.rect.y + near.rect.h - y2,
            ];
            let points = near
                .landmarks
                .iter()
                .zip(face.landmarks_xy)
                .flat_map(|(a, b)| [a[0] - b[0], a[1] - b[1]]);
            worst_px = corners
                .into_iter()
                .chain(points)
                .fold(worst_px, |worst, d| worst.max(d.abs()));
            worst_probability = worst_probability.max((near.score - face.probability).abs());
            faces += 1;
        }
    }
    println!(
        "{faces} faces in {} pictures; at most {worst_px} px and {worst_probability} from the \
         reference; {:.1} ms a picture",
        reference.pictures.len(),
        nanos as f64 * 1e-6 / reference.pictures.len() as f64
    );
    assert!(faces > 20 && worst_px < 1.0 && worst_probability < 0.01);
}
