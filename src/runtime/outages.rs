//! Log lines about lost sources: one line for each outage and one for its end, regardless of
//! attempts to open the source.

use std::fmt;

use crate::event::{SourceState, SourceStatus, Sources};
use crate::time::MediaTime;

/// Start of the current outage of each source.
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
    /// The outages that began or ended since the last call.
    pub fn update(&mut self, sources: &Sources, now: MediaTime) -> Vec<Outage> {
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
    fn an_outage_and_its_end_are_logged_once() {
        let status = |state, reason: Option<&str>| SourceStatus {
            state,
            reason: reason.map(String::from),
            origin_ns: None,
        };
        let mut outages = Outages::default();
        let mut update = |seconds: i64, video: SourceStatus| {
            let sources = Sources {
                video,
                audio: status(SourceState::Off, None),
            };
            outages
                .update(&sources, MediaTime::from_nanos(seconds * 1_000_000_000))
                .iter()
                .map(Outage::to_string)
                .collect::<Vec<_>>()
        };
        assert!(update(0, status(SourceState::Opening, None)).is_empty());
        assert!(update(1, status(SourceState::Delivering, None)).is_empty());
        assert_eq!(
            update(2, status(SourceState::Lost, Some("No such device"))),
            ["video is lost: No such device; the daemon goes on without it until it is back"]
        );
        assert!(update(3, status(SourceState::Opening, None)).is_empty());
        assert!(update(4, status(SourceState::Lost, Some("busy"))).is_empty());
        assert_eq!(
            update(7, status(SourceState::Delivering, None)),
            ["video is back after 5.0 s"]
        );
        assert!(update(8, status(SourceState::Delivering, None)).is_empty());
    }
}
