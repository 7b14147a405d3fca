//! The sinks of a decoder's tracks, and the progress of each track.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::decoded::{Closed, DecodedPicture, DecodedSound, Kind, Sink};
use super::delivery::{FrameDelivery, SoundDelivery};

/// The sink and the progress of each track, shared by the decoder threads and the source.
#[derive(Debug)]
pub(super) struct TrackSinks<F = FrameDelivery, S = SoundDelivery> {
    pub frames: Mutex<Option<F>>,
    pub sound: Mutex<Option<S>>,
    /// Whether lanes stay open at the end of a track, because another pass over the recording
    /// follows.
    pub keep_open: AtomicBool,
    /// Number of items that the decoders have produced. It exceeds `delivered` while a full lane
    /// blocks.
    arrived: AtomicU64,
    /// Number of items that the sinks have taken.
    delivered: AtomicU64,
    /// Number of pictures with corrected stamps since the last call of `take_replaced_stamps`.
    replaced_stamps: AtomicU64,
    tracks: Mutex<Tracks>,
    changed: Condvar,
}

impl<F, S> Default for TrackSinks<F, S> {
    fn default() -> Self {
        TrackSinks {
            frames: Mutex::new(None),
            sound: Mutex::new(None),
            keep_open: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            replaced_stamps: AtomicU64::new(0),
            tracks: Mutex::default(),
            changed: Condvar::new(),
        }
    }
}

/// The progress of the video track and the audio track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tracks {
    pub video: Track,
    pub audio: Track,
    /// Whether a receiver is gone, or capture is to stop.
    pub closed: bool,
}

/// The progress of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Track {
    /// Whether a track of this kind is being decoded.
    pub present: bool,
    /// Whether the track delivers nothing more.
    pub ended: bool,
    /// Number of items (pictures or buffers of sound) that the decoder has produced.
    pub samples: u64,
}

impl Tracks {
    /// Whether every track that is present has ended.
    pub fn have_ended(&self) -> bool {
        [self.video, self.audio]
            .iter()
            .all(|track| track.ended || !track.present)
    }

    fn track_mut(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}

impl<F, S> TrackSinks<F, S> {
    /// Counts a picture with a corrected stamp.
    pub fn count_replaced_stamp(&self) {
        self.replaced_stamps.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of corrected stamps since the last call.
    pub fn take_replaced_stamps(&self) -> u64 {
        self.replaced_stamps.swap(0, Ordering::Relaxed)
    }
}

impl<F: Sink<DecodedPicture>, S: Sink<DecodedSound>> TrackSinks<F, S> {
    /// The current progress.
    pub fn tracks(&self) -> Tracks {
        *self.tracks.lock().expect("sinks lock")
    }

    /// Waits until a track begins, ends or closes, at most `timeout`; returns at once if all tracks
    /// have ended.
    pub fn wait(&self, timeout: Duration) -> Tracks {
        let tracks = self.tracks.lock().expect("sinks lock");
        if tracks.have_ended() {
            *tracks
        } else {
            *self
                .changed
                .wait_timeout(tracks, timeout)
                .expect("sinks lock")
                .0
        }
    }

    /// Number of items that the decoders have produced, and whether one of them is still being sent
    /// into a lane.
    pub fn progress(&self) -> (u64, bool) {
        let delivered = self.delivered.load(Ordering::Acquire);
        let arrived = self.arrived.load(Ordering::Acquire);
        (arrived, arrived != delivered)
    }

    /// Marks a track of this kind as present. Returns `false` if one was present already.
    pub fn begin(&self, kind: Kind) -> bool {
        let mut first = false;
        self.update(|tracks| first = !std::mem::replace(&mut tracks.track_mut(kind).present, true));
        first
    }

    /// Sends a picture to the video sink. The error means that no more pictures are wanted.
    pub fn picture(&self, picture: DecodedPicture) -> Result<(), Closed> {
        self.deliver(Kind::Video, &self.frames, picture)
    }

    /// Sends sound to the audio sink. The error means that no more sound is wanted.
    pub fn sound(&self, sound: DecodedSound) -> Result<(), Closed> {
        self.deliver(Kind::Audio, &self.sound, sound)
    }

    /// Marks the track of this kind as ended: it delivers nothing more.
    pub fn ended(&self, kind: Kind) {
        let closes = !self.keep_open.load(Ordering::Acquire);
        match kind {
            Kind::Video => end(&self.frames, closes),
            Kind::Audio => end(&self.sound, closes),
        }
        self.update(|tracks| tracks.track_mut(kind).ended = true);
    }

    /// Sends an item to its sink and updates the progress of its track.
    fn deliver<T, D: Sink<T>>(
        &self,
        kind: Kind,
        sink: &Mutex<Option<D>>,
        item: T,
    ) -> Result<(), Closed> {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        // A track without a sink ends, which does not stop the other track.
        let flow = sink
            .lock()
            .expect("sinks lock")
            .as_mut()
            .map(|sink| sink.deliver(item));
        let (flow, wanted) = (flow.unwrap_or(Err(Closed)), flow.is_some());
        self.delivered.fetch_add(1, Ordering::AcqRel);
        self.tracks
            .lock()
            .expect("sinks lock")
            .track_mut(kind)
            .samples += 1;
        if flow.is_err() {
            self.update(|tracks| {
                tracks.closed |= wanted;
                tracks.track_mut(kind).ended = true;
            });
        }
        flow
    }

    /// Changes the progress and wakes the waiting thread.
    fn update(&self, change: impl FnOnce(&mut Tracks)) {
        change(&mut self.tracks.lock().expect("sinks lock"));
        self.changed.notify_all();
    }
}

/// Flushes the sink at the end of its track. `closes`: its lane is closed too.
fn end<T, D: Sink<T>>(sink: &Mutex<Option<D>>, closes: bool) {
    if let Some(sink) = sink.lock().expect("sinks lock").as_mut() {
        sink.flush();
        if closes {
            sink.close();
        }
    }
}
