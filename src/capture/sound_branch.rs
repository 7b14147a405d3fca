//! The mono downmix of a decoded sound track in GStreamer: the mix of the converter, or one channel
//! if it is selected or the channels cancel each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::downmix::{CancellationDetector, Downmix, Switch};
use super::tracks::ChannelSelection;

/// Look-ahead of the cancellation detector before the mix, in nanoseconds: longer than a decision
/// needs.
const LOOK_AHEAD_NANOS: u64 = 600_000_000;
/// Capacity of the queue for the look-ahead, in nanoseconds of sound.
const HELD_NANOS: u64 = 3 * LOOK_AHEAD_NANOS;

/// Settings for the downmix of a sound track.
#[derive(Clone)]
pub(super) struct SoundBranch {
    pub channel: ChannelSelection,
    /// Whether the sound may be delayed for the look-ahead. Live sound must not be delayed.
    pub look_ahead: bool,
    /// Receives notes for the log, one line of text each.
    pub note: Arc<dyn Fn(&str) + Send + Sync>,
}

impl SoundBranch {
    /// Settings for a live source: without look-ahead, and notes go to the log.
    pub fn live(channel: ChannelSelection) -> SoundBranch {
        SoundBranch {
            channel,
            look_ahead: false,
            note: Arc::new(|text| tracing::warn!("the source's sound: {text}")),
        }
    }
}

/// The elements of the downmix before the resampler, in order; the last one is the converter.
/// `caps`: caps of the decoded sound.
pub(super) fn elements(
    branch: &SoundBranch,
    caps: &gst::CapsRef,
) -> Result<Vec<gst::Element>, gst::glib::BoolError> {
    let channels = channels(caps);
    let convert = converter(match Downmix::initial(branch.channel, channels) {
        Some(Downmix::All) if !has_layout(caps) => Some(Downmix::All.weights(channels)),
        Some(Downmix::Channel(channel)) => Some(Downmix::Channel(channel).weights(channels)),
        _ => None,
    })?;
    if branch.channel != ChannelSelection::Auto || channels < 2 {
        return Ok(vec![convert]);
    }
    let switcher = Arc::new(DownmixSwitcher {
        note: branch.note.clone(),
        has_layout: has_layout(caps),
        state: Mutex::new(State {
            caps: None,
            layout: None,
            detector: None,
            switches: VecDeque::new(),
            frames: 0,
            has_warned: false,
        }),
    });
    if !branch.look_ahead {
        let entry = convert.static_pad("sink").expect("converters have one");
        // Probes on the upstream pad see each buffer before the converter, and can replace the
        // converter.
        let (watching, mixing) = (switcher.clone(), switcher);
        entry.connect_linked(move |_, source| {
            watching.add_detector(source);
            mixing.add_switch(source);
        });
        return Ok(vec![convert]);
    }
    let queue = gst::ElementFactory::make("queue")
        .property("max-size-buffers", 0u32)
        .property("max-size-bytes", 0u32)
        .property("max-size-time", HELD_NANOS)
        .property("min-threshold-time", LOOK_AHEAD_NANOS)
        .build()?;
    switcher.add_detector(&queue.static_pad("sink").expect("queues have one"));
    switcher.add_switch(&queue.static_pad("src").expect("queues have one"));
    Ok(vec![queue, convert])
}

/// An `audioconvert`. `weights`: weight of each channel in the mono mix; `None`: the mix of
/// `audioconvert`.
fn converter(weights: Option<Vec<f32>>) -> Result<gst::Element, gst::glib::BoolError> {
    let convert = gst::ElementFactory::make("audioconvert").build()?;
    if let Some(weights) = weights {
        let row = gst::Array::new(weights);
        convert.set_property("mix-matrix", gst::Array::new([row]));
    }
    Ok(convert)
}

/// Number of channels that the caps state; 1 if they state none.
pub(super) fn channels(caps: &gst::CapsRef) -> usize {
    let count = caps
        .structure(0)
        .and_then(|structure| structure.get::<i32>("channels").ok());
    count.map_or(1, |count| usize::try_from(count).unwrap_or(1))
}

/// Whether the channels have positions by which `audioconvert` can mix them.
fn has_layout(caps: &gst::CapsRef) -> bool {
    let mask = caps
        .structure(0)
        .and_then(|structure| structure.get::<gst::Bitmask>("channel-mask").ok());
    channels(caps) <= 2 || mask.is_some_and(|mask| mask.0 != 0)
}

/// Switches the downmix of one track. Pad probes before the `audioconvert` detect channels that
/// cancel each other, and replace the `audioconvert` by one with other weights.
struct DownmixSwitcher {
    note: Arc<dyn Fn(&str) + Send + Sync>,
    has_layout: bool,
    state: Mutex<State>,
}

/// State of a [`DownmixSwitcher`].
struct State {
    /// Caps of the analysed sound.
    caps: Option<gst::Caps>,
    layout: Option<Layout>,
    detector: Option<CancellationDetector>,
    /// Changes of the downmix that were decided and are not applied yet.
    switches: VecDeque<Switch>,
    /// Number of sample frames that reached the converter.
    frames: u64,
    has_warned: bool,
}

impl DownmixSwitcher {
    /// Analyses the buffers at `pad`.
    fn add_detector(self: &Arc<Self>, pad: &gst::Pad) {
        let switcher = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(buffer) = info.buffer() {
                switcher.observe(pad, buffer);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Replaces the converter after `pad` when a decision is due.
    fn add_switch(self: &Arc<Self>, pad: &gst::Pad) {
        let switcher = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(buffer) = info.buffer()
                && let Some((downmix, layout)) = switcher.due_switch(pad, buffer.size())
                && let Err(error) = switcher.replace_converter(pad, downmix, &layout)
            {
                tracing::warn!("the channel mix cannot be changed: {error}");
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Analyses a buffer, and queues the changes of the downmix that its samples decide.
    fn observe(&self, pad: &gst::Pad, buffer: &gst::BufferRef) {
        let Ok(bytes) = buffer.map_readable() else {
            return;
        };
        let mut state = self.state.lock().expect("downmix lock");
        let state = &mut *state;
        if let Some(caps) = pad.current_caps()
            && state.caps.as_ref() != Some(&caps)
        {
            state.layout = Layout::from_caps(&caps);
            (state.caps, state.detector) = (Some(caps), None);
        }
        let Some(layout) = &state.layout else {
            return;
        };
        let detector = state
            .detector
            .get_or_insert_with(|| CancellationDetector::new(layout.channels, layout.rate_hz));
        for frame in 0..layout.frames(bytes.len()) {
            if let Some(switch) = detector.take(layout.frame(&bytes, frame)) {
                state.switches.push_back(switch);
                if !std::mem::replace(&mut state.has_warned, true)
                    && let Downmix::Channel(channel) = switch.downmix
                {
                    (self.note)(&format!(
                        "its channels cancel each other when mixed: only channel {} is used; \
                         choose with audio.channel",
                        channel + 1
                    ));
                }
            }
        }
    }

    /// The new downmix, if it changes before or within the next buffer, of `size` bytes, with the
    /// layout of the sound.
    fn due_switch(&self, pad: &gst::Pad, size: usize) -> Option<(Downmix, Layout)> {
        let mut state = self.state.lock().expect("downmix lock");
        let layout = match &state.layout {
            Some(layout) => layout.clone(),
            None => pad
                .current_caps()
                .and_then(|caps| Layout::from_caps(&caps))?,
        };
        state.frames += layout.frames(size) as u64;
        let mut due = None;
        while state
            .switches
            .front()
            .is_some_and(|switch| switch.frame < state.frames)
        {
            due = state.switches.pop_front();
        }
        due.map(|switch| (switch.downmix, layout))
    }

    /// Replaces the converter after `pad`. This runs on the streaming thread of `pad`, so no buffer
    /// passes meanwhile.
    fn replace_converter(
        &self,
        pad: &gst::Pad,
        downmix: Downmix,
        layout: &Layout,
    ) -> Result<(), gst::glib::BoolError> {
        let missing = || gst::glib::bool_error!("the branch is not linked");
        let entry = pad.peer().ok_or_else(missing)?;
        let old = entry.parent_element().ok_or_else(missing)?;
        let exit = old.static_pad("src").ok_or_else(missing)?;
        let next = exit.peer().ok_or_else(missing)?;
        let bin = old
            .parent()
            .and_then(|parent| parent.downcast::<gst::Bin>().ok())
            .ok_or_else(missing)?;
        let weights = match downmix {
            Downmix::All if self.has_layout => None,
            downmix => Some(downmix.weights(layout.channels)),
        };
        let new = converter(weights)?;
        let linked = |error| gst::glib::bool_error!("{error:?}");
        bin.add(&new)?;
        pad.unlink(&entry)?;
        exit.unlink(&next)?;
        new.static_pad("src")
            .ok_or_else(missing)?
            .link(&next)
            .map_err(linked)?;
        new.sync_state_with_parent()?;
        pad.link(&new.static_pad("sink").ok_or_else(missing)?)
            .map_err(linked)?;
        let _ = old.set_state(gst::State::Null);
        bin.remove(&old)
    }
}

/// Memory layout of raw samples.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    format: Format,
    channels: usize,
    rate_hz: u32,
    is_interleaved: bool,
}

/// Format of one raw sample, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    U8,
    S16,
    S24,
    /// 24 bits in the low three of four bytes.
    S24In32,
    S32,
    F32,
    F64,
}

impl Format {
    /// Size of a sample in bytes.
    fn width(self) -> usize {
        match self {
            Format::U8 => 1,
            Format::S16 => 2,
            Format::S24 => 3,
            Format::S24In32 | Format::S32 | Format::F32 => 4,
            Format::F64 => 8,
        }
    }

    /// The first sample in `bytes`, scaled to -1 to 1.
    fn sample(self, bytes: &[u8]) -> f32 {
        let low = |count: usize| <[u8; 4]>::try_from(&bytes[..count.min(4)]).unwrap_or_default();
        match self {
            Format::U8 => (f32::from(bytes[0]) - 128.0) / 128.0,
            Format::S16 => f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32_768.0,
            Format::S24 => {
                let sample = i32::from_le_bytes([0, bytes[0], bytes[1], bytes[2]]);
                sample as f32 / 2_147_483_648.0
            }
            Format::S24In32 => (i32::from_le_bytes(low(4)) << 8) as f32 / 2_147_483_648.0,
            Format::S32 => i32::from_le_bytes(low(4)) as f32 / 2_147_483_648.0,
            Format::F32 => f32::from_le_bytes(low(4)),
            Format::F64 => f64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as f32,
        }
    }
}

impl Layout {
    /// The layout that the caps state; `None` for a format that is not analysed.
    fn from_caps(caps: &gst::CapsRef) -> Option<Layout> {
        let structure = caps.structure(0)?;
        let format = match structure.get::<&str>("format").ok()? {
            "U8" => Format::U8,
            "S16LE" => Format::S16,
            "S24LE" => Format::S24,
            "S24_32LE" => Format::S24In32,
            "S32LE" => Format::S32,
            "F32LE" => Format::F32,
            "F64LE" => Format::F64,
            _ => return None,
        };
        Some(Layout {
            format,
            channels: channels(caps),
            rate_hz: u32::try_from(structure.get::<i32>("rate").ok()?).ok()?,
            is_interleaved: structure.get::<&str>("layout") != Ok("non-interleaved"),
        })
    }

    /// Number of sample frames in `bytes` bytes.
    fn frames(&self, bytes: usize) -> usize {
        bytes / (self.format.width() * self.channels)
    }

    /// One sample of each channel, from sample frame number `frame` in `bytes`.
    fn frame<'a>(&'a self, bytes: &'a [u8], frame: usize) -> impl Iterator<Item = f32> + 'a {
        let frames = self.frames(bytes.len());
        (0..self.channels).map(move |channel| {
            let index = if self.is_interleaved {
                frame * self.channels + channel
            } else {
                channel * frames + frame
            };
            self.format.sample(&bytes[index * self.format.width()..])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: Format, is_interleaved: bool) -> Layout {
        Layout {
            format,
            channels: 2,
            rate_hz: 16_000,
            is_interleaved,
        }
    }

    #[test]
    fn samples_are_read_in_every_format_and_layout() {
        let half = |format: Format| -> Vec<u8> {
            match format {
                Format::U8 => vec![192],
                Format::S16 => 16_384i16.to_le_bytes().to_vec(),
                Format::S24 => vec![0, 0, 0x40],
                Format::S24In32 => (1i32 << 22).to_le_bytes().to_vec(),
                Format::S32 => (1i32 << 30).to_le_bytes().to_vec(),
                Format::F32 => 0.5f32.to_le_bytes().to_vec(),
                Format::F64 => 0.5f64.to_le_bytes().to_vec(),
            }
        };
        for format in [
            Format::U8,
            Format::S16,
            Format::S24,
            Format::S24In32,
            Format::S32,
            Format::F32,
            Format::F64,
        ] {
            let silent = if format == Format::U8 {
                vec![128]
            } else {
                vec![0; format.width()]
            };
            let frame = [half(format), silent.clone()].concat();
            let interleaved = layout(format, true);
            let bytes = [frame.clone(), frame].concat();
            assert_eq!(interleaved.frames(bytes.len()), 2);
            let samples: Vec<f32> = interleaved.frame(&bytes, 1).collect();
            assert_eq!(samples, [0.5, 0.0], "{format:?}");
            let planar = layout(format, false);
            let bytes = [half(format), half(format), silent.clone(), silent].concat();
            assert_eq!(planar.frame(&bytes, 1).collect::<Vec<f32>>(), [0.5, 0.0]);
        }
    }
}
