//! Still pictures of data sets: decoding, conversion to I420, scaling to a crop.

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder};

use super::refusal::Refusal;
use crate::clip::{self, ColorMatrix, Colorimetry, Crop};
use crate::manifest::FacePreprocessing;
use crate::train::data::Picture;

/// Decodes a picture of a data set, and rotates it by its EXIF orientation.
pub(super) fn read(picture: &Picture) -> Result<DynamicImage, Refusal> {
    Ok(match picture {
        Picture::File(path) => {
            let bytes = std::fs::read(path)
                .map_err(|error| Refusal::Unreadable(error.kind().to_string()))?;
            upright(&bytes).map_err(|error| Refusal::Unreadable(error.to_string()))?
        }
        Picture::Grey { size, pixels } => {
            let side = *size as u32;
            let grey = image::GrayImage::from_raw(side, side, pixels.clone())
                .ok_or_else(|| Refusal::Unreadable("its pixels are not size x size".into()))?;
            DynamicImage::ImageLuma8(grey)
        }
    })
}

/// Decodes a picture and rotates it by its EXIF orientation.
fn upright(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    let mut decoder = image::ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()?
        .into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Converts the picture to I420 (BT.601, full range), the format of decoded JPEG frames in the face
/// stage.
pub(super) fn planar(image: &DynamicImage) -> clip::Picture {
    let rgb = image.to_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let at = |x: usize, y: usize| {
        rgb.get_pixel(x.min(width - 1) as u32, y.min(height - 1) as u32)
            .0
            .map(f32::from)
    };
    let mut data: Vec<u8> = Vec::with_capacity(width * height * 3 / 2 + width + height);
    for y in 0..height {
        data.extend((0..width).map(|x| {
            let [r, g, b] = at(x, y);
            (0.299 * r + 0.587 * g + 0.114 * b).round() as u8
        }));
    }
    for [red, green, blue] in [
        [-0.168_736f32, -0.331_264, 0.5],
        [0.5, -0.418_688, -0.081_312],
    ] {
        for y in 0..height.div_ceil(2) {
            data.extend((0..width.div_ceil(2)).map(|x| {
                let four =
                    [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| at(2 * x + dx, 2 * y + dy));
                let sum: f32 = four
                    .iter()
                    .map(|[r, g, b]| red * r + green * g + blue * b)
                    .sum();
                (128.0 + sum / 4.0).round() as u8
            }));
        }
    }
    clip::Picture::from_i420(
        width,
        height,
        Colorimetry {
            matrix: ColorMatrix::Bt601,
            full_range: true,
        },
        data,
    )
}

/// Scales the whole picture to the input size of the face encoders, without detection: the data set
/// has cropped it already.
pub(super) fn crop(image: DynamicImage, face: &FacePreprocessing) -> Crop {
    let side = face.size as u32;
    let image = if (image.width(), image.height()) == (side, side) {
        image
    } else {
        image.resize_exact(side, side, FilterType::Triangle)
    };
    let pixels = if face.channels == 1 {
        image.into_luma8().into_raw()
    } else {
        image.into_rgb8().into_raw()
    };
    Crop {
        size: face.size,
        channels: face.channels,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_rotated_by_its_exif_orientation() {
        // Dark on the left, bright on the right. EXIF orientation 6: the viewer has to rotate the
        // picture by 90 degrees clockwise.
        let picture =
            image::GrayImage::from_fn(64, 32, |x, _| image::Luma([if x < 32 { 20 } else { 220 }]));
        let mut plain = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut plain, image::ImageFormat::Jpeg)
            .unwrap();
        let plain = plain.into_inner();
        let exif = [
            &b"Exif\0\0MM\0*\0\0\0\x08\0\x01"[..],
            &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0],
            &[0; 4],
        ]
        .concat();
        let segment = [
            &[0xff, 0xe1][..],
            &(exif.len() as u16 + 2).to_be_bytes(),
            &exif,
        ]
        .concat();
        let turned = upright(&[&plain[..2], &segment, &plain[2..]].concat())
            .unwrap()
            .into_luma8();
        assert_eq!(upright(&plain).unwrap().into_luma8().dimensions(), (64, 32));
        assert_eq!(turned.dimensions(), (32, 64));
        assert!(turned.get_pixel(16, 8).0[0] < 60 && turned.get_pixel(16, 56).0[0] > 180);
    }

    #[test]
    fn i420_planes_have_the_values_of_jpeg_also_with_odd_sizes() {
        // Red on the left, blue on the right; five pixels wide and three high.
        let rgb = image::RgbImage::from_fn(5, 3, |x, _| {
            image::Rgb(if x < 2 { [255, 0, 0] } else { [0, 0, 255] })
        });
        let picture = planar(&DynamicImage::ImageRgb8(rgb));
        let bytes = picture.bytes();
        let at = |plane: usize, x: usize, y: usize| {
            bytes[picture.planes[plane].offset + y * picture.planes[plane].stride + x]
        };
        // ITU-T T.871: Y, Cb, Cr of pure red and blue.
        assert_eq!([at(0, 0, 0), at(1, 0, 0), at(2, 0, 0)], [76, 85, 255]);
        assert_eq!([at(0, 4, 2), at(1, 2, 1), at(2, 2, 1)], [29, 255, 107]);
        assert_eq!(bytes.len(), 5 * 3 + 2 * 3 * 2);
    }
}
