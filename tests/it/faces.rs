//! Faces of the real recordings, counted by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use expressd::clip::{ColorMatrix, Colorimetry, Picture, SubjectId, SubjectPhase, VideoFrame};
use expressd::encode::{Provider, Runtime};
use expressd::face::{Detector, DetectorSettings, FaceSettings, FaceStage, Refiner};
use expressd::testing::{material, project};
use expressd::time::{MediaTime, monotonic_nanos};
use gstreamer::prelude::*;
use gstreamer_video::VideoFrameExt;

/// Every picture of a file, in order, tightly packed.
fn decode(path: &Path, mut each: impl FnMut(VideoFrame)) {
    gstreamer::init().unwrap();
    let uri = gstreamer::glib::filename_to_uri(path.canonicalize().unwrap(), None).unwrap();
    let description =
        format!("uridecodebin uri=\"{uri}\" caps=video/x-raw ! videoconvert ! video/x-raw,format=I420 ! appsink name=sink sync=false max-buffers=2");
    let pipeline = gstreamer::parse::launch(&description).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let mut index = 0;
    while let Ok(sample) = sink.pull_sample() {
        let info = gstreamer_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let buffer = sample.buffer().unwrap();
        let frame = gstreamer_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
        let (w, h) = (info.width() as usize, info.height() as usize);
        let mut data = Vec::with_capacity(w * h * 3 / 2);
        for (plane, (columns, rows)) in [(w, h), (w.div_ceil(2), h.div_ceil(2)), (w.div_ceil(2), h.div_ceil(2))].into_iter().enumerate() {
            let stride = frame.plane_stride()[plane] as usize;
            let bytes = frame.plane_data(plane as u32).unwrap();
            (0..rows).for_each(|y| data.extend_from_slice(&bytes[y * stride..y * stride + columns]));
        }
        let colorimetry = info.colorimetry();
        let matrix = if colorimetry.matrix() == gstreamer_video::VideoColorMatrix::Bt709 { ColorMatrix::Bt709 } else { ColorMatrix::Bt601 };
        let full_range = colorimetry.range() == gstreamer_video::VideoColorRange::Range0_255;
        let picture = Picture::from_i420(w, h, Colorimetry { matrix, full_range }, data);
        let time = MediaTime::from_nanos(buffer.pts().map_or(0, |t| t.nseconds() as i64));
        each(VideoFrame { index, time, duration_nanos: None, picture: Arc::new(picture) });
        index += 1;
    }
    pipeline.set_state(gstreamer::State::Null).unwrap();
}

/// What the face stage made of a file.
#[derive(Debug, Default)]
struct Seen {
    frames: u32,
    frames_with_face: u32,
    most_at_once: usize,
    /// Frames of each subject, by when it appeared.
    subjects: BTreeMap<SubjectId, (f64, u32)>,
    quality_sum: f64,
    crops: u32,
    detections: u32,
    detect_ms: f64,
    advance_ms: f64,
    graph_ms: f64,
}

fn watch(path: &Path) -> Seen {
    let runtime = Runtime::load().unwrap();
    let models = project("models/mtcnn");
    let mut detector = Detector::open(&runtime, &models, Provider::Cpu, DetectorSettings::default()).unwrap();
    let refiner = Refiner::open(&runtime, &models, Provider::Cpu, 1).unwrap();
    let mut stage = FaceStage::new(FaceSettings::default(), None, refiner);
    let tally = runtime.tallies().pop().unwrap();
    let mut seen = Seen::default();
    decode(path, |frame| {
        let started = monotonic_nanos();
        if stage.wants_detection(&frame) {
            let found = detector.detect(&frame.picture).unwrap();
            seen.detections += 1;
            stage.detected(frame.time, found);
        }
        let detected = monotonic_nanos();
        let framed = stage.advance(&frame).unwrap();
        seen.detect_ms += (detected - started) as f64 * 1e-6;
        seen.advance_ms += (monotonic_nanos() - detected) as f64 * 1e-6;
        seen.frames += 1;
        seen.frames_with_face += u32::from(!framed.faces.is_empty());
        seen.most_at_once = seen.most_at_once.max(framed.faces.len());
        for change in framed.changes.iter().filter(|c| c.phase == SubjectPhase::Appeared) {
            seen.subjects.insert(change.subject, (change.time.secs_f64(), 0));
        }
        for face in &framed.faces {
            seen.subjects.get_mut(&face.subject).expect("a subject appears before it is seen").1 += 1;
            seen.quality_sum += f64::from(face.quality);
            seen.crops += 1;
        }
    });
    seen.graph_ms = tally.runs().values().map(|r| r.nanos as f64 * 1e-6).sum();
    assert!(seen.frames > 0, "{} gave no picture", path.display());
    seen
}

fn print(name: &str, seen: &Seen) {
    let subjects: Vec<String> = seen.subjects.iter().map(|(id, (from, frames))| format!("{id}@{from:.2}s:{frames}")).collect();
    println!(
        "{name}: {} frames, {} with a face, at most {} at once, subjects [{}], quality {:.2}, {:.2} ms a frame of which {:.2} graph, {} detections of {:.1} ms",
        seen.frames,
        seen.frames_with_face,
        seen.most_at_once,
        subjects.join(" "),
        seen.quality_sum / f64::from(seen.crops.max(1)),
        seen.advance_ms / f64::from(seen.frames),
        seen.graph_ms / f64::from(seen.frames),
        seen.detections,
        seen.detect_ms / f64::from(seen.detections.max(1)),
    );
}

#[test]
fn all_recordings() {
    let only = std::env::var("FACES_ONLY").unwrap_or_default();
    for folder in ["talking", "mead", "mead_silent", "several_people", "not_faces", "odd"] {
        let Some(folder) = material(&format!("av/{folder}")) else { return };
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|f| f.to_string_lossy().contains(&only)) {
            print(&file.file_name().unwrap().to_string_lossy(), &watch(file));
        }
    }
}
