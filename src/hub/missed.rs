//! Ranges of events that a reader has lost.

use crate::event::Answer;

/// A range of events by sequence number `seq`, some or all of which a reader has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Number of lost events in the range. Any other event of the range was read, or did not pass
    /// the reader's filter.
    pub count: u64,
    /// The first `seq` of the range.
    pub from_seq: u64,
    /// The last `seq` of the range, inclusive.
    pub to_seq: u64,
}

impl Missed {
    /// The range from `from_seq` to `to_seq`, inclusive, of which every event is lost.
    pub fn range(from_seq: u64, to_seq: u64) -> Self {
        Missed {
            count: to_seq - from_seq + 1,
            from_seq,
            to_seq,
        }
    }

    /// The frame `dropped` that reports this range to a client.
    pub fn answer(self) -> Answer {
        Answer::Dropped {
            count: self.count,
            from_seq: self.from_seq,
            to_seq: self.to_seq,
        }
    }

    /// The smallest range that contains `self` and `other`. Its count is the sum of their counts.
    pub(super) fn merge(self, other: Missed) -> Missed {
        Missed {
            count: self.count + other.count,
            from_seq: self.from_seq.min(other.from_seq),
            to_seq: self.to_seq.max(other.to_seq),
        }
    }
}
