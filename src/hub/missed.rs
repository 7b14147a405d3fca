//! Ranges of lost events.

use crate::event::Answer;

/// A range of events, some or all of which a reader has lost. Both ends are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Number of lost events in the range. Other events of the range were read, or are filtered
    /// out.
    pub count: u64,
    /// First number of the range.
    pub from_seq: u64,
    /// Last number of the range.
    pub to_seq: u64,
}

impl Missed {
    /// A range of which every event is lost.
    pub fn range(from_seq: u64, to_seq: u64) -> Self {
        Missed {
            count: to_seq - from_seq + 1,
            from_seq,
            to_seq,
        }
    }

    /// The answer `dropped`, for the client.
    pub fn answer(self) -> Answer {
        Answer::Dropped {
            count: self.count,
            from_seq: self.from_seq,
            to_seq: self.to_seq,
        }
    }

    /// The range that spans both; its count is the sum of both counts.
    pub(super) fn merge(self, other: Missed) -> Missed {
        Missed {
            count: self.count + other.count,
            from_seq: self.from_seq.min(other.from_seq),
            to_seq: self.to_seq.max(other.to_seq),
        }
    }
}
