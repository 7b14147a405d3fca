//! ISO base media (MP4, MOV, M4A, 3GP): the tables of `moov` and of the fragments behind it.
//!
//! Source: ISO/IEC 14496-12 (2015), chapter 8; the QuickTime File Format Specification for `wide`
//! and old files without `ftyp`.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::bytes::{array, be32, be64, code, nanos};
use super::{ContainerTrack, Edit, Edits, Patch, Tables, TrackKind};

/// GStreamer 1.22 applies a list of one edit that trims no more than this at the start. It loses as
/// much at the end, so that only an encoder's priming may be left to it.
const PRIMING_NANOS: i64 = 150_000_000;
/// The same for pictures, counted from the first one's composition offset.
const FIRST_PICTURE_NANOS: i64 = 150_000_000;
/// After a longer delay GStreamer 1.22 loses the track.
const DELAY_NANOS: i64 = 10_000_000_000;
/// Larger indexes are not read.
const INDEX_BYTES: u64 = 1 << 30;
/// The boxes that stand outermost in a file.
const KNOWN: [&[u8]; 18] = [
    b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"sidx", b"ssix",
    b"styp", b"mfra", b"meta", b"prft", b"emsg", b"pdin", b"pnot", b"udta",
];

pub(in crate::capture) fn is_iso(head: &[u8]) -> bool {
    let names = [
        b"ftyp", b"moov", b"mdat", b"wide", b"styp", b"free", b"skip",
    ];
    head.get(4..8)
        .is_some_and(|kind| names.iter().any(|name| kind == &name[..]))
}

/// One box of a slice.
#[derive(Clone, Copy)]
struct Atom<'a> {
    kind: [u8; 4],
    body: &'a [u8],
    /// Of the box's head in the file.
    offset: u64,
    head: usize,
}

/// The boxes of `data`, which lies at `offset` of the file. Ends where the framing does.
fn atoms(data: &[u8], offset: u64) -> impl Iterator<Item = Atom<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (size, kind) = (be32(data, at)?, array(data, at + 4)?);
        let (head, size) = match size {
            0 => (8, data.len() - at),
            1 => (16, usize::try_from(be64(data, at + 8)?).ok()?),
            size => (8, size as usize),
        };
        let end = at.checked_add(size)?.min(data.len());
        let atom = Atom {
            kind,
            body: data.get(at + head..end)?,
            offset: offset + at as u64,
            head,
        };
        at = at.checked_add(size)?;
        Some(atom)
    })
}

impl<'a> Atom<'a> {
    fn children(&self) -> impl Iterator<Item = Atom<'a>> + use<'a> {
        atoms(self.body, self.offset + self.head as u64)
    }

    fn child(&self, kind: &[u8; 4]) -> Option<Atom<'a>> {
        self.children().find(|atom| atom.kind == *kind)
    }

    fn path(&self, kinds: &[&[u8; 4]]) -> Option<Atom<'a>> {
        (kinds.iter()).try_fold(*self, |atom, kind| atom.child(kind))
    }

    /// The 32 bits at `at`, or the 64 at `wide` in version 1.
    fn by_version(&self, at: usize, wide: usize) -> Option<u64> {
        match self.body.first()? {
            1 => be64(self.body, wide),
            _ => be32(self.body, at).map(u64::from),
        }
    }
}

/// Reads the index, and the heads of fragments where there are any.
pub(super) fn read(file: &mut (impl Read + Seek), length: u64) -> Option<Tables> {
    let mut offset = 0;
    let mut index = None;
    let mut fragments = Vec::new();
    let mut known_end = 0;
    while offset + 8 <= length {
        let mut head = [0u8; 16];
        file.seek(SeekFrom::Start(offset)).ok()?;
        file.read_exact(&mut head[..8]).ok()?;
        let size = match be32(&head, 0)? {
            0 => length - offset,
            1 => {
                file.read_exact(&mut head[8..]).ok()?;
                be64(&head, 8)?
            }
            size => u64::from(size),
        };
        // What follows the last box, a tag for example, is none.
        if size < 8 || !KNOWN.contains(&&head[4..8]) {
            break;
        }
        let end = offset.checked_add(size)?;
        known_end = end;
        let whole = end <= length && size <= INDEX_BYTES;
        match &head[4..8] {
            b"moov" if whole && index.is_none() => {
                index = Some((read_box(file, offset, size)?, offset));
            }
            b"moof" if whole => fragments.push(read_box(file, offset, size)?),
            _ => {}
        }
        offset = end;
    }
    let (index, offset) = index?;
    let movie = atoms(&index, offset).next()?;
    let mut tables = movie_tables(&movie)?;
    for fragment in &fragments {
        for atom in atoms(fragment, 0) {
            tables.add_fragment(&atom);
        }
    }
    Some(tables.finish(length, known_end))
}

fn read_box(file: &mut (impl Read + Seek), offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// What is read of a track before its presentation is worked out.
struct Media {
    kind: TrackKind,
    number: u64,
    codec: String,
    enabled: bool,
    scale: u32,
    /// Of the samples, in the media's time scale.
    ticks: i64,
    samples: u64,
    /// Composition offset of the first sample, and what GStreamer adds to every stamp so that none
    /// is negative.
    first_offset: i64,
    shift: i64,
    /// Duration in the movie's time scale (0: to the end) and media time (-1: nothing is presented)
    /// and rate of each edit.
    edits: Vec<(u64, i64, i32)>,
    /// Where the list of edits stands.
    edits_at: Option<u64>,
    duration: Stated,
    /// Duration of a sample by default in fragments.
    fragment_ticks: u32,
    /// Where its last sample ends in the file.
    data_end: Option<u64>,
}

/// A duration in a header: its offset in the file, its bytes and what it says.
#[derive(Clone, Copy)]
struct Stated {
    offset: u64,
    bytes: usize,
    ticks: u64,
}

impl Stated {
    fn of(header: &Atom) -> Option<Stated> {
        let wide = header.body.first()? == &1;
        Some(Stated {
            offset: header.offset + header.head as u64 + if wide { 24 } else { 16 },
            bytes: if wide { 8 } else { 4 },
            ticks: header.by_version(16, 24)?,
        })
    }

    /// At least `wanted` nanoseconds of `scale`; the patch for it where it is less by more than
    /// `tolerated` nanoseconds.
    fn raise(&mut self, wanted: i64, tolerated: i64, scale: u32) -> Option<Patch> {
        if self.nanos(scale).saturating_add(tolerated) >= wanted {
            return None;
        }
        let ticks = i128::from(wanted) * i128::from(scale.max(1)) / 1_000_000_000 + 1;
        let most = if self.bytes == 8 {
            i128::from(i64::MAX)
        } else {
            i128::from(u32::MAX - 1)
        };
        self.ticks = ticks.min(most) as u64;
        Some(Patch {
            offset: self.offset,
            bytes: self.ticks.to_be_bytes()[8 - self.bytes..].to_vec(),
        })
    }

    fn nanos(&self, scale: u32) -> i64 {
        nanos(i64::try_from(self.ticks).unwrap_or(i64::MAX), scale)
    }
}

struct Movie {
    scale: u32,
    duration: Stated,
    fragmented: bool,
    media: Vec<Media>,
    patches: Vec<Patch>,
}

fn movie_tables(movie: &Atom) -> Option<Movie> {
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
        duration: Stated::of(&header)?,
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

fn track_media(track: &Atom) -> Option<(Media, Vec<Patch>)> {
    let header = track.child(b"tkhd")?;
    let media = track.child(b"mdia")?;
    let media_header = media.child(b"mdhd")?;
    let wide = media_header.body.first()? == &1;
    let kind = match media.child(b"hdlr")?.body.get(8..12)? {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        _ => TrackKind::Other,
    };
    let samples = media.path(&[b"minf", b"stbl"])?;
    let description = samples.child(b"stsd")?;
    let mut patches = Vec::new();
    let format: [u8; 4] = array(description.body, 12)?;
    // GStreamer 1.22 knows DNxHR by the name of DNxHD alone, which one decoder takes for both.
    if format == *b"AVdh" {
        patches.push(Patch {
            offset: description.offset + description.head as u64 + 12,
            bytes: b"AVdn".to_vec(),
        });
    }
    let durations = samples.child(b"stts").map_or(&[][..], |atom| atom.body);
    let (mut ticks, mut count) = (0i64, 0u64);
    for entry in durations.get(8..).unwrap_or_default().chunks_exact(8) {
        let (n, each) = (be32(entry, 0)?, be32(entry, 4)?);
        ticks = ticks.saturating_add(i64::from(n).saturating_mul(i64::from(each)));
        count += u64::from(n);
    }
    let (first_offset, shift) = composition(&samples);
    let list = track.path(&[b"edts", b"elst"]);
    Some((
        Media {
            kind,
            number: u64::from(be32(
                header.body,
                if header.body[0] == 1 { 20 } else { 12 },
            )?),
            codec: code(format),
            enabled: header.body.get(3)? & 1 == 1,
            scale: be32(media_header.body, if wide { 20 } else { 12 })?.max(1),
            ticks,
            samples: count,
            first_offset,
            shift,
            edits: list.map(|list| edits(&list)).unwrap_or_default(),
            edits_at: track.child(b"edts").map(|atom| atom.offset),
            duration: Stated::of(&media_header)?,
            fragment_ticks: 0,
            data_end: data_end(&samples),
        },
        patches,
    ))
}

/// The first sample's composition offset, and the shift that makes none negative.
fn composition(samples: &Atom) -> (i64, i64) {
    let Some(offsets) = samples.child(b"ctts") else {
        return (0, 0);
    };
    let entries = offsets.body.get(8..).unwrap_or_default().chunks_exact(8);
    let mut offsets = entries
        .filter_map(|entry| be32(entry, 4))
        .map(|offset| i64::from(offset as i32));
    let first = offsets.next().unwrap_or(0);
    let stated = samples.child(b"cslg").and_then(|atom| be32(atom.body, 4));
    let least = offsets.fold(first, i64::min);
    (first, stated.map_or((-least).max(0), i64::from))
}

/// The end of the last chunk in the file. `None` where the tables are damaged, or where it lies in
/// fragments.
fn data_end(samples: &Atom) -> Option<u64> {
    let chunk = if let Some(offsets) = samples.child(b"stco") {
        let last = offsets.body.get(8..)?.chunks_exact(4).last()?;
        u64::from(be32(last, 0)?)
    } else {
        be64(
            samples
                .child(b"co64")?
                .body
                .get(8..)?
                .chunks_exact(8)
                .last()?,
            0,
        )?
    };
    let runs = samples.child(b"stsc")?;
    let per_chunk = be32(runs.body.get(8..)?.chunks_exact(12).last()?, 4)?;
    let sizes = samples.child(b"stsz")?;
    let (each, count) = (be32(sizes.body, 4)?, be32(sizes.body, 8)?);
    let last = per_chunk.min(count);
    let bytes = if each > 0 {
        u64::from(last) * u64::from(each)
    } else {
        let first = 12 + 4 * (count - last) as usize;
        let sizes = sizes.body.get(first..)?.chunks_exact(4).take(last as usize);
        sizes.filter_map(|size| be32(size, 0)).map(u64::from).sum()
    };
    chunk.checked_add(bytes)
}

fn edits(list: &Atom) -> Vec<(u64, i64, i32)> {
    let wide = list.body.first() == Some(&1);
    let size = if wide { 20 } else { 12 };
    let count = be32(list.body, 4).unwrap_or(0) as usize;
    let entries = list
        .body
        .get(8..)
        .unwrap_or_default()
        .chunks_exact(size)
        .take(count);
    entries
        .filter_map(|entry| {
            Some(if wide {
                (
                    be64(entry, 0)?,
                    be64(entry, 8)? as i64,
                    be32(entry, 16)? as i32,
                )
            } else {
                let time = be32(entry, 4)? as i32;
                (
                    u64::from(be32(entry, 0)?),
                    i64::from(time),
                    be32(entry, 8)? as i32,
                )
            })
        })
        .collect()
}

impl Movie {
    /// Adds the samples of one `moof`.
    fn add_fragment(&mut self, fragment: &Atom) {
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

    fn finish(mut self, length: u64, known_end: u64) -> Tables {
        let by_hand = self.media.iter().any(|media| self.needs_help(media));
        let (scale, fragmented) = (self.scale, self.fragmented);
        let mut tables = Tables::default();
        for media in &self.media {
            let list = list_of(media, scale);
            let own = by_hand && media.edits_at.is_some() && media.kind != TrackKind::Other;
            if own && !in_order(media, &list) {
                tables.unsupported = Some(format!(
                    "the edit list of its {} track plays parts of it out of order or at another speed",
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
            // As many as the presented part of the media has.
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
            self.raise_durations(&tables, by_hand);
        }
        tables.patches = self.patches;
        let played = self
            .media
            .iter()
            .filter(|media| media.kind != TrackKind::Other);
        let data_end = played.filter_map(|media| media.data_end).max();
        tables.breaks_off = Some(match data_end {
            Some(end) if !fragmented => end > length,
            _ => known_end > length,
        });
        tables
    }

    /// GStreamer 1.22 leaves out what lies behind the stated durations, and tracks that are shorter
    /// than a fifth of the film.
    fn raise_durations(&mut self, tables: &Tables, by_hand: bool) {
        // Stamps of pictures begin with their composition offset where no edit takes it away.
        let whole = |media: &Media| match by_hand {
            true => nanos(media.ticks + media.first_offset + media.shift, media.scale),
            false => nanos(media.ticks, media.scale),
        };
        let presented = tables
            .tracks
            .iter()
            .filter(|track| track.kind != TrackKind::Other);
        let presented = presented.filter_map(|track| track.end_nanos).max();
        let played = |media: &&Media| media.kind != TrackKind::Other;
        let needed = match by_hand {
            true => self.media.iter().filter(played).map(whole).max(),
            false => presented,
        };
        let needed = needed.unwrap_or(0);
        // What is played well is left alone.
        let tolerated = |wanted: i64| if by_hand { 0 } else { wanted / 20 };
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

    /// Does GStreamer lose something of this track by its edit list?
    fn needs_help(&self, media: &Media) -> bool {
        if media.kind == TrackKind::Other || media.samples == 0 {
            return false;
        }
        let shown: Vec<_> = media
            .edits
            .iter()
            .filter(|(_, time, _)| *time >= 0)
            .collect();
        let [(_, time, _)] = shown[..] else {
            return !shown.is_empty();
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

fn add_runs(media: &mut Media, part: &Atom, header: &Atom) {
    let flags = be32(header.body, 0).unwrap_or(0) & 0xff_ffff;
    let skipped = [(0x1, 8), (0x2, 4)]
        .iter()
        .filter(|(bit, _)| flags & bit != 0);
    let at = 8 + skipped.map(|(_, size)| size).sum::<usize>();
    let default = (flags & 0x8 != 0).then(|| be32(header.body, at)).flatten();
    let default = default.unwrap_or(media.fragment_ticks);
    if let Some(decode_time) = part.child(b"tfdt").and_then(|atom| atom.by_version(4, 4)) {
        media.ticks = media.ticks.max(i64::try_from(decode_time).unwrap_or(0));
    }
    for run in part.children().filter(|atom| atom.kind == *b"trun") {
        let flags = be32(run.body, 0).unwrap_or(0) & 0xff_ffff;
        let count = be32(run.body, 4).unwrap_or(0) as usize;
        let start = 8 + 4 * (flags & 0x5).count_ones() as usize;
        let size = 4 * (flags & 0xf00).count_ones() as usize;
        media.samples += count as u64;
        if flags & 0x100 == 0 {
            let ticks = (count as i64).saturating_mul(i64::from(default));
            media.ticks = media.ticks.saturating_add(ticks);
            continue;
        }
        let entries = run.body.get(start..).unwrap_or_default().chunks_exact(size);
        for entry in entries.take(count) {
            let ticks = be32(entry, 0).unwrap_or(0);
            media.ticks = media.ticks.saturating_add(i64::from(ticks));
        }
    }
}

/// The edits in nanoseconds, clipped to the media, as GStreamer stamps the media without them.
fn list_of(media: &Media, movie_scale: u32) -> Edits {
    let mut presented = 0i64;
    let mut list = Vec::new();
    let media_nanos = |ticks: i64| nanos(ticks, media.scale);
    for (duration, time, rate) in &media.edits {
        let length = nanos(i64::try_from(*duration).unwrap_or(i64::MAX), movie_scale);
        if *time >= 0 && *rate != 0 {
            let media_start = media_nanos(time.saturating_add(media.shift));
            // The last picture is shown as long after its composition time.
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

fn in_order(media: &Media, list: &Edits) -> bool {
    let speed = |(_, time, rate): &(u64, i64, i32)| *time < 0 || [0, 0x1_0000].contains(rate);
    media.edits.iter().all(speed)
        && (list.0.windows(2)).all(|pair| pair[0].media_end <= pair[1].media_start + 1_000_000)
}
