//! Responses of the port's pages.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// The header that forbids caching, because pages change with each request.
pub(super) const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

/// A response with a JSON document on one line.
pub(super) fn json_page(code: StatusCode, value: &Value) -> Response {
    (
        code,
        [(header::CONTENT_TYPE, "application/json"), NO_STORE],
        format!("{value}\n"),
    )
        .into_response()
}
