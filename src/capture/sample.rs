//! Conversion of GStreamer's samples to decoded pictures and sound.

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::decoded::{DecodedPicture, DecodedSound};
use crate::clip::{ColorMatrix, Colorimetry, Picture, Plane};

/// The picture layout of a stream. It is parsed again when the caps change.
#[derive(Debug, Default)]
pub(super) struct PictureLayout(Option<(gst::Caps, gst_video::VideoInfo)>);

impl PictureLayout {
    /// Converts a sample of I420 video. The picture stays in the decoder's buffer, which is mapped
    /// and not copied.
    pub fn picture_of(&mut self, sample: gst::Sample) -> Result<DecodedPicture, gst::FlowError> {
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return Err(gst::FlowError::Error);
        };
        let running_nanos = running_nanos(&sample, buffer.pts());
        drop(sample);
        if self.0.as_ref().is_none_or(|(known, _)| *known != caps) {
            let info = gst_video::VideoInfo::from_caps(&caps)
                .map_err(|_| gst::FlowError::NotNegotiated)?;
            self.0 = Some((caps, info));
        }
        let info = &self.0.as_ref().expect("set above").1;
        Ok(DecodedPicture {
            running_nanos,
            duration_nanos: buffer.duration().map(|d| d.nseconds() as i64),
            picture: picture(buffer, info).ok_or(gst::FlowError::Error)?,
        })
    }
}

/// Converts a sample of the audio branch: mono 32-bit floats at 16 kHz.
pub(super) fn sound_of(sample: gst::Sample) -> Result<DecodedSound, gst::FlowError> {
    let buffer = sample.buffer_owned().ok_or(gst::FlowError::Error)?;
    let mapped = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
    Ok(DecodedSound {
        running_nanos: running_nanos(&sample, buffer.pts()),
        samples: mapped
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
    })
}

/// Running time of the stamp `pts`, in nanoseconds; `None` without a stamp.
fn running_nanos(sample: &gst::Sample, pts: Option<gst::ClockTime>) -> Option<i64> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    Some(segment.to_running_time(pts?)?.nseconds() as i64)
}

/// The picture in `buffer`; `None` if it has fewer than three planes or cannot be mapped.
fn picture(buffer: gst::Buffer, info: &gst_video::VideoInfo) -> Option<Picture> {
    let mut planes = [Plane {
        offset: 0,
        stride: 0,
    }; 3];
    let (offsets, strides) = match buffer.meta::<gst_video::VideoMeta>() {
        Some(meta) => (meta.offset().to_vec(), meta.stride().to_vec()),
        None => (info.offset().to_vec(), info.stride().to_vec()),
    };
    if offsets.len() < 3 || strides.iter().any(|s| *s <= 0) {
        return None;
    }
    for (plane, (offset, stride)) in planes.iter_mut().zip(offsets.iter().zip(&strides)) {
        *plane = Plane {
            offset: *offset,
            stride: *stride as usize,
        };
    }
    let mapped = buffer.into_mapped_buffer_readable().ok()?;
    Some(Picture::new(
        info.width() as usize,
        info.height() as usize,
        planes,
        colorimetry(info),
        Box::new(mapped),
    ))
}

/// Matrix and range of the colours, by default as GStreamer chooses them.
fn colorimetry(info: &gst_video::VideoInfo) -> Colorimetry {
    use gst_video::{VideoColorMatrix, VideoColorRange};
    let stated = info.colorimetry();
    let matrix = match stated.matrix() {
        VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc => ColorMatrix::Bt601,
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m | VideoColorMatrix::Bt2020 => {
            ColorMatrix::Bt709
        }
        // The matrix is not stated: it is chosen by height, as GStreamer does.
        _ if info.height() > 576 => ColorMatrix::Bt709,
        _ => ColorMatrix::Bt601,
    };
    Colorimetry {
        matrix,
        full_range: stated.range() == VideoColorRange::Range0_255,
    }
}
