//! The optimiser AdamW (Loshchilov and Hutter 2019), with PyTorch's order of operations, in one
//! pass over each weight. Burn's own AdamW takes about fifteen passes and as many buffers. With a
//! hundred million weights and a batch of 256, that costs more than the matrix products. The single
//! pass is for tensors in main memory; on a GPU the device's own operations are used.

use burn::optim::{
    AdamWConfig, AdamWState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer,
};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::train::device::is_burn_cpu;

/// Number of values of one tensor that a thread processes at a time, so that they stay in its
/// cache.
const PIECE: usize = 1 << 14;

/// The optimiser AdamW, with betas 0.9 and 0.999 and epsilon 1e-8. Its state has the type of Burn's
/// AdamW, so either optimiser can resume from a checkpoint of the other.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Decoupled weight decay: each step multiplies the weights by `1 − learning rate ·
    /// weight_decay`.
    pub weight_decay: f32,
}

/// The betas of AdamW (PyTorch's defaults): decay of the first and second moments per step.
const BETAS: [f64; 2] = [0.9, 0.999];
/// The epsilon of AdamW (PyTorch's default): added to the denominator of each step.
const EPSILON: f32 = 1e-8;

/// Burn's own AdamW with the betas and epsilon of [`AdamW`]. Fine-tuning and encoder training use
/// it, because their networks are small. Its steps differ from [`AdamW`]'s by rounding.
pub fn burns(weight_decay: f32) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_epsilon(EPSILON)
        .with_weight_decay(weight_decay)
        .init()
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let (device, shape) = (tensor.device(), tensor.shape());
        let momentum = state.map_or_else(
            || {
                AdaptiveMomentumState::new(
                    0,
                    Tensor::zeros(shape.clone(), &device),
                    Tensor::zeros(shape.clone(), &device),
                )
            },
            |state| state.momentum,
        );
        if !is_burn_cpu() {
            return self.step_on_device(lr, tensor, grad, momentum);
        }
        let time = momentum.time + 1;
        let [correction_1, correction_2] = BETAS.map(|beta| 1.0 - beta.powi(time as i32));
        let (rate, root) = (
            (lr / correction_1) as f32,
            (1.0 / correction_2.sqrt()) as f32,
        );
        let keep = (1.0 - lr * f64::from(self.weight_decay)) as f32;
        let ([beta_1, beta_2], [new_1, new_2]) = (
            BETAS.map(|beta| beta as f32),
            BETAS.map(|beta| (1.0 - beta) as f32),
        );
        // Tensor data is modified in place if no other handle to it exists; otherwise it is copied.
        let (mut weights, mut first, mut second) = (
            tensor.into_data(),
            momentum.moment_1.into_data(),
            momentum.moment_2.into_data(),
        );
        let gradient = grad.into_data();
        let (of_weights, of_first, of_second) = (
            floats(&mut weights),
            floats(&mut first),
            floats(&mut second),
        );
        let of_gradient = gradient.as_slice::<f32>().expect("gradients are f32");
        let moments = of_first
            .par_chunks_mut(PIECE)
            .zip(of_second.par_chunks_mut(PIECE));
        let pieces = of_weights
            .par_chunks_mut(PIECE)
            .zip(moments)
            .zip(of_gradient.par_chunks(PIECE));
        pieces
            .into_par_iter()
            .for_each(|((weights, (first, second)), gradient)| {
                for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
                    *m = beta_1 * *m + new_1 * g;
                    *v = beta_2 * *v + new_2 * g * g;
                    *w = *w * keep - rate * *m / (v.sqrt() * root + EPSILON);
                }
            });
        let back = |data: TensorData| Tensor::from_data(data, &device);
        let momentum = AdaptiveMomentumState {
            time,
            moment_1: back(first),
            moment_2: back(second),
            max_moment_2: None,
        };
        (back(weights), Some(AdamWState { momentum }))
    }

    fn to_device<const D: usize>(mut state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}

impl AdamW {
    /// One AdamW step by the device's own tensor operations, for tensors outside of main memory.
    fn step_on_device<const D: usize>(
        &self,
        lr: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        momentum: AdaptiveMomentumState<D>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let time = momentum.time + 1;
        let [beta_1, beta_2] = BETAS;
        let [correction_1, correction_2] = BETAS.map(|beta| 1.0 - beta.powi(time as i32));
        let first =
            momentum.moment_1.mul_scalar(beta_1) + gradient.clone().mul_scalar(1.0 - beta_1);
        let second =
            momentum.moment_2.mul_scalar(beta_2) + gradient.square().mul_scalar(1.0 - beta_2);
        let root = second
            .clone()
            .sqrt()
            .mul_scalar(1.0 / correction_2.sqrt())
            .add_scalar(EPSILON);
        let weights = weights.mul_scalar(1.0 - lr * f64::from(self.weight_decay))
            - (first.clone() / root).mul_scalar(lr / correction_1);
        let momentum = AdaptiveMomentumState {
            time,
            moment_1: first,
            moment_2: second,
            max_moment_2: None,
        };
        (weights, Some(AdamWState { momentum }))
    }
}

/// The tensor data as a mutable slice.
fn floats(data: &mut TensorData) -> &mut [f32] {
    data.as_mut_slice::<f32>().expect("weights are f32")
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::LinearConfig;
    use burn::optim::GradientsParams;

    use super::*;
    use crate::train::fit::{device, tensor, tests::GENERATOR, values};

    /// Runs [`AdamW::step_on_device`] on every device, as [`AdamW`] does on a GPU.
    #[derive(Clone)]
    struct OnDevice(AdamW);

    impl Optimizer for OnDevice {
        type State<const D: usize> = AdamWState<D>;

        fn step<const D: usize>(
            &self,
            lr: LearningRate,
            tensor: Tensor<D>,
            grad: Tensor<D>,
            state: Option<AdamWState<D>>,
        ) -> (Tensor<D>, Option<AdamWState<D>>) {
            let zeros = || Tensor::zeros(tensor.shape(), &tensor.device());
            let momentum = state.map_or_else(
                || AdaptiveMomentumState::new(0, zeros(), zeros()),
                |state| state.momentum,
            );
            self.0.step_on_device(lr, tensor, grad, momentum)
        }

        fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
            AdamW::to_device(state, device)
        }
    }

    #[test]
    fn weights_after_20_steps_equal_those_of_burns_adamw() {
        let _turn = GENERATOR.lock();
        let training = device().autodiff();
        let net = LinearConfig::new(37, 29).init(&training);
        let mut nets = [net.clone(), net.clone(), net];
        let mut optimizers = [
            ModuleOptimizer::from(AdamW { weight_decay: 0.05 }),
            ModuleOptimizer::from(OnDevice(AdamW { weight_decay: 0.05 })),
            burns(0.05),
        ];
        for step in 0..20 {
            let x = tensor(
                (0..37 * 4)
                    .map(|i| ((i * 31 + step * 7) % 17) as f32 / 17.0 - 0.3)
                    .collect(),
                [4, 37],
                &training,
            );
            for (net, optimizer) in nets.iter_mut().zip(&mut optimizers) {
                let gradients = GradientsParams::from_grads(
                    net.forward(x.clone()).square().mean().backward(),
                    net,
                );
                *net = optimizer.step(1e-2, net.clone(), gradients);
            }
        }
        let [ours, on_device, burns] = nets.map(|net| values(net.valid().weight.val()).unwrap());
        for ours in [ours, on_device] {
            let largest = ours
                .iter()
                .zip(&burns)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(largest < 2e-6, "{largest}");
        }
    }
}
