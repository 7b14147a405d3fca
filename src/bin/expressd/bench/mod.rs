//! `expressd bench`: measures the figures in the tables of `tests/bench/README.md`.

mod fan_out;
mod listener;
mod live;
mod overhead;
mod parts;
mod tile;

use std::path::PathBuf;

use serde::Serialize;

use expressd::assets::locate;
use expressd::config::Config;
use expressd::daemon::{DEMONSTRATION, DaemonError};
use expressd::runtime::StageFailure;

use fan_out::{FanOutReport, fan_out};

/// Options of the benchmark.
#[derive(Clone, Debug)]
pub struct Options {
    /// The recording to measure with; `None`: the demonstration.
    pub replay: Option<PathBuf>,
    /// Number of copies of the recording in the picture; `None`: 1, 2, 4 and 8 in turn.
    pub subjects: Option<usize>,
    /// Number of clients in the fan-out measurement; 0 skips it.
    pub clients: usize,
    /// Duration of each live measurement, in seconds.
    pub seconds: u64,
    /// Print one JSON object instead of tables.
    pub json: bool,
}

/// All results of one benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    /// File name of the recording.
    pub recording: String,
    /// One report for each number of subjects.
    pub live: Vec<live::LiveReport>,
    /// Comparison of a replay with its graph runs and its decoding alone.
    pub overhead: overhead::OverheadReport,
    /// `None` if the measurement was skipped.
    pub fan_out: Option<FanOutReport>,
}

/// Rate of the fan-out measurement, in events per second for each client.
const FAN_OUT_HZ: f64 = 30.0;

/// Runs all measurements and prints their results.
pub fn run(config: &Config, options: &Options) -> Result<(), DaemonError> {
    let file = options
        .replay
        .clone()
        .unwrap_or_else(|| locate(DEMONSTRATION.as_ref()));
    let say = |what: &str| eprintln!("expressd bench: {what}");
    let counts = options
        .subjects
        .map_or_else(|| vec![1, 2, 4, 8], |n| vec![n.max(1)]);
    say("overhead: the whole replay, the bare graphs and the bare decode, three rounds");
    let overhead = overhead::measure(config, &file)?;
    let mut live = Vec::new();
    for subjects in counts {
        say(&format!(
            "live pace, {subjects} subject(s), {} s",
            options.seconds
        ));
        live.push(live::measure(config, &file, subjects, options.seconds)?);
    }
    let fan_out = if options.clients == 0 {
        None
    } else {
        say(&format!(
            "fan-out to {} clients at {FAN_OUT_HZ} events/s",
            options.clients
        ));
        Some(
            fan_out(options.clients, FAN_OUT_HZ, options.seconds.min(20) as f64)
                .map_err(|error| StageFailure::new("fan-out", error))?,
        )
    };
    let report = Report {
        recording: file
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
        live,
        overhead,
        fan_out,
    };
    if options.json {
        println!(
            "{}",
            serde_json::to_string(&report).expect("reports serialise")
        );
    } else {
        print(&report);
    }
    Ok(())
}

/// Prints the results as tables.
fn print(report: &Report) {
    println!("recording: {}", report.recording);
    println!("\nlive pace (milliseconds; CPU in % of one core)");
    println!(
        "{:>8} {:>8} {:>22} {:>22} {:>22} {:>22} {:>8} {:>8} {:>8}",
        "subjects",
        "events",
        "queue p50/95/99",
        "encode p50/95/99",
        "total p50/95/99",
        "to socket p50/95/99",
        "lost",
        "CPU",
        "MiB"
    );
    for live in &report.live {
        let of = |p: &live::Percentiles| format!("{:.1}/{:.1}/{:.1}", p.p50, p.p95, p.p99);
        println!(
            "{:>8} {:>8} {:>22} {:>22} {:>22} {:>22} {:>8} {:>8.0} {:>8.0}",
            live.subjects,
            live.events,
            of(&live.queue_ms),
            of(&live.encode_ms),
            of(&live.total_ms),
            of(&live.to_socket_ms),
            live.lost_frames + live.superseded + live.late,
            live.cpu_percent,
            live.rss_mib
        );
    }
    if let Some(live) = report.live.first() {
        let parts: Vec<_> = live
            .cpu_percent_by_part
            .iter()
            .filter(|(_, percent)| *percent >= 0.05)
            .map(|(part, percent)| format!("{part} {percent:.1}"))
            .collect();
        println!(
            "CPU of {} subject{} by part, in % of one core: {}",
            live.subjects,
            if live.subjects == 1 { "" } else { "s" },
            parts.join(", ")
        );
    }
    let o = &report.overhead;
    println!(
        "\nfull speed: {:.2} s for {:.2} s of recording ({} frames), CPU {:.2} s",
        o.wall_s, o.recording_s, o.frames, o.cpu_s
    );
    println!(
        "  bare graphs {:.2} s (CPU {:.2} s), bare decode {:.2} s (CPU {:.2} s)",
        o.graphs_wall_s, o.graphs_cpu_s, o.decode_wall_s, o.decode_cpu_s
    );
    println!(
        "  overhead: wall {:.2} times, CPU {:.2} times the bare sum",
        o.wall_ratio, o.cpu_ratio
    );
    for graph in &o.graphs {
        println!(
            "  {:<10} {:>7} runs, {:>6.2} a frame, {:>8.1} ms in all",
            graph.graph, graph.runs, graph.runs_per_frame, graph.millis
        );
    }
    if let Some(fan_out) = &report.fan_out {
        println!(
            "\nfan-out: {}",
            serde_json::to_string(fan_out).expect("reports serialise")
        );
    }
}
