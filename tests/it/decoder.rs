//! Tests of decoder processes: a crash of one ends only its recording, and no process remains.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    Daemon, command, demo, events, eventually, expressd, get, of_type, stderr, wait,
};

/// Runs `ffmpeg ARGS` in `folder`; panics if it fails.
pub fn ffmpeg(folder: &Path, args: &[&str]) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(args)
        .current_dir(folder)
        .output()
        .expect("ffmpeg is installed (config/setup/packages-test.txt)");
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
}

/// The decoder processes that the process `parent` has started.
fn decoders(parent: u32) -> Vec<Pid> {
    let children = std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children
        .collect::<String>()
        .split_whitespace()
        .filter(|pid| is_decoder(pid))
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// Whether the process with this id is a decoder process.
fn is_decoder(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.contains("decoder-process"))
}

/// Waits until `parent` has a decoder process; returns it.
fn decoder(parent: u32) -> Pid {
    let mut found = None;
    eventually("a decoder process", Duration::from_secs(60), || {
        found = decoders(parent).first().copied();
        found.is_some()
    });
    found.expect("found")
}

/// CPU time of a process, in clock ticks of the system.
fn cpu_ticks(process: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    let stat = stat.unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<u64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // The fields utime and stime, see proc(5).
    fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0)
}

/// Sends SIGSEGV to a process until it ends, as after a segmentation fault. Rust's handler for
/// stack overflows ignores the first signal, because it expects a real fault to recur.
fn crash(process: Pid) {
    eventually("the crash", Duration::from_secs(10), || {
        kill_process(process, Signal::SEGV).is_err()
            || !is_decoder(&process.as_raw_nonzero().to_string())
    });
}

/// Creates a recording in a pixel format that GStreamer 1.22 cannot name, which crashes the
/// decoder.
fn unnamed_format(folder: &Path) -> PathBuf {
    let demo = demo();
    let demo = demo.to_str().unwrap();
    ffmpeg(
        folder,
        &[
            "-i", demo, "-t", "0.4", "-an", "-pix_fmt", "gray12le", "-c:v", "ffv1", "b.mkv",
        ],
    );
    folder.join("b.mkv")
}

#[test]
fn an_undecodable_recording_does_not_affect_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let broken = unnamed_format(folder.path());
    let clip = ["-i", demo().to_str().unwrap(), "-t", "2", "-c", "copy"].map(str::to_owned);
    for name in ["a.mkv", "c.mkv"] {
        let args: Vec<&str> = clip.iter().map(String::as_str).chain([name]).collect();
        ffmpeg(folder.path(), &args);
    }
    // Whether the decoder crashes depends on timing, hence several runs.
    for _ in 0..4 {
        let output = expressd(&["replay", broken.to_str().unwrap(), "--jsonl", "-"]);
        let printed = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(
            printed.contains(
                "b.mkv cannot be decoded: its decoder (avdec_ffv1) outputs a pixel format"
            ),
            "{printed}"
        );
        assert!(!printed.contains("CRITICAL"), "{printed}");
    }
    let output = expressd(&["replay", folder.path().to_str().unwrap(), "--jsonl", "-"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let all = events(&output.stdout);
    let of = |name: &str| {
        of_type(&all, "expression")
            .filter(|event| event["recording"] == name)
            .count()
    };
    assert!(of("a.mkv") > 5, "{all:?}");
    assert_eq!(of("a.mkv"), of("c.mkv"));
    assert_eq!(of("b.mkv"), 0);
}

#[test]
fn a_decoder_crash_is_an_error_after_the_decoded_events() {
    let mut child = command(&[
        "replay",
        demo().to_str().unwrap(),
        "--realtime",
        "--jsonl",
        "-",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let (mut out, mut lines) = (child.stdout.take().unwrap(), Vec::new());
    let mut printed = child.stderr.take().unwrap();
    // When the decoder has used 30 ticks, some seconds of the recording are decoded.
    let process = decoder(child.id());
    eventually("work of the decoder", Duration::from_secs(60), || {
        cpu_ticks(process) >= 30
    });
    crash(process);
    std::io::Read::read_to_end(&mut out, &mut lines).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut printed, &mut text).unwrap();
    let status = wait(&mut child, Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("crashed (SIGSEGV) after"), "{text}");
    assert!(text.contains("demo.mp4 cannot be decoded"), "{text}");
    let all = events(&lines);
    assert!(of_type(&all, "expression").count() >= 1);
    assert!(
        of_type(&all, "subject").any(|event| event["phase"] == "lost"),
        "what was begun is brought to its end"
    );
}

#[test]
fn a_live_recording_recovers_after_a_decoder_crash() {
    let source = format!("video.source=uri:{}", demo().display());
    let mut daemon = Daemon::start(&["--set", &source, "--set", "audio.source=uri"]);
    let state = |address: &str| -> (String, String) {
        let (_, body) = get(address, "/v1/status");
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        let video = &status["status"]["sources"]["video"];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        (text(&video["state"]), text(&video["reason"]))
    };
    let address = daemon.address.clone();
    let delivering = || state(&address).0 == "delivering";
    eventually("pictures", Duration::from_secs(60), delivering);
    // One of the processes may be idle: it has only read the list of the recording's tracks.
    let first = decoders(daemon.id());
    for process in &first {
        // Decoders ignore signals to the process group; the daemon handles them.
        kill_process(*process, Signal::TERM).unwrap();
        kill_process(*process, Signal::INT).unwrap();
        crash(*process);
    }
    daemon.wait_for_line("crashed (SIGSEGV)", Duration::from_secs(30));
    eventually("pictures again", Duration::from_secs(60), || {
        delivering() && decoders(daemon.id()).iter().any(|pid| !first.contains(pid))
    });
    let second = decoder(daemon.id());
    daemon.signal(Signal::KILL);
    let ended = || !is_decoder(&second.as_raw_nonzero().to_string());
    eventually("the end of the decoder", Duration::from_secs(10), ended);
}

#[test]
fn the_command_of_decoder_processes_is_internal() {
    let output = command(&["decoder-process"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is internal"));
}
