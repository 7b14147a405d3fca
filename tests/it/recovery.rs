//! Tests of a source that is lost while the daemon runs: `/readyz` and `status` report the loss
//! within two seconds and the recovery within three.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::listen;
use crate::devices::sound_server;
use crate::harness::{Daemon, demo, eventually, get};
use crate::rtsp::{Server, free_port};
use expressd::capture::{DeviceKind, devices};
use expressd::testing::did_not_run;

/// Time limit for the report of a loss.
const NOTICED: Duration = Duration::from_secs(2);
/// Time limit for the recovery.
const RECOVERED: Duration = Duration::from_secs(3);

/// Whether `/readyz` answers 200.
fn ready(daemon: &Daemon) -> bool {
    get(&daemon.address, "/readyz").0 == 200
}

/// State of the source ("video" or "audio") in `/v1/status`.
fn state(daemon: &Daemon, source: &str) -> String {
    let status: Value = serde_json::from_str(&get(&daemon.address, "/v1/status").1).unwrap();
    status["status"]["sources"][source]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_network_camera_is_lost_and_recovers() {
    let port = free_port();
    let source = format!("video.source=uri:rtsp://127.0.0.1:{port}/camera");
    // With an unreachable camera the daemon runs but is not ready.
    let daemon = Daemon::start(&["--set", &source, "--set", "audio.source=none"]);
    let (code, reasons) = get(&daemon.address, "/readyz");
    assert_eq!(code, 503, "{reasons}");
    assert!(reasons.contains("video"), "{reasons}");

    let server = Server::start(port);
    eventually(
        "ready once the camera is there",
        RECOVERED + Duration::from_secs(1),
        || ready(&daemon),
    );
    let address = daemon.address.clone();
    let client = std::thread::Builder::new()
        .name("client".into())
        .spawn(move || {
            listen(&address, Duration::from_secs(15), |frames| {
                frames
                    .iter()
                    .any(|f| f["type"] == "status" && f["sources"]["video"]["state"] == "lost")
            })
        });
    std::thread::sleep(Duration::from_millis(500));
    drop(server);
    let noticed = eventually("the loss", NOTICED, || !ready(&daemon));
    assert_eq!(state(&daemon, "video"), "lost");
    let (frames, _) = client.unwrap().join().unwrap();
    assert!(
        frames
            .iter()
            .any(|f| f["type"] == "status" && f["sources"]["video"]["state"] == "lost"),
        "clients get the status at once"
    );
    let server = Server::start(port);
    let healed = eventually("the return", RECOVERED, || ready(&daemon));
    println!("rtsp through the daemon: loss noticed after {noticed:?}, healed after {healed:?}");
    drop(server);
}

/// A service may start before the USB bus has enumerated its cameras.
#[test]
fn without_a_camera_the_daemon_waits_unless_a_demonstration_is_requested() {
    if devices()
        .iter()
        .any(|device| device.kind == DeviceKind::Video)
    {
        did_not_run("this machine has a camera");
        return;
    }
    let daemon = Daemon::start(&["--set", "audio.source=none"]);
    eventually("the lack of a camera", Duration::from_secs(5), || {
        state(&daemon, "video") == "lost"
    });
    let (code, reasons) = get(&daemon.address, "/readyz");
    assert!(
        code == 503 && reasons.contains("there is no video device"),
        "{code} {reasons}"
    );
    drop(daemon);
    let mut daemon = Daemon::start(&["--set", "audio.source=none", "--demonstration"]);
    eventually("the demonstration", Duration::from_secs(20), || {
        ready(&daemon) && state(&daemon, "video") == "delivering"
    });
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait(Duration::from_secs(5)).code(), Some(0));
}

/// Sets the environment of the command so that it uses the sound server in `folder`.
fn use_sound_server(command: &mut Command, folder: &Path) {
    let socket = format!("unix:{}/pulse/native", folder.display());
    command
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder)
        .env("PULSE_SERVER", socket);
}

#[test]
fn a_microphone_that_appears_after_the_start_is_used() {
    // If there is a sound card, it is the default microphone without a sound server.
    if std::fs::read_dir("/dev/snd")
        .into_iter()
        .flatten()
        .flatten()
        .any(|node| node.file_name().to_string_lossy().starts_with("pcmC"))
    {
        did_not_run("this machine has a sound card");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(
        &[
            "--set",
            "video.source=none",
            "--set",
            "audio.source=default",
        ],
        |command| use_sound_server(command, folder.path()),
    );
    eventually("the lack of a microphone", Duration::from_secs(10), || {
        state(&daemon, "audio") == "lost"
    });
    let (code, reasons) = get(&daemon.address, "/readyz");
    assert!(
        code == 503 && reasons.contains("microphone"),
        "{code} {reasons}"
    );
    let server = sound_server(folder.path());
    eventually("the microphone", Duration::from_secs(10), || ready(&daemon));
    drop(server);
}

#[test]
fn a_microphone_gives_speech_is_lost_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let server = sound_server(folder.path());
    let environment = |command: &mut Command| use_sound_server(command, folder.path());
    let daemon = Daemon::start_with(
        &[
            "--set",
            "video.source=none",
            "--set",
            "audio.source=default",
        ],
        environment,
    );
    eventually("ready", Duration::from_secs(10), || ready(&daemon));

    let sound = folder.path().join("speech.wav");
    voice_of(&demo(), &sound);
    let mut playing = Command::new("paplay");
    environment(playing.arg(&sound));
    let mut playing = playing.spawn().expect("paplay is installed by set-up");
    let has_voice = |frames: &[Value]| {
        frames.iter().any(|f| {
            f["type"] == "expression"
                && f["subject"] == "voice"
                && f["modalities"]["voice"]["used"] == true
        })
    };
    let (frames, _) = listen(&daemon.address, Duration::from_secs(20), has_voice);
    let _ = playing.kill();
    let _ = playing.wait();
    assert!(
        has_voice(&frames),
        "a voice in the microphone is an event on the socket"
    );
    assert!(
        frames
            .iter()
            .any(|f| f["type"] == "speech" && f["phase"] == "start")
    );

    drop(server);
    let noticed = eventually("the loss", NOTICED, || !ready(&daemon));
    assert_eq!(state(&daemon, "audio"), "lost");
    let server = sound_server(folder.path());
    let healed = eventually("the return", RECOVERED, || ready(&daemon));
    println!(
        "microphone through the daemon: loss noticed after {noticed:?}, healed after {healed:?}"
    );
    drop(server);
}

#[test]
fn a_hanging_sound_server_is_reported_as_lost_and_does_not_delay_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let server = sound_server(folder.path());
    let arguments = [
        "--set",
        "video.source=none",
        "--set",
        "audio.source=default",
    ];
    let mut daemon = Daemon::start_with(&arguments, |command| {
        use_sound_server(command, folder.path())
    });
    eventually("ready", Duration::from_secs(10), || ready(&daemon));
    server.signal(rustix::process::Signal::STOP);
    eventually("the loss", Duration::from_secs(5), || {
        state(&daemon, "audio") == "lost"
    });
    // After a second, the next attempt to open waits for the server's answer.
    std::thread::sleep(Duration::from_secs(1));
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait(Duration::from_secs(5)).code(), Some(0));
    server.signal(rustix::process::Signal::CONT);
}

/// Writes the sound track of `recording` to the WAV file `wav`.
fn voice_of(recording: &Path, wav: &Path) {
    use gstreamer as gst;
    use gstreamer::prelude::*;
    gst::init().unwrap();
    let description = format!(
        "uridecodebin uri=file://{} ! audioconvert ! audioresample ! \
         audio/x-raw,rate=44100,channels=1,format=S16LE ! wavenc ! filesink location={}",
        recording.display(),
        wav.display()
    );
    let pipeline = gst::parse::launch(&description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let message = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(20),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(matches!(message.unwrap().view(), gst::MessageView::Eos(_)));
}

/// Number of TCP connections to `port` on this machine; both ends of a connection count.
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let established = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[3] == "01" && (fields[1].ends_with(&port) || fields[2].ends_with(&port))
    };
    table.lines().skip(1).filter(established).count()
}

/// The network camera represents any device: its connection shows whether the capture is open.
#[test]
fn a_pause_closes_the_camera_and_the_session_continues() {
    let port = free_port();
    let _server = Server::start(port);
    let source = format!("video.source=uri:rtsp://127.0.0.1:{port}/camera");
    let daemon = Daemon::start(&["--set", &source, "--set", "audio.source=none"]);
    let patience = Duration::from_secs(20);
    eventually("ready", patience, || ready(&daemon));
    assert!(connections(port) > 0, "the camera is open");

    let address = daemon.address.clone();
    let is_status = |frame: &Value, paused: bool, state: &str| {
        frame["type"] == "status"
            && frame["paused"] == paused
            && frame["sources"]["video"]["state"] == state
    };
    let client = std::thread::Builder::new().spawn(move || {
        listen(&address, Duration::from_secs(60), |frames| {
            let paused = frames.iter().position(|f| is_status(f, true, "off"));
            paused.is_some_and(|at| {
                let after = &frames[at..];
                after.iter().any(|f| is_status(f, false, "delivering"))
            })
        })
    });
    eventually("a client", patience, || {
        let metrics = get(&daemon.address, "/metrics").1;
        metrics.lines().any(|line| line == "expressd_clients 1")
    });
    daemon.signal(Signal::USR1);
    eventually("the camera closed", NOTICED, || connections(port) == 0);
    let (code, reasons) = get(&daemon.address, "/readyz");
    assert_eq!(code, 503, "{reasons}");
    assert!(reasons.contains("paused"), "{reasons}");
    // A second SIGUSR1 has no effect.
    daemon.signal(Signal::USR1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(connections(port), 0);
    let status: Value = serde_json::from_str(&get(&daemon.address, "/v1/status").1).unwrap();
    assert_eq!(status["status"]["paused"], true);
    assert_eq!(get(&daemon.address, "/healthz").0, 200);

    daemon.signal(Signal::USR2);
    eventually("ready again", RECOVERED, || ready(&daemon));
    let (frames, code) = client.unwrap().join().unwrap();
    assert_eq!(code, None, "the connection stays");
    let hellos = frames.iter().filter(|f| f["type"] == "hello").count();
    assert_eq!(hellos, 1);
    let last = frames.last().unwrap();
    assert!(is_status(last, false, "delivering"), "{last}");
}
