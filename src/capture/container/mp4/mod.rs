//! ISO base media (MP4, MOV, M4A, 3GP): the tables of `moov` and of the movie fragments (`moof`)
//! after it.
//!
//! Source: ISO/IEC 14496-12 (2015), chapter 8; the QuickTime File Format Specification for `wide`
//! and old files without `ftyp`.

mod movie;
mod track;

use std::io::{Read, Seek, SeekFrom};

use super::Tables;
use super::bytes::{array, be32, be64};
use movie::movie_tables;

/// Size in bytes of the largest index that is read.
const MAX_INDEX_BYTES: u64 = 1 << 30;
/// Kinds of the boxes that may be at the top level of a file.
const TOP_LEVEL_BOXES: [&[u8]; 18] = [
    b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"sidx", b"ssix",
    b"styp", b"mfra", b"meta", b"prft", b"emsg", b"pdin", b"pnot", b"udta",
];

/// Whether a file with the first bytes `head` is ISO base media.
pub(in crate::capture) fn is_iso(head: &[u8]) -> bool {
    let names = [
        b"ftyp", b"moov", b"mdat", b"wide", b"styp", b"free", b"skip",
    ];
    head.get(4..8)
        .is_some_and(|kind| names.iter().any(|name| kind == &name[..]))
}

/// One box of an ISO file: its kind and its content.
#[derive(Clone, Copy)]
struct Atom<'a> {
    kind: [u8; 4],
    body: &'a [u8],
    /// Byte offset of the box in the file.
    offset: u64,
    /// Size of the box's head in bytes.
    head: usize,
}

/// The boxes in `data`, which begins at byte `offset` of the file. Ends at the first invalid box.
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
    /// The boxes inside this box.
    fn children(&self) -> impl Iterator<Item = Atom<'a>> + use<'a> {
        atoms(self.body, self.offset + self.head as u64)
    }

    /// The first box of this kind inside this box.
    fn child(&self, kind: &[u8; 4]) -> Option<Atom<'a>> {
        self.children().find(|atom| atom.kind == *kind)
    }

    /// The box at the end of this path of kinds, each inside the box before it.
    fn path(&self, kinds: &[&[u8; 4]]) -> Option<Atom<'a>> {
        (kinds.iter()).try_fold(*self, |atom, kind| atom.child(kind))
    }

    /// A field of the content: 32 bits at byte `at`, or 64 bits at byte `wide` if the box has
    /// version 1.
    fn by_version(&self, at: usize, wide: usize) -> Option<u64> {
        match self.body.first()? {
            1 => be64(self.body, wide),
            _ => be32(self.body, at).map(u64::from),
        }
    }
}

/// Reads the tables of an ISO file of `length` bytes, from its index and the heads of its
/// fragments. `None` for damaged boxes.
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
        // Data after the last box, such as a tag, is not a box.
        if size < 8 || !TOP_LEVEL_BOXES.contains(&&head[4..8]) {
            break;
        }
        let end = offset.checked_add(size)?;
        known_end = end;
        let whole = end <= length && size <= MAX_INDEX_BYTES;
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

/// Reads the `size` bytes of the box at byte `offset`.
fn read_box(file: &mut (impl Read + Seek), offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
