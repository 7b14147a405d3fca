//! The devices, CPUs or GPUs, that this process trains on; they are chosen once at its start.

use std::str::FromStr;
use std::sync::OnceLock;

use burn::tensor::Device;

/// A training device and the library that computes on it. GPU indices count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// Burn's own code on all CPU cores.
    Cpu,
    /// LibTorch on all CPU cores (feature `train-torch`); its convolutions are faster than Burn's
    /// own.
    Torch,
    /// LibTorch on a GPU of NVIDIA's (feature `train-torch`, with a LibTorch that has CUDA).
    TorchCuda(usize),
    /// Any GPU with Vulkan (feature `train-vulkan`).
    Vulkan(usize),
    /// A GPU of NVIDIA's, by Burn's own kernels (feature `train-cuda`).
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "`{0}` is no device: cpu, torch, torch-cuda:N, vulkan:N or cuda:N (N counts from 0 and may \
         be left out)"
    )]
    /// The text names no device.
    Unknown(String),
    #[error(
        "this expressd-train is built without `{0}`: build with FEATURES={1} (see \
         src/train/guide.md)"
    )]
    /// The program lacks a backend: the name of the device, and the Cargo feature to build with.
    NotBuilt(&'static str, &'static str),
    #[error(
        "device {0} computes in 32 bits only: leave out --precision mixed, or take --device torch"
    )]
    /// The device with this name computes in 32 bits only.
    OnePrecision(String),
}

impl FromStr for Compute {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Compute, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_string());
        let (name, index) = text
            .split_once(':')
            .map_or((text, None), |(name, index)| (name, Some(index)));
        let number = index.map_or(Ok(0), |index| index.parse().map_err(|_| unknown()))?;
        match (name, index) {
            ("cpu", None) => Ok(Compute::Cpu),
            ("torch", None) => Ok(Compute::Torch),
            ("torch-cuda", _) => Ok(Compute::TorchCuda(number)),
            ("vulkan", _) => Ok(Compute::Vulkan(number)),
            ("cuda", _) => Ok(Compute::Cuda(number)),
            _ => Err(unknown()),
        }
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Compute::Cpu => write!(f, "cpu"),
            Compute::Torch => write!(f, "torch"),
            Compute::TorchCuda(index) => write!(f, "torch-cuda:{index}"),
            Compute::Vulkan(index) => write!(f, "vulkan:{index}"),
            Compute::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl Compute {
    /// Opens the device as a Burn device.
    ///
    /// # Errors
    /// This program is built without the device's backend.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Compute::Cpu => Ok(Device::flex()),
            Compute::Torch | Compute::TorchCuda(_) => self.torch(),
            Compute::Vulkan(index) => vulkan(index),
            Compute::Cuda(index) => cuda(index),
        }
    }

    // Burn marks its LibTorch device as deprecated, but has no convolutions of its own on the CPU
    // yet.
    #[cfg(feature = "train-torch")]
    #[allow(deprecated)]
    fn torch(self) -> Result<Device, DeviceError> {
        Ok(if let Compute::TorchCuda(index) = self {
            Device::libtorch_cuda(index)
        } else {
            Device::libtorch()
        })
    }

    #[cfg(not(feature = "train-torch"))]
    fn torch(self) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt("torch", "train-torch"))
    }
}

#[cfg(feature = "train-vulkan")]
fn vulkan(index: usize) -> Result<Device, DeviceError> {
    Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index)))
}

#[cfg(not(feature = "train-vulkan"))]
fn vulkan(_: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("vulkan", "train-vulkan"))
}

#[cfg(feature = "train-cuda")]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "train-cuda"))]
fn cuda(_: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("cuda", "train-cuda"))
}

/// Precision of convolutions during encoder training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// Convolutions in 32 bits.
    #[default]
    Full,
    /// Convolutions and the values between them in bfloat16; stored weights, statistics, pooling
    /// and later layers in 32 bits (`--device torch`). It is faster if the processor has
    /// AVX512-BF16 or AMX. Measured: 24 s instead of 36 s for 100 steps of the face encoder at 36
    /// px.
    Mixed,
}

/// The devices that [`choose`] set.
static CHOSEN: OnceLock<Vec<(Compute, Device)>> = OnceLock::new();
/// The precision that [`choose_precision`] set.
static PRECISION: OnceLock<Precision> = OnceLock::new();

/// Sets the precision of this process. Call it once, after [`choose`] and before any command runs;
/// later calls have no effect.
///
/// # Errors
/// The first device computes in 32 bits only.
pub fn choose_precision(precision: Precision) -> Result<(), DeviceError> {
    if precision == Precision::Mixed && chosen()[0].0 != Compute::Torch {
        return Err(DeviceError::OnePrecision(chosen()[0].0.to_string()));
    }
    let _ = PRECISION.set(precision);
    Ok(())
}

/// The precision of convolutions in this process; [`Precision::Full`] unless chosen.
pub fn precision() -> Precision {
    PRECISION.get().copied().unwrap_or_default()
}

/// Sets the devices of this process. Commands compute on the first one; commands that train on
/// several devices use the others as replicas. Call it once, before any command runs; later calls
/// have no effect.
///
/// # Errors
/// This program is built without the backend of a device.
pub fn choose(computes: &[Compute]) -> Result<(), DeviceError> {
    let devices = computes
        .iter()
        .map(|compute| Ok((*compute, compute.open()?)))
        .collect::<Result<Vec<_>, DeviceError>>()?;
    let _ = CHOSEN.set(devices);
    Ok(())
}

/// The chosen devices; by default Burn's own code on the CPU.
fn chosen() -> &'static [(Compute, Device)] {
    CHOSEN.get_or_init(|| vec![(Compute::Cpu, Device::flex())])
}

/// The first chosen device, which training uses; by default Burn's own code on the CPU.
pub fn device() -> Device {
    chosen()[0].1.clone()
}

/// All chosen devices; the first is [`device`].
pub fn devices() -> Vec<Device> {
    chosen().iter().map(|(_, device)| device.clone()).collect()
}

/// Device, precision and number of CPU cores as text for logs and cards, such as `` `torch` (mixed
/// precision, 2 cores) ``.
pub fn description() -> String {
    let precision = if precision() == Precision::Mixed {
        "mixed precision, "
    } else {
        ""
    };
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    format!("`{}` ({precision}{cores} cores)", chosen()[0].0)
}

/// Whether [`device`] is Burn's own CPU backend, whose tensors this crate can read without a copy.
pub fn is_burn_cpu() -> bool {
    chosen()[0].0 == Compute::Cpu
}

/// Whether [`device`] is LibTorch on the CPU.
pub fn is_torch() -> bool {
    chosen()[0].0 == Compute::Torch
}

/// Burn's own CPU device. Export uses it to trace graphs, and for the outputs that ONNX Runtime's
/// are compared with.
pub fn burn_cpu() -> Device {
    Device::flex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_parse_and_print_as_the_same_text() {
        for name in ["cpu", "torch", "torch-cuda:0", "vulkan:1", "cuda:3"] {
            assert_eq!(name.parse::<Compute>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(Compute::Cuda(0)));
        for name in [
            "",
            "gpu",
            "cpu:0",
            "torch:1",
            "cuda:",
            "cuda:x",
            "vulkan:-1",
        ] {
            assert_eq!(
                name.parse::<Compute>(),
                Err(DeviceError::Unknown(name.into()))
            );
        }
    }

    #[cfg(not(feature = "train-cuda"))]
    #[test]
    fn a_missing_backend_is_reported_with_the_remedy() {
        let error = Compute::Cuda(0).open().unwrap_err().to_string();
        assert!(error.contains("FEATURES=train-cuda"), "{error}");
    }

    /// Trains a small network on `device` for three steps. Returns its logits before, the losses,
    /// the logits after, and the logits of its weights when loaded from a file on Burn's CPU
    /// device.
    #[cfg(feature = "train-torch")]
    fn trained(file: &std::path::Path, device: &Device) -> anyhow::Result<[Vec<f32>; 4]> {
        use burn::module::Module;
        use burn::optim::{AdamWConfig, GradientsParams};

        use crate::model::golden::golden_samples;
        use crate::train::fit::{Learner, tensor, values};
        use crate::train::net::tests::tiny;
        use crate::train::samples::PlaneBatch;
        let load = |device: &Device| {
            tiny(device)
                .try_load_file(file)
                .map_err(|e| anyhow::anyhow!("{e:?}"))
        };
        let pixels = golden_samples(5, 6 * 16 * 16);
        let look = |net: &crate::train::net::Encoder, device: &Device| {
            values(
                net.forward(tensor(pixels.clone(), [6, 1, 16, 16], device))
                    .1,
            )
        };
        let net = load(device)?;
        let before = look(&net, device)?;
        let training = device.clone().autodiff();
        let mut learner = net.to_device(&training).train();
        let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).init();
        let batch = PlaneBatch {
            values: pixels.clone(),
            shape: [6, 1, 16, 16],
            targets: (0..18).map(|i| f32::from(i % 3 == i / 3 % 3)).collect(),
        };
        let mut losses = Vec::new();
        for _ in 0..3 {
            let loss = learner.loss(batch.clone(), &training);
            losses.extend(values(loss.clone())?);
            let gradients = GradientsParams::from_grads(loss.backward(), &learner);
            learner = optimizer.step(1e-3, learner, gradients);
        }
        let after = look(&learner.valid(), device)?;
        // The weights go through a file to Burn's CPU device, as in export.
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("net.bpk");
        learner
            .valid()
            .save_file(&file)
            .map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let plain = tiny(&burn_cpu())
            .try_load_file(&file)
            .map_err(|e| anyhow::anyhow!("{e:?}"))?;
        Ok([before, losses, after, look(&plain, &super::burn_cpu())?])
    }

    #[cfg(feature = "train-torch")]
    #[test]
    fn training_on_libtorch_and_on_burns_own_code_gives_the_same_numbers() {
        use burn::module::Module;
        let _turn = crate::train::fit::tests::GENERATOR.lock();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net.bpk");
        crate::train::net::tests::tiny(&burn_cpu())
            .save_file(&file)
            .unwrap();
        let (ours, torch) = (
            trained(&file, &burn_cpu()).unwrap(),
            trained(&file, &Compute::Torch.open().unwrap()).unwrap(),
        );
        for (what, (a, b)) in ["before", "losses", "after", "through a file"]
            .iter()
            .zip(ours.iter().zip(&torch))
        {
            let largest = a
                .iter()
                .zip(b)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(largest < 1e-4, "{what}: {a:?} against {b:?}");
        }
    }
}
