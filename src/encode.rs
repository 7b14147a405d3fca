//! ONNX Runtime behind [`Graph`]: one graph, one owner, inputs bound by position.

mod provider;
mod tally;
mod telemetry;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
pub use provider::{Provider, first_that_works};
use tally::Tallies;
pub use tally::{Runs, Shapes, Tally};
pub use telemetry::telemetry_is_off;

use crate::time::{monotonic_nanos, thread_cpu_nanos};

/// What a graph computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Fp32,
    /// Convolutions in eight bits, the rest in 32.
    Int8,
}

impl Precision {
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Int8 => "int8",
        }
    }
}

/// A graph's file, and the same graph in eight bits where there is one: that is for the CPU.
#[derive(Clone, Copy, Debug)]
pub struct GraphFiles<'a> {
    pub fp32: &'a [u8],
    pub int8: Option<&'a [u8]>,
}

impl<'a> GraphFiles<'a> {
    fn on(&self, provider: Provider) -> (&'a [u8], Precision) {
        match self.int8 {
            Some(int8) if provider == Provider::Cpu => (int8, Precision::Int8),
            _ => (self.fp32, Precision::Fp32),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("ONNX Runtime's library was not found; looked at {}; run `make setup`, or name it in $EXPRESSD_ONNXRUNTIME", list(.looked_at))]
    NoLibrary { looked_at: Vec<PathBuf> },
    #[error("ONNX Runtime's library {} cannot be loaded; run `make setup`, or name another in $EXPRESSD_ONNXRUNTIME", path.display())]
    BadLibrary {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{} cannot be read; restore it from the project", path.display())]
    NoGraph {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not the file that {} tells of (its SHA-256 is {found}, not {expected}); restore it from the project", path.display(), .told_by.display())]
    WrongHash {
        path: PathBuf,
        told_by: PathBuf,
        found: Box<str>,
        expected: Box<str>,
    },
    #[error("graph {graph} cannot be opened")]
    BadGraph { graph: String, source: ort::Error },
    #[error("provider {} cannot be used for graph {graph}: it needs NVIDIA's driver and the libraries that `make gpu` fetches; or set inference.provider to \"auto\" or \"cpu\"", .provider.name())]
    NoProvider {
        graph: String,
        provider: Provider,
        source: ort::Error,
    },
    #[error("graph {graph} failed while running")]
    Failed { graph: String, source: ort::Error },
    #[error("graph {graph} answered with a number that is not finite")]
    NotFinite { graph: String },
    #[error("the words for graph {graph} gave no tokens")]
    NoTokens {
        graph: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("graph {graph} answered with {found}, expected {expected}")]
    WrongOutput {
        graph: String,
        found: String,
        expected: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// ONNX Runtime, loaded once per process, and the tallies of what runs on it.
#[derive(Clone)]
pub struct Runtime {
    environment: ort::environment::Environment,
    /// Where its library lies, and a GPU's beside it.
    folder: Arc<Path>,
    tallies: Arc<Tallies>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Loads `libonnxruntime.so`: from `$EXPRESSD_ONNXRUNTIME`, else from beside the program (`../lib/expressd/`), else from where
    /// `make gpu` puts it, else `make setup` (`.deps/gpu/` and `.deps/onnxruntime/` in the working directory or the project's).
    pub fn load() -> Result<Runtime, EncodeError> {
        static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);
        let mut loaded = LOADED.lock().expect("runtime lock");
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
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

    /// The same library with tallies of its own, which keep the bytes of each graph and count its runs by the shapes of their inputs:
    /// for a benchmark that runs the same once more.
    pub fn traced(&self) -> Runtime {
        Runtime {
            tallies: Arc::new(Tallies::traced()),
            ..self.clone()
        }
    }

    /// Every graph that is open, in the order of opening.
    pub fn tallies(&self) -> Vec<Arc<Tally>> {
        self.tallies.of_open()
    }

    /// All runs so far, also those of graphs that are gone.
    pub fn total(&self) -> Runs {
        self.tallies.total()
    }
}

/// Where ONNX Runtime's library may lie, the best place first.
fn candidates() -> Vec<PathBuf> {
    let name = "libonnxruntime.so";
    if let Some(path) = std::env::var_os("EXPRESSD_ONNXRUNTIME") {
        return vec![path.into()];
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.parent()?.join("lib/expressd").join(name)));
    let fetched =
        [Path::new("."), Path::new(env!("CARGO_MANIFEST_DIR"))].map(|root| root.join(".deps"));
    let fetched = fetched
        .iter()
        .flat_map(|deps| ["gpu", "onnxruntime"].map(|folder| deps.join(folder).join(name)));
    beside.into_iter().chain(fetched).collect()
}

/// One input of a graph: shape and values, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    F32(&'a [usize], &'a [f32]),
    /// A scalar where the shape is empty.
    I64(&'a [usize], &'a [i64]),
}

/// One output of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// One opened ONNX file. Owned by one thread: running takes `&mut self`.
pub struct Graph {
    name: String,
    session: Session,
    provider: Provider,
    precision: Precision,
    tally: Arc<Tally>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph({} on {})", self.name, self.provider.name())
    }
}

impl Graph {
    /// Opens `bytes` on `provider` (`Auto` is the CPU here: a graph alone has nobody to choose for it, see [`first_that_works`]) with
    /// `threads` threads of its own (1: the caller's alone).
    pub fn open(
        runtime: &Runtime,
        name: &str,
        bytes: &[u8],
        provider: Provider,
        threads: usize,
    ) -> Result<Graph, EncodeError> {
        Graph::open_for(
            runtime,
            name,
            GraphFiles {
                fp32: bytes,
                int8: None,
            },
            provider,
            threads,
        )
    }

    /// Opens of two files the one for the provider that is really used.
    pub fn open_for(
        runtime: &Runtime,
        name: &str,
        files: GraphFiles<'_>,
        provider: Provider,
        threads: usize,
    ) -> Result<Graph, EncodeError> {
        let provider = if provider == Provider::Auto {
            Provider::Cpu
        } else {
            provider
        };
        let session = open_on(runtime, files.on(provider).0, provider, threads)
            .map_err(|source| refusal(name, provider, source))?;
        let (bytes, precision) = files.on(provider);
        let tally = runtime.tallies.begin(name, bytes);
        Ok(Graph {
            name: name.to_owned(),
            session,
            provider,
            precision,
            tally,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    /// The provider that is really used.
    pub fn provider(&self) -> Provider {
        self.provider
    }
    pub fn precision(&self) -> Precision {
        self.precision
    }
    pub fn input_count(&self) -> usize {
        self.session.inputs().len()
    }
    pub fn output_count(&self) -> usize {
        self.session.outputs().len()
    }

    /// Runs the graph on inputs in the graph's order; gives its outputs in the graph's order.
    pub fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EncodeError> {
        // Eight bits have no NaN: it would become some number, and nobody would know.
        if self.precision == Precision::Int8 && inputs.iter().any(|input| matches!(input, Input::F32(_, values) if values.iter().any(|v| !v.is_finite()))) {
            return Err(EncodeError::NotFinite { graph: self.name.clone() });
        }
        let (started, cpu_started) = (monotonic_nanos(), thread_cpu_nanos());
        let outputs = run(&mut self.session, inputs).map_err(|source| EncodeError::Failed {
            graph: self.name.clone(),
            source,
        })?;
        let (nanos, cpu_nanos) = (
            monotonic_nanos() - started,
            thread_cpu_nanos() - cpu_started,
        );
        let shape = |input: &Input<'_>| match input {
            Input::F32(shape, _) | Input::I64(shape, _) => shape.to_vec(),
        };
        self.tally
            .add(nanos, cpu_nanos, || inputs.iter().map(shape).collect());
        if outputs
            .iter()
            .any(|o| o.values.iter().any(|v| !v.is_finite()))
        {
            return Err(EncodeError::NotFinite {
                graph: self.name.clone(),
            });
        }
        Ok(outputs)
    }
}

fn run(session: &mut Session, inputs: &[Input<'_>]) -> ort::Result<Vec<Output>> {
    let values = inputs
        .iter()
        .map(|input| {
            Ok(match input {
                Input::F32(shape, values) => {
                    SessionInputValue::from(TensorRef::from_array_view((*shape, *values))?)
                }
                Input::I64(shape, values) => {
                    SessionInputValue::from(TensorRef::from_array_view((*shape, *values))?)
                }
            })
        })
        .collect::<ort::Result<Vec<_>>>()?;
    let outputs = session.run(values.as_slice())?;
    outputs
        .values()
        .map(|value| {
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            Ok(Output {
                shape: shape.iter().map(|d| *d as usize).collect(),
                values: values.to_vec(),
            })
        })
        .collect()
}

fn refusal(name: &str, provider: Provider, source: ort::Error) -> EncodeError {
    match provider {
        Provider::Tensorrt | Provider::Cuda => EncodeError::NoProvider {
            graph: name.to_owned(),
            provider,
            source,
        },
        Provider::Auto | Provider::Cpu => EncodeError::BadGraph {
            graph: name.to_owned(),
            source,
        },
    }
}

fn open_on(
    runtime: &Runtime,
    bytes: &[u8],
    provider: Provider,
    threads: usize,
) -> ort::Result<Session> {
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Waiting threads sleep: a daemon shares its machine.
        .with_intra_op_spinning(false)?
        .with_deterministic_compute(true)?;
    let gpu = provider::gpu(provider, &runtime.folder)?;
    let mut builder = if gpu.is_empty() {
        builder
    } else {
        builder.with_execution_providers(gpu)?
    };
    builder.commit_from_memory(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::project;

    #[test]
    fn eight_bits_are_for_the_cpu() {
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
    fn a_graph_that_is_gone_leaves_no_tally_and_only_a_trace_holds_its_bytes() {
        let bytes = std::fs::read(project("models/mtcnn/onet.onnx")).unwrap();
        let (name, values) = ("gone soon", vec![0.0f32; 3 * 48 * 48]);
        // The plain runtime is the other tests' too, so the graph is looked for by a name that no other has.
        let plain = Runtime::load().unwrap();
        for (runtime, is_traced) in [(plain.clone(), false), (plain.traced(), true)] {
            let ours = || {
                runtime
                    .tallies()
                    .into_iter()
                    .filter(|tally| tally.graph == name)
                    .collect::<Vec<_>>()
            };
            let mut graph = Graph::open(&runtime, name, &bytes, Provider::Cpu, 1).unwrap();
            graph.run(&[Input::F32(&[1, 3, 48, 48], &values)]).unwrap();
            let tally = ours().pop().unwrap();
            assert_eq!(
                (tally.total().count, tally.by_shapes().len()),
                (1, usize::from(is_traced))
            );
            assert_eq!(tally.bytes().is_some_and(|kept| kept == bytes), is_traced);
            drop((tally, graph));
            assert!(ours().is_empty());
            assert!(runtime.total().count >= 1);
        }
    }
}
