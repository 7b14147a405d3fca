//! The check of the header `Origin`, which browsers send. Without the check, any web page could
//! open a WebSocket to this machine.

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;

use super::host;

/// Whether a client with these headers may connect. An absent `Origin` (no browser) and loopback
/// origins are allowed. Any other origin, `null` included, must be in `allow_list`.
pub fn allowed(headers: &HeaderMap, allow_list: &[String]) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| {
        origin
            .to_str()
            .is_ok_and(|origin| is_loopback(origin) || is_listed(origin, allow_list))
    })
}

fn is_listed(origin: &str, allow_list: &[String]) -> bool {
    allow_list
        .iter()
        .any(|listed| listed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

fn is_loopback(origin: &str) -> bool {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .and_then(host::name_of)
        .is_some_and(|name| host::is_loopback(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        allowed(
            &headers,
            &[
                "https://lab.example.org".into(),
                "http://10.0.0.7:8080/".into(),
            ],
        )
    }

    #[test]
    fn loopback_and_listed_origins_pass() {
        assert!(passes(None));
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "https://LOCALHOST",
            "http://127.0.0.1:8765",
            "http://127.9.9.9",
            "http://[::1]:80",
            "http://app.localhost:1",
            "https://lab.example.org",
            "http://10.0.0.7:8080",
        ] {
            assert!(passes(Some(origin)), "{origin}");
        }
    }

    #[test]
    fn other_origins_are_refused() {
        for origin in [
            "null",
            "",
            "https://example.org",
            "https://lab.example.org.evil.org",
            "http://lab.example.org",
            "https://lab.example.org:444",
            "http://localhost.evil.org",
            "http://notlocalhost",
            "http://localhost@evil.org",
            "http://evil.org@localhost",
            "http://localhost/evil",
            "http://127.0.0.1.evil.org",
            "http://10.0.0.7",
            "file://",
            "localhost",
            "http://",
        ] {
            assert!(!passes(Some(origin)), "{origin}");
        }
    }

    #[test]
    fn of_two_origins_both_must_be_allowed() {
        let mut headers = HeaderMap::new();
        headers.append(ORIGIN, "http://localhost".parse().unwrap());
        headers.append(ORIGIN, "https://evil.org".parse().unwrap());
        assert!(!allowed(&headers, &[]));
    }
}
