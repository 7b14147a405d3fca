//! Microphones by cpal: a callback that only stamps and copies, and a thread that resamples, places and sends.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize,
};
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::board::{SourceBoard, SourceCounters};
use super::error::CaptureError;
use super::live::{FIRST_PAUSE, pause};
use super::pulse::Pulse;
use super::resample::{ToSpeechRate, nanos};
use super::spec::AudioSpec;
use crate::clip::{AudioBlock, samples_to_nanos};
use crate::event::SourceState;
use crate::lane::LaneSender;
use crate::time::{Clock, ClockMap, MediaTime, SystemClock, monotonic_nanos};

/// What the ring holds at least, for a thread that drains it late.
const RING_MILLIS: usize = 500;
/// The same in blocks of the device: a block that is larger than the ring could never be heard.
const RING_BLOCKS: usize = 4;
/// The largest block of a device that chooses the size itself.
const LARGEST_BLOCK_MILLIS: usize = 2000;
/// Callbacks asked of the device per second.
const CALLBACKS_HZ: u32 = 50;
/// How often the ring is drained.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// How long a device may take from its opening to its first callback.
const OPENING_NANOS: i64 = 4_000_000_000;
/// Between two attempts to open a device. They cost little, and PulseAudio's null sink takes 2 s from there to its first sample.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// The same for a device that has never been heard, and may never come: each attempt reads ALSA's whole configuration.
const LONGEST_PAUSE_UNHEARD: Duration = Duration::from_secs(2);
/// How long the end of a stream is waited for.
const CLOSING: Duration = Duration::from_millis(300);
/// Readings of the clock before the first block is placed, or one for a device whose blocks are longer than all of them
/// usually are; meanwhile the sound waits.
const READINGS_BEFORE_FIRST: u32 = 8;
const LONG_BLOCK_NANOS: i64 = 250_000_000;

/// A microphone that exists, or did a moment ago; or the default one, which may be still to come.
#[derive(Debug)]
pub(super) struct Microphone {
    spec: AudioSpec,
}

/// What one callback gave: how many samples are in the ring for it, and when its first one was captured.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Samples that found the ring full since the mark before.
    lost_before: u32,
    samples: u32,
    first_captured_nanos: i64,
}

/// What the stream's callbacks tell the thread.
#[derive(Debug, Default)]
struct Signals {
    xruns: AtomicU64,
    broken: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl Microphone {
    /// Is there such a device, and can it record? Of the default one that is not asked: it is whichever there is, also later.
    pub fn find(spec: &AudioSpec) -> Result<Self, CaptureError> {
        let microphone = Microphone { spec: spec.clone() };
        if *spec == AudioSpec::Default {
            return Ok(microphone);
        }
        let device = microphone
            .device()
            .ok_or_else(|| CaptureError::NoSuchDevice {
                kind: "microphone",
                name: spec.to_string(),
            })?;
        match device.default_input_config() {
            Ok(_) => Ok(microphone),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(CaptureError::Denied {
                    what: format!("the microphone `{spec}`"),
                    remedy: "add this user to the group `audio`".into(),
                })
            }
            Err(error) => Err(CaptureError::DeviceRefuses {
                kind: "microphone",
                name: spec.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    fn device(&self) -> Option<cpal::Device> {
        let host = cpal::default_host();
        match &self.spec {
            AudioSpec::Device(name) => {
                let by_id = name.parse().ok().and_then(|id| host.device_by_id(&id));
                by_id.or_else(|| {
                    host.input_devices()
                        .ok()?
                        .find(|device| is_called(device, name))
                })
            }
            _ => host.default_input_device(),
        }
    }

    /// Records until `stop`, healing itself.
    pub fn run(
        self,
        lane: &LaneSender<AudioBlock>,
        clock: &SystemClock,
        board: &SourceBoard,
        stop: &AtomicBool,
    ) {
        let gauge = &board.audio;
        board.set(gauge, SourceState::Opening, None);
        let mut wait = FIRST_PAUSE;
        let mut last = None;
        while !stop.load(Ordering::Acquire) {
            let before = gauge.counters.delivered.load(Ordering::Relaxed);
            let outcome = self.attempt(lane, clock, board, stop, &mut last);
            let Err(why) = outcome else { break };
            board.set(gauge, SourceState::Lost, Some(why));
            if gauge.counters.delivered.load(Ordering::Relaxed) > before {
                wait = FIRST_PAUSE;
            }
            if !pause(wait, stop) {
                break;
            }
            let heard = gauge.counters.delivered.load(Ordering::Relaxed) > 0;
            wait = (wait * 2).min(if heard {
                LONGEST_PAUSE
            } else {
                LONGEST_PAUSE_UNHEARD
            });
            gauge.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        board.set(gauge, SourceState::Off, None);
    }

    /// One stream from its opening to its loss (`Err`: why), or to the end of capture (`Ok`).
    fn attempt(
        &self,
        lane: &LaneSender<AudioBlock>,
        clock: &SystemClock,
        board: &SourceBoard,
        stop: &AtomicBool,
        last: &mut Option<MediaTime>,
    ) -> Result<(), String> {
        // Where there is no sound card ALSA writes several lines to standard error, each time. The board says it once: they go into a buffer
        // of this thread's, which is emptied by asking for it anew.
        let _ = alsa::Output::local_error_handler();
        let device = self
            .device()
            .ok_or_else(|| format!("there is no microphone `{}`", self.spec))?;
        let supported = device
            .default_input_config()
            .map_err(|error| format!("the microphone `{}` cannot be opened: {error}", self.spec))?;
        let rate_hz = supported.sample_rate();
        let signals = Arc::new(Signals::default());
        let (format, buffer) = (
            supported.sample_format(),
            small_buffer(rate_hz, supported.buffer_size()),
        );
        let config = StreamConfig {
            channels: supported.channels(),
            sample_rate: rate_hz,
            buffer_size: buffer,
        };
        let (stream, mut ring) = match build(&device, config, format, &signals) {
            Ok(built) => built,
            Err(_) => build(
                &device,
                StreamConfig {
                    buffer_size: BufferSize::Default,
                    ..config
                },
                format,
                &signals,
            )
            .map_err(|error| error.to_string())?,
        };
        let stream = Open(Some(stream));
        stream.play()?;

        let mut resampler = ToSpeechRate::new(rate_hz)?;
        let mut map = ClockMap::new();
        let (mut position, mut readings, mut samples) = (0i64, 0u32, Vec::new());
        let (mut pulse, mut xruns) = (Pulse::new(clock.now(), OPENING_NANOS), 0);
        let outcome = loop {
            if stop.load(Ordering::Acquire) {
                break Ok(());
            }
            if signals.broken.load(Ordering::Acquire) {
                break Err(signals
                    .reason
                    .lock()
                    .expect("signal lock")
                    .take()
                    .unwrap_or_else(|| "the device is gone".into()));
            }
            let new_xruns = signals.xruns.load(Ordering::Relaxed);
            board
                .audio
                .counters
                .xruns
                .fetch_add(new_xruns - xruns, Ordering::Relaxed);
            xruns = new_xruns;
            while let Some(mark) = ring.marks.try_pop() {
                if mark.lost_before > 0 {
                    position += i64::from(mark.lost_before);
                    resampler.restart(position);
                }
                map.observe(
                    nanos(position, rate_hz),
                    MediaTime::from_nanos(mark.first_captured_nanos - clock.origin_nanos()),
                );
                readings += 1;
                pulse.observe(u64::from(readings), clock.now());
                ring.take(mark, &mut samples, &board.audio.counters);
                position += i64::from(mark.samples);
                let is_long = nanos(i64::from(mark.samples), rate_hz) > LONG_BLOCK_NANOS;
                if readings < READINGS_BEFORE_FIRST && !is_long {
                    continue;
                }
                let mut open = true;
                resampler.push(&samples, |device_nanos, samples| {
                    let mut time = map.place(device_nanos);
                    // After a loss, nothing is placed before what was heard before it.
                    time = last.map_or(time, |last| time.max(last));
                    *last = Some(time);
                    board.set(&board.audio, SourceState::Delivering, None);
                    open &= lane
                        .send(AudioBlock {
                            time,
                            samples: samples.into(),
                        })
                        .is_ok();
                    board.audio.counters.count(
                        samples.len(),
                        time.plus_nanos(samples_to_nanos(samples.len() as i64)),
                    );
                });
                samples.clear();
                if !open {
                    return Ok(());
                }
            }
            if let Some(why) = pulse.stalled("sound", clock.now()) {
                break Err(why);
            }
            std::thread::sleep(DRAIN_STEP);
        };
        if let Err(why) = &outcome {
            // Told before the stream is taken down, which may take its time.
            board.set(&board.audio, SourceState::Lost, Some(why.clone()));
        }
        outcome
    }
}

/// A running stream. Closing it is left to a thread of its own: libpulse 16 deadlocks now and then when its server was killed
/// (its own thread waits in `pa_memimport_free`, ALSA's for the lock that it holds), and that must not keep us from healing.
struct Open(Option<cpal::Stream>);

impl Open {
    fn play(&self) -> Result<(), String> {
        self.0
            .as_ref()
            .expect("open")
            .play()
            .map_err(|error| error.to_string())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let stream = self.0.take();
        if let Ok(closing) = std::thread::Builder::new()
            .name("microphone end".into())
            .spawn(move || drop(stream))
        {
            let mut left = CLOSING;
            while !closing.is_finished() && !left.is_zero() {
                std::thread::sleep(DRAIN_STEP);
                left -= DRAIN_STEP;
            }
        }
    }
}

/// Does the user mean this device?
fn is_called(device: &cpal::Device, name: &str) -> bool {
    device.to_string() == name
        || device.id().is_ok_and(|id| id.to_string() == name)
        || device
            .description()
            .is_ok_and(|d| d.name() == name || d.driver() == Some(name))
}

/// The default buffer of some hosts is seconds long.
fn small_buffer(rate_hz: u32, supported: &SupportedBufferSize) -> BufferSize {
    let wanted = rate_hz / CALLBACKS_HZ;
    BufferSize::Fixed(match supported {
        SupportedBufferSize::Range { min, max } => wanted.clamp(*min, (*max).max(*min)),
        SupportedBufferSize::Unknown => wanted,
    })
}

/// The thread's half of the ring.
struct Ring {
    samples: HeapCons<f32>,
    marks: HeapCons<Mark>,
}

impl Ring {
    /// Moves the samples of `mark` behind those that are in `samples`.
    fn take(&mut self, mark: Mark, samples: &mut Vec<f32>, counters: &SourceCounters) {
        let begin = samples.len();
        samples.resize(begin + mark.samples as usize, 0.0);
        self.samples.pop_slice(&mut samples[begin..]);
        counters.silence_unusable(&mut samples[begin..]);
    }
}

fn halves(config: StreamConfig, signals: &Arc<Signals>) -> (Intake, Ring) {
    let millis = |millis: usize| config.sample_rate as usize * millis / 1000;
    let block = match config.buffer_size {
        BufferSize::Fixed(frames) => frames as usize,
        BufferSize::Default => millis(LARGEST_BLOCK_MILLIS),
    };
    let (samples_in, samples) = HeapRb::new(millis(RING_MILLIS).max(block * RING_BLOCKS)).split();
    let (marks_in, marks) = HeapRb::new(1024).split();
    let intake = Intake {
        samples: samples_in,
        marks: marks_in,
        channels: usize::from(config.channels.max(1)),
        rate_hz: config.sample_rate,
        lost: AtomicU32::new(0),
        signals: signals.clone(),
    };
    (intake, Ring { samples, marks })
}

fn build(
    device: &cpal::Device,
    config: StreamConfig,
    format: SampleFormat,
    signals: &Arc<Signals>,
) -> Result<(cpal::Stream, Ring), cpal::Error> {
    let (intake, ring) = halves(config, signals);
    let stream = match format {
        SampleFormat::I8 => stream::<i8>(device, config, intake, signals),
        SampleFormat::I16 => stream::<i16>(device, config, intake, signals),
        SampleFormat::I24 => stream::<cpal::I24>(device, config, intake, signals),
        SampleFormat::I32 => stream::<i32>(device, config, intake, signals),
        SampleFormat::U8 => stream::<u8>(device, config, intake, signals),
        SampleFormat::U16 => stream::<u16>(device, config, intake, signals),
        SampleFormat::U32 => stream::<u32>(device, config, intake, signals),
        SampleFormat::F32 => stream::<f32>(device, config, intake, signals),
        SampleFormat::F64 => stream::<f64>(device, config, intake, signals),
        _ => Err(ErrorKind::UnsupportedConfig.into()),
    }?;
    Ok((stream, ring))
}

fn stream<T: SizedSample>(
    device: &cpal::Device,
    config: StreamConfig,
    mut intake: Intake,
    signals: &Arc<Signals>,
) -> Result<cpal::Stream, cpal::Error>
where
    f32: FromSample<T>,
{
    let signals = signals.clone();
    device.build_input_stream(
        config,
        move |data: &[T], _: &cpal::InputCallbackInfo| intake.take(data),
        move |error| match error.kind() {
            ErrorKind::Xrun => drop(signals.xruns.fetch_add(1, Ordering::Relaxed)),
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ => {
                *signals.reason.lock().expect("signal lock") = Some(error.to_string());
                signals.broken.store(true, Ordering::Release);
            }
        },
        None,
    )
}

/// The callback's half of the ring. It never blocks, allocates or logs.
struct Intake {
    samples: HeapProd<f32>,
    marks: HeapProd<Mark>,
    channels: usize,
    rate_hz: u32,
    lost: AtomicU32,
    signals: Arc<Signals>,
}

impl Intake {
    /// The last sample is taken to have been captured just now. What the host says of its age is not believed: PulseAudio's ALSA plugin
    /// reported 730 ms, falling to 13 ms within a second, over samples that came evenly; [`ClockMap`] takes out the delays that vary.
    fn take<T: SizedSample>(&mut self, data: &[T])
    where
        f32: FromSample<T>,
    {
        let now = monotonic_nanos();
        let frames = data.len() / self.channels;
        if frames == 0 {
            return;
        }
        if self.samples.vacant_len() < frames || self.marks.is_full() {
            self.lost.fetch_add(frames as u32, Ordering::Relaxed);
            self.signals.xruns.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let length = nanos(frames as i64, self.rate_hz);
        let scale = 1.0 / self.channels as f32;
        self.samples
            .push_iter(data.chunks_exact(self.channels).map(|frame| {
                frame
                    .iter()
                    .map(|value| f32::from_sample_(*value))
                    .sum::<f32>()
                    * scale
            }));
        let mark = Mark {
            lost_before: self.lost.swap(0, Ordering::Relaxed),
            samples: frames as u32,
            first_captured_nanos: now - length,
        };
        let _ = self.marks.try_push(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_gives_that_is_no_number_is_silent_and_counted() {
        let config = StreamConfig {
            channels: 2,
            sample_rate: 16_000,
            buffer_size: BufferSize::Default,
        };
        let (mut intake, mut ring) = halves(config, &Arc::default());
        intake.take(&[
            0.5f32,
            0.5,
            f32::NAN,
            0.5,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MAX,
            -0.5,
            -0.25,
        ]);
        let counters = SourceBoard::default().audio.counters;
        let mark = ring.marks.try_pop().unwrap();
        let mut samples = vec![1.0];
        ring.take(mark, &mut samples, &counters);
        assert_eq!(samples, [1.0, 0.5, 0.0, 0.0, 0.0, -0.375]);
        assert_eq!(counters.silenced.load(Ordering::Relaxed), 3);
    }
    #[test]
    fn a_block_of_two_seconds_is_heard_whole() {
        for buffer_size in [BufferSize::Default, BufferSize::Fixed(96_000)] {
            let config = StreamConfig {
                channels: 1,
                sample_rate: 48_000,
                buffer_size,
            };
            let signals = Arc::default();
            let (mut intake, mut ring) = halves(config, &signals);
            let counters = SourceBoard::default().audio.counters;
            for _ in 0..3 {
                intake.take(&[0.5f32; 96_000]);
            }
            let mut samples = Vec::new();
            while let Some(mark) = ring.marks.try_pop() {
                assert_eq!(mark.lost_before, 0);
                ring.take(mark, &mut samples, &counters);
            }
            assert_eq!(samples.len(), 3 * 96_000);
            assert_eq!(signals.xruns.load(Ordering::Relaxed), 0);
        }
    }
}
