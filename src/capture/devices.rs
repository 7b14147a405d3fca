//! Enumeration of the capture devices of this machine.

use cpal::traits::{DeviceTrait, HostTrait};
use gstreamer as gst;
use gstreamer::prelude::*;

use super::library_messages::{AlsaMessages, CapturedStderr};
use super::pipeline::init;

/// The kind of a capture device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Video,
    Audio,
}

/// A capture device and the configuration value that selects it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeviceEntry {
    pub kind: DeviceKind,
    /// Name for display.
    pub name: String,
    /// The value of `video.source` or `audio.source` that selects the device.
    pub config: String,
    /// The reason why the device cannot be opened now, if there is one; known for microphones only.
    pub problem: Option<String>,
}

/// ALSA plugins (converters and sinks) that are present with any hardware and are no microphones.
/// They are not listed, but can be opened by name.
const ALSA_PLUGINS: [&str; 8] = [
    "null",
    "lavrate",
    "samplerate",
    "speexrate",
    "speex",
    "oss",
    "upmix",
    "vdownmix",
];

/// Lists webcams (from GStreamer's device monitor) and microphones (from cpal's default host), each
/// with the configuration value that selects it.
pub fn devices() -> Vec<DeviceEntry> {
    init();
    let mut entries: Vec<DeviceEntry> = webcams()
        .iter()
        .filter_map(|device| {
            let properties = device.properties()?;
            let get = |key: &str| properties.get::<String>(key).ok();
            let config = match get("device.path").or_else(|| get("api.v4l2.path")) {
                Some(path) => format!("v4l2:{}", stable_path(&path)),
                None => format!(
                    "pipewire:{}",
                    get("node.name").or_else(|| get("object.serial"))?
                ),
            };
            Some(DeviceEntry {
                kind: DeviceKind::Video,
                name: device.display_name().to_string(),
                config,
                problem: None,
            })
        })
        .collect();
    let _messages = (CapturedStderr::capture(), AlsaMessages::capture());
    let host = cpal::default_host();
    if host
        .default_input_device()
        .is_some_and(|device| device.default_input_config().is_ok())
    {
        entries.push(DeviceEntry {
            kind: DeviceKind::Audio,
            name: "the host's default microphone".into(),
            config: "default".into(),
            problem: None,
        });
    }
    for device in host.input_devices().into_iter().flatten() {
        let Ok(id) = device.id() else { continue };
        let id = id.to_string();
        if ALSA_PLUGINS
            .iter()
            .any(|plugin| id == format!("alsa:{plugin}"))
        {
            continue;
        }
        entries.push(DeviceEntry {
            kind: DeviceKind::Audio,
            name: device.to_string(),
            config: id,
            problem: device
                .default_input_config()
                .err()
                .map(|error| error.to_string()),
        });
    }
    entries
}

/// The source element of the first webcam; `None` if there is no webcam.
pub(super) fn first_webcam() -> Option<gst::Element> {
    init();
    webcams().first()?.create_element(None).ok()
}

/// The webcams that GStreamer's device monitor finds.
fn webcams() -> Vec<gst::Device> {
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Video/Source"), None);
    if monitor.start().is_err() {
        return Vec::new();
    }
    let devices = monitor.devices().into_iter().collect();
    monitor.stop();
    devices
}

/// A symbolic link to `path` that stays valid when the camera gets another number; `path` itself if
/// there is none. Links in `/dev/v4l/by-id` name the camera at any port. For cameras without a
/// serial name, links in `/dev/v4l/by-path` name the port.
fn stable_path(path: &str) -> String {
    let target = std::fs::canonicalize(path).ok();
    let link_in = |folder: &str| {
        let links = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|link| link.path());
        links
            .filter(|link| target.is_some() && std::fs::canonicalize(link).ok() == target)
            .min()
    };
    let link = ["/dev/v4l/by-id", "/dev/v4l/by-path"]
        .into_iter()
        .find_map(link_in);
    link.map_or_else(|| path.to_owned(), |link| link.display().to_string())
}
