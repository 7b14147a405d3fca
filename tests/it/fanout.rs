//! Tests that one client that never reads neither delays nor loses events for the other clients,
//! and that memory does not grow.

use std::process::Command;

use serde_json::Value;

#[path = "../../src/bin/expressd/bench/fan_out.rs"]
mod fan_out;

use fan_out::fan_out;

/// Environment variable that is set in the child process, which measures.
const IN_CHILD: &str = "EXPRESSD_TEST_FAN_OUT";

#[test]
fn fan_out_is_not_much_slower_than_a_bare_writer() {
    if std::env::var_os(IN_CHILD).is_some() {
        let report = fan_out(100, 30.0, 4.0).expect("a fan-out on loopback");
        println!("\nREPORT {}", serde_json::to_string(&report).expect("JSON"));
        return;
    }
    // The measurement runs in its own process, so that the memory of other tests is not included.
    let this = std::env::current_exe().expect("this test's binary");
    let name = "fanout::fan_out_is_not_much_slower_than_a_bare_writer";
    let output = Command::new(this)
        .args(["--exact", name, "--nocapture"])
        .env(IN_CHILD, "1")
        .output()
        .expect("this binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let report = text
        .lines()
        .find_map(|line| line.strip_prefix("REPORT "))
        .unwrap_or_else(|| {
            panic!(
                "no report in\n{text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
    eprintln!("{report}");
    let report: Value = serde_json::from_str(report).expect("JSON");
    let p50 = |side: &str| report[side]["p50_ms"].as_f64().expect("a time");
    assert_eq!(report["server"]["rounds"], 120);
    // The goal, a ratio of 2 between the 99th percentiles, applies to an idle machine (`expressd
    // bench --clients 100`). On a busy machine only medians that are measured side by side are
    // stable.
    assert!(p50("server") <= 2.0 * p50("bare") + 0.2, "{report}");
    assert!(p50("stalled") <= 1.5 * p50("server") + 0.2, "{report}");
    assert!(
        report["rss_growth_bytes"].as_i64().expect("bytes") < 1 << 20,
        "{report}"
    );
}
