//! Mapping of the authors' parameters to our modules.

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

pub enum Place<'a> {
    /// `[out, in]` there, `[in, out]` here.
    Matrix(&'a mut Param<Tensor<2>>),
    Vector(&'a mut Param<Tensor<1>>),
    Kernel(&'a mut Param<Tensor<4>>),
    Running(&'a mut RunningState<Tensor<1>>),
}

impl Place<'_> {
    fn load(&mut self, array: &Array, device: &Device) {
        match self {
            Place::Matrix(param) => {
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
            Place::Vector(param) => **param = Param::from_tensor(array.tensor(device)),
            Place::Kernel(param) => **param = Param::from_tensor(array.tensor(device)),
            Place::Running(state) => **state = RunningState::new(array.tensor(device)),
        }
    }

    /// Values in the authors' layout.
    fn values(&self) -> Vec<f32> {
        match self {
            Place::Matrix(param) => values(param.val().transpose()).unwrap(),
            Place::Vector(param) => values(param.val()).unwrap(),
            Place::Kernel(param) => values(param.val()).unwrap(),
            Place::Running(state) => values(state.value_sync()).unwrap(),
        }
    }

    /// Gradient in the authors' layout; `None` if the loss does not depend on the parameter.
    fn gradient(&self, gradients: &Gradients) -> Option<Vec<f32>> {
        match self {
            Place::Matrix(param) => param
                .val()
                .grad(gradients)
                .map(|g| values(g.transpose()).unwrap()),
            Place::Vector(param) => param.val().grad(gradients).map(|g| values(g).unwrap()),
            Place::Kernel(param) => param.val().grad(gradients).map(|g| values(g).unwrap()),
            Place::Running(_) => None,
        }
    }
}

/// A module's parameters under the authors' names.
#[derive(Default)]
pub struct Places<'a>(Vec<(String, Place<'a>)>);

impl<'a> Places<'a> {
    pub fn linear(&mut self, name: &str, linear: &'a mut Linear) {
        self.0
            .push((format!("{name}.weight"), Place::Matrix(&mut linear.weight)));
        if let Some(bias) = &mut linear.bias {
            self.0.push((format!("{name}.bias"), Place::Vector(bias)));
        }
    }

    pub fn convolution(&mut self, name: &str, convolution: &'a mut Conv2d) {
        self.0.push((
            format!("{name}.weight"),
            Place::Kernel(&mut convolution.weight),
        ));
    }

    pub fn norm(&mut self, name: &str, norm: &'a mut BatchNorm) {
        self.0
            .push((format!("{name}.weight"), Place::Vector(&mut norm.gamma)));
        self.0
            .push((format!("{name}.bias"), Place::Vector(&mut norm.beta)));
        self.0.push((
            format!("{name}.running_mean"),
            Place::Running(&mut norm.running_mean),
        ));
        self.0.push((
            format!("{name}.running_var"),
            Place::Running(&mut norm.running_var),
        ));
    }

    pub fn gated(&mut self, prefix: &str, unit: &'a mut GatedEmbeddingUnit) {
        self.linear(&format!("{prefix}fc1"), &mut unit.hidden);
        self.linear(&format!("{prefix}context_gating.fc"), &mut unit.gate);
        self.linear(&format!("{prefix}fc2"), &mut unit.output);
    }

    /// The voice's head is a sequence of two.
    pub fn representation(&mut self, prefix: &str, head: &'a mut RepresentationHead) {
        match &mut head.widen {
            Some(widen) => {
                self.gated(&format!("{prefix}0."), &mut head.gated);
                self.linear(&format!("{prefix}1"), widen);
            }
            None => self.gated(prefix, &mut head.gated),
        }
    }

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

    fn find(&mut self, name: &str) -> &mut Place<'a> {
        let found = self.0.iter_mut().find(|(known, _)| known == name);
        &mut found.unwrap_or_else(|| panic!("{name} has no place")).1
    }

    /// Every parameter of a case to its place.
    pub fn load(&mut self, params: &Value, device: &Device) {
        // A counter, the objectives' weights, and a layer that the authors never call.
        let aside = |name: &str| {
            name.ends_with("num_batches_tracked")
                || name.ends_with("loss_weights")
                || name.starts_with("batchnorm1.")
        };
        for (name, value) in params
            .as_object()
            .expect("parameters")
            .iter()
            .filter(|(name, _)| !aside(name))
        {
            self.find(name).load(&array(value), device);
        }
    }

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

    /// Compares the parameters after one step of AdamW with `expected`; `gradients` are in double
    /// precision.
    ///
    /// The first step is the rate times a gradient's sign wherever that is far above the epsilon of
    /// 1e-8. Elsewhere the rounding of our gradient decides, and only the step's bound can be
    /// checked.
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
