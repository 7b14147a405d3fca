//! Tests of the server with a third-party client, Python's `websockets`.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use expressd::hub::Ring;
use expressd::serve::{ServeSettings, Server, start};
use expressd::testing::project;
use expressd::testing::server::{BareState, sample_expression};

/// Starts a server without a daemon on a free port; returns it with its event ring.
fn serve() -> (Server, Arc<Ring>) {
    let settings = ServeSettings {
        listen: vec![([127, 0, 0, 1], 0).into()],
        ..ServeSettings::default()
    };
    let ring = Arc::new(Ring::default());
    (
        start(settings, ring.clone(), Arc::new(BareState::default())).expect("a free port"),
        ring,
    )
}

/// Runs `tests/clients/python/SCRIPT` while an event is published every 10 ms; `more` are its
/// further arguments. Panics if it fails.
fn run(script: &str, server: &Server, ring: &Ring, more: &[&str]) -> Output {
    let mut command = Command::new("python3");
    // Set-up unpacks `websockets` into this folder.
    command
        .env("PYTHONPATH", project(".deps/python"))
        .arg(project("tests/clients/python").join(script))
        .arg(format!("ws://{}/v1/events", server.addr()))
        .args(more);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    for number in 0..3000 {
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        ring.publish(sample_expression(number));
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("a child");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script} failed (it needs the Python package `websockets`, which `make test` puts into \
         .deps/python):\n{printed}"
    );
    output
}

#[test]
fn the_short_python_client_prints_events() {
    let (server, ring) = serve();
    let output = run("client.py", &server, &ring, &["5"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(
        lines[0].contains("neutral, happy, sad, angry, fearful, disgusted, surprised"),
        "{text}"
    );
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.contains(" happy ") && line.contains(" 0.81")),
        "{text}"
    );
}

#[test]
fn a_faulty_python_client_gets_the_reason_and_the_close_code() {
    let (server, ring) = serve();
    let output = run("faults.py", &server, &ring, &[]);
    let frames: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let expected = serde_json::json!([
        ["garbage", "malformed", 4400],
        ["list", "malformed", 4400],
        ["binary", "malformed", 4400],
        ["large", "too_large", 1009],
        ["huge", "too_large", 1009],
        ["flood", "rate_limited", 4429],
        ["origin", "forbidden_origin", 4403],
    ]);
    assert_eq!(serde_json::Value::from(frames), expected);
}
