//! Run statistics: number and duration of the runs of each graph.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// The shapes of all inputs of a run, in the order of the graph's inputs.
pub type Shapes = Vec<Vec<usize>>;

/// Number and total duration of several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Number of runs.
    pub count: u64,
    /// Total wall time, in nanoseconds.
    pub nanos: i64,
    /// Total CPU time of the calling thread, in nanoseconds. Threads of ONNX Runtime are not
    /// counted.
    pub cpu_nanos: i64,
}

/// The counters of [`Runs`] as atomics, so that readers never block a run.
#[derive(Debug, Default)]
struct Totals {
    count: AtomicU64,
    nanos: AtomicI64,
    cpu_nanos: AtomicI64,
}

impl Totals {
    fn add(&self, runs: Runs) {
        self.count.fetch_add(runs.count, Ordering::Relaxed);
        self.nanos.fetch_add(runs.nanos, Ordering::Relaxed);
        self.cpu_nanos.fetch_add(runs.cpu_nanos, Ordering::Relaxed);
    }

    fn read(&self) -> Runs {
        Runs {
            count: self.count.load(Ordering::Relaxed),
            nanos: self.nanos.load(Ordering::Relaxed),
            cpu_nanos: self.cpu_nanos.load(Ordering::Relaxed),
        }
    }

    fn clear(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.nanos.store(0, Ordering::Relaxed);
        self.cpu_nanos.store(0, Ordering::Relaxed);
    }
}

/// Run statistics of one open graph. The runtime lists them until the graph is dropped.
#[derive(Debug)]
pub struct Tally {
    /// Name of the graph.
    pub graph: String,
    total: Totals,
    /// Sums over the runs of all graphs of the runtime, including closed ones.
    all_graphs: Arc<Totals>,
    /// `None` unless the runtime is traced.
    trace: Option<Trace>,
}

/// The data to repeat a graph's runs in a benchmark. The daemon does not record it: the file would
/// be held in memory twice, and texts of new lengths would keep adding shapes.
#[derive(Debug)]
struct Trace {
    /// The graph's ONNX file.
    bytes: Box<[u8]>,
    /// The runs by the shapes of their inputs.
    runs: Mutex<BTreeMap<Shapes, Runs>>,
}

impl Tally {
    /// The runs of this graph since it was opened or since [`Tally::clear`].
    pub fn total(&self) -> Runs {
        self.total.read()
    }

    /// The runs of this graph by the shapes of their inputs; empty unless the runtime is traced.
    pub fn by_shapes(&self) -> BTreeMap<Shapes, Runs> {
        self.trace
            .as_ref()
            .map(|trace| trace.runs.lock().expect("trace lock").clone())
            .unwrap_or_default()
    }

    /// The graph's ONNX file; `None` unless the runtime is traced.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.trace.as_ref().map(|trace| &*trace.bytes)
    }

    /// Sets the counts of this graph to zero. The runtime's total keeps them.
    pub fn clear(&self) {
        self.total.clear();
        if let Some(trace) = &self.trace {
            trace.runs.lock().expect("trace lock").clear();
        }
    }

    /// Adds one run with its wall time and CPU time in nanoseconds. `shapes` is called in a traced
    /// runtime only.
    pub(super) fn add(&self, nanos: i64, cpu_nanos: i64, shapes: impl FnOnce() -> Shapes) {
        let run = Runs {
            count: 1,
            nanos,
            cpu_nanos,
        };
        self.total.add(run);
        self.all_graphs.add(run);
        if let Some(trace) = &self.trace {
            let mut runs = trace.runs.lock().expect("trace lock");
            let entry = runs.entry(shapes()).or_default();
            entry.count += 1;
            entry.nanos += nanos;
            entry.cpu_nanos += cpu_nanos;
        }
    }
}

/// The run statistics of a runtime: one [`Tally`] for each open graph, and the sums over all
/// graphs.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    open: Mutex<Vec<Weak<Tally>>>,
    all_graphs: Arc<Totals>,
    traced: bool,
}

impl Tallies {
    /// Creates statistics that also keep each graph's file and count its runs by input shapes.
    pub fn traced() -> Self {
        Tallies {
            traced: true,
            ..Tallies::default()
        }
    }

    /// Adds the statistics of a newly opened graph, whose ONNX file is `bytes`.
    pub fn begin(&self, graph: &str, bytes: &[u8]) -> Arc<Tally> {
        let trace = self.traced.then(|| Trace {
            bytes: bytes.into(),
            runs: Mutex::default(),
        });
        let tally = Arc::new(Tally {
            graph: graph.to_owned(),
            total: Totals::default(),
            all_graphs: self.all_graphs.clone(),
            trace,
        });
        let mut open = self.open.lock().expect("tallies lock");
        // Dropped tallies are removed, so that reopening graphs does not grow the list.
        open.retain(|tally| tally.strong_count() > 0);
        open.push(Arc::downgrade(&tally));
        tally
    }

    /// The statistics of the open graphs, in the order of opening.
    pub fn open_tallies(&self) -> Vec<Arc<Tally>> {
        self.open
            .lock()
            .expect("tallies lock")
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// The sums over all graphs, including closed ones.
    pub fn total(&self) -> Runs {
        self.all_graphs.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_graphs_leave_the_list_and_their_runs_stay_in_the_total() {
        let tallies = Tallies::default();
        for _ in 0..100 {
            tallies
                .begin("face", b"a graph")
                .add(5, 3, || panic!("is not called"));
        }
        assert!(tallies.open_tallies().is_empty());
        assert!(tallies.open.lock().unwrap().len() <= 1);
        assert_eq!(
            tallies.total(),
            Runs {
                count: 100,
                nanos: 500,
                cpu_nanos: 300
            }
        );
        let [head, voice] = ["head", "voice"].map(|graph| tallies.begin(graph, b"a graph"));
        head.add(7, 2, Vec::new);
        assert_eq!((head.total().count, voice.total().count), (1, 0));
        assert_eq!(
            tallies
                .open_tallies()
                .iter()
                .map(|tally| tally.graph.as_str())
                .collect::<Vec<_>>(),
            ["head", "voice"]
        );
        assert!(head.bytes().is_none() && head.by_shapes().is_empty());
    }

    #[test]
    fn a_traced_tally_keeps_the_file_and_counts_runs_by_shapes() {
        let tally = Tallies::traced().begin("face", b"a graph");
        for rows in [1, 2, 1] {
            tally.add(5, 3, || vec![vec![rows, 4]]);
        }
        assert_eq!(tally.bytes(), Some(&b"a graph"[..]));
        let runs = tally.by_shapes();
        assert_eq!(
            runs.first_key_value(),
            Some((
                &vec![vec![1, 4]],
                &Runs {
                    count: 2,
                    nanos: 10,
                    cpu_nanos: 6
                }
            ))
        );
        assert_eq!((runs.len(), tally.total().count), (2, 3));
        tally.clear();
        assert!(tally.by_shapes().is_empty() && tally.total() == Runs::default());
    }
}
