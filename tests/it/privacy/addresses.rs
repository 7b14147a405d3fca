//! Tests that no output of the daemon shows the user name, password or token of a camera's address.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use super::{LoggedDaemon, PATIENCE};
use crate::daemon::listen;
use crate::harness::{command, eventually, get};

/// Texts that must not be shown: parts of [`USER`], of its decoded form and of [`TOKEN`].
const SECRETS: [&str; 3] = ["quagga", "numbat", "tapir"];
/// User name and password in the tested addresses, percent-encoded.
const USER: &str = "quaggauser:numbat%40pw";
/// Query of the tested addresses.
const TOKEN: &str = "token=tapirtoken";

/// Panics with `what` if `text` contains one of [`SECRETS`].
#[track_caller]
fn holds_no_secret(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows {secret}: {text}");
    }
}

/// Starts a camera that refuses every RTSP and HTTP request until the test ends; returns its port.
fn refusing_camera() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        for stream in listener.incoming().flatten() {
            let answer = move || drop(refuse(&stream));
            std::thread::Builder::new()
                .name("camera".into())
                .spawn(answer)
                .unwrap();
        }
    };
    std::thread::Builder::new()
        .name("cameras".into())
        .spawn(serve)
        .unwrap();
    port
}

/// Answers each request of a connection with 401.
fn refuse(stream: &TcpStream) -> std::io::Result<()> {
    let (mut protocol, mut sequence) = ("RTSP/1.0", String::new());
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.contains("HTTP/1.") {
            protocol = "HTTP/1.1";
        }
        if line.starts_with("CSeq") {
            sequence = format!("{line}\r\n");
        }
        if line.is_empty() {
            let head = format!(
                "{protocol} 401 Unauthorized\r\n{sequence}WWW-Authenticate: Basic \
                 realm=\"camera\"\r\nContent-Length: 0\r\n\r\n"
            );
            let mut stream = stream;
            stream.write_all(head.as_bytes())?;
        }
    }
    Ok(())
}

#[test]
fn no_output_shows_the_secrets_of_a_cameras_address() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refusing = refusing_camera();
    let sources = [
        format!("uri:rtsp://{USER}@127.0.0.1:{closed}/live?{TOKEN}"),
        format!("uri:rtsp://{USER}@127.0.0.1:{refusing}/live?{TOKEN}"),
        format!("uri:http://{USER}@127.0.0.1:{refusing}/live?{TOKEN}"),
        format!(
            "gst:rtspsrc location=rtsp://127.0.0.1:{refusing}/live?{TOKEN} user-id=quagga \
             user-pw=\"numbat pw\" ! rtph264depay"
        ),
    ];
    for (number, source) in sources.into_iter().enumerate() {
        let setting = format!("video.source={source}");
        let daemon = LoggedDaemon::start(
            &["--set", &setting, "--set", "audio.source=none"],
            Some("trace"),
        );
        // Each attempt to open is logged at the level `debug`. A camera that refuses is tried again
        // after a minute.
        let attempts = if number == 0 { 2 } else { 1 };
        eventually("the attempts", PATIENCE, || {
            daemon.text().matches("video source lost").count() >= attempts
        });
        let (frames, _) = listen(&daemon.address, PATIENCE, |frames| {
            frames.iter().any(|frame| frame["type"] == "status")
        });
        let frames = serde_json::to_string(&frames).unwrap();
        assert!(frames.contains("\"lost\""), "{frames}");
        holds_no_secret("an event", &frames);
        for page in ["/v1/status", "/readyz", "/metrics"] {
            holds_no_secret(page, &get(&daemon.address, page).1);
        }
        let output = daemon.stop();
        assert!(
            output.contains("***"),
            "the address is shown in part: {output}"
        );
        holds_no_secret("the output", &output);
    }
}

#[test]
fn errors_about_addresses_show_none_of_their_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.toml");
    fs::write(
        &broken,
        format!("[video]\nsource = \"uri:rtsp://{USER}@host/live?{TOKEN}\n"),
    )
    .unwrap();
    let address = format!("rtsp://{USER}@host/live?{TOKEN}");
    let wrong_values = [
        format!("video.source={address}"),
        "video.source=rtsp://quagga:numbat pw/tapir@host".to_owned(),
        format!("video.source {address}"),
        format!("video.source=[\"{address}\"]"),
        format!("{address}=1"),
        format!("vidoe.source={address}"),
        format!("face.min_face_px={address}"),
        format!("log.level={address}"),
        format!("serve.allow_origins=[\"{address}\"]"),
        format!("video={address}"),
    ];
    let mut commands: Vec<Vec<&str>> = wrong_values
        .iter()
        .map(|value| vec!["check", "--set", value])
        .collect();
    let wrong_sources = [
        format!("video.source=v4l2:{address}"),
        format!("video.source=uri:rtsp:/{USER}@host/live?{TOKEN}"),
        format!("video.source=uri:{USER}@host/live?{TOKEN}"),
        format!("video.source=gst:rtspsrc location={address} user-pw=numbat ! nosuchelement"),
        format!("video.source=gst:rtspsrc user-pw=numbat latency=numbat{USER}@x ! fakesink"),
    ];
    commands.extend(wrong_sources.iter().map(|value| {
        vec![
            "run",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "audio.source=none",
            "--set",
            value,
        ]
    }));
    let microphone = format!("audio.source={address}");
    commands.push(vec![
        "run",
        "--listen",
        "127.0.0.1:0",
        "--set",
        "video.source=none",
        "--set",
        &microphone,
    ]);
    commands.push(vec!["run", &address]);
    commands.push(vec!["run", "--replay", &address]);
    commands.push(vec!["replay", &address, "--jsonl", "-"]);
    commands.push(vec!["check", "--config", broken.to_str().unwrap()]);
    for args in commands {
        let output = command(&args).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success(), "{args:?}: {text}");
        assert!(
            text.lines().any(|line| !line.trim().is_empty()),
            "{args:?}: {text}"
        );
        holds_no_secret(&args.join(" "), &text);
    }
    // `check` lists a valid source without its secrets; `doctor` does not open the source.
    let right = format!("video.source=uri:{address}");
    let checked = command(&["check", "--set", &right]).output().unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.contains("video.source = \"uri:rtsp://***@host/live?***\""),
        "{checked}"
    );
    let doctor = command(&[
        "doctor",
        "--set",
        &right,
        "--set",
        "serve.listen=127.0.0.1:0",
    ])
    .output()
    .unwrap();
    let doctor = String::from_utf8_lossy(&[doctor.stdout, doctor.stderr].concat()).into_owned();
    assert!(doctor.contains("ok       telemetry: off"), "{doctor}");
    holds_no_secret("doctor", &doctor);
    holds_no_secret("check", &checked);
}
