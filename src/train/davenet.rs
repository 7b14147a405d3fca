//! ResDAVEnet, the audio encoder of the ConCluGen authors (`src/train/method.md` b.1; their file
//! `dav_enet.py`). It maps spectrograms to a feature map, whose mean is the embedding. It serves
//! the comparison with the authors' numbers only; the trainer imports encoders as ONNX files.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::train::net::NormedConv;

/// Sizes of ResDAVEnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DavenetShape {
    /// Rows of the first convolution's kernel, equal to the number of mel bands; 40 in the
    /// published network.
    pub kernel_rows: usize,
    /// Number of residual blocks of each stage; 2 in each of 4 stages in the published network.
    pub blocks: Vec<usize>,
    /// Channels after the first convolution and after each stage; 128, 256, 256, 512 and 1024 in
    /// the published network.
    pub widths: Vec<usize>,
    /// Columns of the blocks' kernels, an odd number; 9 in the published network.
    pub kernel_columns: usize,
}

/// A residual block: two convolutions along time, and a shortcut. The first block of a stage halves
/// rows and columns.
#[derive(Module, Debug)]
pub struct SpeechBlock {
    pub(crate) first: NormedConv,
    pub(crate) second: NormedConv,
    /// A convolution of one pixel, if the block changes the size or number of channels; `None`: the
    /// input is added unchanged.
    pub(crate) shortcut: Option<NormedConv>,
}

impl SpeechBlock {
    /// A block with random weights. `channels`: of input and output; `columns`: width of the
    /// kernels.
    fn new(channels: [usize; 2], columns: usize, stride: usize, device: &Device) -> Self {
        let conv = |channels, stride| {
            NormedConv::new(channels, [1, columns], stride, [0, columns / 2], device)
        };
        let plain = stride == 1 && channels[0] == channels[1];
        SpeechBlock {
            first: conv(channels, stride),
            second: conv([channels[1], channels[1]], 1),
            shortcut: (!plain).then(|| NormedConv::new(channels, [1, 1], stride, [0, 0], device)),
        }
    }

    /// Maps a feature map `[batch, channels, rows, columns]` to the block's output.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let beside = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone()),
            None => x.clone(),
        };
        relu(self.second.forward(relu(self.first.forward(x))) + beside)
    }
}

/// The network ResDAVEnet: a convolution, then stages of residual blocks.
#[derive(Module, Debug)]
pub struct Davenet {
    /// The first convolution, over all mel bands.
    pub(crate) stem: NormedConv,
    /// The residual blocks of each stage.
    pub(crate) stages: Vec<Vec<SpeechBlock>>,
}

impl Davenet {
    /// A network with random weights.
    ///
    /// # Panics
    /// The number of widths is not the number of stages plus one.
    pub fn new(shape: &DavenetShape, device: &Device) -> Self {
        assert_eq!(
            shape.widths.len(),
            shape.blocks.len() + 1,
            "a width for the first convolution and for each stage"
        );
        let stage = |(count, widths): (&usize, &[usize])| {
            let block = |i| match i {
                0 => SpeechBlock::new([widths[0], widths[1]], shape.kernel_columns, 2, device),
                _ => SpeechBlock::new([widths[1], widths[1]], shape.kernel_columns, 1, device),
            };
            (0..*count).map(block).collect()
        };
        Davenet {
            stem: NormedConv::new(
                [1, shape.widths[0]],
                [shape.kernel_rows, 1],
                1,
                [0, 0],
                device,
            ),
            stages: shape
                .blocks
                .iter()
                .zip(shape.widths.windows(2))
                .map(stage)
                .collect(),
        }
    }

    /// Maps spectrograms `[batch, mels, frames]` to a feature map `[batch, channels, rows,
    /// columns]` with values of at least 0. With as many mel bands as the first kernel has rows,
    /// the map has one row; more bands give more rows.
    pub fn forward(&self, spectrograms: Tensor<3>) -> Tensor<4> {
        let x = relu(self.stem.forward(spectrograms.unsqueeze_dim(1)));
        self.stages
            .iter()
            .flatten()
            .fold(x, |x, block| block.forward(x))
    }

    /// The mean of a feature map over rows and columns: `[batch, channels]`.
    pub fn pool(map: Tensor<4>) -> Tensor<2> {
        let [batch, channels, rows, columns] = map.dims();
        map.reshape([batch, channels, rows * columns])
            .mean_dim(2)
            .reshape([batch, channels])
    }
}
