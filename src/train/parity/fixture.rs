//! Reads the fixtures with the authors' values, and compares computed values with them.

use burn::tensor::{Device, Tensor};
use serde_json::Value;

use crate::modality::Modality;
use crate::train::fit::tests::GENERATOR;
use crate::train::fit::{tensor, values};
use crate::train::heads::ModalityShape;

/// The authors' names of the modalities, in the order of their batches and of ours.
pub const MODALITIES: [(&str, Modality); 3] = [
    ("frames_2d_3d", Modality::Face),
    ("audio_spectrograms", Modality::Voice),
    ("texts", Modality::Text),
];

/// The authors' names of the modalities that `object` has as keys, in the order of [`MODALITIES`].
/// Panics if it has another key.
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

/// The shape of the modality that the authors call `name`, with embeddings of `dim` values.
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

/// An array of a fixture, row-major.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// Reads an array: an object with `shape` and `data`, a list, or a single number (no axes).
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
    /// The values in single precision.
    pub fn singles(&self) -> Vec<f32> {
        self.data.iter().map(|v| *v as f32).collect()
    }
    /// The values as indices.
    pub fn indices(&self) -> Vec<usize> {
        self.data.iter().map(|v| *v as usize).collect()
    }
    /// The array as a tensor with `D` axes.
    pub fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        tensor(
            self.singles(),
            self.shape.clone().try_into().expect("as many axes"),
            device,
        )
    }
    /// The array as a tensor for which gradients are computed.
    pub fn leaf<const D: usize>(&self, device: &Device) -> Tensor<D> {
        self.tensor(device).require_grad()
    }
}

/// Reads a list of arrays.
pub fn arrays(value: &Value) -> Vec<Array> {
    value
        .as_array()
        .expect("a list of arrays")
        .iter()
        .map(array)
        .collect()
}

/// Reads a number.
pub fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Reads a number that is a count.
pub fn count(value: &Value) -> usize {
    number(value) as usize
}

/// Reads a list of strings.
pub fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .expect("a list of names")
        .iter()
        .map(|v| v.as_str().expect("a name").to_owned())
        .collect()
}

/// The authors' results of a case, in double precision if it has them, else in single precision.
pub fn reference(case: &Value) -> &Value {
    case.get("f64")
        .or_else(|| case.get("f32"))
        .expect("results")
}

/// The value of a loss.
pub fn scalar(loss: Tensor<1>) -> f64 {
    f64::from(values(loss).unwrap()[0])
}

/// Compares the values of one fixture with the authors', and keeps the largest deviation.
#[derive(Default)]
pub struct Comparison {
    /// Name of the current case.
    case: String,
    /// Number of comparisons.
    count: usize,
    /// Largest deviation relative to the largest expected value, and where it is.
    worst: (f64, String),
}

impl Comparison {
    /// Checks that each deviation is at most `absolute` or `relative` times the largest expected
    /// value.
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
    /// Compares a loss, with a relative tolerance of 1e-5.
    pub fn loss(&mut self, what: &str, found: Tensor<1>, expected: &Value) {
        self.within(
            what,
            &values(found).unwrap(),
            &[number(expected)],
            1e-5,
            1e-6,
        );
    }
    /// Compares shape and values of a tensor, with a relative tolerance of 1e-5.
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
    /// Compares a gradient, with a relative tolerance of 1e-4.
    pub fn gradient(&mut self, what: &str, found: &[f32], expected: &Value) {
        self.within(what, found, &array(expected).data, 1e-4, 1e-6);
    }
    /// Checks that both values are equal.
    pub fn exact<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        assert_eq!(found, expected, "{} {what}", self.case);
        self.count += 1;
    }
}

/// Calls `check` for every case of the fixture `file`, and prints the largest deviation. Panics if
/// a case compares nothing.
pub fn each_case(file: &str, mut check: impl FnMut(&Value, &mut Comparison)) {
    let golden = crate::testing::golden(file);
    // Creating a network draws random weights, so tests must not run at the same time.
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
