//! `expressd replay`: runs the daemon's stages on a recording. Full lanes block instead of
//! dropping, so that the output is the same each time.

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

/// The JSON Lines output of a replay. After a write error nothing more is written, but the
/// recording is played to its end; then the error is reported.
pub struct Lines {
    out: JsonLines<Box<dyn Write + Send>>,
    /// The first write error.
    failed: Option<std::io::Error>,
}

impl Lines {
    /// Writes the events as JSON lines to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Lines {
            out: JsonLines::new(out),
            failed: None,
        }
    }

    /// Starts the next recording: `seq` starts again at 1. Each of its lines begins with the field
    /// `recording`, if a name is given.
    pub fn begin(&mut self, recording: Option<String>) {
        self.out.begin(recording);
    }

    /// Removes the old content of the output file before the first event, even if no event follows.
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

/// An opened recording with the opened stages that will process it.
pub struct Prepared {
    recording: Recording,
    assembly: Assembly,
}

/// Opens the recording `file`, the bundle and the stages.
///
/// # Errors
/// The recording, the bundle or a stage cannot be opened.
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
    /// Processes the recording and writes its events to `lines`: in real time with `realtime`, else
    /// at full speed.
    ///
    /// # Errors
    /// The recording or a stage fails. The events before the failure are written.
    pub fn play(self, realtime: bool, lines: &Arc<Mutex<Lines>>) -> Result<Played, DaemonError> {
        self.play_and_count(realtime, lines).0
    }

    /// Does the work of [`Prepared::play`], and also returns the counts for the summary line.
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

/// Opens the recording `file`, processes it and writes its events to `lines`: in real time with
/// `realtime`, else at full speed. Prints a summary to standard error.
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
