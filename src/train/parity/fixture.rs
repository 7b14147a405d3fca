//! Reading the authors' numbers, and comparing with them.

use burn::tensor::{Device, Tensor};
use serde_json::Value;

use crate::modality::Modality;
use crate::train::fit::tests::GENERATOR;
use crate::train::fit::{tensor, values};
use crate::train::heads::ModalityShape;

/// The authors' modalities in the order of their batches, which is ours.
pub const MODALITIES: [(&str, Modality); 3] = [
    ("frames_2d_3d", Modality::Face),
    ("audio_spectrograms", Modality::Voice),
    ("texts", Modality::Text),
];

/// The modalities of an object, in order.
pub fn modalities_of(object: &Value) -> Vec<&'static str> {
    let names: Vec<_> = MODALITIES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| object.get(name).is_some())
        .collect();
    assert_eq!(
        names.len(),
        object.as_object().expect("by modality").len(),
        "a modality that is not ours"
    );
    names
}

pub fn modality_shape(name: &str, dim: usize) -> ModalityShape {
    let (_, modality) = MODALITIES
        .iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("{name} is not a modality"));
    ModalityShape {
        modality: *modality,
        dim,
    }
}

/// A fixture's array, row after row.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

pub fn array(value: &Value) -> Array {
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{v} is not a number"));
    let list = |v: &Value| {
        v.as_array()
            .expect("a list")
            .iter()
            .map(number)
            .collect::<Vec<_>>()
    };
    match value {
        Value::Object(_) => {
            let shape: Vec<usize> = list(&value["shape"]).iter().map(|n| *n as usize).collect();
            let data = list(&value["data"]);
            assert_eq!(data.len(), shape.iter().product::<usize>());
            Array { shape, data }
        }
        Value::Array(_) => {
            let data = list(value);
            Array {
                shape: vec![data.len()],
                data,
            }
        }
        other => Array {
            shape: vec![],
            data: vec![number(other)],
        },
    }
}

impl Array {
    pub fn singles(&self) -> Vec<f32> {
        self.data.iter().map(|v| *v as f32).collect()
    }
    pub fn indices(&self) -> Vec<usize> {
        self.data.iter().map(|v| *v as usize).collect()
    }
    pub fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        tensor(
            self.singles(),
            self.shape.clone().try_into().expect("as many axes"),
            device,
        )
    }
    /// A leaf tensor with a gradient.
    pub fn leaf<const D: usize>(&self, device: &Device) -> Tensor<D> {
        self.tensor(device).require_grad()
    }
}

pub fn arrays(value: &Value) -> Vec<Array> {
    value
        .as_array()
        .expect("a list of arrays")
        .iter()
        .map(array)
        .collect()
}

pub fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

pub fn count(value: &Value) -> usize {
    number(value) as usize
}

pub fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .expect("a list of names")
        .iter()
        .map(|v| v.as_str().expect("a name").to_owned())
        .collect()
}

/// The authors' outputs, in the highest precision that the case has.
pub fn reference(case: &Value) -> &Value {
    case.get("f64")
        .or_else(|| case.get("f32"))
        .expect("results")
}

pub fn scalar(loss: Tensor<1>) -> f64 {
    f64::from(values(loss).unwrap()[0])
}

/// The largest deviations over a fixture, as a share of the tolerance.
#[derive(Default)]
pub struct Comparison {
    case: String,
    count: usize,
    worst: (f64, String),
}

impl Comparison {
    /// Each value within `relative` of the largest expected one, or within `absolute`.
    pub fn within(
        &mut self,
        what: &str,
        found: &[f32],
        expected: &[f64],
        relative: f64,
        absolute: f64,
    ) {
        assert_eq!(found.len(), expected.len(), "{} {what}: lengths", self.case);
        let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let allowed = (relative * largest).max(absolute);
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let deviation = (f64::from(*f) - e).abs();
            assert!(
                deviation <= allowed,
                "{} {what}[{i}]: {f} is not {e} (largest {largest:e}, allowed {allowed:e})",
                self.case
            );
            if deviation > self.worst.0 * largest {
                self.worst = (deviation / largest, format!("{} {what}", self.case));
            }
        }
        self.count += 1;
    }
    pub fn loss(&mut self, what: &str, found: Tensor<1>, expected: &Value) {
        self.within(
            what,
            &values(found).unwrap(),
            &[number(expected)],
            1e-5,
            1e-6,
        );
    }
    pub fn values<const D: usize>(&mut self, what: &str, found: Tensor<D>, expected: &Value) {
        let expected = array(expected);
        assert_eq!(
            found.dims().to_vec(),
            expected.shape,
            "{} {what}: shape",
            self.case
        );
        self.within(what, &values(found).unwrap(), &expected.data, 1e-5, 1e-6);
    }
    pub fn gradient(&mut self, what: &str, found: &[f32], expected: &Value) {
        self.within(what, found, &array(expected).data, 1e-4, 1e-6);
    }
    pub fn exact<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        assert_eq!(found, expected, "{} {what}", self.case);
        self.count += 1;
    }
}

/// Compares every case of a fixture; fails where a case compares nothing.
pub fn each_case(file: &str, mut check: impl FnMut(&Value, &mut Comparison)) {
    let golden = crate::testing::golden(file);
    // Networks draw random weights even if these are then replaced.
    let _turn = GENERATOR.lock();
    let cases = golden["cases"].as_array().expect("cases");
    assert!(!cases.is_empty(), "{file} has no cases");
    let mut comparison = Comparison::default();
    for case in cases {
        comparison.case = case["case"].to_string();
        let before = comparison.count;
        check(case, &mut comparison);
        assert!(
            comparison.count > before,
            "{} compared nothing",
            comparison.case
        );
    }
    let Comparison {
        count,
        worst: (deviation, place),
        ..
    } = comparison;
    println!(
        "{file}: {} cases, {count} comparisons, largest deviation {deviation:.1e} of the largest \
         value ({place})",
        cases.len()
    );
}
