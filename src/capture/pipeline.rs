//! GStreamer elements that the pipelines of all sources share.
//!
//! A decoded pad is linked through converters into an `appsink`, which delivers each sample to
//! [`TrackSinks`]. Media in the target format pass the converters unchanged (I420, square pixels,
//! upright; mono 16 kHz f32).

use std::sync::{Arc, Once};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::decoded::{DecodedPicture, DecodedSound, Kind, Sink};
use super::sample::{PictureLayout, sound_of};
use super::sound_branch::{self, SoundBranch};
use super::track_sinks::TrackSinks;
use crate::clip::SAMPLE_RATE_HZ;

/// Limit of the encoded bytes that a `decodebin` queues. While one stream has no data, the other is
/// queued: badly interleaved files need this much.
pub(super) const INTERLEAVE_BYTES: u32 = 64 << 20;

/// Starts GStreamer once per process.
pub(super) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| gst::init().expect("GStreamer starts; reinstall libgstreamer1.0-0"));
}

/// Links the decoded `pad` through a new branch in `bin` to the sink of `kind`. Returns the entry
/// pad of the branch. With `prerolls`, the pipeline waits in PAUSED for the branch's first buffer.
/// `sound`: settings of the downmix.
pub(super) fn attach<F: Sink<DecodedPicture>, S: Sink<DecodedSound>>(
    bin: &gst::Bin,
    pad: &gst::Pad,
    kind: Kind,
    sinks: &Arc<TrackSinks<F, S>>,
    prerolls: bool,
    sound: SoundBranch,
) -> Result<gst::Pad, gst::glib::BoolError> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let filter = |caps: gst::Caps| {
        gst::ElementFactory::make("capsfilter")
            .property("caps", caps)
            .build()
    };
    let mut elements = match kind {
        Kind::Video => vec![
            gst::ElementFactory::make("videoconvert").build()?,
            filter(
                gst::Caps::builder("video/x-raw")
                    .field("format", "I420")
                    .build(),
            )?,
            gst::ElementFactory::make("videoscale").build()?,
            filter(
                gst::Caps::builder("video/x-raw")
                    .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
                    .build(),
            )?,
            gst::ElementFactory::make("videoflip")
                .property_from_str("video-direction", "auto")
                .build()?,
        ],
        Kind::Audio => {
            let mut elements = sound_branch::elements(&sound, &caps)?;
            elements.push(gst::ElementFactory::make("audioresample").build()?);
            elements.push(filter(
                gst::Caps::builder("audio/x-raw")
                    .field("format", "F32LE")
                    .field("rate", SAMPLE_RATE_HZ as i32)
                    .field("channels", 1i32)
                    .field("layout", "interleaved")
                    .build(),
            )?);
            elements
        }
    };
    let (at_sample, at_end) = (sinks.clone(), sinks.clone());
    let mut layout = PictureLayout::default();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let flow = match kind {
                Kind::Video => at_sample.picture(layout.picture_of(sample)?),
                Kind::Audio => at_sample.sound(sound_of(sample)?),
            };
            flow.map(|()| gst::FlowSuccess::Ok)
                .map_err(|_| gst::FlowError::Eos)
        })
        .eos(move |_| at_end.ended(kind))
        .build();
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .max_buffers(1)
        .enable_last_sample(false)
        .qos(false)
        .async_(prerolls)
        .callbacks(callbacks)
        .build();
    // Announces that video meta are accepted: the decoder may use its own strides, and no picture
    // is copied.
    sink.static_pad("sink").expect("appsink has one").add_probe(
        gst::PadProbeType::QUERY_DOWNSTREAM,
        |_, info| match info.query_mut().map(|q| q.view_mut()) {
            Some(gst::QueryViewMut::Allocation(query)) => {
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                gst::PadProbeReturn::Handled
            }
            _ => gst::PadProbeReturn::Ok,
        },
    );
    elements.push(sink.upcast());
    if kind == Kind::Video && !has_valid_aspect_ratio(&caps) {
        // Some demuxers pass on an invalid pixel aspect ratio of -1 by 1.
        let repair = gst::ElementFactory::make("capssetter")
            .property(
                "caps",
                gst::Caps::builder("video/x-raw")
                    .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
                    .build(),
            )
            .build()?;
        elements.insert(0, repair);
    }
    bin.add_many(&elements)?;
    gst::Element::link_many(&elements)?;
    for element in elements.iter().rev() {
        element.sync_state_with_parent()?;
    }
    let entry = elements[0].static_pad("sink").expect("converters have one");
    pad.link(&entry)
        .map_err(|error| gst::glib::bool_error!("{error:?}"))?;
    Ok(entry)
}

/// Whether the caps state a positive pixel aspect ratio, or none.
fn has_valid_aspect_ratio(caps: &gst::CapsRef) -> bool {
    let ratio = caps
        .structure(0)
        .and_then(|structure| structure.get::<gst::Fraction>("pixel-aspect-ratio").ok());
    ratio.is_none_or(|ratio| ratio.numer() > 0 && ratio.denom() > 0)
}

/// Configures a decoder and the elements inside it. Its queues hold enough for bad interleaving, so
/// that a track that waits for its lane does not starve the other. MPEG program streams are timed
/// by their stamps alone, because old writers store wrong clock references.
pub(super) fn configure_decoder(decoder: &gst::Element) {
    configure_element(decoder);
    let Some(bin) = decoder.downcast_ref::<gst::Bin>() else {
        return;
    };
    bin.connect_deep_element_added(|_, _, element| configure_element(element));
}

/// Sets the properties of one element, if it is a `decodebin` or a demuxer of program streams.
fn configure_element(element: &gst::Element) {
    match element
        .factory()
        .map(|factory| factory.name().to_string())
        .as_deref()
    {
        Some("decodebin") => element.set_property("max-size-bytes", INTERLEAVE_BYTES),
        Some("mpegpsdemux") => element.set_property("ignore-scr", true),
        _ => {}
    }
}

/// First line of GStreamer's error message, without secrets.
pub(super) fn reason(error: &gst::message::Error) -> String {
    let text = crate::address::redact(&error.error().to_string());
    text.lines()
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches('.')
        .to_owned()
}

/// Name of the missing decoder that the message reports; `None` for other messages.
pub(super) fn missing_plugin(message: &gst::Message) -> Option<String> {
    let structure = message
        .structure()
        .filter(|s| s.name() == "missing-plugin")?;
    structure.get::<String>("name").ok()
}
