//! Loss and gradients of an [`Encoder`], computed by LibTorch's autograd instead of Burn's.
//!
//! On LibTorch, Burn differentiates batch normalisation by some twenty passes over each activation,
//! and the weights of a convolution by another convolution. LibTorch has one operation for each of
//! these gradients, and convolves in bfloat16 if the processor supports it. Each training step
//! copies the weights and their gradients (a few megabytes), which takes less than 1 % of its time.

use anyhow::Context;
use burn::module::{Param, ParamId};
use burn::nn::PaddingConfig2d;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use tch::Kind;

use super::{Block, Encoder, LEAST_VARIANCE, NormedConv};
use crate::train::device::Precision;

/// Copies of the trained weights as leaf tensors of LibTorch's graph, in the order of their use.
struct Leaves {
    /// Burn's id and the shape of each weight.
    ids: Vec<(ParamId, Vec<usize>)>,
    /// The copy of each weight, in the order of `ids`.
    tensors: Vec<tch::Tensor>,
    /// Number type of the inputs and weights of convolutions.
    kind: Kind,
}

impl Leaves {
    /// Copies a weight into a new leaf tensor that requires a gradient.
    fn take<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> anyhow::Result<tch::Tensor> {
        let leaf = to_torch(param.val())?.set_requires_grad(true);
        self.ids.push((param.id, param.val().dims().to_vec()));
        self.tensors.push(leaf.shallow_clone());
        Ok(leaf)
    }

    /// Convolution and batch normalisation in training mode; updates the running statistics.
    fn normed_conv(&mut self, x: &tch::Tensor, layer: &NormedConv) -> anyhow::Result<tch::Tensor> {
        let PaddingConfig2d::Explicit(h, w, ..) = layer.conv.padding else {
            anyhow::bail!("convolutions here pad explicitly")
        };
        // With a channels-last kernel, LibTorch keeps that layout in later layers, which takes a
        // fifth less time in 16 bits.
        let weight = self
            .take(&layer.conv.weight)?
            .to_kind(self.kind)
            .permute([0, 2, 3, 1])
            .contiguous()
            .permute([0, 3, 1, 2]);
        let stride = layer.conv.stride.map(|s| s as i64);
        let y = x.to_kind(self.kind).conv2d(
            &weight,
            None::<&tch::Tensor>,
            stride,
            [h as i64, w as i64],
            [1, 1],
            1,
        );
        let norm = &layer.norm;
        let (gamma, beta) = (self.take(&norm.gamma)?, self.take(&norm.beta)?);
        // LibTorch updates both in place. Its running variance is unbiased and Burn's is biased;
        // with thousands of values the difference is negligible.
        let (mean, variance) = (
            to_torch(norm.running_mean.value_sync())?,
            to_torch(norm.running_var.value_sync())?,
        );
        let y = y.batch_norm(
            Some(&gamma),
            Some(&beta),
            Some(&mean),
            Some(&variance),
            true,
            norm.momentum,
            norm.epsilon,
            false,
        );
        for (state, new) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
            state.update(to_burn(&new, &norm.gamma.device())?);
        }
        Ok(y)
    }

    /// A residual block: max pooling if the block has it, two convolutions, and the shortcut.
    fn block(&mut self, x: tch::Tensor, block: &Block) -> anyhow::Result<tch::Tensor> {
        let x = if block.pool.is_some() {
            x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)
        } else {
            x
        };
        let inner = self.normed_conv(&x, &block.first)?.relu();
        let inner = self.normed_conv(&inner, &block.second)?;
        let beside = match &block.shortcut {
            Some(shortcut) => self.normed_conv(&x, shortcut)?,
            None => x,
        };
        Ok((inner + beside).relu())
    }
}

/// Copies a Burn tensor of f32 to LibTorch.
fn to_torch<const D: usize>(tensor: Tensor<D>) -> anyhow::Result<tch::Tensor> {
    let shape = tensor.dims().map(|d| d as i64);
    let data = tensor.into_data();
    Ok(tch::Tensor::from_slice(
        data.as_slice::<f32>()
            .map_err(|e| anyhow::anyhow!("{e:?}"))?,
    )
    .reshape(shape))
}

/// Copies a LibTorch tensor of f32 to Burn.
fn to_burn<const D: usize>(tensor: &tch::Tensor, device: &Device) -> anyhow::Result<Tensor<D>> {
    let shape: Vec<usize> = tensor.size().iter().map(|d| *d as usize).collect();
    let values =
        Vec::<f32>::try_from(tensor.flatten(0, -1)).context("LibTorch's tensor is not of f32")?;
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

/// The loss of `net` on one batch, and the gradient of every weight. The loss is the mean
/// cross-entropy, in nats. `values`: inputs, row-major in `shape` (`[batch, 1, rows, columns]`);
/// `targets`: a probability per class, `[batch, classes]` row-major. [`Precision::Mixed`]:
/// convolutions run in bfloat16.
///
/// Updates the running statistics of batch normalisation in `net`. Dropout draws from LibTorch's
/// random generator.
///
/// # Errors
/// A tensor of `net` is not of f32, or a convolution has implicit padding.
pub fn gradients(
    net: &Encoder,
    values: &[f32],
    shape: [usize; 4],
    targets: &[f32],
    precision: Precision,
) -> anyhow::Result<(f64, GradientsParams)> {
    let kind = if precision == Precision::Mixed {
        Kind::BFloat16
    } else {
        Kind::Float
    };
    let mut leaves = Leaves {
        ids: Vec::new(),
        tensors: Vec::new(),
        kind,
    };
    let rows = shape[0] as i64;
    let mut x = tch::Tensor::from_slice(values).reshape(shape.map(|d| d as i64));
    x = leaves.normed_conv(&x, &net.stem)?.relu();
    for block in &net.blocks {
        x = leaves.block(x, block)?;
    }
    if let Some(join) = &net.join {
        x = leaves.normed_conv(&x, join)?.relu();
    }
    let x = x.to_kind(Kind::Float);
    let mean = |x: &tch::Tensor| x.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
    let mut pooled = mean(&x);
    if net.deviation {
        let variance = mean(&x.square()) - pooled.square();
        pooled = tch::Tensor::cat(&[pooled, (variance.relu() + LEAST_VARIANCE).sqrt()], 1);
    }
    let pooled = pooled.dropout(net.dropout.prob, true);
    let mut linear = |x: tch::Tensor, layer: &burn::nn::Linear| -> anyhow::Result<tch::Tensor> {
        let product = x.matmul(&leaves.take(&layer.weight)?);
        Ok(match &layer.bias {
            Some(bias) => product + leaves.take(bias)?,
            None => product,
        })
    };
    let logits = linear(pooled, &net.embed)?;
    let logits = linear(logits, &net.classify)?;
    let targets = tch::Tensor::from_slice(targets).reshape([rows, -1]);
    let loss = (logits.log_softmax(-1, Kind::Float) * targets).sum(Kind::Float) / -(rows as f64);
    let found = tch::Tensor::run_backward(&[&loss], &leaves.tensors, false, false);
    let (mut gradients, device) = (
        GradientsParams::new(),
        net.embed.weight.val().inner().device(),
    );
    for ((id, shape), gradient) in leaves.ids.iter().zip(&found) {
        match shape.len() {
            1 => gradients.register(*id, to_burn::<1>(gradient, &device)?),
            2 => gradients.register(*id, to_burn::<2>(gradient, &device)?),
            _ => gradients.register(*id, to_burn::<4>(gradient, &device)?),
        }
    }
    Ok((loss.double_value(&[]), gradients))
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::model::golden::golden_samples;
    use crate::train::device::burn_cpu;
    use crate::train::fit::{Learner, values};
    use crate::train::net::tests::tiny;
    use crate::train::samples::PlaneBatch;

    /// Checks that the tensors `a` and `b` are equal up to rounding. With [`Precision::Full`] they
    /// may differ by 1e-4 of the largest value. With 16 bits only their directions are compared,
    /// because values that are differences of nearly equal sums consist of rounding errors.
    fn assert_alike(what: &str, precision: Precision, a: &[f32], b: &[f32]) {
        let product =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let largest = a.iter().fold(0.0f32, |l, v| l.max(v.abs()));
        assert!(a.len() == b.len() && largest > 0.0, "{what}");
        let apart = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        let cosine = product(a, b) / (product(a, a) * product(b, b)).sqrt();
        let enough = if precision == Precision::Full {
            apart <= 1e-4 * largest
        } else {
            cosine > 0.9
        };
        assert!(
            enough,
            "{what}, {precision:?}: {apart} apart, the largest is {largest}, cosine {cosine}"
        );
    }

    #[test]
    fn loss_gradients_and_running_statistics_match_burns_autodiff() {
        let _turn = crate::train::fit::tests::GENERATOR.lock();
        let training = burn_cpu().autodiff();
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("net.bpk");
        tiny(&burn_cpu()).save_file(&path).unwrap();
        let load = || {
            tiny(&burn_cpu())
                .try_load_file(&path)
                .unwrap()
                .to_device(&training)
                .train()
        };
        let pixels = golden_samples(5, 6 * 16 * 16);
        let batch = PlaneBatch {
            values: pixels.clone(),
            shape: [6, 1, 16, 16],
            targets: (0..18).map(|i| f32::from(i % 3 == i / 3 % 3)).collect(),
        };
        let ours = load();
        let loss = ours.loss(batch.clone(), &training);
        let expected = GradientsParams::from_grads(loss.clone().backward(), &ours);
        let expected_loss = f64::from(values(loss).unwrap()[0]);
        for precision in [Precision::Full, Precision::Mixed] {
            let net = load();
            let (found_loss, found) =
                gradients(&net, &batch.values, batch.shape, &batch.targets, precision).unwrap();
            let tolerance = if precision == Precision::Full {
                1e-5
            } else {
                0.02
            };
            assert!(
                (found_loss - expected_loss).abs() < tolerance * expected_loss,
                "{precision:?}: {found_loss} against {expected_loss}"
            );
            assert_eq!(found.len(), expected.len());
            let of = |what: &str, a: Vec<f32>, b: Vec<f32>| assert_alike(what, precision, &a, &b);
            let (a, b) = (
                &ours.blocks[1].first.conv.weight,
                &net.blocks[1].first.conv.weight,
            );
            of(
                "a kernel",
                values(expected.get::<4>(a.id).unwrap()).unwrap(),
                values(found.get::<4>(b.id).unwrap()).unwrap(),
            );
            let (a, b) = (&ours.stem.norm.gamma, &net.stem.norm.gamma);
            of(
                "a scale",
                values(expected.get::<1>(a.id).unwrap()).unwrap(),
                values(found.get::<1>(b.id).unwrap()).unwrap(),
            );
            let (a, b) = (&ours.embed.weight, &net.embed.weight);
            of(
                "the embedding",
                values(expected.get::<2>(a.id).unwrap()).unwrap(),
                values(found.get::<2>(b.id).unwrap()).unwrap(),
            );
            let mean = |net: &Encoder| {
                values(net.valid().blocks[2].second.norm.running_mean.value()).unwrap()
            };
            of("a running mean", mean(&ours), mean(&net));
        }
    }
}
