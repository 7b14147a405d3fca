//! Decoding by GStreamer in this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::exposed::ExposedTracks;
use super::stamp_jumps;
use super::{Decoder, DecoderEvents, Failure, Undecodable};
use crate::capture::container::{Tables, Wave};
use crate::capture::decoded::{DecodedPicture, DecodedSound, Kind, Sink};
use crate::capture::error::{CaptureError, missing_base_plugins};
use crate::capture::pipeline::{configure_decoder, init, missing_plugin, reason};
use crate::capture::track_sinks::TrackSinks;
use crate::capture::tracks::TrackChoice;
use crate::time::MediaTime;

/// Time limit for the first picture and sound of a file. It is long, because a busy machine is no
/// fault of the file.
const OPENING: Duration = Duration::from_secs(30);

/// A recording that GStreamer decodes in this process.
#[derive(Debug)]
pub(super) struct GstDecoder {
    path: PathBuf,
    pipeline: gst::Pipeline,
    duration: Option<MediaTime>,
    undecodable: Vec<Undecodable>,
    failure: Option<String>,
}

impl GstDecoder {
    /// Opens `path` in any format that GStreamer reads: finds its tracks and decodes until each has
    /// its first item.
    pub fn open<F: Sink<DecodedPicture>, S: Sink<DecodedSound>>(
        path: &Path,
        choice: TrackChoice,
        sinks: &Arc<TrackSinks<F, S>>,
        events: DecoderEvents,
    ) -> Result<GstDecoder, CaptureError> {
        init();
        let uri = std::path::absolute(path)
            .ok()
            .and_then(|path| gst::glib::filename_to_uri(path, None).ok())
            .ok_or_else(|| CaptureError::Unreadable {
                path: path.to_owned(),
                reason: "its path cannot be written as a URI".into(),
            })?;
        let pipeline = gst::Pipeline::new();
        let make = |factory: &str| {
            gst::ElementFactory::make(factory)
                .build()
                .map_err(|_| missing_base_plugins())
        };
        let tables = Tables::read(path);
        let decoder = match Wave::open(path) {
            Some(wave) => wave.feed(&pipeline)?,
            None => {
                let (source, decoder) = (make("filesrc")?, make("decodebin")?);
                source
                    .dynamic_cast_ref::<gst::URIHandler>()
                    .expect("a file source takes addresses")
                    .set_uri(&uri)
                    .map_err(|error| CaptureError::Unreadable {
                        path: path.to_owned(),
                        reason: error.to_string(),
                    })?;
                if let Some(tables) = &tables {
                    tables.apply_to(&pipeline, &source, || {});
                }
                pipeline
                    .add_many([&source, &decoder])
                    .and_then(|()| source.link(&decoder))
                    .map_err(|_| missing_base_plugins())?;
                decoder
            }
        };
        configure_decoder(&decoder);
        report_decoders(&decoder, events.clone());
        if let Some(bin) = decoder.downcast_ref::<gst::Bin>() {
            stamp_jumps::correct(bin, events.clone());
        }
        let undecodable = watch_undecodable(&decoder);
        let exposed = ExposedTracks::connect(&pipeline, &decoder, sinks, choice, tables, events);
        let mut opened = GstDecoder {
            path: path.to_owned(),
            pipeline,
            duration: None,
            undecodable: Vec::new(),
            failure: None,
        };
        let prerolled = opened.preroll();
        if let Some(refusal) = exposed.refusal(path) {
            return Err(refusal);
        }
        prerolled?;
        opened.undecodable = undecodable.lock().expect("tracks lock").clone();
        opened.duration = opened
            .pipeline
            .query_duration::<gst::ClockTime>()
            .map(|d| MediaTime::from_nanos(d.nseconds() as i64));
        Ok(opened)
    }

    /// Brings the pipeline to PAUSED: waits until each track has its first item.
    fn preroll(&self) -> Result<(), CaptureError> {
        let unreadable = |reason: String| CaptureError::Unreadable {
            path: self.path.clone(),
            reason,
        };
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        // If the change of state fails, its reason is posted on the bus.
        let _ = self.pipeline.set_state(gst::State::Paused);
        let mut missing = None;
        loop {
            use gst::MessageView;
            let message = bus
                .timed_pop_filtered(
                    gst::ClockTime::try_from(OPENING).ok(),
                    &[
                        gst::MessageType::AsyncDone,
                        gst::MessageType::Error,
                        gst::MessageType::Eos,
                        gst::MessageType::Element,
                    ],
                )
                .ok_or_else(|| {
                    unreadable(format!(
                        "nothing could be decoded within {} s",
                        OPENING.as_secs()
                    ))
                })?;
            match message.view() {
                MessageView::AsyncDone(_) | MessageView::Eos(_) => return Ok(()),
                MessageView::Element(_) => missing = missing.or(missing_plugin(&message)),
                MessageView::Error(error) => {
                    if let Some(what) = missing {
                        return Err(CaptureError::Unsupported {
                            what: format!("{what}, which {} needs,", self.path.display()),
                            remedy:
                                "install gstreamer1.0-libav and gstreamer1.0-plugins-good, -bad \
                                     and -ugly"
                                    .into(),
                        });
                    }
                    return Err(unreadable(reason(error)));
                }
                _ => {}
            }
        }
    }
}

impl Decoder for GstDecoder {
    fn duration(&self) -> Option<MediaTime> {
        self.duration
    }

    fn undecodable(&self) -> &[Undecodable] {
        &self.undecodable
    }

    fn start(&mut self) {
        self.failure = self
            .pipeline
            .set_state(gst::State::Playing)
            .err()
            .map(|error| error.to_string());
    }

    fn failure(&mut self) -> Option<Failure> {
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
            if let gst::MessageView::Error(error) = message.view() {
                self.failure.get_or_insert(reason(error));
            }
        }
        self.failure.clone().map(Failure::Stream)
    }

    fn stop(&mut self) -> Option<Failure> {
        let failure = self.failure();
        let _ = self.pipeline.set_state(gst::State::Null);
        failure
    }
}

impl Drop for GstDecoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Collects the tracks for which `decoder`, if it is a `decodebin`, finds no decoder.
fn watch_undecodable(decoder: &gst::Element) -> Arc<Mutex<Vec<Undecodable>>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    if gst::glib::subclass::SignalId::lookup("unknown-type", decoder.type_()).is_none() {
        return found;
    }
    let finds = found.clone();
    decoder.connect("unknown-type", false, move |arguments| {
        let caps = arguments.get(2)?.get::<gst::Caps>().ok()?;
        let media_type = caps.structure(0)?.name().to_string();
        let kind = match media_type.split_once('/')?.0 {
            "video" | "image" => Kind::Video,
            "audio" => Kind::Audio,
            _ => return None,
        };
        finds
            .lock()
            .expect("tracks lock")
            .push(Undecodable { kind, media_type });
        None
    });
    found
}

/// Reports the names of the decoders that the `decodebin` `decoder` plugs in.
fn report_decoders(decoder: &gst::Element, events: DecoderEvents) {
    let Some(bin) = decoder.downcast_ref::<gst::Bin>() else {
        return;
    };
    bin.connect_deep_element_added(move |_, _, element| {
        let decoder = element.factory().filter(|factory| {
            factory
                .metadata("klass")
                .is_some_and(|class| class.contains("Decoder") && !class.contains("Bin"))
        });
        if let Some(factory) = decoder {
            events.plugged(&factory.name());
        }
    });
}
