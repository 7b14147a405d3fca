//! `expressd doctor`: checks the installation, with one line for each check and a remedy for each
//! fault.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::assembly::{assemble, open_bundle};
use super::{DaemonError, specs};
use crate::assets::locate;
use crate::capture::{self, AudioSpec, DeviceEntry, DeviceKind, VideoSpec};
use crate::config::Config;
use crate::encode::{Provider, Runtime, telemetry_is_off};
use crate::session::{Streams, Tempo};
use crate::speech::open_transcriber;

/// The GStreamer elements to check: name, Debian package, and the feature that needs the element.
const ELEMENTS: [(&str, &str, &str); 9] = [
    ("uridecodebin", "gstreamer1.0-plugins-base", EVERYTHING),
    ("v4l2src", "gstreamer1.0-plugins-good", "webcams"),
    ("jpegdec", "gstreamer1.0-plugins-good", "most webcams"),
    ("avdec_h264", "gstreamer1.0-libav", "H.264"),
    ("avdec_aac", "gstreamer1.0-libav", "AAC"),
    ("rtspsrc", "gstreamer1.0-plugins-good", "network cameras"),
    ("vp9dec", "gstreamer1.0-plugins-good", "the demonstration"),
    ("opusdec", "gstreamer1.0-plugins-base", "the demonstration"),
    ("pipewiresrc", "gstreamer1.0-pipewire", "PipeWire's cameras"),
];
/// The feature of elements that every source needs.
const EVERYTHING: &str = "all media";
/// How long the program that already listens on the port may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The result of one check.
enum Finding {
    Passed(String),
    /// The daemon can run, but something is missing. The text contains the remedy.
    Warning(String),
    /// The daemon cannot run. The text contains the remedy.
    Failure(String),
}

use Finding::{Failure, Passed, Warning};

/// Prints the result of each check, and counts warnings and failures.
#[derive(Default)]
struct Examination {
    warnings: usize,
    failures: usize,
}

impl Examination {
    fn report(&mut self, what: &str, finding: Finding) {
        match finding {
            Passed(text) => println!("ok       {what}: {text}"),
            Warning(text) => {
                self.warnings += 1;
                println!("warning  {what}: {text}");
            }
            Failure(text) => {
                self.failures += 1;
                println!("failure  {what}: {text}");
            }
        }
    }

    /// The result of all checks.
    fn end(self) -> Result<(), DaemonError> {
        match (self.failures, self.warnings) {
            (0, 0) => Ok(()),
            (0, warnings) => Err(DaemonError::Warnings(warnings)),
            (failures, _) => Err(DaemonError::Failures(failures)),
        }
    }
}

/// Runs all checks of `expressd doctor` for this configuration, and prints their results.
///
/// # Errors
/// [`DaemonError::Failures`] if the daemon cannot run, [`DaemonError::Warnings`] if it runs and
/// something is missing.
pub fn examine(config: &Config) -> Result<(), DaemonError> {
    let mut examination = Examination::default();
    examine_inference(config, &mut examination);
    let transcriber = config.speech.transcriber.clone().located(locate);
    examination.report(
        "transcriber",
        match open_transcriber(&transcriber) {
            Ok(None) => Passed("none; clients may send transcripts".into()),
            Ok(Some(_)) => Passed(format!("{transcriber} and its model can be opened")),
            Err(error) => Failure(error.to_string()),
        },
    );
    for (element, package, needed_by) in ELEMENTS {
        let missing =
            || format!("{element} is missing (needed for {needed_by}): apt-get install {package}");
        examination.report(
            "GStreamer",
            if capture::has_element(element) {
                Passed(element.into())
            } else if needed_by == EVERYTHING {
                Failure(missing())
            } else {
                Warning(missing())
            },
        );
    }
    let (video, audio) = specs(config)?;
    let found = capture::devices();
    examination.report("camera", camera(&video, &found));
    examination.report("microphone", microphone(&audio, &found));
    for listen in &config.serve.listen {
        examination.report("port", port(*listen));
    }
    examination.end()
}

/// Checks ONNX Runtime, the bundle and the graphs.
fn examine_inference(config: &Config, examination: &mut Examination) {
    let runtime = match Runtime::load() {
        Ok(runtime) => runtime,
        Err(error) => return examination.report("ONNX Runtime", Failure(error.to_string())),
    };
    examination.report("ONNX Runtime", Passed("loaded".into()));
    examination.report(
        "telemetry",
        if telemetry_is_off() {
            Passed("off: ONNX Runtime sends nothing (ORT_DISABLE_TELEMETRY=1)".into())
        } else {
            Failure("ONNX Runtime may send telemetry: set ORT_DISABLE_TELEMETRY=1".into())
        },
    );
    let bundle = match open_bundle(config, &runtime) {
        Ok(bundle) => bundle,
        Err(error) => return examination.report("bundle", Failure(error.report())),
    };
    examination.report(
        "bundle",
        Passed(format!("{} passed its self-test", bundle.manifest.name)),
    );
    let (requested, used) = (config.inference.provider, bundle.provider());
    let both = format!("{} requested, {} used", requested.name(), used.name());
    let remedy = "no GPU can be used; with an NVIDIA GPU, run `make gpu`";
    examination.report(
        "provider",
        match requested {
            Provider::Auto if used == Provider::Cpu => Passed(format!("{both} ({remedy})")),
            _ if used == Provider::Cpu && requested != Provider::Cpu => {
                Warning(format!("{both}: {remedy}"))
            }
            _ => Passed(both),
        },
    );
    let int8: Vec<_> = bundle.int8_encoders().collect();
    examination.report(
        "precision",
        Passed(if int8.is_empty() {
            "fp32".into()
        } else {
            format!("int8 for {}, otherwise fp32", int8.join(" and "))
        }),
    );
    let streams = Streams {
        video: true,
        audio: true,
    };
    examination.report(
        "stages",
        match assemble(config, &runtime, bundle, streams, Tempo::Live) {
            Ok(_) => Passed(format!(
                "face detector {} and voice-activity detector can be opened",
                config.face.detector.display()
            )),
            Err(error) => Failure(error.report()),
        },
    );
}

/// Names of the usable devices of a kind; `None` if there is none.
fn names(kind: DeviceKind, found: &[DeviceEntry]) -> Option<String> {
    let usable = found
        .iter()
        .filter(|device| device.kind == kind && device.problem.is_none());
    let names: Vec<_> = usable.map(|device| device.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn camera(spec: &VideoSpec, found: &[DeviceEntry]) -> Finding {
    match spec {
        VideoSpec::Auto => match names(DeviceKind::Video, found) {
            Some(names) => Passed(names),
            None => Warning(
                "none found (video.source = \"auto\"): connect one, or set video.source to a \
                 network camera's address, or to \"none\" to run without video"
                    .into(),
            ),
        },
        VideoSpec::V4l2(device) if !Path::new(device).exists() => Failure(format!(
            "there is no {device} (video.source): `expressd devices` lists the devices"
        )),
        VideoSpec::None => Passed("disabled (video.source = \"none\")".into()),
        spec => Passed(format!("video.source = \"{spec}\"")),
    }
}

fn microphone(spec: &AudioSpec, found: &[DeviceEntry]) -> Finding {
    let listed = |config: &str| {
        found.iter().find(|device| {
            device.kind == DeviceKind::Audio && (device.config == config || device.name == config)
        })
    };
    match spec {
        AudioSpec::Default => match listed(&spec.to_string()) {
            Some(_) => Passed(names(DeviceKind::Audio, found).unwrap_or_else(|| spec.to_string())),
            None => Warning(
                "the system has no default microphone (audio.source = \"default\"): connect one, \
                 choose one of `expressd devices`, or set audio.source to \"none\" to run without \
                 audio"
                    .into(),
            ),
        },
        AudioSpec::Device(name) => match listed(name).map(|device| &device.problem) {
            Some(None) => Passed(name.clone()),
            Some(Some(problem)) => Failure(format!(
                "{name} (audio.source) cannot be opened: {problem}; check that its sound server \
                 runs and that this user may connect to it"
            )),
            None => Failure(format!(
                "there is no {name} (audio.source): `expressd devices` lists the devices"
            )),
        },
        AudioSpec::None => Passed("disabled (audio.source = \"none\")".into()),
        AudioSpec::Uri => Passed("the sound of the video's source".into()),
    }
}

/// Checks that the daemon's address is free, or that a running `expressd` uses it.
fn port(listen: SocketAddr) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) => Passed(format!("{listen} is free")),
        Err(_) if is_healthy(listen).unwrap_or(false) => {
            Passed(format!("{listen} is in use by an expressd that answers"))
        }
        Err(error) => Failure(format!(
            "{listen}: {error}; stop the program that has it, or choose another port in \
             serve.listen"
        )),
    }
}

/// Whether a running `expressd` answers at this address.
fn is_healthy(listen: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&listen, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let request = format!("GET /v1/status HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.starts_with("HTTP/1.1 200") && answer.contains("\"type\":\"status\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: DeviceKind, config: &str, problem: Option<&str>) -> DeviceEntry {
        DeviceEntry {
            kind,
            name: format!("the {config}"),
            config: config.into(),
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn a_missing_or_unusable_device_is_not_reported_as_passed() {
        let jack = entry(DeviceKind::Audio, "alsa:jack", Some("no server"));
        let found = [
            jack,
            entry(DeviceKind::Audio, "alsa:hw:1", None),
            entry(DeviceKind::Audio, "default", None),
        ];
        let device = |name: &str| AudioSpec::Device(name.into());
        assert!(matches!(microphone(&AudioSpec::Default, &[]), Warning(_)));
        assert!(matches!(
            microphone(&AudioSpec::Default, &found[..2]),
            Warning(_)
        ));
        let Passed(names) = microphone(&AudioSpec::Default, &found) else {
            panic!("there is one");
        };
        assert_eq!(names, "the alsa:hw:1, the default");
        assert!(matches!(
            microphone(&device("alsa:hw:1"), &found),
            Passed(_)
        ));
        assert!(matches!(
            microphone(&device("alsa:jack"), &found),
            Failure(_)
        ));
        assert!(matches!(
            microphone(&device("alsa:hw:9"), &found),
            Failure(_)
        ));
        assert!(matches!(microphone(&AudioSpec::None, &[]), Passed(_)));
        assert!(matches!(camera(&VideoSpec::Auto, &found), Warning(_)));
        let present = [entry(DeviceKind::Video, "v4l2:/dev/video0", None)];
        assert!(matches!(camera(&VideoSpec::Auto, &present), Passed(_)));
        let absent = VideoSpec::V4l2("/dev/video-none".into());
        assert!(matches!(camera(&absent, &present), Failure(_)));
        assert!(matches!(camera(&VideoSpec::None, &[]), Passed(_)));
    }

    #[test]
    fn warnings_and_failures_have_different_exit_codes() {
        let end = |warnings, failures| {
            let examination = Examination { warnings, failures };
            examination.end().map_err(|error| error.exit_code())
        };
        assert_eq!(
            [end(0, 0), end(2, 0), end(0, 1), end(3, 1)],
            [Ok(()), Err(5), Err(1), Err(1)]
        );
    }

    #[test]
    fn a_port_of_another_program_is_a_failure() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(port(taken.local_addr().unwrap()), Failure(_)));
    }
}
