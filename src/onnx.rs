//! A small writer of ONNX files: builds a graph node by node and encodes it as the protobuf message
//! that ONNX Runtime reads.
//!
//! The same sequence of calls gives the same bytes.

pub mod bert;
pub mod outline;
pub mod prepare;
mod proto;
pub mod quantise;
pub mod sentence;

use prost::Message;

use proto::*;

/// Version of ONNX's file format (IR). Version 8 with operator set 17 is supported since ONNX
/// Runtime 1.12.
const IR_VERSION: i64 = 8;
/// Version of ONNX's default operator set that every written file declares.
const OPSET: i64 = 17;
/// Code of 32-bit floats in `TensorProto.DataType` of `onnx.proto`.
const FLOAT: i32 = 1;
/// Code of 64-bit integers in `TensorProto.DataType` of `onnx.proto`.
const INT64: i32 = 7;

/// Length of one axis of a graph's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis<'a> {
    /// A constant length.
    Fixed(i64),
    /// A variable length; axes with the same name have the same length.
    Named(&'a str),
}

/// Value of a node's attribute.
#[derive(Clone, Copy, Debug)]
pub enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
    Text(&'a str),
}

/// An ONNX graph under construction.
#[derive(Clone, Debug, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// An empty graph called `name`.
    pub fn new(name: &str) -> Self {
        GraphBuilder {
            graph: GraphProto {
                name: name.into(),
                ..Default::default()
            },
        }
    }

    /// Adds a graph input of 32-bit floats.
    pub fn input(&mut self, name: &str, shape: &[Axis<'_>]) {
        self.graph.input.push(value_info(name, FLOAT, shape));
    }

    /// Adds a graph input of 64-bit integers.
    pub fn input_i64(&mut self, name: &str, shape: &[Axis<'_>]) {
        self.graph.input.push(value_info(name, INT64, shape));
    }

    /// Declares the tensor `name` as a graph output of 32-bit floats.
    pub fn output(&mut self, name: &str, shape: &[Axis<'_>]) {
        self.graph.output.push(value_info(name, FLOAT, shape));
    }

    /// Adds a constant tensor of 32-bit floats, in row-major order, and returns its name.
    ///
    /// # Panics
    /// The number of `values` does not match `shape`.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        assert_eq!(
            shape.iter().product::<usize>(),
            values.len(),
            "{name} is {shape:?} and has {} values",
            values.len()
        );
        self.push_constant(
            name,
            shape,
            FLOAT,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// Adds a one-dimensional constant of 64-bit integers and returns its name. ONNX operators take
    /// shapes and axes in this type.
    pub fn constant_i64(&mut self, name: &str, values: &[i64]) -> String {
        self.push_constant(
            name,
            &[values.len()],
            INT64,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// Adds a constant tensor and returns its name. `data_type` is a code of
    /// `TensorProto.DataType`; `raw_data` is little-endian.
    fn push_constant(
        &mut self,
        name: &str,
        shape: &[usize],
        data_type: i32,
        raw_data: Vec<u8>,
    ) -> String {
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|d| *d as i64).collect(),
            data_type,
            name: name.into(),
            raw_data,
            ..Default::default()
        });
        name.into()
    }

    /// Adds a node that reads the tensors `inputs` and writes the tensor `output`; returns the name
    /// of `output`.
    pub fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, Attribute<'_>)],
    ) -> String {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|i| i.to_string()).collect(),
            output: vec![output.into()],
            name: output.into(),
            op_type: operator.into(),
            attribute: attributes
                .iter()
                .map(|(name, value)| attribute(name, *value))
                .collect(),
            domain: String::new(),
        });
        output.into()
    }

    /// Encodes the graph as the bytes of an ONNX file; `producer` becomes the file's
    /// `producer_name`.
    pub fn into_bytes(self, producer: &str) -> Vec<u8> {
        let opset_import = vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }];
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: producer.into(),
            graph: Some(self.graph),
            opset_import,
        }
        .encode_to_vec()
    }
}

/// Declares an input or output tensor; `elem_type` is a code of `TensorProto.DataType`.
fn value_info(name: &str, elem_type: i32, shape: &[Axis<'_>]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|axis| Dimension {
            value: Some(match axis {
                Axis::Fixed(length) => DimensionValue::Length(*length),
                Axis::Named(name) => DimensionValue::Name(name.to_string()),
            }),
        })
        .collect();
    let tensor_type = TensorType {
        elem_type,
        shape: Some(TensorShapeProto { dim }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(tensor_type),
        }),
    }
}

/// Encodes an attribute. Its `type` is a code of `AttributeProto.AttributeType` in `onnx.proto`.
fn attribute(name: &str, value: Attribute<'_>) -> AttributeProto {
    let mut made = AttributeProto {
        name: name.into(),
        ..Default::default()
    };
    match value {
        Attribute::Float(f) => (made.f, made.r#type) = (Some(f), 1),
        Attribute::Int(i) => (made.i, made.r#type) = (Some(i), 2),
        Attribute::Text(s) => (made.s, made.r#type) = (Some(s.as_bytes().to_vec()), 3),
        Attribute::Ints(ints) => (made.ints, made.r#type) = (ints.to_vec(), 7),
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Graph, Input, Provider, Runtime};

    /// A graph that doubles a `[batch, 2]` input and sums each row.
    fn doubled_row_sums() -> Vec<u8> {
        let mut graph = GraphBuilder::new("double");
        graph.input("x", &[Axis::Named("batch"), Axis::Fixed(2)]);
        let two = graph.constant("two", &[1], &[2.0]);
        graph.node("Mul", &["x", &two], "doubled", &[]);
        let axes = graph.constant_i64("axes", &[1]);
        graph.node(
            "ReduceSum",
            &["doubled", &axes],
            "y",
            &[("keepdims", Attribute::Int(0))],
        );
        graph.output("y", &[Axis::Named("batch")]);
        graph.into_bytes("test")
    }

    #[test]
    fn a_written_graph_runs_and_is_reproducible() {
        let bytes = doubled_row_sums();
        assert_eq!(bytes, doubled_row_sums());
        let mut graph = Graph::open(
            &Runtime::load().unwrap(),
            "double",
            &bytes,
            Provider::Cpu,
            1,
        )
        .unwrap();
        let outputs = graph
            .run(&[Input::F32(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])])
            .unwrap();
        assert_eq!(
            (outputs[0].shape.as_slice(), outputs[0].values.as_slice()),
            (&[3usize][..], &[6.0f32, 14.0, 22.0][..])
        );
    }
}
