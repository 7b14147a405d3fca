//! Runs networks with ONNX Runtime. A [`Graph`] is one opened ONNX file, owned by one thread;
//! inputs are bound by position.

mod error;
mod graph;
mod memory;
mod provider;
mod tally;
mod telemetry;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::assets;

pub use error::EncodeError;
pub use graph::{Graph, Input, Output, OutputView, ReadGraph};
pub use memory::return_freed_memory;
pub use provider::{Provider, first_that_works};
use tally::Tallies;
pub use tally::{Runs, Shapes, Tally};
pub use telemetry::telemetry_is_off;

/// Numeric precision of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Fp32,
    /// Convolutions and the operators between them run in int8, all others in fp32.
    Int8,
}

impl Precision {
    /// The precision's name in events and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Int8 => "int8",
        }
    }
}

/// The ONNX files of one graph: fp32, and optionally int8, which only the CPU provider uses.
#[derive(Clone, Copy, Debug)]
pub struct GraphFiles<'a> {
    /// The fp32 file.
    pub fp32: &'a [u8],
    /// The int8 file; `None` if there is none.
    pub int8: Option<&'a [u8]>,
}

impl<'a> GraphFiles<'a> {
    /// The file for this provider, and its precision.
    fn on(&self, provider: Provider) -> (&'a [u8], Precision) {
        match self.int8 {
            Some(int8) if provider == Provider::Cpu => (int8, Precision::Int8),
            _ => (self.fp32, Precision::Fp32),
        }
    }
}

/// ONNX Runtime's library, which is loaded once per process, with run statistics (tallies) of the
/// graphs that are opened with this value.
#[derive(Clone)]
pub struct Runtime {
    environment: ort::environment::Environment,
    /// Folder of the library; with `make gpu` it also holds NVIDIA's libraries.
    folder: Arc<Path>,
    tallies: Arc<Tallies>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Loads `libonnxruntime.so`. It is searched in this order: `$EXPRESSD_ONNXRUNTIME`, beside the
    /// program (`../lib/expressd/`), `.deps/gpu/` (`make gpu`), `.deps/onnxruntime/` (`make
    /// setup`). `.deps` is looked up in the working directory, then in the project's folder.
    ///
    /// Later calls return the loaded library. The result of each call has its own run statistics,
    /// shared by its clones.
    ///
    /// # Errors
    /// The library is missing or cannot be loaded.
    pub fn load() -> Result<Runtime, EncodeError> {
        static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);
        let mut loaded = LOADED.lock().expect("runtime lock");
        if let Some(runtime) = &*loaded {
            return Ok(Runtime {
                tallies: Arc::default(),
                ..runtime.clone()
            });
        }
        let candidates = candidates();
        let Some(found) = candidates.iter().find(|p| p.is_file()) else {
            return Err(EncodeError::NoLibrary {
                looked_at: candidates,
            });
        };
        assert!(
            telemetry_is_off(),
            "{} was not set before main",
            telemetry::SWITCH
        );
        let path = found.canonicalize().unwrap_or_else(|_| found.clone());
        let environment = match ort::init_from(&path) {
            Ok(builder) => builder
                .with_name("expressd")
                .with_telemetry(false)
                .build()
                .map_err(Into::into),
            Err(error) => Err(error.into()),
        };
        let environment = environment.map_err(|source| EncodeError::BadLibrary { path, source })?;
        let folder = found.parent().unwrap_or(Path::new(".")).into();
        let runtime = Runtime {
            environment,
            folder,
            tallies: Arc::default(),
        };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// Returns the same library with new run statistics that also keep each graph's file and count
    /// its runs by input shapes. Benchmarks use them to repeat the runs.
    pub fn traced(&self) -> Runtime {
        Runtime {
            tallies: Arc::new(Tallies::traced()),
            ..self.clone()
        }
    }

    /// The run statistics of all open graphs, in the order of opening.
    pub fn tallies(&self) -> Vec<Arc<Tally>> {
        self.tallies.open_tallies()
    }

    /// Number and duration of all runs so far, including those of closed graphs.
    pub fn total(&self) -> Runs {
        self.tallies.total()
    }
}

/// Paths where ONNX Runtime's library may be, in the order of the search.
fn candidates() -> Vec<PathBuf> {
    let name = "libonnxruntime.so";
    if let Some(path) = std::env::var_os("EXPRESSD_ONNXRUNTIME") {
        return vec![path.into()];
    }
    let fetched = ["gpu", "onnxruntime"].map(|folder| Path::new(".deps").join(folder).join(name));
    assets::candidates(&Path::new("lib/expressd").join(name), &fetched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::project;

    #[test]
    fn int8_is_used_on_the_cpu_only() {
        let both = GraphFiles {
            fp32: b"float",
            int8: Some(b"light"),
        };
        assert_eq!(both.on(Provider::Cpu), (&b"light"[..], Precision::Int8));
        for gpu in [Provider::Cuda, Provider::Tensorrt] {
            assert_eq!(both.on(gpu), (&b"float"[..], Precision::Fp32));
        }
        assert_eq!(
            GraphFiles { int8: None, ..both }.on(Provider::Cpu),
            (&b"float"[..], Precision::Fp32)
        );
    }

    #[test]
    fn a_closed_graph_leaves_no_tally_and_only_a_traced_tally_keeps_the_file() {
        let bytes = std::fs::read(project("models/mtcnn/onet.onnx")).unwrap();
        let (name, values) = ("gone soon", vec![0.0f32; 3 * 48 * 48]);
        let plain = Runtime::load().unwrap();
        for (runtime, is_traced) in [(plain.clone(), false), (plain.traced(), true)] {
            let mut graph = Graph::open(&runtime, name, &bytes, Provider::Cpu, 1).unwrap();
            graph.run(&[Input::F32(&[1, 3, 48, 48], &values)]).unwrap();
            let tally = runtime.tallies().pop().unwrap();
            assert_eq!(
                (tally.total().count, tally.by_shapes().len()),
                (1, usize::from(is_traced))
            );
            assert_eq!(tally.bytes().is_some_and(|kept| kept == bytes), is_traced);
            drop((tally, graph));
            assert!(runtime.tallies().is_empty());
            assert_eq!(runtime.total().count, 1);
        }
    }

    /// Tests run in parallel in one process, so shared statistics would mix their graphs.
    #[test]
    fn each_load_counts_its_own_graphs() {
        let bytes = std::fs::read(project("models/mtcnn/onet.onnx")).unwrap();
        let [ours, others] = [(); 2].map(|()| Runtime::load().unwrap());
        let _graph = Graph::open(&ours, "onet", &bytes, Provider::Cpu, 1).unwrap();
        assert_eq!(ours.clone().tallies().len(), 1);
        assert!(others.tallies().is_empty());
    }
}
