//! Creates small media files with known content by GStreamer.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

/// GStreamer's encoder for AAC, the sound of MP4 files.
pub const AAC: &str = "avenc_aac ! aacparse";
/// GStreamer's encoder for H.264 with a key frame every ten frames.
pub const H264: &str = "x264enc speed-preset=ultrafast key-int-max=10";

/// A video track: size in pixels, GStreamer's encoder, and for each frame (time in ms, luma of
/// [left half, right half]).
pub struct Pictures<'a> {
    pub size: (usize, usize),
    pub encoder: &'a str,
    pub frames: Vec<(u64, [u8; 2])>,
}

/// An audio track, mono or stereo, encoded from 16-bit samples.
pub struct Sound<'a> {
    pub rate_hz: u32,
    pub channels: usize,
    pub encoder: &'a str,
    /// Samples in [-1, 1], written to every channel.
    pub samples: Vec<f32>,
    pub begins_ms: u64,
}

/// Writes the media file `path`. `muxer` is a GStreamer element with its properties; a track of
/// `None` is left out.
pub fn generate(path: &Path, muxer: &str, pictures: Option<Pictures>, sound: Option<Sound>) {
    gst::init().unwrap();
    let mut description = format!(
        "{muxer} name=mux ! filesink location=\"{}\" ",
        path.display()
    );
    if let Some(pictures) = &pictures {
        description += &format!(
            "appsrc name=pictures format=time max-bytes=0 ! queue max-size-bytes=0 \
             max-size-buffers=0 max-size-time=0 ! {} ! mux. ",
            pictures.encoder
        );
    }
    if let Some(sound) = &sound {
        description += &format!(
            "appsrc name=sound format=time max-bytes=0 ! queue max-size-bytes=0 \
             max-size-buffers=0 max-size-time=0 ! audioconvert ! {} ! mux. ",
            sound.encoder
        );
    }
    let pipeline = gst::parse::launch(&description)
        .unwrap_or_else(|e| panic!("{description}: {e}"))
        .downcast::<gst::Pipeline>()
        .unwrap();
    let source = |name: &str| {
        pipeline
            .by_name(name)
            .unwrap()
            .downcast::<gst_app::AppSrc>()
            .unwrap()
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    if let Some(pictures) = pictures {
        let source = source("pictures");
        let (width, height) = pictures.size;
        let info = gstreamer_video::VideoInfo::builder(
            gstreamer_video::VideoFormat::I420,
            width as u32,
            height as u32,
        )
        .fps(gst::Fraction::new(25, 1))
        .build()
        .unwrap();
        source.set_caps(Some(&info.to_caps().unwrap()));
        for (index, (millis, halves)) in pictures.frames.iter().enumerate() {
            let mut data = vec![128u8; info.size()];
            for y in 0..height {
                for x in 0..width {
                    data[info.offset()[0] + y * info.stride()[0] as usize + x] =
                        halves[usize::from(x >= width / 2)];
                }
            }
            let mut buffer = gst::Buffer::from_slice(data);
            let ends = pictures
                .frames
                .get(index + 1)
                .map_or(millis + 40, |next| next.0);
            let writable = buffer.get_mut().unwrap();
            writable.set_pts(gst::ClockTime::from_mseconds(*millis));
            writable.set_duration(gst::ClockTime::from_mseconds(ends - millis));
            source.push_buffer(buffer).unwrap();
        }
        source.end_of_stream().unwrap();
    }
    if let Some(sound) = sound {
        let source = source("sound");
        let caps = gst::Caps::builder("audio/x-raw")
            .field("format", "S16LE")
            .field("layout", "interleaved")
            .field("rate", sound.rate_hz as i32)
            .field("channels", sound.channels as i32);
        let caps = if sound.channels == 2 {
            caps.field("channel-mask", gst::Bitmask::new(3))
        } else {
            caps
        };
        source.set_caps(Some(&caps.build()));
        for (index, block) in sound.samples.chunks(1024).enumerate() {
            let data: Vec<u8> = block
                .iter()
                .flat_map(|s| std::iter::repeat_n((s * 32_767.0) as i16, sound.channels))
                .flat_map(i16::to_le_bytes)
                .collect();
            let mut buffer = gst::Buffer::from_slice(data);
            let at = |sample: usize| {
                gst::ClockTime::from_nseconds(
                    sound.begins_ms * 1_000_000
                        + sample as u64 * 1_000_000_000 / u64::from(sound.rate_hz),
                )
            };
            let writable = buffer.get_mut().unwrap();
            writable.set_pts(at(index * 1024));
            writable.set_duration(at(index * 1024 + block.len()) - at(index * 1024));
            source.push_buffer(buffer).unwrap();
        }
        source.end_of_stream().unwrap();
    }
    let message = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    match message.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Eos(_)) => {}
        Some(gst::MessageView::Error(error)) => {
            panic!("{description}: {} {:?}", error.error(), error.debug())
        }
        _ => panic!("{description}: not done after 60 s"),
    }
}

/// Samples of a sine tone with amplitude 0.5, `seconds` long.
pub fn tone(rate_hz: u32, frequency_hz: f64, seconds: f64) -> Vec<f32> {
    (0..(f64::from(rate_hz) * seconds) as usize)
        .map(|n| {
            ((n as f64 / f64::from(rate_hz) * frequency_hz * std::f64::consts::TAU).sin() * 0.5)
                as f32
        })
        .collect()
}

/// `count` frames at 25 Hz as (time in ms, luma of both halves); `luma` gives the luma of each
/// frame.
pub fn frames_at_25_hz(count: u64, luma: impl Fn(u64) -> u8) -> Vec<(u64, [u8; 2])> {
    (0..count).map(|n| (n * 40, [luma(n); 2])).collect()
}

/// A video track of `count` grey frames at 25 Hz, each brighter than the one before.
pub fn grey(size: (usize, usize), encoder: &str, count: u64) -> Pictures<'_> {
    Pictures {
        size,
        encoder,
        frames: frames_at_25_hz(count, |n| 60 + n as u8),
    }
}
