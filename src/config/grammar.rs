//! Grammars of the text values of keys: sources, tracks, addresses, hosts and origins.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use crate::address::{AudioSpec, VideoSpec};
use crate::encode::Provider;
use crate::speech::TranscriberChoice;

/// Description of the values that [`is_loopback`] accepts, for error messages.
pub(super) const LOOPBACK: &str = "a loopback address and a port, for example \"127.0.0.1:8765\", \
    or \"localhost:8765\" for 127.0.0.1 and [::1]; others are refused, because every client that \
    connects gets the events (there are no access tokens yet)";
/// Description of a list of values that [`is_host`] accepts, for error messages.
pub(super) const HOSTS: &str = "a list of names or addresses without a port, each like \
    \"lab.example\" or \"[fd00::7]\"; wildcards are not permitted";
/// Description of a list of values that [`is_origin`] accepts, for error messages.
pub(super) const ORIGINS: &str = "a list of origins as browsers send them, each like \
    \"https://lab.example\" or \"http://10.0.0.7:8080\", without a path and without wildcards";
/// The permitted values of `inference.provider`.
pub(super) const PROVIDERS: &[&str] = &["auto", "tensorrt", "cuda", "cpu"];

/// The execution provider with this name; `None` if there is none.
pub(super) fn provider(name: &str) -> Option<Provider> {
    [
        Provider::Auto,
        Provider::Tensorrt,
        Provider::Cuda,
        Provider::Cpu,
    ]
    .into_iter()
    .find(|provider| provider.name() == name)
}

pub(super) fn is_not_blank(text: &str) -> bool {
    !text.trim().is_empty()
}

pub(super) fn is_video_source(text: &str) -> bool {
    text.parse::<VideoSpec>().is_ok()
}

pub(super) fn is_audio_source(text: &str) -> bool {
    text.parse::<AudioSpec>().is_ok()
}

/// A track: `auto`, or a number from 1.
pub(super) fn is_track(text: &str) -> bool {
    text == "auto" || text.parse::<NonZeroU32>().is_ok()
}

/// An audio channel: `auto`, `mix`, or a number from 1.
pub(super) fn is_channel(text: &str) -> bool {
    text == "mix" || is_track(text)
}

pub(super) fn is_transcriber(text: &str) -> bool {
    TranscriberChoice::parse(text).is_some()
}

/// A loopback address with a port, see [`loopback`].
pub(super) fn is_loopback(text: &str) -> bool {
    loopback(text).is_some()
}

/// Parses a loopback address with a port; `None` for any other text. `localhost` gives both
/// 127.0.0.1 and `[::1]` (RFC 6761, 6.3).
pub(super) fn loopback(text: &str) -> Option<Vec<SocketAddr>> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let port: u16 = port.parse().ok()?;
        return Some(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    let address: SocketAddr = text.parse().ok()?;
    address.ip().is_loopback().then(|| vec![address])
}

/// Whether `text` is a host name or an address as in the HTTP header `Host`, without a port. IPv6
/// addresses are in brackets.
pub(super) fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => {
            text.contains(|c: char| c.is_ascii_alphanumeric())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        }
    }
}

/// Whether `text` is a browser's origin: `scheme://host`, `scheme://host:port` or `null`. A slash
/// at the end is permitted.
pub(super) fn is_origin(text: &str) -> bool {
    // Browsers send `null` for a page without an origin, such as a local file.
    if text == "null" {
        return true;
    }
    let Some((scheme, host)) = text.strip_suffix('/').unwrap_or(text).split_once("://") else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme
        && !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/*@?#".contains(c))
}
