//! `expressd doctor`: what is wrong here, one line per thing looked at, the remedy behind what is wrong.

use super::DaemonError;
use super::assembly::{Streams, assemble, open_bundle};
use super::pipeline::Tempo;
use crate::capture::{self, DeviceKind};
use crate::config::{Config, locate};
use crate::encode::{Provider, Runtime, telemetry_is_off};
use crate::speech::open_transcriber;

/// GStreamer elements that common cameras, files and network cameras need, and the Debian package that brings each.
const ELEMENTS: [(&str, &str); 9] = [
    ("v4l2src", "gstreamer1.0-plugins-good"),
    ("jpegdec", "gstreamer1.0-plugins-good"),
    ("uridecodebin", "gstreamer1.0-plugins-base"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avdec_aac", "gstreamer1.0-libav"),
    ("rtspsrc", "gstreamer1.0-plugins-good"),
    // The demonstration recording's.
    ("vp9dec", "gstreamer1.0-plugins-good"),
    ("opusdec", "gstreamer1.0-plugins-base"),
    ("pipewiresrc", "gstreamer1.0-pipewire"),
];

/// Looks at everything, then fails if something was wrong.
pub fn examine(config: &Config) -> Result<(), DaemonError> {
    let mut wrong = 0;
    let mut say = |what: &str, result: Result<String, String>| match result {
        Ok(text) => println!("ok     {what}: {text}"),
        Err(text) => {
            wrong += 1;
            println!("wrong  {what}: {text}");
        }
    };
    match Runtime::load() {
        Err(error) => say("ONNX Runtime", Err(error.to_string())),
        Ok(runtime) => {
            say("ONNX Runtime", Ok("loaded".into()));
            say(
                "telemetry",
                if telemetry_is_off() {
                    Ok("off: ONNX Runtime sends nothing (ORT_DISABLE_TELEMETRY=1)".into())
                } else {
                    Err("ONNX Runtime may send some: set ORT_DISABLE_TELEMETRY=1".into())
                },
            );
            match open_bundle(config, &runtime) {
                Err(error) => say("bundle", Err(error.report())),
                Ok(bundle) => {
                    let (asked, used) = (config.inference.provider, bundle.provider());
                    say(
                        "bundle",
                        Ok(format!("{} passed its self-test", bundle.manifest.name)),
                    );
                    let on_cpu = used == Provider::Cpu && asked != Provider::Cpu;
                    let why = if on_cpu {
                        " (no GPU can be used; on a machine with one of NVIDIA's: `make gpu`)"
                    } else {
                        ""
                    };
                    say(
                        "provider",
                        Ok(format!(
                            "{} asked for, {} used{why}",
                            asked.name(),
                            used.name()
                        )),
                    );
                    let int8: Vec<_> = bundle.in_eight_bits().collect();
                    say(
                        "precision",
                        Ok(if int8.is_empty() {
                            "fp32".into()
                        } else {
                            format!("int8 for {}, else fp32", int8.join(" and "))
                        }),
                    );
                    let streams = Streams {
                        video: true,
                        audio: true,
                    };
                    say(
                        "stages",
                        assemble(config, &runtime, bundle, streams, Tempo::Live)
                            .map(|_| "detector and voice activity open".into())
                            .map_err(|e| e.report()),
                    );
                }
            }
        }
    }
    let transcriber = config.speech.transcriber.clone().located(locate);
    say(
        "transcriber",
        match open_transcriber(&transcriber) {
            Ok(None) => Ok("none; clients may tell words".into()),
            Ok(Some(_)) => Ok(format!("{transcriber} opens with its model")),
            Err(error) => Err(error.to_string()),
        },
    );
    for (element, package) in ELEMENTS {
        let found = capture::has_element(element);
        say(
            "GStreamer",
            if found {
                Ok(element.into())
            } else {
                Err(format!("{element} is missing: apt-get install {package}"))
            },
        );
    }
    let devices = capture::devices();
    for (kind, name) in [
        (DeviceKind::Video, "camera"),
        (DeviceKind::Audio, "microphone"),
    ] {
        let names: Vec<_> = devices
            .iter()
            .filter(|d| d.kind == kind)
            .map(|d| d.name.as_str())
            .collect();
        // None is normal: recordings and network cameras need none.
        say(
            name,
            Ok(if names.is_empty() {
                "none found".into()
            } else {
                names.join(", ")
            }),
        );
    }
    for listen in &config.serve.listen {
        say(
            "port",
            std::net::TcpListener::bind(listen)
                .map(|_| format!("{listen} is free"))
                .map_err(|e| format!("{listen}: {e}; is another expressd running?")),
        );
    }
    if wrong == 0 {
        Ok(())
    } else {
        Err(DaemonError::Stage(format!(
            "doctor: {wrong} thing(s) are wrong"
        )))
    }
}
