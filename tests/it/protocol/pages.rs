//! Tests of the HTTP pages, and of requests that are not valid WebSocket handshakes.

use super::*;
use expressd::serve::{ServeError, ServerState};

#[test]
fn health_metrics_and_status_report_the_state() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        assert_eq!(fixture.http("GET", "/healthz", "").await.0, 200);
        let (code, head, body) = fixture.http("GET", "/readyz", "").await;
        assert_eq!(
            (
                code,
                serde_json::from_str::<Value>(&body).unwrap()["ready"].as_bool()
            ),
            (200, Some(true))
        );
        assert!(head.contains("content-type: application/json"));
        fixture.server_state.readiness.lock().unwrap().checks[1].reason =
            Some("lost: the camera was unplugged".into());
        let (code, _, body) = fixture.http("GET", "/readyz", "").await;
        let page: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &page["ready"]), (503, &json!(false)));
        assert_eq!(
            page["checks"]["video"],
            json!({"ready": false, "reason": "lost: the camera was unplugged"})
        );
        assert_eq!(
            page["checks"]["audio"],
            json!({"ready": true, "reason": null})
        );

        let event = sample_expression(0);
        fixture.ring.publish(&event);
        fixture.server_state.metrics().published(&event);
        client.seqs(1).await;
        let (code, _, text) = fixture.http("GET", "/metrics", "").await;
        assert_eq!(code, 200);
        for line in [
            "expressd_clients 1",
            "expressd_events_total{type=\"expression\"} 1",
            "expressd_latency_seconds_count{stage=\"total\"} 1",
            "expressd_socket_write_seconds_count 1",
            "expressd_deadline_misses_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
        let (code, _, body) = fixture.http("GET", "/v1/status", "").await;
        let page: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (code, &page["clients"], &page["next_seq"], &page["ready"]),
            (200, &json!(1), &json!(2), &json!(false))
        );
        assert_eq!(page["latency_ms"]["total"]["count"], 1);
        assert_eq!(page["status"]["sources"]["video"]["state"], "off");
    });
}

#[test]
fn wrong_paths_and_methods_are_refused_with_a_reason() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let (code, _, body) = fixture.http("GET", "/v1/nothing", "").await;
        assert_eq!(
            (
                code,
                serde_json::from_str::<Value>(&body).unwrap()["error"].as_str()
            ),
            (404, Some("nothing at /v1/nothing"))
        );
        assert_eq!(fixture.http("POST", "/healthz", "").await.0, 405);
        assert_eq!(fixture.http("POST", "/v1/events", "").await.0, 405);
        let (code, head, body) = fixture.http("GET", "/v1/events", "").await;
        assert!(
            code == 426 && head.contains("upgrade: websocket") && body.contains("WebSocket"),
            "{code} {head} {body}"
        );
        let upgrade =
            "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: ";
        assert_eq!(
            fixture
                .http("GET", "/v1/events", &format!("{upgrade}8\r\n"))
                .await
                .0,
            426
        );
        assert_eq!(
            fixture
                .http("GET", "/v1/events", &format!("{upgrade}13\r\n"))
                .await
                .0,
            400
        );
        assert_eq!(fixture.http("GET", "/", "").await.0, 200);
    });
}

#[test]
fn an_address_that_cannot_be_served_is_refused_with_a_remedy() {
    let fixture = Fixture::new(|_| {});
    let again = |listen| {
        start(
            ServeSettings {
                listen: vec![listen],
                ..ServeSettings::default()
            },
            Arc::new(Ring::default()),
            Arc::new(BareState::default()),
        )
        .unwrap_err()
    };
    let taken = again(fixture.server.addr());
    assert!(matches!(taken, ServeError::PortTaken(addr) if addr == fixture.server.addr()));
    assert!(
        taken
            .to_string()
            .starts_with(&fixture.server.addr().to_string())
            && taken.to_string().contains("--listen"),
        "{taken}"
    );
    for listen in ["0.0.0.0:0", "192.168.1.5:8765", "[::]:0"] {
        let refused = again(listen.parse().unwrap());
        assert!(
            matches!(refused, ServeError::NotLoopback(_))
                && refused.to_string().contains("127.0.0.1"),
            "{refused}"
        );
    }
}

#[test]
fn the_server_counts_its_heartbeats() {
    let fixture = Fixture::new(|_| {});
    let before = fixture.server.heartbeats();
    std::thread::sleep(Duration::from_millis(1200));
    assert!(fixture.server.heartbeats() > before);
}

#[test]
fn metrics_have_the_accepted_format_and_pass_promtool() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let event = sample_expression(0);
        fixture.server_state.metrics().published(&event);
        fixture.server_state.metrics().dropped("past_deadline", 1);
        let (_, head, open) = fixture
            .http(
                "GET",
                "/metrics",
                "Accept: application/openmetrics-text\r\n",
            )
            .await;
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"));
        assert!(open.ends_with("# EOF\n"), "{open}");
        let (_, head, text) = fixture.http("GET", "/metrics", "Accept: */*\r\n").await;
        assert!(
            head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        assert!(head.contains("vary: accept"), "{head}");
        assert!(
            !text.contains("# EOF") && text.contains("expressd_drops_total{"),
            "{text}"
        );

        let promtool = expressd::testing::project(".deps/promtool/promtool");
        let mut child = std::process::Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; `make setup-test` fetches it",
                    promtool.display()
                )
            });
        let mut input = child.stdin.take().expect("standard input");
        std::io::Write::write_all(&mut input, text.as_bytes()).expect("written");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        let printed = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success() && printed.is_empty(),
            "{}",
            String::from_utf8_lossy(&printed)
        );
    });
}
