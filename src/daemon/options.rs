//! Command-line options of `expressd run`.

use std::path::PathBuf;

/// The command-line options of `expressd run` that are not configuration keys.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// A recording to play as if live, in place of camera and microphone.
    pub replay: Option<PathBuf>,
    /// Whether the recording `replay` starts again at its end.
    pub looped: bool,
    /// Whether to play the demonstration recording if there is neither camera nor microphone. If
    /// false, the daemon waits for them.
    pub demonstration: bool,
}
