//! The WebSocket handshake of RFC 6455, which upgrades an HTTP connection.
//!
//! axum's feature `ws` would bring a second version of tungstenite, so the handshake is implemented
//! in this module.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::client::Client;
use super::identity::PROTOCOL;
use super::page::json_page;
use super::wire::{Wire, WireLimits};
use super::{Shared, Tick, origin};
use crate::event::ErrorCode;
use crate::time::monotonic_nanos;

/// Size of tungstenite's write buffer for a client that does not read, in bytes: one event or
/// answer, and the Close frame. A larger event is reported as dropped.
const MAX_WRITE_BUFFER: usize = 256 << 10;
/// Size of tungstenite's read buffer for each client, in bytes.
const READ_BUFFER: usize = 4 << 10;

/// Whether the comma-separated header `name` contains `token`, in upper or lower case.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// The value of the header `name` if it occurs exactly once.
fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether `key` is a valid `Sec-WebSocket-Key`: 16 bytes in Base64 (RFC 6455, 4.2.1).
fn is_key(key: &HeaderValue) -> bool {
    data_encoding::BASE64
        .decode(key.as_bytes())
        .is_ok_and(|nonce| nonce.len() == 16)
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length != "0")
}

/// A response that refuses the handshake, with the headers that RFC 6455 demands.
fn refuse(code: StatusCode, text: &'static str) -> Response {
    (
        code,
        [
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
        ],
        text,
    )
        .into_response()
}

/// Handles `GET /v1/events`: upgrades the request to a WebSocket client.
pub(super) async fn events(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    // Only a GET can be upgraded (RFC 6455), but the route also matches HEAD.
    if request.method() != Method::GET {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET")],
            "a WebSocket is opened with GET\n",
        )
            .into_response();
    }
    let headers = request.headers();
    // A server ignores `Upgrade` in HTTP/1.0 (RFC 9110, 7.8).
    if request.version() != Version::HTTP_11
        || !has_token(headers, header::UPGRADE, "websocket")
        || !has_token(headers, header::CONNECTION, "upgrade")
    {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket: connect with a WebSocket client, over HTTP/1.1\n",
        );
    }
    if single(headers, header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            "only version 13 of the WebSocket protocol (RFC 6455) is supported\n",
        );
    }
    let Some(key) = single(headers, header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key)) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key must be there once: 16 bytes in Base64\n",
        );
    };
    if has_body(headers) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "a WebSocket handshake has no body\n",
        );
    }
    let accept = derive_accept_key(key.as_bytes());
    let speaks = has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    let allowed = origin::allowed(headers, &shared.settings.allow_origins);
    let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "this connection cannot be upgraded; speak HTTP/1.1\n",
        );
    };
    let full = |code: &str, message: &str| {
        json_page(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"error": code, "message": message}),
        )
    };
    if *shared.tick.borrow() == Tick::Stopping {
        return full("internal", "shutting down");
    }
    let Some(slot) = shared.slots.take(monotonic_nanos()) else {
        shared
            .server_state
            .metrics()
            .refused(ErrorCode::TooManyClients);
        return full(
            "too_many_clients",
            &format!(
                "{} clients are connected already",
                shared.settings.max_clients
            ),
        );
    };

    tokio::spawn(async move {
        let stream = match on_upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!("a client left during the upgrade: {error}"),
        };
        let most = shared.settings.max_client_frame_bytes;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_WRITE_BUFFER)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        let limits = WireLimits {
            message_bytes: most,
            frames_per_s: shared.settings.max_wire_frames_per_s,
            bytes_per_s: shared.settings.max_wire_bytes_per_s,
        };
        let stream = Wire::new(stream, limits);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        Client::new(shared, slot, socket).run(allowed).await;
    });

    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        HeaderValue::from_str(&accept).expect("Base64 is a header value"),
    );
    if speaks {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(PROTOCOL),
        );
    }
    response
}
