//! Ranges of lost events.

use crate::event::Answer;

/// A range of events, some or all of which a reader has lost. Both ends are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// At most the length of the range: events in between may have been read or filtered out.
    pub count: u64,
    pub from_seq: u64,
    pub to_seq: u64,
}

impl Missed {
    /// All of `from_seq` to `to_seq`.
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

    /// The range that spans both; its count is their sum.
    pub(super) fn merge(self, other: Missed) -> Missed {
        Missed {
            count: self.count + other.count,
            from_seq: self.from_seq.min(other.from_seq),
            to_seq: self.to_seq.max(other.to_seq),
        }
    }
}
