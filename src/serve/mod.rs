//! The HTTP server: the WebSocket for events, health checks and metrics on one port. It owns the
//! daemon's tokio runtime.
//!
//! Each client is one task that owns its socket and its position in the ring (a
//! [`Cursor`](crate::hub::Cursor)). Each publication calls one hook. The hook wakes one task, which
//! wakes the clients, so publishing takes the same time with one client as with 256. For a client
//! that does not read, the socket's buffer holds one frame and the cursor counts the missed events;
//! other clients are not affected.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

use crate::event::{BundleFacts, Refusal, StatusEvent, TranscriptRequest};
use crate::hub::Ring;
use crate::hub::ring::PublishHook;
use crate::time::Clock;

mod accept;
mod client;
mod client_slots;
mod ending;
mod exposition;
mod framing;
mod host;
mod http;
mod identity;
mod listen;
pub mod metrics;
mod origin;
mod page;
mod upgrade;
mod wire;

use accept::Connections;
use client_slots::ClientSlots;
pub use exposition::Exposition;
pub use metrics::Metrics;

/// The daemon's state, which the server reads. The methods are called on the server's threads and
/// must not wait.
pub trait ServerState: Send + Sync + 'static {
    /// The daemon's part of the frame `hello`.
    fn hello(&self) -> HelloFacts;
    /// A `status` event with the current state.
    fn status(&self) -> StatusEvent;
    /// The result of the checks for `/readyz`.
    fn readiness(&self) -> Readiness;
    /// The clock of media time.
    fn clock(&self) -> &dyn Clock;
    /// The metrics, to update them. Called for every frame of every client, so it must not take a
    /// lock.
    fn metrics(&self) -> &Metrics;
    /// The metrics, to read them for a page. First copies the counts of other modules into them,
    /// under the modules' locks.
    fn collected(&self) -> &Metrics;
    /// Submits a transcript that client number `client` sent. If it is accepted, the client's
    /// answer is the `speech` event.
    ///
    /// # Errors
    /// The refusal to send to the client.
    fn submit_transcript(&self, client: u64, request: TranscriptRequest) -> Result<(), Refusal>;
}

/// The daemon's part of the frame `hello`.
#[derive(Clone, Debug, Default)]
pub struct HelloFacts {
    /// UUID of the current run of the daemon.
    pub session: String,
    pub bundle: BundleFacts,
}

/// The results of the checks for `/readyz`: start-up, stages and sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub checks: Vec<Check>,
}

/// One check of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The check's name in the JSON of `/readyz`: `opened`, `stages`, `video` or `audio`.
    pub name: &'static str,
    /// Why the check fails; `None` if it passes.
    pub reason: Option<String>,
}

impl Readiness {
    /// Whether every check passes.
    pub fn ready(&self) -> bool {
        self.checks.iter().all(|check| check.reason.is_none())
    }
}

/// Settings of the server. The defaults are the limits of `src/event/protocol.md`; tests use
/// smaller ones.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeSettings {
    /// Addresses to listen on, at least one. All use the port of the first; if it is 0, a free port
    /// is chosen.
    pub listen: Vec<SocketAddr>,
    /// Permitted values of the header `Host` without a port, in addition to loopback names.
    pub hosts: Vec<String>,
    /// Permitted values of the header `Origin`, such as `https://lab.example.org`, in addition to
    /// loopback origins.
    pub allow_origins: Vec<String>,
    /// Largest number of connected clients.
    pub max_clients: usize,
    /// Largest size of a client's message, in bytes.
    pub max_client_frame_bytes: usize,
    /// Largest number of JSON messages of a client per second.
    /// [`ServeSettings::max_wire_frames_per_s`] limits WebSocket frames.
    pub max_client_frames_per_s: usize,
    /// Largest number of WebSocket frames of a client per second, control frames and fragments
    /// included.
    pub max_wire_frames_per_s: usize,
    /// Largest number of bytes of WebSocket frames of a client per second, headers included.
    pub max_wire_bytes_per_s: usize,
    /// Largest number of events that may wait for a client; beyond it the oldest are dropped.
    pub unsent_events: usize,
    /// A client whose socket accepts nothing for this time, although events wait, is closed.
    pub stalled_for: Duration,
    /// Time between two WebSocket pings to a client.
    pub ping_every: Duration,
    /// A client that sends no pong for this time is closed.
    pub pong_within: Duration,
    /// How long the closing of a connection may take.
    pub close_within: Duration,
    /// An HTTP connection without a new request for this time is closed. The time includes the
    /// client's reading of an answer.
    pub request_within: Duration,
    /// Size of the kernel's send buffer of each client, in bytes, which a stalled client fills. The
    /// kernel doubles the value.
    pub send_buffer_bytes: u32,
    /// Number of the server's threads.
    pub workers: usize,
}

impl Default for ServeSettings {
    fn default() -> Self {
        ServeSettings {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8765))],
            hosts: Vec::new(),
            allow_origins: Vec::new(),
            max_clients: 256,
            max_client_frame_bytes: 16 << 10,
            max_client_frames_per_s: 20,
            max_wire_frames_per_s: 100,
            max_wire_bytes_per_s: 64 << 10,
            unsent_events: 64,
            stalled_for: Duration::from_secs(10),
            ping_every: Duration::from_secs(10),
            pong_within: Duration::from_secs(30),
            close_within: Duration::from_secs(2),
            request_within: Duration::from_secs(10),
            send_buffer_bytes: 64 << 10,
            workers: 1,
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{0} is not a loopback address, and this version has no access tokens yet: listen on \
         127.0.0.1 or [::1], and use `ssh -L` for remote access"
    )]
    NotLoopback(SocketAddr),
    #[error(
        "{0} is taken by another program: stop it, or choose another port with --listen (port 0 \
         takes any free one)"
    )]
    PortTaken(SocketAddr),
    #[error("cannot listen on {0}: check [serve] listen")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("cannot start the socket's threads: check the process and file limits (ulimit -u, -n)")]
    Threads(#[source] io::Error),
}

/// The server's state that all connections share.
struct Shared {
    settings: ServeSettings,
    /// Addresses that this server listens on.
    addresses: Vec<SocketAddr>,
    ring: Arc<Ring>,
    server_state: Arc<dyn ServerState>,
    /// Changes with every publication, and a last time when the server stops.
    tick: watch::Receiver<Tick>,
    slots: Arc<ClientSlots>,
}

/// What wakes the tasks of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tick {
    /// Events were published.
    Serving,
    /// The server stops.
    Stopping,
}

/// A running server. Dropping it closes all connections without WebSocket Close frames.
pub struct Server {
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    tick: Arc<watch::Sender<Tick>>,
    heartbeats: Arc<AtomicU64>,
    _hook: Arc<PublishHook>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?})", self.shared.addresses)
    }
}

/// Interval at which the server's heartbeat counter grows.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long a stop waits for clients to close. They get close code 1001 (RFC 6455: going away).
const STOP_WITHIN: Duration = Duration::from_millis(1000);

/// Starts the server: binds the port on every address of `settings.listen`, and serves on threads
/// of its own.
///
/// # Errors
/// An address is not a loopback address or cannot be bound, or no thread can be started.
pub fn start(
    settings: ServeSettings,
    ring: Arc<Ring>,
    server_state: Arc<dyn ServerState>,
) -> Result<Server, ServeError> {
    if let Some(listen) = settings.listen.iter().find(|addr| !addr.ip().is_loopback()) {
        return Err(ServeError::NotLoopback(*listen));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.workers.max(1))
        .max_blocking_threads(1)
        .thread_name("serve")
        .enable_io()
        .enable_time()
        .build()
        .map_err(ServeError::Threads)?;
    let in_runtime = runtime.enter();
    let listeners = listen::bind(&settings)?;
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_addr())
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| ServeError::Listen(settings.listen[0], error))?;
    drop(in_runtime);

    let (tick, ticks) = watch::channel(Tick::Serving);
    let tick = Arc::new(tick);
    let published = Arc::new(Notify::new());
    let hook = ring.on_publish({
        let published = published.clone();
        move || published.notify_one()
    });
    let slots = ClientSlots::new(settings.max_clients);
    let shared = Arc::new(Shared {
        settings,
        addresses,
        ring,
        server_state,
        tick: ticks,
        slots,
    });
    // Wakes every client once for all publications since the last wake-up.
    runtime.spawn({
        let tick = tick.clone();
        async move {
            loop {
                published.notified().await;
                tick.send_if_modified(|tick| *tick == Tick::Serving);
            }
        }
    });
    let heartbeats = Arc::new(AtomicU64::new(0));
    runtime.spawn({
        let heartbeats = heartbeats.clone();
        async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                heartbeats.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let connections = Connections::new(shared.settings.max_clients, shared.server_state.clone());
    let router = http::router(shared.clone());
    for listener in listeners {
        runtime.spawn(accept::accept(
            listener,
            router.clone(),
            connections.clone(),
            shared.clone(),
        ));
    }
    Ok(Server {
        runtime: Some(runtime),
        shared,
        tick,
        heartbeats,
        _hook: hook,
    })
}

impl Server {
    /// The first address that the server listens on, with the actual port if port 0 was configured.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addresses[0]
    }

    /// All addresses that the server listens on. They have the same port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// A counter that grows four times a second while the server's threads make progress.
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Relaxed)
    }

    /// Closes all clients with close code 1001 and ends the server, within about a second.
    pub fn stop(mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        self.tick.send_replace(Tick::Stopping);
        let slots = self.shared.slots.clone();
        let _ =
            runtime.block_on(async { tokio::time::timeout(STOP_WITHIN, slots.all_closed()).await });
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
