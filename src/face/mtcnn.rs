//! The face detector MTCNN (Zhang et al. 2016), a cascade of three networks, as in facenet-pytorch
//! 2.5.3. The first network proposes boxes on an image pyramid, the other two refine them.
//!
//! The arithmetic is that of facenet-pytorch: area averages for pyramid and crops, rounding of
//! proposals, order and thresholds of suppression. A test checks that boxes and landmarks differ
//! from facenet-pytorch's by at most 1 px, and probabilities by at most 0.01.

use std::path::Path;

use super::boxes::{Candidate, Overlap, suppress};
use super::detection::{Detection, DetectorSettings, in_shrunk};
use super::image::{Area, RgbImage, resample};
use super::provenance::open_graph;
use super::refine::{INPUT_SIDE, Refiner};
use crate::clip::{Picture, Rect};
use crate::encode::{EncodeError, Graph, Input, Provider, Runtime};

/// The face detector MTCNN. Owned by one thread.
#[derive(Debug)]
pub struct Mtcnn {
    settings: DetectorSettings,
    /// The first network, PNet.
    proposer: Graph,
    /// The second network, RNet.
    filter: Graph,
    /// The third network, ONet.
    refiner: Refiner,
    /// Buffer of the picture that is searched.
    image: RgbImage,
    /// Buffer of a network's input.
    inputs: Vec<f32>,
}

/// Side of the window that PNet classifies, in pixels of its input.
const CELL: f64 = 12.0;
/// Distance of two of PNet's windows, in pixels of its input.
const STRIDE: f32 = 2.0;
/// Side of RNet's input, in pixels.
const FILTER_SIDE: usize = 24;
/// Largest number of crops in one run of a network.
const BATCH: usize = 128;
/// Before detection, pictures are shrunk by 2 or 4 if the smallest face to detect keeps at least
/// this size, in pixels.
const SHRUNK_FACE_PX: f32 = 36.0;

impl Mtcnn {
    /// Opens `pnet.onnx`, `rnet.onnx` and `onet.onnx` in `dir`.
    ///
    /// # Errors
    /// A graph is missing, does not match its `provenance.toml`, or cannot be opened.
    pub fn open(
        runtime: &Runtime,
        dir: &Path,
        provider: Provider,
        settings: DetectorSettings,
    ) -> Result<Mtcnn, EncodeError> {
        let threads = settings.threads;
        Ok(Mtcnn {
            proposer: open_graph(runtime, dir, "pnet", provider, threads)?,
            filter: open_graph(runtime, dir, "rnet", provider, threads)?,
            refiner: Refiner::open(runtime, dir, provider, threads)?,
            settings,
            image: RgbImage::default(),
            inputs: Vec::new(),
        })
    }

    /// All faces, highest score first, in pixels of `picture`. Large pictures are shrunk first, as
    /// far as the smallest face to detect allows.
    ///
    /// # Errors
    /// A network fails, or its outputs have other shapes.
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

    /// All faces of at least `min_face_px` pixels, highest score first, in pixels of `image`.
    ///
    /// # Errors
    /// A network fails, or its outputs have other shapes.
    pub fn detect_rgb(
        &mut self,
        image: &RgbImage,
        min_face_px: f32,
    ) -> Result<Vec<Detection>, EncodeError> {
        let proposals = self.propose(image, f64::from(min_face_px))?;
        let filtered = self.filter(image, proposals)?;
        self.refine(image, filtered)
    }

    /// Runs PNet on an image pyramid. Returns square boxes that may be faces.
    fn propose(
        &mut self,
        image: &RgbImage,
        min_face_px: f64,
    ) -> Result<Vec<Candidate>, EncodeError> {
        let (w, h) = (image.width, image.height);
        let mut scale = CELL / min_face_px;
        let mut shorter = w.min(h) as f64 * scale;
        let mut proposals = Vec::new();
        while shorter >= CELL {
            let (sw, sh) = (
                (w as f64 * scale + 1.0) as usize,
                (h as f64 * scale + 1.0) as usize,
            );
            self.inputs.clear();
            resample(image, Area { x: 0, y: 0, w, h }, sw, sh, &mut self.inputs);
            let outputs = self
                .proposer
                .run(&[Input::F32(&[1, 3, sh, sw], &self.inputs)])?;
            let [regression, probability] = two(&self.proposer, &outputs)?;
            let columns = outputs[1].shape[3];
            let cells = columns * outputs[1].shape[2];
            let mut of_scale = Vec::new();
            for (i, score) in probability[cells..2 * cells]
                .iter()
                .enumerate()
                .filter(|(_, p)| **p >= self.settings.thresholds[0])
            {
                let near = |at: usize| ((STRIDE * at as f32 + 1.0) / scale as f32).floor();
                let far = |at: usize| ((STRIDE * at as f32 + CELL as f32) / scale as f32).floor();
                let (x, y) = (i % columns, i / columns);
                let regression = std::array::from_fn(|k| regression[k * cells + i]);
                of_scale.push(Candidate {
                    corners: [near(x), near(y), far(x), far(y)],
                    score: *score,
                    regression,
                });
            }
            proposals.extend(suppress(of_scale, 0.5, Overlap::Union));
            scale *= self.settings.pyramid_factor;
            shorter *= self.settings.pyramid_factor;
        }
        let mut proposals = suppress(proposals, 0.7, Overlap::Union);
        for proposal in &mut proposals {
            proposal.regress(0.0);
            proposal.square();
        }
        Ok(proposals)
    }

    /// Runs RNet on the proposals. Returns the square boxes that it accepts.
    fn filter(
        &mut self,
        image: &RgbImage,
        mut proposals: Vec<Candidate>,
    ) -> Result<Vec<Candidate>, EncodeError> {
        let mut passed = Vec::new();
        proposals.retain(|p| area_of(image, p).is_some());
        for batch in proposals.chunks(BATCH) {
            self.inputs.clear();
            for area in batch.iter().filter_map(|p| area_of(image, p)) {
                resample(image, area, FILTER_SIDE, FILTER_SIDE, &mut self.inputs);
            }
            let outputs = self.filter.run(&[Input::F32(
                &[batch.len(), 3, FILTER_SIDE, FILTER_SIDE],
                &self.inputs,
            )])?;
            let [regression, probability] = two(&self.filter, &outputs)?;
            for (i, proposal) in batch
                .iter()
                .enumerate()
                .filter(|(i, _)| probability[2 * i + 1] > self.settings.thresholds[1])
            {
                let regression = std::array::from_fn(|k| regression[4 * i + k]);
                passed.push(Candidate {
                    corners: proposal.corners,
                    score: probability[2 * i + 1],
                    regression,
                });
            }
        }
        let mut passed = suppress(passed, 0.7, Overlap::Union);
        for candidate in &mut passed {
            candidate.regress(1.0);
            candidate.square();
        }
        Ok(passed)
    }

    /// Runs ONet on the candidates. Returns the faces that it accepts, with landmarks.
    fn refine(
        &mut self,
        image: &RgbImage,
        mut candidates: Vec<Candidate>,
    ) -> Result<Vec<Detection>, EncodeError> {
        let mut refined = Vec::new();
        let mut landmarks = Vec::new();
        candidates.retain(|c| area_of(image, c).is_some());
        for batch in candidates.chunks(BATCH) {
            self.inputs.clear();
            for area in batch.iter().filter_map(|c| area_of(image, c)) {
                resample(image, area, INPUT_SIDE, INPUT_SIDE, &mut self.inputs);
            }
            let found = self.refiner.refine(&self.inputs)?;
            for (candidate, found) in batch
                .iter()
                .zip(found)
                .filter(|(_, f)| f.score > self.settings.thresholds[2])
            {
                let [x1, y1, x2, y2] = candidate.corners;
                let (w, h) = (x2 - x1 + 1.0, y2 - y1 + 1.0);
                let mut candidate = Candidate {
                    score: found.score,
                    regression: found.regression,
                    ..*candidate
                };
                candidate.regress(1.0);
                refined.push(candidate);
                landmarks.push(
                    found
                        .landmarks
                        .map(|[x, y]| [w * x + x1 - 1.0, h * y + y1 - 1.0]),
                );
            }
        }
        // The suppression sorts the candidates, so each carries the index of its landmarks.
        for (i, candidate) in refined.iter_mut().enumerate() {
            candidate.regression[0] = i as f32;
        }
        let kept = suppress(refined, 0.7, Overlap::Smaller);
        Ok(kept
            .into_iter()
            .map(|c| {
                let [x1, y1, x2, y2] = c.corners;
                Detection {
                    rect: Rect {
                        x: x1,
                        y: y1,
                        w: x2 - x1,
                        h: y2 - y1,
                    },
                    score: c.score,
                    landmarks: landmarks[c.regression[0] as usize],
                }
            })
            .collect())
    }
}

/// Whether the folder `dir` holds MTCNN's networks.
pub(super) fn is_mtcnn(dir: &Path) -> bool {
    dir.join("pnet.onnx").exists()
}

/// The area of the image under a candidate, as facenet-pytorch computes it: corners truncated to
/// whole pixels that count from 1, and clipped to the image. `None` if the area is empty.
fn area_of(image: &RgbImage, candidate: &Candidate) -> Option<Area> {
    let [x1, y1, x2, y2] = candidate.corners.map(|c| c as i64);
    let (x, y) = (x1.max(1) - 1, y1.max(1) - 1);
    let (ex, ey) = (x2.min(image.width as i64), y2.min(image.height as i64));
    (ex > x && ey > y).then(|| Area {
        x: x as usize,
        y: y as usize,
        w: (ex - x) as usize,
        h: (ey - y) as usize,
    })
}

/// The values of a network's two outputs: box regression and probabilities.
fn two<'a>(
    graph: &Graph,
    outputs: &'a [crate::encode::Output],
) -> Result<[&'a [f32]; 2], EncodeError> {
    match outputs {
        [a, b] if a.values.len() == 2 * b.values.len() && a.shape.len() == b.shape.len() => {
            Ok([&a.values, &b.values])
        }
        _ => Err(EncodeError::WrongOutput {
            graph: graph.name().to_owned(),
            found: format!("{:?}", outputs.iter().map(|o| &o.shape).collect::<Vec<_>>()),
            expected: "four numbers and two probabilities for each box".into(),
        }),
    }
}

#[cfg(test)]
mod tests;
