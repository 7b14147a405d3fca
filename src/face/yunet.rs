//! YuNet (Wu et al. 2023): one small network proposes faces with five landmarks at three strides.
//!
//! [`YuNet`] detects in whole pictures. [`CropDetector`] detects one face at an expected place. It
//! follows faces that MTCNN's last network, trained on frontal faces, rejects.

use std::path::Path;

use super::closeup::cut_square;
use super::detection::{Detection, DetectorSettings, in_shrunk};
use super::image::{Area, RgbImage, resample};
use super::provenance::open_graph;
use crate::clip::{Landmarks, Picture, Rect};
use crate::encode::{EncodeError, Graph, Input, Output, Provider, Runtime};

/// Strides of the three outputs, in pixels of the input.
const STRIDES: [usize; 3] = [8, 16, 32];
/// The input's sides are multiples of this.
const GRID: usize = 32;
/// Values of a cell: class, object, box, landmarks.
const CELL_VALUES: usize = 16;
/// Input value of a black pixel; the padding is black.
const BLACK: f32 = -127.5 / 128.0;
/// The picture is scaled so that the smallest face has this size. On the test material, faces of 40
/// to 60 px of 640 are found in 0.83 of the frames at 20 px, 0.90 at 32 px and 0.88 at 40 px. Time
/// grows with the square.
const SMALLEST_FACE_PX: f32 = 32.0;
/// Pictures are shrunk by whole factors first while the smallest face stays at least this large.
const SHRUNK_FACE_PX: f32 = 36.0;
/// Lowest score of a face.
const THRESHOLD: f32 = 0.6;
/// Proposals that overlap by more are merged.
const SAME_FACE_IOU: f32 = 0.45;
/// Side of a crop in pixels; and in sides of the expected face.
const CROP_SIDE: usize = 128;
const CROP_REACH: f32 = 2.0;
/// Lowest score of a face in a crop. Random places of the test material reach 0.56, profiles have a
/// median of 0.85.
const CROP_THRESHOLD: f32 = 0.55;
/// Lowest overlap of the face in a crop with the expected place.
const EXPECTED_IOU: f32 = 0.2;

/// A proposal of one cell, in pixels of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Proposal {
    score: f32,
    rect: Rect,
    landmarks: Landmarks,
}

/// One output for one picture: `values` are `[16, rows, columns]`.
#[derive(Clone, Copy, Debug)]
struct Level<'a> {
    stride: usize,
    rows: usize,
    columns: usize,
    values: &'a [f32],
}

impl Level<'_> {
    /// Appends the proposals with at least `threshold`, row by row. The score is the geometric mean
    /// of class and object. Boxes and landmarks are in strides from the cell's corner, sizes are
    /// logarithms.
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

/// One proposal per face, best first: the mean of all that overlap the best one, weighted by score.
/// Neighbouring cells differ by up to 4 % of the face's side. Their mean is a tenth nearer to the
/// truth than the best one alone, and jumps a third less from frame to frame.
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

/// The score on the tracker's scale. YuNet's scores saturate: frontal faces have 0.90 to 0.96,
/// profiles 0.75 to 0.90. No false detection of the test material reaches 0.6. Piecewise linear
/// between these points.
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
    /// The detection in the picture: `origin` is the picture's pixel at the input's first, `scale`
    /// the picture's pixels per input pixel, per axis.
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

/// The levels of picture `index` of a run on `count` pictures.
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

/// The detector for whole pictures. Owned by one thread; reuses its buffers.
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

    /// All faces, best first, in pixels of `picture`.
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

    /// All faces of at least about `min_face_px`, best first.
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

    /// The image at `w x h`, padded with black to the right and below up to the grid.
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

/// The same network on a crop around an expected place.
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

    /// The face at each place (centre and longer side of a face). One run for all places; no run
    /// for none.
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
