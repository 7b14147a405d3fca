//! The input callback of a microphone, which stamps, mixes and copies samples into a ring buffer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cpal::traits::DeviceTrait;
use cpal::{BufferSize, ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig};
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::downmix::{CancellationDetector, Downmix};
use super::health::SourceCounters;
use super::resample::nanos;
use crate::time::monotonic_nanos;

/// Smallest capacity of the ring, in milliseconds of sound, for a thread that drains it late.
const RING_MILLIS: usize = 500;
/// Smallest capacity of the ring, in blocks of the device. A block larger than the ring would
/// always be lost.
const RING_BLOCKS: usize = 4;
/// Longest expected block, in milliseconds, of a device that chooses the block size itself.
const LARGEST_BLOCK_MILLIS: usize = 2000;

/// The stamp of the samples that one callback wrote into the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockStamp {
    /// Number of samples that were lost to a full ring between the previous block and this one.
    pub lost_before: u32,
    /// Number of samples of the block in the ring.
    pub samples: u32,
    /// Capture time of the first sample, in nanoseconds of the monotonic clock.
    pub first_captured_nanos: i64,
}

/// Signals from the callbacks of an input stream to the microphone's thread.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Number of overruns and underruns of the device, and of blocks lost to a full ring.
    pub xruns: AtomicU64,
    /// Whether the stream has failed and must be opened again.
    pub broken: AtomicBool,
    /// The reason of the failure, for `status`.
    pub reason: Mutex<Option<String>>,
    /// Number of the channel that replaced the mix, counted from 1; 0: none since the last reading.
    pub selected_channel: AtomicU32,
}

/// Reduces the channels of a microphone to one.
#[derive(Clone, Debug)]
pub(super) struct ChannelMixer {
    pub downmix: Downmix,
    /// Detector of phase cancellation; present only if `audio.channel` is `auto`.
    pub detector: Option<CancellationDetector>,
}

/// The reading end of the ring, used by the microphone's thread.
pub(super) struct RingReader {
    pub samples: HeapCons<f32>,
    pub stamps: HeapCons<BlockStamp>,
}

impl RingReader {
    /// Appends the samples of the block with this `stamp` to `samples`. Samples that are not finite
    /// or too large are silenced and counted in `counters`.
    pub fn read_block(
        &mut self,
        stamp: BlockStamp,
        samples: &mut Vec<f32>,
        counters: &SourceCounters,
    ) {
        let begin = samples.len();
        samples.resize(begin + stamp.samples as usize, 0.0);
        self.samples.pop_slice(&mut samples[begin..]);
        counters.silence_unusable(&mut samples[begin..]);
    }
}

/// Creates the ring between the callback and the microphone's thread.
fn split_ring(
    config: StreamConfig,
    mixer: ChannelMixer,
    signals: &Arc<Signals>,
) -> (CallbackWriter, RingReader) {
    let millis = |millis: usize| config.sample_rate as usize * millis / 1000;
    let block = match config.buffer_size {
        BufferSize::Fixed(frames) => frames as usize,
        BufferSize::Default => millis(LARGEST_BLOCK_MILLIS),
    };
    let (samples_in, samples) = HeapRb::new(millis(RING_MILLIS).max(block * RING_BLOCKS)).split();
    let (stamps_in, stamps) = HeapRb::new(1024).split();
    let writer = CallbackWriter {
        samples: samples_in,
        stamps: stamps_in,
        channels: usize::from(config.channels.max(1)),
        mixer,
        rate_hz: config.sample_rate,
        lost: AtomicU32::new(0),
        signals: signals.clone(),
    };
    (writer, RingReader { samples, stamps })
}

/// Opens the input stream of `device`, without starting it. Its callback converts samples of
/// `format` to mono `f32` and writes them into the returned ring.
pub(super) fn build(
    device: &cpal::Device,
    config: StreamConfig,
    format: SampleFormat,
    mixer: ChannelMixer,
    signals: &Arc<Signals>,
) -> Result<(cpal::Stream, RingReader), cpal::Error> {
    let (writer, ring) = split_ring(config, mixer, signals);
    let stream = match format {
        SampleFormat::I8 => stream::<i8>(device, config, writer, signals),
        SampleFormat::I16 => stream::<i16>(device, config, writer, signals),
        SampleFormat::I24 => stream::<cpal::I24>(device, config, writer, signals),
        SampleFormat::I32 => stream::<i32>(device, config, writer, signals),
        SampleFormat::U8 => stream::<u8>(device, config, writer, signals),
        SampleFormat::U16 => stream::<u16>(device, config, writer, signals),
        SampleFormat::U32 => stream::<u32>(device, config, writer, signals),
        SampleFormat::F32 => stream::<f32>(device, config, writer, signals),
        SampleFormat::F64 => stream::<f64>(device, config, writer, signals),
        _ => Err(ErrorKind::UnsupportedConfig.into()),
    }?;
    Ok((stream, ring))
}

/// Opens the stream for the device's sample type `T`.
fn stream<T: SizedSample>(
    device: &cpal::Device,
    config: StreamConfig,
    mut writer: CallbackWriter,
    signals: &Arc<Signals>,
) -> Result<cpal::Stream, cpal::Error>
where
    f32: FromSample<T>,
{
    let signals = signals.clone();
    device.build_input_stream(
        config,
        move |data: &[T], _: &cpal::InputCallbackInfo| writer.write(data),
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

/// The writing end of the ring, used by the callback. It never blocks, allocates or logs.
pub(super) struct CallbackWriter {
    samples: HeapProd<f32>,
    stamps: HeapProd<BlockStamp>,
    channels: usize,
    mixer: ChannelMixer,
    rate_hz: u32,
    lost: AtomicU32,
    signals: Arc<Signals>,
}

impl CallbackWriter {
    /// Mixes the interleaved samples `data` to mono and writes them into the ring.
    ///
    /// The last sample is assumed to be captured now. The age that the host reports is not used:
    /// PulseAudio's ALSA plugin reported 730 ms, falling to 13 ms within a second, for samples that
    /// arrived evenly. [`crate::time::ClockMap`] removes the varying delays.
    fn write<T: SizedSample>(&mut self, data: &[T])
    where
        f32: FromSample<T>,
    {
        let now = monotonic_nanos();
        let frames = data.len() / self.channels;
        if frames == 0 {
            return;
        }
        if self.samples.vacant_len() < frames || self.stamps.is_full() {
            self.lost.fetch_add(frames as u32, Ordering::Relaxed);
            self.signals.xruns.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let length = nanos(frames as i64, self.rate_hz);
        let scale = 1.0 / self.channels as f32;
        let (mixer, signals) = (&mut self.mixer, &self.signals);
        self.samples
            .push_iter(data.chunks_exact(self.channels).map(|frame| {
                let samples = frame.iter().map(|value| f32::from_sample_(*value));
                if let Some(switch) = mixer
                    .detector
                    .as_mut()
                    .and_then(|detector| detector.take(samples.clone()))
                {
                    mixer.downmix = switch.downmix;
                    if let Downmix::Channel(channel) = switch.downmix {
                        signals
                            .selected_channel
                            .store(channel as u32 + 1, Ordering::Relaxed);
                    }
                }
                match mixer.downmix {
                    Downmix::All => samples.sum::<f32>() * scale,
                    Downmix::Channel(channel) => f32::from_sample_(frame[channel]),
                }
            }));
        let stamp = BlockStamp {
            lost_before: self.lost.swap(0, Ordering::Relaxed),
            samples: frames as u32,
            first_captured_nanos: now - length,
        };
        let _ = self.stamps.try_push(stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::health::SourceHealth;

    fn averaging(detector: Option<CancellationDetector>) -> ChannelMixer {
        ChannelMixer {
            downmix: Downmix::All,
            detector,
        }
    }

    #[test]
    fn cancelling_channels_select_one_and_signal_it() {
        let config = StreamConfig {
            channels: 2,
            sample_rate: 16_000,
            buffer_size: BufferSize::Default,
        };
        let signals = Arc::default();
        let detector = CancellationDetector::new(2, 16_000);
        let (mut writer, mut ring) = split_ring(config, averaging(Some(detector)), &signals);
        let inverted: Vec<f32> = (0..6400)
            .flat_map(|n| {
                let sample = (n as f32 * 0.1).sin() * 0.5;
                [sample, -sample]
            })
            .collect();
        writer.write(&inverted);
        let counters = SourceHealth::default().audio.counters;
        let stamp = ring.stamps.try_pop().unwrap();
        let mut samples = Vec::new();
        ring.read_block(stamp, &mut samples, &counters);
        assert!(samples[..3000].iter().all(|sample| sample.abs() < 1e-6));
        assert_eq!(samples[6399], inverted[2 * 6399]);
        assert_eq!(signals.selected_channel.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn non_finite_samples_of_a_device_are_silenced_and_counted() {
        let config = StreamConfig {
            channels: 2,
            sample_rate: 16_000,
            buffer_size: BufferSize::Default,
        };
        let (mut writer, mut ring) = split_ring(config, averaging(None), &Arc::default());
        writer.write(&[
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
        let counters = SourceHealth::default().audio.counters;
        let stamp = ring.stamps.try_pop().unwrap();
        let mut samples = vec![1.0];
        ring.read_block(stamp, &mut samples, &counters);
        assert_eq!(samples, [1.0, 0.5, 0.0, 0.0, 0.0, -0.375]);
        assert_eq!(counters.silenced.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_block_of_two_seconds_is_captured_completely() {
        for buffer_size in [BufferSize::Default, BufferSize::Fixed(96_000)] {
            let config = StreamConfig {
                channels: 1,
                sample_rate: 48_000,
                buffer_size,
            };
            let signals = Arc::default();
            let (mut writer, mut ring) = split_ring(config, averaging(None), &signals);
            let counters = SourceHealth::default().audio.counters;
            for _ in 0..3 {
                writer.write(&[0.5f32; 96_000]);
            }
            let mut samples = Vec::new();
            while let Some(stamp) = ring.stamps.try_pop() {
                assert_eq!(stamp.lost_before, 0);
                ring.read_block(stamp, &mut samples, &counters);
            }
            assert_eq!(samples.len(), 3 * 96_000);
            assert_eq!(signals.xruns.load(Ordering::Relaxed), 0);
        }
    }
}
