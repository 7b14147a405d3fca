//! Measures the overhead of the pipeline: a whole replay at full speed, compared with the sum of
//! its graph runs alone and its decoding alone.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use expressd::capture::{bare_decode, decoder_cpu_nanos};
use expressd::config::Config;
use expressd::daemon::{DaemonError, Lines, prepare};
use expressd::encode::{Graph, Input, Provider, Runtime, Shapes, Tally};
use expressd::time::{monotonic_nanos, process_cpu_nanos};

/// Number of rounds; each measures replay, graph runs and decoding. The fastest round of each
/// counts, because disturbances only add time.
const ROUNDS: usize = 3;

/// Results of the overhead measurement; times are in seconds.
#[derive(Debug, Serialize)]
pub struct OverheadReport {
    /// Duration of the recording.
    pub recording_s: f64,
    /// Number of video frames in the recording.
    pub frames: u64,
    /// Wall time of the whole replay.
    pub wall_s: f64,
    /// CPU time of the whole replay.
    pub cpu_s: f64,
    /// Wall time of the graph runs alone.
    pub graphs_wall_s: f64,
    /// CPU time of the graph runs alone.
    pub graphs_cpu_s: f64,
    /// Wall time of the decoding alone.
    pub decode_wall_s: f64,
    /// CPU time of the decoding alone.
    pub decode_cpu_s: f64,
    /// `wall_s / (graphs_wall_s + decode_wall_s)`; the goal is at most 1.25.
    pub wall_ratio: f64,
    /// `cpu_s / (graphs_cpu_s + decode_cpu_s)`.
    pub cpu_ratio: f64,
    /// The graphs that ran during the last replay, in the order of opening.
    pub graphs: Vec<GraphRuns>,
}

/// Runs of one graph during the replay.
#[derive(Debug, Serialize)]
pub struct GraphRuns {
    /// Name of the graph.
    pub graph: String,
    /// Number of runs.
    pub runs: u64,
    /// Number of runs divided by the number of video frames.
    pub runs_per_frame: f64,
    /// Total time of the runs, in milliseconds.
    pub millis: f64,
}

/// Wall time and CPU time in seconds.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cost {
    const INFINITE: Cost = Cost {
        wall: f64::INFINITY,
        cpu: f64::INFINITY,
    };

    /// The smaller wall time and the smaller CPU time.
    fn least(self, other: Cost) -> Cost {
        Cost {
            wall: self.wall.min(other.wall),
            cpu: self.cpu.min(other.cpu),
        }
    }
}

/// Runs `work` and returns its result with its cost. The CPU time includes decoder processes.
fn timed<T>(work: impl FnOnce() -> Result<T, DaemonError>) -> Result<(T, Cost), DaemonError> {
    let cpu_nanos = || process_cpu_nanos() + decoder_cpu_nanos();
    let (wall, cpu) = (monotonic_nanos(), cpu_nanos());
    let value = work()?;
    Ok((
        value,
        Cost {
            wall: (monotonic_nanos() - wall) as f64 * 1e-9,
            cpu: (cpu_nanos() - cpu) as f64 * 1e-9,
        },
    ))
}

/// Measures replay, graph runs and decoding of `file` alternately.
pub fn measure(config: &Config, file: &Path) -> Result<OverheadReport, DaemonError> {
    let runtime = Runtime::load()?;
    let (mut whole, mut graphs, mut decode) = (Cost::INFINITE, Cost::INFINITE, Cost::INFINITE);
    let mut last = None;
    for _ in 0..ROUNDS {
        let traced = runtime.traced();
        // Opening and self-test of the bundle are not measured: they happen before the clock
        // starts.
        let prepared = prepare(config, &traced, file)?;
        // The statistics are kept here, because the graphs are dropped with the pipeline.
        let tallies = traced.tallies();
        tallies.iter().for_each(|tally| tally.clear());
        let lines = Arc::new(Mutex::new(Lines::new(Box::new(std::io::sink()))));
        let (played, spent) = timed(|| prepared.play(false, &lines))?;
        whole = whole.least(spent);
        let bare: Vec<_> = tallies
            .iter()
            .map(|tally| BareGraph::open(&runtime, tally))
            .collect::<Result<_, _>>()?;
        let ((), spent) = timed(|| bare.into_iter().try_for_each(BareGraph::run))?;
        graphs = graphs.least(spent);
        let ((), spent) = timed(|| Ok(bare_decode(file)?))?;
        decode = decode.least(spent);
        last = Some((played, tallies));
    }
    let (played, tallies) = last.expect("at least one round");
    let frames = played.video_frames.max(1);
    let runs_of = |tally: &Arc<Tally>| {
        let total = tally.total();
        GraphRuns {
            graph: tally.graph.clone(),
            runs: total.count,
            runs_per_frame: total.count as f64 / frames as f64,
            millis: total.nanos as f64 * 1e-6,
        }
    };
    Ok(OverheadReport {
        recording_s: played.end.secs_f64(),
        frames: played.video_frames,
        wall_s: whole.wall,
        cpu_s: whole.cpu,
        graphs_wall_s: graphs.wall,
        graphs_cpu_s: graphs.cpu,
        decode_wall_s: decode.wall,
        decode_cpu_s: decode.cpu,
        wall_ratio: whole.wall / (graphs.wall + decode.wall),
        cpu_ratio: whole.cpu / (graphs.cpu + decode.cpu),
        graphs: tallies.iter().map(runs_of).filter(|g| g.runs > 0).collect(),
    })
}

/// A graph that is opened again and repeats the runs of a replay with inputs of the same shapes.
struct BareGraph {
    graph: Graph,
    /// (Shapes of the inputs, number of runs).
    runs: Vec<(Shapes, u64)>,
}

impl BareGraph {
    /// Opens the graph of a traced run statistic on the CPU, with the shapes and numbers of its
    /// runs.
    fn open(runtime: &Runtime, tally: &Tally) -> Result<BareGraph, DaemonError> {
        let bytes = tally.bytes().expect("the replay was traced");
        let runs = tally
            .by_shapes()
            .into_iter()
            .map(|(shapes, runs)| (shapes, runs.count))
            .collect();
        Ok(BareGraph {
            graph: Graph::open(runtime, &tally.graph, bytes, Provider::Cpu, 1)?,
            runs,
        })
    }

    /// Repeats all runs, with generated values.
    fn run(mut self) -> Result<(), DaemonError> {
        for (shapes, count) in &self.runs {
            // The only integer input of the graphs is Silero's third one, the sample rate in Hz; it
            // is a scalar.
            let values: Vec<Vec<f32>> = shapes
                .iter()
                .map(|s| {
                    (0..s.iter().product())
                        .map(|i: usize| ((i * 37 % 101) as f32) / 101.0 - 0.5)
                        .collect()
                })
                .collect();
            let rate = [i64::from(expressd::clip::SAMPLE_RATE_HZ)];
            let inputs: Vec<_> = shapes
                .iter()
                .zip(&values)
                .map(|(shape, values)| {
                    if shape.is_empty() {
                        Input::I64(shape, &rate)
                    } else {
                        Input::F32(shape, values)
                    }
                })
                .collect();
            for _ in 0..*count {
                self.graph.run(&inputs)?;
            }
        }
        Ok(())
    }
}
