//! Options of `expressd run`.

use std::path::PathBuf;

/// Command-line options of `run` that are not configuration keys.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Play this recording as if live, instead of camera and microphone.
    pub replay: Option<PathBuf>,
    /// Repeat the recording at its end.
    pub looped: bool,
    /// Without camera and microphone, play the demonstration instead of waiting for them.
    pub demonstration: bool,
}
