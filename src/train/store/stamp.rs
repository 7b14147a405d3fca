//! Stamps (size, time, hash) of a recording's files, from which a later run detects changed
//! recordings.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::train::data::{Media, Picture};

/// Size, modification time and hash of a file at the time of extraction.
///
/// A file is changed if its hash is different. If size and time are the same, the file is assumed
/// to be unchanged and is not read, so that resuming a store is fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Size of the file in bytes; for a grey picture in memory, its number of pixels.
    pub bytes: u64,
    /// Time of the last modification, in nanoseconds since 1970-01-01 UTC. `None`: the picture is
    /// from an archive or a table and has no file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_ns: Option<i64>,
    /// The first 32 hexadecimal digits of the content's SHA-256.
    pub sha256: String,
}

/// Result of comparing an item's files with their stamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The files are unchanged, have no stamps, or cannot be read.
    Same,
    /// The contents are the same, but the times are different. Contains the new stamps.
    Touched(Vec<FileStamp>),
    /// A content or the number of files is different.
    Changed,
}

impl FileStamp {
    /// The stamps of an item's files, video before audio; empty for an item without media.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(media: &Media) -> io::Result<Vec<FileStamp>> {
        if let Media::Picture(Picture::Grey { pixels, .. }) = media {
            return Ok(vec![FileStamp {
                bytes: pixels.len() as u64,
                modified_ns: None,
                sha256: digits(Sha256::digest(pixels).as_slice()),
            }]);
        }
        paths(media).into_iter().map(FileStamp::read_file).collect()
    }

    /// The stamp of one file.
    fn read_file(path: &Path) -> io::Result<FileStamp> {
        let file = File::open(path)?;
        // Metadata before content: if the file changes in between, it differs from its stamp later.
        let about = file.metadata()?;
        Ok(FileStamp {
            bytes: about.len(),
            modified_ns: Some(modified_ns(&about)),
            sha256: content(file)?,
        })
    }

    /// Compares an item's files with their stamps. Files without stamps and files that cannot be
    /// read count as unchanged.
    pub(super) fn compare(stamps: &[FileStamp], media: &Media) -> Comparison {
        let of_grey = matches!(media, Media::Picture(Picture::Grey { .. }));
        let count = if of_grey { 1 } else { paths(media).len() };
        if stamps.is_empty() || count == 0 {
            return Comparison::Same;
        }
        if stamps.len() != count {
            return Comparison::Changed;
        }
        let is_as_stamped = |(stamp, path): (&FileStamp, &Path)| {
            std::fs::metadata(path).is_ok_and(|about| {
                stamp.bytes == about.len() && stamp.modified_ns == Some(modified_ns(&about))
            })
        };
        if !of_grey && stamps.iter().zip(paths(media)).all(is_as_stamped) {
            return Comparison::Same;
        }
        match FileStamp::read(media) {
            Err(_) => Comparison::Same,
            Ok(now) if now == stamps => Comparison::Same,
            Ok(now) => {
                let is_same =
                    |(a, b): (&FileStamp, &FileStamp)| (a.bytes, &a.sha256) == (b.bytes, &b.sha256);
                if now.iter().zip(stamps).all(is_same) {
                    Comparison::Touched(now)
                } else {
                    Comparison::Changed
                }
            }
        }
    }
}

/// The item's files, video before audio.
fn paths(media: &Media) -> Vec<&Path> {
    match media {
        Media::Recording(path) | Media::Picture(Picture::File(path)) => vec![path],
        Media::Separate { video, audio } => vec![video, audio],
        Media::Picture(Picture::Grey { .. }) | Media::None => vec![],
    }
}

/// Time of the last modification, in nanoseconds since 1970-01-01 UTC.
fn modified_ns(about: &Metadata) -> i64 {
    about
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(about.mtime_nsec())
}

/// The first 32 hexadecimal digits of the SHA-256 of the file's content.
fn content(file: File) -> io::Result<String> {
    let (mut file, mut hash) = (BufReader::new(file), Sha256::new());
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(digits(hash.finalize().as_slice())),
            count => hash.update(&piece[..count]),
        }
    }
}

/// The first 16 bytes of the hash in hexadecimal.
fn digits(hash: &[u8]) -> String {
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn changed_content_is_changed_and_a_new_time_alone_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let [video, audio] = ["v.mp4", "a.wav"].map(|name| folder.path().join(name));
        std::fs::write(&video, "picture").unwrap();
        std::fs::write(&audio, "sound").unwrap();
        let (whole, apart) = (
            Media::Recording(video.clone()),
            Media::Separate {
                video: video.clone(),
                audio: audio.clone(),
            },
        );
        let stamps = FileStamp::read(&apart).unwrap();
        assert_eq!(FileStamp::compare(&stamps, &apart), Comparison::Same);
        assert_eq!(
            FileStamp::compare(&stamps, &whole),
            Comparison::Changed,
            "its sound went"
        );
        let set_time = |path: &Path, seconds| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        set_time(&audio, 1_000_000);
        let Comparison::Touched(touched) = FileStamp::compare(&stamps, &apart) else {
            panic!()
        };
        assert_eq!(FileStamp::compare(&touched, &apart), Comparison::Same);
        // New content of the same length.
        std::fs::write(&audio, "SOUND").unwrap();
        set_time(&audio, 2_000_000);
        assert_eq!(FileStamp::compare(&touched, &apart), Comparison::Changed);
        std::fs::remove_file(&audio).unwrap();
        assert_eq!(FileStamp::compare(&touched, &apart), Comparison::Same);
        // A store of an earlier version has no stamps.
        assert_eq!(FileStamp::compare(&[], &apart), Comparison::Same);
    }

    #[test]
    fn pictures_of_a_table_are_compared_by_their_pixels() {
        let grey = |pixels: &[u8]| {
            Media::Picture(Picture::Grey {
                size: 2,
                pixels: pixels.to_vec(),
            })
        };
        let stamps = FileStamp::read(&grey(&[1, 2, 3, 4])).unwrap();
        let compare = |pixels| FileStamp::compare(&stamps, &grey(pixels));
        assert_eq!(compare(&[1, 2, 3, 4]), Comparison::Same);
        assert_eq!(compare(&[1, 2, 3, 5]), Comparison::Changed);
    }
}
