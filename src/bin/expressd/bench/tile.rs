//! Puts copies of one picture side by side, so that a recording of one person shows several
//! subjects.

use std::sync::Arc;

use expressd::clip::{Picture, VideoFrame};

/// Returns the frame with `copies` of its picture in a nearly square grid; empty cells are grey.
/// With one copy the frame is unchanged.
pub fn tile(frame: &VideoFrame, copies: usize) -> VideoFrame {
    if copies <= 1 {
        return frame.clone();
    }
    let columns = (copies as f64).sqrt().ceil() as usize;
    let rows = copies.div_ceil(columns);
    let one = &frame.picture;
    // Even sides keep the chroma of adjacent copies separate.
    let (w, h) = (one.width & !1, one.height & !1);
    let (width, height) = (w * columns, h * rows);
    let mut data = vec![128u8; width * height * 3 / 2];
    let mut start = 0;
    for (plane, shift) in [(0, 0), (1, 1), (2, 1)] {
        let (pw, ph, stride) = (w >> shift, h >> shift, width >> shift);
        for copy in 0..copies {
            let (x, y) = ((copy % columns) * pw, (copy / columns) * ph);
            for row in 0..ph {
                let from = one.planes[plane].offset + row * one.planes[plane].stride;
                let to = start + (y + row) * stride + x;
                data[to..to + pw].copy_from_slice(&one.bytes()[from..from + pw]);
            }
        }
        start += stride * (height >> shift);
    }
    VideoFrame {
        picture: Arc::new(Picture::from_i420(width, height, one.colorimetry, data)),
        ..frame.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expressd::clip::{ColorMatrix, Colorimetry};
    use expressd::time::MediaTime;

    #[test]
    fn three_copies_fill_a_two_by_two_grid_with_one_grey_cell() {
        let colorimetry = Colorimetry {
            matrix: ColorMatrix::Bt601,
            full_range: true,
        };
        let data: Vec<u8> = (0..24).collect();
        let picture = Arc::new(Picture::from_i420(4, 4, colorimetry, data));
        let frame = VideoFrame {
            index: 0,
            time: MediaTime::ZERO,
            duration_nanos: None,
            picture,
        };
        let tiled = tile(&frame, 3).picture;
        assert_eq!((tiled.width, tiled.height), (8, 8));
        assert_eq!(tiled.luma_row(0), [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(tiled.luma_row(7), [12, 13, 14, 15, 128, 128, 128, 128]);
        assert_eq!(tiled.bytes()[tiled.planes[2].offset..][..2], [20, 21]);
    }
}
