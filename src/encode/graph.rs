//! One opened ONNX file.

use std::fmt;
use std::sync::Arc;

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorRef};

use super::{EncodeError, GraphFiles, Precision, Provider, Runtime, Tally, provider};
use crate::time::{monotonic_nanos, thread_cpu_nanos};

/// Delay before a graph that failed to reopen is tried again.
const RETRY_NANOS: i64 = 30_000_000_000;

/// One input of a graph: shape and values, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    F32(&'a [usize], &'a [f32]),
    /// An empty shape is a scalar.
    I64(&'a [usize], &'a [i64]),
}

/// One output of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// One output of a graph, borrowed from the run's buffer.
#[derive(Clone, Copy, Debug)]
pub struct OutputView<'a> {
    shape: &'a [i64],
    pub values: &'a [f32],
}

impl OutputView<'_> {
    pub fn shape(&self) -> Vec<usize> {
        self.shape.iter().map(|d| *d as usize).collect()
    }

    /// Whether the output has this shape.
    pub fn has_shape(&self, shape: &[usize]) -> bool {
        self.shape
            .iter()
            .map(|d| *d as usize)
            .eq(shape.iter().copied())
    }
}

impl From<OutputView<'_>> for Output {
    fn from(view: OutputView<'_>) -> Output {
        Output {
            shape: view.shape(),
            values: view.values.to_vec(),
        }
    }
}

/// Reads a graph's file again and checks it.
pub type ReadGraph = Box<dyn Fn() -> Result<Vec<u8>, EncodeError> + Send + Sync>;

/// One opened ONNX file. Owned by one thread: running takes `&mut self`.
pub struct Graph {
    name: String,
    /// `None`: released.
    session: Option<Session>,
    provider: Provider,
    precision: Precision,
    tally: Arc<Tally>,
    inputs: usize,
    outputs: usize,
    takes_batches: bool,
    reopening: Option<Reopening>,
}

/// State for reopening a released graph.
struct Reopening {
    runtime: Runtime,
    threads: usize,
    read: ReadGraph,
    /// Earliest next attempt, on the monotonic clock.
    not_before: i64,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({} on {})", self.name, self.provider.name())
    }
}

impl Graph {
    /// Opens `bytes` on `provider` with `threads` threads of its own (1: the caller's only). `Auto`
    /// is the CPU here; see [`super::first_that_works`].
    pub fn open(
        runtime: &Runtime,
        name: &str,
        bytes: &[u8],
        provider: Provider,
        threads: usize,
    ) -> Result<Graph, EncodeError> {
        let files = GraphFiles {
            fp32: bytes,
            int8: None,
        };
        Graph::open_for(runtime, name, files, provider, threads)
    }

    /// Opens the file that fits the provider in use.
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
        let (bytes, precision) = files.on(provider);
        let session = open_on(runtime, bytes, provider, threads)
            .map_err(|source| provider_error(name, provider, source))?;
        Ok(Graph {
            name: name.to_owned(),
            inputs: session.inputs().len(),
            outputs: session.outputs().len(),
            takes_batches: takes_batches(&session),
            session: Some(session),
            provider,
            precision,
            tally: runtime.tallies.begin(name, bytes),
            reopening: None,
        })
    }

    /// Enables [`Graph::release`]: `read` returns the bytes that the graph was opened from.
    pub fn reopened_by(mut self, runtime: &Runtime, threads: usize, read: ReadGraph) -> Graph {
        self.reopening = Some(Reopening {
            runtime: runtime.clone(),
            threads,
            read,
            not_before: i64::MIN,
        });
        self
    }

    /// Frees the graph's weights. The next run opens the graph again. Without
    /// [`Graph::reopened_by`] the graph stays open.
    pub fn release(&mut self) {
        if self.reopening.is_some() {
            self.session = None;
        }
    }

    /// Whether the graph is closed by [`Graph::release`].
    pub fn is_released(&self) -> bool {
        self.session.is_none()
    }

    /// Opens a released graph again.
    ///
    /// # Errors
    /// The file cannot be read, has changed, or cannot be opened.
    pub fn reopen(&mut self) -> Result<(), EncodeError> {
        let (None, Some(reopening)) = (&self.session, &mut self.reopening) else {
            return Ok(());
        };
        let now = monotonic_nanos();
        if now < reopening.not_before {
            return Err(EncodeError::NotReopened {
                graph: self.name.clone(),
            });
        }
        reopening.not_before = now.saturating_add(RETRY_NANOS);
        let opened = (reopening.read)().and_then(|bytes| {
            open_on(&reopening.runtime, &bytes, self.provider, reopening.threads)
                .map_err(|source| provider_error(&self.name, self.provider, source))
        });
        let session = opened.inspect_err(|error| {
            tracing::warn!(%error, "graph {} cannot be opened again, next try in 30 s", self.name);
        })?;
        reopening.not_before = i64::MIN;
        self.session = Some(session);
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    /// The provider in use.
    pub fn provider(&self) -> Provider {
        self.provider
    }
    /// The precision in use.
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// Number of the graph's inputs.
    pub fn input_count(&self) -> usize {
        self.inputs
    }
    /// Number of the graph's outputs.
    pub fn output_count(&self) -> usize {
        self.outputs
    }
    /// Whether the first axis of every input and of the first output is symbolic, so that one run
    /// takes several rows. Graphs of older bundles may have a fixed axis of 1.
    pub fn takes_batches(&self) -> bool {
        self.takes_batches
    }

    /// Treats the first axis as fixed, so that each row has a run of its own.
    #[cfg(test)]
    pub fn refuse_batches(&mut self) {
        self.takes_batches = false;
    }

    /// Runs the graph; inputs and outputs are in the graph's order.
    ///
    /// # Errors
    /// The run fails, an output is not finite, or an input of an int8 graph is not finite.
    pub fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EncodeError> {
        self.run_with(inputs, |outputs| {
            outputs.iter().map(|view| Output::from(*view)).collect()
        })
    }

    /// [`Graph::run`] without a copy: `read` borrows the outputs from the run's buffers.
    pub fn run_with<T>(
        &mut self,
        inputs: &[Input<'_>],
        read: impl FnOnce(&[OutputView<'_>]) -> T,
    ) -> Result<T, EncodeError> {
        self.reopen()?;
        let not_finite = |name: &str| EncodeError::NotFinite {
            graph: name.to_owned(),
        };
        // int8 quantisation would hide the NaN.
        let is_finite = |input: &Input<'_>| match input {
            Input::F32(_, values) => values.iter().all(|v| v.is_finite()),
            Input::I64(..) => true,
        };
        if self.precision == Precision::Int8 && !inputs.iter().all(is_finite) {
            return Err(not_finite(&self.name));
        }
        let failed = |source| EncodeError::Failed {
            graph: self.name.clone(),
            source,
        };
        let session = self.session.as_mut().expect("opened above");
        let (started, cpu_started) = (monotonic_nanos(), thread_cpu_nanos());
        let values = bind(inputs).map_err(failed)?;
        let outputs = session.run(values.as_slice()).map_err(failed)?;
        let (nanos, cpu_nanos) = (
            monotonic_nanos() - started,
            thread_cpu_nanos() - cpu_started,
        );
        let shape = |input: &Input<'_>| match input {
            Input::F32(shape, _) | Input::I64(shape, _) => shape.to_vec(),
        };
        self.tally
            .add(nanos, cpu_nanos, || inputs.iter().map(shape).collect());
        let views = (0..outputs.len())
            .map(|i| {
                let (shape, values) = outputs[i].try_extract_tensor::<f32>()?;
                Ok(OutputView { shape, values })
            })
            .collect::<ort::Result<Vec<_>>>()
            .map_err(failed)?;
        if views.iter().all(|o| o.values.iter().all(|v| v.is_finite())) {
            Ok(read(&views))
        } else {
            Err(not_finite(&self.name))
        }
    }
}

fn bind<'a>(inputs: &[Input<'a>]) -> ort::Result<Vec<SessionInputValue<'a>>> {
    inputs
        .iter()
        .map(|input| {
            Ok(match input {
                Input::F32(shape, values) => TensorRef::from_array_view((*shape, *values))?.into(),
                Input::I64(shape, values) => TensorRef::from_array_view((*shape, *values))?.into(),
            })
        })
        .collect()
}

fn takes_batches(session: &Session) -> bool {
    let first = |outlet: &Outlet| {
        outlet
            .dtype()
            .tensor_shape()
            .and_then(|s| s.first().copied())
    };
    let is_symbolic = |outlet: &Outlet| first(outlet).is_some_and(|length| length < 0);
    !session.inputs().is_empty()
        && session.inputs().iter().all(is_symbolic)
        && session.outputs().first().is_some_and(is_symbolic)
}

fn provider_error(name: &str, provider: Provider, source: ort::Error) -> EncodeError {
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
        // No spinning: a daemon shares its machine.
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
mod tests;
