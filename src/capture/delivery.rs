//! From decoded buffers to stamped frames and blocks in their lanes.
//!
//! What runs here runs on GStreamer's streaming threads: it stamps, waits for its hour where that is asked, and sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::board::SourceBoard;
use super::join::BlockCutter;
use crate::clip::{
    AudioBlock, ColorMatrix, Colorimetry, Picture, Plane, SAMPLE_RATE_HZ, VideoFrame,
    samples_to_nanos,
};
use crate::event::SourceState;
use crate::lane::LaneSender;
use crate::time::{Clock, MediaTime, SystemClock};

/// How a pipeline's running time becomes media time, and when a buffer may go.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Added to running time to get the stamp.
    pub stamp_offset: AtomicI64,
    /// Added to running time to get the hour of release on `clock`.
    pub release_offset: AtomicI64,
    /// `None`: everything goes at once.
    pub pacing: Option<Arc<SystemClock>>,
    pub stop: Arc<AtomicBool>,
}

/// Pictures this late are of no use any more: by then a whole window of the usual length has gone by without them. A decoder that is so
/// far behind will hardly catch up while what follows works on stale pictures, and nobody would see why faces have gone quiet.
const TOO_LATE_NANOS: i64 = 2_000_000_000;
/// From there on they have caught up: well below, so that a source at the limit does not come and go.
const CAUGHT_UP_NANOS: i64 = 1_000_000_000;

impl Timeline {
    /// The hour of release.
    fn due(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.release_offset.load(Ordering::Acquire))
    }

    pub fn place(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.stamp_offset.load(Ordering::Acquire))
    }

    /// Waits for the hour of `running_nanos`. `false` when capture is to stop.
    pub fn wait(&self, running_nanos: i64) -> bool {
        if let Some(clock) = &self.pacing {
            let due = self.due(running_nanos);
            loop {
                let left = due.nanos_since(clock.now());
                if left <= 0 || self.stop.load(Ordering::Acquire) {
                    break;
                }
                // In steps, so that a stop is heard.
                std::thread::sleep(Duration::from_nanos(left.min(50_000_000) as u64));
            }
        }
        !self.stop.load(Ordering::Acquire)
    }
}

/// Sends frames. Outlives a pipeline: a source that is opened again, or a recording that is looped, goes on counting.
#[derive(Debug)]
pub(super) struct FrameDelivery {
    /// `None` once the track has ended.
    lane: Option<LaneSender<VideoFrame>>,
    pub timeline: Arc<Timeline>,
    pub board: Arc<SourceBoard>,
    /// Stamps may not lie in the future: a camera's clock that runs ahead is not believed.
    pub live_clock: Option<Arc<SystemClock>>,
    /// Live, of whatever source: the clock on which a picture may come too late.
    pub lateness_clock: Option<Arc<SystemClock>>,
    is_late: bool,
    next_index: u64,
    last: Option<MediaTime>,
    layout: Option<(gst::Caps, gst_video::VideoInfo)>,
    /// End of the newest frame in running time, for a recording's length.
    pub end_nanos: i64,
    last_gap_nanos: i64,
    last_running: Option<i64>,
    /// The only picture of the pass, while there is one only.
    still: Option<Arc<Picture>>,
    pass_began: u64,
}

/// Rate at which a still picture is repeated.
const STILL_HZ: u64 = 15;

impl FrameDelivery {
    pub fn new(
        lane: LaneSender<VideoFrame>,
        timeline: Arc<Timeline>,
        board: Arc<SourceBoard>,
    ) -> Self {
        FrameDelivery {
            lane: Some(lane),
            timeline,
            board,
            live_clock: None,
            lateness_clock: None,
            is_late: false,
            next_index: 0,
            last: None,
            layout: None,
            end_nanos: 0,
            last_gap_nanos: 0,
            last_running: None,
            still: None,
            pass_began: 0,
        }
    }

    pub fn begin_pass(&mut self, timeline: Arc<Timeline>) {
        (self.still, self.pass_began) = (None, self.next_index);
        (
            self.timeline,
            self.layout,
            self.end_nanos,
            self.last_gap_nanos,
            self.last_running,
        ) = (timeline, None, 0, 0, None);
    }

    /// The end of the stream, for the receiver.
    pub fn close(&mut self) {
        self.lane = None;
    }

    pub fn count(&self) -> u64 {
        self.next_index
    }

    /// Repeats the pass's picture until capture is to stop or the receiver is gone, if the pass had one only. `false` where it
    /// had more, or none.
    pub fn hold_still(&mut self, clock: &SystemClock) -> bool {
        let Some(picture) = self.still.clone() else {
            return false;
        };
        while !self.timeline.stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_nanos(1_000_000_000 / STILL_HZ));
            if self.send(clock.now(), None, picture.clone()).is_err() {
                break;
            }
        }
        true
    }

    /// Stamps and sends one sample. `Eos` when the receiver is gone or capture is to stop.
    pub fn deliver(&mut self, sample: gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return Err(gst::FlowError::Error);
        };
        let running = match (running_nanos(&sample, buffer.pts()), &self.live_clock) {
            (Some(running), _) => running,
            // Without a stamp, what arrives live was captured about now.
            (None, Some(clock)) => {
                clock.now().nanos() - self.timeline.stamp_offset.load(Ordering::Acquire)
            }
            (None, None) => self
                .last_running
                .map_or(0, |last| last + self.last_gap_nanos),
        };
        let duration_nanos = buffer.duration().map(|d| d.nseconds() as i64);
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
        self.is_late = self
            .lateness_clock
            .as_ref()
            .is_some_and(|clock| clock.now().nanos_since(self.timeline.due(running)) > permitted);
        if self.is_late {
            self.board
                .video
                .counters
                .too_late
                .fetch_add(1, Ordering::Relaxed);
            let why = "pictures come more than 2 s late: this machine decodes them more slowly than they come";
            self.board
                .set(&self.board.video, SourceState::Lost, Some(why.into()));
            return if self.timeline.stop.load(Ordering::Acquire) {
                Err(gst::FlowError::Eos)
            } else {
                Ok(gst::FlowSuccess::Ok)
            };
        }
        if self.layout.as_ref().is_none_or(|(known, _)| *known != caps) {
            let info = gst_video::VideoInfo::from_caps(&caps)
                .map_err(|_| gst::FlowError::NotNegotiated)?;
            self.layout = Some((caps, info));
        }
        drop(sample);
        let picture = picture(buffer, &self.layout.as_ref().expect("set above").1)
            .ok_or(gst::FlowError::Error)?;
        if !self.timeline.wait(running) {
            return Err(gst::FlowError::Eos);
        }
        let mut time = self.timeline.place(running);
        if let Some(clock) = &self.live_clock {
            time = time.min(clock.now());
        }
        let picture = Arc::new(picture);
        let is_first = self.next_index == self.pass_began;
        self.still = is_first.then(|| picture.clone());
        self.send(time, duration_nanos, picture)?;
        Ok(gst::FlowSuccess::Ok)
    }

    fn send(
        &mut self,
        time: MediaTime,
        duration_nanos: Option<i64>,
        picture: Arc<Picture>,
    ) -> Result<(), gst::FlowError> {
        // Strictly forward, whatever the container says.
        let time = self.last.map_or(time, |last| time.max(last.plus_nanos(1)));
        self.last = Some(time);
        let frame = VideoFrame {
            index: self.next_index,
            time,
            duration_nanos,
            picture,
        };
        self.next_index += 1;
        // The state before the frame: who sees the frame can know where its recording began.
        self.board
            .set(&self.board.video, SourceState::Delivering, None);
        self.lane
            .as_ref()
            .ok_or(gst::FlowError::Eos)?
            .send(frame)
            .map_err(|_| gst::FlowError::Eos)?;
        self.board.video.counters.count(0, time);
        Ok(())
    }
}

/// Sends blocks of sound.
#[derive(Debug)]
pub(super) struct SoundDelivery {
    /// `None` once the track has ended.
    lane: Option<LaneSender<AudioBlock>>,
    pub timeline: Arc<Timeline>,
    pub board: Arc<SourceBoard>,
    pub live_clock: Option<Arc<SystemClock>>,
    cutter: BlockCutter,
    last_end: Option<MediaTime>,
    samples: u64,
    pub end_nanos: i64,
}

impl SoundDelivery {
    pub fn new(
        lane: LaneSender<AudioBlock>,
        timeline: Arc<Timeline>,
        board: Arc<SourceBoard>,
    ) -> Self {
        SoundDelivery {
            lane: Some(lane),
            timeline,
            board,
            live_clock: None,
            cutter: BlockCutter::default(),
            last_end: None,
            samples: 0,
            end_nanos: 0,
        }
    }

    pub fn begin_pass(&mut self, timeline: Arc<Timeline>) {
        (self.timeline, self.cutter, self.end_nanos) = (timeline, BlockCutter::default(), 0);
    }

    pub fn close(&mut self) {
        self.lane = None;
    }

    pub fn count(&self) -> u64 {
        self.samples
    }

    pub fn deliver(&mut self, sample: gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        let buffer = sample.buffer_owned().ok_or(gst::FlowError::Error)?;
        let stamped = running_nanos(&sample, buffer.pts());
        let mapped = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let mut values: Vec<f32> = mapped
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        self.board.audio.counters.silence_unusable(&mut values);
        let running = match (stamped, &self.live_clock) {
            (Some(running), _) => running,
            (None, Some(clock)) => {
                clock.now().nanos()
                    - self.timeline.stamp_offset.load(Ordering::Acquire)
                    - samples_to_nanos(values.len() as i64)
            }
            (None, None) => self.end_nanos,
        };
        let mut cutter = std::mem::take(&mut self.cutter);
        let going = cutter.push(running, &values, |block| self.send(block));
        self.cutter = cutter;
        if going {
            Ok(gst::FlowSuccess::Ok)
        } else {
            Err(gst::FlowError::Eos)
        }
    }

    /// Sends what is left of the pass.
    pub fn flush(&mut self) {
        let mut cutter = std::mem::take(&mut self.cutter);
        cutter.flush(|block| self.send(block));
        self.cutter = cutter;
    }

    fn send(&mut self, (position, samples): (i64, Arc<[f32]>)) -> bool {
        let length = samples_to_nanos(samples.len() as i64);
        let end = samples_to_nanos(position) + length;
        self.end_nanos = self.end_nanos.max(end);
        // A microphone delivers a block when its last sample is in; so does a paced recording.
        if !self.timeline.wait(end) {
            return false;
        }
        let mut time = self.timeline.place(end - length);
        if let Some(clock) = &self.live_clock {
            time = time.min(clock.now());
        }
        time = self.last_end.map_or(time, |last| time.max(last));
        let end = time.plus_nanos(length);
        self.last_end = Some(end);
        self.samples += samples.len() as u64;
        self.board
            .set(&self.board.audio, SourceState::Delivering, None);
        let count = samples.len();
        if self
            .lane
            .as_ref()
            .is_none_or(|lane| lane.send(AudioBlock { time, samples }).is_err())
        {
            return false;
        }
        self.board.audio.counters.count(count, end);
        true
    }
}

/// Rate of what the audio branch delivers.
pub(super) const RATE: i32 = SAMPLE_RATE_HZ as i32;

fn running_nanos(sample: &gst::Sample, pts: Option<gst::ClockTime>) -> Option<i64> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    Some(segment.to_running_time(pts?)?.nseconds() as i64)
}

/// The picture in the buffer that the decoder wrote: mapped, not copied.
fn picture(buffer: gst::Buffer, info: &gst_video::VideoInfo) -> Option<Picture> {
    let mut planes = [Plane {
        offset: 0,
        stride: 0,
    }; 3];
    let (offsets, strides) = match buffer.meta::<gst_video::VideoMeta>() {
        Some(meta) => (meta.offset().to_vec(), meta.stride().to_vec()),
        None => (info.offset().to_vec(), info.stride().to_vec()),
    };
    if offsets.len() < 3 || strides.iter().any(|s| *s <= 0) {
        return None;
    }
    for (plane, (offset, stride)) in planes.iter_mut().zip(offsets.iter().zip(&strides)) {
        *plane = Plane {
            offset: *offset,
            stride: *stride as usize,
        };
    }
    let mapped = buffer.into_mapped_buffer_readable().ok()?;
    Some(Picture::new(
        info.width() as usize,
        info.height() as usize,
        planes,
        colorimetry(info),
        Box::new(mapped),
    ))
}

fn colorimetry(info: &gst_video::VideoInfo) -> Colorimetry {
    use gst_video::{VideoColorMatrix, VideoColorRange};
    let stated = info.colorimetry();
    let matrix = match stated.matrix() {
        VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc => ColorMatrix::Bt601,
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m | VideoColorMatrix::Bt2020 => {
            ColorMatrix::Bt709
        }
        // Not stated: by size, as GStreamer does.
        _ if info.height() > 576 => ColorMatrix::Bt709,
        _ => ColorMatrix::Bt601,
    };
    Colorimetry {
        matrix,
        full_range: stated.range() == VideoColorRange::Range0_255,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::join::BLOCK_SAMPLES;
    use crate::lane::{Received, WhenFull, lane};

    fn sample(running_ms: u64) -> gst::Sample {
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 16, 16)
            .build()
            .unwrap();
        let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
        buffer
            .get_mut()
            .unwrap()
            .set_pts(gst::ClockTime::from_mseconds(running_ms));
        gst::Sample::builder()
            .buffer(&buffer)
            .caps(&info.to_caps().unwrap())
            .segment(&gst::FormattedSegment::<gst::ClockTime>::new())
            .build()
    }

    #[test]
    fn sound_that_is_no_number_is_silent_and_counted() {
        super::super::pipeline::init();
        let (sender, receiver) = lane("audio", 8, WhenFull::DropOldest);
        let board = Arc::new(SourceBoard::default());
        let timeline = Arc::new(Timeline {
            stamp_offset: AtomicI64::new(0),
            release_offset: AtomicI64::new(0),
            pacing: None,
            stop: Arc::new(AtomicBool::new(false)),
        });
        let mut delivery = SoundDelivery::new(sender, timeline, board.clone());
        let mut values = [0.25f32; BLOCK_SAMPLES];
        (values[3], values[4], values[5]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        let mut buffer = gst::Buffer::from_slice(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>(),
        );
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
        let sample = gst::Sample::builder()
            .buffer(&buffer)
            .segment(&gst::FormattedSegment::<gst::ClockTime>::new())
            .build();
        assert!(delivery.deliver(sample).is_ok());
        let Received::Item(block) = receiver.recv(None) else {
            panic!("no block")
        };
        values[3..6].fill(0.0);
        assert_eq!(&block.samples[..], &values[..]);
        assert_eq!(board.audio.counters.silenced.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn pictures_that_come_too_late_are_counted_and_told_and_the_source_heals() {
        super::super::pipeline::init();
        let (sender, receiver) = lane("frames", 8, WhenFull::DropOldest);
        let (clock, board) = (
            Arc::new(SystemClock::new()),
            Arc::new(SourceBoard::default()),
        );
        let started = clock.now().nanos();
        let timeline = Arc::new(Timeline {
            stamp_offset: AtomicI64::new(started),
            release_offset: AtomicI64::new(started - 10_000_000_000),
            pacing: None,
            stop: Arc::new(AtomicBool::new(false)),
        });
        let mut delivery = FrameDelivery::new(sender, timeline, board.clone());
        // Offline nothing is late.
        assert!(delivery.deliver(sample(0)).is_ok());
        delivery.lateness_clock = Some(clock);
        for running_ms in [1000, 5000, 7900, 8500] {
            assert!(delivery.deliver(sample(running_ms)).is_ok());
        }
        let status = board.video.status();
        assert!(status.state == SourceState::Lost && status.reason.unwrap().contains("2 s late"));
        assert_eq!(board.video.counters.too_late.load(Ordering::Relaxed), 4);
        assert!(delivery.deliver(sample(9500)).is_ok());
        assert_eq!(board.video.status().state, SourceState::Delivering);
        // Then a second and a half is stale, and the answers to it say so.
        delivery
            .timeline
            .release_offset
            .fetch_sub(1_200_000_000, Ordering::AcqRel);
        assert!(delivery.deliver(sample(9600)).is_ok());
        drop(delivery);
        let mut came = Vec::new();
        while let Received::Item(frame) = receiver.recv(None) {
            came.push(frame.time.nanos() - started);
        }
        assert_eq!(came, [0, 9_500_000_000, 9_600_000_000]);
    }
}
