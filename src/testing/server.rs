//! The state of a server without a daemon, and a client's WebSocket handshake, for tests and for
//! the fan-out benchmark.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::clip::SubjectId;
use crate::event::{
    Also, BundleFacts, Deadline, ErrorCode, Event, ExpressionEvent, FaceEvidence, Latency,
    Modalities, Provenance, Refusal, Scores, SourceState, SourceStatus, Sources, StatusEvent,
    TextEvidence, TranscriptRequest, VoiceEvidence,
};
use crate::labels::LABELS;
use crate::serve::{Check, HelloFacts, Metrics, Readiness, ServerState};
use crate::time::{Clock, MediaTime, SystemClock};

/// An `expression` event like those with the default bundle, about a kilobyte as JSON. `number`
/// counts the events from 0 and determines times and subject.
pub fn sample_expression(number: usize) -> Event {
    let end = MediaTime::from_millis(2000 + 33 * number as i64);
    let scores = LABELS
        .iter()
        .zip([0.08, 0.81, 0.02, 0.03, 0.01, 0.01, 0.04])
        .map(|(label, score)| ((*label).to_owned(), score))
        .collect();
    Event::Expression(Box::new(ExpressionEvent {
        subject: SubjectId::Face(number as u32 % 8 + 1),
        start_ns: end.minus(Duration::from_secs(2)),
        end_ns: end,
        scores: Scores(scores),
        top: "happy".into(),
        confidence: 0.81,
        abstain: false,
        also: Also::default(),
        modalities: Modalities {
            face: FaceEvidence {
                used: true,
                reason: None,
                frames: 32,
                missing: 0,
                quality: Some(0.93),
                age_ms: Some(41.0),
            },
            voice: VoiceEvidence {
                used: true,
                reason: None,
                speech: Some(0.62),
                missing_ms: Some(0),
                owner_confidence: Some(1.0),
                age_ms: Some(58.0),
            },
            text: TextEvidence {
                used: false,
                reason: None,
                age_ms: None,
            },
        },
        latency_ms: Some(Latency {
            capture: 12.1,
            queue: 3.0,
            encode: 31.5,
            emit: 0.2,
            total: 46.8,
        }),
        deadline: Some(Deadline {
            budget_ms: 150,
            met: true,
        }),
        degraded: Some("none"),
        skew_ms: Some(4.2),
        provenance: Some(Provenance {
            bundle: "a91c".repeat(16),
            provider: "cpu",
            precision: "fp32",
            config: "77d0".repeat(16),
            calibration: None,
        }),
    }))
}

/// The state of a server without a daemon: a fixed bundle, sources that are off. Transcripts are
/// refused.
pub struct BareState {
    clock: SystemClock,
    metrics: Metrics,
    /// The answer of `/readyz`, which a test may change.
    pub readiness: std::sync::Mutex<Readiness>,
}

impl Default for BareState {
    fn default() -> Self {
        let checks = ["bundle", "video", "audio", "scheduler"]
            .map(|name| Check { name, reason: None })
            .into();
        BareState {
            clock: SystemClock::new(),
            metrics: Metrics::new(),
            readiness: std::sync::Mutex::new(Readiness { checks }),
        }
    }
}

impl ServerState for BareState {
    fn hello(&self) -> HelloFacts {
        let bundle = BundleFacts {
            name: "none".into(),
            fingerprint: "0".repeat(64),
            task: "single".into(),
            labels: LABELS.map(str::to_owned).into(),
            window_ms: 2000,
            hop_ms: 200,
        };
        HelloFacts {
            session: uuid::Uuid::nil().to_string(),
            bundle,
        }
    }
    fn status(&self) -> StatusEvent {
        let source = || SourceStatus {
            state: SourceState::Off,
            reason: None,
            origin_ns: None,
        };
        StatusEvent {
            sources: Sources {
                video: source(),
                audio: source(),
            },
            degraded: "none",
            paused: false,
            counters: self.metrics.counters(),
        }
    }
    fn readiness(&self) -> Readiness {
        self.readiness.lock().expect("readiness").clone()
    }
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    fn collected(&self) -> &Metrics {
        &self.metrics
    }
    fn submit_transcript(&self, _client: u64, _request: TranscriptRequest) -> Result<(), Refusal> {
        Err(Refusal::new(
            ErrorCode::NotAllowed,
            "nothing listens here",
            Some("transcript"),
        ))
    }
}

/// Connects, performs a WebSocket handshake and reads the first frame, `hello`. The events follow
/// on the returned socket.
///
/// # Errors
/// The connection fails, or the server refuses the handshake; the error then has its status line.
pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    write!(
        stream,
        "GET /v1/events HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let mut got = Vec::new();
    let mut byte = [0];
    let mut read = |got: &mut Vec<u8>| {
        stream.read_exact(&mut byte)?;
        got.push(byte[0]);
        io::Result::Ok(())
    };
    while !got.ends_with(b"\r\n\r\n") {
        read(&mut got)?;
    }
    if !got.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other(
            String::from_utf8_lossy(&got)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ));
    }
    got.clear();
    while whole_frame(&got).is_none() {
        read(&mut got)?;
    }
    Ok(stream)
}

/// For the server's WebSocket frame at the beginning of `bytes`: (length of the frame in bytes,
/// whether it is a text frame). `None` until the frame is complete.
pub fn whole_frame(bytes: &[u8]) -> Option<(usize, bool)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let length = match second {
        0..126 => 2 + usize::from(second),
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        _ => 10 + u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
    };
    (bytes.len() >= length).then_some((length, first & 0x0f == 1))
}
