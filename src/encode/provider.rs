//! Execution-provider selection: NVIDIA's GPUs, if their libraries are present, or the CPU.

use std::error::Error;
use std::path::Path;
use std::sync::Mutex;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use serde::{Deserialize, Serialize};

use crate::causes::one_line;

/// Execution provider of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// TensorRT, else CUDA, else the CPU; a provider that fails to load is a warning.
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

/// Opens with the requested provider. [`Provider::Auto`] tries TensorRT, CUDA and the CPU in this
/// order, as far as ONNX Runtime offers them. A provider that fails is a warning if `at_fault`
/// blames it; any other error is returned.
pub fn first_that_works<T, E: Error + 'static>(
    requested: Provider,
    at_fault: impl Fn(&E) -> bool,
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
            Err(error) if at_fault(&error) => {
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

/// Whether the loaded ONNX Runtime has this provider and its libraries are present. A runtime with
/// CUDA comes with its libraries (the CPU's wheel has neither). TensorRT's libraries are a separate
/// installation, which few machines have.
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

/// ONNX Runtime's settings for a GPU; none for the CPU.
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
                // No TF32: with 19 bits a float is too coarse to reproduce the exporter's outputs.
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

/// Loads NVIDIA's libraries from `folder`, once: ONNX Runtime refers to them without a path.
/// Without any in `folder`, the system's are used.
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
    fn the_requested_provider_is_opened_and_no_other() {
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
        // The CPU comes last, after any GPUs.
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
    fn the_processor_needs_no_libraries_and_broken_ones_are_an_error() {
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
