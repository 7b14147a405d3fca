//! Composed recordings whose truth is known: real faces with their surroundings on moving paths.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::clip::{ColorMatrix, Colorimetry, face_slot};
use crate::encode::{Provider, Runtime};
use crate::face::{Detector, DetectorSettings, Mtcnn, RgbImage};
use crate::model::manifest::FaceNormalisation;
use crate::testing::{material, project};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FPS: i64 = 25;

/// A face with its surroundings, as it is pasted. The middle of the face is the middle of the cutout.
struct Cutout {
    image: RgbImage,
    /// Longer side of the face's box.
    face_side: f32,
}

/// One person's path: centre of the face at a time in seconds; `None` where nobody is. Later actors stand in front.
struct Actor<'a> {
    cutout: &'a Cutout,
    path: Box<dyn Fn(f32) -> Option<[f32; 2]> + 'a>,
}

struct Stand {
    detector: Detector,
    stage: FaceStage,
}

/// The detectors that a scene is played with.
const DETECTORS: [&str; 2] = ["models/yunet", "models/mtcnn"];

fn stand(settings: FaceSettings) -> Stand {
    stand_with(DETECTORS[0], settings)
}

fn stand_with(detector: &str, settings: FaceSettings) -> Stand {
    let runtime = Runtime::load().unwrap();
    let models = project(detector);
    let preprocessing = FacePreprocessing {
        size: 48,
        channels: 1,
        rate_hz: 10.0,
        template: [
            [0.31, 0.35],
            [0.69, 0.35],
            [0.5, 0.56],
            [0.35, 0.76],
            [0.65, 0.76],
        ],
        normalise: FaceNormalisation::PerCrop { floor: 0.02 },
        min_quality: 0.1,
    };
    Stand {
        detector: Detector::open(
            &runtime,
            &models,
            Provider::Cpu,
            DetectorSettings::default(),
        )
        .unwrap(),
        stage: FaceStage::new(
            settings,
            Some(preprocessing),
            Follower::open(
                &runtime,
                &project("models/mtcnn"),
                &models,
                Provider::Cpu,
                1,
            )
            .unwrap(),
        ),
    }
}

impl Stand {
    fn frame(&mut self, index: u64, picture: Picture) -> FramedFaces {
        let time = MediaTime::from_nanos(index as i64 * 1_000_000_000 / FPS);
        let frame = VideoFrame {
            index,
            time,
            duration_nanos: None,
            picture: Arc::new(picture),
        };
        if self.stage.wants_detection(&frame) {
            let found = self.detector.detect(&frame.picture).unwrap();
            self.stage.detected(time, found);
        }
        self.stage.advance(&frame).unwrap()
    }
}

/// Each picture's best face, scaled so that its box is about `side` pixels high.
fn cutouts(folder: &Path, names: &[&str], side: f32) -> Vec<Cutout> {
    let mut detector = Mtcnn::open(
        &Runtime::load().unwrap(),
        &project("models/mtcnn"),
        Provider::Cpu,
        DetectorSettings::default(),
    )
    .unwrap();
    names
        .iter()
        .map(|name| {
            let png = image::open(folder.join(name)).unwrap().to_rgb8();
            let whole = RgbImage {
                width: png.width() as usize,
                height: png.height() as usize,
                pixels: png.into_raw(),
            };
            let found = detector.detect_rgb(&whole, 40.0).unwrap();
            let rect = found[0].rect;
            let scale = rect.w.max(rect.h) / side;
            let ([cx, cy], out) = (rect.center(), (side * 1.5) as usize);
            let mut pixels = Vec::with_capacity(out * out * 3);
            for y in 0..out {
                for x in 0..out {
                    // Mean over what a pixel covers; the border repeats.
                    let taps = (scale.ceil() as usize).clamp(1, 6);
                    let mut sum = [0.0f32; 3];
                    for t in 0..taps * taps {
                        let (tx, ty) = ((t % taps) as f32, (t / taps) as f32);
                        let px =
                            cx + (x as f32 + (tx + 0.5) / taps as f32 - out as f32 / 2.0) * scale;
                        let py =
                            cy + (y as f32 + (ty + 0.5) / taps as f32 - out as f32 / 2.0) * scale;
                        let (px, py) = (
                            px.clamp(0.0, whole.width as f32 - 1.0) as usize,
                            py.clamp(0.0, whole.height as f32 - 1.0) as usize,
                        );
                        for (c, s) in sum.iter_mut().enumerate() {
                            *s += f32::from(whole.pixels[(py * whole.width + px) * 3 + c]);
                        }
                    }
                    pixels.extend(sum.map(|s| (s / (taps * taps) as f32) as u8));
                }
            }
            Cutout {
                image: RgbImage {
                    width: out,
                    height: out,
                    pixels,
                },
                face_side: side,
            }
        })
        .collect()
}

/// The scene at a time, as I420, with a little noise that depends on the frame alone. `pillar` hides the columns it covers.
fn compose(
    actors: &[Actor<'_>],
    time: f32,
    index: u64,
    pillar: Option<std::ops::Range<usize>>,
) -> Picture {
    let mut rgb = vec![0u8; WIDTH * HEIGHT * 3];
    let background = |x: usize, y: usize| {
        [
            70 + (x / 8) as u8,
            90 + (y / 6) as u8,
            110 + ((x * 7 + y * 13) % 23) as u8,
        ]
    };
    for (i, pixel) in rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *pixel = background(i % WIDTH, i / WIDTH);
    }
    for actor in actors {
        let Some([cx, cy]) = (actor.path)(time) else {
            continue;
        };
        let side = actor.cutout.image.width;
        let (left, top) = (
            (cx - side as f32 / 2.0).round() as i64,
            (cy - side as f32 / 2.0).round() as i64,
        );
        for y in 0..side {
            for x in 0..side {
                // An ellipse of person; outside it the background shows.
                let (u, v) = (
                    2.0 * x as f32 / side as f32 - 1.0,
                    2.0 * y as f32 / side as f32 - 1.0,
                );
                let (px, py) = (left + x as i64, top + y as i64);
                if u * u + v * v <= 1.0
                    && (0..WIDTH as i64).contains(&px)
                    && (0..HEIGHT as i64).contains(&py)
                {
                    let from = (y * side + x) * 3;
                    let to = (py as usize * WIDTH + px as usize) * 3;
                    rgb[to..to + 3].copy_from_slice(&actor.cutout.image.pixels[from..from + 3]);
                }
            }
        }
    }
    for x in pillar.into_iter().flatten() {
        for y in 0..HEIGHT {
            rgb[(y * WIDTH + x) * 3..][..3].copy_from_slice(&background(x, y).map(|v| v / 2));
        }
    }
    let mut state = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for value in &mut rgb {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *value = value.saturating_add_signed((state >> 61) as i8 - 3);
    }
    i420(&rgb)
}

fn i420(rgb: &[u8]) -> Picture {
    let at = |x: usize, y: usize| -> [f32; 3] {
        std::array::from_fn(|c| f32::from(rgb[(y * WIDTH + x) * 3 + c]))
    };
    let luma = |[r, g, b]: [f32; 3]| 0.299 * r + 0.587 * g + 0.114 * b;
    let mut data: Vec<u8> = (0..WIDTH * HEIGHT)
        .map(|i| luma(at(i % WIDTH, i / WIDTH)).round() as u8)
        .collect();
    for weights in [[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]] {
        for i in 0..(WIDTH / 2) * (HEIGHT / 2) {
            let (x, y) = (i % (WIDTH / 2) * 2, i / (WIDTH / 2) * 2);
            let sum: f32 = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .iter()
                .map(|(dx, dy)| {
                    at(x + dx, y + dy)
                        .iter()
                        .zip(weights)
                        .map(|(v, w)| v * w)
                        .sum::<f32>()
                })
                .sum();
            data.push((128.0 + sum / 4.0).round().clamp(0.0, 255.0) as u8);
        }
    }
    Picture::from_i420(
        WIDTH,
        HEIGHT,
        Colorimetry {
            matrix: ColorMatrix::Bt601,
            full_range: true,
        },
        data,
    )
}

/// What came out against what went in.
#[derive(Debug, Default)]
struct Outcome {
    /// Per actor: frames on which each subject stood on them.
    ids: Vec<BTreeMap<SubjectId, u32>>,
    /// Per actor: frames with an unobstructed face, and those of them on which it was followed.
    clear: Vec<(u32, u32)>,
    changes: Vec<SubjectChange>,
}

impl Outcome {
    fn is_one_id_each(&self) -> bool {
        let firsts: std::collections::BTreeSet<_> = self
            .ids
            .iter()
            .filter_map(|ids| ids.keys().next())
            .collect();
        self.ids.iter().all(|ids| ids.len() == 1) && firsts.len() == self.ids.len()
    }
}

fn play(
    detector: &str,
    actors: &[Actor<'_>],
    seconds: f32,
    pillar: Option<std::ops::Range<usize>>,
) -> Outcome {
    let mut stand = stand_with(detector, FaceSettings::default());
    let mut outcome = Outcome {
        ids: vec![BTreeMap::new(); actors.len()],
        clear: vec![(0, 0); actors.len()],
        changes: Vec::new(),
    };
    for index in 0..(seconds * FPS as f32) as u64 {
        let time = index as f32 / FPS as f32;
        let framed = stand.frame(index, compose(actors, time, index, pillar.clone()));
        let places: Vec<_> = actors.iter().map(|a| (a.path)(time)).collect();
        for (i, place) in places.iter().enumerate() {
            let (Some([x, y]), side) = (place, actors[i].cutout.face_side) else {
                continue;
            };
            let front = places[i + 1..]
                .iter()
                .flatten()
                .map(|p| (p[0] - x).hypot(p[1] - y) / side)
                .fold(f32::MAX, f32::min);
            let from_pillar = pillar.as_ref().map_or(f32::MAX, |p| {
                ((x - (p.start + p.end) as f32 / 2.0).abs() - p.len() as f32 / 2.0) / side
            });
            let inside = *x > side * 0.6 && *x < WIDTH as f32 - side * 0.6;
            // Whoever is mostly covered is nobody's to find.
            let on_it = if front > 0.5 && from_pillar > 0.0 {
                framed.faces.iter().find(|f| {
                    crate::face::associate::distance(f.rect.center(), [*x, *y]) < 0.3 * side
                })
            } else {
                None
            };
            if let Some(face) = on_it {
                *outcome.ids[i].entry(face.subject).or_default() += 1;
            }
            if front > 1.6 && from_pillar > 0.8 && inside && time > 0.6 {
                outcome.clear[i].0 += 1;
                outcome.clear[i].1 += u32::from(on_it.is_some());
            }
        }
        outcome.changes.extend(framed.changes);
    }
    outcome.changes.extend(
        stand
            .stage
            .finish(MediaTime::from_nanos((seconds * 1e9) as i64)),
    );
    outcome
}

const PEOPLE: [&str; 6] = [
    "liveportrait_d10_30.png",
    "newsreader_german_100.png",
    "liveportrait_s18_10.png",
    "W036_level_3_happy_007_30.png",
    "retalking1_22fps_40.png",
    "latentsync1_hevc_portrait_50.png",
];

fn linear(from: [f32; 2], to: [f32; 2], seconds: f32) -> Box<dyn Fn(f32) -> Option<[f32; 2]>> {
    Box::new(move |t| {
        Some(std::array::from_fn(|k| {
            from[k] + (to[k] - from[k]) * (t / seconds).clamp(0.0, 1.0)
        }))
    })
}

#[test]
fn those_who_cross_keep_their_ids() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE, 110.0);
    let (mut scenes, mut kept) = (0, 0);
    for (a, back) in people.iter().enumerate() {
        // Every pair once, each person sometimes behind and sometimes in front.
        for (b, front) in people
            .iter()
            .enumerate()
            .filter(|(b, _)| (*b > a) == ((a + b) % 2 == 0) && *b != a)
        {
            let seconds = if (a + b) % 2 == 0 { 3.0 } else { 5.0 };
            let actors = [
                Actor {
                    cutout: back,
                    path: linear([110.0, 180.0], [530.0, 170.0], seconds),
                },
                Actor {
                    cutout: front,
                    path: linear([530.0, 190.0], [110.0, 180.0], seconds),
                },
            ];
            for detector in DETECTORS {
                let outcome = play(detector, &actors, seconds + 0.5, None);
                let fine = outcome.is_one_id_each()
                    && outcome
                        .clear
                        .iter()
                        .all(|(clear, followed)| *followed * 100 >= *clear * 95);
                if !fine {
                    println!(
                        "{detector}: {} behind {}: {:?} {:?}",
                        PEOPLE[a], PEOPLE[b], outcome.ids, outcome.clear
                    );
                }
                scenes += 1;
                kept += u32::from(fine);
            }
        }
    }
    println!("{kept} of {scenes} crossings without an exchange, one id a person");
    assert_eq!(kept, scenes);
}

#[test]
fn who_hides_for_a_second_comes_back_as_the_same() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE, 110.0);
    for (i, person) in people.iter().enumerate() {
        let other = &people[(i + 1) % people.len()];
        // Behind a pillar, going on at the same pace; and gone for a second, back 60 px away. Another one stands by.
        let behind = [
            Actor {
                cutout: other,
                path: Box::new(|_| Some([540.0, 170.0])),
            },
            Actor {
                cutout: person,
                path: linear([90.0, 180.0], [440.0, 180.0], 3.5),
            },
        ];
        let gone = [
            Actor {
                cutout: other,
                path: Box::new(|_| Some([500.0, 170.0])),
            },
            Actor {
                cutout: person,
                path: Box::new(|t| {
                    if t < 1.5 {
                        Some([200.0, 180.0])
                    } else {
                        (t >= 2.5).then_some([260.0, 190.0])
                    }
                }),
            },
        ];
        let scenes = [(behind, Some(210..310)), (gone, None)];
        for (detector, (actors, pillar)) in DETECTORS
            .iter()
            .flat_map(|detector| scenes.iter().map(move |scene| (*detector, scene)))
        {
            let outcome = play(detector, actors, 4.5, pillar.clone());
            assert!(
                outcome.is_one_id_each(),
                "{}: {:?} {:?}",
                PEOPLE[i],
                outcome.ids,
                outcome.changes
            );
            assert!(
                outcome
                    .clear
                    .iter()
                    .all(|(clear, followed)| *followed * 100 >= *clear * 85),
                "{}: {:?}",
                PEOPLE[i],
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
    }
}

#[test]
fn who_leaves_is_lost_after_a_while_and_another_is_someone_new() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE[..2], 110.0);
    let actors = [
        Actor {
            cutout: &people[0],
            path: Box::new(|t| (t < 2.0).then_some([300.0 + 250.0 * t, 180.0])),
        },
        Actor {
            cutout: &people[1],
            path: Box::new(|t| (t >= 5.0).then_some([200.0, 180.0])),
        },
    ];
    let outcome = play(DETECTORS[0], &actors, 6.0, None);
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
fn a_cut_is_a_new_shot() {
    let Some(folder) = material("detector") else {
        return;
    };
    let mut stand = stand(FaceSettings::default());
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
        changes.extend(stand.frame(index, picture).changes);
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
fn a_still_face_stands_still() {
    let Some(folder) = material("detector") else {
        return;
    };
    let people = cutouts(&folder, &PEOPLE, 110.0);
    let mut worst = 0.0f32;
    for (i, person) in people.iter().enumerate() {
        let mut stand = stand(FaceSettings::default());
        let actors = [Actor {
            cutout: person,
            path: Box::new(|_| Some([300.0, 180.0])),
        }];
        let mut seen: Vec<[[f32; 2]; 5]> = Vec::new();
        for index in 0..75 {
            let framed = stand.frame(index, compose(&actors, 0.0, index, None));
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
fn the_same_recording_gives_the_same_faces_and_crops_one_a_slot() {
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
        let mut stand = stand(FaceSettings::default());
        (0..50)
            .map(|index| {
                stand.frame(
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
fn more_than_the_limit_are_not_followed() {
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
    let mut stand = stand(FaceSettings {
        max_subjects: 2,
        ..FaceSettings::default()
    });
    let mut subjects = std::collections::BTreeSet::new();
    for index in 0..50 {
        let framed = stand.frame(index, compose(&actors, 0.0, index, None));
        assert!(framed.faces.len() <= 2);
        subjects.extend(framed.faces.iter().map(|f| f.subject));
    }
    assert_eq!(subjects.len(), 2);
}

/// Each pixel three times in each direction: 1080p.
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

/// What is not the network's run stays well below it. Both are measured in the same frames.
#[test]
fn following_costs_little_beside_the_network() {
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
        let runtime = Runtime::load().unwrap();
        let mut stand = stand(FaceSettings {
            detect_interval: Duration::from_secs(3600),
            ..FaceSettings::default()
        });
        let tally = runtime
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
        // Per frame, and its median: what else runs on this machine hits some frames only.
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
                stand.detector.detect(&frame.picture).unwrap();
                let started = crate::time::monotonic_nanos();
                let found = stand.detector.detect(&frame.picture).unwrap();
                detect = crate::time::monotonic_nanos() - started;
                stand.stage.detected(time, found);
            }
            let (bare_before, started) = (bare_so_far(), crate::time::monotonic_nanos());
            let framed = stand.stage.advance(&frame).unwrap();
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
            "{count} faces at {size}: the network {:.2} ms a frame, all else {:.2} ms; a detection {:.1} ms",
            ms(bare),
            ms(beside),
            ms(detect)
        );
        assert!(beside < bare, "{beside} ns beside {bare} ns of the network");
    }
}

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
