//! Tests of `expressd run` as a process: its socket, health pages, systemd's notify socket,
//! signals.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use expressd::manifest::Manifest;
use expressd::testing::project;
use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Daemon, demo, eventually, get};

/// Connects a WebSocket client and reads frames until `is_enough` returns true or the time is up.
/// Returns (all frames, close code if one was received).
pub fn listen(
    address: &str,
    timeout: Duration,
    mut is_enough: impl FnMut(&[Value]) -> bool,
) -> (Vec<Value>, Option<u16>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/v1/events"))
            .await
            .expect("the daemon accepts");
        let mut frames = Vec::new();
        let until = tokio::time::Instant::now() + timeout;
        while let Ok(Some(message)) = tokio::time::timeout_at(until, socket.next()).await {
            match message {
                Ok(Message::Text(text)) => {
                    frames.push(serde_json::from_str(&text).expect("frames are JSON"))
                }
                Ok(Message::Close(frame)) => return (frames, frame.map(|f| f.code.into())),
                Ok(_) => {}
                Err(_) => break,
            }
            if is_enough(&frames) {
                let _ = socket.send(Message::Close(None)).await;
                break;
            }
        }
        (frames, None)
    })
}

#[test]
fn a_client_gets_hello_then_events_without_a_gap() {
    let daemon = Daemon::start(&["--replay", demo().to_str().unwrap(), "--loop"]);
    eventually("ready", Duration::from_secs(20), || {
        get(&daemon.address, "/readyz").0 == 200
    });
    assert_eq!(get(&daemon.address, "/healthz").0, 200);
    let (frames, _) = listen(&daemon.address, Duration::from_secs(60), |f| {
        f.iter().filter(|e| e["type"] == "expression").count() >= 20
    });
    assert_eq!(frames[0]["type"], "hello");
    assert_eq!(frames[0]["protocol"], "expressd.v1");
    assert_eq!(frames[0]["bundle"]["labels"].as_array().unwrap().len(), 7);
    let seqs: Vec<u64> = frames[1..]
        .iter()
        .map(|f| f["seq"].as_u64().unwrap_or_else(|| panic!("{f}")))
        .collect();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "{seqs:?}");
    let expressions: Vec<_> = frames
        .iter()
        .filter(|e| e["type"] == "expression")
        .collect();
    assert!(expressions.len() >= 20);
    let manifest = std::fs::read_to_string(project("models/default/manifest.toml")).unwrap();
    let manifest: Manifest = toml::from_str(&manifest).unwrap();
    let fingerprint = manifest.score_fingerprint();
    assert_eq!(frames[0]["bundle"]["fingerprint"], fingerprint);
    for event in expressions {
        assert!(
            event["latency_ms"]["total"].as_f64().unwrap() > 0.0,
            "{event}"
        );
        assert_eq!(event["provenance"]["bundle"], fingerprint);
    }
    let status: Value = serde_json::from_str(&get(&daemon.address, "/v1/status").1).unwrap();
    assert_eq!(status["status"]["sources"]["video"]["state"], "delivering");
    let (code, metrics) = get(&daemon.address, "/metrics");
    assert_eq!(code, 200);
    assert!(
        metrics.contains("\nexpressd_latency_seconds_count{stage=\"total\"}"),
        "{metrics}"
    );
}

#[test]
fn systemd_is_notified_and_sigterm_ends_the_daemon_within_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut daemon = Daemon::start_with(
        &["--replay", demo().to_str().unwrap(), "--loop"],
        |command| {
            command
                .env("NOTIFY_SOCKET", &path)
                .env("WATCHDOG_USEC", "2000000");
        },
    );
    let next = || {
        let mut bytes = [0; 4096];
        let n = systemd.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    let mut seen = Vec::new();
    while !seen.iter().any(|m: &String| m.contains("READY=1")) {
        seen.push(next());
    }
    assert_eq!(
        get(&daemon.address, "/readyz").0,
        200,
        "READY=1 means ready"
    );
    let mut fed = 0;
    let mut status = String::new();
    while fed < 3 {
        let message = next();
        fed += usize::from(message.contains("WATCHDOG=1"));
        status = message
            .lines()
            .find(|l| l.starts_with("STATUS="))
            .map_or(status, str::to_owned);
        seen.push(message);
    }
    assert!(seen.iter().any(|m| m.contains("STATUS=")), "{seen:?}");
    let address = daemon.address.clone();
    let client = std::thread::Builder::new()
        .name("client".into())
        .spawn(move || listen(&address, Duration::from_secs(20), |_| false))
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let signalled = Instant::now();
    daemon.signal(Signal::TERM);
    let exit = daemon.wait(Duration::from_secs(5));
    assert!(
        signalled.elapsed() < Duration::from_secs(2),
        "took {:?}",
        signalled.elapsed()
    );
    assert_eq!(exit.code(), Some(0));
    let (_, code) = client.join().unwrap();
    assert_eq!(code, Some(1001), "clients get the close code");
    eventually("STOPPING=1", Duration::from_secs(1), || {
        next().contains("STOPPING=1")
    });
}

#[test]
fn sigint_is_treated_as_sigterm() {
    let mut daemon = Daemon::start(&["--replay", demo().to_str().unwrap(), "--loop"]);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(Duration::from_secs(2)).code(), Some(0));
}

/// The daemon ends by itself after the last event of a recording without `--loop`. `src/notify.rs`
/// tests that a stalled stage prevents feeds of the watchdog.
#[test]
fn an_unlooped_recording_ends_the_daemon() {
    let mut daemon = Daemon::start(&["--replay", demo().to_str().unwrap()]);
    assert_eq!(daemon.wait(Duration::from_secs(90)).code(), Some(0));
}
