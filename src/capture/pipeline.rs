//! The GStreamer end: what every pipeline has in common, whatever its source.
//!
//! A decoded pad is led through conversion that passes untouched what needs none (I420, square pixels, upright; mono 16 kHz f32)
//! into an `appsink`, whose callbacks hand each sample to the deliveries in [`Taps`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::delivery::{FrameDelivery, RATE, SoundDelivery};

/// Encoded bytes that may wait per stream while the other stream's are awaited: what badly interleaved files need.
pub(super) const INTERLEAVE_BYTES: u32 = 64 << 20;

/// Starts GStreamer once per process.
pub(super) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| gst::init().expect("GStreamer starts: is libgstreamer1.0-0 whole?"));
}

/// Where decoded samples go, and how far each track is.
#[derive(Debug, Default)]
pub(super) struct Taps {
    pub frames: Mutex<Option<FrameDelivery>>,
    pub sound: Mutex<Option<SoundDelivery>>,
    /// Lanes stay open at a track's end: another pass follows.
    pub keep_open: AtomicBool,
    /// Samples that came out of the decoders, and those that are being delivered right now (a full lane makes them wait).
    arrived: AtomicU64,
    delivered: AtomicU64,
    tracks: Mutex<Tracks>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tracks {
    pub video: Track,
    pub audio: Track,
    /// A receiver is gone, or capture is to stop.
    pub closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Track {
    pub present: bool,
    pub ended: bool,
    /// Samples that came out of the decoder.
    pub samples: u64,
}

impl Tracks {
    pub fn over(&self) -> bool {
        [self.video, self.audio]
            .iter()
            .all(|track| track.ended || !track.present)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Video,
    Audio,
}

impl Taps {
    pub fn tracks(&self) -> Tracks {
        *self.tracks.lock().expect("taps lock")
    }

    /// Waits until a track begins, ends or closes, at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> Tracks {
        let tracks = self.tracks.lock().expect("taps lock");
        if tracks.over() {
            *tracks
        } else {
            *self
                .changed
                .wait_timeout(tracks, timeout)
                .expect("taps lock")
                .0
        }
    }

    /// Samples that arrived so far, and whether one of them is still on its way into a lane.
    pub fn progress(&self) -> (u64, bool) {
        let delivered = self.delivered.load(Ordering::Acquire);
        let arrived = self.arrived.load(Ordering::Acquire);
        (arrived, arrived != delivered)
    }

    /// Claims the track for a pad. `false`: another pad feeds it already.
    pub fn begin(&self, kind: Kind) -> bool {
        let mut is_first = false;
        self.update(|tracks| is_first = !std::mem::replace(&mut tracks.of(kind).present, true));
        is_first
    }

    fn update(&self, change: impl FnOnce(&mut Tracks)) {
        change(&mut self.tracks.lock().expect("taps lock"));
        self.changed.notify_all();
    }

    fn sample(
        &self,
        kind: Kind,
        sink: &gst_app::AppSink,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        // A track that nobody wants ends here and is no stop.
        let flow = match kind {
            Kind::Video => self
                .frames
                .lock()
                .expect("taps lock")
                .as_mut()
                .map(|d| d.deliver(sample)),
            Kind::Audio => self
                .sound
                .lock()
                .expect("taps lock")
                .as_mut()
                .map(|d| d.deliver(sample)),
        };
        let (flow, wanted) = (flow.unwrap_or(Err(gst::FlowError::Eos)), flow.is_some());
        self.delivered.fetch_add(1, Ordering::AcqRel);
        self.tracks.lock().expect("taps lock").of(kind).samples += 1;
        if flow == Err(gst::FlowError::Eos) {
            self.update(|tracks| {
                tracks.closed |= wanted;
                tracks.of(kind).ended = true;
            });
        }
        flow
    }

    pub(super) fn ended(&self, kind: Kind) {
        if kind == Kind::Audio
            && let Some(sound) = self.sound.lock().expect("taps lock").as_mut()
        {
            sound.flush();
        }
        if !self.keep_open.load(Ordering::Acquire) {
            match kind {
                Kind::Video => drop(
                    self.frames
                        .lock()
                        .expect("taps lock")
                        .as_mut()
                        .map(FrameDelivery::close),
                ),
                Kind::Audio => drop(
                    self.sound
                        .lock()
                        .expect("taps lock")
                        .as_mut()
                        .map(SoundDelivery::close),
                ),
            }
        }
        self.update(|tracks| tracks.of(kind).ended = true);
    }
}

impl Tracks {
    fn of(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}

/// Attaches branches to the first video and the first audio pad that `decoder` (a `decodebin` or `uridecodebin` in `pipeline`) exposes.
pub(super) fn attach_on_demand(
    pipeline: &gst::Pipeline,
    decoder: &gst::Element,
    taps: &Arc<Taps>,
    video: bool,
    audio: bool,
) {
    let (weak, taps) = (pipeline.downgrade(), taps.clone());
    decoder.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let kind = match caps.structure(0).map(|s| s.name().as_str()) {
            Some(name) if name.starts_with("video/") && video => Kind::Video,
            Some(name) if name.starts_with("audio/") && audio => Kind::Audio,
            _ => return,
        };
        if taps.begin(kind)
            && let Err(error) = attach(pipeline.upcast_ref(), pad, kind, &taps, true)
        {
            gst::element_error!(
                pipeline,
                gst::CoreError::Failed,
                ("cannot connect the decoder: {error}")
            );
        }
    });
}

/// Leads `pad` through a new branch in `bin` to the delivery of `kind`. With `prerolls`, the pipeline waits in PAUSED for
/// the branch's first buffer.
pub(super) fn attach(
    bin: &gst::Bin,
    pad: &gst::Pad,
    kind: Kind,
    taps: &Arc<Taps>,
    prerolls: bool,
) -> Result<(), gst::glib::BoolError> {
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
        Kind::Audio => vec![
            gst::ElementFactory::make("audioconvert").build()?,
            gst::ElementFactory::make("audioresample").build()?,
            filter(
                gst::Caps::builder("audio/x-raw")
                    .field("format", "F32LE")
                    .field("rate", RATE)
                    .field("channels", 1i32)
                    .field("layout", "interleaved")
                    .build(),
            )?,
        ],
    };
    let (at_sample, at_end) = (taps.clone(), taps.clone());
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| at_sample.sample(kind, sink))
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
    // The decoder may write into pictures with strides of its own: nothing is copied to make them fit.
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
    bin.add_many(&elements)?;
    gst::Element::link_many(&elements)?;
    for element in elements.iter().rev() {
        element.sync_state_with_parent()?;
    }
    let entry = elements[0].static_pad("sink").expect("converters have one");
    pad.link(&entry)
        .map_err(|error| gst::glib::bool_error!("{error:?}"))?;
    Ok(())
}

/// Lets a decoder's queues hold what interleaving needs, so that one track that waits for its lane never starves the other for good,
/// and lets MPEG program streams be timed by their stamps alone (their clock references are wrong in files of old writers).
pub(super) fn tame(decoder: &gst::Element) {
    let Some(bin) = decoder.downcast_ref::<gst::Bin>() else {
        return;
    };
    bin.connect_deep_element_added(|_, _, element| {
        match element
            .factory()
            .map(|factory| factory.name().to_string())
            .as_deref()
        {
            Some("decodebin") => element.set_property("max-size-bytes", INTERLEAVE_BYTES),
            Some("mpegpsdemux") => element.set_property("ignore-scr", true),
            _ => {}
        }
    });
}

/// One line of what GStreamer says went wrong.
pub(super) fn reason(error: &gst::message::Error) -> String {
    let text = crate::address::redact(&error.error().to_string());
    text.lines()
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches('.')
        .to_owned()
}

/// What the decoder is that is not installed, if that is what the message says.
pub(super) fn missing_decoder(message: &gst::Message) -> Option<String> {
    let structure = message
        .structure()
        .filter(|s| s.name() == "missing-plugin")?;
    structure.get::<String>("name").ok()
}
