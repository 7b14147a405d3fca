//! Weights of the modalities relative to each other, fitted to rows with several of them.

use crate::modality::Presence;
use crate::train::calibrate::LabelledLogits;

/// Candidate multiples of the face's and of the voice's factor.
const FACE_MULTIPLES: [f32; 4] = [0.35, 0.5, 0.7, 1.0];
const VOICE_MULTIPLES: [f32; 3] = [1.0, 1.4, 2.0];

/// Multiplies the factors of face and voice (the first two of `factors`, in the order of
/// [`crate::modality::Modality::ALL`]) by the candidates with the least mean loss over the subsets
/// of several modalities. `predict` predicts a subset's held-out rows with given factors; each
/// subset is scored at its own temperature.
///
/// A factor that is fitted to one modality alone calibrates its confidence for its own data:
/// photographs for the face, actors for the voice. In recordings of one person other weights may be
/// better for the two. A common multiple of all factors changes nothing, so words keep theirs.
///
/// # Errors
/// Those of `predict`.
pub(super) fn relative(
    factors: &[f32],
    mut predict: impl FnMut(&[f32], &Presence) -> anyhow::Result<LabelledLogits>,
) -> anyhow::Result<Vec<f32>> {
    let several: Vec<Presence> = Presence::subsets()
        .filter(|subset| {
            [subset.face, subset.voice, subset.text]
                .iter()
                .filter(|present| **present)
                .count()
                > 1
        })
        .collect();
    let mut best: Option<(f64, Vec<f32>)> = None;
    for face in FACE_MULTIPLES {
        for voice in VOICE_MULTIPLES {
            let mut candidate = factors.to_vec();
            candidate[0] *= face;
            candidate[1] *= voice;
            let mut loss = 0.0;
            for subset in &several {
                let predictions = predict(&candidate, subset)?;
                loss += predictions.loss(predictions.temperature());
            }
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, candidate));
            }
        }
    }
    let (loss, chosen) = best.expect("there are candidates");
    println!(
        "head: evidence factors {factors:?}, refitted to several modalities {chosen:?}: mean loss \
         {:.4}",
        loss / several.len() as f64
    );
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two labels; the face favours the first label, the voice the second one, a little less
    /// strongly.
    fn rows(factors: &[f32], subset: &Presence, truth: usize) -> LabelledLogits {
        let (face, voice) = (
            1.5 * f32::from(subset.face) * factors[0],
            f32::from(subset.voice) * factors[1],
        );
        let logits = [[face, voice]; 4].concat();
        LabelledLogits::new(2, logits, vec![truth; 4])
    }

    #[test]
    fn the_modality_that_is_right_gains_weight() {
        let factors = [1.0, 1.0, 1.0];
        let voice_is_right = relative(&factors, |factors, subset| Ok(rows(factors, subset, 1)));
        assert_eq!(voice_is_right.unwrap(), [0.35, 2.0, 1.0]);
        let face_is_right = relative(&factors, |factors, subset| Ok(rows(factors, subset, 0)));
        assert_eq!(face_is_right.unwrap(), [1.0, 1.0, 1.0]);
    }
}
