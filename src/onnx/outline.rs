//! The declared interface of an ONNX file: operator set, inputs, and their axes.

use prost::Message;

use super::proto::*;
use super::{FLOAT, INT64};

/// The declared interface of an ONNX graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Version of ONNX's default operator set; `None` if the file names none.
    pub opset: Option<i64>,
    /// The inputs that a caller supplies: declared inputs without a value in the file.
    pub inputs: Vec<OutlinedInput>,
}

/// One input of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlinedInput {
    /// Name of the input.
    pub name: String,
    /// Type of the input's elements.
    pub values: Values,
    /// Length of each axis in elements; `None` for an axis of variable length.
    pub axes: Vec<Option<i64>>,
}

/// Element type of a graph's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    F32,
    I64,
    /// Any type other than 32-bit floats and 64-bit integers.
    Other,
}

impl Outline {
    /// Reads the interface of an ONNX file.
    ///
    /// # Errors
    /// The bytes are not an ONNX file.
    pub fn read(bytes: &[u8]) -> Result<Outline, prost::DecodeError> {
        let model = ModelProto::decode(bytes)?;
        let graph = model.graph.unwrap_or_default();
        let opset = model
            .opset_import
            .iter()
            .find(|set| matches!(&*set.domain, "" | "ai.onnx"))
            .map(|set| set.version);
        let fed = graph.input.iter().filter(|input| {
            graph
                .initializer
                .iter()
                .all(|constant| constant.name != input.name)
        });
        Ok(Outline {
            opset,
            inputs: fed.map(outlined).collect(),
        })
    }
}

/// Reads one declared input. An axis whose declared length is not positive counts as variable.
fn outlined(input: &ValueInfoProto) -> OutlinedInput {
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let values = match tensor.map(|t| t.elem_type) {
        Some(FLOAT) => Values::F32,
        Some(INT64) => Values::I64,
        _ => Values::Other,
    };
    let length = |axis: &Dimension| match axis.value {
        Some(DimensionValue::Length(length)) if length > 0 => Some(length),
        _ => None,
    };
    let axes = tensor
        .and_then(|t| t.shape.as_ref())
        .map_or_else(Vec::new, |shape| shape.dim.iter().map(length).collect());
    OutlinedInput {
        name: input.name.clone(),
        values,
        axes,
    }
}
