//! Replacement of bytes between the file and the demuxer.

use gstreamer as gst;
use gstreamer::prelude::*;

/// Bytes that replace the bytes of a file from byte `offset` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::capture) struct Patch {
    /// Byte offset in the file of the first replaced byte.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// Writes the part of `patch` that overlaps `data`, which begins at byte `offset` of the file.
fn write(patch: &Patch, offset: u64, data: &mut [u8]) {
    for (at, byte) in (patch.offset..).zip(&patch.bytes) {
        let place = at
            .checked_sub(offset)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(slot) = place.and_then(|at| data.get_mut(at)) {
            *slot = *byte;
        }
    }
}

/// Whether the patch changes any of the `size` bytes from byte `offset` of the file on.
fn overlaps(patch: &Patch, offset: u64, size: usize) -> bool {
    patch.offset < offset.saturating_add(size as u64)
        && offset < patch.offset.saturating_add(patch.bytes.len() as u64)
}

/// Applies `patches` to the data that `source` reads. `source` is a file source, or a
/// `uridecodebin`, which creates a file source later.
pub(in crate::capture) fn apply(source: &gst::Element, patches: &[Patch]) {
    if patches.is_empty() {
        return;
    }
    let patches = patches.to_vec();
    if let Some(pad) = source.static_pad("src") {
        apply_at(&pad, patches);
        return;
    }
    source.connect("source-setup", false, move |values| {
        let source = values[1].get::<gst::Element>().ok()?;
        apply_at(&source.static_pad("src")?, patches.clone());
        None
    });
}

/// Applies `patches` to every buffer that passes `pad`.
fn apply_at(pad: &gst::Pad, patches: Vec<Patch>) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            replace(buffer, &patches);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Writes those patches into `buffer` that overlap it.
fn replace(buffer: &mut gst::Buffer, patches: &[Patch]) {
    let (offset, size) = (buffer.offset(), buffer.size());
    let hits = |patch: &&Patch| overlaps(patch, offset, size);
    if offset == u64::MAX || !patches.iter().any(|patch| hits(&patch)) {
        return;
    }
    // The buffer is copied if it is shared.
    if let Ok(mut map) = buffer.make_mut().map_writable() {
        for patch in patches.iter().filter(hits) {
            write(patch, offset, map.as_mut_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_patched_bytes_change_for_any_read_size() {
        let file: Vec<u8> = (0..100).collect();
        let patch = Patch {
            offset: 40,
            bytes: vec![200, 201, 202, 203],
        };
        let mut wanted = file.clone();
        wanted[40..44].copy_from_slice(&patch.bytes);
        for size in 1..=file.len() {
            let mut seen = Vec::new();
            for (index, part) in file.chunks(size).enumerate() {
                let mut part = part.to_vec();
                let offset = (index * size) as u64;
                let before = part.clone();
                write(&patch, offset, &mut part);
                assert_eq!(overlaps(&patch, offset, part.len()), part != before);
                seen.extend(part);
            }
            assert_eq!(seen, wanted, "in reads of {size}");
        }
    }
}
