//! What the log says of sources that go and come back: one line each, however often they are opened in between.

use std::fmt;

use crate::event::{SourceState, SourceStatus, Sources};
use crate::time::MediaTime;

/// Since when each source has been lost.
#[derive(Debug, Default)]
pub struct Outages {
    video: Option<MediaTime>,
    audio: Option<MediaTime>,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Outage {
    Began {
        source: &'static str,
        reason: String,
    },
    Ended {
        source: &'static str,
        seconds: f64,
    },
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outage::Began { source, reason } => write!(
                f,
                "{source} is lost: {reason}; the daemon goes on without it until it is back"
            ),
            Outage::Ended { source, seconds } => write!(f, "{source} is back after {seconds:.1} s"),
        }
    }
}

impl Outages {
    /// What began and what ended since the last call.
    pub fn look(&mut self, sources: &Sources, now: MediaTime) -> Vec<Outage> {
        [
            ("video", &mut self.video, &sources.video),
            ("audio", &mut self.audio, &sources.audio),
        ]
        .into_iter()
        .filter_map(|(source, since, status)| {
            let SourceStatus { state, reason, .. } = status;
            match (*since, state) {
                (None, SourceState::Lost) => {
                    *since = Some(now);
                    Some(Outage::Began {
                        source,
                        reason: reason
                            .clone()
                            .unwrap_or_else(|| "no reason is known".into()),
                    })
                }
                (Some(began), SourceState::Delivering) => {
                    *since = None;
                    Some(Outage::Ended {
                        source,
                        seconds: now.nanos_since(began) as f64 * 1e-9,
                    })
                }
                _ => None,
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_its_end_once() {
        let status = |state, reason: Option<&str>| SourceStatus {
            state,
            reason: reason.map(String::from),
            origin_ns: None,
        };
        let mut outages = Outages::default();
        let mut look = |seconds: i64, video: SourceStatus| {
            let sources = Sources {
                video,
                audio: status(SourceState::Off, None),
            };
            outages
                .look(&sources, MediaTime::from_nanos(seconds * 1_000_000_000))
                .iter()
                .map(Outage::to_string)
                .collect::<Vec<_>>()
        };
        assert!(look(0, status(SourceState::Opening, None)).is_empty());
        assert!(look(1, status(SourceState::Delivering, None)).is_empty());
        assert_eq!(
            look(2, status(SourceState::Lost, Some("No such device"))),
            ["video is lost: No such device; the daemon goes on without it until it is back"]
        );
        assert!(look(3, status(SourceState::Opening, None)).is_empty());
        assert!(look(4, status(SourceState::Lost, Some("busy"))).is_empty());
        assert_eq!(
            look(7, status(SourceState::Delivering, None)),
            ["video is back after 5.0 s"]
        );
        assert!(look(8, status(SourceState::Delivering, None)).is_empty());
    }
}
