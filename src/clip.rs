//! The nouns that travel between the stages: frame, block, face, clip, recognition.
//!
//! They carry data and no behaviour beyond looking into themselves. Everything large is behind an [`Arc`]: a picture is decoded
//! once and shared, a crop is cut once and shared.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::modality::{PerModality, Presence};
use crate::time::{MediaTime, Span};

/// A tracked person, id stable within a session. `s<n>` on the wire; speech without a face is under `voice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectId {
    Face(u32),
    Voice,
}

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectId::Face(n) => write!(f, "s{n}"),
            SubjectId::Voice => f.write_str("voice"),
        }
    }
}

impl Serialize for SubjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One plane of a picture inside its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    pub offset: usize,
    pub stride: usize,
}

/// How Y'CbCr becomes R'G'B'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colorimetry {
    pub matrix: ColorMatrix,
    /// `true`: 0..255 (JPEG); `false`: 16..235 (video).
    pub full_range: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMatrix {
    Bt601,
    Bt709,
}

/// A decoded picture, planar 4:2:0 (I420), upright, in the storage that the decoder wrote: nothing is copied.
/// Chroma planes have `(width + 1) / 2` columns and `(height + 1) / 2` rows.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub planes: [Plane; 3],
    pub colorimetry: Colorimetry,
    storage: Box<dyn AsRef<[u8]> + Send + Sync>,
}

impl Picture {
    /// # Panics
    /// If a plane reaches beyond the storage.
    pub fn new(
        width: usize,
        height: usize,
        planes: [Plane; 3],
        colorimetry: Colorimetry,
        storage: Box<dyn AsRef<[u8]> + Send + Sync>,
    ) -> Self {
        let length = (*storage).as_ref().len();
        for (plane, (columns, rows)) in planes.iter().zip([
            (width, height),
            (width.div_ceil(2), height.div_ceil(2)),
            (width.div_ceil(2), height.div_ceil(2)),
        ]) {
            assert!(
                rows == 0 || plane.offset + plane.stride * (rows - 1) + columns <= length,
                "a plane of {width}x{height} reaches beyond its storage"
            );
        }
        Picture {
            width,
            height,
            planes,
            colorimetry,
            storage,
        }
    }

    /// A picture with tightly packed planes Y, U, V.
    pub fn from_i420(width: usize, height: usize, colorimetry: Colorimetry, data: Vec<u8>) -> Self {
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        let planes = [
            Plane {
                offset: 0,
                stride: width,
            },
            Plane {
                offset: width * height,
                stride: cw,
            },
            Plane {
                offset: width * height + cw * ch,
                stride: cw,
            },
        ];
        Picture::new(width, height, planes, colorimetry, Box::new(data))
    }

    /// The whole storage; index it through [`Picture::planes`].
    pub fn bytes(&self) -> &[u8] {
        (*self.storage).as_ref()
    }

    /// Row `y` of the luma plane, `width` bytes.
    pub fn luma_row(&self, y: usize) -> &[u8] {
        let start = self.planes[0].offset + y * self.planes[0].stride;
        &self.bytes()[start..start + self.width]
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

/// One picture, stamped at capture.
#[derive(Clone, Debug)]
pub struct VideoFrame {
    /// Counts the frames that the source delivered, from 0; what a lane dropped leaves a gap.
    pub index: u64,
    pub time: MediaTime,
    /// How long it stands, in nanoseconds, if the source says so.
    pub duration_nanos: Option<i64>,
    pub picture: Arc<Picture>,
}

/// Samples of all audio behind `capture/`: mono, 16 kHz, in -1..1.
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// What one callback gave: mono samples at [`SAMPLE_RATE_HZ`].
#[derive(Clone, Debug)]
pub struct AudioBlock {
    /// When the first sample was captured.
    pub time: MediaTime,
    pub samples: Arc<[f32]>,
}

impl AudioBlock {
    pub fn span(&self) -> Span {
        Span::new(
            self.time,
            self.time
                .plus_nanos(samples_to_nanos(self.samples.len() as i64)),
        )
    }
}

/// Length of `samples` at [`SAMPLE_RATE_HZ`], in nanoseconds (exact: one sample is 62,500 ns).
pub const fn samples_to_nanos(samples: i64) -> i64 {
    samples * (1_000_000_000 / SAMPLE_RATE_HZ as i64)
}

/// A rectangle in pixels, `x, y` the top left corner. May reach beyond the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f32,
    pub y: f32,
    pub w: f32,
    pub h: f32,
}

impl Rect {
    pub fn area(&self) -> f32 {
        self.w.max(0.0) * self.h.max(0.0)
    }
    pub fn center(&self) -> [f32; 2] {
        [self.x + self.w / 2.0, self.y + self.h / 2.0]
    }
    /// Intersection over union, 0..1.
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

/// Left eye, right eye, nose, left mouth corner, right mouth corner, as the picture shows them (left = smaller x on an upright face), in pixels.
pub type Landmarks = [[f32; 2]; 5];

/// An aligned piece of a picture, `size x size`, interleaved, `channels` 1 (luma) or 3 (R, G, B).
#[derive(Clone, PartialEq, Eq)]
pub struct Crop {
    pub size: usize,
    pub channels: usize,
    pub pixels: Vec<u8>,
}

impl fmt::Debug for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crop({}x{}x{})", self.size, self.size, self.channels)
    }
}

/// A subject on one frame.
#[derive(Clone, Debug)]
pub struct Face {
    /// Unique within a session: the key of the encoder's cache.
    pub id: u64,
    pub subject: SubjectId,
    pub time: MediaTime,
    pub rect: Rect,
    pub landmarks: Landmarks,
    /// The detector's probability, 0..1.
    pub score: f32,
    /// 0..1 from size, blur and pose; below the configured gate the face is tracked but not used as evidence.
    pub quality: f32,
    /// How much the mouth region changed since this subject's previous frame, beyond what the rest of the face did. Not negative, no unit.
    pub lip_motion: f32,
    /// `None` where the quality gate closed.
    pub crop: Option<Arc<Crop>>,
}

/// Slots begin this much before the multiples of `1 / rate_hz`. Hops lie on such multiples (as a rule), and a slot's face is its first frame:
/// so the newest face of a clip is from the last frames before its boundary, not up to a slot old. A frame at 25 fps, and the rounding of
/// containers' stamps.
const SLOT_LEAD_NANOS: i64 = 41_000_000;

/// Which slot of an encoder's face rate a frame falls into: one face a slot is cropped and encoded, the first usable one.
pub fn face_slot(time: MediaTime, rate_hz: f64) -> i64 {
    (time.plus_nanos(SLOT_LEAD_NANOS).nanos() as f64 * 1e-9 * rate_hz).floor() as i64
}

/// What the face stage says of one frame: sent for every frame, also without a face, since it moves the aligner's watermark.
#[derive(Clone, Debug)]
pub struct FramedFaces {
    pub time: MediaTime,
    pub picture_size: [usize; 2],
    pub faces: Vec<Arc<Face>>,
    pub changes: Vec<SubjectChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectPhase {
    Appeared,
    Updated,
    Lost,
    Merged,
}

/// A track begins, changes, ends.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectChange {
    pub subject: SubjectId,
    pub time: MediaTime,
    pub phase: SubjectPhase,
    pub into: Option<SubjectId>,
    /// `x, y, w, h` in 0..1 of the picture.
    pub rect: [f32; 4],
    pub quality: f32,
}

/// What voice activity detection says of one piece of audio (32 ms with Silero).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VoiceActivity {
    pub span: Span,
    /// Probability of speech, 0..1.
    pub probability: f32,
    /// Is this piece speech? The verdict of the thresholds (a lower one once speech has begun).
    pub speech: bool,
    /// The turn that goes on at the end of this piece: when it began. `None`: nobody has the floor. Causal: a turn is told when it has
    /// lasted for a while, so `turn` may lie before `span`.
    pub turn: Option<MediaTime>,
}

/// A turn of speech begins or ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeechTurn {
    pub start: MediaTime,
    /// `None` when it begins.
    pub end: Option<MediaTime>,
    pub owner: Option<SubjectId>,
}

/// The voice in a clip's window.
#[derive(Clone, Debug)]
pub struct ClipVoice {
    /// The window's samples at [`SAMPLE_RATE_HZ`]; what is missing is zero. Shorter than the manifest's window where the clip is.
    pub samples: Arc<[f32]>,
    /// Share of the window that is speech, 0..1.
    pub speech: f32,
    /// How much of the window was never captured, in nanoseconds.
    pub missing_nanos: i64,
    /// How sure it is that the voice is this subject's, 0..1.
    pub owner_confidence: f32,
    /// End of the newest sample.
    pub newest: MediaTime,
}

/// A word and when it was spoken. `Debug` hides it: what people say is nobody's log's business.
#[derive(Clone, PartialEq)]
pub struct Word {
    pub text: String,
    pub span: Span,
    /// How sure the transcriber is of it, 0..1; `None` where it does not say.
    pub confidence: Option<f32>,
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word({:?}, {:?})", self.span, self.confidence)
    }
}

/// Who says what was said: the daemon's own transcriber, or a client that runs one, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TranscriptSource {
    Daemon,
    Client(u64),
}

/// Words of a transcriber. They replace its partials of the same subject or time; `Debug` hides them.
#[derive(Clone, PartialEq)]
pub struct Transcript {
    pub teller: TranscriptSource,
    /// Whose words, if the teller knows.
    pub subject: Option<SubjectId>,
    /// What was said, as written.
    pub text: String,
    /// From the first word to the last.
    pub span: Span,
    /// In the order in which they were spoken, inside `span`.
    pub words: Vec<Word>,
    /// Will it not be told anew?
    pub is_final: bool,
    /// When it was known.
    pub told_at: MediaTime,
}

impl Transcript {
    /// Words out of a text of which only the whole time is known: each gets its share by its letters.
    pub fn spread(text: &str, span: Span) -> Vec<Word> {
        let letters = |word: &str| word.chars().count() as i64;
        let whole: i64 = text.split_whitespace().map(letters).sum();
        let at = |before: i64| {
            span.start.plus_nanos(
                (i128::from(span.nanos()) * i128::from(before) / i128::from(whole.max(1))) as i64,
            )
        };
        let mut before = 0;
        let place = |word: &str| {
            let start = at(before);
            before += letters(word);
            Word {
                text: word.to_owned(),
                span: Span::new(start, at(before)),
                confidence: None,
            }
        };
        text.split_whitespace().map(place).collect()
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transcript {
            teller,
            subject,
            text: _,
            span,
            words,
            is_final,
            told_at,
        } = self;
        write!(
            f,
            "Transcript({teller:?}, {subject:?}, {span:?}, {} words, final: {is_final}, {told_at:?})",
            words.len()
        )
    }
}

/// A transcript, and whose words they are judged to be: its subject, else the one who was speaking. `None`: that cannot be told.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedTranscript {
    pub transcript: Transcript,
    pub owner: Option<SubjectId>,
}

/// The words in a clip's window: those of which at least half was spoken in it. `Debug` hides them.
#[derive(Clone, PartialEq)]
pub struct ClipText {
    pub text: String,
    /// End of the last word.
    pub newest: MediaTime,
}

impl fmt::Debug for ClipText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClipText({} words until {:?})",
            self.text.split_whitespace().count(),
            self.newest
        )
    }
}

/// Why a modality is not in a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// No source delivers it.
    NoSource,
    /// The subject has no face in the window, or none good enough.
    NoFace,
    LowQuality,
    NoSpeech,
    /// The voice is judged another subject's.
    NotOwner,
    /// Transcripts are off, or hold no word.
    NoTranscript,
    /// The bundle has no encoder for it.
    NoEncoder,
    /// Its encoding would have held up the others (words alone, live alone).
    Late,
    /// The encoder failed, or answered with a number that is not finite.
    ModelFault,
}

/// One aligned piece of all modalities for one subject.
#[derive(Clone, Debug)]
pub struct Clip {
    pub subject: SubjectId,
    pub span: Span,
    /// At most one per slot of the manifest's face rate, oldest first; each has a crop.
    pub faces: Vec<Arc<Face>>,
    /// Slots of the face rate within the subject's presence for which there is no usable face.
    pub faces_missing: u32,
    pub face_absence: Option<Absence>,
    pub voice: Result<ClipVoice, Absence>,
    pub text: Result<ClipText, Absence>,
    /// Newest audio stamp used minus newest video stamp used, in nanoseconds; `None` unless both are used.
    pub skew_nanos: Option<i64>,
    /// When the aligner let it go, on the clock that drives it.
    pub aligned_at: MediaTime,
}

impl Clip {
    pub fn presence(&self) -> Presence {
        PerModality {
            face: !self.faces.is_empty(),
            voice: self.voice.is_ok(),
            text: self.text.is_ok(),
        }
    }
    /// The newest evidence of any modality.
    pub fn newest(&self) -> Option<MediaTime> {
        let face = self.faces.last().map(|f| f.time);
        let voice = self.voice.as_ref().ok().map(|v| v.newest);
        face.max(voice)
            .max(self.text.as_ref().ok().map(|t| t.newest))
    }
}

/// The answer for one clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// One per label of the manifest; sums to 1 for a single-label task.
    pub scores: Vec<f32>,
    /// Index of the highest score.
    pub top: usize,
    /// Calibrated probability that `top` is right.
    pub confidence: f32,
    pub abstain: bool,
    /// What the head really used.
    pub used: Presence,
    /// Why the rest was not used.
    pub absence: PerModality<Option<Absence>>,
}

/// What the speech stage says of one block: the samples and what voice activity detection made of them. Its end is the aligner's audio watermark.
#[derive(Clone, Debug)]
pub struct VadBlock {
    pub block: AudioBlock,
    /// Verdicts that became ready with this block, oldest first; they may reach back into earlier blocks.
    pub activity: Vec<VoiceActivity>,
}
