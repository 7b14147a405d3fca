//! The protocol between a decoder process and its parent.
//!
//! Requests and reports are lines of JSON on the control socket. Each track has its own stream
//! socket, so that one blocked track does not block the other. A stream socket carries items with
//! a fixed head and, from the parent, one byte for each picture taken.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Undecodable;
use crate::capture::error::CaptureError;
use crate::capture::tracks::TrackChoice;
use crate::clip::{ColorMatrix, Colorimetry, Plane};

/// A request of the parent to the decoder process. [`Request::Open`] carries three descriptors: the
/// sockets of the video and of the audio track, and the shared memory for pictures.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Open {
        /// The path as bytes.
        path: Vec<u8>,
        choice: TrackChoice,
    },
    /// Starts the delivery of the open recording.
    Play,
    /// Stops decoding; the answer is [`Report::Stopped`].
    Stop,
}

/// A report of the decoder process to the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// A decoder element was plugged in.
    Element(String),
    /// A line for the log.
    LogLine(String),
    /// The stamp of a picture was wrong and was replaced.
    ReplacedStamp,
    /// A message that a library logged.
    LibraryMessage(String),
    /// The recording is open: which tracks are decoded, the stated duration, and the tracks without
    /// a decoder.
    Opened {
        video: bool,
        audio: bool,
        duration_nanos: Option<i64>,
        undecodable: Vec<Undecodable>,
    },
    /// The recording cannot be opened.
    Refused(Refused),
    /// Decoding failed; one line of text.
    Failed(String),
    /// The answer to [`Request::Stop`], the last report of a recording.
    Stopped,
}

/// A [`CaptureError`] of opening a recording, in serialisable form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refused {
    Unreadable { reason: String },
    Unsupported { what: String, remedy: String },
    NoSuchTrack { what: String, remedy: String },
}

impl Refused {
    /// Converts an error for the control socket. Errors without a variant of their own become text.
    pub fn from_error(error: CaptureError) -> Refused {
        match error {
            CaptureError::Unreadable { reason, .. } => Refused::Unreadable { reason },
            CaptureError::Unsupported { what, remedy } => Refused::Unsupported { what, remedy },
            CaptureError::NoSuchTrack { what, remedy, .. } => Refused::NoSuchTrack { what, remedy },
            other => Refused::Unreadable {
                reason: other.to_string(),
            },
        }
    }

    /// Converts to the error for the recording at `path`.
    pub fn error(self, path: PathBuf) -> CaptureError {
        match self {
            Refused::Unreadable { reason } => CaptureError::Unreadable { path, reason },
            Refused::Unsupported { what, remedy } => CaptureError::Unsupported { what, remedy },
            Refused::NoSuchTrack { what, remedy } => {
                CaptureError::NoSuchTrack { path, what, remedy }
            }
        }
    }
}

/// The path whose bytes [`Request::Open`] carries.
pub(super) fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// Number of 64-bit integers in the head of an item.
const HEAD_FIELDS: usize = 16;
/// The integer that stands for `None`.
const NOTHING: i64 = i64::MIN;
/// First field of the head of a picture or of a buffer of sound.
const ITEM: i64 = 1;
/// First field of the head that marks the end of a track.
const END: i64 = 2;

/// The value of an optional field; [`NOTHING`] is `None`.
fn optional(value: i64) -> Option<i64> {
    (value != NOTHING).then_some(value)
}

fn write_fields(out: &mut impl Write, fields: [i64; HEAD_FIELDS]) -> io::Result<()> {
    let mut bytes = [0u8; HEAD_FIELDS * 8];
    for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    out.write_all(&bytes)
}

/// Reads the head of an item; `None` at the end of the track.
fn read_fields(from: &mut impl Read) -> io::Result<Option<[i64; HEAD_FIELDS]>> {
    let mut bytes = [0u8; HEAD_FIELDS * 8];
    from.read_exact(&mut bytes)?;
    let mut fields = [0i64; HEAD_FIELDS];
    for (field, place) in fields.iter_mut().zip(bytes.chunks_exact(8)) {
        *field = i64::from_le_bytes(place.try_into().expect("eight bytes"));
    }
    match fields[0] {
        ITEM => Ok(Some(fields)),
        END => Ok(None),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Writes the head that marks the end of a track.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    let mut fields = [0; HEAD_FIELDS];
    fields[0] = END;
    write_fields(out, fields)
}

/// Head of a picture, whose pixels are in a slot of the shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PictureHead {
    /// Time of the picture in nanoseconds; `None` if the stream has no stamp for it.
    pub running_nanos: Option<i64>,
    /// Display time in nanoseconds; `None` if it is unknown.
    pub duration_nanos: Option<i64>,
    pub slot: Slot,
    /// Size of the picture in its slot, in bytes.
    pub length: usize,
    pub width: usize,
    pub height: usize,
    pub planes: [Plane; 3],
    pub colorimetry: Colorimetry,
}

/// A part of the shared memory for one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub index: usize,
    /// Offset from the beginning of the shared memory, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub capacity: usize,
}

impl PictureHead {
    /// Writes the head of a picture.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let plane = |plane: &Plane| [plane.offset as i64, plane.stride as i64];
        let ([y, sy], [u, su], [v, sv]) = (
            plane(&self.planes[0]),
            plane(&self.planes[1]),
            plane(&self.planes[2]),
        );
        let color = i64::from(self.colorimetry.matrix == ColorMatrix::Bt709)
            | i64::from(self.colorimetry.full_range) << 1;
        write_fields(
            out,
            [
                ITEM,
                self.running_nanos.unwrap_or(NOTHING),
                self.duration_nanos.unwrap_or(NOTHING),
                self.slot.index as i64,
                self.slot.offset as i64,
                self.slot.capacity as i64,
                self.length as i64,
                self.width as i64,
                self.height as i64,
                y,
                sy,
                u,
                su,
                v,
                sv,
                color,
            ],
        )
    }

    /// Reads the head of a picture; `None` at the end of the track. The decoder process is not
    /// trusted: a picture that does not fit its slot is an error.
    pub fn read(from: &mut impl Read) -> io::Result<Option<PictureHead>> {
        let Some(fields) = read_fields(from)? else {
            return Ok(None);
        };
        let size = |field: i64| {
            usize::try_from(field).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        let plane = |at: usize| {
            Ok::<_, io::Error>(Plane {
                offset: size(fields[at])?,
                stride: size(fields[at + 1])?,
            })
        };
        let head = PictureHead {
            running_nanos: optional(fields[1]),
            duration_nanos: optional(fields[2]),
            slot: Slot {
                index: size(fields[3])?,
                offset: size(fields[4])? as u64,
                capacity: size(fields[5])?,
            },
            length: size(fields[6])?,
            width: size(fields[7])?,
            height: size(fields[8])?,
            planes: [plane(9)?, plane(11)?, plane(13)?],
            colorimetry: Colorimetry {
                matrix: if fields[15] & 1 == 1 {
                    ColorMatrix::Bt709
                } else {
                    ColorMatrix::Bt601
                },
                full_range: fields[15] & 2 == 2,
            },
        };
        if head.fits() {
            Ok(Some(head))
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Whether every plane of the picture lies inside the picture's bytes in its slot.
    fn fits(&self) -> bool {
        let (columns, rows) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let sizes = [(self.width, self.height), (columns, rows), (columns, rows)];
        self.length <= self.slot.capacity
            && self.width > 0
            && self.height > 0
            && self
                .planes
                .iter()
                .zip(sizes)
                .all(|(plane, (columns, rows))| {
                    plane
                        .stride
                        .checked_mul(rows - 1)
                        .and_then(|bytes| bytes.checked_add(plane.offset)?.checked_add(columns))
                        .is_some_and(|end| end <= self.length)
                })
    }
}

/// Largest number of samples in one buffer: an hour at 16 kHz.
const MAX_SAMPLES: usize = 3600 * 16_000;

/// Writes one buffer of mono sound at 16 kHz. `running_nanos`: time of its first sample.
pub(super) fn write_sound(
    out: &mut impl Write,
    running_nanos: Option<i64>,
    samples: &[f32],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(HEAD_FIELDS * 8 + samples.len() * 4);
    let mut fields = [0; HEAD_FIELDS];
    (fields[0], fields[1], fields[2]) =
        (ITEM, running_nanos.unwrap_or(NOTHING), samples.len() as i64);
    write_fields(&mut bytes, fields)?;
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    out.write_all(&bytes)
}

/// Reads one buffer of mono sound at 16 kHz: the time of its first sample in nanoseconds, and its
/// samples. `None` at the end of the track.
pub(super) fn read_sound(from: &mut impl Read) -> io::Result<Option<(Option<i64>, Vec<f32>)>> {
    let Some(fields) = read_fields(from)? else {
        return Ok(None);
    };
    let count = usize::try_from(fields[2])
        .ok()
        .filter(|count| *count <= MAX_SAMPLES)
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; count * 4];
    from.read_exact(&mut bytes)?;
    let samples = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Ok(Some((optional(fields[1]), samples)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> PictureHead {
        let plane = |offset, stride| Plane { offset, stride };
        PictureHead {
            running_nanos: Some(40),
            duration_nanos: None,
            slot: Slot {
                index: 3,
                offset: 4096,
                capacity: 4096,
            },
            length: 384,
            width: 15,
            height: 15,
            planes: [plane(0, 16), plane(256, 8), plane(320, 8)],
            colorimetry: Colorimetry {
                matrix: ColorMatrix::Bt709,
                full_range: true,
            },
        }
    }

    #[test]
    fn heads_and_sound_read_back_as_written() {
        let mut bytes = Vec::new();
        head().write(&mut bytes).unwrap();
        write_end(&mut bytes).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(PictureHead::read(&mut from).unwrap(), Some(head()));
        assert_eq!(PictureHead::read(&mut from).unwrap(), None);
        let mut bytes = Vec::new();
        write_sound(&mut bytes, None, &[0.5, -0.25]).unwrap();
        write_end(&mut bytes).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(
            read_sound(&mut from).unwrap(),
            Some((None, vec![0.5, -0.25]))
        );
        assert_eq!(read_sound(&mut from).unwrap(), None);
        assert!(read_sound(&mut from).is_err(), "a closed socket is no end");
    }

    #[test]
    fn a_picture_beyond_its_slot_is_refused() {
        let refused = |change: fn(&mut PictureHead)| {
            let mut changed = head();
            change(&mut changed);
            let mut bytes = Vec::new();
            changed.write(&mut bytes).unwrap();
            PictureHead::read(&mut bytes.as_slice()).is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|head| head.length = 5000));
        assert!(refused(|head| head.planes[2].offset = 330));
        assert!(refused(|head| head.planes[0].stride = usize::MAX / 2));
        assert!(refused(|head| head.height = 0));
    }
}
