//! The sources of frames and sound of a running daemon: camera and microphone, or a recording that
//! is played at live pace. They can be closed and opened again while the session continues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::DaemonError;
use super::sources::Choice;
use crate::capture::{
    CaptureError, LiveCapture, Outputs, Pace, Recording, SourceHealth, TrackChoice, open_live_with,
};
use crate::runtime::{PanicReport, StageError, StageFailure, catch};
use crate::time::SystemClock;

/// The sources of a running daemon, open or closed.
pub struct LiveSources {
    choice: Choice,
    tracks: TrackChoice,
    clock: Arc<SystemClock>,
    health: Arc<SourceHealth>,
    /// The sending ends of the capture lanes, which keep the lanes open while the sources are
    /// closed. `None` once a recording has ended.
    outputs: Option<Outputs>,
    /// The open sources; `None` while capture is paused.
    open: Option<Open>,
}

/// Open sources.
enum Open {
    /// Camera, microphone or both.
    Devices(LiveCapture),
    /// A recording that a thread plays.
    Recording {
        /// Tells the thread to stop.
        stop: Arc<AtomicBool>,
        thread: JoinHandle<Result<Result<(), CaptureError>, PanicReport>>,
    },
}

impl LiveSources {
    /// Opens the sources of `choice`, which send frames and sound into the lanes `outputs`.
    ///
    /// # Errors
    /// A source cannot be opened.
    pub fn open(
        choice: Choice,
        tracks: TrackChoice,
        clock: Arc<SystemClock>,
        health: Arc<SourceHealth>,
        outputs: Outputs,
    ) -> Result<LiveSources, DaemonError> {
        let mut sources = LiveSources {
            choice,
            tracks,
            clock,
            health,
            outputs: Some(outputs),
            open: None,
        };
        sources.resume()?;
        Ok(sources)
    }

    /// Closes the sources, while the lanes stay open. Waits for the threads of the sources, at most
    /// a second.
    pub fn pause(&mut self) {
        let over = |open: &Open| match open {
            Open::Devices(_) => false,
            Open::Recording { thread, .. } => thread.is_finished(),
        };
        // The result of an ended recording is returned by `finish`.
        match self.open.take_if(|open| !over(open)) {
            None => return,
            Some(Open::Devices(capture)) => capture.stop(),
            Some(Open::Recording { stop, thread }) => {
                stop.store(true, Ordering::Release);
                let _ = thread.join();
            }
        }
        let streams = self.choice.streams();
        self.health.pause(streams.video, streams.audio);
    }

    /// Opens the sources if they are closed. A recording starts again from its beginning.
    ///
    /// # Errors
    /// A source cannot be opened.
    pub fn resume(&mut self) -> Result<(), DaemonError> {
        let (None, Some(outputs)) = (&self.open, self.outputs.clone()) else {
            return Ok(());
        };
        let (clock, health) = (self.clock.clone(), self.health.clone());
        self.open = Some(match &self.choice {
            Choice::Devices { video, audio, .. } => Open::Devices(open_live_with(
                video,
                audio,
                self.tracks,
                clock,
                outputs,
                health,
            )?),
            Choice::Recording { file, looped, .. } => {
                let recording = Recording::open_with(file, self.tracks)?;
                let stop = Arc::new(AtomicBool::new(false));
                let (pace, stopped) = (
                    Pace::Live {
                        clock,
                        looped: *looped,
                    },
                    stop.clone(),
                );
                let play =
                    move || catch(|| recording.play(pace, outputs, health, stopped).map(|_| ()));
                let thread = std::thread::Builder::new().name("recording".into());
                let thread = thread.spawn(play).expect("the system gives threads");
                Open::Recording { stop, thread }
            }
        });
        Ok(())
    }

    /// Closes the lanes once a recording has ended, so that the session ends.
    pub fn end_with_recording(&mut self) {
        if let Some(Open::Recording { thread, .. }) = &self.open
            && thread.is_finished()
        {
            self.outputs = None;
        }
    }

    /// Closes the sources and the lanes.
    ///
    /// # Errors
    /// The recording could not be played to its end.
    pub fn finish(mut self) -> Result<(), DaemonError> {
        self.outputs = None;
        match self.open.take() {
            None => Ok(()),
            Some(Open::Devices(capture)) => {
                capture.stop();
                Ok(())
            }
            Some(Open::Recording { stop, thread }) => {
                stop.store(true, Ordering::Release);
                match thread.join().expect("panics are caught there") {
                    Ok(result) => Ok(result?),
                    Err(panic) => {
                        let error = StageError::Panicked(panic);
                        Err(StageFailure::new("recording", error).into())
                    }
                }
            }
        }
    }
}
