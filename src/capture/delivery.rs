//! Delivery of decoded media: stamped frames and blocks into their lanes.
//!
//! This runs on a decoder's threads: it stamps, paces to the stamps if requested, and sends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::block_cutter::BlockCutter;
use super::decoded::{Closed, DecodedPicture, DecodedSound, Sink};
use super::health::{SourceCounters, SourceHealth};
use super::running_time::RunningTimeMap;
use super::stamps::{OutlierFilter, PictureStamps};
use crate::clip::{AudioBlock, Picture, VideoFrame, samples_to_nanos};
use crate::event::SourceState;
use crate::lane::LaneSender;
use crate::time::{Clock, MediaTime, SystemClock};

/// Lateness in nanoseconds above which pictures are dropped: a whole window of the usual length has
/// passed without them. A decoder this far behind hardly catches up while later stages work on
/// stale pictures, and the reason for missing faces would not be visible.
const TOO_LATE_NANOS: i64 = 2_000_000_000;
/// Lateness in nanoseconds below which delivery resumes. The hysteresis keeps a source at the limit
/// from alternating.
const CAUGHT_UP_NANOS: i64 = 1_000_000_000;

/// Stamps, paces and sends the frames of one source. It outlives a pipeline: the numbering of
/// frames continues when the source is opened again or the recording is looped.
#[derive(Debug)]
pub(super) struct FrameDelivery {
    /// `None` once the track has ended.
    lane: Option<LaneSender<VideoFrame>>,
    pub running_time: Arc<RunningTimeMap>,
    pub health: Arc<SourceHealth>,
    /// Clock whose current time is the upper limit of stamps, because a camera's clock may run
    /// ahead.
    pub live_clock: Option<Arc<SystemClock>>,
    /// Clock against which lateness is measured, for live playback of any source. `None`: no
    /// picture is late.
    pub lateness_clock: Option<Arc<SystemClock>>,
    /// Whether pictures are being dropped because they are too late.
    is_late: bool,
    next_index: u64,
    last: Option<MediaTime>,
    /// End of the newest frame of the pass, in nanoseconds of running time: the recording's length.
    pub end_nanos: i64,
    /// Interval between the last two pictures, in nanoseconds.
    last_gap_nanos: i64,
    /// Running time of the last picture, in nanoseconds.
    last_running: Option<i64>,
    /// The first picture of the current pass, as long as the pass has no other one.
    still: Option<Arc<Picture>>,
    /// Index of the first frame of the current pass over the source.
    pass_began: u64,
    stamps: PictureStamps,
    outliers: OutlierFilter<DecodedPicture>,
    has_warned_of_stamps: bool,
}

/// Rate at which a still picture is repeated, in Hz.
const STILL_HZ: u64 = 15;

impl FrameDelivery {
    pub fn new(
        lane: LaneSender<VideoFrame>,
        running_time: Arc<RunningTimeMap>,
        health: Arc<SourceHealth>,
    ) -> Self {
        FrameDelivery {
            lane: Some(lane),
            running_time,
            health,
            live_clock: None,
            lateness_clock: None,
            is_late: false,
            next_index: 0,
            last: None,
            end_nanos: 0,
            last_gap_nanos: 0,
            last_running: None,
            still: None,
            pass_began: 0,
            stamps: PictureStamps::default(),
            outliers: OutlierFilter::default(),
            has_warned_of_stamps: false,
        }
    }

    /// Prepares for the next pass over the source: stamps start anew, the numbering of frames
    /// continues.
    pub fn begin_pass(&mut self, running_time: Arc<RunningTimeMap>) {
        (self.still, self.pass_began) = (None, self.next_index);
        (
            self.running_time,
            self.end_nanos,
            self.last_gap_nanos,
            self.last_running,
        ) = (running_time, 0, 0, None);
        (self.stamps, self.outliers) = (PictureStamps::default(), OutlierFilter::default());
    }

    /// Number of frames delivered so far, in all passes: the index of the next frame.
    pub fn count(&self) -> u64 {
        self.next_index
    }

    /// Repeats the picture of a pass that had exactly one, until capture is to stop or the receiver
    /// is gone. Returns `false` at once for a pass with no picture or with several.
    pub fn repeat_still(&mut self, clock: &SystemClock) -> bool {
        let Some(picture) = self.still.clone() else {
            return false;
        };
        while !self.running_time.stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_nanos(1_000_000_000 / STILL_HZ));
            if self.send(clock.now(), None, picture.clone()).is_err() {
                break;
            }
        }
        true
    }

    /// The latest stamp that was rejected as an outlier, in nanoseconds of running time; `None` if
    /// no stamp was.
    pub fn outlier_nanos(&self) -> Option<i64> {
        self.outliers.latest
    }
}

impl Sink<DecodedPicture> for FrameDelivery {
    fn close(&mut self) {
        self.lane = None;
    }

    /// Stamps and sends one picture.
    fn deliver(&mut self, decoded: DecodedPicture) -> Result<(), Closed> {
        if let Some(clock) = &self.live_clock {
            // A live picture without a stamp is assumed to be captured now.
            let running = decoded.running_nanos.unwrap_or_else(|| {
                clock.now().nanos() - self.running_time.stamp_offset.load(Ordering::Acquire)
            });
            return self.pace(running, decoded);
        }
        let placed = self
            .stamps
            .place(decoded.running_nanos, decoded.duration_nanos);
        let counters = &self.health.video.counters;
        if placed.is_assumed {
            counters.assumed_stamps.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut self.has_warned_of_stamps, true) {
                tracing::warn!(
                    "the pictures have no stamps: their durations are used, or 25 pictures per \
                     second"
                );
            }
        }
        let dropped = self.outliers.dropped;
        let ready = self.outliers.push(placed.nanos, decoded);
        count_outliers(counters, "picture", dropped, self.outliers.dropped);
        ready
            .into_iter()
            .try_for_each(|(running, decoded)| self.pace(running, decoded))
    }

    fn flush(&mut self) {
        let dropped = self.outliers.dropped;
        let ready = self.outliers.finish();
        let counters = &self.health.video.counters;
        count_outliers(counters, "picture", dropped, self.outliers.dropped);
        let _ = ready
            .into_iter()
            .try_for_each(|(running, decoded)| self.pace(running, decoded));
    }
}

impl FrameDelivery {
    /// Drops a picture that is too late; otherwise waits for its release time and sends it.
    /// `running`: running time of the picture in nanoseconds.
    fn pace(&mut self, running: i64, decoded: DecodedPicture) -> Result<(), Closed> {
        let DecodedPicture {
            duration_nanos,
            picture,
            ..
        } = decoded;
        if let Some(last) = self.last_running {
            self.last_gap_nanos = (running - last).max(0);
        }
        self.last_running = Some(running);
        self.end_nanos = self
            .end_nanos
            .max(running + duration_nanos.unwrap_or(self.last_gap_nanos));

        let permitted = if self.is_late {
            CAUGHT_UP_NANOS
        } else {
            TOO_LATE_NANOS
        };
        self.is_late = self.lateness_clock.as_ref().is_some_and(|clock| {
            clock
                .now()
                .nanos_since(self.running_time.release_time(running))
                > permitted
        });
        if self.is_late {
            self.health
                .video
                .counters
                .too_late
                .fetch_add(1, Ordering::Relaxed);
            let why = "pictures are more than 2 s late: this machine decodes them too slowly";
            self.health
                .set(&self.health.video, SourceState::Lost, Some(why.into()));
            return if self.running_time.stop.load(Ordering::Acquire) {
                Err(Closed)
            } else {
                Ok(())
            };
        }
        if !self.running_time.wait_until_release(running) {
            return Err(Closed);
        }
        let mut time = self.running_time.media_time(running);
        if let Some(clock) = &self.live_clock {
            time = time.min(clock.now());
        }
        let picture = Arc::new(picture);
        let is_first = self.next_index == self.pass_began;
        self.still = is_first.then(|| picture.clone());
        self.send(time, duration_nanos, picture)
    }

    fn send(
        &mut self,
        time: MediaTime,
        duration_nanos: Option<i64>,
        picture: Arc<Picture>,
    ) -> Result<(), Closed> {
        // Stamps increase strictly, even if those of the container do not.
        let time = self.last.map_or(time, |last| time.max(last.plus_nanos(1)));
        self.last = Some(time);
        let frame = VideoFrame {
            index: self.next_index,
            time,
            duration_nanos,
            picture,
        };
        self.next_index += 1;
        // The state is set before the frame is sent, so that a reader of the frame finds the origin
        // of its recording.
        self.health
            .set(&self.health.video, SourceState::Delivering, None);
        self.lane
            .as_ref()
            .ok_or(Closed)?
            .send(frame)
            .map_err(|_| Closed)?;
        self.health.video.counters.count(0, time);
        Ok(())
    }
}

/// Cuts sound into blocks, and stamps, paces and sends them.
#[derive(Debug)]
pub(super) struct SoundDelivery {
    /// `None` once the track has ended.
    lane: Option<LaneSender<AudioBlock>>,
    pub running_time: Arc<RunningTimeMap>,
    pub health: Arc<SourceHealth>,
    /// Clock whose current time is the upper limit of stamps, because a source's clock may run
    /// ahead.
    pub live_clock: Option<Arc<SystemClock>>,
    cutter: BlockCutter,
    outliers: OutlierFilter<Vec<f32>>,
    last_end: Option<MediaTime>,
    samples: u64,
    /// End of the newest block of the pass, in nanoseconds of running time: the recording's length.
    pub end_nanos: i64,
}

impl SoundDelivery {
    pub fn new(
        lane: LaneSender<AudioBlock>,
        running_time: Arc<RunningTimeMap>,
        health: Arc<SourceHealth>,
    ) -> Self {
        SoundDelivery {
            lane: Some(lane),
            running_time,
            health,
            live_clock: None,
            cutter: BlockCutter::default(),
            outliers: OutlierFilter::default(),
            last_end: None,
            samples: 0,
            end_nanos: 0,
        }
    }

    /// Prepares for the next pass over the source: stamps start anew.
    pub fn begin_pass(&mut self, running_time: Arc<RunningTimeMap>) {
        (self.running_time, self.cutter, self.end_nanos) =
            (running_time, BlockCutter::default(), 0);
        self.outliers = OutlierFilter::default();
    }

    /// Number of samples at 16 kHz delivered so far, in all passes.
    pub fn count(&self) -> u64 {
        self.samples
    }

    /// The latest stamp that was rejected as an outlier, in nanoseconds of running time; `None` if
    /// no stamp was.
    pub fn outlier_nanos(&self) -> Option<i64> {
        self.outliers.latest
    }

    /// Cuts samples that begin at running time `running`, in nanoseconds, into blocks and sends
    /// them.
    fn cut(&mut self, running: i64, values: &[f32]) -> Result<(), Closed> {
        let mut cutter = std::mem::take(&mut self.cutter);
        let going = cutter.push(running, values, |block| self.send(block));
        self.cutter = cutter;
        if going { Ok(()) } else { Err(Closed) }
    }

    /// Sends a block, given the position of its first sample. Returns `false` if capture is to stop
    /// or the receiver is gone.
    fn send(&mut self, (position, samples): (i64, Arc<[f32]>)) -> bool {
        let length = samples_to_nanos(samples.len() as i64);
        let end = samples_to_nanos(position) + length;
        self.end_nanos = self.end_nanos.max(end);
        // A microphone delivers a block once its last sample is captured; a paced recording does
        // the same.
        if !self.running_time.wait_until_release(end) {
            return false;
        }
        let mut time = self.running_time.media_time(end - length);
        if let Some(clock) = &self.live_clock {
            time = time.min(clock.now());
        }
        time = self.last_end.map_or(time, |last| time.max(last));
        let end = time.plus_nanos(length);
        self.last_end = Some(end);
        self.samples += samples.len() as u64;
        self.health
            .set(&self.health.audio, SourceState::Delivering, None);
        let count = samples.len();
        if self
            .lane
            .as_ref()
            .is_none_or(|lane| lane.send(AudioBlock { time, samples }).is_err())
        {
            return false;
        }
        self.health.audio.counters.count(count, end);
        true
    }
}

impl Sink<DecodedSound> for SoundDelivery {
    fn close(&mut self) {
        self.lane = None;
    }

    fn deliver(&mut self, decoded: DecodedSound) -> Result<(), Closed> {
        let mut values = decoded.samples;
        self.health.audio.counters.silence_unusable(&mut values);
        let running = match (decoded.running_nanos, &self.live_clock) {
            (Some(running), _) => running,
            (None, Some(clock)) => {
                clock.now().nanos()
                    - self.running_time.stamp_offset.load(Ordering::Acquire)
                    - samples_to_nanos(values.len() as i64)
            }
            (None, None) => self.end_nanos,
        };
        if self.live_clock.is_some() {
            return self.cut(running, &values);
        }
        let dropped = self.outliers.dropped;
        let ready = self.outliers.push(running, values);
        let counters = &self.health.audio.counters;
        count_outliers(counters, "block of sound", dropped, self.outliers.dropped);
        ready
            .into_iter()
            .try_for_each(|(running, values)| self.cut(running, &values))
    }

    /// Sends the sound that is held back at the end of the pass.
    fn flush(&mut self) {
        for (running, values) in self.outliers.finish() {
            if self.cut(running, &values).is_err() {
                return;
            }
        }
        let mut cutter = std::mem::take(&mut self.cutter);
        cutter.flush(|block| self.send(block));
        self.cutter = cutter;
    }
}

/// Counts the outliers between the counts `before` and `now`, and warns about the first one.
fn count_outliers(counters: &SourceCounters, what: &str, before: u64, now: u64) {
    if now == before {
        return;
    }
    counters.outliers.fetch_add(now - before, Ordering::Relaxed);
    if before == 0 {
        tracing::warn!("a {what} with a stamp far ahead of its neighbours is dropped and counted");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64};

    use super::*;
    use crate::capture::block_cutter::BLOCK_SAMPLES;
    use crate::clip::{ColorMatrix, Colorimetry};
    use crate::lane::{Received, WhenFull, lane};

    fn decoded(running_ms: i64) -> DecodedPicture {
        let colorimetry = Colorimetry {
            matrix: ColorMatrix::Bt601,
            full_range: false,
        };
        DecodedPicture {
            running_nanos: Some(running_ms * 1_000_000),
            duration_nanos: None,
            picture: Picture::from_i420(16, 16, colorimetry, vec![0; 16 * 16 * 3 / 2]),
        }
    }

    #[test]
    fn non_finite_samples_are_silenced_and_counted() {
        let (sender, receiver) = lane("audio", 8, WhenFull::DropOldest);
        let health = Arc::new(SourceHealth::default());
        let running_time = Arc::new(RunningTimeMap {
            stamp_offset: AtomicI64::new(0),
            release_offset: AtomicI64::new(0),
            pacing: None,
            stop: Arc::new(AtomicBool::new(false)),
        });
        let mut delivery = SoundDelivery::new(sender, running_time, health.clone());
        let mut values = [0.25f32; BLOCK_SAMPLES];
        (values[3], values[4], values[5]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        let sound = DecodedSound {
            running_nanos: Some(0),
            samples: values.to_vec(),
        };
        assert!(delivery.deliver(sound).is_ok());
        let Received::Item(block) = receiver.recv(None) else {
            panic!("no block")
        };
        values[3..6].fill(0.0);
        assert_eq!(&block.samples[..], &values[..]);
        assert_eq!(health.audio.counters.silenced.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn late_pictures_are_counted_and_reported_and_delivery_resumes() {
        let (sender, receiver) = lane("frames", 8, WhenFull::DropOldest);
        let (clock, health) = (
            Arc::new(SystemClock::new()),
            Arc::new(SourceHealth::default()),
        );
        let started = clock.now().nanos();
        let running_time = Arc::new(RunningTimeMap {
            stamp_offset: AtomicI64::new(started),
            release_offset: AtomicI64::new(started - 10_000_000_000),
            pacing: None,
            stop: Arc::new(AtomicBool::new(false)),
        });
        let mut delivery = FrameDelivery::new(sender, running_time, health.clone());
        // Without a lateness clock no picture is late.
        assert!(delivery.deliver(decoded(0)).is_ok());
        delivery.lateness_clock = Some(clock);
        for running_ms in [1000, 2000, 3000, 4000, 5000, 6000, 7000, 7900, 8500] {
            assert!(delivery.deliver(decoded(running_ms)).is_ok());
        }
        let status = health.video.status();
        assert!(status.state == SourceState::Lost && status.reason.unwrap().contains("2 s late"));
        assert_eq!(health.video.counters.too_late.load(Ordering::Relaxed), 9);
        assert!(delivery.deliver(decoded(9500)).is_ok());
        assert_eq!(health.video.status().state, SourceState::Delivering);
        // A lateness of about 1.5 s does not stop the delivery; it shows in the latency of the
        // events.
        delivery
            .running_time
            .release_offset
            .fetch_sub(1_200_000_000, Ordering::AcqRel);
        assert!(delivery.deliver(decoded(9600)).is_ok());
        drop(delivery);
        let mut came = Vec::new();
        while let Received::Item(frame) = receiver.recv(None) {
            came.push(frame.time.nanos() - started);
        }
        assert_eq!(came, [0, 9_500_000_000, 9_600_000_000]);
    }
}
