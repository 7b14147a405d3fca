//! Options of `expressd run`.

use std::path::PathBuf;

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Play this recording as if live, instead of camera and microphone.
    pub replay: Option<PathBuf>,
    /// Begin it again at its end.
    pub looped: bool,
    /// Where there is neither camera nor microphone, play the demonstration instead of waiting for
    /// them.
    pub demonstration: bool,
}
