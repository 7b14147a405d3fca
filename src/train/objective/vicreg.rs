//! VICReg (Bardes, Ponce and LeCun 2022, arXiv 2105.04906; `src/train/method.md` c.9): invariance,
//! variance and covariance of the projections of two modalities, without negatives.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use super::pretext::{LossInputs, paired_clips, sum};

/// The standard deviation that the variance term demands of each value.
const DEVIATION: f64 = 1.0;
/// Added to each variance before the square root.
const EPSILON: f64 = 1e-4;

/// The factors of the three terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VicregWeights {
    pub invariance: f64,
    pub variance: f64,
    pub covariance: f64,
}

/// VICReg loss of `a` and `b`, `[clips, dim]` each, of at least two clips. Row `i` of both is of
/// the same clip.
///
/// `λ s(a, b) + μ (v(a) + v(b)) + ν (c(a) + c(b))`. `s`: mean squared difference. `v`: mean over
/// values of `max(0, 1 - sqrt(variance + 1e-4))`. `c`: sum of the squared covariances of different
/// values, divided by `dim`. Variances and covariances are divided by `clips - 1`.
pub fn vicreg_loss(a: Tensor<2>, b: Tensor<2>, weights: VicregWeights) -> Tensor<1> {
    let invariance = (a.clone() - b.clone()).square().mean();
    let [(variance_a, covariance_a), (variance_b, covariance_b)] = [a, b].map(spread);
    invariance.mul_scalar(weights.invariance)
        + (variance_a + variance_b).mul_scalar(weights.variance)
        + (covariance_a + covariance_b).mul_scalar(weights.covariance)
}

/// The variance term and the covariance term of projections `[clips, dim]`.
fn spread(x: Tensor<2>) -> (Tensor<1>, Tensor<1>) {
    let [clips, dim] = x.dims();
    let centred = x.clone() - x.mean_dim(0);
    let variances = centred
        .clone()
        .square()
        .sum_dim(0)
        .div_scalar((clips - 1) as f64);
    let deviations = variances.add_scalar(EPSILON).sqrt();
    let variance = relu(deviations.neg().add_scalar(DEVIATION)).mean();
    let covariances = centred
        .clone()
        .transpose()
        .matmul(centred)
        .div_scalar((clips - 1) as f64);
    let different = Tensor::<2>::eye(dim, &covariances.device())
        .neg()
        .add_scalar(1.0);
    let covariance = (covariances * different)
        .square()
        .sum()
        .div_scalar(dim as f64);
    (variance, covariance)
}

/// The sum over pairs of modalities of [`vicreg_loss`] over the clips that have both modalities of
/// the pair. `None` if no pair has two such clips.
pub(super) fn loss(inputs: &LossInputs<'_>, weights: VicregWeights) -> Option<Tensor<1>> {
    sum(paired_clips(&inputs.outputs.projections, inputs)
        .filter(|(a, _)| a.dims()[0] > 1)
        .map(|(a, b)| vicreg_loss(a, b, weights)))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::train::fit::{tensor, values};

    const PAPER: VicregWeights = VicregWeights {
        invariance: 25.0,
        variance: 25.0,
        covariance: 1.0,
    };

    /// The loss of two lists of rows of `dim` values, and its gradients by both.
    fn with_gradients(a: &[f32], b: &[f32], dim: usize, weights: VicregWeights) -> (f64, Vec<f32>) {
        let device = Device::flex().autodiff();
        let leaves =
            [a, b].map(|x| tensor(x.to_vec(), [x.len() / dim, dim], &device).require_grad());
        let loss = vicreg_loss(leaves[0].clone(), leaves[1].clone(), weights);
        let gradients = loss.backward();
        let grad = |leaf: &Tensor<2>| values(leaf.grad(&gradients).unwrap()).unwrap();
        let all = leaves.iter().flat_map(grad).collect();
        (f64::from(values(loss).unwrap()[0]), all)
    }

    const A: [f32; 6] = [0.0, 1.0, 0.5, -1.0, 1.0, 0.0];
    const B: [f32; 6] = [0.0, 2.0, 1.0, 0.0, 0.5, -2.0];

    #[test]
    fn each_term_equals_its_value_by_hand() {
        // Differences 0, -1, -0.5, -1, 0.5, 2: squares 6.5 in sum. Variances 0.25 and 1 of `A`,
        // 0.25 and 4 of `B`. Covariances: A (-0.5)(1) + 0 + (0.5)(0) = -0.5, halved -0.25;
        // B (-0.5)(2) + 0 + 0 = -1, halved -0.5.
        let narrow = 1.0 - 0.2501f64.sqrt();
        for (weights, expected) in [
            ([1.0, 0.0, 0.0], 6.5 / 6.0),
            ([0.0, 1.0, 0.0], narrow),
            ([0.0, 0.0, 1.0], 0.25f64.powi(2) + 0.5f64.powi(2)),
            (
                [25.0, 25.0, 1.0],
                25.0 * (6.5 / 6.0 + narrow) + 0.0625 + 0.25,
            ),
        ] {
            let [invariance, variance, covariance] = weights;
            let weights = VicregWeights {
                invariance,
                variance,
                covariance,
            };
            let (loss, _) = with_gradients(&A, &B, 2, weights);
            assert!((loss - expected).abs() < 1e-5, "{weights:?}: {loss}");
        }
    }

    #[test]
    fn gradients_equal_differences_of_the_loss_and_are_finite_for_equal_rows() {
        // All deviations are far from 1, at which the variance term has a kink.
        let rows = [0.0, 0.6, 0.5, -0.7, 1.0, 0.1];
        let (_, gradients) = with_gradients(&rows, &B, 2, PAPER);
        for place in 0..6 {
            let at = |step: f32| {
                let mut moved = rows;
                moved[place] += step;
                with_gradients(&moved, &B, 2, PAPER).0
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            let found = f64::from(gradients[place]);
            assert!(
                (found - slope).abs() < 0.02 * slope.abs().max(1.0),
                "{found} {slope}"
            );
        }
        let (loss, gradients) = with_gradients(&[0.0; 8], &[0.0; 8], 4, PAPER);
        assert!((loss - 25.0 * 2.0 * 0.99).abs() < 1e-4, "{loss}");
        assert!(gradients.iter().all(|g| g.is_finite()), "{gradients:?}");
    }
}
