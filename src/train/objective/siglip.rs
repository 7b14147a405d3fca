//! Sigmoid alignment of modalities: the loss of SigLIP (Zhai et al. 2023, arXiv 2303.15343;
//! `src/train/method.md` c.8). Each pair of clips is a binary decision of its own, so the loss
//! needs no softmax over the batch.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::pretext::{LossInputs, paired_clips, sum};
use crate::train::heads::unit_rows;

/// Sigmoid loss of cosine similarities `S`, `[clips, clips]`; the matching pairs are on the
/// diagonal. `log_scale` and `bias`: one learned value each.
///
/// `-1/n Σ_bc ln σ(z_bc (exp(log_scale) S_bc + bias))` for `n` clips, with `z` = 1 on the diagonal
/// and -1 elsewhere.
pub fn siglip_loss(similarity: Tensor<2>, log_scale: Tensor<1>, bias: Tensor<1>) -> Tensor<1> {
    let [clips, _] = similarity.dims();
    let device = similarity.device();
    let signs = Tensor::<2>::eye(clips, &device)
        .mul_scalar(2.0)
        .sub_scalar(1.0);
    let logits = similarity * log_scale.exp().reshape([1, 1]) + bias.reshape([1, 1]);
    log_sigmoid(logits * signs)
        .sum()
        .div_scalar(-(clips as f64))
}

/// The sum over pairs of modalities of [`siglip_loss`] over the clips that have both modalities of
/// the pair. `None` if no pair has two such clips.
///
/// # Panics
/// The model was built without the learned scale and bias.
pub(super) fn loss(inputs: &LossInputs<'_>) -> Option<Tensor<1>> {
    let alignment = inputs.pretext.alignment.as_ref();
    let alignment = alignment.expect("built with an alignment");
    let unit: Vec<Tensor<2>> = (inputs.outputs.projections.iter())
        .map(|p| unit_rows(p.clone()))
        .collect();
    sum(paired_clips(&unit, inputs).map(|(a, b)| {
        let (log_scale, bias) = (alignment.log_scale.val(), alignment.bias.val());
        siglip_loss(a.matmul(b.transpose()), log_scale, bias)
    }))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::train::fit::{tensor, values};

    /// The loss and its gradients by similarity, log scale and bias.
    fn with_gradients(similarity: &[f32], log_scale: f32, bias: f32) -> (f32, Vec<f32>) {
        let device = Device::flex().autodiff();
        let side = similarity.len().isqrt();
        let s = tensor(similarity.to_vec(), [side, side], &device).require_grad();
        let [t, b] = [log_scale, bias].map(|v| tensor(vec![v], [1], &device).require_grad());
        let loss = siglip_loss(s.clone(), t.clone(), b.clone());
        let gradients = loss.backward();
        let mut all = values(s.grad(&gradients).unwrap()).unwrap();
        [t, b].iter().for_each(|leaf| {
            all.extend(values(leaf.grad(&gradients).unwrap()).unwrap());
        });
        (values(loss).unwrap()[0], all)
    }

    #[test]
    fn the_loss_and_its_gradients_equal_the_formulas() {
        // Scale 1 and bias 0 for the unit matrix: ln(1 + 1/e) for the matching pairs, ln 2 for the
        // others, one of each per clip.
        let (loss, gradients) = with_gradients(&[1.0, 0.0, 0.0, 1.0], 0.0, 0.0);
        assert!(
            (loss - (0.313_261_7 + std::f32::consts::LN_2)).abs() < 1e-6,
            "{loss}"
        );
        let expected = [
            -0.134_470_7,
            0.25,
            0.25,
            -0.134_470_7,
            -0.268_941_4,
            0.231_058_6,
        ];
        for (found, expected) in gradients.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{gradients:?}");
        }
        // SigLIP's initial scale 10 and bias -10. The constants at the end are computed outside of
        // this program, in double precision.
        let similarity = [0.9, 0.1, -0.2, 0.3, 0.8, 0.1, 0.2, 0.4, -0.7];
        let (loss, gradients) = with_gradients(&similarity, 10f32.ln(), -10.0);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (place, s) in similarity.iter().enumerate() {
            let z = if place % 4 == 0 { 1.0 } else { -1.0 };
            let logit = 10.0 * f64::from(*s) - 10.0;
            let expected = 10.0 * (sigmoid(z * logit) - 1.0) * z / 3.0;
            assert!((f64::from(gradients[place]) - expected).abs() < 1e-5);
        }
        assert!((loss - 6.814_722).abs() < 1e-5, "{loss}");
        assert!((gradients[9] + 2.204_125).abs() < 1e-5, "{gradients:?}");
        assert!((gradients[10] + 0.869_294_6).abs() < 1e-5, "{gradients:?}");
    }

    #[test]
    fn gradients_of_extreme_logits_are_finite() {
        for (log_scale, bias) in [(6.0, -300.0), (6.0, 300.0), (-20.0, 0.0)] {
            let (loss, gradients) = with_gradients(&[1.0, -1.0, 1.0, -1.0], log_scale, bias);
            assert!(loss.is_finite(), "{loss}");
            assert!(gradients.iter().all(|g| g.is_finite()), "{gradients:?}");
        }
    }
}
