//! Modifies the tables of MP4 files for tests.

/// The big-endian 32-bit integer at the offset `at`.
fn be32(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Ranges of the consecutive boxes in `bytes`. 64-bit sizes are not supported.
fn boxes(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let size = be32(bytes, at);
        assert!(size >= 8, "a box of {size} bytes");
        found.push(at..at + size);
        at += size;
    }
    found
}

/// A box of type `kind` around `content`.
fn wrap(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
}

/// Replaces the edit lists of the MP4 file `film` by `lists`, one for each track; an empty list is
/// left out. The index (`moov`) moves behind the media, and the film gets the length of the longest
/// list. An edit is (duration in the film's time scale, media time in the track's time scale); a
/// media time of -1 presents nothing.
///
/// # Panics
/// `film` is not an MP4 file with an index.
pub fn with_edits(film: &[u8], lists: &[&[(u32, i32)]]) -> Vec<u8> {
    let mut film = film.to_vec();
    let index = boxes(&film)
        .into_iter()
        .find(|range| &film[range.start + 4..range.start + 8] == b"moov")
        .expect("an index");
    let moov = film[index.clone()].to_vec();
    film[index.start + 4..index.start + 8].copy_from_slice(b"free");
    let length = |list: &&[(u32, i32)]| list.iter().map(|(duration, _)| duration).sum::<u32>();
    let longest = lists.iter().map(length).max().expect("a list");
    let (mut content, mut lists) = (Vec::new(), lists.iter());
    for range in boxes(&moov[8..]) {
        let mut part = moov[8..][range].to_vec();
        match &part[4..8] {
            b"mvhd" => part[24..28].copy_from_slice(&longest.to_be_bytes()),
            b"trak" => part = with_list(&part, lists.next().expect("a list for each track")),
            _ => {}
        }
        content.extend(part);
    }
    film.extend(wrap(b"moov", &content));
    film
}

/// Replaces the edit list of one track box (`trak`).
fn with_list(track: &[u8], list: &[(u32, i32)]) -> Vec<u8> {
    let mut content = Vec::new();
    for range in boxes(&track[8..]) {
        let part = &track[8..][range];
        match &part[4..8] {
            b"edts" => {}
            b"tkhd" => {
                content.extend(part);
                if !list.is_empty() {
                    let mut edits = vec![0, 0, 0, 0];
                    edits.extend((list.len() as u32).to_be_bytes());
                    for (duration, time) in list {
                        edits.extend(duration.to_be_bytes());
                        edits.extend(time.to_be_bytes());
                        edits.extend(0x1_0000u32.to_be_bytes());
                    }
                    content.extend(wrap(b"edts", &wrap(b"elst", &edits)));
                }
            }
            _ => content.extend(part),
        }
    }
    wrap(b"trak", &content)
}

/// Overwrites the `nth` (from 0) box of type `kind` with `bytes`, from offset `at` after the box's
/// type.
///
/// # Panics
/// There is no such box.
pub fn overwrite(film: &mut [u8], kind: &[u8; 4], nth: usize, at: usize, bytes: &[u8]) {
    let mut places = (0..film.len() - 4).filter(|place| &film[*place..*place + 4] == kind);
    let place = places.nth(nth).expect("a box of that kind") + 4 + at;
    film[place..place + bytes.len()].copy_from_slice(bytes);
}
