//! Accepts HTTP connections, for pages and for WebSocket handshakes.
//!
//! New connections are always accepted. If too many are open, one is closed: among the connections
//! of the peer addresses with the most connections, the one with the longest time since its last
//! request (or its start). A peer that is silent, sends a header slowly or never reads its answers
//! therefore locks out no other peer. A new health check is closed last.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{ServerState, Shared};
use crate::time::monotonic_nanos;

/// Number of connections for pages and refused handshakes, in addition to one for each WebSocket
/// client.
const PAGES: usize = 64;
/// Largest number of requests on one connection, pipelined or not. The last answer has the header
/// `Connection: close`.
const MAX_REQUESTS: u64 = 100;
/// Largest size of a request's headers, and of pipelined requests that are read ahead, in bytes.
const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Pause after a failed accept if a connection was closed to make room.
const PAUSE_WITH_ROOM: Duration = Duration::from_millis(1);
/// Pause after a failed accept if there was no connection to close.
const PAUSE_WITHOUT_ROOM: Duration = Duration::from_millis(50);
/// Shortest time between two log lines about failed accepts.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The open HTTP connections. A connection that was upgraded to a WebSocket is not among them.
pub(super) struct Connections {
    /// The connections by number.
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    /// Number of the next connection.
    numbers: AtomicU64,
    /// Largest number of connections.
    most: usize,
    /// Largest number of connections of one peer address.
    most_per_peer: usize,
    server_state: Arc<dyn ServerState>,
}

/// An HTTP connection.
struct Connection {
    peer: IpAddr,
    /// `CLOCK_MONOTONIC` at the connection's newest request, before the first request at its start,
    /// in nanoseconds.
    since_nanos: AtomicI64,
    /// Number of requests so far.
    requests: AtomicU64,
    /// Notified when the connection must close to make room.
    evicted: Notify,
}

/// A connection's entry in [`Connections`]; dropping it removes the connection.
struct ConnectionEntry {
    connections: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Drop for ConnectionEntry {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
    }
}

impl Connection {
    /// Counts a request. Returns its number on this connection, from 1.
    fn request(&self) -> u64 {
        self.since_nanos.store(monotonic_nanos(), Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits until the connection has had no request for the time `within`.
    async fn overdue(&self, within: Duration) {
        loop {
            let idle = monotonic_nanos() - self.since_nanos.load(Ordering::Relaxed);
            let idle = Duration::from_nanos(u64::try_from(idle).unwrap_or(0));
            match within.checked_sub(idle) {
                Some(left) if !left.is_zero() => sleep(left).await,
                _ => return,
            }
        }
    }
}

impl Connections {
    /// Room for the handshakes of `max_clients` clients and for [`PAGES`] more connections, but at
    /// most for a quarter of the process's limit of open files.
    pub fn new(max_clients: usize, server_state: Arc<dyn ServerState>) -> Arc<Self> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(files / 4).unwrap_or(usize::MAX).max(8);
        let most = (max_clients + PAGES).min(share);
        Connections::with_room(most, most - (PAGES / 2).min(most / 4), server_state)
    }

    fn with_room(
        most: usize,
        most_per_peer: usize,
        server_state: Arc<dyn ServerState>,
    ) -> Arc<Self> {
        Arc::new(Connections {
            open: Mutex::default(),
            numbers: AtomicU64::new(0),
            most,
            most_per_peer,
            server_state,
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().expect("connections")
    }

    /// Adds a connection of `peer`, and closes others beyond the limits.
    fn admit(self: &Arc<Self>, peer: IpAddr) -> ConnectionEntry {
        let peer = peer.to_canonical();
        let mut open = self.open();
        if open.len() >= self.most_per_peer
            && open.values().filter(|c| c.peer == peer).count() >= self.most_per_peer
        {
            self.evict(&mut open, |of| of == peer);
        }
        if open.len() >= self.most {
            self.evict_for_room(&mut open);
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            peer,
            since_nanos: AtomicI64::new(monotonic_nanos()),
            requests: AtomicU64::new(0),
            evicted: Notify::new(),
        });
        open.insert(number, connection.clone());
        ConnectionEntry {
            connections: self.clone(),
            number,
            connection,
        }
    }

    /// Closes the connection with the oldest newest request, among those of the peers with the most
    /// connections. Returns whether one was closed.
    fn evict_for_room(&self, open: &mut HashMap<u64, Arc<Connection>>) -> bool {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for connection in open.values() {
            *counts.entry(connection.peer).or_default() += 1;
        }
        let most = counts.values().max().copied();
        self.evict(open, |peer| counts.get(&peer).copied() == most)
    }

    /// Closes the connection with the oldest newest request, among those of peers for which `of` is
    /// true. Returns whether one was closed.
    fn evict(&self, open: &mut HashMap<u64, Arc<Connection>>, of: impl Fn(IpAddr) -> bool) -> bool {
        let stalest = open
            .iter()
            .filter(|(_, connection)| of(connection.peer))
            .min_by_key(|(_, connection)| connection.since_nanos.load(Ordering::Relaxed))
            .map(|(number, _)| *number);
        let Some(connection) = stalest.and_then(|number| open.remove(&number)) else {
            return false;
        };
        self.server_state.metrics().connection_cut("crowded");
        connection.evicted.notify_one();
        true
    }
}

/// Accepts connections of `listener`, each served by a task, until this task is dropped.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    shared: Arc<Shared>,
) {
    let service = TowerToHyperService::new(router);
    let within = shared.settings.request_within;
    let mut logged_nanos: Option<i64> = None;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if left_early(&error) => continue,
            Err(error) => {
                // The usual cause is the file limit.
                let made_room = {
                    let mut open = connections.open();
                    connections.evict_for_room(&mut open)
                };
                let now = monotonic_nanos();
                if logged_nanos.is_none_or(|then| now - then > LOG_EVERY.as_nanos() as i64) {
                    logged_nanos = Some(now);
                    tracing::error!(
                        "a connection cannot be taken: {error}; check the limit of open files \
                         (ulimit -n)"
                    );
                }
                sleep(if made_room {
                    PAUSE_WITH_ROOM
                } else {
                    PAUSE_WITHOUT_ROOM
                })
                .await;
                continue;
            }
        };
        // Without TCP_NODELAY, an event would wait for the acknowledgement of the previous one.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY: {error}");
        }
        let entry = connections.admit(peer.ip());
        tokio::spawn(serve(stream, entry, service.clone(), within));
    }
}

/// Whether accepting failed because the peer has already closed its connection.
fn left_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Serves one connection until it ends or is upgraded to a WebSocket.
async fn serve(
    stream: TcpStream,
    entry: ConnectionEntry,
    service: TowerToHyperService<Router>,
    within: Duration,
) {
    let connection = entry.connection.clone();
    let counted = service_fn(move |request: Request<Incoming>| {
        let last = connection.request() >= MAX_REQUESTS;
        let answering = service.call(request);
        async move {
            let mut answer = answering.await?;
            if last && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let serving = http1::Builder::new()
        .max_buf_size(MAX_REQUEST_BYTES)
        // The `select!` below limits the time.
        .header_read_timeout(None)
        // A client may close its sending side before it gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), counted)
        .with_upgrades();
    let metrics = entry.connections.server_state.metrics();
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::debug!("a connection ended: {error}");
        },
        () = entry.connection.evicted.notified() => {}
        // Limits every wait: for the first request, a whole header, a read answer, the next
        // request.
        () = entry.connection.overdue(within) => metrics.connection_cut("overdue"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::server::BareState;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn evicted(entry: &ConnectionEntry) -> bool {
        !entry.connections.open().contains_key(&entry.number)
    }

    #[test]
    fn the_longest_idle_connection_of_the_peer_with_the_most_is_closed() {
        let connections = Connections::with_room(4, 3, Arc::new(BareState::default()));
        let entries: Vec<ConnectionEntry> = (0..3).map(|_| connections.admit(ip(1))).collect();
        // The first has just sent a request, so the second is the stalest.
        entries[0].connection.request();
        let fourth = connections.admit(ip(1));
        assert!(evicted(&entries[1]) && !evicted(&entries[0]) && !evicted(&entries[2]));
        // The next peer has one of four connections. Then the total is full, and a connection of
        // the peer with the most is evicted.
        let other = connections.admit(ip(2));
        let another = connections.admit(ip(2));
        assert!(evicted(&entries[2]));
        assert!(
            [&entries[0], &fourth, &other, &another]
                .iter()
                .all(|entry| !evicted(entry))
        );
        drop(entries);
        assert_eq!(connections.open().len(), 3);
    }

    #[test]
    fn of_peers_with_one_connection_each_the_longest_idle_is_closed() {
        let connections = Connections::with_room(4, 3, Arc::new(BareState::default()));
        let entries: Vec<ConnectionEntry> =
            (1..=40).map(|last| connections.admit(ip(last))).collect();
        let open = entries.iter().map(|entry| !evicted(entry));
        let expected = (0..40).map(|index| index >= 36);
        assert!(open.eq(expected));
    }
}
