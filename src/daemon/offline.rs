//! `expressd replay`: the same stages offline, as fast as the machine allows, blocking instead of dropping.

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
use crate::runtime::{Assembly, Emit, Found, Losses, Pipeline};
use crate::session::{Streams, Tempo};
use crate::time::{Clock, SystemClock};

/// Where the offline form goes. A disk that is full is said once, at the end; the recording is played on all the same.
pub struct Lines {
    out: JsonLines<Box<dyn Write + Send>>,
    failed: Option<std::io::Error>,
}

impl Lines {
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Lines {
            out: JsonLines::new(out),
            failed: None,
        }
    }

    /// The lines that follow belong to this recording: `seq` begins anew.
    pub fn begin(&mut self, recording: Option<String>) {
        self.out.begin(recording);
    }

    /// A recording plays: what an earlier run left in the file goes, also where no event comes.
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

    /// The first failure to write, if there was one.
    pub fn take_failure(&mut self) -> Option<std::io::Error> {
        self.failed.take()
    }
}

/// A recording and its stages, opened and not yet playing.
pub struct Prepared {
    recording: Recording,
    assembly: Assembly,
}

/// Opens recording, bundle and stages.
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
    /// Plays the recording through every stage. The events of what was there are written also where it ends in an error.
    pub fn play(self, realtime: bool, lines: &Arc<Mutex<Lines>>) -> Result<Played, DaemonError> {
        self.play_and_count(realtime, lines).0
    }

    /// The same, with what was found.
    fn play_and_count(
        self,
        realtime: bool,
        lines: &Arc<Mutex<Lines>>,
    ) -> (Result<Played, DaemonError>, Found) {
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
            Losses::never(),
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
        let counts = pipeline.found();
        let played = match pipeline.join() {
            Some(failure) => Err(DaemonError::from(failure)),
            None => played.map_err(DaemonError::from),
        };
        let mut found = counts.get();
        found.events = events.load(Ordering::Relaxed);
        (played, found)
    }
}

/// Opens and plays one recording; says on standard error what was played and found.
pub fn replay(
    config: &Config,
    file: &Path,
    realtime: bool,
    lines: &Arc<Mutex<Lines>>,
) -> Result<Played, DaemonError> {
    let prepared = prepare(config, &Runtime::load()?, file)?;
    let (played, found) = prepared.play_and_count(realtime, lines);
    let name = file.file_name().unwrap_or(file.as_os_str());
    eprintln!("expressd: {}: {found}", name.to_string_lossy());
    played
}
