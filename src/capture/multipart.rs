//! Repair of motion JPEG over HTTP from cameras that omit the first boundary.

use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;

/// Inserts the first boundary of a multipart body where a camera omits it. Some cameras begin with
/// the headers of the first part, without the boundary that RFC 2046, section 5.1.1, requires. The
/// boundary that the HTTP header states is inserted, so that the media type and the first part are
/// recognised.
pub(super) fn insert_missing_boundary(source: &gst::Element) {
    let Some(pad) = source.static_pad("src") else {
        return;
    };
    let is_done = AtomicBool::new(false);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        if is_done.load(Ordering::Relaxed) {
            return gst::PadProbeReturn::Remove;
        }
        let begins = buffer.map_readable().ok().and_then(|bytes| {
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            first.copied()
        });
        let Some(begins) = begins else {
            return gst::PadProbeReturn::Ok;
        };
        is_done.store(true, Ordering::Relaxed);
        if begins != b'-'
            && let Some(boundary) = content_type(pad).as_deref().and_then(boundary)
        {
            let line = gst::Buffer::from_slice(format!("--{boundary}\r\n").into_bytes());
            let mut whole = line;
            whole.append(buffer.copy());
            *buffer = whole;
        }
        gst::PadProbeReturn::Ok
    });
}

/// The content type of the HTTP response, from the event that the source sends before its data;
/// `None` if there is none.
fn content_type(pad: &gst::Pad) -> Option<String> {
    let mut found = None;
    pad.sticky_events_foreach(|event| {
        let headers = event
            .structure()
            .filter(|structure| structure.name() == "http-headers")
            .and_then(|structure| structure.get::<gst::Structure>("response-headers").ok());
        if let Some(headers) = headers {
            found = headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
                .and_then(|(_, value)| value.get::<String>().ok());
        }
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
    found
}

/// The boundary that a multipart content type states, without the dashes that precede it in the
/// body. `None` for other content types.
fn boundary(content_type: &str) -> Option<&str> {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next()?;
    if !media
        .get(..10)
        .is_some_and(|begin| begin.eq_ignore_ascii_case("multipart/"))
    {
        return None;
    }
    let value = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then_some(value)
    })?;
    // Several cameras write the dashes into the header too.
    let value = value.trim().trim_matches('"');
    let value = value.strip_prefix("--").unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::boundary;

    #[test]
    fn boundaries_of_real_cameras_are_parsed() {
        for (header, expected) in [
            ("multipart/x-mixed-replace; boundary=12ab", Some("12ab")),
            (
                "multipart/x-mixed-replace;boundary=\"my frame\"",
                Some("my frame"),
            ),
            (
                "Multipart/X-Mixed-Replace; charset=x; Boundary = --frame",
                Some("frame"),
            ),
            ("multipart/x-mixed-replace", None),
            ("multipart/x-mixed-replace; boundary=", None),
            ("image/jpeg; boundary=x", None),
            ("", None),
        ] {
            assert_eq!(boundary(header), expected, "{header}");
        }
    }
}
