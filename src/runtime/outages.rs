//! Log lines about lost sources: one line at the start of an outage and one at its end. Attempts to
//! open the source in between give no line.

use std::fmt;

use crate::event::{SourceState, SourceStatus, Sources};
use crate::time::MediaTime;

/// Detects when outages of the video and audio sources begin and end.
#[derive(Debug, Default)]
pub struct Outages {
    /// Start of the video source's current outage; `None` while it is not lost.
    video: Option<MediaTime>,
    /// Start of the audio source's current outage; `None` while it is not lost.
    audio: Option<MediaTime>,
}

/// The start or the end of an outage. `Display` gives the line for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Outage {
    Began {
        /// `video` or `audio`.
        source: &'static str,
        reason: String,
    },
    Ended {
        /// `video` or `audio`.
        source: &'static str,
        /// Duration of the outage.
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
    /// Compares the current state of the sources, at time `now`, with that of the last call.
    /// Returns the outages that have begun or ended.
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
    fn the_start_and_the_end_of_an_outage_are_each_logged_once() {
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
