//! Tests of real capture devices: a microphone (the monitor of a sound server's null sink), the
//! test picture, and devices that are absent.
//!
//! The environment of the process selects the sound server. So the test of the microphone runs
//! itself again as a child process with another environment.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use expressd::capture::{
    AudioSpec, CaptureError, DeviceKind, Outputs, SourceHealth, VideoSpec, devices, open_live,
};
use expressd::clip::AudioBlock;
use expressd::event::SourceState;
use expressd::lane::{LaneReceiver, Received, WhenFull, lane};
use expressd::time::{Clock, SystemClock, monotonic_nanos};

use crate::harness::{expressd, stderr};

/// Environment variable that is set in the child process: the folder of its sound server.
const FOLDER: &str = "EXPRESSD_TEST_SOUND";

#[test]
fn a_microphone_delivers_is_lost_and_recovers() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return deliver_lose_and_recover(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "devices::a_microphone_delivers_is_lost_and_recovers",
            "--nocapture",
        ])
        .env(FOLDER, folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("HOME", folder.path())
        .env(
            "PULSE_SERVER",
            format!("unix:{}/pulse/native", folder.path().display()),
        )
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!(
        "{}",
        text.lines()
            .find(|line| line.starts_with("microphone:"))
            .unwrap()
    );
}

/// A child process that is killed when dropped.
pub struct ChildProcess(Child);

impl ChildProcess {
    /// Sends a signal to the process.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a PulseAudio server with its socket in `folder`; its null sink "mic" is the default
/// microphone.
pub fn sound_server(folder: &Path) -> ChildProcess {
    let child = Command::new("pulseaudio")
        .args([
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--log-level=error",
        ])
        .args(["-L", "module-null-sink sink_name=mic rate=44100", "-L"])
        .arg(format!(
            "module-native-protocol-unix socket={}/pulse/native auth-anonymous=1",
            folder.display()
        ))
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder)
        .stderr(Stdio::null())
        .spawn()
        .expect("pulseaudio starts: is it installed?");
    let socket = folder.join("pulse/native");
    let begun = monotonic_nanos();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(
            monotonic_nanos() - begun < 10_000_000_000,
            "no sound server after 10 s"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    ChildProcess(child)
}

/// Writes a 1 kHz tone with amplitude 0.5 as a WAV file.
fn tone(path: &Path, seconds: u32) {
    let samples: Vec<u8> = (0..44_100 * seconds)
        .flat_map(|n| {
            (((f64::from(n) / 44.1 * std::f64::consts::TAU).sin() * 16_384.0) as i16).to_le_bytes()
        })
        .collect();
    let mut wav = Vec::new();
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + samples.len() as u32).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&44_100u32.to_le_bytes());
    wav.extend_from_slice(&88_200u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&(samples.len() as u32).to_le_bytes());
    wav.extend_from_slice(&samples);
    std::fs::write(path, wav).unwrap();
}

/// Waits until the audio is in `state`; returns the elapsed seconds. Panics after `limit_seconds`.
fn wait_for(health: &SourceHealth, state: SourceState, limit_seconds: f64) -> f64 {
    let begun = monotonic_nanos();
    let seconds = || (monotonic_nanos() - begun) as f64 * 1e-9;
    while health.audio.status().state != state {
        assert!(
            seconds() < limit_seconds,
            "not {state:?} within {limit_seconds} s but {:?}",
            health.audio.status()
        );
        health.wait_for_change(health.changes(), Duration::from_millis(20));
    }
    seconds()
}

/// Receives audio blocks for `seconds` seconds.
fn receive_blocks(lane: &LaneReceiver<AudioBlock>, seconds: f64) -> Vec<AudioBlock> {
    let (begun, mut blocks) = (monotonic_nanos(), Vec::new());
    while ((monotonic_nanos() - begun) as f64) < seconds * 1e9 {
        if let Received::Item(block) = lane.recv(Some(Duration::from_millis(50))) {
            blocks.push(block);
        }
    }
    blocks
}

/// (Share of the energy at 1 kHz, root mean square) of samples at 16 kHz.
fn at_one_kilohertz(samples: &[f32]) -> (f64, f64) {
    let (mut re, mut im, mut energy) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let (phase, sample) = (n as f64 / 16.0 * std::f64::consts::TAU, f64::from(*sample));
        (re, im, energy) = (
            re + sample * phase.cos(),
            im + sample * phase.sin(),
            energy + sample * sample,
        );
    }
    let n = samples.len() as f64;
    (
        (re * re + im * im) * 2.0 / n / energy.max(1e-12),
        (energy / n).sqrt(),
    )
}

/// The test in the child process: the microphone delivers a tone, is lost with its server, and
/// recovers.
fn deliver_lose_and_recover(folder: &Path) {
    let server = sound_server(folder);
    let listed = devices();
    assert!(
        listed
            .iter()
            .any(|entry| entry.kind == DeviceKind::Audio && entry.config == "default"),
        "{listed:?}"
    );

    let (clock, health) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
    );
    let (audio, audio_out) = lane("audio", 1000, WhenFull::DropOldest);
    let capture = open_live(
        &VideoSpec::None,
        &AudioSpec::Default,
        clock.clone(),
        Outputs {
            frames: None,
            audio: Some(audio),
        },
        health.clone(),
    )
    .unwrap();
    let opened = wait_for(&health, SourceState::Delivering, 3.0);

    let wav = folder.join("tone.wav");
    tone(&wav, 6);
    let playing = ChildProcess(
        Command::new("paplay")
            .arg("--device=mic")
            .arg(&wav)
            .spawn()
            .expect("paplay: is pulseaudio-utils installed?"),
    );
    receive_blocks(&audio_out, 1.5);
    let blocks = receive_blocks(&audio_out, 3.0);
    drop(playing);
    let samples: Vec<f32> = blocks
        .iter()
        .flat_map(|block| block.samples.iter().copied())
        .collect();
    let (share, loudness) = at_one_kilohertz(&samples[..16_000]);
    let (first, last) = (&blocks[0], &blocks[blocks.len() - 1]);
    let counted = (samples.len() - last.samples.len()) as f64 / 16e3;
    let rate = counted / (last.time.nanos_since(first.time) as f64 * 1e-9);
    let latency_ms = clock.now().millis_since(last.span().end);
    assert!(
        share > 0.95 && (0.2..0.5).contains(&loudness),
        "{share} of the sound is the tone, loudness {loudness}"
    );
    assert!((rate - 1.0).abs() < 0.005, "{rate} of the nominal rate");
    assert!(blocks.is_sorted_by(|a, b| a.time < b.time));
    assert!((0.0..1000.0).contains(&latency_ms), "{latency_ms} ms");

    drop(server);
    let noticed = wait_for(&health, SourceState::Lost, 2.0);
    std::thread::sleep(Duration::from_secs(3));
    let server = sound_server(folder);
    let healed = wait_for(&health, SourceState::Delivering, 3.0);
    let begun = monotonic_nanos();
    capture.stop();
    let stopped = (monotonic_nanos() - begun) as f64 * 1e-9;
    assert!(stopped < 1.0, "{stopped} s");
    drop(server);
    println!(
        "microphone: delivering after {opened:.2} s, tone {share:.3} of the energy, rate \
         {rate:.5}, newest sample {latency_ms:.0} ms old, loss noticed after {noticed:.2} s, \
         healed after {healed:.2} s, \
         stopped in {stopped:.2} s"
    );
}

#[test]
fn absent_devices_files_and_elements_have_their_own_errors() {
    let outputs = || Outputs {
        frames: None,
        audio: None,
    };
    let open = |video: &str, audio: &str| {
        open_live(
            &video.parse().unwrap(),
            &audio.parse().unwrap(),
            Arc::new(SystemClock::new()),
            outputs(),
            Arc::default(),
        )
        .err()
        .unwrap()
    };
    assert!(matches!(
        open("v4l2:/dev/video97", "none"),
        CaptureError::NoSuchDevice { .. }
    ));
    assert!(matches!(
        open("none", "alsa:no such microphone"),
        CaptureError::NoSuchDevice { .. }
    ));
    assert!(matches!(
        open("uri:/no/such/file.mp4", "none"),
        CaptureError::NoSuchFile(_)
    ));
    assert!(matches!(
        open("gst:nosuchelement ! fakesink", "none"),
        CaptureError::Unsupported { .. }
    ));
    assert!(matches!(
        open("test", "uri"),
        CaptureError::Unsupported { .. }
    ));
}

#[test]
fn frames_of_the_test_picture_are_stamped_when_they_are_created() {
    let (clock, health) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
    );
    let (frames, frames_out) = lane("frames", 4, WhenFull::DropOldest);
    let capture = open_live(
        &VideoSpec::Test,
        &AudioSpec::None,
        clock.clone(),
        Outputs {
            frames: Some(frames),
            audio: None,
        },
        health,
    )
    .unwrap();
    let (mut ages, mut times) = (Vec::new(), Vec::new());
    while times.len() < 30 {
        let Received::Item(frame) = frames_out.recv(Some(Duration::from_secs(5))) else {
            panic!("no picture")
        };
        ages.push(clock.now().millis_since(frame.time));
        times.push(frame.time);
    }
    capture.stop();
    ages.sort_by(f64::total_cmp);
    assert!(times.is_sorted_by(|a, b| a < b));
    assert!(ages[0] >= 0.0 && ages[15] < 100.0, "{ages:?}");
    let step_ms = times[29].millis_since(times[0]) / 29.0;
    assert!((step_ms - 33.33).abs() < 5.0, "{step_ms} ms a frame");
}

/// Without a sound card ALSA itself writes to standard error, which must not be visible.
#[test]
fn doctor_and_devices_print_no_library_messages() {
    let none = ["--set", "video.source=none", "--set", "audio.source=none"];
    let port = ["--set", "serve.listen=127.0.0.1:0"];
    let doctor = expressd(&[&["doctor"], &none[..], &port[..]].concat());
    let printed = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(
        doctor.status.code(),
        Some(0),
        "{printed}{}",
        stderr(&doctor)
    );
    assert_eq!(stderr(&doctor), "");
    assert!(
        printed.lines().all(|line| line.starts_with("ok       ")),
        "{printed}"
    );
    let absent = "audio.source=alsa:hw:CARD=none_such";
    let doctor = expressd(&[&["doctor", "--set", absent], &none[..2], &port[..]].concat());
    let printed = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("failure  microphone: there is no "),
        "{printed}"
    );
    let errors = stderr(&doctor);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    let listed = expressd(&["devices"]);
    assert_eq!(stderr(&listed), "");
    let run = expressd(&["run", "--set", "serve.listen=192.0.2.1:1"]);
    assert!(!stderr(&run).contains("ALSA lib"), "{}", stderr(&run));
}
