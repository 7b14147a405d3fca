//! The chunks of a WAV file: the coding of its sound and its actual position.
//!
//! Source: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0", 1991; EBU
//! Tech 3306 (RF64) and ITU-R BS.2088 (BW64); Sonic Foundry, "Wave64 File Format".

use std::io::{Read, Seek, SeekFrom};

use gstreamer as gst;

use super::coding::Coding;
use crate::capture::container::bytes::{array, le16, le32, le64};

/// Largest part of a header chunk that is read, in bytes.
const MAX_CHUNK_BYTES: u64 = 1 << 16;
/// Data after the stated end is played as sound if it is not a chunk and lasts at least
/// `1 / HIDDEN_PARTS` seconds.
const HIDDEN_PARTS: u64 = 4;
/// Largest number of channels of a valid header.
const MAX_CHANNELS: u16 = 256;

/// The last twelve bytes of the identifiers of Wave64's chunks; the first four are the name.
const WAVE64: [u8; 12] = [
    0xf3, 0xac, 0xd3, 0x11, 0x8c, 0xd1, 0x00, 0xc0, 0x4f, 0x8e, 0xdb, 0x8a,
];
/// The last twelve bytes of the identifier at the start of a Wave64 file.
const WAVE64_RIFF: [u8; 12] = [
    0x2e, 0x91, 0xcf, 0x11, 0xa5, 0xd6, 0x28, 0xdb, 0x04, 0xc1, 0, 0,
];

/// Position and format of the sound in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub coding: Coding,
    pub channels: usize,
    /// Sample frames per second.
    pub rate_hz: u32,
    /// Positions of the channels as GStreamer's channel mask; 0 for channels without positions.
    channel_mask: u64,
    /// Size in bytes of a coded block, or of a sample frame of uncoded sound.
    pub block_bytes: usize,
    /// Byte offset of the start of the sound in the file.
    pub start: u64,
    /// Byte offset of the end of the sound in the file.
    pub end: u64,
    /// Number of sample frames.
    pub frames: u64,
    /// Whether the header states more sound than the file holds.
    pub missing: bool,
    /// Number of sample frames that the header states, if the file holds more; otherwise `None`.
    pub stated_frames: Option<u64>,
}

impl Layout {
    /// The GStreamer caps of the decoded sound.
    pub fn caps(&self) -> gst::Caps {
        let caps = gst::Caps::builder("audio/x-raw")
            .field("format", self.coding.format())
            .field("layout", "interleaved")
            .field("rate", self.rate_hz as i32)
            .field("channels", self.channels as i32);
        if self.channels == 1 {
            caps.build()
        } else {
            caps.field("channel-mask", gst::Bitmask::new(self.channel_mask))
                .build()
        }
    }
}

/// Kind and place of one chunk.
struct Chunk {
    kind: [u8; 4],
    /// Byte offset of the chunk's content in the file.
    start: u64,
    /// Size of the content in bytes, as the chunk states it.
    size: u64,
}

/// Reads the chunks of a file of `length` bytes. `None`: the file is not WAV, or its coding is left
/// to GStreamer.
pub(super) fn read(file: &mut (impl Read + Seek), length: u64) -> Option<Layout> {
    let mut head = [0u8; 40];
    let got = head.len().min(usize::try_from(length).ok()?);
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut head[..got]).ok()?;
    let is_wave64 = head[..4] == *b"riff" && head[4..16] == WAVE64_RIFF && head[24..28] == *b"wave";
    let long = [*b"RF64", *b"BW64"].contains(&array(&head, 0)?);
    let short = head[..4] == *b"RIFF" || long;
    let is_wave = is_wave64 || short && head[8..12] == *b"WAVE";
    if !is_wave {
        return None;
    }
    let mut at = if is_wave64 { 40 } else { 12 };
    let (mut format, mut long_size, mut fact) = (None::<Vec<u8>>, None, None);
    loop {
        let chunk = chunk(file, at, is_wave64)?;
        match &chunk.kind {
            b"data" => {
                let size = match long_size {
                    Some(size) if long && chunk.size == u64::from(u32::MAX) => size,
                    _ => chunk.size,
                };
                let data = Chunk { size, ..chunk };
                return layout(file, length, &format?, &data, fact, is_wave64);
            }
            b"fmt " => format = Some(content(file, &chunk, length)?),
            b"ds64" => long_size = le64(&content(file, &chunk, length)?, 8),
            b"fact" => fact = le32(&content(file, &chunk, length)?, 0).map(u64::from),
            _ => {}
        }
        at = next(&chunk, is_wave64)?;
        if at >= length {
            return None;
        }
    }
}

/// Reads the head of the chunk at byte `at`. `is_wave64`: the file is Wave64.
fn chunk(file: &mut (impl Read + Seek), at: u64, is_wave64: bool) -> Option<Chunk> {
    let mut head = [0u8; 24];
    let bytes = if is_wave64 { 24 } else { 8 };
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut head[..bytes]).ok()?;
    let size = if is_wave64 {
        le64(&head, 16)?.checked_sub(24)?
    } else {
        u64::from(le32(&head, 4)?)
    };
    let known = !is_wave64 || head[4..16] == WAVE64;
    Some(Chunk {
        kind: if known { array(&head, 0)? } else { [0; 4] },
        start: at + bytes as u64,
        size,
    })
}

/// Byte offset of the next chunk, after the padding. `is_wave64`: the file is Wave64.
fn next(chunk: &Chunk, is_wave64: bool) -> Option<u64> {
    let even = if is_wave64 { 8 } else { 2 };
    chunk
        .start
        .checked_add(chunk.size)?
        .checked_next_multiple_of(even)
}

/// Reads the content of a header chunk, at most [`MAX_CHUNK_BYTES`].
fn content(file: &mut (impl Read + Seek), chunk: &Chunk, length: u64) -> Option<Vec<u8>> {
    let size = chunk
        .size
        .min(MAX_CHUNK_BYTES)
        .min(length.saturating_sub(chunk.start));
    let mut bytes = vec![0; size as usize];
    file.seek(SeekFrom::Start(chunk.start)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The layout of the sound. `format`: content of the chunk `fmt `; `data`: chunk of the sound;
/// `fact`: number of sample frames in the chunk `fact`; `is_wave64`: the file is Wave64.
fn layout(
    file: &mut (impl Read + Seek),
    length: u64,
    format: &[u8],
    data: &Chunk,
    fact: Option<u64>,
    is_wave64: bool,
) -> Option<Layout> {
    let channels = le16(format, 2).filter(|channels| (1..=MAX_CHANNELS).contains(channels))?;
    let rate_hz = le32(format, 4).filter(|rate| (1..=1 << 24).contains(rate))?;
    let (coding, channel_mask) = coding(format, channels)?;
    let channels = usize::from(channels);
    let block_bytes = match coding.sample_bytes() {
        Some(bytes) => bytes * channels,
        None => usize::from(le16(format, 12)?),
    };
    let each = coding.frames_per_block(block_bytes, channels)?;
    let present = length.saturating_sub(data.start);
    let frames_in = |bytes: u64| {
        let rest = (bytes % block_bytes as u64) as usize;
        let rest = if each == 1 {
            0
        } else {
            coding.frames_per_block(rest, channels).unwrap_or(0)
        };
        bytes / block_bytes as u64 * each + rest
    };
    let placeholder = is_placeholder(data.size) && data.size != present;
    let hidden = !placeholder
        && data.size < present
        && frames_in(present - data.size) >= u64::from(rate_hz) / HIDDEN_PARTS
        && !leads_to_chunks(file, data, length, is_wave64);
    let size = if placeholder || hidden {
        present
    } else {
        data.size.min(present)
    };
    let mut frames = frames_in(size);
    if each > 1 && !hidden {
        // The last block is padded; the `fact` chunk states the actual number of samples.
        frames = fact
            .filter(|fact| (1..frames).contains(fact))
            .unwrap_or(frames);
    }
    Some(Layout {
        channels,
        rate_hz,
        channel_mask,
        block_bytes,
        start: data.start,
        end: data.start + size,
        frames,
        missing: !placeholder && data.size > present,
        stated_frames: hidden.then(|| frames_in(data.size)),
        coding,
    })
}

/// Whether `size` is a placeholder of a writer that cannot seek back: 0, all ones, or about 2 GiB.
fn is_placeholder(size: u64) -> bool {
    size == 0 || (0x7fff_0000..=0x8000_1000).contains(&size) || size >= 0xffff_0000
}

/// Whether `data` is followed by chunks up to the end of the file. Remaining bytes that are fewer
/// than the head of a chunk are ignored.
fn leads_to_chunks(
    file: &mut (impl Read + Seek),
    data: &Chunk,
    length: u64,
    is_wave64: bool,
) -> bool {
    let Some(mut at) = next(data, is_wave64) else {
        return false;
    };
    while at + 8 <= length {
        let Some(found) = chunk(file, at, is_wave64) else {
            return false;
        };
        if !found.kind.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return false;
        }
        match next(&found, is_wave64) {
            // The last pad byte is often missing, and the length of a tag often excludes its head.
            Some(end) if end <= length + 9 => at = end,
            _ => return false,
        }
    }
    true
}

/// The coding that the content of a chunk `fmt ` names, and GStreamer's channel mask. `None`: the
/// coding is left to GStreamer.
fn coding(format: &[u8], channels: u16) -> Option<(Coding, u64)> {
    let block_bytes = usize::from(le16(format, 12)?);
    let bits = usize::from(le16(format, 14)?);
    let (mut tag, mut mask) = (le16(format, 0)?, None);
    if tag == 0xfffe {
        // The first two bytes of the GUID are the format tag; the rest is constant.
        let rest = format.get(26..40)?;
        if rest != [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71] {
            return None;
        }
        (tag, mask) = (le16(format, 24)?, Some(le32(format, 20)?));
    }
    // Samples with fewer bits than their bytes hold are left-aligned.
    let bytes = match block_bytes / usize::from(channels) {
        bytes if bytes * 8 >= bits && bytes > 0 && bytes <= 8 => bytes,
        _ => bits.div_ceil(8),
    };
    let coding = match (tag, bytes) {
        (1, 1) => Coding::Raw("U8", 1),
        (1, 2) => Coding::Raw("S16LE", 2),
        (1, 3) => Coding::Raw("S24LE", 3),
        (1, 4) => Coding::Raw("S32LE", 4),
        (3, 4) => Coding::Raw("F32LE", 4),
        (3, 8) => Coding::Raw("F64LE", 8),
        (6, _) => Coding::ALaw,
        (7, _) => Coding::MuLaw,
        (0x11, _) if bits == 4 => Coding::Ima,
        (2, _) if bits == 4 => Coding::Microsoft(pairs(format)),
        _ => return None,
    };
    Some((coding, positions(mask, channels)))
}

/// The pairs of predictor coefficients in the `fmt ` chunk of Microsoft ADPCM.
fn pairs(format: &[u8]) -> Vec<[i32; 2]> {
    let count = le16(format, 20).unwrap_or(0);
    let signed = |at| le16(format, at).map(|value| i32::from(value as i16));
    let stated: Option<Vec<_>> = (0..usize::from(count))
        .map(|index| Some([signed(22 + 4 * index)?, signed(24 + 4 * index)?]))
        .collect();
    match stated {
        Some(pairs) if !pairs.is_empty() => pairs,
        _ => super::adpcm::DEFAULT_PAIRS.to_vec(),
    }
}

/// GStreamer's channel mask for the channel mask of WAV. It is 0 for positions that GStreamer
/// orders differently, and for masks that do not match the number of channels.
fn positions(mask: Option<u32>, channels: u16) -> u64 {
    if channels == 2 && mask.is_none_or(|mask| mask == 0) {
        return 0x3;
    }
    let mask = u64::from(mask.unwrap_or(0));
    // The bits of both masks agree up to the back centre; the side channels are one bit higher in
    // GStreamer.
    if mask >> 11 != 0 || mask.count_ones() != u32::from(channels) {
        return 0;
    }
    mask & 0x1ff | (mask & 0x600) << 1
}
