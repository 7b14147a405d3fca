//! Selection of the tracks that a `decodebin` exposes: one of each kind is attached. When a chain
//! or a programme ends and the next one begins, the new tracks replace the previous ones.

use std::path::Path;
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::DecoderEvents;
use crate::capture::container::Tables;
use crate::capture::decoded::{DecodedPicture, DecodedSound, Kind, Sink};
use crate::capture::error::CaptureError;
use crate::capture::pipeline::attach;
use crate::capture::sound_branch::SoundBranch;
use crate::capture::track_sinks::TrackSinks;
use crate::capture::tracks::{ChannelSelection, TrackChoice, TrackFacts, TrackSelection, select};

/// The exposed tracks of one recording.
#[derive(Debug)]
pub(super) struct ExposedTracks<F, S> {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    sinks: Arc<TrackSinks<F, S>>,
    choice: TrackChoice,
    tables: Option<Tables>,
    events: DecoderEvents,
    pads: Mutex<Vec<gst::Pad>>,
    /// The pads at which the selected video track and the selected audio track enter their
    /// branches.
    entries: Mutex<[Option<gst::Pad>; 2]>,
    refusal: Mutex<Option<Refusal>>,
}

/// A configured track or channel that the recording does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    what: String,
    remedy: String,
}

impl<F: Sink<DecodedPicture>, S: Sink<DecodedSound>> ExposedTracks<F, S> {
    /// Selects among the tracks that `decoder`, a `decodebin` in `pipeline`, exposes.
    pub fn connect(
        pipeline: &gst::Pipeline,
        decoder: &gst::Element,
        sinks: &Arc<TrackSinks<F, S>>,
        choice: TrackChoice,
        tables: Option<Tables>,
        events: DecoderEvents,
    ) -> Arc<ExposedTracks<F, S>> {
        let exposed = Arc::new(ExposedTracks {
            pipeline: pipeline.downgrade(),
            sinks: sinks.clone(),
            choice,
            tables,
            events,
            pads: Mutex::default(),
            entries: Mutex::default(),
            refusal: Mutex::default(),
        });
        let (added, removed, complete) = (exposed.clone(), exposed.clone(), exposed.clone());
        decoder.connect_pad_added(move |_, pad| {
            added.pads.lock().expect("pads lock").push(pad.clone());
        });
        decoder.connect_pad_removed(move |_, pad| {
            let mut pads = removed.pads.lock().expect("pads lock");
            pads.retain(|known| known != pad);
        });
        // No data flows from the pads before this signal.
        decoder.connect_no_more_pads(move |_| complete.select_tracks());
        exposed
    }

    /// The error if the configuration selects a track or channel that the recording at `path` does
    /// not have; otherwise `None`.
    pub fn refusal(&self, path: &Path) -> Option<CaptureError> {
        let refusal = self.refusal.lock().expect("pads lock").clone()?;
        Some(CaptureError::NoSuchTrack {
            path: path.to_owned(),
            what: refusal.what,
            remedy: refusal.remedy,
        })
    }

    /// Selects one track of each kind and attaches it, once all tracks are known.
    fn select_tracks(&self) {
        let Some(pipeline) = self.pipeline.upgrade() else {
            return;
        };
        let pads = self.pads.lock().expect("pads lock").clone();
        for (kind, prefix, selection) in [
            (Kind::Video, "video/", self.choice.video),
            (Kind::Audio, "audio/", self.choice.audio),
        ] {
            let mut of_kind: Vec<_> = pads
                .iter()
                .filter(|pad| media_type(pad).starts_with(prefix))
                .cloned()
                .collect();
            // Sorted in the order of the container: `decodebin` exposes pads in the order of their
            // completion.
            of_kind.sort_by_key(|pad| pad.stream_id());
            let facts = of_kind.iter().map(|pad| facts(pad, self.tables.as_ref()));
            let facts: Vec<_> = facts.collect();
            match select(&facts, selection) {
                Some(index) => {
                    if let Err(error) = self.attach_track(&pipeline, &of_kind[index], kind) {
                        gst::element_error!(
                            pipeline,
                            gst::CoreError::Failed,
                            ("cannot connect the decoder: {error}")
                        );
                    }
                }
                None => self.refuse(&pipeline, kind, selection, &facts),
            }
        }
    }

    /// Links the track at `pad` to the branch of its kind. The first track of a kind creates the
    /// branch.
    fn attach_track(
        &self,
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        kind: Kind,
    ) -> Result<(), gst::glib::BoolError> {
        let entry = &mut self.entries.lock().expect("pads lock")[kind as usize];
        if let Some(entry) = entry {
            // This track replaces the previous one if that has ended.
            if !entry.is_linked() {
                pad.link(entry)
                    .map_err(|error| gst::glib::bool_error!("{error:?}"))?;
            }
            return Ok(());
        }
        let events = self.events.clone();
        let sound = SoundBranch {
            channel: self.choice.channel,
            look_ahead: true,
            note: Arc::new(move |text| events.note(text)),
        };
        if let (Kind::Audio, ChannelSelection::Number(number), Some(channels)) =
            (kind, self.choice.channel, channels(pad))
            && number.get() > channels
        {
            self.refuse_with(
                pipeline,
                format!("audio.channel = \"{number}\""),
                format!(
                    "its sound has {channels} channels: \"1\" to \"{channels}\", \"mix\" or \
                     \"auto\""
                ),
            );
            return Ok(());
        }
        self.sinks.begin(kind);
        *entry = Some(attach(
            pipeline.upcast_ref(),
            pad,
            kind,
            &self.sinks,
            true,
            sound,
        )?);
        Ok(())
    }

    /// Fails the pipeline if a track was selected by a number that the recording does not have.
    fn refuse(
        &self,
        pipeline: &gst::Pipeline,
        kind: Kind,
        selection: TrackSelection,
        tracks: &[TrackFacts],
    ) {
        let (key, what) = match kind {
            Kind::Video => ("video.track", "video"),
            Kind::Audio => ("audio.track", "sound"),
        };
        // A recording without sound or without video is valid.
        if let TrackSelection::Number(number) = selection
            && !tracks.is_empty()
        {
            let there: Vec<String> = tracks
                .iter()
                .enumerate()
                .map(|(index, track)| {
                    let mark = if track.is_default { ", default" } else { "" };
                    format!("\"{}\" ({}{mark})", index + 1, track.media_type)
                })
                .collect();
            self.refuse_with(
                pipeline,
                format!("{key} = \"{number}\""),
                format!(
                    "its {what} tracks are {}; or write \"auto\"",
                    there.join(", ")
                ),
            );
        }
    }

    /// Stores the refusal and fails the pipeline.
    fn refuse_with(&self, pipeline: &gst::Pipeline, what: String, remedy: String) {
        *self.refusal.lock().expect("pads lock") = Some(Refusal { what, remedy });
        gst::element_error!(pipeline, gst::CoreError::Failed, ("no such track"));
    }
}

/// The current caps of `pad`, or those that it could have.
fn caps(pad: &gst::Pad) -> gst::Caps {
    pad.current_caps().unwrap_or_else(|| pad.query_caps(None))
}

/// The media type of the pad's caps, such as `video/x-raw`; empty if it is unknown.
fn media_type(pad: &gst::Pad) -> String {
    caps(pad)
        .structure(0)
        .map(|structure| structure.name().to_string())
        .unwrap_or_default()
}

/// The number of channels in the pad's caps, if they state it.
fn channels(pad: &gst::Pad) -> Option<u32> {
    let channels = caps(pad).structure(0)?.get::<i32>("channels").ok()?;
    u32::try_from(channels).ok()
}

/// The properties by which a track is selected.
fn facts(pad: &gst::Pad, tables: Option<&Tables>) -> TrackFacts {
    let flags = pad
        .sticky_event::<gst::event::StreamStart>(0)
        .map(|event| event.stream_flags());
    TrackFacts {
        media_type: encoded_type(pad).unwrap_or_else(|| media_type(pad)),
        is_default: flags.is_some_and(|flags| flags.contains(gst::StreamFlags::SELECT)),
        is_still: pad
            .stream_id()
            .and_then(|name| tables?.named(&name).map(|track| track.still))
            .unwrap_or(false),
    }
}

/// Media type of the encoded stream that the decoder behind an exposed pad reads.
fn encoded_type(pad: &gst::Pad) -> Option<String> {
    let decoder = pad
        .downcast_ref::<gst::GhostPad>()?
        .target()?
        .parent_element()?;
    let entry = decoder.sink_pads().into_iter().next()?;
    Some(media_type(&entry))
}
