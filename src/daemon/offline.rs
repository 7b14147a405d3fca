//! `expressd replay`: the same stages offline, at full speed, blocking instead of dropping.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::DaemonError;
use super::assembly::{assemble, open_bundle};
use super::sources::track_choice;
use crate::capture::{Pace, Played, Recording, SourceHealth};
use crate::config::Config;
use crate::encode::Runtime;
use crate::event::Event;
use crate::hub::JsonLines;
use crate::notify::Progress;
use crate::runtime::{Assembly, Emit, Losses, Pipeline, ReplayCounts};
use crate::session::{Streams, Tempo};
use crate::time::{Clock, SystemClock};

/// The output of a replay. A write error is reported once, at the end; the recording is still
/// played to its end.
pub struct Lines {
    out: JsonLines<Box<dyn Write + Send>>,
    failed: Option<std::io::Error>,
}

impl Lines {
    /// An output that writes lines to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Lines {
            out: JsonLines::new(out),
            failed: None,
        }
    }

    /// Starts a recording: `seq` starts again at 1.
    pub fn begin(&mut self, recording: Option<String>) {
        self.out.begin(recording);
    }

    /// Takes the file over when a recording starts: removes its old content, even if no event
    /// follows.
    fn start(&mut self) {
        if self.failed.is_none() {
            self.failed = self.out.start().err();
        }
    }

    fn write(&mut self, event: &Event) {
        if self.failed.is_none() {
            self.failed = self.out.write(event).err();
        }
    }

    /// The first write error.
    pub fn take_failure(&mut self) -> Option<std::io::Error> {
        self.failed.take()
    }
}

/// A recording and its stages, opened but not yet playing.
pub struct Prepared {
    recording: Recording,
    assembly: Assembly,
}

/// Opens recording, bundle and stages.
///
/// # Errors
/// One of them cannot be opened.
pub fn prepare(config: &Config, runtime: &Runtime, file: &Path) -> Result<Prepared, DaemonError> {
    let mut recording = Recording::open_with(file, track_choice(config)?)?;
    recording.require(true, true);
    let streams = Streams {
        video: recording.has_video(),
        audio: recording.has_audio(),
    };
    let assembly = assemble(
        config,
        runtime,
        open_bundle(config, runtime)?,
        streams,
        Tempo::Replay,
    )?;
    Ok(Prepared {
        recording,
        assembly,
    })
}

impl Prepared {
    /// Plays the recording through every stage, at its own pace if `realtime`.
    ///
    /// # Errors
    /// The recording or a stage fails. The events up to there are written.
    pub fn play(self, realtime: bool, lines: &Arc<Mutex<Lines>>) -> Result<Played, DaemonError> {
        self.play_and_count(realtime, lines).0
    }

    /// As [`Prepared::play`], with counts of the recording.
    fn play_and_count(
        self,
        realtime: bool,
        lines: &Arc<Mutex<Lines>>,
    ) -> (Result<Played, DaemonError>, ReplayCounts) {
        let Prepared {
            recording,
            mut assembly,
        } = self;
        let written = lines.clone();
        lines.lock().expect("lines lock").start();
        let events = Arc::new(AtomicU64::new(0));
        let counted = events.clone();
        let emit: Emit = Box::new(move |event, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            written.lock().expect("lines lock").write(&event);
        });
        let clock = Arc::new(SystemClock::new());
        let mut progress = Progress::new(Duration::MAX, clock.now());
        let outputs = std::mem::take(&mut assembly.lanes.outputs);
        let pipeline = Pipeline::spawn(
            assembly,
            Tempo::Replay,
            clock,
            Losses::never_lost(),
            &mut progress,
            emit,
        );
        let pace = if realtime {
            Pace::Realtime
        } else {
            Pace::Offline
        };
        let played = recording.play(
            pace,
            outputs,
            Arc::new(SourceHealth::default()),
            Arc::new(AtomicBool::new(false)),
        );
        let shared = pipeline.counts();
        let played = match pipeline.join() {
            Some(failure) => Err(DaemonError::from(failure)),
            None => played.map_err(DaemonError::from),
        };
        let mut counts = shared.get();
        counts.events = events.load(Ordering::Relaxed);
        (played, counts)
    }
}

/// Opens and plays one recording. Prints a summary on standard error.
///
/// # Errors
/// The recording, the bundle or a stage fails.
pub fn replay(
    config: &Config,
    file: &Path,
    realtime: bool,
    lines: &Arc<Mutex<Lines>>,
) -> Result<Played, DaemonError> {
    let prepared = prepare(config, &Runtime::load()?, file)?;
    let (played, counts) = prepared.play_and_count(realtime, lines);
    let name = file.file_name().unwrap_or(file.as_os_str());
    eprintln!("expressd: {}: {counts}", name.to_string_lossy());
    played
}
