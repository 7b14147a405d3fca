//! A graph: one ONNX file, open in ONNX Runtime.

use std::fmt;
use std::sync::Arc;

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorRef};

use super::{EncodeError, GraphFiles, Precision, Provider, Runtime, Tally, provider};
use crate::time::{monotonic_nanos, thread_cpu_nanos};

/// Delay in nanoseconds after a failure to reopen a graph, before the next attempt.
const RETRY_NANOS: i64 = 30_000_000_000;

/// One input of a graph: its shape, and its values in row-major order.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// 32-bit floats.
    F32(&'a [usize], &'a [f32]),
    /// 64-bit integers. An empty shape is a scalar.
    I64(&'a [usize], &'a [i64]),
}

/// One output of a graph, copied. `values` are in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Length of each axis.
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// One output of a graph, borrowed from the run's buffer. `values` are in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct OutputView<'a> {
    shape: &'a [i64],
    pub values: &'a [f32],
}

impl OutputView<'_> {
    /// Length of each axis.
    pub fn shape(&self) -> Vec<usize> {
        self.shape.iter().map(|d| *d as usize).collect()
    }

    /// Whether the lengths of the axes are `shape`.
    pub fn has_shape(&self, shape: &[usize]) -> bool {
        self.shape
            .iter()
            .map(|d| *d as usize)
            .eq(shape.iter().copied())
    }

    /// Whether no value is infinite or NaN.
    fn is_finite(&self) -> bool {
        self.values.iter().all(|v| v.is_finite())
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

/// Function that reads the file of a released graph again and checks its hash.
pub type ReadGraph = Box<dyn Fn() -> Result<Vec<u8>, EncodeError> + Send + Sync>;

/// One ONNX file, open in ONNX Runtime. It belongs to one thread, because a run takes `&mut self`.
pub struct Graph {
    name: String,
    /// `None` while the graph is released.
    session: Option<Session>,
    provider: Provider,
    precision: Precision,
    tally: Arc<Tally>,
    /// Number of inputs.
    inputs: usize,
    /// Number of outputs.
    outputs: usize,
    takes_batches: bool,
    /// `None`: the graph cannot be released.
    reopening: Option<Reopening>,
}

/// What a released graph needs to be opened again.
struct Reopening {
    runtime: Runtime,
    threads: usize,
    read: ReadGraph,
    /// Earliest time of the next attempt, in nanoseconds of the monotonic clock.
    not_before: i64,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({} on {})", self.name, self.provider.name())
    }
}

impl Graph {
    /// Opens the ONNX file `bytes` on `provider`. A run uses `threads` threads, including the
    /// caller's. [`Provider::Auto`] means the CPU; see [`super::first_that_works`] for a choice.
    ///
    /// # Errors
    /// The file or the provider cannot be used.
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

    /// As [`Graph::open`], with the file of `files` for the provider: int8 on the CPU if there is
    /// one, else fp32.
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

    /// Enables [`Graph::release`]. `read` returns the bytes that the graph was opened from.
    pub fn reopened_by(mut self, runtime: &Runtime, threads: usize, read: ReadGraph) -> Graph {
        self.reopening = Some(Reopening {
            runtime: runtime.clone(),
            threads,
            read,
            not_before: i64::MIN,
        });
        self
    }

    /// Closes the graph and frees its weights. The next run opens it again. Without
    /// [`Graph::reopened_by`] the call has no effect.
    pub fn release(&mut self) {
        if self.reopening.is_some() {
            self.session = None;
        }
    }

    /// Whether [`Graph::release`] has closed the graph.
    pub fn is_released(&self) -> bool {
        self.session.is_none()
    }

    /// Opens a released graph again; no effect on an open one.
    ///
    /// # Errors
    /// The file cannot be read, has changed, or cannot be opened. For 30 s after a failure the next
    /// attempt fails at once.
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

    /// The name in messages and statistics.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The execution provider of the graph, never [`Provider::Auto`].
    pub fn provider(&self) -> Provider {
        self.provider
    }
    /// The precision of the opened file.
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
    /// Whether one run can take several rows: the first axis of every input and of the first output
    /// is symbolic. Graphs of older bundles may have a fixed first axis of 1.
    pub fn takes_batches(&self) -> bool {
        self.takes_batches
    }

    /// Makes [`Graph::takes_batches`] return false, so that each row has a run of its own.
    #[cfg(test)]
    pub fn refuse_batches(&mut self) {
        self.takes_batches = false;
    }

    /// Runs the graph. Inputs and outputs are in the order that the file declares. A released graph
    /// is opened first.
    ///
    /// # Errors
    /// A released graph cannot be opened, the run fails, an output is not finite, or an input of an
    /// int8 graph is not finite.
    pub fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EncodeError> {
        self.run_with(inputs, |outputs| {
            outputs.iter().map(|view| Output::from(*view)).collect()
        })
    }

    /// As [`Graph::run`] without a copy of the outputs: `read` borrows them from the run's buffers,
    /// and its result is returned.
    pub fn run_with<T>(
        &mut self,
        inputs: &[Input<'_>],
        read: impl FnOnce(&[OutputView<'_>]) -> T,
    ) -> Result<T, EncodeError> {
        let finite = self.run_unchecked(inputs, |outputs| {
            let is_finite = outputs.iter().all(OutputView::is_finite);
            is_finite.then(|| read(outputs))
        })?;
        finite.ok_or_else(|| EncodeError::NotFinite {
            graph: self.name.clone(),
        })
    }

    /// As [`Graph::run_with`], but outputs may have values that are not finite.
    pub fn run_unchecked<T>(
        &mut self,
        inputs: &[Input<'_>],
        read: impl FnOnce(&[OutputView<'_>]) -> T,
    ) -> Result<T, EncodeError> {
        self.reopen()?;
        let not_finite = |name: &str| EncodeError::NotFinite {
            graph: name.to_owned(),
        };
        // int8 quantisation would turn a NaN into an ordinary number.
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
        Ok(read(&views))
    }
}

/// Wraps the inputs as ONNX Runtime's tensors, without a copy.
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

/// Whether the first axis of every input and of the first output is symbolic (ONNX Runtime:
/// negative).
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

/// The error of opening a graph; for a GPU it names the provider's requirements.
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

/// Creates ONNX Runtime's session with deterministic kernels.
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
        // Waiting threads sleep instead of spinning, because the daemon shares its machine.
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
