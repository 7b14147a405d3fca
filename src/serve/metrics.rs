//! The daemon's counters and latency distributions. They are published for Prometheus at
//! `/metrics`, as JSON at `/v1/status`, and to clients in the event `status`.
//!
//! An update takes an atomic operation, or a lock that is held for nanoseconds, so that any stage
//! can make it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Map, Value, json};

use super::exposition::{self, Exposition};
use crate::event::{ErrorCode, Event, SourceState};
use crate::lane::LaneCounters;

/// The single Prometheus label of a metric: name and value.
type Label = [(&'static str, String); 1];

/// The fields of an event's `latency_ms`, in order.
pub const STAGES: [&str; 5] = ["capture", "queue", "encode", "emit", "total"];
/// Upper edges of the histograms' buckets in seconds, from 0.1 ms to 10 s.
const EDGES_S: [f64; 16] = [
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 3e-2, 5e-2, 7.5e-2, 0.1, 0.15, 0.3, 1.0,
    10.0,
];

/// A distribution of durations: a histogram for Prometheus, and quantiles for `/v1/status`.
#[derive(Debug)]
pub struct Timing {
    /// The histogram for Prometheus, in seconds.
    scraped: Histogram,
    /// Durations in microseconds, with two significant digits.
    quantiles: Mutex<hdrhistogram::Histogram<u64>>,
}

impl Timing {
    fn new(scraped: Histogram) -> Self {
        let quantiles =
            hdrhistogram::Histogram::new_with_bounds(1, 600_000_000, 2).expect("sane bounds");
        Timing {
            scraped,
            quantiles: Mutex::new(quantiles),
        }
    }

    /// Adds a duration in milliseconds.
    pub fn observe_ms(&self, ms: f64) {
        // A clock correction can give a value slightly below zero.
        let ms = ms.max(0.0);
        self.scraped.observe(ms * 1e-3);
        self.quantiles
            .lock()
            .expect("timing")
            .saturating_record((ms * 1e3) as u64);
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.quantiles.lock().expect("timing").len()
    }

    /// The duration in milliseconds that the share `quantile` (0..1) of all durations does not
    /// exceed; 0 if there are no durations.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.quantiles
            .lock()
            .expect("timing")
            .value_at_quantile(quantile) as f64
            * 1e-3
    }

    fn to_json(&self) -> Value {
        let held = self.quantiles.lock().expect("timing");
        let ms = |value: u64| (value as f64 * 1e-2).round() / 10.0;
        json!({
            "count": held.len(),
            "p50": ms(held.value_at_quantile(0.5)),
            "p95": ms(held.value_at_quantile(0.95)),
            "p99": ms(held.value_at_quantile(0.99)),
            "max": ms(held.max()),
        })
    }
}

/// All counters and timings of the daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    latency: [Timing; 5],
    /// Time from an event's entry into the ring until a client's socket accepts it.
    pub socket_write: Timing,
    events: Family<Label, Counter>,
    drops: Family<Label, Counter>,
    /// The causes in `drops` other than full lanes. They are kept here because a metric family
    /// cannot be iterated.
    causes: Mutex<BTreeSet<&'static str>>,
    lane_depth: Family<Label, Gauge>,
    lane_sent: Family<Label, Counter>,
    graph_runs: Family<Label, Counter>,
    source_up: Family<Label, Gauge>,
    refusals: Family<Label, Counter>,
    connections_cut: Family<Label, Counter>,
    /// Number of connected WebSocket clients.
    pub clients: Gauge,
    /// Number of WebSocket clients that have connected since the start.
    pub clients_total: Counter,
    /// Number of `expression` events whose total latency exceeds the budget.
    pub deadline_misses: Counter,
    lanes: Mutex<Vec<Arc<LaneCounters>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let by_stage = Family::<Label, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(EDGES_S)
        });
        let mut metrics = Metrics {
            registry: Registry::with_prefix("expressd"),
            latency: STAGES.map(|stage| {
                Timing::new(
                    by_stage
                        .get_or_create(&[("stage", stage.to_owned())])
                        .clone(),
                )
            }),
            socket_write: Timing::new(Histogram::new(EDGES_S)),
            events: Family::default(),
            drops: Family::default(),
            causes: Mutex::default(),
            lane_depth: Family::default(),
            lane_sent: Family::default(),
            graph_runs: Family::default(),
            source_up: Family::default(),
            refusals: Family::default(),
            connections_cut: Family::default(),
            clients: Gauge::default(),
            clients_total: Counter::default(),
            deadline_misses: Counter::default(),
            lanes: Mutex::default(),
        };
        let registry = &mut metrics.registry;
        registry.register_with_unit(
            "latency",
            "Latency of an expression, by stage",
            Unit::Seconds,
            by_stage,
        );
        registry.register_with_unit(
            "socket_write",
            "Time from an event's publication to its write to a socket",
            Unit::Seconds,
            metrics.socket_write.scraped.clone(),
        );
        registry.register("events", "Published events by type", metrics.events.clone());
        registry.register("drops", "Losses, by cause", metrics.drops.clone());
        registry.register(
            "queue_depth",
            "Items waiting in a lane",
            metrics.lane_depth.clone(),
        );
        registry.register(
            "queue_sent",
            "Items that went through a lane",
            metrics.lane_sent.clone(),
        );
        registry.register(
            "graph_runs",
            "Runs of each graph",
            metrics.graph_runs.clone(),
        );
        registry.register(
            "source_up",
            "1 while the source delivers",
            metrics.source_up.clone(),
        );
        registry.register(
            "refusals",
            "Clients that were refused or closed with an error, by its code",
            metrics.refusals.clone(),
        );
        registry.register(
            "connections_cut",
            "HTTP connections that the server ended, by cause",
            metrics.connections_cut.clone(),
        );
        registry.register("clients", "Connected clients", metrics.clients.clone());
        registry.register(
            "connections",
            "Clients that ever connected",
            metrics.clients_total.clone(),
        );
        registry.register(
            "deadline_misses",
            "Expressions later than their latency budget",
            metrics.deadline_misses.clone(),
        );
        metrics
    }

    /// Counts a published event by its type. An `expression` also adds its latencies and a missed
    /// deadline, a `status` sets the state of the sources.
    pub fn published(&self, event: &Event) {
        self.events
            .get_or_create(&[("type", event.kind().into())])
            .inc();
        match event {
            Event::Expression(e) => {
                if let Some(l) = &e.latency_ms {
                    for (timing, ms) in self
                        .latency
                        .iter()
                        .zip([l.capture, l.queue, l.encode, l.emit, l.total])
                    {
                        timing.observe_ms(ms);
                    }
                }
                if e.deadline.is_some_and(|deadline| !deadline.met) {
                    self.deadline_misses.inc();
                }
            }
            Event::Status(e) => {
                self.source("video", e.sources.video.state);
                self.source("audio", e.sources.audio.state);
            }
            // Counted by type only.
            _ => {}
        }
    }

    /// Sets the gauge `source_up` of the source `name` (`video` or `audio`): 1 while it delivers,
    /// else 0.
    pub fn source(&self, name: &'static str, state: SourceState) {
        self.source_up
            .get_or_create(&[("source", name.into())])
            .set(i64::from(state == SourceState::Delivering));
    }

    /// Counts `count` lost items. `cause` is in snake case, for example `past_deadline` or
    /// `slow_client`.
    pub fn dropped(&self, cause: &'static str, count: u64) {
        self.causes.lock().expect("causes").insert(cause);
        self.drops
            .get_or_create(&[("cause", cause.into())])
            .inc_by(count);
    }

    /// Counts a client that was refused or closed with the error `code`.
    pub fn refused(&self, code: ErrorCode) {
        let code = serde_json::to_value(code)
            .expect("a code")
            .as_str()
            .expect("codes are words")
            .to_owned();
        self.refusals.get_or_create(&[("code", code)]).inc();
    }

    /// Counts an HTTP connection that the server closed. `cause` is `crowded` (closed for a newer
    /// connection) or `overdue` (no request in time).
    pub fn connection_cut(&self, cause: &'static str) {
        self.connections_cut
            .get_or_create(&[("cause", cause.into())])
            .inc();
    }

    /// Adds `runs` to the number of runs of the graph named `graph`.
    pub fn graph_ran(&self, graph: &str, runs: u64) {
        self.graph_runs
            .get_or_create(&[("graph", graph.into())])
            .inc_by(runs);
    }

    /// Includes the counters of `lane` in all outputs from now on. Its losses have the cause
    /// `lane_<name>_full`.
    pub fn watch_lane(&self, lane: Arc<LaneCounters>) {
        self.lanes.lock().expect("lanes").push(lane);
    }

    /// The latency distribution of `stage`; `None` if it is not one of [`STAGES`].
    pub fn latency(&self, stage: &str) -> Option<&Timing> {
        STAGES
            .iter()
            .position(|s| *s == stage)
            .map(|index| &self.latency[index])
    }

    /// The metrics as text in one of the formats that Prometheus reads.
    pub fn encode(&self, exposition: Exposition) -> String {
        self.read_lanes();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes everything");
        match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Prometheus => exposition::prometheus_text(&text),
        }
    }

    /// The field `counters` of the event `status`, a flat object: events by type, losses by cause,
    /// missed deadlines and clients. Counts that are still 0 may be absent.
    pub fn counters(&self) -> Map<String, Value> {
        self.read_lanes();
        let mut counters = Map::new();
        for kind in crate::event::PUBLISHED {
            if let Some(count) = self.events.get(&[("type", kind.into())]).map(|c| c.get()) {
                counters.insert(format!("events_{kind}"), count.into());
            }
        }
        for (cause, count) in self.drop_counts() {
            counters.insert(format!("dropped_{cause}"), count.into());
        }
        counters.insert("deadline_misses".into(), self.deadline_misses.get().into());
        counters.insert("clients".into(), self.clients.get().into());
        counters
    }

    /// Latency distributions and counters of lanes, as the JSON for `/v1/status`.
    pub fn to_json(&self) -> Value {
        let latency: Map<String, Value> = STAGES
            .iter()
            .zip(&self.latency)
            .map(|(stage, timing)| ((*stage).to_owned(), timing.to_json()))
            .collect();
        let lanes = self.lanes.lock().expect("lanes");
        let queues: Map<String, Value> = lanes
            .iter()
            .map(|lane| {
                let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
                let numbers = json!({
                    "depth": read(&lane.depth),
                    "capacity": lane.capacity,
                    "sent": read(&lane.sent),
                    "lost": read(&lane.lost),
                });
                (lane.name.to_owned(), numbers)
            })
            .collect();
        json!({
            "latency_ms": latency,
            "socket_write_ms": self.socket_write.to_json(),
            "queues": queues,
            "clients": self.clients.get(),
        })
    }

    /// Number of losses by cause, full lanes included.
    fn drop_counts(&self) -> Vec<(String, u64)> {
        let lanes: Vec<String> = self
            .lanes
            .lock()
            .expect("lanes")
            .iter()
            .map(|lane| lane_cause(lane))
            .collect();
        let causes = self
            .causes
            .lock()
            .expect("causes")
            .iter()
            .map(|cause| (*cause).to_owned())
            .chain(lanes)
            .collect::<Vec<_>>();
        causes
            .into_iter()
            .filter_map(|cause| {
                self.drops
                    .get(&[("cause", cause.clone())])
                    .map(|count| (cause, count.get()))
            })
            .collect()
    }

    /// Copies the counters of all lanes into the metrics.
    fn read_lanes(&self) {
        for lane in self.lanes.lock().expect("lanes").iter() {
            let name = [("lane", lane.name.to_owned())];
            self.lane_depth
                .get_or_create(&name)
                .set(lane.depth.load(Ordering::Relaxed) as i64);
            self.lane_sent
                .get_or_create(&name)
                .inner()
                .store(lane.sent.load(Ordering::Relaxed), Ordering::Relaxed);
            let lost = lane.lost.load(Ordering::Relaxed);
            self.drops
                .get_or_create(&[("cause", lane_cause(lane))])
                .inner()
                .store(lost, Ordering::Relaxed);
        }
    }
}

/// The cause of losses of a full lane.
fn lane_cause(lane: &LaneCounters) -> String {
    format!("lane_{}_full", lane.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{WhenFull, lane};

    #[test]
    fn a_loss_appears_in_metrics_in_status_counters_and_in_the_status_page() {
        let metrics = Metrics::new();
        metrics.dropped("past_deadline", 3);
        let (sender, _receiver) = lane::<u32>("frames", 1, WhenFull::DropOldest);
        metrics.watch_lane(sender.counters());
        (0..5).for_each(|i| drop(sender.send(i)));
        metrics.latency("encode").unwrap().observe_ms(20.0);
        metrics.graph_ran("face", 2);
        let text = metrics.encode(Exposition::OpenMetrics);
        for line in [
            "expressd_drops_total{cause=\"past_deadline\"} 3",
            "expressd_drops_total{cause=\"lane_frames_full\"} 4",
            "expressd_queue_depth{lane=\"frames\"} 1",
            "expressd_latency_seconds_bucket{le=\"0.02\",stage=\"encode\"} 1",
            "expressd_graph_runs_total{graph=\"face\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
        assert_eq!(metrics.counters()["dropped_lane_frames_full"], 4);
        assert_eq!(metrics.counters()["dropped_past_deadline"], 3);
        assert_eq!(metrics.to_json()["queues"]["frames"]["lost"], 4);
        assert_eq!(metrics.to_json()["latency_ms"]["encode"]["count"], 1);
    }
}
