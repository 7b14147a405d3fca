//! Where live pictures (and their sound track) enter a pipeline: one place per kind of source.

use std::path::Path;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::devices::first_webcam;
use super::error::CaptureError;
use super::pipeline::{Taps, attach_on_demand, tame};
use super::recording::missing_base_plugins;
use super::spec::VideoSpec;
use crate::address::Address;

/// Jitter buffer of network cameras.
const RTSP_LATENCY_MS: u32 = 100;
/// Until an attempt to reach a network camera counts as failed.
const CONNECT_TIMEOUT_MICROS: u64 = 2_000_000;

/// What a webcam is asked for, best first: enough to see a face well, and a rate that shows its motion.
const WEBCAM_CAPS: &str = "video/x-raw, width=(int)[320,1280], height=(int)[240,1024], framerate=(fraction)[15/1,60/1]; \
    image/jpeg, width=(int)[320,1280], height=(int)[240,1024], framerate=(fraction)[15/1,60/1]; \
    video/x-raw; image/jpeg; video/x-h264";

/// Puts the source of `spec` and its decoder into `pipeline`; what they decode goes to `taps`.
pub(super) fn build(
    spec: &VideoSpec,
    pipeline: &gst::Pipeline,
    taps: &Arc<Taps>,
    video: bool,
    audio: bool,
) -> Result<(), CaptureError> {
    if let VideoSpec::Uri(uri) = spec {
        let decoder = make("uridecodebin")?;
        decoder.set_property("uri", uri.expose());
        let choose_transport = uri.expose().starts_with("rtsp://");
        decoder.connect("source-setup", false, move |values| {
            if let Ok(source) = values[1].get::<gst::Element>() {
                set_up(&source, choose_transport);
            }
            None
        });
        tame(&decoder);
        attach_on_demand(pipeline, &decoder, taps, video, audio);
        pipeline.add(&decoder).map_err(unlinked)?;
        return Ok(());
    }
    let source = match spec {
        VideoSpec::Auto => webcam(first_webcam().ok_or_else(no_webcam)?)?,
        VideoSpec::V4l2(device) => {
            if !Path::new(device).exists() {
                return Err(CaptureError::NoSuchDevice {
                    kind: "video device",
                    name: device.clone(),
                });
            }
            let source = make("v4l2src")?;
            source.set_property("device", device);
            webcam(source)?
        }
        VideoSpec::Pipewire(node) => {
            let source = gst::ElementFactory::make("pipewiresrc")
                .build()
                .map_err(|_| CaptureError::Unsupported {
                    what: "a PipeWire camera".into(),
                    remedy: "install gstreamer1.0-pipewire".into(),
                })?;
            if let Some(node) = node {
                let property = if source.has_property("target-object") {
                    "target-object"
                } else {
                    "path"
                };
                source.set_property(property, node);
            }
            // A PipeWire stream agrees on a format only with a peer that says what it takes; decodebin takes anything.
            raw(source)?
        }
        VideoSpec::Test => bin(
            &"videotestsrc is-live=true pattern=ball ! capsfilter caps=video/x-raw,format=I420,width=640,height=480,framerate=30/1".into(),
        )?,
        VideoSpec::Gst(description) => bin(description)?,
        VideoSpec::None | VideoSpec::Uri(_) => unreachable!("no source element"),
    };
    let decoder = make("decodebin")?;
    attach_on_demand(pipeline, &decoder, taps, video, audio);
    pipeline.add_many([&source, &decoder]).map_err(unlinked)?;
    source.link(&decoder).map_err(unlinked)
}

fn make(factory: &str) -> Result<gst::Element, CaptureError> {
    gst::ElementFactory::make(factory)
        .build()
        .map_err(|_| match factory {
            "v4l2src" => CaptureError::Unsupported {
                what: "a webcam".into(),
                remedy: "install gstreamer1.0-plugins-good".into(),
            },
            _ => missing_base_plugins(),
        })
}

fn bin(description: &Address) -> Result<gst::Element, CaptureError> {
    let unsupported = |reason: String| CaptureError::Unsupported {
        what: format!("`gst:{description}` ({reason})"),
        remedy: "try the same description with gst-launch-1.0, ended by `! fakesink`".into(),
    };
    let bin = gst::parse::bin_from_description(description.expose(), true)
        .map_err(|error| unsupported(description.hide_in(&error.to_string())))?;
    if bin.src_pads().is_empty() {
        return Err(unsupported("it has no free source pad".into()));
    }
    Ok(bin.upcast())
}

/// A camera behind the formats that it is asked for, as one element.
fn webcam(source: gst::Element) -> Result<gst::Element, CaptureError> {
    let filter = make("capsfilter")?;
    filter.set_property(
        "caps",
        WEBCAM_CAPS.parse::<gst::Caps>().expect("valid caps"),
    );
    let bin = gst::Bin::new();
    bin.add_many([&source, &filter]).map_err(unlinked)?;
    source.link(&filter).map_err(unlinked)?;
    let pad = gst::GhostPad::with_target(&filter.static_pad("src").expect("filters have one"))
        .map_err(unlinked)?;
    bin.add_pad(&pad).map_err(unlinked)?;
    Ok(bin.upcast())
}

/// A source of raw pictures behind an element that names the formats it takes, as one element.
fn raw(source: gst::Element) -> Result<gst::Element, CaptureError> {
    let converter = make("videoconvert")?;
    let bin = gst::Bin::new();
    bin.add_many([&source, &converter]).map_err(unlinked)?;
    source.link(&converter).map_err(unlinked)?;
    let pad =
        gst::GhostPad::with_target(&converter.static_pad("src").expect("converters have one"))
            .map_err(unlinked)?;
    bin.add_pad(&pad).map_err(unlinked)?;
    Ok(bin.upcast())
}

fn no_webcam() -> CaptureError {
    CaptureError::NoSuchDevice {
        kind: "video device",
        name: "auto".into(),
    }
}

fn unlinked(error: gst::glib::BoolError) -> CaptureError {
    CaptureError::Unsupported {
        what: format!("this video source ({error})"),
        remedy: "name another; `expressd devices` lists what there is".into(),
    }
}

/// Network sources: little latency, early failure.
fn set_up(source: &gst::Element, choose_transport: bool) {
    match source
        .factory()
        .map(|factory| factory.name().to_string())
        .as_deref()
    {
        Some("rtspsrc") => {
            source.set_property("latency", RTSP_LATENCY_MS);
            source.set_property("drop-on-latency", true);
            source.set_property("tcp-timeout", CONNECT_TIMEOUT_MICROS);
            // A lost TCP connection is noticed at once, and no firewall is in its way. `rtspu://` asks for UDP.
            if choose_transport {
                source.set_property_from_str("protocols", "tcp");
            }
        }
        Some("souphttpsrc") => source.set_property("timeout", 5u32),
        _ => {}
    }
}
