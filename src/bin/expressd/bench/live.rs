//! Measures the pipeline at live pace: latencies at a client, losses and CPU time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::fan_out::resident_bytes;
use super::listener::Listener;
use super::parts::ThreadCpuTimes;
use super::tile::tile;
use expressd::capture::{Outputs, Pace, Recording, SourceHealth, decoder_cpu_nanos};
use expressd::config::Config;
use expressd::daemon::{
    DaemonError, DaemonState, assemble, open_bundle, serve_settings, track_choice,
};
use expressd::encode::Runtime;
use expressd::event::{Event, Latency};
use expressd::hub::Ring;
use expressd::lane::{LaneSender, Received, WhenFull, lane};
use expressd::notify::Progress;
use expressd::runtime::{Emit, Losses, Pipeline};
use expressd::serve::{self, Metrics, ServeSettings};
use expressd::session::{Streams, Tempo};
use expressd::time::{Clock, MediaTime, SystemClock, process_cpu_nanos};

/// The result of one live measurement.
#[derive(Debug, Serialize)]
pub struct LiveReport {
    /// Number of copies of the recording in the picture.
    pub subjects: usize,
    /// Duration of the measurement.
    pub seconds: f64,
    /// Number of video frames that were played.
    pub frames: u64,
    /// Number of `expression` events.
    pub events: u64,
    /// Rate of `expression` events for each subject, in events per second.
    pub events_per_subject_and_second: f64,
    /// Time from the capture of the newest evidence (face, sound or word) to the output of the
    /// aligner.
    pub capture_ms: Percentiles,
    /// Time from the output of the aligner to the start of encoding.
    pub queue_ms: Percentiles,
    /// Time from the start of encoding to the recognition.
    pub encode_ms: Percentiles,
    /// Time from the capture of the newest evidence to the event in the ring.
    pub total_ms: Percentiles,
    /// Time from the capture of the newest evidence until a client on loopback has read the event.
    pub to_socket_ms: Percentiles,
    /// Frames and audio blocks that a full lane after the source dropped.
    pub lost_frames: u64,
    /// Clips that a newer clip of the same subject replaced.
    pub superseded: u64,
    /// Clips that were dropped because their deadline had passed.
    pub late: u64,
    /// CPU time of this process (with the client) and its decoder processes, in per cent of one
    /// core.
    pub cpu_percent: f64,
    /// (Part of the program, CPU time in per cent of one core), highest first.
    pub cpu_percent_by_part: Vec<(String, f64)>,
    /// Resident memory of the process, in MiB.
    pub rss_mib: f64,
}

/// Percentiles of a duration, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Percentiles {
    /// Percentiles of values in milliseconds; negative values count as 0.
    fn from_values(values_ms: impl Iterator<Item = f64>) -> Percentiles {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits");
        values_ms.for_each(|v| {
            histogram
                .record((v.max(0.0) * 1000.0) as u64)
                .expect("it grows")
        });
        let at = |q| histogram.value_at_quantile(q) as f64 / 1000.0;
        Percentiles {
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
        }
    }
}

/// Time before the measurement starts. It contains the first runs of the graphs and the first
/// detections, which are slower.
const WARM_UP: Duration = Duration::from_secs(3);

/// Data of the `expression` events during the measurement.
#[derive(Default)]
struct Measurements {
    latencies: Vec<Latency>,
    /// Capture time of the newest face, sound or word of each event, by the event's `seq`.
    newest: BTreeMap<u64, MediaTime>,
}

/// Plays `file` in a loop at live pace for `seconds` seconds, with `subjects` copies of its
/// picture, and measures the pipeline.
pub fn measure(
    config: &Config,
    file: &Path,
    subjects: usize,
    seconds: u64,
) -> Result<LiveReport, DaemonError> {
    let runtime = Runtime::load()?;
    let recording = Recording::open_with(file, track_choice(config)?)?;
    let streams = Streams {
        video: recording.has_video(),
        audio: recording.has_audio(),
    };
    let bundle = open_bundle(config, &runtime)?;
    let (clock, health) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
    );
    let (ring, metrics) = (Arc::new(Ring::default()), Arc::new(Metrics::new()));
    let server_state = Arc::new(DaemonState::new(
        config,
        &bundle,
        streams,
        clock.clone(),
        health.clone(),
        metrics,
        runtime.clone(),
    ));
    let mut assembly = assemble(config, &runtime, bundle, streams, Tempo::Live)?;
    let server = serve::start(
        ServeSettings {
            listen: vec![([127, 0, 0, 1], 0).into()],
            ..serve_settings(config)
        },
        ring.clone(),
        server_state,
    )?;
    let listener = Listener::connect(server.addr(), clock.clone());
    let (measured, recording_now) = (
        Arc::new(Mutex::new(Measurements::default())),
        Arc::new(AtomicBool::new(false)),
    );
    let emit = publish_and_measure(ring.clone(), measured.clone(), recording_now.clone());
    let mut progress = Progress::new(Duration::MAX, clock.now());
    let Outputs { frames, audio } = std::mem::take(&mut assembly.lanes.outputs);
    let captured = [
        frames.as_ref().map(LaneSender::counters),
        audio.as_ref().map(LaneSender::counters),
    ];
    let lane_losses: Vec<_> = captured.into_iter().flatten().collect();
    let pipeline = Pipeline::spawn(
        assembly,
        Tempo::Live,
        clock.clone(),
        Losses::never_lost(),
        &mut progress,
        emit,
    );
    let queue = pipeline.queue();
    let stop = Arc::new(AtomicBool::new(false));
    let frame_count = Arc::new(AtomicU64::new(0));
    let (frames, tiling) = tiled(frames, subjects, &frame_count);
    let playing = {
        let (pace, health, stop) = (
            Pace::Live {
                clock: clock.clone(),
                looped: true,
            },
            health.clone(),
            stop.clone(),
        );
        let work = move || recording.play(pace, Outputs { frames, audio }, health, stop);
        std::thread::Builder::new()
            .name("recording".into())
            .spawn(work)
            .expect("the system gives threads")
    };
    std::thread::sleep(WARM_UP);
    let losses = || {
        lane_losses
            .iter()
            .map(|l| l.lost.load(Ordering::Relaxed))
            .sum::<u64>()
    };
    let (cpu, from, lost, frames_before) = (
        process_cpu_nanos() + decoder_cpu_nanos(),
        clock.now(),
        losses(),
        frame_count.load(Ordering::Relaxed),
    );
    let before = queue.counters();
    let threads = ThreadCpuTimes::now();
    recording_now.store(true, Ordering::Release);
    std::thread::sleep(Duration::from_secs(seconds));
    recording_now.store(false, Ordering::Release);
    let elapsed = clock.now().nanos_since(from) as f64 * 1e-9;
    let cpu_spent = process_cpu_nanos() + decoder_cpu_nanos() - cpu;
    let cpu_percent = cpu_spent as f64 * 1e-9 / elapsed * 100.0;
    let cpu_percent_by_part = ThreadCpuTimes::now().since(&threads, elapsed);
    let (lost_frames, frames) = (
        losses() - lost,
        frame_count.load(Ordering::Relaxed) - frames_before,
    );
    let after = queue.counters();
    let rss_mib = resident_bytes() as f64 / f64::from(1 << 20);
    stop.store(true, Ordering::Release);
    let _ = playing.join();
    if let Some(tiling) = tiling {
        let _ = tiling.join();
    }
    let failure = pipeline.join();
    let arrivals = listener.finish();
    server.stop();
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    let measured = measured.lock().expect("measurements lock");
    let of =
        |pick: fn(&Latency) -> f64| Percentiles::from_values(measured.latencies.iter().map(pick));
    let events = measured.latencies.len() as u64;
    Ok(LiveReport {
        subjects,
        seconds: elapsed,
        frames,
        events,
        events_per_subject_and_second: events as f64 / subjects as f64 / elapsed,
        capture_ms: of(|l| l.capture),
        queue_ms: of(|l| l.queue),
        encode_ms: of(|l| l.encode),
        total_ms: of(|l| l.total),
        to_socket_ms: Percentiles::from_values(
            arrivals
                .iter()
                .filter_map(|(seq, at)| Some(at.millis_since(*measured.newest.get(seq)?))),
        ),
        lost_frames,
        superseded: after.superseded - before.superseded,
        late: after.late - before.late,
        cpu_percent,
        cpu_percent_by_part,
        rss_mib,
    })
}

/// Returns the pipeline's output function, which publishes each event in the ring and records its
/// latency while `recording_now` is true.
fn publish_and_measure(
    ring: Arc<Ring>,
    measured: Arc<Mutex<Measurements>>,
    recording_now: Arc<AtomicBool>,
) -> Emit {
    Box::new(move |event, clip| {
        let event = Arc::new(event);
        let seq = ring.publish(event.clone());
        if let (Event::Expression(expression), Some((clip, _)), true) =
            (&*event, clip, recording_now.load(Ordering::Acquire))
        {
            let mut measured = measured.lock().expect("measurements lock");
            measured.latencies.extend(expression.latency_ms);
            measured
                .newest
                .extend(clip.newest().map(|newest| (seq, newest)));
        }
    })
}

/// Starts a thread between the recording and the pipeline that tiles each frame with `copies` of
/// its picture and counts the frames. Returns (lane for the recording's frames, thread); both are
/// `None` without video.
fn tiled(
    frames: Option<LaneSender<expressd::clip::VideoFrame>>,
    copies: usize,
    count: &Arc<AtomicU64>,
) -> (
    Option<LaneSender<expressd::clip::VideoFrame>>,
    Option<std::thread::JoinHandle<()>>,
) {
    let Some(out) = frames else {
        return (None, None);
    };
    let (sender, receiver) = lane("untiled", 4, WhenFull::DropOldest);
    let count = count.clone();
    let work = move || {
        loop {
            match receiver.recv(None) {
                Received::Item(frame) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    if out.send(tile(&frame, copies)).is_err() {
                        return;
                    }
                }
                Received::Ended | Received::TimedOut => return,
            }
        }
    };
    (
        Some(sender),
        Some(
            std::thread::Builder::new()
                .name("tile".into())
                .spawn(work)
                .expect("the system gives threads"),
        ),
    )
}
