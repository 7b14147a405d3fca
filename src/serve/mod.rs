//! One port: the event socket, health, metrics. The daemon's tokio runtime is here.
//!
//! Every client is one task that owns its socket, its position in the ring (a
//! [`Cursor`](crate::hub::Cursor)) and nothing else. One hook is called for each publication; one
//! task sees it and wakes the clients, so the publisher pays the same for one client as for 256. A
//! client that does not read stands still with one frame in its socket's buffer; what it misses is
//! counted in its cursor, and the others do not notice.

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
pub mod bench;
mod client;
mod ending;
mod exposition;
mod framing;
mod host;
mod http;
mod listen;
pub mod metrics;
mod origin;
mod places;
mod upgrade;
mod wire;

use accept::Connections;
pub use exposition::Exposition;
pub use metrics::Metrics;
use places::Places;

/// What the server asks of the daemon. Called on the socket's threads: must not wait.
pub trait ServerState: Send + Sync + 'static {
    fn hello(&self) -> HelloFacts;
    fn status(&self) -> StatusEvent;
    fn readiness(&self) -> Readiness;
    fn clock(&self) -> &dyn Clock;
    /// The counters, to add to. Asked for at every frame of every client: takes no lock, least of all one that a stage may hold.
    fn metrics(&self) -> &Metrics;
    /// The counters, to read: first what others count for themselves is passed on to them, under the others' locks. For the pages.
    fn collected(&self) -> &Metrics;
    /// Takes the words that client number `client` of this server tells; the `speech` event is the answer.
    fn hear(&self, client: u64, telling: TranscriptRequest) -> Result<(), Refusal>;
}

/// What `hello` says of the daemon.
#[derive(Clone, Debug, Default)]
pub struct HelloFacts {
    /// UUID of this run.
    pub session: String,
    pub bundle: BundleFacts,
}

/// Is everything fit for work? One check for each source and stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `bundle`, `video`, `audio`, `scheduler`, …
    pub name: &'static str,
    /// Why it is not ready; `None` if it is.
    pub reason: Option<String>,
}

impl Readiness {
    pub fn ready(&self) -> bool {
        self.checks.iter().all(|check| check.reason.is_none())
    }
}

/// `src/event/protocol.md`'s limits, all of them, so that tests can make them short.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeSettings {
    /// At least one. With port 0 in the first, all take the free port that it gets.
    pub listen: Vec<SocketAddr>,
    /// Names of this machine beside loopback ones, as `Host` has them, without a port.
    pub hosts: Vec<String>,
    /// Origins beside loopback, as browsers send them: `https://lab.example.org`.
    pub allow_origins: Vec<String>,
    pub max_clients: usize,
    pub max_client_frame_bytes: usize,
    /// JSON messages; [`ServeSettings::max_wire_frames_per_s`] bounds what they are made of.
    pub max_client_frames_per_s: usize,
    /// WebSocket frames of any kind, control frames and fragments among them.
    pub max_wire_frames_per_s: usize,
    /// Bytes of WebSocket frames, headers among them.
    pub max_wire_bytes_per_s: usize,
    pub unsent_events: usize,
    /// How long a client with something to get may take nothing.
    pub stalled_for: Duration,
    pub ping_every: Duration,
    pub pong_within: Duration,
    /// How long a closing connection may take to say goodbye.
    pub goodbye: Duration,
    /// How long a connection may be open without a request: until its first one, and from one to the next. Reading an answer is in it.
    pub request_within: Duration,
    /// The kernel's send buffer for each client, which it doubles: what a stalled client costs there.
    pub send_buffer_bytes: u32,
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
            goodbye: Duration::from_secs(2),
            request_within: Duration::from_secs(10),
            send_buffer_bytes: 64 << 10,
            workers: 1,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{0} is not a loopback address, and this version has no access tokens yet: listen on 127.0.0.1 or [::1], and reach it from afar by `ssh -L`"
    )]
    NotLoopback(SocketAddr),
    #[error(
        "{0} is taken by another program: stop it, or choose another port with --listen (port 0 takes any free one)"
    )]
    PortTaken(SocketAddr),
    #[error("cannot listen on {0}: check [serve] listen")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("cannot start the socket's threads: check the process and file limits (ulimit -u, -n)")]
    Threads(#[source] io::Error),
}

/// What all connections share.
struct Shared {
    settings: ServeSettings,
    /// Where this server listens.
    addresses: Vec<SocketAddr>,
    ring: Arc<Ring>,
    server_state: Arc<dyn ServerState>,
    /// Changes with every publication, and for good when the server stops.
    tick: watch::Receiver<Tick>,
    places: Arc<Places>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tick {
    Serving,
    Stopping,
}

/// A running server; dropping it stops it without goodbyes.
pub struct Server {
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    tick: Arc<watch::Sender<Tick>>,
    beats: Arc<AtomicU64>,
    _hook: Arc<PublishHook>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?})", self.shared.addresses)
    }
}

/// How often the runtime shows that it lives.
const BEAT: Duration = Duration::from_millis(250);
/// Clients get 1001 and this long to hear it.
const STOP_WITHIN: Duration = Duration::from_millis(1000);

/// Binds the port on every address, then serves on threads of its own.
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
    let places = Places::new(settings.max_clients);
    let shared = Arc::new(Shared {
        settings,
        addresses,
        ring,
        server_state,
        tick: ticks,
        places,
    });
    // Wakes every client once for all that was published since it last did.
    runtime.spawn({
        let tick = tick.clone();
        async move {
            loop {
                published.notified().await;
                tick.send_if_modified(|tick| *tick == Tick::Serving);
            }
        }
    });
    let beats = Arc::new(AtomicU64::new(0));
    runtime.spawn({
        let beats = beats.clone();
        async move {
            loop {
                tokio::time::sleep(BEAT).await;
                beats.fetch_add(1, Ordering::Relaxed);
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
        beats,
        _hook: hook,
    })
}

impl Server {
    /// Where it listens; with the real port where port 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addresses[0]
    }

    /// All addresses it listens on, all with the same port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Grows four times a second while the socket's threads make progress.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Says 1001 to all clients and ends, within about a second.
    pub fn stop(mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        self.tick.send_replace(Tick::Stopping);
        let places = self.shared.places.clone();
        let _ =
            runtime.block_on(async { tokio::time::timeout(STOP_WITHIN, places.emptied()).await });
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
