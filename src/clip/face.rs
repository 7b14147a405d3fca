//! Tracked faces and the changes of their tracks.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::SubjectId;
use crate::time::MediaTime;

/// A rectangle in pixels; `x, y` is the top left corner. It may reach beyond the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f32,
    pub y: f32,
    pub w: f32,
    pub h: f32,
}

impl Rect {
    /// Area in square pixels; 0 for a negative size.
    pub fn area(&self) -> f32 {
        self.w.max(0.0) * self.h.max(0.0)
    }
    /// Centre `x, y` in pixels.
    pub fn center(&self) -> [f32; 2] {
        [self.x + self.w / 2.0, self.y + self.h / 2.0]
    }
    /// Intersection over union with `other`, 0 to 1.
    pub fn iou(&self, other: &Rect) -> f32 {
        let w = (self.x + self.w).min(other.x + other.w) - self.x.max(other.x);
        let h = (self.y + self.h).min(other.y + other.h) - self.y.max(other.y);
        if w <= 0.0 || h <= 0.0 {
            return 0.0;
        }
        let common = w * h;
        common / (self.area() + other.area() - common)
    }
}

/// `[x, y]` of the left eye, the right eye, the nose, the left and the right mouth corner, in
/// pixels of the frame. Left is the smaller `x` of an upright face.
pub type Landmarks = [[f32; 2]; 5];

/// An aligned face crop, `size x size`, interleaved, `channels` 1 (luma) or 3 (R, G, B).
#[derive(Clone, PartialEq, Eq)]
pub struct Crop {
    /// Side in pixels.
    pub size: usize,
    /// 1: luma; 3: R, G, B.
    pub channels: usize,
    /// Values row by row, the channels of a pixel together.
    pub pixels: Vec<u8>,
}

impl fmt::Debug for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crop({}x{}x{})", self.size, self.size, self.channels)
    }
}

/// A subject's face in one frame.
#[derive(Clone, Debug)]
pub struct Face {
    /// Number of the face, unique within a session: the key in the cache of embeddings.
    pub id: u64,
    pub subject: SubjectId,
    /// The frame's time.
    pub time: MediaTime,
    /// Face box in pixels of the frame.
    pub rect: Rect,
    pub landmarks: Landmarks,
    /// Score of the detection, 0 to 1.
    pub score: f32,
    /// Quality from size, blur and pose, 0 to 1. A face below the configured quality gate is
    /// tracked, but is not used as evidence.
    pub quality: f32,
    /// Change of the mouth region since the subject's previous frame, minus the change of the rest
    /// of the face. Not negative, in standard deviations of the face's luma.
    pub lip_motion: f32,
    /// The aligned face; `None` if the face is below the quality gate.
    pub crop: Option<Arc<Crop>>,
}

/// Slots begin this many nanoseconds before the multiples of `1 / rate_hz`: one frame at 25 fps,
/// plus the rounding of container stamps. Hops usually lie on such multiples, and the face of a
/// slot is its first frame. Because of this lead, the newest face of a clip is from the last frames
/// before the clip's end. Without it, that face could be a whole slot old.
const SLOT_LEAD_NANOS: i64 = 41_000_000;

/// Index of the slot to which a frame at `time` belongs, with `rate_hz` slots per second. The first
/// usable face of each slot is encoded.
pub fn face_slot(time: MediaTime, rate_hz: f64) -> i64 {
    (time.plus_nanos(SLOT_LEAD_NANOS).nanos() as f64 * 1e-9 * rate_hz).floor() as i64
}

/// The output of the face stage for one frame. It is sent for every frame, also without a face,
/// because it advances the aligner's watermark.
#[derive(Clone, Debug)]
pub struct FramedFaces {
    /// The frame's time.
    pub time: MediaTime,
    /// Width and height of the picture in pixels.
    pub picture_size: [usize; 2],
    /// The faces of the visible subjects.
    pub faces: Vec<Arc<Face>>,
    /// Starts, updates and ends of tracks at this frame.
    pub changes: Vec<SubjectChange>,
}

/// The phase of a track that a change reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectPhase {
    Appeared,
    Updated,
    Lost,
    Merged,
}

/// The start, an update or the end of a track.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectChange {
    pub subject: SubjectId,
    /// The frame's time.
    pub time: MediaTime,
    pub phase: SubjectPhase,
    /// The surviving track, for the phase `Merged`; otherwise `None`.
    pub into: Option<SubjectId>,
    /// Face box `x, y, w, h` as fractions of the picture's width and height, 0 to 1.
    pub rect: [f32; 4],
    /// Quality of the face, 0 to 1.
    pub quality: f32,
}
