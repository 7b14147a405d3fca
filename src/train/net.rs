//! The networks of encoders and head. Each network has one `forward` for training, evaluation and
//! export.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Initializer, Linear, LinearConfig,
    PaddingConfig2d,
};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

mod head;
#[cfg(feature = "train-torch")]
pub mod torch;

pub use head::Head;

/// A two-dimensional convolution without bias, then batch normalisation.
#[derive(Module, Debug)]
pub(crate) struct NormedConv {
    pub(crate) conv: Conv2d,
    pub(crate) norm: BatchNorm,
}

impl NormedConv {
    /// A layer with random weights. `channels`: of input and output; `kernel` and padding `[h, w]`:
    /// rows, then columns; `stride`: of both axes.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 2],
        stride: usize,
        [h, w]: [usize; 2],
        device: &Device,
    ) -> Self {
        let conv = Conv2dConfig::new(channels, kernel)
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(h, w, h, w))
            .with_bias(false)
            .with_initializer(Initializer::KaimingNormal {
                gain: std::f64::consts::SQRT_2,
                fan_out_only: false,
            });
        NormedConv {
            conv: conv.init(device),
            norm: BatchNormConfig::new(channels[1]).init(device),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// Settings of one residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockShape {
    /// Number of output channels.
    pub channels: usize,
    /// Whether the block halves the number of rows and columns.
    pub halves: bool,
}

/// The operation by which a block halves the number of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halving {
    /// The first convolution has stride 2.
    Stride,
    /// Max pooling over 2x2 precedes the block. The ONNX exporter does not support a padded stride
    /// on an axis of variable length.
    MaxPool,
}

/// Pooling of each channel of the feature map after the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of each channel.
    Mean,
    /// Mean and standard deviation of each channel (statistics pooling, Snyder et al. 2018). The
    /// deviation captures how much the voice varies.
    MeanAndDeviation,
}

/// Added to a variance before its square root, for finite gradients.
const LEAST_VARIANCE: f64 = 1e-4;

/// A residual block: two 3x3 convolutions with a shortcut (He et al. 2015).
#[derive(Module, Debug)]
struct Block {
    pool: Option<MaxPool2d>,
    first: NormedConv,
    second: NormedConv,
    shortcut: Option<NormedConv>,
}

impl Block {
    /// A block with random weights. `channels`: of input and output; `halving`: `None` keeps the
    /// size.
    fn new(channels: [usize; 2], halving: Option<Halving>, device: &Device) -> Self {
        let stride = if halving == Some(Halving::Stride) {
            2
        } else {
            1
        };
        let plain = stride == 1 && channels[0] == channels[1];
        Block {
            pool: (halving == Some(Halving::MaxPool))
                .then(|| MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init()),
            first: NormedConv::new(channels, [3, 3], stride, [1, 1], device),
            second: NormedConv::new([channels[1], channels[1]], [3, 3], 1, [1, 1], device),
            shortcut: (!plain).then(|| NormedConv::new(channels, [1, 1], stride, [0, 0], device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match &self.pool {
            Some(pool) => pool.forward(x),
            None => x,
        };
        let beside = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone()),
            None => x.clone(),
        };
        relu(self.second.forward(relu(self.first.forward(x))) + beside)
    }
}

/// Settings of an [`Encoder`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderShape {
    /// Number of output channels of the stem, the first convolution.
    pub stem: usize,
    /// Stride of the stem.
    pub stem_stride: usize,
    /// Width and height of the stem's kernel.
    pub stem_kernel: usize,
    /// Zero padding of the stem on each side: of rows, then of columns.
    pub stem_padding: [usize; 2],
    /// The residual blocks after the stem, in order.
    pub blocks: Vec<BlockShape>,
    /// The operation by which blocks halve rows and columns.
    pub halving: Halving,
    /// Number of rows after the last block, all of which one convolution joins into one row; 0:
    /// rows are averaged. It is for spectrograms, whose rows are frequencies and not
    /// interchangeable.
    pub join_rows: usize,
    /// Pooling after the last block.
    pub pooling: Pooling,
    /// Length of the embedding.
    pub dim: usize,
    /// Probability, 0..1, that dropout sets a pooled value to zero in training.
    pub dropout: f64,
}

/// A residual network from one plane (a greyscale crop or a spectrogram) to an embedding and
/// logits. The number of columns may vary.
#[derive(Module, Debug)]
pub struct Encoder {
    stem: NormedConv,
    blocks: Vec<Block>,
    join: Option<NormedConv>,
    pool: AdaptiveAvgPool2d,
    /// Whether the standard deviation is pooled in addition to the mean.
    deviation: bool,
    dropout: Dropout,
    embed: Linear,
    classify: Linear,
}

impl Encoder {
    /// A network of `shape` with random weights and one logit for each of `classes`.
    pub fn new(shape: &EncoderShape, classes: usize, device: &Device) -> Self {
        let mut channels = shape.stem;
        let mut blocks = Vec::new();
        for block in &shape.blocks {
            blocks.push(Block::new(
                [channels, block.channels],
                block.halves.then_some(shape.halving),
                device,
            ));
            channels = block.channels;
        }
        Encoder {
            stem: NormedConv::new(
                [1, shape.stem],
                [shape.stem_kernel; 2],
                shape.stem_stride,
                shape.stem_padding,
                device,
            ),
            blocks,
            join: (shape.join_rows > 0).then(|| {
                NormedConv::new(
                    [channels, channels],
                    [shape.join_rows, 1],
                    1,
                    [0, 0],
                    device,
                )
            }),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            deviation: shape.pooling == Pooling::MeanAndDeviation,
            dropout: DropoutConfig::new(shape.dropout).init(),
            embed: LinearConfig::new(pooled(shape, channels), shape.dim).init(device),
            classify: LinearConfig::new(shape.dim, classes).init(device),
        }
    }

    /// Maps `[batch, 1, rows, columns]` to embeddings `[batch, dim]` and logits `[batch, classes]`.
    /// The embedding is a linear function of the pooled values.
    pub fn forward(&self, x: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        let mut x = relu(self.stem.forward(x));
        for block in &self.blocks {
            x = block.forward(x);
        }
        if let Some(join) = &self.join {
            x = relu(join.forward(x));
        }
        let [batch, channels, _, _] = x.dims();
        let mean = self.pool.forward(x.clone());
        let pooled = if self.deviation {
            let variance = self.pool.forward(x.square()) - mean.clone().square();
            Tensor::cat(
                vec![mean, relu(variance).add_scalar(LEAST_VARIANCE).sqrt()],
                1,
            )
            .reshape([batch, 2 * channels])
        } else {
            mean.reshape([batch, channels])
        };
        let embedding = self.embed.forward(self.dropout.forward(pooled));
        (embedding.clone(), self.classify.forward(embedding))
    }

    /// Adds `prior`, one value per class, to the logits. Embeddings do not change.
    pub fn with_prior(mut self, prior: &[f32], device: &Device) -> Self {
        let bias = self.classify.bias.clone();
        self.classify.bias = bias.map(|bias| add_row(bias, prior, device));
        self
    }

    /// Number of operations of one forward pass over an input of `[rows, columns]`. A
    /// multiplication and an addition are one operation each. Only convolutions and linear layers
    /// count.
    pub fn operations(
        shape: &EncoderShape,
        classes: usize,
        [mut rows, mut columns]: [usize; 2],
    ) -> u64 {
        let mut total = 0;
        let mut conv = |from: usize, to: usize, kernel: usize, rows: usize, columns: usize| {
            total += 2 * (from * to * kernel * rows * columns) as u64
        };
        let [h, w] = shape.stem_padding;
        let kernel = shape.stem_kernel;
        let stride = shape.stem_stride;
        (rows, columns) = (
            (rows + 2 * h - kernel) / stride + 1,
            (columns + 2 * w - kernel) / stride + 1,
        );
        conv(1, shape.stem, kernel * kernel, rows, columns);
        let mut channels = shape.stem;
        for BlockShape {
            channels: width,
            halves,
        } in shape.blocks.iter().copied()
        {
            (rows, columns) = match shape.halving {
                _ if !halves => (rows, columns),
                Halving::Stride => (rows.div_ceil(2), columns.div_ceil(2)),
                Halving::MaxPool => (rows / 2, columns / 2),
            };
            conv(channels, width, 9, rows, columns);
            conv(width, width, 9, rows, columns);
            if (halves && shape.halving == Halving::Stride) || channels != width {
                conv(channels, width, 1, rows, columns);
            }
            channels = width;
        }
        if shape.join_rows > 0 {
            conv(
                channels,
                channels,
                shape.join_rows,
                rows + 1 - shape.join_rows,
                columns,
            );
        }
        conv(pooled(shape, channels), shape.dim, 1, 1, 1);
        conv(shape.dim, classes, 1, 1, 1);
        total
    }
}

/// The number of values that pooling gives for this number of channels.
fn pooled(shape: &EncoderShape, channels: usize) -> usize {
    if shape.pooling == Pooling::MeanAndDeviation {
        2 * channels
    } else {
        channels
    }
}

/// Adds `row` to a bias of the same length.
fn add_row(bias: Param<Tensor<1>>, row: &[f32], device: &Device) -> Param<Tensor<1>> {
    let row = Tensor::from_data(TensorData::new(row.to_vec(), [row.len()]), device);
    bias.map(|bias| bias + row)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A small encoder for tests, with strides, shortcuts and a block that keeps its size, without
    /// dropout. Inputs are `[batch, 1, rows, columns]`, embeddings have 5 values, and there are 3
    /// classes.
    pub fn tiny(device: &Device) -> Encoder {
        let blocks = [(6, true), (8, true), (8, false)]
            .map(|(channels, halves)| BlockShape { channels, halves })
            .to_vec();
        let halving = Halving::Stride;
        Encoder::new(
            &EncoderShape {
                stem: 4,
                stem_stride: 1,
                stem_kernel: 3,
                stem_padding: [1, 1],
                blocks,
                halving,
                join_rows: 0,
                pooling: Pooling::MeanAndDeviation,
                dim: 5,
                dropout: 0.0,
            },
            3,
            device,
        )
    }
}
