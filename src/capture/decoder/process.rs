//! The decoder process: decodes one recording after another for its parent.
//!
//! Decoders run C libraries on untrusted files. A crash of one ends only this process.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gstreamer::glib;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};

use super::gst::GstDecoder;
use super::memory::Writer;
use super::wire::{PictureHead, Refused, Report, Request, path_of, write_end, write_sound};
use super::{Decoder, DecoderEvents};
use crate::capture::decoded::{Closed, DecodedPicture, DecodedSound, Sink};
use crate::capture::track_sinks::TrackSinks;
use crate::capture::tracks::TrackChoice;
use crate::lane::{LaneReceiver, LaneSender, Received, WhenFull, lane};

/// The command that starts this program as a decoder process.
pub(super) const VERB: &str = "decoder-process";
/// Number of pictures that may be sent before the parent has taken them.
const MAX_AHEAD: usize = 2;
/// Requests that may be queued; the parent sends them one by one.
const REQUEST_CAPACITY: usize = 8;
/// How often the decoder of a playing recording is checked for failures.
const STEP: Duration = Duration::from_millis(50);

/// Whether this program calls [`decoder_process`] and can therefore be started as a decoder
/// process.
static IS_DECODER: AtomicBool = AtomicBool::new(false);

/// Whether recordings can be decoded in child processes of this program.
pub(super) fn is_available() -> bool {
    IS_DECODER.load(Ordering::Acquire)
}

/// Enables decoder processes: recordings are then decoded in child processes of this program. Must
/// be called at the beginning of `main`, before arguments are parsed and threads are started.
///
/// In a decoder process, the call decodes until the parent closes the connection, and returns the
/// exit code. In the program itself it returns `None` at once. A program that does not call it
/// decodes in its own process.
pub fn decoder_process() -> Option<ExitCode> {
    IS_DECODER.store(true, Ordering::Release);
    let is_decoder = std::env::args_os().nth(1).is_some_and(|verb| verb == VERB);
    is_decoder.then(|| match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(stdin) => serve(stdin.into()),
        Err(_) => ExitCode::FAILURE,
    })
}

/// Runs as a decoder process until the parent closes the socket `control`.
fn serve(control: UnixStream) -> ExitCode {
    if control.peer_addr().is_err() {
        eprintln!("`{VERB}` is internal: expressd starts it to decode recordings");
        return ExitCode::from(2);
    }
    ignore_signals();
    let Ok(reports) = control.try_clone() else {
        return ExitCode::FAILURE;
    };
    let reports = Reports(Arc::new(Mutex::new(reports)));
    let library_messages = reports.clone();
    glib::log_set_default_handler(move |domain, _, text| {
        library_messages.send(&Report::LibraryMessage(format!(
            "{}: {text}",
            domain.unwrap_or_default()
        )));
    });
    let (sender, requests) = lane("requests", REQUEST_CAPACITY, WhenFull::Block);
    let reading = std::thread::Builder::new()
        .name("requests".into())
        .spawn(move || {
            read_requests(&control, &sender);
            // The parent has closed the socket: this process ends, even while a decoder is busy.
            let _ = kill_process(getpid(), Signal::KILL);
        });
    if reading.is_err() {
        return ExitCode::FAILURE;
    }
    crate::capture::pipeline::init();
    while let Received::Item((request, files)) = requests.recv(None) {
        if let (Request::Open { path, choice }, Ok(files)) =
            (request, <[OwnedFd; 3]>::try_from(files))
        {
            play(&path_of(path), choice, files, &reports, &requests);
        }
    }
    ExitCode::SUCCESS
}

/// Ignores signals, because the parent ends this process, and disables core dumps.
fn ignore_signals() {
    let seen = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
        // With this signal ignored, a write beyond the file size limit returns an error to the
        // decoder.
        signal_hook::consts::SIGXFSZ,
    ] {
        let _ = signal_hook::flag::register(signal, seen.clone());
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
}

/// Sends reports to the parent, from any thread.
#[derive(Clone)]
struct Reports(Arc<Mutex<UnixStream>>);

impl Reports {
    /// Sends one report to the parent.
    fn send(&self, report: &Report) {
        let mut line = serde_json::to_vec(report).expect("reports are JSON");
        line.push(b'\n');
        // A failed write means that the parent has ended, which ends this process too.
        let _ = self.0.lock().expect("reports lock").write_all(&line);
    }
}

/// A request, and the file descriptors that were sent with it.
type RequestWithFiles = (Request, Vec<OwnedFd>);

/// Queues the requests from `control` until the parent closes its end.
fn read_requests(control: &UnixStream, requests: &LaneSender<RequestWithFiles>) {
    let (mut pending, mut files, mut bytes) = (Vec::new(), Vec::new(), [0u8; 4096]);
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            control,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        );
        let received = match received {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        if received == 0 {
            return;
        }
        pending.extend_from_slice(&bytes[..received]);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let Ok(request) = serde_json::from_slice(&line) else {
                return;
            };
            if requests
                .send((request, std::mem::take(&mut files)))
                .is_err()
            {
                return;
            }
        }
    }
}

/// Decodes one recording until the parent stops it. `files`: the sockets of the video and of the
/// audio track, and the shared memory for pictures.
fn play(
    path: &Path,
    choice: TrackChoice,
    files: [OwnedFd; 3],
    reports: &Reports,
    requests: &LaneReceiver<RequestWithFiles>,
) {
    let [video, audio, memory] = files;
    let Ok(memory) = Writer::new(memory) else {
        return;
    };
    let sinks = Arc::new(TrackSinks::<PictureSender, SoundSender>::default());
    *sinks.frames.lock().expect("sinks lock") = Some(PictureSender {
        socket: video.into(),
        memory,
        ahead: 0,
    });
    *sinks.sound.lock().expect("sinks lock") = Some(SoundSender(audio.into()));
    let (elements, log_lines, stamps) = (reports.clone(), reports.clone(), reports.clone());
    let events = DecoderEvents::new(
        move |name| elements.send(&Report::Element(name.to_owned())),
        move |text| log_lines.send(&Report::LogLine(text.to_owned())),
        move || stamps.send(&Report::ReplacedStamp),
    );
    let mut decoder = match GstDecoder::open(path, choice, &sinks, events) {
        Ok(decoder) => decoder,
        Err(error) => return reports.send(&Report::Refused(Refused::from_error(error))),
    };
    let tracks = sinks.tracks();
    reports.send(&Report::Opened {
        video: tracks.video.present,
        audio: tracks.audio.present,
        duration_nanos: decoder.duration().map(|duration| duration.nanos()),
        undecodable: decoder.undecodable().to_vec(),
    });
    let mut failed = false;
    loop {
        match requests.recv(Some(STEP)) {
            Received::Item((Request::Play, _)) => decoder.start(),
            Received::TimedOut => {}
            Received::Item((Request::Stop | Request::Open { .. }, _)) | Received::Ended => {
                break;
            }
        }
        if !failed && let Some(reason) = decoder.failure() {
            reports.send(&Report::Failed(reason.text()));
            failed = true;
        }
    }
    if !failed && let Some(reason) = decoder.failure() {
        reports.send(&Report::Failed(reason.text()));
    }
    decoder.stop();
    reports.send(&Report::Stopped);
}

/// Sends decoded pictures to the parent.
struct PictureSender {
    socket: UnixStream,
    memory: Writer,
    /// Number of pictures that were sent and that the parent has not taken yet.
    ahead: usize,
}

impl Sink<DecodedPicture> for PictureSender {
    fn deliver(&mut self, decoded: DecodedPicture) -> Result<(), Closed> {
        let mut taken = [0u8; 64];
        while self.ahead >= MAX_AHEAD {
            match self.socket.read(&mut taken) {
                Ok(count) if count > 0 => self.ahead = self.ahead.saturating_sub(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return Err(Closed),
            }
        }
        let picture = &decoded.picture;
        let slot = self.memory.write(picture.bytes()).map_err(|_| Closed)?;
        let head = PictureHead {
            running_nanos: decoded.running_nanos,
            duration_nanos: decoded.duration_nanos,
            slot,
            length: picture.bytes().len(),
            width: picture.width,
            height: picture.height,
            planes: picture.planes,
            colorimetry: picture.colorimetry,
        };
        head.write(&mut self.socket).map_err(|_| Closed)?;
        self.ahead += 1;
        Ok(())
    }

    fn close(&mut self) {
        let _ = write_end(&mut self.socket);
    }
}

/// Sends decoded sound to the parent.
struct SoundSender(UnixStream);

impl Sink<DecodedSound> for SoundSender {
    fn deliver(&mut self, decoded: DecodedSound) -> Result<(), Closed> {
        write_sound(&mut self.0, decoded.running_nanos, &decoded.samples).map_err(|_| Closed)
    }

    fn close(&mut self) {
        let _ = write_end(&mut self.0);
    }
}
