//! Tests of the checks of requests: `Host`, and the handshake's method, version and key.

use super::*;

/// Paths of all pages, of the socket, and of no page.
const PAGES: [&str; 7] = [
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/status",
    "/v1/events",
    "/nothing",
];

/// Valid headers of a WebSocket handshake.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn requests_for_other_names_are_refused_on_every_page_and_the_socket() {
    let fixture = Fixture::new(|settings| settings.hosts = vec!["lab.example".into()]);
    let port = fixture.server.addr().port();
    block_on(async {
        for path in PAGES {
            for upgrade in ["", UPGRADE] {
                let ask = |target: String, hosts: &[&str]| {
                    let hosts: String = hosts
                        .iter()
                        .map(|host| format!("Host: {host}\r\n"))
                        .collect();
                    let end = if upgrade.is_empty() {
                        "Connection: close\r\n"
                    } else {
                        upgrade
                    };
                    format!("GET {target} HTTP/1.1\r\n{hosts}{end}\r\n")
                };
                for (hosts, expected) in [
                    (&["evil.example"][..], 421),
                    (&["localhost.evil.example:80"], 421),
                    (&["0.0.0.0"], 421),
                    (&[], 400),
                    (&["localhost", "localhost"], 400),
                    (&["localhost", "evil.example"], 400),
                    (&["local host"], 400),
                    (&[""], 400),
                ] {
                    let (code, head, _) = fixture.raw_http(&ask(path.into(), hosts)).await;
                    assert_eq!(code, expected, "{path} {hosts:?} {upgrade}");
                    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
                }
                let foreign = ask(format!("http://evil.example{path}"), &["localhost"]);
                assert_eq!(fixture.raw_http(&foreign).await.0, 421, "{path}");
                for own in [
                    "localhost",
                    "LOCALHOST:1",
                    "localhost.",
                    "x.localhost",
                    "127.0.0.1:9",
                    "[::1]:8765",
                    "lab.example:80",
                ] {
                    let (code, head, _) = fixture.raw_http(&ask(path.into(), &[own])).await;
                    assert!(![400, 421].contains(&code), "{path} {own}: {code}");
                    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
                }
                let absolute = ask(format!("http://localhost:{port}{path}"), &["localhost"]);
                let code = fixture.raw_http(&absolute).await.0;
                assert!(![400, 421].contains(&code), "{path}: {code}");
            }
        }
        let old = fixture.raw_http("GET /healthz HTTP/1.0\r\n\r\n").await;
        assert_eq!(old.0, 200, "a health check may leave Host out in HTTP/1.0");
    });
}

#[test]
fn only_a_get_with_a_key_of_16_bytes_opens_a_socket() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let ask = |method: &str, version: &str, headers: &str| {
            format!("{method} /v1/events HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n")
        };
        assert_eq!(fixture.raw_http(&ask("GET", "1.1", UPGRADE)).await.0, 101);
        for method in ["HEAD", "POST", "PUT", "OPTIONS", "DELETE"] {
            let (code, head, _) = fixture.raw_http(&ask(method, "1.1", UPGRADE)).await;
            assert!(
                code == 405 && head.contains("allow: get"),
                "{method}: {head}"
            );
        }
        assert_eq!(fixture.raw_http(&ask("GET", "1.0", UPGRADE)).await.0, 426);
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for wrong in [
            "",
            "Sec-WebSocket-Key: \r\n",
            "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=\r\n",
            &key.repeat(2),
            &format!("{key}Content-Length: 5\r\n"),
        ] {
            let (code, ..) = fixture
                .raw_http(&ask("GET", "1.1", &UPGRADE.replace(key, wrong)))
                .await;
            assert_eq!(code, 400, "{wrong:?}");
        }
        for version in ["8", "14", "13, 8", "x"] {
            let headers = UPGRADE.replace("Version: 13", &format!("Version: {version}"));
            let (code, head, _) = fixture.raw_http(&ask("GET", "1.1", &headers)).await;
            assert!(
                code == 426 && head.contains("sec-websocket-version: 13"),
                "{head}"
            );
        }
    });
}

#[test]
fn localhost_is_bound_on_every_loopback_address() {
    let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let fixture = Fixture::new(|settings| {
        settings.listen = ["127.0.0.1:0", "[::1]:0"]
            .map(|addr| addr.parse().unwrap())
            .into();
    });
    let addresses = fixture.server.addresses().to_vec();
    assert_eq!(addresses.len(), 1 + usize::from(has_v6));
    block_on(async {
        for address in addresses {
            assert_eq!(address.port(), fixture.server.addr().port());
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let request =
                format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("written");
            assert_eq!(answer_of(stream).await.0, 200, "{address}");
        }
    });
}
