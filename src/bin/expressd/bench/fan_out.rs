//! Measures the fan-out of events to many clients: the daemon's server, compared with a bare TCP
//! writer of the same bytes to the same readers.
//!
//! Three setups are measured in alternating blocks, so that disturbances affect all of them: the
//! server; a bare writer (a loop of `write_all` over std sockets); the server with an additional
//! client that never reads. A round lasts from the publication of an event until the last reader
//! has received it completely. All readers run on one thread.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncReadExt;

use expressd::event::{Event, Form};
use expressd::hub::Ring;
use expressd::serve::{ServeSettings, Server, start};
use expressd::testing::server::{BareState, connect, sample_expression, whole_frame};
use expressd::time::monotonic_nanos;

/// Durations of rounds in milliseconds, and the number of rounds. A round lasts from the
/// publication of an event until the last reader has received it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RoundTimes {
    /// Number of measured rounds.
    pub rounds: usize,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Longest round.
    pub max_ms: f64,
}

/// Results of the fan-out measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FanOutReport {
    /// Number of readers in each setup.
    pub clients: usize,
    /// Rate of the events, in events per second for each client.
    pub hz: f64,
    /// Length of one event as a WebSocket frame, in bytes.
    pub frame_bytes: usize,
    /// The daemon's server.
    pub server: RoundTimes,
    /// The bare writer, a loop of `write_all` over plain sockets.
    pub bare: RoundTimes,
    /// The daemon's server with an additional client that never reads.
    pub stalled: RoundTimes,
    /// `server.p99_ms / bare.p99_ms`.
    pub p99_ratio: f64,
    /// `stalled.p99_ms / server.p99_ms`.
    pub stalled_p99_ratio: f64,
    /// Growth of the process's resident memory during all rounds, in bytes.
    pub rss_growth_bytes: i64,
}

/// Number of consecutive rounds with one setup, before the next setup follows.
const BLOCK: usize = 15;
/// Number of events that fill the kernel's buffers for a client that never reads (its receive
/// buffer and the server's send buffer, about 300 KB).
const FILLING_EVENTS: usize = 1000;
/// Time after which a round fails.
const ROUND_TIMEOUT: Duration = Duration::from_secs(5);

/// Measures each of the three setups with `clients` readers at `hz` events per second, for about
/// `seconds` seconds.
///
/// # Errors
/// An argument is not greater than 0, or a reader does not receive an event.
pub fn fan_out(clients: usize, hz: f64, seconds: f64) -> io::Result<FanOutReport> {
    if clients == 0 || !(hz > 0.0 && seconds > 0.0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "fan-out needs at least one client, a rate and a duration above 0",
        ));
    }
    let mut server = ServerFanOut::new(clients, false)?;
    let mut bare = BareFanOut::new(clients)?;
    let mut stalled = ServerFanOut::new(clients, true)?;
    let blocks = ((hz * seconds / BLOCK as f64).ceil() as usize).max(2);
    let period = Duration::from_secs_f64(1.0 / hz);
    let mut times: [Vec<f64>; 3] = Default::default();
    let mut number = 0;
    let mut rss_before = 0;
    for block in 0..=blocks {
        // The first block is a warm-up and does not count.
        if block == 1 {
            times.iter_mut().for_each(Vec::clear);
            rss_before = resident_bytes();
        }
        for (turn, times) in times.iter_mut().enumerate() {
            for _ in 0..BLOCK {
                std::thread::sleep(period);
                let event = sample_expression(number);
                number += 1;
                times.push(match turn {
                    0 => server.round(event)?,
                    1 => bare.round(&event)?,
                    _ => stalled.round(event)?,
                });
            }
        }
    }
    let rss_growth_bytes = resident_bytes() - rss_before;
    let [server_times, bare_times, stalled_times] = times.map(|times| round_times(&times));
    server.end();
    bare.end();
    stalled.end();
    Ok(FanOutReport {
        clients,
        hz,
        frame_bytes: framed(&sample_expression(number), number as u64).len(),
        server: server_times,
        bare: bare_times,
        stalled: stalled_times,
        p99_ratio: server_times.p99_ms / bare_times.p99_ms,
        stalled_p99_ratio: stalled_times.p99_ms / server_times.p99_ms,
        rss_growth_bytes,
    })
}

/// Percentiles of durations in milliseconds.
fn round_times(times: &[f64]) -> RoundTimes {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
    };
    RoundTimes {
        rounds: sorted.len(),
        p50_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        max_ms: at(1.0),
    }
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<i64>()
        .unwrap_or(0)
        * 1024
}

/// Counts the readers that have received the current event, and wakes the publisher after the last
/// one.
struct RoundProgress {
    /// Number of readers that have not received the event.
    left: AtomicUsize,
    /// When the last reader received it, in nanoseconds of the monotonic clock; 0: not yet.
    finished_nanos: AtomicI64,
    /// The publisher's thread.
    waiting: Thread,
}

impl RoundProgress {
    fn new() -> Arc<Self> {
        Arc::new(RoundProgress {
            left: AtomicUsize::new(0),
            finished_nanos: AtomicI64::new(0),
            waiting: std::thread::current(),
        })
    }
    /// Records that one reader has received the event.
    fn frame_read(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finished_nanos
                .store(monotonic_nanos(), Ordering::Release);
            self.waiting.unpark();
        }
    }
    /// Waits for the last reader; returns the milliseconds since `started_nanos`. Fails after
    /// [`ROUND_TIMEOUT`].
    fn wait(&self, started_nanos: i64) -> io::Result<f64> {
        let deadline = started_nanos + ROUND_TIMEOUT.as_nanos() as i64;
        loop {
            let finished = self.finished_nanos.swap(0, Ordering::AcqRel);
            if finished != 0 {
                return Ok((finished - started_nanos) as f64 * 1e-6);
            }
            if monotonic_nanos() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "{} readers did not get an event",
                        self.left.load(Ordering::Acquire)
                    ),
                ));
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

/// Starts one thread that reads all sockets, as a proxy does, and counts the received text frames
/// in `progress`.
fn spawn_readers(
    sockets: Vec<TcpStream>,
    progress: Arc<RoundProgress>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    std::thread::Builder::new()
        .name("readers".into())
        .spawn(move || {
            runtime.block_on(async {
                let mut tasks = Vec::new();
                for socket in sockets {
                    socket.set_nonblocking(true).expect("a socket");
                    let mut socket =
                        tokio::net::TcpStream::from_std(socket).expect("inside the runtime");
                    let progress = progress.clone();
                    tasks.push(tokio::spawn(async move {
                        let mut buffer = vec![0; 16 << 10];
                        let mut filled = 0;
                        while let Ok(bytes @ 1..) = socket.read(&mut buffer[filled..]).await {
                            filled += bytes;
                            while let Some((length, is_text)) = whole_frame(&buffer[..filled]) {
                                if is_text {
                                    progress.frame_read();
                                }
                                buffer.copy_within(length..filled, 0);
                                filled -= length;
                            }
                        }
                    }));
                }
                for task in tasks {
                    let _ = task.await;
                }
            });
        })
}

/// The bytes of the event as an unmasked WebSocket text frame.
fn framed(event: &Event, seq: u64) -> Vec<u8> {
    let text = event.to_json(seq, Form::Live);
    let mut bytes = vec![0x81];
    match text.len() {
        length @ 0..126 => bytes.push(length as u8),
        length => {
            bytes.push(126);
            bytes.extend(
                u16::try_from(length)
                    .expect("a sample event is small")
                    .to_be_bytes(),
            );
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// The setup with the daemon's server.
struct ServerFanOut {
    ring: Arc<Ring>,
    server: Server,
    progress: Arc<RoundProgress>,
    readers: JoinHandle<()>,
    clients: usize,
    /// A client that never reads; `None` in the setup without one.
    stalled: Option<TcpStream>,
}

impl ServerFanOut {
    /// Starts a server and connects `clients` readers; `with_stalled` adds a client that never
    /// reads.
    fn new(clients: usize, with_stalled: bool) -> io::Result<Self> {
        let hour = Duration::from_secs(3600);
        let settings = ServeSettings {
            listen: vec![([127, 0, 0, 1], 0).into()],
            max_clients: clients + 1,
            // The readers send no pong, and the stalled client must not be closed.
            ping_every: hour,
            pong_within: hour,
            stalled_for: hour,
            ..ServeSettings::default()
        };
        let ring = Arc::new(Ring::default());
        let server = start(settings, ring.clone(), Arc::new(BareState::default()))
            .map_err(io::Error::other)?;
        let stalled = with_stalled.then(|| connect(server.addr())).transpose()?;
        let sockets = (0..clients)
            .map(|_| connect(server.addr()))
            .collect::<io::Result<Vec<_>>>()?;
        let progress = RoundProgress::new();
        let readers = spawn_readers(sockets, progress.clone())?;
        let mut server_side = ServerFanOut {
            ring,
            server,
            progress,
            readers,
            clients,
            stalled,
        };
        if with_stalled {
            // These events fill the kernel's buffers (the reader's side alone may be 6 MB), so that
            // the client is stalled from the first measured round on.
            for number in 0..FILLING_EVENTS {
                server_side.round(sample_expression(number))?;
            }
        }
        Ok(server_side)
    }

    /// Publishes the event; returns the milliseconds until the last reader has it.
    fn round(&mut self, event: Event) -> io::Result<f64> {
        self.progress.left.store(self.clients, Ordering::Release);
        let started_nanos = monotonic_nanos();
        self.ring.publish(event);
        self.progress.wait(started_nanos)
    }

    /// Stops the server and the readers.
    fn end(self) {
        drop(self.stalled);
        self.server.stop();
        let _ = self.readers.join();
    }
}

/// The setup with a loop of `write_all` over plain sockets.
struct BareFanOut {
    sockets: Vec<TcpStream>,
    progress: Arc<RoundProgress>,
    readers: JoinHandle<()>,
    seq: u64,
}

impl BareFanOut {
    /// Connects `clients` readers to plain sockets.
    fn new(clients: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let addr = listener.local_addr()?;
        let (mut sockets, mut reading) = (Vec::new(), Vec::new());
        for _ in 0..clients {
            reading.push(TcpStream::connect(addr)?);
            let socket = listener.accept()?.0;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        let progress = RoundProgress::new();
        let readers = spawn_readers(reading, progress.clone())?;
        Ok(BareFanOut {
            sockets,
            progress,
            readers,
            seq: 0,
        })
    }

    /// Writes the event to every socket; returns the milliseconds until the last reader has it.
    fn round(&mut self, event: &Event) -> io::Result<f64> {
        self.progress
            .left
            .store(self.sockets.len(), Ordering::Release);
        self.seq += 1;
        // The serialisation is not part of the measured time of the bare writer.
        let bytes = framed(event, self.seq);
        let started_nanos = monotonic_nanos();
        for socket in &mut self.sockets {
            socket.write_all(&bytes)?;
        }
        self.progress.wait(started_nanos)
    }

    /// Closes the sockets and ends the readers.
    fn end(self) {
        drop(self.sockets);
        let _ = self.readers.join();
    }
}
