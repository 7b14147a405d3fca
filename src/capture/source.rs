//! The source elements of live video (and its sound track), one for each kind of source.

use std::path::Path;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::devices::first_webcam;
use super::error::{CaptureError, missing_base_plugins};
use super::loss;
use super::multipart;
use super::spec::VideoSpec;
use super::track_linker::{EnabledTracks, TrackLinker};
use crate::address::Address;

/// Length of the jitter buffer for network cameras, in milliseconds.
const RTSP_LATENCY_MS: u32 = 100;
/// Time limit for the connection to a network camera, in microseconds.
const CONNECT_TIMEOUT_MICROS: u64 = 2_000_000;

/// Time without data after which an HTTP connection has failed, in seconds: longer than any stall
/// limit.
const HTTP_TIMEOUT_SECONDS: u32 = 40;

/// Formats that are requested from a webcam, best first: a size and a rate that suffice for faces
/// and their motion.
const WEBCAM_CAPS: &str = "video/x-raw, width=(int)[320,1280], height=(int)[240,1024], \
    framerate=(fraction)[15/1,60/1]; image/jpeg, width=(int)[320,1280], \
    height=(int)[240,1024], framerate=(fraction)[15/1,60/1]; \
    video/x-raw; image/jpeg; video/x-h264";

/// Adds the source of `spec` to `pipeline`. `linker` links the pads of the source to the track
/// sinks.
pub(super) fn build(
    spec: &VideoSpec,
    pipeline: &gst::Pipeline,
    linker: &Arc<TrackLinker>,
) -> Result<(), CaptureError> {
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
            // A PipeWire stream negotiates a format only with a peer of restricted formats;
            // decodebin accepts any.
            raw(source)?
        }
        VideoSpec::Test => bin(&"videotestsrc is-live=true pattern=ball ! \
             capsfilter caps=video/x-raw,format=I420,width=640,height=480,framerate=30/1"
            .into())?,
        VideoSpec::Gst(description) => bin(description)?,
        VideoSpec::Uri(uri) => network(uri, linker.enabled())?,
        VideoSpec::None => unreachable!("no source element"),
    };
    pipeline.add(&source).map_err(unlinked)?;
    linker.link_pads(pipeline.upcast_ref(), &source, false);
    Ok(())
}

/// The source element of a network address.
fn network(address: &Address, enabled: EnabledTracks) -> Result<gst::Element, CaptureError> {
    let uri = address.expose();
    if loss::is_unusable(uri) {
        return Err(CaptureError::Unsupported {
            what: "the video source's address".into(),
            remedy: loss::ESCAPE_REMEDY.into(),
        });
    }
    let source = gst::Element::make_from_uri(gst::URIType::Src, uri, None).map_err(|error| {
        if error.matches(gst::URIError::UnsupportedProtocol) {
            CaptureError::Unsupported {
                what: "this kind of address".into(),
                remedy: "install gstreamer1.0-plugins-good and -bad, or check the address".into(),
            }
        } else {
            CaptureError::Unsupported {
                what: "the video source's address".into(),
                remedy: "check it".into(),
            }
        }
    })?;
    let name = source.factory().map(|factory| factory.name().to_string());
    match name.as_deref() {
        Some("rtspsrc") => {
            source.set_property("latency", RTSP_LATENCY_MS);
            source.set_property("drop-on-latency", true);
            source.set_property("tcp-timeout", CONNECT_TIMEOUT_MICROS);
            // The loss of a TCP connection is detected at once, and firewalls permit it. `rtspu://`
            // selects UDP.
            if uri.starts_with("rtsp://") {
                source.set_property_from_str("protocols", "tcp");
            }
            source.connect("select-stream", false, move |values| {
                let media = values[2].get::<gst::Caps>().ok().and_then(|caps| {
                    let structure = caps.structure(0)?;
                    structure.get::<String>("media").ok()
                });
                let is_wanted = match media.as_deref() {
                    Some("video") | None => true,
                    Some("audio") => enabled.audio,
                    Some(_) => false,
                };
                Some(is_wanted.to_value())
            });
        }
        Some("souphttpsrc") => {
            // The stall limit of the source applies first; this timeout ends connections to a
            // vanished server.
            source.set_property("timeout", HTTP_TIMEOUT_SECONDS);
            source.set_property("retries", 0i32);
            multipart::insert_missing_boundary(&source);
        }
        _ => {}
    }
    Ok(source)
}

/// Creates a GStreamer element; the error names the Debian package that is missing.
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

/// A bin with the elements of a `gst:` description and a ghost pad for each free source pad.
fn bin(description: &Address) -> Result<gst::Element, CaptureError> {
    let unsupported = |reason: String| CaptureError::Unsupported {
        what: format!("`gst:{description}` ({reason})"),
        remedy: "try the same description with gst-launch-1.0, ended by `! fakesink`".into(),
    };
    // Pads are exposed here: the parser would also expose sinks that wait for a delayed link, and
    // break that link.
    let bin = gst::parse::bin_from_description(description.expose(), false)
        .map_err(|error| unsupported(description.redact_in(&error.to_string())))?;
    let mut may_come = false;
    for element in bin.children() {
        for pad in element.src_pads() {
            expose(&bin, &pad).map_err(unlinked)?;
        }
        may_come |= element.pad_template_list().iter().any(|template| {
            template.direction() == gst::PadDirection::Src
                && template.presence() == gst::PadPresence::Sometimes
        });
        let within = bin.downgrade();
        element.connect_pad_added(move |element, pad| {
            if let Some(bin) = within.upgrade()
                && let Err(error) = expose(&bin, pad)
            {
                gst::element_error!(element, gst::CoreError::Pad, ("{error}"));
            }
        });
    }
    if bin.src_pads().is_empty() && !may_come {
        return Err(unsupported("it has no free source pad".into()));
    }
    Ok(bin.upcast())
}

/// Adds a ghost pad to `bin` for `pad`, if it is a source pad that is not linked.
fn expose(bin: &gst::Bin, pad: &gst::Pad) -> Result<(), gst::glib::BoolError> {
    if pad.direction() != gst::PadDirection::Src || pad.is_linked() {
        return Ok(());
    }
    // Pads of different elements can have the same name.
    let owner = pad.parent().map(|owner| owner.name());
    let name = format!("{}_{}", owner.as_deref().unwrap_or_default(), pad.name());
    let ghost = gst::GhostPad::builder_with_target(pad)?.name(name).build();
    ghost.set_active(true)?;
    bin.add_pad(&ghost)
}

/// A camera and the filter of its requested formats, as one element.
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

/// A source of raw video and a converter, which restricts the formats, as one element.
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

/// The error for `auto` without a webcam.
fn no_webcam() -> CaptureError {
    CaptureError::NoSuchDevice {
        kind: "video device",
        name: "auto".into(),
    }
}

/// The error for elements that cannot be linked.
fn unlinked(error: gst::glib::BoolError) -> CaptureError {
    CaptureError::Unsupported {
        what: format!("this video source ({error})"),
        remedy: "choose another; `expressd devices` lists the devices".into(),
    }
}
