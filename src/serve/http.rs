//! The HTTP pages: health, metrics, status.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tokio::task::yield_now;

use super::exposition::Exposition;
use super::identity::{PROTOCOL, server_name};
use super::page::{NO_STORE, json_page};
use super::{Shared, host, upgrade};

/// The routes of the server: the pages, and the WebSocket for events.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
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
                &json!({"error": format!("{} accepts only GET", request.uri().path())}),
            )
        })
        .layer(from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Middleware that refuses a request whose `Host` is not a name of this machine. It also forbids
/// browsers to guess the type of a response.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let checked = host::check(
        request.version(),
        request.uri(),
        request.headers(),
        &shared.addresses,
        &shared.settings.hosts,
    );
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(fault) => json_page(fault.status(), &json!({"error": fault.message()})),
    };
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// `GET /`: a list of the paths.
async fn front(State(shared): State<Arc<Shared>>) -> Response {
    let hello = shared.server_state.hello();
    let text = format!(
        "expressd {}\nbundle   {}\n\nevents   /v1/events (WebSocket, {})\n\
         health   /healthz /readyz\nnumbers  /metrics /v1/status\n",
        env!("CARGO_PKG_VERSION"),
        hello.bundle.name,
        PROTOCOL
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

/// Whether the daemon is ready, and the JSON object of all checks.
fn readiness(shared: &Shared) -> (bool, Value) {
    let readiness = shared.server_state.readiness();
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

/// `GET /readyz`: 200 if the daemon is ready, else 503, with the checks as JSON.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let (ready, checks) = readiness(&shared);
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_page(code, &json!({"ready": ready, "checks": checks}))
}

/// `GET /metrics`: the metrics in a format that Prometheus reads.
async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    // Lets other connections run between the pipelined requests of one connection.
    yield_now().await;
    let exposition = Exposition::accepted(&headers);
    let text = shared.server_state.collected().encode(exposition);
    (
        [
            (header::CONTENT_TYPE, exposition.content_type()),
            (header::VARY, "accept"),
            NO_STORE,
        ],
        text,
    )
        .into_response()
}

/// `GET /v1/status`: state and metrics as one JSON object.
async fn status(State(shared): State<Arc<Shared>>) -> Response {
    yield_now().await;
    let (ready, checks) = readiness(&shared);
    let hello = shared.server_state.hello();
    let mut page = json!({
        "server": server_name(),
        "session": hello.session,
        "bundle": hello.bundle,
        "media_ns": shared.server_state.clock().now(),
        "ready": ready,
        "checks": checks,
        "status": shared.server_state.status(),
        "next_seq": shared.ring.next_seq(),
        "ring_bytes": shared.ring.held_bytes(),
    });
    let (Value::Object(page_fields), Value::Object(numbers)) =
        (&mut page, shared.server_state.collected().to_json())
    else {
        unreachable!("both are objects")
    };
    page_fields.extend(numbers);
    json_page(StatusCode::OK, &page)
}
