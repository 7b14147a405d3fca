//! The plain pages of the port: health, metrics, status.

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

/// The port's pages and its socket.
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

/// Answers only requests for a name of this machine. Forbids browsers to guess an answer's type.
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

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let (ready, checks) = readiness(&shared);
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_page(code, &json!({"ready": ready, "checks": checks}))
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    // Other connections get a turn beside one that pipelines.
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
