//! Connections before they are WebSockets: pages and handshakes.
//!
//! New connections are always taken. When there are too many, the stalest is ended for the new one: the one whose last request (or
//! whose beginning) is longest ago, of the peer addresses that have most. So a peer that says nothing, dribbles a header or never reads
//! its answers keeps no one out, and a health check that has just come is the last to go.

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

/// Connections beside the clients': for pages, and for handshakes, among them those that are refused.
const PAGES: usize = 64;
/// Requests of one connection, pipelined or not. The last answer says that the connection ends.
const MAX_REQUESTS: u64 = 100;
/// A request's headers, and what of pipelined requests is read ahead.
const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Before the next try when no connection could be taken: with one ended for it, and with none to end.
const PAUSE_WITH_ROOM: Duration = Duration::from_millis(1);
const PAUSE_WITHOUT_ROOM: Duration = Duration::from_millis(50);
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The connections that are no WebSockets yet.
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    numbers: AtomicU64,
    most: usize,
    most_per_peer: usize,
    server_state: Arc<dyn ServerState>,
}

struct Connection {
    peer: IpAddr,
    /// `CLOCK_MONOTONIC` at its beginning, then at its newest request.
    since_nanos: AtomicI64,
    requests: AtomicU64,
    evicted: Notify,
}

/// A connection's entry, removed with it.
struct Place {
    connections: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
    }
}

impl Connection {
    /// Counts a request; its number on this connection, from 1.
    fn request(&self) -> u64 {
        self.since_nanos.store(monotonic_nanos(), Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits until no request has come for so long.
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
    /// Room for all clients' handshakes and some pages, within a quarter of the files that this process may open.
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

    fn admit(self: &Arc<Self>, peer: IpAddr) -> Place {
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
        Place {
            connections: self.clone(),
            number,
            connection,
        }
    }

    /// Ends the stalest connection of the peers that have most; whether there was one.
    fn evict_for_room(&self, open: &mut HashMap<u64, Arc<Connection>>) -> bool {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for connection in open.values() {
            *counts.entry(connection.peer).or_default() += 1;
        }
        let most = counts.values().max().copied();
        self.evict(open, |peer| counts.get(&peer).copied() == most)
    }

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

/// Takes connections for good.
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
                // Out of files, most likely.
                let made_room = {
                    let mut open = connections.open();
                    connections.evict_for_room(&mut open)
                };
                let now = monotonic_nanos();
                if logged_nanos.is_none_or(|then| now - then > LOG_EVERY.as_nanos() as i64) {
                    logged_nanos = Some(now);
                    tracing::error!(
                        "a connection cannot be taken: {error}; check the limit of open files (ulimit -n)"
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
        // An event must not wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY: {error}");
        }
        let place = connections.admit(peer.ip());
        tokio::spawn(serve(stream, place, service.clone(), within));
    }
}

/// The peer went away before its connection was taken.
fn left_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Serves one connection until it ends or is a WebSocket, which has a place among the clients.
async fn serve(
    stream: TcpStream,
    place: Place,
    service: TowerToHyperService<Router>,
    within: Duration,
) {
    let connection = place.connection.clone();
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
        // What is overdue ends below.
        .header_read_timeout(None)
        // A client may end its side before it has its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), counted)
        .with_upgrades();
    let metrics = place.connections.server_state.metrics();
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::debug!("a connection ended: {error}");
        },
        () = place.connection.evicted.notified() => {}
        // Whatever it waits for: the first request, the rest of a header, an answer being read, the next request.
        () = place.connection.overdue(within) => metrics.connection_cut("overdue"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::bench::BareState;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn evicted(place: &Place) -> bool {
        !place.connections.open().contains_key(&place.number)
    }

    #[test]
    fn the_stalest_connection_makes_room() {
        let connections = Connections::with_room(4, 3, Arc::new(BareState::default()));
        let places: Vec<Place> = (0..3).map(|_| connections.admit(ip(1))).collect();
        // The first has just asked for something, so the second is the stalest.
        places[0].connection.request();
        let fourth = connections.admit(ip(1));
        assert!(evicted(&places[1]) && !evicted(&places[0]) && !evicted(&places[2]));
        // Another peer is one of four; then the total is full, and the peer that has most gives way.
        let other = connections.admit(ip(2));
        let another = connections.admit(ip(2));
        assert!(evicted(&places[2]));
        assert!(
            [&places[0], &fourth, &other, &another]
                .iter()
                .all(|place| !evicted(place))
        );
        drop(places);
        assert_eq!(connections.open().len(), 3);
    }

    #[test]
    fn of_many_peers_with_one_connection_each_the_stalest_goes() {
        let connections = Connections::with_room(4, 3, Arc::new(BareState::default()));
        let places: Vec<Place> = (1..=40).map(|last| connections.admit(ip(last))).collect();
        let open = places.iter().map(|place| !evicted(place));
        let expected = (0..40).map(|index| index >= 36);
        assert!(open.eq(expected));
    }
}
