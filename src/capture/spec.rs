//! The sources of the configuration, and the detection of local files among them.

use std::path::PathBuf;

pub use crate::address::{AudioSpec, UnknownAudio, UnknownVideo, VideoSpec};

/// The path of a local file in a `uri:` value, which is a bare path or a `file:` address. `None`
/// for network addresses.
pub(super) fn local_file(uri: &str) -> Option<PathBuf> {
    if uri.starts_with("file:") {
        return gstreamer::glib::filename_from_uri(uri)
            .ok()
            .map(|(path, _)| path);
    }
    match uri.split_once("://") {
        Some((scheme, _))
            if scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            None
        }
        _ => Some(PathBuf::from(uri)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_files_are_distinguished_from_addresses() {
        assert_eq!(local_file("a/b.mp4"), Some("a/b.mp4".into()));
        assert_eq!(local_file("file:///a%20b.mp4"), Some("/a b.mp4".into()));
        assert_eq!(local_file("rtsp://10.0.0.2/x"), None);
        assert_eq!(local_file("https://host/x.mp4"), None);
    }
}
