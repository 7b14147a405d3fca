//! Maps the authors' parameter names to the parameters of our modules.

use burn::module::{Param, RunningState};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::{Device, Gradients, Tensor};
use serde_json::Value;

use super::fixture::{Array, Comparison, array};
use crate::train::fit::values;
use crate::train::heads::{
    GatedEmbeddingUnit, PretextHeads, RepresentationHead, RepresentationHeads,
};

/// A parameter of one of our modules, to be compared with the authors'.
pub enum ParameterRef<'a> {
    /// The weights of a linear layer: `[out, in]` in the authors' modules, `[in, out]` in ours.
    Matrix(&'a mut Param<Tensor<2>>),
    /// A bias, or the scale or offset of a normalisation.
    Vector(&'a mut Param<Tensor<1>>),
    /// The weights of a convolution, `[out, in, rows, columns]`.
    Kernel(&'a mut Param<Tensor<4>>),
    /// The running mean or variance of a batch normalisation.
    Running(&'a mut RunningState<Tensor<1>>),
}

impl ParameterRef<'_> {
    /// Sets the parameter to the authors' values.
    fn load(&mut self, array: &Array, device: &Device) {
        match self {
            ParameterRef::Matrix(param) => {
                assert_eq!(array.shape.len(), 2);
                let (rows, columns, data) = (array.shape[0], array.shape[1], &array.data);
                let turned = (0..rows * columns)
                    .map(|i| data[(i % rows) * columns + i / rows])
                    .collect();
                **param = Param::from_tensor(
                    Array {
                        shape: vec![columns, rows],
                        data: turned,
                    }
                    .tensor(device),
                );
            }
            ParameterRef::Vector(param) => **param = Param::from_tensor(array.tensor(device)),
            ParameterRef::Kernel(param) => **param = Param::from_tensor(array.tensor(device)),
            ParameterRef::Running(state) => **state = RunningState::new(array.tensor(device)),
        }
    }

    /// The parameter's values in the authors' layout.
    fn values(&self) -> Vec<f32> {
        match self {
            ParameterRef::Matrix(param) => values(param.val().transpose()).unwrap(),
            ParameterRef::Vector(param) => values(param.val()).unwrap(),
            ParameterRef::Kernel(param) => values(param.val()).unwrap(),
            ParameterRef::Running(state) => values(state.value_sync()).unwrap(),
        }
    }

    /// The parameter's gradient in the authors' layout; `None` if the loss does not depend on it.
    fn gradient(&self, gradients: &Gradients) -> Option<Vec<f32>> {
        match self {
            ParameterRef::Matrix(param) => param
                .val()
                .grad(gradients)
                .map(|g| values(g.transpose()).unwrap()),
            ParameterRef::Vector(param) => param.val().grad(gradients).map(|g| values(g).unwrap()),
            ParameterRef::Kernel(param) => param.val().grad(gradients).map(|g| values(g).unwrap()),
            ParameterRef::Running(_) => None,
        }
    }
}

/// The parameters of a module of ours by the authors' names.
#[derive(Default)]
pub struct NamedParameters<'a>(Vec<(String, ParameterRef<'a>)>);

impl<'a> NamedParameters<'a> {
    /// Adds weight and bias of a linear layer that the authors call `name`.
    pub fn linear(&mut self, name: &str, linear: &'a mut Linear) {
        self.0.push((
            format!("{name}.weight"),
            ParameterRef::Matrix(&mut linear.weight),
        ));
        if let Some(bias) = &mut linear.bias {
            self.0
                .push((format!("{name}.bias"), ParameterRef::Vector(bias)));
        }
    }

    /// Adds the weights of a convolution without bias that the authors call `name`.
    pub fn convolution(&mut self, name: &str, convolution: &'a mut Conv2d) {
        self.0.push((
            format!("{name}.weight"),
            ParameterRef::Kernel(&mut convolution.weight),
        ));
    }

    /// Adds the parameters of a batch normalisation that the authors call `name`.
    pub fn norm(&mut self, name: &str, norm: &'a mut BatchNorm) {
        self.0.push((
            format!("{name}.weight"),
            ParameterRef::Vector(&mut norm.gamma),
        ));
        self.0
            .push((format!("{name}.bias"), ParameterRef::Vector(&mut norm.beta)));
        self.0.push((
            format!("{name}.running_mean"),
            ParameterRef::Running(&mut norm.running_mean),
        ));
        self.0.push((
            format!("{name}.running_var"),
            ParameterRef::Running(&mut norm.running_var),
        ));
    }

    /// Adds the parameters of a gated embedding unit; `prefix` is the start of the authors' names.
    pub fn gated(&mut self, prefix: &str, unit: &'a mut GatedEmbeddingUnit) {
        self.linear(&format!("{prefix}fc1"), &mut unit.hidden);
        self.linear(&format!("{prefix}context_gating.fc"), &mut unit.gate);
        self.linear(&format!("{prefix}fc2"), &mut unit.output);
    }

    /// Adds the parameters of a representation head. In the authors' code the voice's head is a
    /// sequence of a gated embedding unit (`0`) and a linear layer (`1`).
    pub fn representation(&mut self, prefix: &str, head: &'a mut RepresentationHead) {
        match &mut head.widen {
            Some(widen) => {
                self.gated(&format!("{prefix}0."), &mut head.gated);
                self.linear(&format!("{prefix}1"), widen);
            }
            None => self.gated(prefix, &mut head.gated),
        }
    }

    /// Adds the parameters of all representation heads. `modalities`: the authors' names, in the
    /// order of the heads.
    pub fn representations(
        &mut self,
        prefix: &str,
        modalities: &[&str],
        heads: &'a mut RepresentationHeads,
    ) {
        for (modality, head) in modalities.iter().zip(&mut heads.heads) {
            self.representation(&format!("{prefix}{modality}."), head);
        }
    }

    /// Adds the parameters of the pretext heads. `modalities`: the authors' names, in the order of
    /// the reconstruction heads.
    pub fn pretext(&mut self, prefix: &str, modalities: &[&str], heads: &'a mut PretextHeads) {
        self.linear(&format!("{prefix}projection_head.0"), &mut heads.narrow);
        self.norm(&format!("{prefix}projection_head.1"), &mut heads.norm);
        self.linear(&format!("{prefix}projection_head.3"), &mut heads.project);
        if let Some(cluster) = &mut heads.cluster {
            self.linear(&format!("{prefix}cluster_classification_head"), cluster);
        }
        for (modality, head) in modalities.iter().zip(&mut heads.reconstruct) {
            self.linear(
                &format!("{prefix}reconstruction_heads.{modality}.0"),
                &mut head.hidden,
            );
            self.linear(
                &format!("{prefix}reconstruction_heads.{modality}.2"),
                &mut head.output,
            );
        }
    }

    /// The parameter that the authors call `name`; panics if there is none.
    fn find(&mut self, name: &str) -> &mut ParameterRef<'a> {
        let found = self.0.iter_mut().find(|(known, _)| known == name);
        &mut found.unwrap_or_else(|| panic!("{name} has no place")).1
    }

    /// Sets all parameters to the values of a case.
    pub fn load(&mut self, params: &Value, device: &Device) {
        // Ignored are a counter, the weights of the objectives, and a layer that the authors never
        // call.
        let is_ignored = |name: &str| {
            name.ends_with("num_batches_tracked")
                || name.ends_with("loss_weights")
                || name.starts_with("batchnorm1.")
        };
        for (name, value) in params
            .as_object()
            .expect("parameters")
            .iter()
            .filter(|(name, _)| !is_ignored(name))
        {
            self.find(name).load(&array(value), device);
        }
    }

    /// Compares the gradients of all parameters. An absent gradient counts as zeros.
    pub fn compare_gradients(
        &mut self,
        expected: &Value,
        gradients: &Gradients,
        comparison: &mut Comparison,
    ) {
        for (name, expected) in expected.as_object().expect("gradients by name") {
            let found = self
                .find(name)
                .gradient(gradients)
                .unwrap_or_else(|| vec![0.0; array(expected).data.len()]);
            comparison.gradient(name, &found, expected);
        }
    }

    /// Compares the parameters after one step of AdamW with `expected`. `gradients`: the authors'
    /// gradients in double precision. `rate`: the learning rate.
    ///
    /// In the first step, a parameter moves by the rate times the sign of its gradient if the
    /// gradient is far above AdamW's epsilon of 1e-8. For smaller gradients the result depends on
    /// rounding, so only the bound of the step is checked.
    pub fn compare_stepped(
        &mut self,
        expected: &Value,
        gradients: &Value,
        rate: f64,
        comparison: &mut Comparison,
    ) {
        for (name, expected) in expected.as_object().expect("parameters by name") {
            let (found, expected, gradient) = (
                self.find(name).values(),
                array(expected).data,
                array(&gradients[name]).data,
            );
            let (mut clear, mut bounded) = ((vec![], vec![]), (vec![], vec![]));
            for ((f, e), g) in found.iter().zip(&expected).zip(&gradient) {
                let side = if g.abs() < 1e-6 {
                    &mut bounded
                } else {
                    &mut clear
                };
                side.0.push(*f);
                side.1.push(*e);
            }
            comparison.within(name, &clear.0, &clear.1, 1e-5, 1e-6);
            assert!(
                bounded
                    .0
                    .iter()
                    .zip(&bounded.1)
                    .all(|(f, e)| (f64::from(*f) - e).abs() < 2.01 * rate),
                "{name}"
            );
        }
    }
}
