//! The presentation of all tracks of a movie, and patches for tracks that GStreamer 1.22 does not
//! play completely.

use std::collections::HashMap;

use super::Atom;
use super::track::{Media, StatedDuration, add_runs, track_media};
use crate::capture::container::bytes::{be32, nanos};
use crate::capture::container::{ContainerTrack, Edit, Edits, Patch, Tables, TrackKind};

/// Longest trim at the start of a sound track, in nanoseconds, for which GStreamer 1.22 applies the
/// edit list. GStreamer also cuts as much at the end, so only an encoder's priming is short enough.
const PRIMING_NANOS: i64 = 150_000_000;
/// Longest trim at the start of a picture track, in nanoseconds after the composition offset of the
/// first picture, for which GStreamer 1.22 applies the edit list.
const FIRST_PICTURE_NANOS: i64 = 150_000_000;
/// Longest delay of a track, in nanoseconds, for which GStreamer 1.22 applies the edit list.
/// GStreamer loses a track with a longer delay.
const DELAY_NANOS: i64 = 10_000_000_000;

/// The tracks of a movie, and patches for its headers.
pub(super) struct Movie {
    /// Ticks per second of the movie's time scale.
    scale: u32,
    duration: StatedDuration,
    fragmented: bool,
    media: Vec<Media>,
    patches: Vec<Patch>,
}

/// Reads a `moov` box; `None` if its header is damaged.
pub(super) fn movie_tables(movie: &Atom) -> Option<Movie> {
    let header = movie.child(b"mvhd")?;
    let scale = be32(
        header.body,
        if header.body.first()? == &1 { 20 } else { 12 },
    )?;
    let extends = movie.child(b"mvex");
    let tracks: Vec<Atom> = movie
        .children()
        .filter(|atom| atom.kind == *b"trak")
        .collect();
    let chapters: Vec<u32> = (tracks.iter())
        .filter_map(|track| track.path(&[b"tref", b"chap"]))
        .flat_map(|atom| atom.body.chunks_exact(4).filter_map(|id| be32(id, 0)))
        .collect();
    let mut found = Movie {
        scale,
        duration: StatedDuration::read(&header)?,
        fragmented: extends.is_some(),
        media: Vec::new(),
        patches: Vec::new(),
    };
    for track in &tracks {
        let Some((mut media, patches)) = track_media(track) else {
            continue;
        };
        if chapters.contains(&(media.number as u32)) {
            media.kind = TrackKind::Other;
        }
        let defaults = extends.and_then(|extends| {
            let mut defaults = extends.children().filter(|atom| atom.kind == *b"trex");
            defaults.find(|atom| be32(atom.body, 4).map(u64::from) == Some(media.number))
        });
        media.fragment_ticks = defaults.and_then(|atom| be32(atom.body, 12)).unwrap_or(0);
        found.media.push(media);
        found.patches.extend(patches);
    }
    Some(found)
}

impl Movie {
    /// Adds the samples of one movie fragment (`moof`).
    pub fn add_fragment(&mut self, fragment: &Atom) {
        let mut known: HashMap<u64, &mut Media> = (self.media.iter_mut())
            .map(|media| (media.number, media))
            .collect();
        for part in fragment.children().filter(|atom| atom.kind == *b"traf") {
            let Some(header) = part.child(b"tfhd") else {
                continue;
            };
            let Some(number) = be32(header.body, 4) else {
                continue;
            };
            if let Some(media) = known.get_mut(&u64::from(number)) {
                add_runs(media, &part, &header);
            }
        }
    }

    /// The tables of the file. `length`: its size in bytes. `known_end`: byte offset of the end of
    /// its last box, which may lie beyond the end of the file.
    pub fn finish(mut self, length: u64, known_end: u64) -> Tables {
        let hides_edit_lists = self.media.iter().any(|media| self.needs_patch(media));
        let (scale, fragmented) = (self.scale, self.fragmented);
        let mut tables = Tables::default();
        for media in &self.media {
            let list = edits_of(media, scale);
            let own =
                hides_edit_lists && media.edits_at.is_some() && media.kind != TrackKind::Other;
            if own && !in_order(media, &list) {
                tables.unsupported = Some(format!(
                    "the edit list of its {} track plays parts of it out of order or at another \
                     speed",
                    if media.kind == TrackKind::Video {
                        "picture"
                    } else {
                        "sound"
                    },
                ));
            }
            if own && let Some(at) = media.edits_at {
                self.patches.push(Patch {
                    offset: at + 4,
                    bytes: b"free".to_vec(),
                });
            }
            let whole = nanos(media.ticks, media.scale);
            let (start, end) = if media.edits.is_empty() {
                (0, whole)
            } else {
                (list.start(), list.end())
            };
            // Only the presented share of the samples is expected.
            let presented = list.0.iter().map(|edit| edit.media_end - edit.media_start);
            let share = match presented.fold(0, i64::saturating_add) as f64 / whole.max(1) as f64 {
                share if media.edits.is_empty() || share > 1.0 => 1.0,
                share => share,
            };
            let samples = (media.samples as f64 * share) as u64;
            tables.tracks.push(ContainerTrack {
                kind: media.kind,
                number: media.number,
                codec: media.codec.clone(),
                start_nanos: start,
                end_nanos: (media.samples > 0).then_some(end),
                samples: (media.samples > 0).then_some(samples.max(1)),
                default: media.enabled,
                still: media.kind == TrackKind::Video && media.samples == 1,
                edits: own.then_some(list),
            });
        }
        if !fragmented {
            self.raise_durations(&tables, hides_edit_lists);
        }
        tables.patches = self.patches;
        let played = self
            .media
            .iter()
            .filter(|media| media.kind != TrackKind::Other);
        let data_end = played.filter_map(|media| media.data_end).max();
        tables.is_truncated = Some(match data_end {
            Some(end) if !fragmented => end > length,
            _ => known_end > length,
        });
        tables
    }

    /// Adds patches that raise stated durations that are too short. GStreamer 1.22 drops media
    /// after the stated end, and tracks that are shorter than a fifth of the movie.
    /// `hides_edit_lists`: the edit lists of the file are hidden from GStreamer.
    fn raise_durations(&mut self, tables: &Tables, hides_edit_lists: bool) {
        // Stamps of pictures include their composition offset unless an edit removes it.
        let whole = |media: &Media| match hides_edit_lists {
            true => nanos(media.ticks + media.first_offset + media.shift, media.scale),
            false => nanos(media.ticks, media.scale),
        };
        let presented = tables
            .tracks
            .iter()
            .filter(|track| track.kind != TrackKind::Other);
        let presented = presented.filter_map(|track| track.end_nanos).max();
        let played = |media: &&Media| media.kind != TrackKind::Other;
        let needed = match hides_edit_lists {
            true => self.media.iter().filter(played).map(whole).max(),
            false => presented,
        };
        let needed = needed.unwrap_or(0);
        // Durations that GStreamer handles correctly stay unchanged.
        let tolerated = |wanted: i64| if hides_edit_lists { 0 } else { wanted / 20 };
        self.patches
            .extend(self.duration.raise(needed, tolerated(needed), self.scale));
        let film = self.duration.nanos(self.scale);
        for media in self
            .media
            .iter_mut()
            .filter(|media| media.kind != TrackKind::Other)
        {
            let mut wanted = whole(media);
            let stated = media.duration.nanos(media.scale).max(wanted);
            if media.samples > 1 && stated < film / 4 {
                wanted = film;
            }
            self.patches
                .extend(media.duration.raise(wanted, tolerated(wanted), media.scale));
        }
    }

    /// Whether GStreamer loses media of this track because of its edit list.
    fn needs_patch(&self, media: &Media) -> bool {
        if media.kind == TrackKind::Other || media.samples == 0 {
            return false;
        }
        let presented: Vec<_> = media
            .edits
            .iter()
            .filter(|(_, time, _)| *time >= 0)
            .collect();
        let [(_, time, _)] = presented[..] else {
            return !presented.is_empty();
        };
        let leading = media.edits.iter().take_while(|(_, time, _)| *time < 0);
        let delay: u64 = leading
            .map(|(duration, ..)| *duration)
            .fold(0, u64::saturating_add);
        let delay = nanos(i64::try_from(delay).unwrap_or(i64::MAX), self.scale);
        let trimmed = match media.kind {
            TrackKind::Audio => nanos(*time, media.scale) - PRIMING_NANOS,
            _ => nanos(*time - media.first_offset - media.shift, media.scale) - FIRST_PICTURE_NANOS,
        };
        delay > DELAY_NANOS || trimmed > 0
    }
}

/// The edits of a track in nanoseconds, clipped to its media. Their media times are those that
/// GStreamer stamps without an edit list.
fn edits_of(media: &Media, movie_scale: u32) -> Edits {
    let mut presented = 0i64;
    let mut list = Vec::new();
    let media_nanos = |ticks: i64| nanos(ticks, media.scale);
    for (duration, time, rate) in &media.edits {
        let length = nanos(i64::try_from(*duration).unwrap_or(i64::MAX), movie_scale);
        if *time >= 0 && *rate != 0 {
            let media_start = media_nanos(time.saturating_add(media.shift));
            // The end of the last picture is counted from its composition time.
            let offset = if media.kind == TrackKind::Video {
                media.first_offset
            } else {
                0
            };
            let whole = media_nanos((media.ticks).saturating_add(media.shift + offset));
            let stated = if length == 0 {
                i64::MAX
            } else {
                media_start.saturating_add(length)
            };
            let edit = Edit {
                media_start,
                media_end: stated.min(whole).max(media_start),
                presented,
            };
            list.push(edit);
        }
        presented = presented.saturating_add(length);
    }
    Edits(list)
}

/// Whether the edits play the media in order and at normal speed. Overlaps up to 1 ms are
/// tolerated.
fn in_order(media: &Media, list: &Edits) -> bool {
    let speed = |(_, time, rate): &(u64, i64, i32)| *time < 0 || [0, 0x1_0000].contains(rate);
    media.edits.iter().all(speed)
        && (list.0.windows(2)).all(|pair| pair[0].media_end <= pair[1].media_start + 1_000_000)
}
