//! Tests of training on several devices: one device is used as if it were several.

use burn::module::Module;
use burn::optim::ModuleOptimizer;

use super::objectives::{SIGLIP, VICREG, recipe_of};
use super::{recipe, small};
use crate::train::device::device;
use crate::train::fit::tests::GENERATOR;
use crate::train::fit::values;
use crate::train::objective::{FeatureBatch, PretextModel, Queue};
use crate::train::pretrain::{PretrainRecipe, train_step};

/// Collects the values of all weights of a network.
struct Weights(Vec<f32>);

impl burn::module::ModuleVisitor for Weights {
    fn visit_float<const D: usize>(
        &mut self,
        param: &burn::module::Param<burn::tensor::Tensor<D>>,
    ) {
        self.0.extend(values(param.val()).unwrap());
    }
}

/// The values of all weights of `net`, one weight after another.
pub(super) fn weights(net: &PretextModel) -> Vec<f32> {
    let mut weights = Weights(Vec::new());
    net.visit(&mut weights);
    weights.0
}

/// The gradient of each weight, and the total loss, with `replicas` devices. They are found by one
/// step of gradient descent at rate 1, which changes each weight by its gradient.
fn gradients(
    recipe: &PretrainRecipe,
    net: &PretextModel,
    batch: &FeatureBatch,
    replicas: usize,
) -> (Vec<f32>, f64) {
    let devices = vec![device().autodiff(); replicas];
    let learner = net.clone().to_device(&devices[0]).train();
    let before = weights(&learner);
    let mut optimizer: ModuleOptimizer = burn::optim::SgdConfig::new().init();
    let mut queue = Queue::new(2, batch.count, 6, None);
    let (after, losses) = train_step(
        recipe,
        learner,
        &mut optimizer,
        batch,
        1,
        0,
        Some(&mut queue),
        1.0,
        &devices,
    )
    .unwrap();
    (
        before
            .iter()
            .zip(weights(&after))
            .map(|(b, a)| b - a)
            .collect(),
        losses.last().unwrap().1,
    )
}

#[test]
fn several_devices_compute_the_gradients_and_loss_of_one_device() {
    let _turn = GENERATOR.lock();
    for objectives in [recipe(1).objectives, vec![SIGLIP], vec![VICREG]] {
        compare_devices(&recipe_of(objectives, 1));
    }
}

/// Compares gradients and loss of two and three devices with those of one.
fn compare_devices(recipe: &PretrainRecipe) {
    let features = small();
    device().seed(3);
    let net = PretextModel::new(&recipe.heads(&features), &recipe.pretext(), &device());
    let whole = features.batch(&(0..31).collect::<Vec<_>>()).unwrap();
    // Some clips lack a face or a voice, and the first third has no text, so that parts of the
    // batch have other modalities than the whole batch.
    let gaps = FeatureBatch {
        count: 31,
        modalities: whole
            .modalities
            .iter()
            .enumerate()
            .map(|(m, (rows, values))| {
                let width = values.len() / rows.len();
                let keep: Vec<usize> = rows
                    .iter()
                    .copied()
                    .filter(|r| if m == 2 { *r >= 11 } else { r % 5 != m })
                    .collect();
                let kept = keep
                    .iter()
                    .flat_map(|r| &values[r * width..(r + 1) * width])
                    .copied()
                    .collect();
                (keep, kept)
            })
            .collect(),
    };
    for batch in [whole, gaps] {
        let (expected, loss) = gradients(recipe, &net, &batch, 1);
        let size = expected.iter().map(|g| g.abs()).fold(0.0, f32::max);
        assert!(
            expected.iter().filter(|g| g.abs() > 1e-3 * size).count() > 1000,
            "hardly any gradient"
        );
        for replicas in [2, 3] {
            let (found, loss_found) = gradients(recipe, &net, &batch, replicas);
            let largest = found
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            // The results differ only by the order of sums and the rounding of the weights.
            assert!(
                largest < 1e-5 * size,
                "{replicas} replicas: {largest} of {size}"
            );
            assert!(
                (loss - loss_found).abs() < 1e-6 * loss.abs(),
                "{loss} {loss_found}"
            );
        }
    }
}
