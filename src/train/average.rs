//! Exponential moving average of a network's weights and running statistics (Polyak and Juditsky
//! 1992).

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

/// An exponential moving average of a network.
#[derive(Debug)]
pub struct Average<L> {
    /// The network with the averaged weights.
    pub net: L,
    /// Share of the average that one step keeps, 0..1.
    decay: f64,
}

impl<L: Module> Average<L> {
    /// An average that starts with the weights of `net`, which must not track gradients
    /// ([`Module::valid`]). `decay`: the share of the average that one step keeps, 0..1.
    pub fn new(net: L, decay: f64) -> Average<L> {
        Average { net, decay }
    }

    /// Moves the average towards the weights of `learner`, once per optimiser step. `steps`: number
    /// of steps so far. The decay is lower during the first steps, so that the initial weights are
    /// forgotten.
    pub fn update(&mut self, learner: &L, steps: usize) {
        let decay = self.decay.min((1.0 + steps as f64) / (10.0 + steps as f64));
        let mut seen = FlatParams(HashMap::new());
        learner.valid().visit(&mut seen);
        self.net = self.net.clone().map(&mut MoveTowards(seen, 1.0 - decay));
    }
}

/// The parameters of a network by id, each flattened to one axis.
struct FlatParams(HashMap<ParamId, Tensor<1>>);

impl ModuleVisitor for FlatParams {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let count: usize = tensor.dims().iter().product();
        self.0.insert(param.id, tensor.reshape([count]));
    }
}

/// Moves each parameter of a network by a share, 0..1, towards the parameter with the same id in
/// another network.
struct MoveTowards(FlatParams, f64);

impl ModuleMapper for MoveTowards {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(new) = self.0.0.remove(&param.id) else {
            return param;
        };
        let share = self.1;
        param.map(|old| {
            let new = new.reshape(old.dims());
            old.clone() + (new - old).mul_scalar(share)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::golden_samples;
    use crate::train::device::burn_cpu;
    use crate::train::fit::{tensor, values};
    use crate::train::net::tests::tiny;

    #[test]
    fn an_update_moves_the_average_by_one_minus_the_decay_and_keeps_the_learner() {
        let _turn = crate::train::fit::tests::GENERATOR.lock();
        let net = tiny(&burn_cpu());
        let learner = net.clone().with_prior(&[1.0, 0.0, -2.0], &burn_cpu());
        let logits = |net: &crate::train::net::Encoder| {
            let pixels = tensor(golden_samples(1, 2 * 256), [2, 1, 16, 16], &burn_cpu());
            values(net.forward(pixels).1).unwrap()
        };
        let (begun, aimed_at) = (logits(&net), logits(&learner));
        let mut average = Average::new(net.valid(), 0.9);
        assert_eq!(logits(&average.net), begun);
        let gone = |average: &Average<_>| -> Vec<f32> {
            let now = logits(&average.net);
            now.iter()
                .zip(&begun)
                .map(|(now, begun)| now - begun)
                .collect()
        };
        // The decay is 2/11 at the first step and 0.9 later.
        average.update(&learner, 1);
        for (gone, whole) in gone(&average).iter().zip([1.0, 0.0, -2.0].iter().cycle()) {
            assert!(
                (gone - whole * 9.0 / 11.0).abs() < 1e-5,
                "{gone} of {whole}"
            );
        }
        let mut average = Average::new(net.valid(), 0.9);
        average.update(&learner, 1_000_000);
        for (gone, whole) in gone(&average).iter().zip([1.0, 0.0, -2.0].iter().cycle()) {
            assert!((gone - whole * 0.1).abs() < 1e-5, "{gone} of {whole}");
        }
        assert_eq!(logits(&learner), aimed_at);
    }
}
