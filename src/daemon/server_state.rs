//! The daemon's state, as the server, clients and systemd read it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::json;

use crate::capture::{SourceGauge, SourceHealth};
use crate::config::Config;
use crate::encode::Runtime;
use crate::event::{
    BundleFacts, Refusal, SourceState, SourceStatus, StatusEvent, TranscriptRequest,
};
use crate::manifest::Task;
use crate::model::Bundle;
use crate::runtime::{InferenceQueue, Pipeline, RefusedCounts, TranscriptInbox};
use crate::serve::{Check, HelloFacts, Metrics, Readiness, ServerState};
use crate::session::{ClientTranscripts, Streams, hop_ms};
use crate::time::{Clock, SystemClock};

/// The daemon's state, collected on request from the counters of sources, stages and graphs.
pub struct DaemonState {
    session: String,
    bundle: BundleFacts,
    /// Names of the requested execution provider and of the one in use.
    provider: [&'static str; 2],
    streams: Streams,
    clock: Arc<SystemClock>,
    health: Arc<SourceHealth>,
    metrics: Arc<Metrics>,
    runtime: Runtime,
    stages: Mutex<Option<(Arc<InferenceQueue>, Arc<RefusedCounts>)>>,
    /// Receives transcripts of clients; not set before the session runs.
    transcripts: OnceLock<Arc<TranscriptInbox>>,
    /// Whether capture is paused.
    paused: AtomicBool,
    /// Counters of other modules by name, with the values that are already in the metrics.
    collected_counts: Mutex<HashMap<String, u64>>,
    /// Whether the start is complete: self-test done, sources open, socket bound.
    opened: AtomicBool,
    /// Name of a stage that makes no progress; `None` if all do.
    stalled: Mutex<Option<&'static str>>,
}

impl DaemonState {
    pub fn new(
        config: &Config,
        bundle: &Bundle,
        streams: Streams,
        clock: Arc<SystemClock>,
        health: Arc<SourceHealth>,
        metrics: Arc<Metrics>,
        runtime: Runtime,
    ) -> Self {
        let manifest = &bundle.manifest;
        let facts = BundleFacts {
            name: manifest.name.clone(),
            fingerprint: manifest.score_fingerprint(),
            task: if manifest.task == Task::Single {
                "single"
            } else {
                "multi"
            }
            .into(),
            labels: manifest.labels.clone(),
            window_ms: manifest.window.length_ms,
            hop_ms: hop_ms(config, manifest),
        };
        DaemonState {
            session: uuid::Uuid::new_v4().to_string(),
            bundle: facts,
            provider: [config.inference.provider.name(), bundle.provider().name()],
            streams,
            clock,
            health,
            metrics,
            runtime,
            stages: Mutex::default(),
            transcripts: OnceLock::new(),
            paused: AtomicBool::new(false),
            collected_counts: Mutex::default(),
            opened: AtomicBool::new(false),
            stalled: Mutex::default(),
        }
    }

    /// Includes the losses that the stages of `pipeline` count in the metrics from now on.
    pub fn collect_from(&self, pipeline: &Pipeline) {
        let counted = (pipeline.queue(), pipeline.refused());
        *self.stages.lock().expect("stages lock") = Some(counted);
    }

    /// Passes transcripts of clients to `inbox` from now on. Before that, they are refused.
    pub fn take_transcripts(&self, inbox: Arc<TranscriptInbox>) {
        let _ = self.transcripts.set(inbox);
    }

    /// Sets whether capture is paused.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Records that the start is complete.
    pub fn set_opened(&self) {
        self.opened.store(true, Ordering::Release);
    }

    /// Sets the name of a stage that makes no progress; `None` if all stages do.
    pub fn set_stalled(&self, stage: Option<&'static str>) {
        *self.stalled.lock().expect("stalled lock") = stage;
    }

    /// Whether every source of the session delivers.
    pub fn sources_deliver(&self) -> bool {
        self.sources()
            .iter()
            .all(|(_, status)| status.state == SourceState::Delivering)
    }

    /// The status as one line, for systemd's `STATUS=`.
    pub fn line(&self) -> String {
        let sources = self.sources().into_iter().map(|(name, status)| {
            let state = format!("{:?}", status.state).to_lowercase();
            status.reason.map_or(format!("{name} {state}"), |reason| {
                format!("{name} {state} ({reason})")
            })
        });
        let total = self
            .metrics
            .latency("total")
            .map_or(0.0, |t| t.quantile_ms(0.99));
        format!(
            "{}; {} clients; p99 {total:.0} ms; provider {}",
            sources.collect::<Vec<_>>().join(", "),
            self.metrics.clients.get(),
            self.provider[1]
        )
    }

    /// Name (`video`, `audio`) and state of each source of the session.
    fn sources(&self) -> Vec<(&'static str, SourceStatus)> {
        let mut on = Vec::new();
        if self.streams.video {
            on.push(("video", self.health.video.status()));
        }
        if self.streams.audio {
            on.push(("audio", self.health.audio.status()));
        }
        on
    }

    /// Adds the counts of other modules to the metrics. Takes the inference queue's lock, which the
    /// thread "infer" needs, so it must not be called for every frame of a client.
    fn collect(&self) {
        let mut collected_counts = self.collected_counts.lock().expect("passed lock");
        let mut growth = |name: String, now: u64| {
            let before = collected_counts.insert(name, now).unwrap_or(0);
            now.saturating_sub(before)
        };
        let mut runs: HashMap<String, u64> = HashMap::new();
        for tally in self.runtime.tallies() {
            *runs.entry(tally.graph.clone()).or_default() += tally.total().count;
        }
        for (graph, count) in runs {
            let new = growth(format!("graph {graph}"), count);
            self.metrics.graph_ran(&graph, new);
        }
        if let Some((queue, refused)) = &*self.stages.lock().expect("stages lock") {
            let counters = queue.counters();
            for (cause, count) in [
                ("stamps_gone_back", &refused.align),
                ("speech_stamps_gone_back", &refused.speech),
            ] {
                let new = growth(cause.into(), count.load(Ordering::Relaxed));
                self.metrics.dropped(cause, new);
            }
            self.metrics.dropped(
                "superseded",
                growth("superseded".into(), counters.superseded),
            );
            self.metrics
                .dropped("past_deadline", growth("late".into(), counters.late));
        }
        self.metrics.dropped(
            "microphone_overrun",
            growth(
                "xruns".into(),
                self.health.audio.counters.xruns.load(Ordering::Relaxed),
            ),
        );
        self.metrics.dropped(
            "samples_silenced",
            growth(
                "silenced".into(),
                self.health.audio.counters.silenced.load(Ordering::Relaxed),
            ),
        );
        self.metrics.dropped(
            "pictures_too_late",
            growth(
                "too_late".into(),
                self.health.video.counters.too_late.load(Ordering::Relaxed),
            ),
        );
        let outliers = |gauge: &SourceGauge| gauge.counters.outliers.load(Ordering::Relaxed);
        self.metrics.dropped(
            "stamps_far_ahead",
            growth(
                "outliers".into(),
                outliers(&self.health.video) + outliers(&self.health.audio),
            ),
        );
        for (name, status) in self.sources() {
            self.metrics.source(name, status.state);
        }
    }
}

impl ServerState for DaemonState {
    fn hello(&self) -> HelloFacts {
        HelloFacts {
            session: self.session.clone(),
            bundle: self.bundle.clone(),
        }
    }

    fn status(&self) -> StatusEvent {
        self.collect();
        let mut counters = self.metrics.counters();
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        counters.insert(
            "frames".into(),
            read(&self.health.video.counters.delivered).into(),
        );
        counters.insert(
            "samples".into(),
            read(&self.health.audio.counters.samples).into(),
        );
        counters.insert(
            "stamps_assumed".into(),
            read(&self.health.video.counters.assumed_stamps).into(),
        );
        counters.insert(
            "reconnects".into(),
            (read(&self.health.video.counters.reconnects)
                + read(&self.health.audio.counters.reconnects))
            .into(),
        );
        counters.insert(
            "provider".into(),
            json!({"asked": self.provider[0], "used": self.provider[1]}),
        );
        StatusEvent {
            sources: self.health.sources(),
            degraded: "none",
            paused: self.paused.load(Ordering::Acquire),
            counters,
        }
    }

    fn readiness(&self) -> Readiness {
        let mut checks = vec![
            Check {
                name: "opened",
                reason: (!self.opened.load(Ordering::Acquire))
                    .then(|| "still opening the sources".into()),
            },
            Check {
                name: "stages",
                reason: self
                    .stalled
                    .lock()
                    .expect("stalled lock")
                    .map(|stage| format!("stage {stage} makes no progress")),
            },
        ];
        for (name, status) in self.sources() {
            let reason = (status.state != SourceState::Delivering).then(|| match status.reason {
                Some(reason) => reason,
                None => format!("{:?}", status.state).to_lowercase(),
            });
            checks.push(Check { name, reason });
        }
        Readiness { checks }
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn collected(&self) -> &Metrics {
        self.collect();
        &self.metrics
    }

    fn submit_transcript(&self, client: u64, request: TranscriptRequest) -> Result<(), Refusal> {
        match self.transcripts.get() {
            Some(inbox) => inbox.submit(client, request, self.clock.now()),
            None => Err(ClientTranscripts::closed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assembly::open_bundle;
    use super::*;

    #[test]
    fn pages_and_status_include_counts_of_other_modules_once_and_plain_metrics_none() {
        let (config, runtime) = (Config::default(), Runtime::load().unwrap());
        let bundle = open_bundle(&config, &runtime).unwrap();
        let (health, streams) = (
            Arc::new(SourceHealth::default()),
            Streams {
                video: true,
                audio: true,
            },
        );
        let server_state = DaemonState::new(
            &config,
            &bundle,
            streams,
            Arc::new(SystemClock::new()),
            health.clone(),
            Arc::default(),
            runtime,
        );
        health.audio.counters.xruns.store(3, Ordering::Relaxed);
        assert_eq!(
            server_state
                .metrics()
                .counters()
                .get("dropped_microphone_overrun"),
            None
        );
        for _ in 0..2 {
            assert_eq!(
                server_state
                    .collected()
                    .counters()
                    .get("dropped_microphone_overrun"),
                Some(&json!(3))
            );
        }
        assert_eq!(
            server_state
                .status()
                .counters
                .get("dropped_microphone_overrun"),
            Some(&json!(3))
        );
    }
}
