//! Decoding in a child process. This process receives pictures, sound and the reason of an early
//! end.

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::cost;
use super::memory::Reader;
use super::process::VERB;
use super::wire::{PictureHead, Report, Request, read_sound};
use super::{Decoder, Failure, Undecodable, log_note};
use crate::capture::decoded::{DecodedPicture, DecodedSound, Kind};
use crate::capture::error::CaptureError;
use crate::capture::track_sinks::TrackSinks;
use crate::capture::tracks::TrackChoice;
use crate::clip::Picture;
use crate::lane::{LaneReceiver, Received, WhenFull, lane};
use crate::time::MediaTime;

/// Time limit for a decoder process to open a recording. Unless the process hangs, it gives up
/// earlier by itself.
const OPENING: Duration = Duration::from_secs(45);
/// Time limit for a decoder process to close a recording, and to end.
const CLOSING: Duration = Duration::from_secs(2);
/// Number of reports that may be queued before the decoder process blocks.
const REPORT_CAPACITY: usize = 256;
/// Largest number of idle processes that are kept for the next recordings.
const MAX_IDLE: usize = 8;
/// Part of the message that GStreamer logs for a decoder output of unknown pixel format.
const UNNAMED_FORMAT: &str = "format != GST_VIDEO_FORMAT_UNKNOWN";

/// A decoder process with its control socket and the queue of its reports.
#[derive(Debug)]
struct Process {
    child: Child,
    control: UnixStream,
    reports: LaneReceiver<Report>,
}

/// Idle decoder processes, ready for a recording.
static IDLE_PROCESSES: Mutex<Vec<Process>> = Mutex::new(Vec::new());

impl Process {
    /// Starts a decoder process without a recording, and the thread that queues its reports.
    fn start() -> io::Result<Process> {
        let (control, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0(std::env::args_os().next().unwrap_or_default())
            .arg(VERB)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // The child is in a process group of its own: an interrupt from the terminal reaches
            // only the parent.
            .process_group(0)
            .spawn()?;
        cost::register(child.id());
        let (sender, reports) = lane("decoder reports", REPORT_CAPACITY, WhenFull::Block);
        let lines = BufReader::new(control.try_clone()?);
        std::thread::Builder::new()
            .name("decoder reports".into())
            .spawn(move || {
                for line in lines.lines().map_while(Result::ok) {
                    let Ok(report) = serde_json::from_str(&line) else {
                        return;
                    };
                    if sender.send(report).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Process {
            child,
            control,
            reports,
        })
    }

    /// Sends a request that carries no descriptors.
    fn request(&mut self, request: &Request) -> io::Result<()> {
        self.control.write_all(&line(request))
    }

    /// Sends the request to open a recording. `files`: the sockets of the video and of the audio
    /// track, and the shared memory for pictures.
    fn open(
        &mut self,
        path: &Path,
        choice: TrackChoice,
        files: [BorrowedFd<'_>; 3],
    ) -> io::Result<()> {
        let path = path.as_os_str().as_bytes().to_vec();
        let line = line(&Request::Open { path, choice });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        let sent = sendmsg(
            &self.control,
            &[IoSlice::new(&line)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        self.control.write_all(&line[sent..])
    }

    /// Waits for the process to end, at most [`CLOSING`]; `None` after this limit.
    fn wait(&mut self) -> Option<ExitStatus> {
        let mut left = CLOSING;
        let step = Duration::from_millis(5);
        while !left.is_zero() {
            if let Ok(Some(status)) = self.child.try_wait() {
                cost::unregister(self.child.id());
                return Some(status);
            }
            std::thread::sleep(step);
            left -= step;
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        cost::unregister(self.child.id());
        let _ = self.child.wait();
    }
}

/// The request as a line of JSON.
fn line(request: &Request) -> Vec<u8> {
    let mut line = serde_json::to_vec(request).expect("requests are JSON");
    line.push(b'\n');
    line
}

/// A recording in a decoder process.
#[derive(Debug)]
pub(super) struct ChildDecoder {
    path: PathBuf,
    sinks: Arc<TrackSinks>,
    process: Option<Process>,
    /// Sockets of the video and the audio track. Their shutdown ends the reading threads.
    sockets: [UnixStream; 2],
    /// Shared memory of the pictures; `None` once their thread has it.
    memory: Option<Reader>,
    threads: Vec<JoinHandle<()>>,
    duration: Option<MediaTime>,
    undecodable: Vec<Undecodable>,
    /// Names of the decoder elements that the process uses.
    elements: Vec<String>,
    /// Whether the process has logged [`UNNAMED_FORMAT`].
    has_unnamed_format: bool,
    failure: Option<Failure>,
}

/// Opens `path` in an idle decoder process, or in a new one if none is idle.
pub(super) fn open(
    path: &Path,
    choice: TrackChoice,
    sinks: &Arc<TrackSinks>,
) -> Result<ChildDecoder, CaptureError> {
    let waiting = IDLE_PROCESSES.lock().expect("processes lock").pop();
    // An idle process may have been killed meanwhile.
    match waiting.map(|process| attempt(process, path, choice, sinks)) {
        Some(Ok(opened)) => opened,
        Some(Err(_)) | None => {
            let opened = Process::start().and_then(|process| attempt(process, path, choice, sinks));
            opened.unwrap_or_else(|error| {
                Err(CaptureError::Undecodable {
                    path: path.to_owned(),
                    reason: format!("the decoder process could not be started ({error})"),
                })
            })
        }
    }
}

/// Opens `path` in `process`. The inner error is the fault of the recording.
///
/// # Errors
/// The outer error: communication with the process failed.
fn attempt(
    mut process: Process,
    path: &Path,
    choice: TrackChoice,
    sinks: &Arc<TrackSinks>,
) -> io::Result<Result<ChildDecoder, CaptureError>> {
    let path = path.to_owned();
    let ((video, their_video), (audio, their_audio)) = (UnixStream::pair()?, UnixStream::pair()?);
    let memory = Reader::new()?;
    process.open(
        &path,
        choice,
        [their_video.as_fd(), their_audio.as_fd(), memory.memory()],
    )?;
    let decoder = ChildDecoder {
        path: path.clone(),
        sinks: sinks.clone(),
        process: Some(process),
        sockets: [video, audio],
        memory: Some(memory),
        threads: Vec::new(),
        duration: None,
        undecodable: Vec::new(),
        elements: Vec::new(),
        has_unnamed_format: false,
        failure: None,
    };
    Ok(decoder.wait_until_open(path))
}

impl ChildDecoder {
    /// Waits until the recording is opened.
    fn wait_until_open(mut self, path: PathBuf) -> Result<ChildDecoder, CaptureError> {
        let process = self.process.as_ref().expect("not stopped");
        loop {
            match process.reports.recv(Some(OPENING)) {
                Received::Item(Report::Opened {
                    video,
                    audio,
                    duration_nanos,
                    undecodable,
                }) => {
                    self.undecodable = undecodable;
                    self.duration = duration_nanos.map(MediaTime::from_nanos);
                    for (kind, present) in [(Kind::Video, video), (Kind::Audio, audio)] {
                        if present {
                            self.sinks.begin(kind);
                        }
                    }
                    return Ok(self);
                }
                Received::Item(Report::Refused(_)) if self.has_unnamed_format => {
                    let reason = self.unnamed_format();
                    return Err(CaptureError::Undecodable { path, reason });
                }
                Received::Item(Report::Refused(refused)) => return Err(refused.error(path)),
                Received::Item(Report::Element(name)) => self.elements.push(name),
                Received::Item(Report::LogLine(text)) => {
                    log_note(&self.path.display().to_string(), &text)
                }
                Received::Item(Report::LibraryMessage(text)) => {
                    self.has_unnamed_format |= text.contains(UNNAMED_FORMAT);
                }
                Received::Item(Report::ReplacedStamp) => self.sinks.count_replaced_stamp(),
                Received::Item(Report::Failed(_) | Report::Stopped) => {}
                Received::TimedOut => {
                    let reason = format!("nothing could be decoded in {} s", OPENING.as_secs());
                    return Err(CaptureError::Unreadable { path, reason });
                }
                Received::Ended => {
                    let reason = self.exit_reason();
                    return Err(CaptureError::Undecodable { path, reason });
                }
            }
        }
    }

    /// Text for a decoder whose output has a pixel format that GStreamer does not know.
    fn unnamed_format(&self) -> String {
        format!(
            "{} outputs a pixel format that GStreamer does not know",
            self.element()
        )
    }

    /// The names of the decoder elements as a subject for messages.
    fn element(&self) -> String {
        if self.elements.is_empty() {
            "its decoder".to_owned()
        } else {
            format!("its decoder ({})", self.elements.join(" or "))
        }
    }

    /// The reason why the process has ended, as text.
    fn exit_reason(&mut self) -> String {
        let status = self.process.as_mut().and_then(Process::wait);
        self.process = None;
        let how = match status.map(|status| (status.signal(), status)) {
            Some((Some(signal), _)) => format!("crashed ({})", signal_name(signal)),
            Some((None, status)) => format!("ended ({status})"),
            None => "does not answer".to_owned(),
        };
        if self.has_unnamed_format {
            format!("{} and {how}", self.unnamed_format())
        } else {
            format!("{} {how}", self.element())
        }
    }

    /// Handles reports: until [`Report::Stopped`] if `until_stopped`, otherwise only queued ones.
    /// Returns whether the process has reported [`Report::Stopped`].
    fn take_reports(&mut self, until_stopped: bool) -> bool {
        while let Some(process) = &self.process {
            let limit = if until_stopped {
                CLOSING
            } else {
                Duration::ZERO
            };
            match process.reports.recv(Some(limit)) {
                Received::Item(Report::Failed(reason)) => {
                    self.failure.get_or_insert(Failure::Stream(reason));
                }
                Received::Item(Report::Element(name)) => self.elements.push(name),
                Received::Item(Report::LogLine(text)) => {
                    log_note(&self.path.display().to_string(), &text)
                }
                Received::Item(Report::LibraryMessage(text)) => {
                    tracing::debug!("decoder: {text}");
                    self.has_unnamed_format |= text.contains(UNNAMED_FORMAT);
                }
                Received::Item(Report::ReplacedStamp) => self.sinks.count_replaced_stamp(),
                Received::Item(Report::Stopped) => return true,
                Received::Item(Report::Opened { .. } | Report::Refused(_)) => {}
                Received::TimedOut => return false,
                Received::Ended => {
                    let reason = self.exit_reason();
                    self.failure = Some(Failure::Crash(reason));
                }
            }
        }
        false
    }
}

impl Decoder for ChildDecoder {
    fn duration(&self) -> Option<MediaTime> {
        self.duration
    }

    fn undecodable(&self) -> &[Undecodable] {
        &self.undecodable
    }

    fn start(&mut self) {
        if let Some(process) = &mut self.process {
            // If the process has ended, its sockets show that.
            let _ = process.request(&Request::Play);
        }
        let [video, audio] = &self.sockets;
        let memory = self.memory.take().expect("started once");
        let picture_thread = video.try_clone().and_then(|socket| {
            let sinks = self.sinks.clone();
            spawn("pictures", move || take_pictures(socket, memory, &sinks))
        });
        let sound_thread = audio.try_clone().and_then(|socket| {
            let sinks = self.sinks.clone();
            spawn("sound", move || take_sound(socket, &sinks))
        });
        for thread in [picture_thread, sound_thread] {
            match thread {
                Ok(thread) => self.threads.push(thread),
                Err(error) => self.failure = Some(Failure::Stream(error.to_string())),
            }
        }
    }

    fn failure(&mut self) -> Option<Failure> {
        self.take_reports(false);
        self.failure.clone()
    }

    fn stop(&mut self) -> Option<Failure> {
        for socket in &self.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(process) = &mut self.process {
            let _ = process.request(&Request::Stop);
        }
        let stopped = self.take_reports(true);
        if let Some(process) = self.process.take()
            && stopped
            && self.failure.is_none()
        {
            let mut waiting = IDLE_PROCESSES.lock().expect("processes lock");
            if waiting.len() < MAX_IDLE {
                waiting.push(process);
            }
        }
        self.failure.clone()
    }
}

impl Drop for ChildDecoder {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
    }
}

/// Starts a thread with this name.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}

/// Reads pictures of the process and delivers them, until the track or the process ends.
fn take_pictures(mut socket: UnixStream, mut memory: Reader, sinks: &TrackSinks) {
    while let Ok(Some(head)) = PictureHead::read(&mut socket) {
        sinks.begin(Kind::Video);
        let Ok(taken) = memory.take(head.slot, head.length) else {
            break;
        };
        let picture = Picture::new(
            head.width,
            head.height,
            head.planes,
            head.colorimetry,
            Box::new(taken),
        );
        let decoded = DecodedPicture {
            running_nanos: head.running_nanos,
            duration_nanos: head.duration_nanos,
            picture,
        };
        if sinks.picture(decoded).is_err() {
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
        // Frees the sender; if the process has ended, the next read fails.
        let _ = socket.write_all(&[1]);
    }
    sinks.ended(Kind::Video);
}

/// Reads sound of the process and delivers it, until the track or the process ends.
fn take_sound(mut socket: UnixStream, sinks: &TrackSinks) {
    while let Ok(Some((running_nanos, samples))) = read_sound(&mut socket) {
        sinks.begin(Kind::Audio);
        let decoded = DecodedSound {
            running_nanos,
            samples,
        };
        if sinks.sound(decoded).is_err() {
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
    }
    sinks.ended(Kind::Audio);
}

/// The name of a signal, as a text for messages.
fn signal_name(signal: i32) -> String {
    use rustix::process::Signal;
    let known = [
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::SYS, "SIGSYS"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::KILL, "SIGKILL"),
    ];
    known
        .iter()
        .find(|(known, _)| known.as_raw() == signal)
        .map_or_else(
            || format!("signal {signal}"),
            |(_, name)| (*name).to_owned(),
        )
}
