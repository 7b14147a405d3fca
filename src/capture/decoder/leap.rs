//! Stamps of encoded pictures that leap ahead and then stand still: a writer that may not go back in
//! time repeats its one wrong stamp for all that follow. They are stamped as before the leap.

use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;

/// What counts as a leap, nanoseconds.
const LEAP_NANOS: u64 = 60_000_000_000;

/// The stamps of one track.
#[derive(Clone, Copy, Debug, Default)]
struct LeapWatch {
    /// The earliest and the latest stamp before a leap, and how many came by then.
    first: u64,
    latest: u64,
    count: u64,
    /// The stamp that was leapt to, and how many have it.
    leap: Option<(u64, u64)>,
}

impl LeapWatch {
    /// The stamp of the next packet in the place of `stamp`.
    fn correct(&mut self, stamp: u64) -> u64 {
        if let Some((leapt_to, count)) = &mut self.leap {
            if stamp == *leapt_to && self.count > 1 {
                let interval = (self.latest - self.first) / (self.count - 1);
                let corrected = self.latest + interval * *count + interval;
                *count += 1;
                return corrected;
            }
            // It moves on from there, or is back.
            self.leap = None;
            if stamp > self.latest {
                (self.first, self.latest, self.count) = (stamp, stamp, 1);
            }
            return stamp;
        }
        if self.count == 0 {
            (self.first, self.latest, self.count) = (stamp, stamp, 1);
        } else if stamp > self.latest + LEAP_NANOS {
            self.leap = Some((stamp, 1));
        } else {
            self.first = self.first.min(stamp);
            self.latest = self.latest.max(stamp);
            self.count += 1;
        }
        stamp
    }
}

/// Corrects the stamps of the video tracks that the demuxers in `bin` find.
pub(super) fn correct(bin: &gst::Bin) {
    bin.connect_deep_element_added(|_, _, element| {
        let is_demuxer = element.factory().is_some_and(|factory| {
            factory
                .metadata("klass")
                .is_some_and(|class| class.contains("Demux"))
        });
        if is_demuxer {
            element.connect_pad_added(|_, pad| watch(pad));
        }
    });
}

fn watch(pad: &gst::Pad) {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let is_video = caps
        .structure(0)
        .is_some_and(|structure| structure.name().starts_with("video/"));
    if !is_video {
        return;
    }
    let watch = Arc::new(Mutex::new(LeapWatch::default()));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut()
            && let Some(stamp) = buffer.pts()
        {
            let mut watch = watch.lock().expect("leap lock");
            let corrected = watch.correct(stamp.nseconds());
            if corrected != stamp.nseconds() {
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

    fn corrected(stamps: &[u64]) -> Vec<u64> {
        let mut watch = LeapWatch::default();
        let nanos = stamps.iter().map(|ms| watch.correct(ms * 1_000_000));
        nanos.map(|nanos| nanos / 1_000_000).collect()
    }

    #[test]
    fn what_stands_still_behind_a_leap_goes_on_as_before() {
        let far = 46_000_000;
        assert_eq!(
            corrected(&[0, 40, 80, far, far, far]),
            [0, 40, 80, far, 160, 200]
        );
        // In the order of decoding.
        assert_eq!(
            corrected(&[0, 120, 40, 80, far, far]),
            [0, 120, 40, 80, far, 200]
        );
    }

    #[test]
    fn what_moves_on_or_comes_back_is_left_as_it_is() {
        let far = 46_000_000;
        for stamps in [
            [0, 40, far, far + 40, far + 80],
            [0, 40, far, 80, 120],
            [0, 40, 40, 80, 80],
            [0, 40, 30_000, 30_000, 30_040],
        ] {
            assert_eq!(corrected(&stamps), stamps);
        }
    }
}
