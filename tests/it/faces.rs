//! Tests of face tracking on real recordings, compared with counts by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use expressd::clip::{ColorMatrix, Colorimetry, Picture, SubjectId, SubjectPhase, VideoFrame};
use expressd::encode::{Provider, Runtime};
use expressd::face::{Detector, DetectorSettings, FaceSettings, FaceStage, Follower};
use expressd::testing::{material, project};
use expressd::time::{MediaTime, monotonic_nanos};
use gstreamer::prelude::*;
use gstreamer_video::VideoFrameExt;

/// Decodes a file and calls `each` with every frame, in order. The planes have no padding.
fn decode(path: &Path, mut each: impl FnMut(VideoFrame)) {
    gstreamer::init().unwrap();
    let uri = gstreamer::glib::filename_to_uri(path.canonicalize().unwrap(), None).unwrap();
    let description = format!(
        "uridecodebin uri=\"{uri}\" caps=video/x-raw ! videoconvert ! video/x-raw,format=I420 ! \
         appsink name=sink sync=false max-buffers=2"
    );
    let pipeline = gstreamer::parse::launch(&description)
        .unwrap()
        .downcast::<gstreamer::Pipeline>()
        .unwrap();
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .downcast::<gstreamer_app::AppSink>()
        .unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let mut index = 0;
    while let Ok(sample) = sink.pull_sample() {
        let info = gstreamer_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let buffer = sample.buffer().unwrap();
        let frame =
            gstreamer_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
        let (w, h) = (info.width() as usize, info.height() as usize);
        let mut data = Vec::with_capacity(w * h * 3 / 2);
        for (plane, (columns, rows)) in [
            (w, h),
            (w.div_ceil(2), h.div_ceil(2)),
            (w.div_ceil(2), h.div_ceil(2)),
        ]
        .into_iter()
        .enumerate()
        {
            let stride = frame.plane_stride()[plane] as usize;
            let bytes = frame.plane_data(plane as u32).unwrap();
            (0..rows)
                .for_each(|y| data.extend_from_slice(&bytes[y * stride..y * stride + columns]));
        }
        let colorimetry = info.colorimetry();
        let matrix = if colorimetry.matrix() == gstreamer_video::VideoColorMatrix::Bt709 {
            ColorMatrix::Bt709
        } else {
            ColorMatrix::Bt601
        };
        let full_range = colorimetry.range() == gstreamer_video::VideoColorRange::Range0_255;
        let picture = Picture::from_i420(w, h, Colorimetry { matrix, full_range }, data);
        let time = MediaTime::from_nanos(buffer.pts().map_or(0, |t| t.nseconds() as i64));
        each(VideoFrame {
            index,
            time,
            duration_nanos: None,
            picture: Arc::new(picture),
        });
        index += 1;
    }
    pipeline.set_state(gstreamer::State::Null).unwrap();
}

/// When and how a subject was visible; times are in seconds.
#[derive(Clone, Copy, Debug)]
struct Presence {
    /// Time of the first frame.
    from: f64,
    /// Time of the last frame.
    to: f64,
    frames: u32,
    /// Number of frames with a quality that the default bundle accepts.
    usable: u32,
    /// Longer side of the subject's largest box, in pixels.
    side: f32,
}

/// Lowest quality that the default bundle accepts, its `min_quality`.
const MIN_QUALITY: f32 = 0.15;

/// Totals of face detection and tracking over a file; times are in milliseconds.
#[derive(Debug, Default)]
struct TrackedFile {
    frames: u32,
    frames_with_face: u32,
    /// Largest number of faces in one frame.
    most_at_once: usize,
    subjects: BTreeMap<SubjectId, Presence>,
    quality_sum: f64,
    faces: u32,
    detections: u32,
    /// Time of detection.
    detect_ms: f64,
    /// Time of tracking.
    advance_ms: f64,
    /// Time of the tracker's network.
    graph_ms: f64,
}

/// Opens a detector with the graphs in the folder `detected_by`, and the face stage.
fn open(runtime: &Runtime, detected_by: &str) -> (Detector, FaceStage) {
    let models = project(detected_by);
    let settings = DetectorSettings::default();
    let detector = Detector::open(runtime, &models, Provider::Cpu, settings).unwrap();
    let tracker = project("models/mtcnn");
    let follower = Follower::open(runtime, &tracker, &models, Provider::Cpu, 1).unwrap();
    let stage = FaceStage::new(FaceSettings::default(), None, follower);
    (detector, stage)
}

/// Detects and tracks the faces of a file.
fn track(path: &Path) -> TrackedFile {
    let runtime = Runtime::load().unwrap();
    let (mut detector, mut stage) = open(&runtime, "models/yunet");
    let tally = runtime
        .tallies()
        .into_iter()
        .rfind(|t| t.graph == "onet")
        .unwrap();
    let mut tracked = TrackedFile::default();
    decode(path, |frame| {
        let started = monotonic_nanos();
        if stage.wants_detection(&frame) {
            let found = detector.detect(&frame.picture).unwrap();
            tracked.detections += 1;
            stage.detected(frame.time, found);
        }
        let detected = monotonic_nanos();
        let framed = stage.advance(&frame).unwrap();
        tracked.detect_ms += (detected - started) as f64 * 1e-6;
        tracked.advance_ms += (monotonic_nanos() - detected) as f64 * 1e-6;
        tracked.frames += 1;
        tracked.frames_with_face += u32::from(!framed.faces.is_empty());
        tracked.most_at_once = tracked.most_at_once.max(framed.faces.len());
        for change in framed
            .changes
            .iter()
            .filter(|c| c.phase == SubjectPhase::Appeared)
        {
            let at = change.time.secs_f64();
            tracked.subjects.insert(
                change.subject,
                Presence {
                    from: at,
                    to: at,
                    frames: 0,
                    usable: 0,
                    side: 0.0,
                },
            );
        }
        for face in &framed.faces {
            let presence = tracked
                .subjects
                .get_mut(&face.subject)
                .expect("a subject appears before it is seen");
            (presence.to, presence.frames) = (face.time.secs_f64(), presence.frames + 1);
            presence.usable += u32::from(face.quality >= MIN_QUALITY);
            presence.side = presence.side.max(face.rect.w).max(face.rect.h);
            tracked.quality_sum += f64::from(face.quality);
            tracked.faces += 1;
        }
    });
    tracked.graph_ms = tally.total().nanos as f64 * 1e-6;
    assert!(tracked.frames > 0, "{} gave no picture", path.display());
    let subjects: Vec<String> = tracked
        .subjects
        .iter()
        .map(|(id, p)| {
            format!(
                "{id} {:.2}..{:.2}s on {} frames, {} usable",
                p.from, p.to, p.frames, p.usable
            )
        })
        .collect();
    println!(
        "{}: {} frames, {} with a face, at most {} at once; {}; quality {:.2}; {:.2} ms a frame \
         of which {:.2} the network, {} detections of {:.1} ms",
        path.file_name().unwrap().to_string_lossy(),
        tracked.frames,
        tracked.frames_with_face,
        tracked.most_at_once,
        subjects.join(", "),
        tracked.quality_sum / f64::from(tracked.faces.max(1)),
        tracked.advance_ms / f64::from(tracked.frames),
        tracked.graph_ms / f64::from(tracked.frames),
        tracked.detections,
        tracked.detect_ms / f64::from(tracked.detections.max(1)),
    );
    tracked
}

/// The media files in a folder of the material, sorted; `None` if there is no material.
fn files(folder: &str) -> Option<Vec<std::path::PathBuf>> {
    let mut files: Vec<_> = std::fs::read_dir(material(folder)?)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.retain(|f| f.extension().is_some_and(|e| e != "align"));
    files.sort();
    Some(files)
}

#[test]
fn one_speaker_is_one_subject_on_every_frame() {
    for folder in ["av/talking", "av/mead", "av/mead_silent", "av/grid_s1"] {
        let Some(files) = files(folder) else { return };
        for file in files.iter().take(if folder == "av/grid_s1" {
            3
        } else {
            usize::MAX
        }) {
            let tracked = track(file);
            assert_eq!(tracked.subjects.len(), 1, "{}", file.display());
            assert!(
                tracked.frames_with_face * 100 >= tracked.frames * 98,
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn unusual_recordings_have_the_expected_number_of_subjects() {
    for (file, subjects, least_share) in [
        ("av/odd/face_then_none_hevc.mov", 1, 30),
        ("av/odd/mpeg1_mp2.mpg", 1, 98),
        ("av/odd/short_mpeg4_160px.mp4", 1, 98),
        ("av/odd/no_face.mp4", 0, 0),
        ("av/not_faces/cartoon_neutral.mp4", 0, 0),
        ("av/not_faces/mona_lisa.mp4", 1, 98),
    ] {
        let Some(file) = material(file) else { return };
        let tracked = track(&file);
        assert_eq!(tracked.subjects.len(), subjects, "{}", file.display());
        assert!(
            tracked.frames_with_face * 100 >= tracked.frames * least_share,
            "{}",
            file.display()
        );
    }
}

/// Counted by hand: two men side by side in one shot, both always visible.
#[test]
fn two_people_side_by_side_are_two_subjects() {
    let Some(file) = material("av/several_people/interview_two_speakers.mp4") else {
        return;
    };
    let tracked = track(&file);
    assert_eq!((tracked.subjects.len(), tracked.most_at_once), (2, 2));
    assert!(
        tracked
            .subjects
            .values()
            .all(|p| p.frames * 100 >= tracked.frames * 98)
    );
}

/// Counted by hand: six people in one shot. A boy, a girl, an old woman, an old man and a bearded
/// man are present from the start. The bearded man is occluded at times; the old woman ducks behind
/// the girl at 18 s. A young woman's face is visible for a second or two after 13 s.
///
/// Known defect: in the last second the girl turns away, cheek to cheek with the old woman, and
/// her id passes to the old woman.
#[test]
fn six_people_at_a_table_are_six_subjects() {
    let Some(file) = material("av/several_people/dinner_silent.mp4") else {
        return;
    };
    let tracked = track(&file);
    assert_eq!((tracked.subjects.len(), tracked.most_at_once), (6, 6));
    assert_eq!(
        tracked.subjects.values().filter(|p| p.from < 0.5).count(),
        5
    );
    assert!(
        tracked
            .subjects
            .values()
            .filter(|p| p.from < 0.5)
            .all(|p| p.frames >= 300)
    );
}

/// Counted by hand: four shots. First a singer and a pianist. Then a man in profile, near and
/// blurred, in front of an audience out of focus. In this audience a man with his hand at the chin
/// and a woman in profile are found (with MTCNN at most one subject was expected). Then the singer
/// alone. Last an audience, dark and in profile, with four faces of usable size. A scene cut ends
/// every track.
#[test]
fn a_scene_cut_ends_every_subject() {
    let Some(file) = material("av/several_people/hamilton.mp4") else {
        return;
    };
    let tracked = track(&file);
    let shots = [
        (0.0, 0.68, 2..=2),
        (0.68, 2.72, 1..=3),
        (2.72, 7.02, 1..=1),
        (7.02, 99.0, 2..=5),
    ];
    let shot_of = |time: f64| {
        shots
            .iter()
            .position(|(from, to, _)| (*from..*to).contains(&time))
    };
    for (i, (_, _, counted)) in shots.iter().enumerate() {
        let count = tracked
            .subjects
            .values()
            .filter(|p| shot_of(p.from) == Some(i))
            .count();
        assert!(counted.contains(&count), "shot {i}: {count} subjects");
    }
    assert!(
        tracked
            .subjects
            .values()
            .all(|p| shot_of(p.from) == shot_of(p.to)),
        "{:?}",
        tracked.subjects
    );
    let near = tracked
        .subjects
        .values()
        .find(|p| shot_of(p.from) == Some(1) && p.side > 150.0)
        .expect("the man in profile");
    assert!(
        near.frames >= 25 && near.usable * 10 <= near.frames,
        "{near:?}"
    );
}

/// Reads a still picture with even sides as I420.
fn still(path: &Path) -> Picture {
    let png = image::open(path).unwrap().to_rgb8();
    let (w, h) = (png.width() as usize, png.height() as usize);
    let at = |x: usize, y: usize| -> [f32; 3] {
        let pixel = png.get_pixel(x as u32, y as u32).0;
        std::array::from_fn(|c| f32::from(pixel[c]))
    };
    let weighed = |weights: [f32; 3], pixel: [f32; 3]| -> f32 {
        weights.iter().zip(pixel).map(|(w, v)| w * v).sum()
    };
    let mut data: Vec<u8> = (0..w * h)
        .map(|i| weighed([0.299, 0.587, 0.114], at(i % w, i / w)).round() as u8)
        .collect();
    for weights in [[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]] {
        for i in 0..(w / 2) * (h / 2) {
            let value = 128.0 + weighed(weights, at(i % (w / 2) * 2, i / (w / 2) * 2));
            data.push(value.round().clamp(0.0, 255.0) as u8);
        }
    }
    let colorimetry = Colorimetry {
        matrix: ColorMatrix::Bt601,
        full_range: true,
    };
    Picture::from_i420(w, h, colorimetry, data)
}

/// Counted by hand: a boy at the left of the table is in profile. MTCNN's last network rejects his
/// face.
#[test]
fn profile_faces_are_tracked_with_a_quality_too_low_for_use() {
    let Some(file) = material("detector/dinner_silent_400.png") else {
        return;
    };
    let picture = Arc::new(still(&file));
    let runtime = Runtime::load().unwrap();
    for detected_by in ["models/yunet", "models/mtcnn"] {
        let (mut detector, mut stage) = open(&runtime, detected_by);
        let mut faces = Vec::new();
        for index in 0..50u64 {
            let time = MediaTime::from_nanos(index as i64 * 40_000_000);
            let frame = VideoFrame {
                index,
                time,
                duration_nanos: None,
                picture: picture.clone(),
            };
            if stage.wants_detection(&frame) {
                stage.detected(time, detector.detect(&picture).unwrap());
            }
            faces = stage.advance(&frame).unwrap().faces;
        }
        let side = faces.iter().find(|f| {
            let (cx, cy) = (f.rect.x + f.rect.w / 2.0, f.rect.y + f.rect.h / 2.0);
            (cx - 144.0).hypot(cy - 197.0) < 15.0
        });
        let side = side.map(|f| f.quality);
        println!(
            "{detected_by}: {} faces, from the side {side:?}",
            faces.len()
        );
        if detected_by == "models/yunet" {
            assert!(side.is_some_and(|quality| quality < 0.15), "{side:?}");
        } else {
            assert_eq!(side, None);
        }
    }
}

/// (Recording or folder, number of visible faces in each frame, counted by hand, time in seconds up
/// to which the number holds).
const PEOPLE: [(&str, usize, f64); 7] = [
    ("av/talking", 1, f64::MAX),
    ("av/mead", 1, f64::MAX),
    ("av/mead_silent", 1, f64::MAX),
    ("av/grid_s1", 1, f64::MAX),
    ("av/ravdess_actor01", 1, f64::MAX),
    ("av/several_people/interview_two_speakers.mp4", 2, f64::MAX),
    ("av/several_people/dinner_silent.mp4", 5, 13.0),
];

/// Runs both detectors on every tenth frame of recordings with a known number of people.
#[test]
fn yunet_finds_no_fewer_people_than_mtcnn() {
    let runtime = Runtime::load().unwrap();
    let mut detectors = ["models/yunet", "models/mtcnn"].map(|folder| {
        let settings = DetectorSettings::default();
        Detector::open(&runtime, &project(folder), Provider::Cpu, settings).unwrap()
    });
    let mut total = [0; 2];
    for (place, people, until) in PEOPLE {
        let Some(path) = material(place) else { return };
        let recordings = if path.is_dir() {
            files(place).unwrap()
        } else {
            vec![path]
        };
        let (mut expected, mut found, mut more, mut nanos) = (0, [0; 2], [0; 2], [0; 2]);
        for recording in recordings {
            decode(&recording, |frame| {
                if frame.index % 10 != 0 || frame.time.secs_f64() > until {
                    return;
                }
                expected += people;
                for (i, detector) in detectors.iter_mut().enumerate() {
                    let started = monotonic_nanos();
                    let faces = detector.detect(&frame.picture).unwrap().len();
                    nanos[i] += monotonic_nanos() - started;
                    found[i] += faces.min(people);
                    more[i] += faces.saturating_sub(people);
                }
            });
        }
        for (i, detector) in detectors.iter().enumerate() {
            total[i] += found[i];
            println!(
                "{place}: {}: {} of {expected} faces, {} more, {:.1} ms a picture",
                detector.name(),
                found[i],
                more[i],
                nanos[i] as f64 * 1e-6 / (expected / people) as f64
            );
        }
    }
    assert!(total[0] >= total[1], "{total:?}");
}
