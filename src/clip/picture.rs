//! Decoded pictures and video frames.

use std::fmt;
use std::sync::Arc;

use crate::time::MediaTime;

/// Location of one plane in the storage of a picture, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Offset of the first row.
    pub offset: usize,
    /// Distance between the starts of two rows.
    pub stride: usize,
}

/// How the values of a picture convert from Y'CbCr to R'G'B'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colorimetry {
    pub matrix: ColorMatrix,
    /// Range of the luma values. `true`: 0 to 255 (JPEG); `false`: 16 to 235 (video).
    pub full_range: bool,
}

/// The matrix between Y'CbCr and R'G'B'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMatrix {
    Bt601,
    Bt709,
}

/// A decoded picture, planar 4:2:0 (I420), upright. It refers to the decoder's storage; nothing is
/// copied. Chroma planes have `(width + 1) / 2` columns and `(height + 1) / 2` rows.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Planes Y, Cb and Cr in the storage.
    pub planes: [Plane; 3],
    pub colorimetry: Colorimetry,
    storage: Box<dyn AsRef<[u8]> + Send + Sync>,
}

impl Picture {
    /// A picture in `storage`, where `planes` locates Y, Cb and Cr.
    ///
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

    /// A picture from `data`, which contains the tightly packed planes Y, Cb and Cr.
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

    /// The whole storage, into which the offsets of [`Picture::planes`] point.
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
    /// Number of the frame in its source, from 0. Frames that a lane dropped leave a gap.
    pub index: u64,
    /// Time of capture.
    pub time: MediaTime,
    /// Display time in nanoseconds; `None` if the source does not give it.
    pub duration_nanos: Option<i64>,
    pub picture: Arc<Picture>,
}
