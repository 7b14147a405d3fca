//! Correction of forward jumps in the stamps of encoded pictures. After a wrong stamp, the stamps
//! return, or the wrong value is repeated, because the writer must not go back in time. Decoders
//! would propagate the jump, so pictures after it get extrapolated stamps.

use std::sync::Mutex;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::DecoderEvents;

/// Smallest forward difference between two stamps, in nanoseconds, that is a jump.
const JUMP_NANOS: u64 = 60_000_000_000;

/// Corrects the stamps of one track. Times are nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct StampJumpCorrector {
    /// Earliest stamp before a jump.
    first: u64,
    /// Latest stamp before a jump.
    latest: u64,
    /// Number of stamps before a jump.
    count: u64,
    /// The stamp after the jump, and the number of packets with this stamp; `None` outside a jump.
    jump: Option<(u64, u64)>,
}

impl StampJumpCorrector {
    /// Returns the corrected stamp of the next packet, and whether this packet shows for the first
    /// time that the jump was wrong.
    fn correct(&mut self, stamp: u64) -> (u64, bool) {
        if let Some((jumped_to, count)) = &mut self.jump {
            if stamp == *jumped_to {
                *count += 1;
                let is_second = *count == 2;
                let steps = *count;
                return (self.latest + self.interval() * steps, is_second);
            }
            let is_back = stamp < *jumped_to;
            let has_warned = *count > 1;
            self.jump = None;
            if !is_back {
                // A gap: the recording was paused.
                (self.first, self.latest, self.count) = (stamp, stamp, 1);
                return (stamp, false);
            }
            self.observe(stamp);
            return (stamp, !has_warned);
        }
        if self.count > 1 && stamp > self.latest + JUMP_NANOS {
            self.jump = Some((stamp, 1));
            return (self.latest + self.interval(), false);
        }
        self.observe(stamp);
        (stamp, false)
    }

    /// Adds a correct stamp to the statistics.
    fn observe(&mut self, stamp: u64) {
        if self.count == 0 {
            (self.first, self.latest) = (stamp, stamp);
        }
        self.first = self.first.min(stamp);
        self.latest = self.latest.max(stamp);
        self.count += 1;
    }

    /// The mean time from one picture to the next, in nanoseconds.
    fn interval(&self) -> u64 {
        (self.latest - self.first) / (self.count - 1)
    }
}

/// Corrects the stamps of the video tracks of all demuxers in `bin`, and notes the first correction
/// of each track.
pub(super) fn correct(bin: &gst::Bin, events: DecoderEvents) {
    bin.connect_deep_element_added(move |_, _, element| {
        let is_demuxer = element.factory().is_some_and(|factory| {
            factory
                .metadata("klass")
                .is_some_and(|class| class.contains("Demux"))
        });
        if is_demuxer {
            let events = events.clone();
            element.connect_pad_added(move |_, pad| correct_pad(pad, events.clone()));
        }
    });
}

/// Corrects the stamps of the packets that pass `pad`.
fn correct_pad(pad: &gst::Pad, events: DecoderEvents) {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let is_video = caps
        .structure(0)
        .is_some_and(|structure| structure.name().starts_with("video/"));
    if !is_video {
        return;
    }
    let state = Mutex::new((StampJumpCorrector::default(), false));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut()
            && let Some(stamp) = buffer.pts()
        {
            let (corrector, has_warned) = &mut *state.lock().expect("jump lock");
            let (corrected, is_wrong) = corrector.correct(stamp.nseconds());
            if is_wrong && !std::mem::replace(has_warned, true) {
                events.note(
                    "the stamp of a picture is far ahead of its neighbours: it is replaced by an \
                     extrapolated one",
                );
            }
            if corrected != stamp.nseconds() {
                events.replaced_stamp();
                let buffer = buffer.make_mut();
                buffer.set_pts(gst::ClockTime::from_nseconds(corrected));
                buffer.set_dts(gst::ClockTime::NONE);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corrected stamps in milliseconds, and the number of jumps that were found wrong.
    fn corrected(stamps: &[u64]) -> (Vec<u64>, usize) {
        let mut corrector = StampJumpCorrector::default();
        let all: Vec<(u64, bool)> = stamps
            .iter()
            .map(|ms| corrector.correct(ms * 1_000_000))
            .collect();
        let wrong = all.iter().filter(|(_, is_wrong)| *is_wrong).count();
        (
            all.iter().map(|(nanos, _)| nanos / 1_000_000).collect(),
            wrong,
        )
    }

    #[test]
    fn a_jump_that_repeats_or_returns_is_extrapolated() {
        let far = 46_000_000;
        assert_eq!(
            corrected(&[0, 40, 80, far, far, far]),
            (vec![0, 40, 80, 120, 160, 200], 1)
        );
        assert_eq!(
            corrected(&[0, 40, 80, far, 160, 200]),
            (vec![0, 40, 80, 120, 160, 200], 1)
        );
        // The stamps are in the order of decoding, which differs from the order of presentation.
        assert_eq!(
            corrected(&[0, 120, 40, 80, far, far]),
            (vec![0, 120, 40, 80, 160, 200], 1)
        );
    }

    #[test]
    fn a_gap_in_the_stamps_is_kept() {
        let far = 46_000_000;
        assert_eq!(
            corrected(&[0, 40, far, far + 40, far + 80]),
            (vec![0, 40, 80, far + 40, far + 80], 0)
        );
        for stamps in [[0, 40, 40, 80, 80], [0, 40, 30_000, 30_000, 30_040]] {
            assert_eq!(corrected(&stamps), (stamps.to_vec(), 0));
        }
    }
}
