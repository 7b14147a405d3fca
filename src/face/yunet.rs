//! The face detector YuNet (Wu et al. 2023): a small network that proposes faces with five
//! landmarks at three strides.
//!
//! [`YuNet`] detects faces in whole pictures. [`CropDetector`] detects one face at an expected
//! position. The tracker uses it for faces that MTCNN's last network rejects, because that network
//! is trained on frontal faces.

use std::path::Path;

use super::closeup::cut_square;
use super::detection::{Detection, DetectorSettings, in_shrunk};
use super::image::{Area, RgbImage, resample};
use super::provenance::open_graph;
use crate::clip::{Landmarks, Picture, Rect};
use crate::encode::{EncodeError, Graph, Input, Output, Provider, Runtime};

/// Distance of neighbouring cells of each of the three outputs, in pixels of the input.
const STRIDES: [usize; 3] = [8, 16, 32];
/// The width and the height of the input are multiples of this number of pixels.
const GRID: usize = 32;
/// Number of values of a cell: class score, object score, box (4), landmarks (10).
const CELL_VALUES: usize = 16;
/// Input value of a black pixel; the padding is black.
const BLACK: f32 = -127.5 / 128.0;
/// Size in pixels to which the smallest face to detect is scaled. On the test material, faces of 40
/// to 60 px in pictures 640 px wide are found in 0.83 of the frames with 20 px, 0.90 with 32 px and
/// 0.88 with 40 px. The time grows with the square.
const SMALLEST_FACE_PX: f32 = 32.0;
/// Before detection, pictures are shrunk by 2 or 4 if the smallest face to detect keeps at least
/// this size, in pixels.
const SHRUNK_FACE_PX: f32 = 36.0;
/// Lowest score of a face in a whole picture.
const THRESHOLD: f32 = 0.6;
/// Overlap (intersection over union) above which two proposals are merged.
const SAME_FACE_IOU: f32 = 0.45;
/// Side of the network's input for a crop, in pixels.
const CROP_SIDE: usize = 128;
/// Side of a crop in the picture, divided by the expected face's side.
const CROP_REACH: f32 = 2.0;
/// Lowest score of a face in a crop. Random places of the test material reach 0.56, profiles have a
/// median of 0.85.
const CROP_THRESHOLD: f32 = 0.55;
/// Overlap (intersection over union) with the expected face above which a face in a crop counts.
const EXPECTED_IOU: f32 = 0.2;

/// The face that one cell of the output proposes, in pixels of the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Proposal {
    score: f32,
    rect: Rect,
    landmarks: Landmarks,
}

/// The output of one stride for one picture.
#[derive(Clone, Copy, Debug)]
struct Level<'a> {
    /// Distance of neighbouring cells, in pixels of the input.
    stride: usize,
    rows: usize,
    columns: usize,
    /// The values `[16, rows, columns]`.
    values: &'a [f32],
}

impl Level<'_> {
    /// Appends the proposals of all cells with a score of at least `threshold`, row by row. The
    /// score is the geometric mean of class and object score. In the output, positions are in
    /// strides from the cell's corner, and sizes are logarithms.
    fn propose(&self, threshold: f32, proposals: &mut Vec<Proposal>) {
        let cells = self.rows * self.columns;
        let stride = self.stride as f32;
        let (class, object) = (&self.values[..cells], &self.values[cells..2 * cells]);
        for (i, (class, object)) in class.iter().zip(object).enumerate() {
            let score = (class * object).sqrt();
            if score < threshold {
                continue;
            }
            let value = |k: usize| self.values[k * cells + i];
            let cell = [(i % self.columns) as f32, (i / self.columns) as f32];
            let point = |k: usize| {
                [
                    (cell[0] + value(k)) * stride,
                    (cell[1] + value(k + 1)) * stride,
                ]
            };
            let ([cx, cy], w, h) = (point(2), value(4).exp() * stride, value(5).exp() * stride);
            proposals.push(Proposal {
                score,
                rect: Rect {
                    x: cx - w / 2.0,
                    y: cy - h / 2.0,
                    w,
                    h,
                },
                landmarks: std::array::from_fn(|k| point(6 + 2 * k)),
            });
        }
    }
}

/// Merges the proposals of each face, and sorts the faces by score, highest first. A merged box is
/// the mean, weighted by score, of all proposals that overlap the best one. Proposals of
/// neighbouring cells differ by up to 4 % of the face's side. The error of their mean is a tenth
/// smaller than that of the best proposal, and its jitter a third smaller.
fn merge(proposals: &mut Vec<Proposal>) {
    proposals.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept = 0;
    let mut rest = proposals.len();
    while kept < rest {
        let best = proposals[kept];
        let mut weight = 0.0;
        let (mut rect, mut landmarks) = ([0.0f32; 4], [[0.0f32; 2]; 5]);
        let mut remaining = kept + 1;
        for i in kept..rest {
            let one = proposals[i];
            if i > kept && best.rect.iou(&one.rect) <= SAME_FACE_IOU {
                proposals[remaining] = one;
                remaining += 1;
                continue;
            }
            weight += one.score;
            let Rect { x, y, w, h } = one.rect;
            for (sum, value) in rect.iter_mut().zip([x, y, w, h]) {
                *sum += one.score * value;
            }
            for (sum, point) in landmarks.iter_mut().zip(&one.landmarks) {
                for k in 0..2 {
                    sum[k] += one.score * point[k];
                }
            }
        }
        let [x, y, w, h] = rect.map(|v| v / weight);
        proposals[kept] = Proposal {
            score: best.score,
            rect: Rect { x, y, w, h },
            landmarks: landmarks.map(|p| p.map(|v| v / weight)),
        };
        kept += 1;
        rest = remaining;
    }
    proposals.truncate(kept);
}

/// Converts a score of YuNet to the scale of MTCNN's probabilities, which the tracker uses, by a
/// piecewise linear function. YuNet's scores saturate: frontal faces have 0.90 to 0.96, profiles
/// 0.75 to 0.90. No false detection of the test material reaches 0.6.
fn probability(score: f32) -> f32 {
    const POINTS: [[f32; 2]; 6] = [
        [0.0, 0.0],
        [0.5, 0.5],
        [0.6, 0.7],
        [0.7, 0.88],
        [0.8, 0.95],
        [0.95, 1.0],
    ];
    for pair in POINTS.windows(2) {
        let ([x0, y0], [x1, y1]) = (pair[0], pair[1]);
        if score < x1 {
            return y0 + (score.max(0.0) - x0) / (x1 - x0) * (y1 - y0);
        }
    }
    1.0
}

impl Proposal {
    /// Converts the proposal to pixels of the picture. `origin` is the position of the input's top
    /// left corner in the picture, `scale` the number of picture pixels per input pixel, for `x`
    /// and `y`.
    fn in_picture(&self, origin: [f32; 2], scale: [f32; 2]) -> Detection {
        let detection = Detection {
            rect: self.rect,
            score: probability(self.score),
            landmarks: self.landmarks,
        };
        let mut detection = detection.scaled(scale);
        (detection.rect.x, detection.rect.y) =
            (detection.rect.x + origin[0], detection.rect.y + origin[1]);
        for point in &mut detection.landmarks {
            for k in 0..2 {
                point[k] += origin[k];
            }
        }
        detection
    }
}

/// The three outputs for picture number `index` of a run on `count` pictures.
///
/// # Errors
/// The outputs have other shapes than YuNet's.
fn levels<'a>(
    graph: &Graph,
    outputs: &'a [Output],
    index: usize,
    count: usize,
) -> Result<[Level<'a>; 3], EncodeError> {
    let level = |output: &'a Output, stride| match output.shape[..] {
        [n, CELL_VALUES, rows, columns] if n == count => {
            let size = CELL_VALUES * rows * columns;
            Some(Level {
                stride,
                rows,
                columns,
                values: &output.values[index * size..(index + 1) * size],
            })
        }
        _ => None,
    };
    if let [a, b, c] = outputs
        && let (Some(a), Some(b), Some(c)) = (
            level(a, STRIDES[0]),
            level(b, STRIDES[1]),
            level(c, STRIDES[2]),
        )
    {
        return Ok([a, b, c]);
    }
    Err(EncodeError::WrongOutput {
        graph: graph.name().to_owned(),
        found: format!("{:?}", outputs.iter().map(|o| &o.shape).collect::<Vec<_>>()),
        expected: format!("three of [{count}, {CELL_VALUES}, rows, columns]"),
    })
}

/// The face detector YuNet for whole pictures. Owned by one thread.
#[derive(Debug)]
pub struct YuNet {
    settings: DetectorSettings,
    graph: Graph,
    image: RgbImage,
    planes: Vec<f32>,
    inputs: Vec<f32>,
    proposals: Vec<Proposal>,
}

impl YuNet {
    /// Opens `yunet.onnx` in `dir`.
    pub fn open(
        runtime: &Runtime,
        dir: &Path,
        provider: Provider,
        settings: DetectorSettings,
    ) -> Result<YuNet, EncodeError> {
        Ok(YuNet {
            graph: open_graph(runtime, dir, "yunet", provider, settings.threads)?,
            settings,
            image: RgbImage::default(),
            planes: Vec::new(),
            inputs: Vec::new(),
            proposals: Vec::new(),
        })
    }

    /// All faces, highest score first, in pixels of `picture`. Large pictures are shrunk first, as
    /// far as the smallest face to detect allows.
    ///
    /// # Errors
    /// The network fails, or its outputs have other shapes.
    pub fn detect(&mut self, picture: &Picture) -> Result<Vec<Detection>, EncodeError> {
        let min_face_px = self.settings.min_face_px(picture);
        let mut image = std::mem::take(&mut self.image);
        let found = in_shrunk(
            picture,
            min_face_px,
            SHRUNK_FACE_PX,
            &mut image,
            |image, min| self.detect_rgb(image, min),
        );
        self.image = image;
        found
    }

    /// All faces of about `min_face_px` pixels or more, highest score first, in pixels of `image`.
    ///
    /// # Errors
    /// The network fails, or its outputs have other shapes.
    pub fn detect_rgb(
        &mut self,
        image: &RgbImage,
        min_face_px: f32,
    ) -> Result<Vec<Detection>, EncodeError> {
        if image.width == 0 || image.height == 0 {
            return Ok(Vec::new());
        }
        let factor = SMALLEST_FACE_PX / min_face_px.max(1.0);
        let scaled = |side: usize| ((side as f32 * factor).round() as usize).max(1);
        let (w, h) = (scaled(image.width), scaled(image.height));
        self.fill_inputs(image, w, h);
        self.propose(w.next_multiple_of(GRID), h.next_multiple_of(GRID))?;
        merge(&mut self.proposals);
        let scale = [
            image.width as f32 / w as f32,
            image.height as f32 / h as f32,
        ];
        Ok(self
            .proposals
            .iter()
            .map(|p| p.in_picture([0.0; 2], scale))
            .collect())
    }

    /// Fills the network's input with the image resampled to `w x h` pixels. At the right and lower
    /// side it is padded with black to multiples of [`GRID`].
    fn fill_inputs(&mut self, image: &RgbImage, w: usize, h: usize) {
        let whole = Area {
            x: 0,
            y: 0,
            w: image.width,
            h: image.height,
        };
        self.planes.clear();
        resample(image, whole, w, h, &mut self.planes);
        let (columns, rows) = (w.next_multiple_of(GRID), h.next_multiple_of(GRID));
        self.inputs.clear();
        self.inputs.resize(3 * rows * columns, BLACK);
        for (plane, padded) in self
            .planes
            .chunks_exact(w * h)
            .zip(self.inputs.chunks_exact_mut(rows * columns))
        {
            for (row, padded) in plane.chunks_exact(w).zip(padded.chunks_exact_mut(columns)) {
                padded[..w].copy_from_slice(row);
            }
        }
    }

    /// Runs the network on an input of this size, and collects the proposals.
    fn propose(&mut self, columns: usize, rows: usize) -> Result<(), EncodeError> {
        let outputs = self
            .graph
            .run(&[Input::F32(&[1, 3, rows, columns], &self.inputs)])?;
        self.proposals.clear();
        for level in levels(&self.graph, &outputs, 0, 1)? {
            level.propose(THRESHOLD, &mut self.proposals);
        }
        Ok(())
    }
}

/// YuNet on crops around expected faces. Owned by one thread.
#[derive(Debug)]
pub struct CropDetector {
    graph: Graph,
    inputs: Vec<f32>,
    proposals: Vec<Proposal>,
}

impl CropDetector {
    /// Opens `yunet.onnx` in `dir`.
    pub fn open(
        runtime: &Runtime,
        dir: &Path,
        provider: Provider,
        threads: usize,
    ) -> Result<CropDetector, EncodeError> {
        Ok(CropDetector {
            graph: open_graph(runtime, dir, "yunet", provider, threads)?,
            inputs: Vec::new(),
            proposals: Vec::new(),
        })
    }

    /// Searches a face at each of `places`: centre and longer side of an expected face, in pixels
    /// of `picture`. Returns for each place the face; `None` if there is none. All crops are one
    /// run.
    ///
    /// # Errors
    /// The graph fails, or its outputs have other shapes.
    pub fn detect_at(
        &mut self,
        picture: &Picture,
        places: &[([f32; 2], f32)],
    ) -> Result<Vec<Option<Detection>>, EncodeError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        self.inputs.clear();
        let squares: Vec<_> = places
            .iter()
            .map(|(center, side)| {
                cut_square(
                    picture,
                    *center,
                    side * CROP_REACH,
                    CROP_SIDE,
                    &mut self.inputs,
                )
                .0
            })
            .collect();
        let count = places.len();
        let outputs = self
            .graph
            .run(&[Input::F32(&[count, 3, CROP_SIDE, CROP_SIDE], &self.inputs)])?;
        let mut found = Vec::with_capacity(count);
        for (i, (square, (center, side))) in squares.iter().zip(places).enumerate() {
            self.proposals.clear();
            for level in levels(&self.graph, &outputs, i, count)? {
                level.propose(CROP_THRESHOLD, &mut self.proposals);
            }
            merge(&mut self.proposals);
            let expected = Rect {
                x: center[0] - side / 2.0,
                y: center[1] - side / 2.0,
                w: *side,
                h: *side,
            };
            let scale = [square.side as f32 / CROP_SIDE as f32; 2];
            found.push(
                self.proposals
                    .iter()
                    .map(|p| p.in_picture(square.origin.map(|v| v as f32), scale))
                    .map(|d| (d.rect.iou(&expected), d))
                    .filter(|(iou, _)| *iou > EXPECTED_IOU)
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .map(|(_, d)| d),
            );
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
