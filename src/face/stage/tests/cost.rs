//! Compares the time of tracking outside the networks with the time of the networks.

use std::sync::Arc;
use std::time::Duration;

use super::scene::{Actor, FPS, HEIGHT, PEOPLE, WIDTH, compose, cutouts, harness};
use crate::clip::{Picture, VideoFrame};
use crate::face::FaceSettings;
use crate::testing::material;
use crate::time::MediaTime;

/// The picture with each pixel repeated three times in both directions: 1920x1080.
fn enlarged(picture: &Picture) -> Picture {
    let mut data = Vec::new();
    for (plane, (w, h)) in [
        (WIDTH, HEIGHT),
        (WIDTH / 2, HEIGHT / 2),
        (WIDTH / 2, HEIGHT / 2),
    ]
    .into_iter()
    .enumerate()
    {
        let from = &picture.bytes()[picture.planes[plane].offset..];
        (0..3 * h).for_each(|y| data.extend((0..3 * w).map(|x| from[y / 3 * w + x / 3])));
    }
    Picture::from_i420(3 * WIDTH, 3 * HEIGHT, picture.colorimetry, data)
}

/// Both times are measured on the same frames.
#[test]
fn tracking_takes_less_time_outside_the_networks_than_inside() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE[..4], 100.0);
    for (count, large) in [
        (1, false),
        (2, false),
        (4, false),
        (1, true),
        (2, true),
        (4, true),
    ] {
        let mut harness = harness(FaceSettings {
            detect_interval: Duration::from_secs(3600),
            ..FaceSettings::default()
        });
        // The last graph of this name is the tracker's.
        let tally = harness
            .runtime
            .tallies()
            .into_iter()
            .rfind(|t| t.graph == "onet")
            .unwrap();
        let actors: Vec<_> = people
            .iter()
            .take(count)
            .enumerate()
            .map(|(i, cutout)| Actor {
                cutout,
                path: Box::new(move |_| Some([90.0 + 150.0 * i as f32, 180.0])),
            })
            .collect();
        let pictures: Vec<Arc<Picture>> = (0..4)
            .map(|i| {
                let picture = compose(&actors, 0.0, i, None);
                Arc::new(if large { enlarged(&picture) } else { picture })
            })
            .collect();
        let bare_so_far = || tally.total().nanos;
        // The median of the frames: other processes disturb some frames only.
        let (mut bare, mut beside, mut detect) = (Vec::new(), Vec::new(), 0);
        for index in 0..80u64 {
            let time = MediaTime::from_nanos(index as i64 * 1_000_000_000 / FPS);
            let frame = VideoFrame {
                index,
                time,
                duration_nanos: None,
                picture: pictures[index as usize % 4].clone(),
            };
            if index == 0 {
                harness.detector.detect(&frame.picture).unwrap();
                let started = crate::time::monotonic_nanos();
                let found = harness.detector.detect(&frame.picture).unwrap();
                detect = crate::time::monotonic_nanos() - started;
                harness.stage.detected(time, found);
            }
            let (bare_before, started) = (bare_so_far(), crate::time::monotonic_nanos());
            let framed = harness.stage.advance(&frame).unwrap();
            let nanos = crate::time::monotonic_nanos() - started;
            assert_eq!(framed.faces.len(), count);
            if index > 4 {
                let of_network = bare_so_far() - bare_before;
                bare.push(of_network);
                beside.push(nanos - of_network);
            }
        }
        bare.sort_unstable();
        beside.sort_unstable();
        let (bare, beside) = (bare[bare.len() / 2], beside[beside.len() / 2]);
        let ms = |nanos: i64| nanos as f64 * 1e-6;
        let size = if large { "1920x1080" } else { "640x360" };
        println!(
            "{count} faces at {size}: the network {:.2} ms a frame, all else {:.2} ms; a \
             detection {:.1} ms",
            ms(bare),
            ms(beside),
            ms(detect)
        );
        assert!(beside < bare, "{beside} ns beside {bare} ns of the network");
    }
}
