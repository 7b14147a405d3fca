//! Selection of the execution provider: NVIDIA's GPUs if their libraries are present, else the CPU.

use std::error::Error;
use std::path::Path;
use std::sync::Mutex;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use serde::{Deserialize, Serialize};

use crate::causes::one_line;

/// ONNX Runtime's execution provider: the backend that computes a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The first of TensorRT, CUDA and the CPU that works; see [`first_that_works`].
    Auto,
    Tensorrt,
    Cuda,
    Cpu,
}

impl Provider {
    /// The provider's name in the configuration and in events.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Auto => "auto",
            Provider::Tensorrt => "tensorrt",
            Provider::Cuda => "cuda",
            Provider::Cpu => "cpu",
        }
    }
}

/// Calls `open` with the requested provider. For [`Provider::Auto`] it tries TensorRT, CUDA and the
/// CPU in this order, as far as ONNX Runtime offers them. If `is_provider_fault` holds for the
/// error of a GPU, the error is logged as a warning and the next provider is tried.
///
/// # Errors
/// The error of `open`, if no further provider is tried.
pub fn first_that_works<T, E: Error + 'static>(
    requested: Provider,
    is_provider_fault: impl Fn(&E) -> bool,
    mut open: impl FnMut(Provider) -> Result<T, E>,
) -> Result<T, E> {
    if requested != Provider::Auto {
        return open(requested);
    }
    for gpu in [Provider::Tensorrt, Provider::Cuda]
        .into_iter()
        .filter(|gpu| offered(*gpu))
    {
        match open(gpu) {
            Err(error) if is_provider_fault(&error) => {
                tracing::warn!(
                    provider = gpu.name(),
                    error = one_line(&error),
                    "provider cannot be used, trying the next"
                );
            }
            result => return result,
        }
    }
    open(Provider::Cpu)
}

/// Whether the loaded ONNX Runtime supports this GPU provider and its libraries are present. A
/// runtime with CUDA is installed together with CUDA's libraries, and the CPU's wheel has neither.
/// TensorRT's libraries are a separate installation, which few machines have.
fn offered(gpu: Provider) -> bool {
    match gpu {
        Provider::Tensorrt => {
            ep::TensorRT::is_available().unwrap_or(false)
                && ort::util::preload_dylib("libnvinfer.so.10").is_ok()
        }
        Provider::Cuda => ep::CUDA::is_available().unwrap_or(false),
        Provider::Auto | Provider::Cpu => false,
    }
}

/// ONNX Runtime's settings of a GPU provider; empty for the CPU. `folder` may hold NVIDIA's
/// libraries.
///
/// # Errors
/// NVIDIA's libraries in `folder` cannot be loaded.
pub(super) fn gpu(
    provider: Provider,
    folder: &Path,
) -> ort::Result<Vec<ExecutionProviderDispatch>> {
    Ok(match provider {
        Provider::Auto | Provider::Cpu => Vec::new(),
        Provider::Cuda => {
            preload(folder)?;
            let cuda = ep::CUDA::default()
                // TF32 is off: its floats of 19 bits are too coarse to reproduce the exporter's
                // outputs.
                .with_tf32(false)
                // An exhaustive search for each new batch size would delay the first clip with it.
                .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic);
            vec![cuda.build().error_on_failure()]
        }
        Provider::Tensorrt => {
            preload(folder)?;
            vec![ep::TensorRT::default().build().error_on_failure()]
        }
    })
}

/// Loads NVIDIA's libraries from `folder`, once per process, because ONNX Runtime refers to them
/// without a path. If `folder` has none, ONNX Runtime uses the system's.
fn preload(folder: &Path) -> ort::Result<()> {
    static LOADED: Mutex<bool> = Mutex::new(false);
    let mut loaded = LOADED.lock().expect("preload lock");
    if !*loaded && folder.join("libcudart.so.13").exists() {
        ep::cuda::preload_dylibs(Some(folder), Some(folder))?;
        *loaded = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Runtime;

    #[test]
    fn a_requested_provider_has_no_fallback_and_auto_ends_with_the_cpu() {
        Runtime::load().unwrap();
        let mut tried = Vec::new();
        let mut open = |provider: Provider| -> std::io::Result<()> {
            tried.push(provider);
            Err(std::io::Error::other(provider.name()))
        };
        assert_eq!(
            first_that_works(Provider::Cuda, |_| true, &mut open)
                .unwrap_err()
                .to_string(),
            "cuda"
        );
        // Any GPUs are tried before the CPU.
        assert_eq!(
            first_that_works(Provider::Auto, |_| true, &mut open)
                .unwrap_err()
                .to_string(),
            "cpu"
        );
        assert_eq!(
            (tried.first(), tried.last()),
            (Some(&Provider::Cuda), Some(&Provider::Cpu))
        );
    }

    #[test]
    fn the_cpu_needs_no_gpu_libraries_and_broken_ones_are_an_error() {
        Runtime::load().unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert!(gpu(Provider::Cpu, folder.path()).unwrap().is_empty());
        std::fs::write(folder.path().join("libcudart.so.13"), "not a library").unwrap();
        let error = gpu(Provider::Cuda, folder.path())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("libcudart.so.13"), "{error}");
    }
}
