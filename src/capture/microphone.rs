//! Microphones through cpal. A callback only stamps and copies the samples; a thread resamples them
//! to 16 kHz and sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, StreamConfig, SupportedBufferSize};
use ringbuf::traits::Consumer;

use super::callback::{ChannelMixer, Signals, build};
use super::downmix::{CancellationDetector, Downmix};
use super::error::CaptureError;
use super::health::SourceHealth;
use super::library_messages::AlsaMessages;
use super::resample::{ToSpeechRate, nanos};
use super::retry::{FIRST_PAUSE, pause};
use super::spec::AudioSpec;
use super::stall::StallDetector;
use super::tracks::ChannelSelection;
use crate::clip::{AudioBlock, samples_to_nanos};
use crate::event::SourceState;
use crate::lane::WeakLaneSender;
use crate::time::{Clock, ClockMap, MediaTime, SystemClock};

/// Number of callbacks per second that is requested from the device.
const CALLBACKS_HZ: u32 = 50;
/// Interval at which the microphone's thread drains the ring.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// Time limit from the opening of a device to its first callback, nanoseconds.
const OPENING_NANOS: i64 = 4_000_000_000;
/// Longest pause between two attempts to open a device. Attempts are cheap, and PulseAudio's null
/// sink takes 2 s from opening to its first sample.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// Longest pause between two attempts to open a device that has not delivered yet. Each attempt
/// reads ALSA's whole configuration.
const LONGEST_PAUSE_UNSEEN: Duration = Duration::from_secs(2);
/// Time limit for the closing of a stream.
const CLOSING: Duration = Duration::from_millis(300);
/// Number of callbacks that are observed before the first block is stamped; meanwhile the sound is
/// buffered. One is enough for a device with blocks longer than [`LONG_BLOCK_NANOS`].
const READINGS_BEFORE_FIRST: u32 = 8;
/// Length of a block, in nanoseconds, above which one callback is enough for a stamp.
const LONG_BLOCK_NANOS: i64 = 250_000_000;

/// A microphone: a named device that was found, or the default device, which may appear later.
#[derive(Debug)]
pub(super) struct Microphone {
    spec: AudioSpec,
    channel: ChannelSelection,
}

impl Microphone {
    /// Looks up the device of `spec` and checks that it can record. The default device is not
    /// checked, because it may appear later.
    ///
    /// # Errors
    /// The device does not exist, access to it is denied, or it cannot be opened.
    pub fn find(spec: &AudioSpec) -> Result<Self, CaptureError> {
        let microphone = Microphone {
            spec: spec.clone(),
            channel: ChannelSelection::Auto,
        };
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

    /// Selects the channel to record.
    pub fn with_channel(self, channel: ChannelSelection) -> Self {
        Microphone { channel, ..self }
    }

    /// The configured device, or the default device; `None` if it is absent now.
    fn device(&self) -> Option<cpal::Device> {
        let host = cpal::default_host();
        match &self.spec {
            AudioSpec::Device(name) => {
                let by_id = name.parse().ok().and_then(|id| host.device_by_id(&id));
                by_id.or_else(|| {
                    host.input_devices()
                        .ok()?
                        .find(|device| matches_name(device, name))
                })
            }
            _ => host.default_input_device(),
        }
    }

    /// Records until `stop`, and reconnects after losses.
    pub fn run(
        self,
        lane: &WeakLaneSender<AudioBlock>,
        clock: &SystemClock,
        health: &SourceHealth,
        stop: &AtomicBool,
    ) {
        let gauge = &health.audio;
        health.set(gauge, SourceState::Opening, None);
        let mut wait = FIRST_PAUSE;
        let mut last = None;
        while !stop.load(Ordering::Acquire) {
            let before = gauge.counters.delivered.load(Ordering::Relaxed);
            let outcome = self.attempt(lane, clock, health, stop, &mut last);
            let Err(why) = outcome else { break };
            health.set(gauge, SourceState::Lost, Some(why));
            if gauge.counters.delivered.load(Ordering::Relaxed) > before {
                wait = FIRST_PAUSE;
            }
            if !pause(wait, stop) {
                break;
            }
            let has_delivered = gauge.counters.delivered.load(Ordering::Relaxed) > 0;
            wait = (wait * 2).min(if has_delivered {
                LONGEST_PAUSE
            } else {
                LONGEST_PAUSE_UNSEEN
            });
            gauge.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        health.set(gauge, SourceState::Off, None);
    }

    /// Runs one stream from its opening to its loss (`Err` with the reason as text) or to the end
    /// of capture (`Ok`). `last`: stamp of the newest block, kept over the streams of the
    /// microphone.
    fn attempt(
        &self,
        lane: &WeakLaneSender<AudioBlock>,
        clock: &SystemClock,
        health: &SourceHealth,
        stop: &AtomicBool,
        last: &mut Option<MediaTime>,
    ) -> Result<(), String> {
        let _messages = AlsaMessages::capture();
        let device = self
            .device()
            .ok_or_else(|| format!("there is no microphone `{}`", self.spec))?;
        let supported = device
            .default_input_config()
            .map_err(|error| format!("the microphone `{}` cannot be opened: {error}", self.spec))?;
        let rate_hz = supported.sample_rate();
        let signals = Arc::new(Signals::default());
        let channels = supported.channels();
        let Some(downmix) = Downmix::initial(self.channel, usize::from(channels)) else {
            return Err(format!(
                "the microphone `{}` has {channels} channels: audio.channel = \"{}\" is not one \
                 of them",
                self.spec, self.channel
            ));
        };
        let mixer = ChannelMixer {
            downmix,
            detector: (self.channel == ChannelSelection::Auto && channels > 1)
                .then(|| CancellationDetector::new(usize::from(channels), rate_hz)),
        };
        let (format, buffer) = (
            supported.sample_format(),
            small_buffer(rate_hz, supported.buffer_size()),
        );
        let config = StreamConfig {
            channels: supported.channels(),
            sample_rate: rate_hz,
            buffer_size: buffer,
        };
        let (stream, mut ring) = match build(&device, config, format, mixer.clone(), &signals) {
            Ok(built) => built,
            Err(_) => build(
                &device,
                StreamConfig {
                    buffer_size: BufferSize::Default,
                    ..config
                },
                format,
                mixer,
                &signals,
            )
            .map_err(|error| error.to_string())?,
        };
        let stream = OpenStream(Some(stream));
        stream.play()?;

        let mut resampler = ToSpeechRate::new(rate_hz)?;
        let mut map = ClockMap::new();
        let (mut position, mut readings, mut samples) = (0i64, 0u32, Vec::new());
        let (mut stall, mut xruns, mut has_warned) =
            (StallDetector::new(clock.now(), OPENING_NANOS), 0, false);
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
                    .unwrap_or_else(|| "the device is no longer available".into()));
            }
            if let Some(channel) = signals
                .selected_channel
                .swap(0, Ordering::Relaxed)
                .checked_sub(1)
                && !std::mem::replace(&mut has_warned, true)
            {
                tracing::warn!(
                    "the microphone's channels cancel each other when mixed: only channel {} is \
                     used; choose with audio.channel",
                    channel + 1
                );
            }
            let new_xruns = signals.xruns.load(Ordering::Relaxed);
            health
                .audio
                .counters
                .xruns
                .fetch_add(new_xruns - xruns, Ordering::Relaxed);
            xruns = new_xruns;
            while let Some(stamp) = ring.stamps.try_pop() {
                if stamp.lost_before > 0 {
                    position += i64::from(stamp.lost_before);
                    resampler.restart(position);
                }
                map.observe(
                    nanos(position, rate_hz),
                    MediaTime::from_nanos(stamp.first_captured_nanos - clock.origin_nanos()),
                );
                readings += 1;
                stall.observe(u64::from(readings), clock.now());
                ring.read_block(stamp, &mut samples, &health.audio.counters);
                position += i64::from(stamp.samples);
                let is_long = nanos(i64::from(stamp.samples), rate_hz) > LONG_BLOCK_NANOS;
                if readings < READINGS_BEFORE_FIRST && !is_long {
                    continue;
                }
                let mut open = true;
                resampler.push(&samples, |device_nanos, samples| {
                    let mut time = map.place(device_nanos);
                    // After a loss, no block is stamped earlier than the last block before the
                    // loss.
                    time = last.map_or(time, |last| time.max(last));
                    *last = Some(time);
                    health.set(&health.audio, SourceState::Delivering, None);
                    open &= lane
                        .send(AudioBlock {
                            time,
                            samples: samples.into(),
                        })
                        .is_ok();
                    health.audio.counters.count(
                        samples.len(),
                        time.plus_nanos(samples_to_nanos(samples.len() as i64)),
                    );
                });
                samples.clear();
                if !open {
                    return Ok(());
                }
            }
            if let Some(why) = stall.stalled("sound", clock.now()) {
                break Err(why);
            }
            std::thread::sleep(DRAIN_STEP);
        };
        if let Err(why) = &outcome {
            // Reported before the stream is closed, which may take long.
            health.set(&health.audio, SourceState::Lost, Some(why.clone()));
        }
        outcome
    }
}

/// A running stream. It is closed on a separate thread: libpulse 16 sometimes deadlocks when its
/// server was killed, and that must not block the reconnection. (libpulse's thread then waits in
/// `pa_memimport_free`, and ALSA's thread for a lock that libpulse's thread holds.)
struct OpenStream(Option<cpal::Stream>);

impl OpenStream {
    fn play(&self) -> Result<(), String> {
        self.0
            .as_ref()
            .expect("open")
            .play()
            .map_err(|error| error.to_string())
    }
}

impl Drop for OpenStream {
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

/// Whether `name` is the name, the identifier or the driver of this device.
fn matches_name(device: &cpal::Device, name: &str) -> bool {
    device.to_string() == name
        || device.id().is_ok_and(|id| id.to_string() == name)
        || device
            .description()
            .is_ok_and(|d| d.name() == name || d.driver() == Some(name))
}

/// A buffer of one callback interval, within the supported range. The default buffer of some hosts
/// is seconds long.
fn small_buffer(rate_hz: u32, supported: &SupportedBufferSize) -> BufferSize {
    let wanted = rate_hz / CALLBACKS_HZ;
    BufferSize::Fixed(match supported {
        SupportedBufferSize::Range { min, max } => wanted.clamp(*min, (*max).max(*min)),
        SupportedBufferSize::Unknown => wanted,
    })
}
