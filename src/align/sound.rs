//! The kept audio and its voice activity.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clip::{AudioBlock, SAMPLE_RATE_HZ, VoiceActivity, samples_to_nanos};
use crate::speech::SLIP_NANOS;
use crate::time::{MediaTime, Span};

/// Duration of one sample at 16 kHz, in nanoseconds.
const SAMPLE_NANOS: i64 = 1_000_000_000 / SAMPLE_RATE_HZ as i64;

/// The kept audio blocks in order of arrival, and the voice activity up to the current moment.
#[derive(Debug, Default)]
pub(super) struct AudioHistory {
    blocks: VecDeque<AudioBlock>,
    activity: VecDeque<VoiceActivity>,
    /// End of the newest block; `None` before the first block.
    until: Option<MediaTime>,
}

/// The samples of one span. The first sample is at the start of the span.
#[derive(Debug)]
pub(super) struct Cut {
    /// Mono samples at 16 kHz; zeros where no sound was captured.
    pub samples: Arc<[f32]>,
    /// Total length of the parts of the span without captured sound, in nanoseconds.
    pub missing_nanos: i64,
    /// End of the newest captured sample in the span.
    pub newest: MediaTime,
}

impl AudioHistory {
    /// End of the newest block; `None` before the first block.
    pub fn until(&self) -> Option<MediaTime> {
        self.until
    }

    /// Adds the next block. Returns `false`, and drops the block, if it starts before the end of
    /// the previous one by more than [`SLIP_NANOS`].
    pub fn push(&mut self, block: AudioBlock) -> bool {
        if self
            .until
            .is_some_and(|until| block.time.nanos_since(until) < -SLIP_NANOS)
        {
            return false;
        }
        if !block.samples.is_empty() {
            self.until = Some(block.span().end);
            self.blocks.push_back(block);
        }
        true
    }

    /// Adds the next voice-activity window.
    pub fn push_activity(&mut self, activity: VoiceActivity) {
        self.activity.push_back(activity);
    }

    /// Drops blocks that ended before `samples_from`, and voice activity that ended before
    /// `activity_from`.
    pub fn forget(&mut self, samples_from: MediaTime, activity_from: MediaTime) {
        while self
            .blocks
            .front()
            .is_some_and(|b| b.span().end <= samples_from)
        {
            self.blocks.pop_front();
        }
        while self
            .activity
            .front()
            .is_some_and(|a| a.span.end <= activity_from)
        {
            self.activity.pop_front();
        }
    }

    /// Duration of speech in `span` so far, in nanoseconds.
    pub fn speech_nanos(&self, span: Span) -> i64 {
        self.activity
            .iter()
            .rev()
            .take_while(|a| a.span.end > span.start)
            .filter(|a| a.speech)
            .filter_map(|a| a.span.intersection(&span))
            .map(|s| s.nanos())
            .sum()
    }

    /// Whether there was speech at `time`; `None` if no voice-activity window contains `time`.
    pub fn is_speech(&self, time: MediaTime) -> Option<bool> {
        let next = self.activity.partition_point(|a| a.span.start <= time);
        let window = &self.activity[next.checked_sub(1)?];
        window.span.contains(time).then_some(window.speech)
    }

    /// The samples of `span`; `None` if none was captured.
    ///
    /// The newest block is placed by its stamp. Contiguous earlier blocks are placed directly
    /// before it, so that slewed stamps cause neither gaps nor overlaps.
    pub fn cut(&self, span: Span) -> Option<Cut> {
        let count = usize::try_from((span.nanos() + SAMPLE_NANOS / 2) / SAMPLE_NANOS)
            .expect("a span does not end before it starts");
        let mut samples = vec![0.0; count];
        let (mut captured, mut newest) = (0, None);
        // The block that follows in time: its stamp, and its index in samples from the span's
        // start.
        let mut after: Option<(MediaTime, i64)> = None;
        for block in self.blocks.iter().rev() {
            if block.time >= span.end {
                continue;
            }
            let length = block.samples.len() as i64;
            let end = block.span().end;
            let place = match after {
                Some((time, place)) if time.nanos_since(end).abs() <= SLIP_NANOS => place - length,
                _ => {
                    (block.time.nanos_since(span.start) as f64 / SAMPLE_NANOS as f64).round() as i64
                }
            };
            after = Some((block.time, place));
            let (from, to) = (
                place.clamp(0, count as i64),
                (place + length).clamp(0, count as i64),
            );
            if from < to {
                let source = &block.samples[(from - place) as usize..(to - place) as usize];
                samples[from as usize..to as usize].copy_from_slice(source);
                captured += to - from;
                newest = newest.max(Some(
                    span.start.plus_nanos(samples_to_nanos(to)).min(span.end),
                ));
            }
            if place <= 0 {
                break;
            }
        }
        let missing_nanos = samples_to_nanos((count as i64 - captured).max(0));
        Some(Cut {
            samples: samples.into(),
            missing_nanos,
            newest: newest?,
        })
    }

    /// Whether any sample of `span` was captured.
    pub fn has(&self, span: Span) -> bool {
        self.blocks
            .iter()
            .rev()
            .any(|b| b.span().intersection(&span).is_some())
    }

    /// Number of kept blocks and voice-activity windows.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.blocks.len() + self.activity.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(at: i64, values: std::ops::Range<i64>) -> AudioBlock {
        AudioBlock {
            time: MediaTime::from_nanos(at * SAMPLE_NANOS),
            samples: values.map(|v| v as f32).collect(),
        }
    }
    fn span(start: i64, end: i64) -> Span {
        Span::new(
            MediaTime::from_nanos(start * SAMPLE_NANOS),
            MediaTime::from_nanos(end * SAMPLE_NANOS),
        )
    }

    #[test]
    fn a_cut_is_sample_exact_and_zero_in_gaps() {
        let mut sound = AudioHistory::default();
        assert!(sound.push(block(100, 100..300)));
        assert!(sound.push(block(300, 300..400)));
        assert!(sound.push(block(900, 900..1000)));
        let cut = sound.cut(span(290, 310)).unwrap();
        assert_eq!(
            &cut.samples[..],
            (290..310).map(|v| v as f32).collect::<Vec<_>>()
        );
        assert_eq!((cut.missing_nanos, cut.newest), (0, span(0, 310).end));
        let cut = sound.cut(span(390, 910)).unwrap();
        assert_eq!(
            (
                cut.samples[9],
                cut.samples[10],
                cut.samples[509],
                cut.samples[510]
            ),
            (399.0, 0.0, 0.0, 900.0)
        );
        assert_eq!(cut.missing_nanos, 500 * SAMPLE_NANOS);
        let cut = sound.cut(span(0, 150)).unwrap();
        assert_eq!(
            (cut.samples[99], cut.samples[100], cut.samples.len()),
            (0.0, 100.0, 150)
        );
        assert!(sound.cut(span(500, 600)).is_none());
    }

    #[test]
    fn slewed_stamps_cause_no_gaps() {
        let mut sound = AudioHistory::default();
        for i in 0..100 {
            let mut b = block(i * 160, i * 160..(i + 1) * 160);
            b.time = b.time.plus_nanos(i * 9_000);
            assert!(sound.push(b));
        }
        let cut = sound.cut(span(1_000, 15_000)).unwrap();
        assert_eq!(cut.missing_nanos, 0);
        assert!(cut.samples.windows(2).all(|w| w[1] - w[0] == 1.0));
    }

    #[test]
    fn a_stamp_that_goes_back_is_refused() {
        let mut sound = AudioHistory::default();
        assert!(sound.push(block(16_000, 0..1600)));
        assert!(!sound.push(block(8_000, 0..1600)));
        assert!(sound.push(block(17_600, 0..1600)));
    }
}
