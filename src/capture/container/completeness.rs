//! Comparison of the delivered media with the container's tables.

use std::path::Path;

use super::{TOLERANCE_NANOS, Tables, TrackKind};
use crate::capture::error::{CaptureError, INSTALL_DECODERS, track_fault};
use crate::time::MediaTime;

/// The amount of media that was delivered of one kind of track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::capture) struct Delivered {
    /// Whether the track was requested.
    pub wanted: bool,
    /// Number of pictures, or of samples at 16 kHz.
    pub count: u64,
    /// End of the last picture or sample, in nanoseconds on the recording's timeline.
    pub end_nanos: i64,
}

/// A track of which nothing was delivered, or clearly less than its container states.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shortfall {
    /// `picture` or `sound`.
    kind: &'static str,
    /// The container's name of the codec.
    codec: String,
    /// The delivered part as text, such as `delivered nothing`.
    outcome: String,
    /// Whether nothing was delivered.
    delivered_nothing: bool,
}

impl Tables {
    /// Checks that the recording at `path` and each of its tracks were played to the end. `reason`:
    /// message of the demuxer or of a decoder, which is added to the error.
    ///
    /// # Errors
    /// [`CaptureError::Cut`] if the file is truncated. [`CaptureError::Missing`] if the file is
    /// complete and a track delivered nothing or less than it holds.
    pub fn check_delivered(
        &self,
        path: &Path,
        video: Delivered,
        audio: Delivered,
        reason: Option<String>,
    ) -> Result<(), CaptureError> {
        let path = path.to_owned();
        if self.is_truncated == Some(true) {
            let end = video.end_nanos.max(audio.end_nanos);
            let expected = self
                .end_nanos()
                .filter(|expected| expected - end > TOLERANCE_NANOS);
            return Err(CaptureError::Cut {
                path,
                end: MediaTime::from_nanos(end),
                expected: expected.map(MediaTime::from_nanos),
                reason,
            });
        }
        let shortfalls = self.shortfalls(video, audio);
        if shortfalls.is_empty() {
            return Ok(());
        }
        let tracks = shortfalls
            .iter()
            .map(|short| track_fault(short.kind, &short.codec, &short.outcome));
        let mut what = tracks.collect::<Vec<_>>().join(" and ");
        if let Some(reason) = reason {
            what.push_str(&format!(" ({reason})"));
        }
        let remedy = if shortfalls.iter().any(|short| short.delivered_nothing) {
            INSTALL_DECODERS
        } else {
            "convert it, for example to H.264 and AAC in MP4"
        };
        Err(CaptureError::Missing { path, what, remedy })
    }

    /// The wanted tracks that delivered less than the tables state. The end time is compared, and
    /// for pictures also their number. Among several tracks of a kind, the shortest one is the
    /// reference.
    fn shortfalls(&self, video: Delivered, audio: Delivered) -> Vec<Shortfall> {
        let kinds = [
            (TrackKind::Video, "picture", video),
            (TrackKind::Audio, "sound", audio),
        ];
        let wanted = kinds.into_iter().filter(|(.., delivered)| delivered.wanted);
        wanted
            .filter_map(|(kind, name, delivered)| {
                let mut tracks: Vec<_> = (self.tracks.iter())
                    .filter(|track| track.kind == kind && track.samples != Some(0))
                    .collect();
                // Still pictures are no reference for moving pictures.
                if tracks.iter().any(|track| !track.still) {
                    tracks.retain(|track| !track.still);
                }
                let first = tracks.first()?;
                let ends = tracks
                    .iter()
                    .map(|track| track.end_nanos.map(|end| end - self.origin_nanos));
                let end = ends.min().flatten().unwrap_or(0);
                let samples = tracks
                    .iter()
                    .map(|track| track.samples.unwrap_or(0))
                    .min()
                    .unwrap_or(0);
                let seconds = |nanos: i64| nanos as f64 * 1e-9;
                // A wrong stamp changes the end in the tables, but not the number of pictures.
                let has_all = kind == TrackKind::Video && samples > 0 && delivered.count >= samples;
                let outcome = if delivered.count == 0 {
                    "delivered nothing".to_owned()
                } else if has_all {
                    return None;
                } else if delivered.end_nanos.saturating_add(TOLERANCE_NANOS) < end {
                    let (at, end) = (seconds(delivered.end_nanos), seconds(end));
                    format!("ends at {at:.2} s of {end:.2} s")
                } else if kind == TrackKind::Video && delivered.count < samples / 2 {
                    format!("delivered {} of {samples} pictures", delivered.count)
                } else {
                    return None;
                };
                Some(Shortfall {
                    kind: name,
                    codec: first.codec.clone(),
                    outcome,
                    delivered_nothing: delivered.count == 0,
                })
            })
            .collect()
    }

    /// End of the last video or audio track, in nanoseconds on the recording's timeline; `None` if
    /// the container states no end.
    pub fn end_nanos(&self) -> Option<i64> {
        let played = (self.tracks.iter()).filter(|track| track.kind != TrackKind::Other);
        played
            .filter_map(|track| track.end_nanos)
            .max()
            .map(|end| end - self.origin_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ContainerTrack;
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn track(kind: TrackKind, start: i64, end: i64, samples: u64) -> ContainerTrack {
        ContainerTrack {
            kind,
            number: 1,
            codec: "test".into(),
            start_nanos: start * SECOND,
            end_nanos: Some(end * SECOND),
            samples: Some(samples),
            default: true,
            still: samples == 1 && kind == TrackKind::Video,
            edits: None,
        }
    }

    fn delivered(count: u64, end: i64) -> Delivered {
        Delivered {
            wanted: true,
            count,
            end_nanos: end * SECOND,
        }
    }

    #[test]
    fn tracks_that_deliver_less_than_the_tables_state_are_found() {
        let mut tables = Tables {
            tracks: vec![
                track(TrackKind::Video, 3600, 3605, 125),
                track(TrackKind::Audio, 3600, 3605, 236),
                track(TrackKind::Other, 3600, 3700, 9),
                track(TrackKind::Video, 3600, 3600, 1),
            ],
            origin_nanos: 3600 * SECOND,
            ..Tables::default()
        };
        let outcome = |tables: &Tables, video, audio| -> Vec<String> {
            let missed = tables.shortfalls(video, audio);
            missed
                .into_iter()
                .map(|short| format!("{} {}", short.kind, short.outcome))
                .collect()
        };
        assert!(outcome(&tables, delivered(125, 5), delivered(80_000, 5)).is_empty());
        assert_eq!(
            outcome(&tables, delivered(0, 0), delivered(32_000, 2)),
            [
                "picture delivered nothing",
                "sound ends at 2.00 s of 5.00 s"
            ]
        );
        assert_eq!(
            outcome(&tables, delivered(60, 5), delivered(80_000, 5)),
            ["picture delivered 60 of 125 pictures"]
        );
        assert!(outcome(&tables, Delivered::default(), delivered(80_000, 5)).is_empty());
        // All pictures were delivered, and one stamp was wrong.
        tables.tracks[0].end_nanos = Some(9999 * SECOND);
        assert!(outcome(&tables, delivered(125, 5), delivered(80_000, 5)).is_empty());
        assert_eq!(
            outcome(&tables, delivered(124, 5), delivered(80_000, 5)),
            ["picture ends at 5.00 s of 6399.00 s"]
        );
        tables.tracks[0].end_nanos = Some(3605 * SECOND);
        assert_eq!(tables.end_nanos(), Some(5 * SECOND));
        // Of two sound tracks, the shorter one may be the played one.
        tables.tracks.push(track(TrackKind::Audio, 3600, 3602, 90));
        assert!(outcome(&tables, delivered(125, 5), delivered(32_000, 2)).is_empty());
    }
}
