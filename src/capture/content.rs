//! Detection of media files by their first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use gstreamer as gst;

use super::container::photo;
use super::pipeline::init;

/// Number of bytes that are examined: as many as GStreamer's own type finding reads of most files.
const EXAMINED_BYTES: u64 = 1 << 16;
/// File name extensions of video and sound files.
const EXTENSIONS: [&str; 24] = [
    "aac", "aif", "aiff", "asf", "avi", "flac", "flv", "m2ts", "m4a", "m4v", "mka", "mkv", "mov",
    "mp3", "mp4", "mpeg", "mpg", "mts", "oga", "ogg", "ogv", "ts", "wav", "webm",
];

/// Whether the file holds moving pictures or sound. `false` for photos, for a camera's thumbnails
/// and for files that cannot be read.
pub fn is_recording(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(EXAMINED_BYTES).read_to_end(&mut head));
    if read.is_err() || photo(&head).is_some() {
        return false;
    }
    init();
    let (probability, caps) = gst::SliceTypeFind::type_find(head);
    let name = caps
        .as_ref()
        .and_then(|caps| caps.structure(0))
        .map(|found| found.name().as_str());
    probability >= gst::TypeFindProbability::Likely && name.is_some_and(|name| is_media(name, path))
}

/// Whether the media type `name`, detected in the file at `path`, is one of moving pictures or
/// sound.
fn is_media(name: &str, path: &Path) -> bool {
    let with_sound_or_pictures = [
        "application/ogg",
        "application/mxf",
        "application/x-ape",
        "application/vnd.rn-realmedia",
        "application/x-mplayer",
        "image/gif",
    ];
    name.starts_with("video/")
        || name.starts_with("audio/")
        || with_sound_or_pictures.contains(&name)
        // A motion-JPEG dump begins like a photo and is detected by its extension.
        || name == "image/jpeg" && ["mjpeg", "mjpg"].contains(&&*extension(path))
}

/// Whether the file name has the extension of a video or sound file.
pub fn is_named_as_recording(path: &Path) -> bool {
    EXTENSIONS.contains(&&*extension(path))
}

/// The extension of the file name in lower case; empty if there is none.
fn extension(path: &Path) -> String {
    let extension = path.extension().unwrap_or_default();
    extension.to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_detected_by_content_and_not_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let detected = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            is_recording(&path)
        };
        let demo = std::fs::read(crate::testing::project("config/demo/demo.mp4")).unwrap();
        assert!(detected("GOPR0001.LRV", &demo));
        assert!(detected(
            "session",
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0"
        ));
        assert!(!detected(
            "pointer.flv",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        ));
        assert!(!detected("empty.mp4", b""));
        assert!(!detected("one.mp4", b"x"));
        assert!(!detected(
            "photo.heic",
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
        ));
        assert!(!detected(
            "thumbnail.thm",
            &[
                0xff, 0xd8, 0xff, 0xe0, 0, 0x10, b'J', b'F', b'I', b'F', 0, 1, 1
            ]
        ));
        assert!(!detected("sheet.xlsx", b"PK\x03\x04\x14\0\0\0\x08\0"));
        assert!(!detected("events.jsonl", b"{\"type\":\"subject\"}\n"));
        assert!(
            is_named_as_recording(Path::new("a.FLV")) && !is_named_as_recording(Path::new("a.csv"))
        );
    }
}
