//! Linking of the pads of a live source to the track sinks.
//!
//! Every pad is linked separately when it appears, through demuxers down to single tracks, and each
//! track gets its own decoder. A `decodebin` over the whole source would wait until all tracks have
//! data. With separate decoders, a track that never starts, or cannot be decoded, does not affect
//! the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

use super::decoded::Kind;
use super::pipeline::{INTERLEAVE_BYTES, attach, configure_decoder};
use super::running_time::RunningTimeMap;
use super::sound_branch::SoundBranch;
use super::track_sinks::TrackSinks;
use super::tracks::ChannelSelection;
use crate::time::{Clock, SystemClock};

/// The kinds of tracks that are linked to a sink.
#[derive(Clone, Copy, Debug)]
pub(super) struct EnabledTracks {
    pub video: bool,
    pub audio: bool,
    /// Channel selection for the sound track.
    pub channel: ChannelSelection,
}

impl EnabledTracks {
    /// Whether tracks of this kind are linked.
    pub fn takes(self, kind: Kind) -> bool {
        match kind {
            Kind::Video => self.video,
            Kind::Audio => self.audio,
        }
    }
}

/// The media of a pad, as far as its caps state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Track(Kind),
    /// Subtitles, metadata and the like.
    Other,
    /// The caps do not state the kind of media.
    Unknown,
}

/// Links the pads of one pipeline's source.
#[derive(Debug)]
pub(super) struct TrackLinker {
    sinks: Arc<TrackSinks>,
    enabled: EnabledTracks,
    clock: Arc<SystemClock>,
    /// Running-time map of a source that is not live. Its offsets are set so that the first decoded
    /// buffer is due on arrival.
    paced: Arc<RunningTimeMap>,
    /// Whether the offsets of `paced` are set.
    is_anchored: AtomicBool,
    /// Whether the source is live, and therefore not paced.
    pub is_live: AtomicBool,
    /// Creation time of this value, in nanoseconds of `clock`: running time 0 of pictures without
    /// stamps.
    began_nanos: i64,
    branches: Mutex<Vec<Branch>>,
}

/// The elements of one track in the pipeline.
#[derive(Debug)]
struct Branch {
    bin: glib::WeakRef<gst::Bin>,
    kind: Kind,
    /// Whether data have arrived for the track's decoder.
    has_data: Arc<AtomicBool>,
    /// Whether an element of the track has failed, so that no more data enter it.
    is_broken: Arc<AtomicBool>,
}

impl TrackLinker {
    pub fn new(
        pipeline: &gst::Pipeline,
        sinks: Arc<TrackSinks>,
        enabled: EnabledTracks,
        clock: Arc<SystemClock>,
        paced: Arc<RunningTimeMap>,
    ) -> Arc<Self> {
        let linker = Arc::new(TrackLinker {
            sinks,
            enabled,
            began_nanos: clock.now().nanos(),
            clock,
            paced,
            is_anchored: AtomicBool::new(false),
            is_live: AtomicBool::new(false),
            branches: Mutex::default(),
        });
        // The handler runs on the failing thread, before the error propagates upstream and stops
        // the other tracks.
        let watching = linker.clone();
        let bus = pipeline.bus().expect("pipelines have a bus");
        bus.set_sync_handler(move |_, message| {
            if message.type_() == gst::MessageType::Error {
                watching.broken_track(message);
            }
            gst::BusSyncReply::Pass
        });
        linker
    }

    /// The kinds of tracks that are linked to a sink.
    pub fn enabled(&self) -> EnabledTracks {
        self.enabled
    }

    /// Whether encoded data have arrived for a decoder of this kind.
    pub fn has_data(&self, kind: Kind) -> bool {
        let branches = self.branches.lock().expect("branches lock");
        let mut fed = branches.iter().filter(|branch| branch.kind == kind);
        fed.any(|branch| branch.has_data.load(Ordering::Acquire))
    }

    /// The kind of the track whose elements posted this error; that track is then disconnected.
    /// `None`: the error concerns the whole source.
    pub fn broken_track(&self, message: &gst::MessageRef) -> Option<Kind> {
        let source = message.src()?;
        let branches = self.branches.lock().expect("branches lock");
        let branch = branches.iter().rev().find(|branch| {
            let bin = branch.bin.upgrade();
            bin.is_some_and(|bin| source == &bin || source.has_as_ancestor(&bin))
        })?;
        branch.is_broken.store(true, Ordering::Release);
        Some(branch.kind)
    }

    /// Links the present and future source pads of `element`, which is in `parent`. `queued`: each
    /// track is decoded on a separate thread.
    pub fn link_pads(self: &Arc<Self>, parent: &gst::Bin, element: &gst::Element, queued: bool) {
        let (linker, parent_bin) = (self.clone(), parent.downgrade());
        element.connect_pad_added(move |_, pad| {
            if let Some(parent) = parent_bin.upgrade() {
                linker.link_pad(&parent, pad, queued);
            }
        });
        for pad in element.src_pads() {
            self.link_pad(parent, &pad, queued);
        }
    }

    /// Links a free source pad to a branch of its own, or discards its data if they are not wanted.
    fn link_pad(self: &Arc<Self>, parent: &gst::Bin, pad: &gst::Pad, queued: bool) {
        if pad.direction() != gst::PadDirection::Src || pad.is_linked() {
            return;
        }
        let linked = match media_of(pad) {
            Media::Track(kind) if !self.enabled.takes(kind) => discard(parent, pad),
            Media::Other if queued => discard(parent, pad),
            _ => self.branch(parent, pad, queued),
        };
        post_link_error(parent, linked);
    }

    /// Links `pad` to a `typefind` in a new bin. `queued`: the bin runs on a separate thread,
    /// because the pad's thread also serves other tracks.
    fn branch(
        self: &Arc<Self>,
        parent: &gst::Bin,
        pad: &gst::Pad,
        queued: bool,
    ) -> Result<(), glib::BoolError> {
        let bin = gst::Bin::new();
        // A decoder that waits for its first data blocks only its own bin.
        bin.set_property("async-handling", true);
        let typefind = gst::ElementFactory::make("typefind").build()?;
        bin.add(&typefind)?;
        let mut entry = typefind.static_pad("sink").expect("typefind has one");
        if queued {
            let queue = gst::ElementFactory::make("queue")
                .property("max-size-bytes", INTERLEAVE_BYTES)
                .property("max-size-buffers", 0u32)
                .property("max-size-time", 0u64)
                .build()?;
            bin.add(&queue)?;
            queue.link(&typefind)?;
            entry = queue.static_pad("sink").expect("queues have one");
        }
        let ghost = gst::GhostPad::with_target(&entry)?;
        ghost.set_active(true)?;
        bin.add_pad(&ghost)?;
        let (linker, parent_bin) = (self.clone(), bin.downgrade());
        let is_found = AtomicBool::new(false);
        typefind.connect("have-type", false, move |values| {
            let (typefind, caps) = (
                values[0].get::<gst::Element>(),
                values[2].get::<gst::Caps>(),
            );
            if let (Some(bin), Ok(typefind), Ok(caps)) = (parent_bin.upgrade(), typefind, caps)
                && !is_found.swap(true, Ordering::AcqRel)
            {
                post_link_error(&bin, linker.decode(&bin, &typefind, &caps));
            }
            None
        });
        parent.add(&bin)?;
        bin.sync_state_with_parent()?;
        pad.link(&ghost)
            .map_err(|error| glib::bool_error!("{error:?}"))?;
        Ok(())
    }

    /// Confines errors in `bin` to its track. After an error no data enter the bin, so that its
    /// flow error does not stop the source.
    fn isolate(&self, bin: &gst::Bin, kind: Kind) {
        let is_broken = Arc::new(AtomicBool::new(false));
        let has_data = Arc::new(AtomicBool::new(false));
        let data = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        for entry in bin.sink_pads() {
            let (is_cut, has_data) = (is_broken.clone(), has_data.clone());
            entry.add_probe(data, move |_, _| {
                has_data.store(true, Ordering::Release);
                if is_cut.load(Ordering::Acquire) {
                    gst::PadProbeReturn::Handled
                } else {
                    gst::PadProbeReturn::Ok
                }
            });
        }
        self.branches.lock().expect("branches lock").push(Branch {
            bin: bin.downgrade(),
            kind,
            has_data,
            is_broken,
        });
    }

    /// Links `typefind` to a demuxer or a decoder for `caps`.
    fn decode(
        self: &Arc<Self>,
        bin: &gst::Bin,
        typefind: &gst::Element,
        caps: &gst::Caps,
    ) -> Result<(), glib::BoolError> {
        let element = match demuxer(caps) {
            Some(factory) => {
                let demuxer = factory.create().build()?;
                if demuxer.has_property("ignore-scr") {
                    demuxer.set_property("ignore-scr", true);
                }
                bin.add(&demuxer)?;
                self.link_pads(bin, &demuxer, true);
                demuxer
            }
            None => {
                if let Media::Track(kind) = media_in(caps) {
                    self.isolate(bin, kind);
                }
                let decoder = gst::ElementFactory::make("decodebin").build()?;
                configure_decoder(&decoder);
                let (linker, parent_bin) = (self.clone(), bin.downgrade());
                decoder.connect_pad_added(move |_, pad| {
                    if let Some(bin) = parent_bin.upgrade() {
                        post_link_error(&bin, linker.deliver(&bin, pad));
                    }
                });
                bin.add(&decoder)?;
                decoder
            }
        };
        element.sync_state_with_parent()?;
        typefind.link(&element)
    }

    /// Links a decoded pad to the sink of its kind. Pads of other kinds, and further pads of the
    /// same kind, are discarded.
    fn deliver(self: &Arc<Self>, bin: &gst::Bin, pad: &gst::Pad) -> Result<(), glib::BoolError> {
        let kind = match media_of(pad) {
            Media::Track(kind) if self.enabled.takes(kind) && self.sinks.begin(kind) => kind,
            _ => return discard(bin, pad),
        };
        self.anchor(pad, kind);
        let sound = SoundBranch::live(self.enabled.channel);
        attach(bin, pad, kind, &self.sinks, false, sound).map(|_| ())
    }

    /// For a source that is not live: starts pacing at the first decoded buffer, and stamps
    /// pictures without stamps with their arrival time.
    fn anchor(self: &Arc<Self>, pad: &gst::Pad, kind: Kind) {
        let linker = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if linker.is_live.load(Ordering::Acquire) {
                return gst::PadProbeReturn::Remove;
            }
            let segment = pad
                .sticky_event::<gst::event::Segment>(0)
                .and_then(|event| event.segment().downcast_ref::<gst::ClockTime>().cloned());
            let (Some(segment), Some(buffer)) = (segment, info.buffer_mut()) else {
                return gst::PadProbeReturn::Ok;
            };
            let now = linker.clock.now().nanos();
            let stamped = buffer.pts().and_then(|pts| segment.to_running_time(pts));
            let running = match stamped {
                Some(running) => running.nseconds() as i64,
                None if kind == Kind::Video => {
                    let running = now - linker.began_nanos;
                    let stamp = segment
                        .position_from_running_time(gst::ClockTime::from_nseconds(running as u64));
                    buffer.make_mut().set_pts(stamp);
                    running
                }
                // Sound without stamps is counted from 0.
                None => 0,
            };
            if !linker.is_anchored.swap(true, Ordering::AcqRel) {
                linker
                    .paced
                    .stamp_offset
                    .store(now - running, Ordering::Release);
                linker
                    .paced
                    .release_offset
                    .store(now - running, Ordering::Release);
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// Posts a failed link as an error of `bin`.
fn post_link_error(bin: &gst::Bin, linked: Result<(), glib::BoolError>) {
    if let Err(error) = linked {
        gst::element_error!(
            bin,
            gst::CoreError::Failed,
            ("cannot connect the decoder: {error}")
        );
    }
}

/// Links `pad` to a `fakesink`: a source stops when one of its pads is not linked.
fn discard(parent: &gst::Bin, pad: &gst::Pad) -> Result<(), glib::BoolError> {
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .property("enable-last-sample", false)
        .build()?;
    parent.add(&sink)?;
    sink.sync_state_with_parent()?;
    pad.link(&sink.static_pad("sink").expect("sinks have one"))
        .map_err(|error| glib::bool_error!("{error:?}"))?;
    Ok(())
}

/// The media of a pad, by its current or possible caps.
fn media_of(pad: &gst::Pad) -> Media {
    media_in(&pad.current_caps().unwrap_or_else(|| pad.query_caps(None)))
}

/// The media that the caps state.
fn media_in(caps: &gst::CapsRef) -> Media {
    if caps.is_any() {
        return Media::Unknown;
    }
    let Some(structure) = caps.structure(0) else {
        return Media::Unknown;
    };
    let name = structure.name().as_str();
    let name = match name {
        "application/x-rtp" => match structure.get::<&str>("media") {
            Ok(media) => media,
            Err(_) => return Media::Unknown,
        },
        _ => name.split('/').next().unwrap_or_default(),
    };
    match name {
        "video" | "image" => Media::Track(Kind::Video),
        "audio" => Media::Track(Kind::Audio),
        _ => Media::Other,
    }
}

/// The best demuxer for `caps`; `None` if there is none. Demuxers of adaptive formats are excluded:
/// they only work inside a `decodebin`.
fn demuxer(caps: &gst::Caps) -> Option<gst::ElementFactory> {
    let factories = gst::ElementFactory::factories_with_type(
        gst::ElementFactoryType::DEMUXER,
        gst::Rank::MARGINAL,
    );
    factories
        .into_iter()
        .filter(|factory| {
            let klass = factory.metadata(gst::ELEMENT_METADATA_KLASS);
            !klass.is_some_and(|klass| klass.contains("Adaptive"))
                && factory.static_pad_templates().iter().any(|template| {
                    template.direction() == gst::PadDirection::Sink
                        && caps.is_subset(&template.caps())
                })
        })
        .max_by_key(|factory| factory.rank())
}
