//! Names of the protocol and of the server.

/// The WebSocket subprotocol of `/v1/events`.
pub(super) const PROTOCOL: &str = "expressd.v1";

/// Name and version of the server, for example `expressd 0.1.0`.
pub(super) fn server_name() -> String {
    concat!("expressd ", env!("CARGO_PKG_VERSION")).to_owned()
}
