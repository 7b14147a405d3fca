//! Tests of cameras over HTTP (unusual framing, refusals, transport streams), and of a still
//! picture as a source.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use expressd::time::Clock;

use crate::harness::{Daemon, eventually};
use crate::live_source::{FIRST_FRAME, LiveSource, encoded, jpeg};

/// A web server on its own thread. Its function `answer` gets each connection after the request was
/// read, and the number of earlier connections.
struct WebServer {
    port: u16,
    /// Number of connections so far.
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    fn start(
        answer: impl Fn(&mut TcpStream, usize) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, stopped, answer) = (requests.clone(), stop.clone(), Arc::new(answer));
        let serve = move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let before = counted.fetch_add(1, Ordering::Relaxed);
                let answer = answer.clone();
                let serve = move || {
                    stream.set_nonblocking(false).unwrap();
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = answer(&mut stream, before);
                };
                let thread = std::thread::Builder::new().name("connection".into());
                thread.spawn(serve).unwrap();
            }
        };
        let thread = std::thread::Builder::new().name("web server".into());
        WebServer {
            port,
            requests,
            stop,
            thread: Some(thread.spawn(serve).unwrap()),
        }
    }

    /// The server's stream as a value of `video.source`.
    fn uri(&self) -> String {
        format!("uri:http://127.0.0.1:{}/stream", self.port)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A variant of the multipart framing of a motion JPEG stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    BoundaryFirst,
    /// The stream begins with the headers of the first part, without a boundary.
    BoundaryAfter,
    NoLength,
    Chunked,
    /// The boundary in the header includes the two dashes that precede it in the body.
    DashesInHeader,
}

/// Sends `count` JPEG pictures as motion JPEG at 25 Hz; `picture` returns the picture with an
/// index.
fn motion_jpeg(
    stream: &mut TcpStream,
    framing: Framing,
    count: usize,
    picture: impl Fn(usize) -> Vec<u8>,
) -> std::io::Result<()> {
    let dashes = if framing == Framing::DashesInHeader {
        "--"
    } else {
        ""
    };
    let coding = if framing == Framing::Chunked {
        "Transfer-Encoding: chunked\r\n"
    } else {
        ""
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; \
         boundary={dashes}frame77\r\n{coding}\r\n"
    )?;
    let out = |stream: &mut TcpStream, bytes: &[u8]| {
        if framing == Framing::Chunked {
            write!(stream, "{:x}\r\n", bytes.len())?;
            stream.write_all(bytes)?;
            stream.write_all(b"\r\n")
        } else {
            stream.write_all(bytes)
        }
    };
    if framing != Framing::BoundaryAfter {
        out(stream, b"--frame77\r\n")?;
    }
    for index in 0..count {
        let bytes = picture(index);
        let length = if framing == Framing::NoLength {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", bytes.len())
        };
        out(
            stream,
            format!("Content-Type: image/jpeg\r\n{length}\r\n").as_bytes(),
        )?;
        out(stream, &bytes)?;
        out(stream, b"\r\n--frame77\r\n")?;
        std::thread::sleep(Duration::from_millis(40));
    }
    Ok(())
}

#[test]
fn motion_jpeg_over_http_is_decoded_with_every_framing() {
    for framing in [
        Framing::BoundaryFirst,
        Framing::BoundaryAfter,
        Framing::NoLength,
        Framing::Chunked,
        Framing::DashesInHeader,
    ] {
        let picture = jpeg(320, 240);
        let web = WebServer::start(move |stream, _| {
            motion_jpeg(stream, framing, usize::MAX, |_| picture.clone())
        });
        let source = LiveSource::open(&web.uri(), "none");
        let took = source.wait_for_frames(1, FIRST_FRAME);
        source.wait_for_frames(30, FIRST_FRAME);
        println!("{framing:?}: first picture after {took:?}");
        // Frames are stamped at arrival, because the stream has no timestamps.
        eventually("a fresh picture", FIRST_FRAME, || {
            let newest = source.pictures().last().unwrap().0;
            source.clock.now().millis_since(newest) < 500.0
        });
        assert!(source.pictures().is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(
            (source.losses(), source.reconnects()),
            (0, 0),
            "{framing:?}"
        );
    }
}

#[test]
fn frames_of_changing_size_are_delivered() {
    let sizes = [jpeg(320, 240), jpeg(640, 480)];
    let web = WebServer::start(move |stream, _| {
        motion_jpeg(stream, Framing::BoundaryFirst, usize::MAX, |index| {
            sizes[index / 10 % 2].clone()
        })
    });
    let source = LiveSource::open(&web.uri(), "none");
    source.wait_for_frames(45, FIRST_FRAME * 2);
    let widths: Vec<usize> = source
        .pictures()
        .iter()
        .map(|(_, width, _)| *width)
        .collect();
    let changes = widths.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 3, "{widths:?}");
    assert_eq!((source.losses(), source.reconnects()), (0, 0));
}

#[test]
fn a_server_that_closes_after_each_clip_is_reopened() {
    let picture = jpeg(320, 240);
    let web = WebServer::start(move |stream, _| {
        motion_jpeg(stream, Framing::BoundaryFirst, 10, |_| picture.clone())
    });
    let source = LiveSource::open(&web.uri(), "none");
    eventually("the third connection", Duration::from_secs(15), || {
        web.requests.load(Ordering::Relaxed) >= 3 && source.count() >= 20
    });
}

#[test]
fn a_refusing_server_is_retried_later_and_its_reason_is_reported() {
    for (status, most, words) in [
        (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
            1,
            "required",
        ),
        ("403 Forbidden", 1, "forbidden"),
        ("404 Not Found", 3, "404"),
        ("500 Internal Server Error", 3, "500"),
    ] {
        let web = WebServer::start(move |stream, _| {
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        });
        let source = LiveSource::open(&web.uri(), "none");
        eventually(
            &format!("the reason of {status}"),
            Duration::from_secs(5),
            || source.reason().contains(words),
        );
        std::thread::sleep(Duration::from_secs(5));
        let asked = web.requests.load(Ordering::Relaxed);
        assert!(asked <= most, "{status}: asked {asked} times in 5 s");
    }
}

#[test]
fn a_server_that_never_answers_does_not_delay_the_stop() {
    let web = WebServer::start(|stream, _| {
        let _ = stream.read(&mut [0; 64]);
        Ok(())
    });
    for scheme in ["http", "rtsp"] {
        let uri = format!("uri:{scheme}://127.0.0.1:{}/stream", web.port);
        let before = web.requests.load(Ordering::Relaxed);
        let mut source = LiveSource::open(&uri, "none");
        eventually("the connection", Duration::from_secs(5), || {
            web.requests.load(Ordering::Relaxed) > before
        });
        let stopped = source.stop();
        assert!(stopped < Duration::from_secs(2), "{scheme}: {stopped:?}");
    }
}

/// An MPEG transport stream of ten seconds whose audio ends after a tenth of a second.
fn transport_stream() -> Vec<u8> {
    encoded(
        "mpegtsmux name=mux videotestsrc num-buffers=250 pattern=ball ! \
         video/x-raw,width=320,height=240,framerate=25/1 ! \
         x264enc tune=zerolatency key-int-max=25 ! h264parse ! mux. \
         audiotestsrc num-buffers=5 ! audio/x-raw,rate=44100,channels=1 ! avenc_aac ! aacparse ! \
         mux. mux.",
    )
}

#[test]
fn a_transport_stream_delivers_video_after_its_audio_stops() {
    let bytes = transport_stream();
    for header in ["", "Content-Type: video/mp2t\r\n"] {
        let bytes = bytes.clone();
        // The response has no length and is sent at the pace of the stream.
        let web = WebServer::start(move |stream, _| {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\n{header}Connection: close\r\n\r\n"
            )?;
            for part in bytes.chunks(bytes.len() / 100) {
                stream.write_all(part)?;
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        });
        let source = LiveSource::open(&web.uri(), "uri");
        let took = source.wait_for_frames(1, FIRST_FRAME);
        source.wait_for_frames(60, Duration::from_secs(10));
        println!("transport stream: first picture after {took:?}");
        assert_eq!((source.losses(), source.reconnects()), (0, 0));
    }
}

#[test]
fn video_does_not_wait_for_absent_audio() {
    // The stream's programme map lists an audio stream of which no packet is sent.
    let whole = transport_stream();
    let pid = |packet: &[u8]| u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
    let packets = || whole.chunks_exact(188);
    let media = packets()
        .map(&pid)
        .filter(|pid| (0x41..0x1fff).contains(pid));
    let sound = media.max().unwrap();
    let bytes: Vec<u8> = packets()
        .filter(|packet| pid(packet) != sound)
        .flatten()
        .copied()
        .collect();
    let web = WebServer::start(move |stream, _| {
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        loop {
            for part in bytes.chunks(bytes.len() / 100) {
                stream.write_all(part)?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let source = LiveSource::open(&web.uri(), "uri");
    let took = source.wait_for_frames(1, FIRST_FRAME);
    println!("a track that never comes: first picture after {took:?}");
    source.wait_for_frames(100, Duration::from_secs(10));
    assert_eq!((source.losses(), source.reconnects()), (0, 0));
}

#[test]
fn a_looped_still_picture_delivers_frames_and_sends_few_statuses() {
    let folder = tempfile::tempdir().unwrap();
    let (still, lines) = (
        folder.path().join("still.jpg"),
        folder.path().join("events.jsonl"),
    );
    std::fs::write(&still, jpeg(320, 240)).unwrap();
    let arguments = [
        "--replay",
        still.to_str().unwrap(),
        "--loop",
        "--jsonl",
        lines.to_str().unwrap(),
    ];
    let _daemon = Daemon::start(&arguments);
    let statuses = || {
        let text = std::fs::read_to_string(&lines).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains("\"type\":\"status\""))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // A status is sent every five seconds.
    eventually("pictures in a status", Duration::from_secs(60), || {
        statuses().iter().any(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            event["counters"]["frames"].as_u64() > Some(40)
        })
    });
    let count = statuses().len();
    assert!(count <= 15, "{count} statuses");
}
