//! The plain pages of the port: health, metrics, status.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{ServeSettings, Shared, upgrade};

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let settings = shared.settings.clone();
    let router = Router::new()
        .route("/", get(front))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/events", get(upgrade::events))
        .fallback(|request: Request| async move {
            let known = [
                "/v1/events",
                "/healthz",
                "/readyz",
                "/metrics",
                "/v1/status",
            ];
            json_page(
                StatusCode::NOT_FOUND,
                &json!({"error": format!("nothing at {}", request.uri().path()), "known": known}),
            )
        })
        .method_not_allowed_fallback(|request: Request| async move {
            json_page(
                StatusCode::METHOD_NOT_ALLOWED,
                &json!({"error": format!("{} takes GET alone", request.uri().path())}),
            )
        })
        .with_state(shared);
    accept(listener, router, settings).await;
}

/// Connections beside the clients': for pages, and for handshakes, among them those that are refused.
const PAGES: usize = 64;

/// Takes connections for good. At most `max_clients` and [`PAGES`] of them are no WebSockets (yet); more wait in the kernel's queue until
/// one of those ends, which takes no longer than [`ServeSettings::request_within`]: whoever says nothing costs nobody else a file.
async fn accept(listener: TcpListener, router: Router, settings: ServeSettings) {
    let room = Arc::new(Semaphore::new(settings.max_clients + PAGES));
    let service = TowerToHyperService::new(router);
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // It left before it was taken.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted
                        | ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionRefused
                ) =>
            {
                continue;
            }
            Err(error) => {
                // Out of files, most likely: some will be free again.
                tracing::error!("a connection cannot be taken: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        // An event must not wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY: {error}");
        }
        let mut http = http1::Builder::new();
        // Counts from the first byte's awaiting on, also between two requests of one connection.
        http.timer(TokioTimer::new())
            .header_read_timeout(settings.request_within);
        let connection = http
            .serve_connection(TokioIo::new(stream), service.clone())
            .with_upgrades();
        tokio::spawn(async move {
            // Given back when the connection ends or is a WebSocket, which has a place among the clients.
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
}

const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

pub(super) fn json_page(code: StatusCode, value: &Value) -> Response {
    (
        code,
        [(header::CONTENT_TYPE, "application/json"), NO_STORE],
        format!("{value}\n"),
    )
        .into_response()
}

async fn front(State(shared): State<Arc<Shared>>) -> Response {
    let hello = shared.vitals.hello();
    let text = format!(
        "expressd {}\nbundle   {}\n\nevents   /v1/events (WebSocket, {})\nhealth   /healthz /readyz\nnumbers  /metrics /v1/status\n",
        env!("CARGO_PKG_VERSION"),
        hello.bundle.name,
        upgrade::PROTOCOL
    );
    (
        [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            NO_STORE,
        ],
        text,
    )
        .into_response()
}

fn readiness(shared: &Shared) -> (bool, Value) {
    let readiness = shared.vitals.readiness();
    let checks: Map<String, Value> = readiness
        .checks
        .iter()
        .map(|check| {
            (
                check.name.to_owned(),
                json!({"ready": check.reason.is_none(), "reason": check.reason}),
            )
        })
        .collect();
    (readiness.ready(), checks.into())
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let (ready, checks) = readiness(&shared);
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_page(code, &json!({"ready": ready, "checks": checks}))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.vitals.collected().encode();
    (
        [
            (
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
            NO_STORE,
        ],
        text,
    )
        .into_response()
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let (ready, checks) = readiness(&shared);
    let hello = shared.vitals.hello();
    let mut page = json!({
        "server": upgrade::server_name(),
        "session": hello.session,
        "bundle": hello.bundle,
        "media_ns": shared.vitals.clock().now(),
        "ready": ready,
        "checks": checks,
        "status": shared.vitals.status(),
        "next_seq": shared.ring.next_seq(),
        "ring_bytes": shared.ring.held_bytes(),
    });
    let (Value::Object(page_fields), Value::Object(numbers)) =
        (&mut page, shared.vitals.collected().for_people())
    else {
        unreachable!("both are objects")
    };
    page_fields.extend(numbers);
    json_page(StatusCode::OK, &page)
}
