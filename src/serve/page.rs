//! HTTP responses with JSON.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// The header that forbids caching, because the pages change with every request.
pub(super) const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

/// A response with status `code` and the JSON `value` on one line.
pub(super) fn json_page(code: StatusCode, value: &Value) -> Response {
    (
        code,
        [(header::CONTENT_TYPE, "application/json"), NO_STORE],
        format!("{value}\n"),
    )
        .into_response()
}
