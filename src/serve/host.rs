//! The check of the header `Host`: which host names the server answers to.
//!
//! A web page can make its own name resolve to this machine (DNS rebinding). The browser then takes
//! this server for the page's own. `Host` holds the page's name, so requests are answered only if
//! `Host` is a name of this machine or a configured name.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};

/// Why a request is refused because of its header `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostFault {
    /// The request has no `Host`.
    Absent,
    /// The request has more than one `Host`.
    Double,
    /// The value is not a host name or address with an optional port.
    Unreadable,
    /// The name is neither a name of this machine nor a configured name.
    Foreign,
}

impl HostFault {
    /// The HTTP status of the response: 421 for a foreign name (RFC 9110, 15.5.20), else 400.
    pub fn status(self) -> StatusCode {
        match self {
            HostFault::Foreign => StatusCode::MISDIRECTED_REQUEST,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The text of the response.
    pub fn message(self) -> &'static str {
        match self {
            HostFault::Absent => "the request has no Host",
            HostFault::Double => "the request has more than one Host",
            HostFault::Unreadable => "Host is not a name or an address, with or without a port",
            HostFault::Foreign => {
                "Host is not a name of this machine: use localhost or 127.0.0.1, or add the name \
                 to [serve] hosts"
            }
        }
    }
}

/// Checks the header `Host`, and the host of an absolute request target. `addresses` are those that
/// the server listens on, `listed` are the configured names. Any port passes, because a tunnel has
/// a port of its own. HTTP/1.0 may omit `Host`, as health checks do; browsers never omit it.
pub(super) fn check(
    version: Version,
    target: &Uri,
    headers: &HeaderMap,
    addresses: &[SocketAddr],
    listed: &[String],
) -> Result<(), HostFault> {
    let check = |authority: &str| {
        let name = name_of(authority).ok_or(HostFault::Unreadable)?;
        let known = is_loopback(&name)
            || address(&name).is_some_and(|ip| addresses.iter().any(|own| own.ip() == ip))
            || listed.iter().map(|listed| plain(listed)).any(|listed| {
                listed == name || (address(&listed).is_some() && address(&listed) == address(&name))
            });
        known.then_some(()).ok_or(HostFault::Foreign)
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => {}
        (None, _) => return Err(HostFault::Absent),
        (Some(_), Some(_)) => return Err(HostFault::Double),
        (Some(host), None) => check(host.to_str().map_err(|_| HostFault::Unreadable)?)?,
    }
    target
        .authority()
        .map_or(Ok(()), |authority| check(authority.as_str()))
}

/// The host of `host` or `host:port`, in lower case and without a final dot. `None` if `authority`
/// has another form.
pub(super) fn name_of(authority: &str) -> Option<String> {
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host)?;
    let sound = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            digits.chars().all(|c| c.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        });
    (sound && !host.is_empty()).then(|| plain(host))
}

/// `name` in lower case and without a final dot.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

/// Parses a host, as [`name_of`] returns it, as an IP address; `None` if it is a name. An IPv6
/// address is in brackets.
fn address(name: &str) -> Option<IpAddr> {
    let ip = match name.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(name.parse().ok()?),
    };
    Some(ip.to_canonical())
}

/// Whether a host, as [`name_of`] returns it, is a loopback name (RFC 6761, 6.3) or address.
pub(super) fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || address(name).is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, target: &str, hosts: &[&str]) -> Result<(), HostFault> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        let own = ["192.168.1.5:8765".parse().unwrap()];
        let listed = ["Lab.Example.org", "10.0.0.7", "[fd00:0::7]"].map(str::to_owned);
        check(version, &target.parse().unwrap(), &headers, &own, &listed)
    }
    fn host(host: &str) -> Result<(), HostFault> {
        checked(Version::HTTP_11, "/metrics", &[host])
    }

    #[test]
    fn names_of_this_machine_and_listed_ones_pass() {
        for name in [
            "localhost",
            "LocalHost:8765",
            "localhost.",
            "localhost.:8765",
            "localhost:",
            "app.localhost:1",
            "127.0.0.1",
            "127.0.0.1:9000",
            "127.9.9.9",
            "[::1]",
            "[::1]:8765",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "192.168.1.5:8765",
            "lab.example.org",
            "LAB.example.ORG.:80",
            "10.0.0.7:8765",
            "[FD00::7]:8765",
        ] {
            assert_eq!(host(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_of_other_machines_are_refused() {
        for name in [
            "evil.example",
            "evil.example:8765",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "0.0.0.0:8765",
            "[::]:8765",
            "192.168.1.6",
            "10.0.0.70",
            "lab.example.org.evil.example",
            "x.lab.example.org",
            "2130706433",
            "127.1",
        ] {
            assert_eq!(host(name), Err(HostFault::Foreign), "{name}");
        }
    }

    #[test]
    fn malformed_hosts_are_a_bad_request() {
        for name in [
            "",
            " ",
            "localhost:x",
            "localhost:99999",
            "evil@localhost",
            "localhost/",
            "http://localhost",
            "localhost, evil.example",
            "::1",
            "[::1",
            "localhost:80:80",
        ] {
            assert_eq!(host(name), Err(HostFault::Unreadable), "{name:?}");
        }
        let many = |hosts: &[&str]| checked(Version::HTTP_11, "/", hosts);
        assert_eq!(many(&[]), Err(HostFault::Absent));
        assert_eq!(many(&["localhost"; 2]), Err(HostFault::Double));
        assert_eq!(checked(Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(
            checked(Version::HTTP_10, "/", &["evil.example"]),
            Err(HostFault::Foreign)
        );
    }

    #[test]
    fn the_host_of_an_absolute_request_target_is_checked_too() {
        let with = |target: &str, host: &str| checked(Version::HTTP_11, target, &[host]);
        assert_eq!(with("http://localhost:8765/metrics", "127.0.0.1"), Ok(()));
        for (target, host) in [
            ("http://evil.example/metrics", "localhost"),
            ("http://localhost/metrics", "evil.example"),
        ] {
            assert_eq!(with(target, host), Err(HostFault::Foreign), "{target}");
        }
    }
}
