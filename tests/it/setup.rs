//! Tests that set-up prints one line a step and writes the output of its commands to a log.

use std::fs;
use std::process::Command;

use crate::harness::stderr;

#[test]
fn a_failed_step_names_its_log_and_prints_its_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let wheels = folder.path().join("wheels.txt");
    let machine = std::env::consts::ARCH;
    let line =
        format!("run onnxruntime {machine} onnxruntime 0.0.999 cp311,cp311,any 00 onnxruntime/*\n");
    fs::write(&wheels, line).unwrap();
    let deps = folder.path().join("deps");
    let output = Command::new("sh")
        .arg("config/setup/setup.sh")
        .arg("run")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("SETUP_SKIP_PACKAGES", "1")
        .env("WHEELS", &wheels)
        .env("DEPS", &deps)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (errors, printed) = (
        stderr(&output),
        String::from_utf8(output.stdout.clone()).unwrap(),
    );
    let log = deps.join("setup.log");
    assert!(errors.contains(&log.display().to_string()), "{errors}");
    assert!(errors.contains("0.0.999"), "{errors}");
    // Standard output contains only the names of the steps.
    assert!(
        printed.lines().all(|line| line.starts_with("setup: ")),
        "{printed}"
    );
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains("pip download"), "{logged}");
}
