//! Decoding without any processing: the baseline of the overhead benchmark.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::CaptureError;
use super::pipeline::init;

/// Whether the GStreamer element `name` is installed.
pub fn has_element(name: &str) -> bool {
    init();
    gst::ElementFactory::find(name).is_some()
}

/// Decodes every picture and sample of the file as fast as GStreamer can, and discards them.
///
/// # Errors
/// [`CaptureError::Unreadable`] if the file cannot be decoded.
pub fn bare_decode(path: &Path) -> Result<(), CaptureError> {
    init();
    let unreadable = |reason: String| CaptureError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let uri = std::path::absolute(path)
        .ok()
        .and_then(|path| gst::glib::filename_to_uri(path, None).ok())
        .ok_or_else(|| unreadable("its path cannot be written as a URI".into()))?;
    let pipeline = gst::Pipeline::new();
    let missing = |_| unreadable("GStreamer's base plugins are missing".into());
    let decoder = gst::ElementFactory::make("uridecodebin")
        .property("uri", uri.as_str())
        .build()
        .map_err(missing)?;
    pipeline.add(&decoder).map_err(missing)?;
    let weak = pipeline.downgrade();
    decoder.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let Ok(sink) = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .property("async", false)
            .build()
        else {
            return;
        };
        if pipeline.add(&sink).is_ok() && sink.sync_state_with_parent().is_ok() {
            let _ = pad.link(&sink.static_pad("sink").expect("a fakesink has a sink pad"));
        }
    });
    let bus = pipeline.bus().expect("pipelines have a bus");
    let _ = pipeline.set_state(gst::State::Playing);
    let last = bus.timed_pop_filtered(
        gst::ClockTime::NONE,
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    let _ = pipeline.set_state(gst::State::Null);
    match last.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Error(error)) => Err(unreadable(error.error().to_string())),
        _ => Ok(()),
    }
}
