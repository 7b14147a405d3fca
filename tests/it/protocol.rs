//! The wire contract, spoken by a client that knows nothing of the server but protocol.md.

use std::sync::Arc;
use std::time::Duration;

use expressd::clip::{SubjectId, SubjectPhase};
use expressd::event::{Event, SpeechEvent, SpeechPhase, SubjectEvent};
use expressd::publish::Ring;
use expressd::serve::bench::{BareVitals, sample_expression};
use expressd::serve::{ServeError, ServeSettings, Server, Vitals, start};
use expressd::time::MediaTime;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// A server on a free port, its ring, and what it asks of a daemon.
struct Stage {
    ring: Arc<Ring>,
    vitals: Arc<BareVitals>,
    server: Server,
}

impl Stage {
    fn new(change: impl FnOnce(&mut ServeSettings)) -> Self {
        let mut settings = ServeSettings { listen: ([127, 0, 0, 1], 0).into(), goodbye: Duration::from_secs(5), ..ServeSettings::default() };
        change(&mut settings);
        let (ring, vitals) = (Arc::new(Ring::default()), Arc::new(BareVitals::default()));
        let server = start(settings, ring.clone(), vitals.clone()).expect("a free port");
        Stage { ring, vitals, server }
    }

    fn publish(&self, count: usize) {
        for _ in 0..count {
            self.ring.publish(&sample_expression(self.ring.next_seq() as usize));
        }
    }

    async fn client(&self) -> Client {
        self.client_with(&[]).await.expect("an upgrade")
    }

    async fn client_with(&self, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let mut request = format!("ws://{}/v1/events", self.server.addr()).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let stream = TcpStream::connect(self.server.addr()).await?;
        let (socket, response) = client_async(request, stream).await?;
        let protocol = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().expect("text").to_owned());
        Ok(Client { socket, protocol })
    }

    /// One request on a connection of its own: status, headers, body.
    async fn http(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.server.addr()).await.expect("a connection");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        let reading = stream.read_to_string(&mut text);
        tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time").expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split_whitespace().nth(1).expect("a status").parse().expect("a number");
        (code, head.to_ascii_lowercase(), body.to_owned())
    }
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    protocol: Option<String>,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    /// The next message that is not a ping or a pong.
    async fn message(&mut self) -> Message {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return message,
                other => panic!("no message but {other:?}"),
            }
        }
    }
    async fn frame(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("no frame but {other:?}"),
        }
    }
    async fn hello(&mut self) -> Value {
        let hello = self.frame().await;
        assert_eq!(hello["type"], "hello");
        hello
    }
    async fn send(&mut self, frame: Value) {
        self.raw(Message::text(frame.to_string())).await;
    }
    async fn raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("sent");
    }
    async fn close_code(&mut self) -> u16 {
        match self.message().await {
            Message::Close(Some(close)) => close.code.into(),
            other => panic!("no close but {other:?}"),
        }
    }
    /// `error` with this code, then this close.
    async fn refused_with(&mut self, code: &str, close: u16) {
        let error = self.frame().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(error.get("in_reply_to").is_some());
        assert!(error.get("seq").is_none());
        assert_eq!(self.close_code().await, close);
    }
    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let frame = self.frame().await;
            seqs.push(frame["seq"].as_u64().unwrap_or_else(|| panic!("{frame} has no seq")));
        }
        seqs
    }
    /// Nothing but pings comes for a while.
    async fn silent(&mut self) {
        self.send(json!({"type": "ping", "data": "silence"})).await;
        assert_eq!(self.frame().await, json!({"type": "pong", "data": "silence"}));
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future);
}

#[test]
fn hello_comes_first_and_says_all_that_the_protocol_promises() {
    let stage = Stage::new(|_| {});
    stage.publish(3);
    block_on(async {
        let mut client = stage.client_with(&[("sec-websocket-protocol", "bearer.x, expressd.v1")]).await.unwrap();
        assert_eq!(client.protocol.as_deref(), Some("expressd.v1"));
        let hello = client.hello().await;
        assert_eq!(hello["protocol"], "expressd.v1");
        assert!(hello["server"].as_str().unwrap().starts_with("expressd "));
        assert!(hello["session"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
        assert!(hello["clock"]["media_ns"].as_i64().unwrap() > 0);
        assert!(hello["clock"]["wall"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        for field in ["name", "fingerprint", "task", "labels", "window_ms", "hop_ms"] {
            assert!(!hello["bundle"][field].is_null(), "{field}");
        }
        assert_eq!(hello["subscription"], json!({"events": null, "subjects": null, "labels": null, "min_confidence": null, "max_rate_hz": null}));
        assert_eq!((&hello["oldest_seq"], &hello["next_seq"]), (&json!(1), &json!(4)));
        assert!(hello.get("seq").is_none());
        // After `hello` everything flows, from `next_seq` on, without a gap.
        stage.publish(50);
        assert_eq!(client.seqs(50).await, (4..54).collect::<Vec<_>>());
        assert_eq!(stage.client().await.protocol, None);
    });
    stage.server.stop();
}

#[test]
fn every_published_frame_has_the_fields_of_its_type() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut client = stage.client().await;
        client.hello().await;
        for event in samples() {
            stage.ring.publish(&event);
        }
        let required: [(&str, &[&str]); 5] = [
            ("subject", &["subject", "time_ns", "phase", "box", "quality"]),
            ("speech", &["phase", "start_ns", "owner"]),
            ("speech", &["phase", "start_ns", "end_ns", "owner"]),
            ("status", &["sources", "degraded", "paused", "counters"]),
            (
                "expression",
                &[
                    "subject",
                    "start_ns",
                    "end_ns",
                    "scores",
                    "top",
                    "confidence",
                    "abstain",
                    "modalities",
                    "latency_ms",
                    "deadline",
                    "degraded",
                    "skew_ms",
                    "provenance",
                ],
            ),
        ];
        for (index, (kind, fields)) in required.into_iter().enumerate() {
            let frame = client.frame().await;
            assert_eq!((&frame["type"], &frame["seq"]), (&json!(kind), &json!(index + 1)));
            for field in fields {
                assert!(frame.get(field).is_some(), "{field} is not in {frame}");
            }
            match kind {
                "expression" => {
                    let sum: f64 = frame["scores"].as_object().unwrap().values().map(|score| score.as_f64().unwrap()).sum();
                    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
                    for field in ["capture", "queue", "encode", "emit", "total"] {
                        assert!(frame["latency_ms"][field].is_number());
                    }
                    for field in ["bundle", "provider", "precision", "config", "calibration"] {
                        assert!(frame["provenance"].get(field).is_some());
                    }
                }
                "status" => ["video", "audio"].iter().for_each(|source| {
                    assert!(["opening", "delivering", "lost", "off"].contains(&frame["sources"][source]["state"].as_str().unwrap()));
                    assert!(frame["sources"][source].get("reason").is_some() && frame["sources"][source].get("origin_ns").is_some());
                }),
                _ => {}
            }
        }
    });
}

/// One event of each type that this version publishes.
fn samples() -> Vec<Event> {
    let subject = SubjectEvent {
        subject: SubjectId::Face(1),
        time_ns: MediaTime::from_millis(40),
        phase: SubjectPhase::Appeared,
        into: None,
        rect: [0.1, 0.2, 0.3, 0.4],
        quality: 0.9,
    };
    let start = SpeechEvent { phase: SpeechPhase::Start, start_ns: MediaTime::from_millis(100), end_ns: None, owner: None };
    let end = SpeechEvent { phase: SpeechPhase::End, end_ns: Some(MediaTime::from_millis(900)), owner: Some(SubjectId::Face(1)), ..start.clone() };
    vec![Event::Subject(subject), Event::Speech(start), Event::Speech(end), Event::Status(BareVitals::default().status()), sample_expression(0)]
}

#[test]
fn a_subscription_holds_from_its_answer_on() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut client = stage.client().await;
        client.hello().await;
        client.send(json!({"type": "subscribe", "events": ["subject", "expression"], "subjects": ["s1"], "min_confidence": 0.5})).await;
        let subscribed = client.frame().await;
        assert_eq!(
            subscribed,
            json!({"type": "subscribed", "subscription": {"events": ["subject", "expression"], "subjects": ["s1"], "labels": null, "min_confidence": 0.5, "max_rate_hz": null}})
        );
        // Of the first four only the subject is about s1 (the end of speech is, but was not asked for); then eight subjects take turns.
        for event in samples().iter().take(4) {
            stage.ring.publish(event);
        }
        for number in 0..16 {
            stage.ring.publish(&sample_expression(number));
        }
        assert_eq!(client.seqs(3).await, [1, 5, 13]);
        // An empty list is none, an absent field all.
        client.send(json!({"type": "subscribe", "events": []})).await;
        assert_eq!(client.frame().await["subscription"]["events"], json!([]));
        stage.publish(5);
        client.silent().await;
        client.send(json!({"type": "subscribe"})).await;
        assert_eq!(client.frame().await["type"], "subscribed");
        stage.publish(1);
        assert_eq!(client.seqs(1).await, [26]);
        client.send(json!({"type": "subscribe", "labels": ["sad"]})).await;
        client.frame().await;
        stage.publish(3);
        client.silent().await;
    });
}

#[test]
fn resuming_brings_what_was_missed_in_order_and_none_twice() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut first = stage.client().await;
        first.hello().await;
        stage.publish(40);
        let last = *first.seqs(10).await.last().unwrap();
        drop(first);
        stage.publish(200);
        let mut second = stage.client().await;
        assert_eq!(second.hello().await["oldest_seq"], 1);
        stage.publish(2);
        assert_eq!(second.seqs(2).await, [241, 242]);
        second.send(json!({"type": "subscribe", "resume_after": last})).await;
        assert_eq!(second.frame().await["type"], "subscribed");
        stage.publish(3);
        // More than the 64 that may wait unsent: a replay is not a backlog.
        assert_eq!(second.seqs(230 + 3).await, (11..=240).chain(243..=245).collect::<Vec<_>>());
        // With a filter, and beyond what the ring holds.
        for round in 0..120 {
            stage.publish(10);
            assert_eq!(second.seqs(10).await, (246 + 10 * round..256 + 10 * round).collect::<Vec<_>>());
        }
        let mut third = stage.client().await;
        let hello = third.hello().await;
        assert_eq!((&hello["oldest_seq"], &hello["next_seq"]), (&json!(422), &json!(1446)));
        third.send(json!({"type": "subscribe", "subjects": ["s3"], "resume_after": 400})).await;
        assert_eq!(third.frame().await["type"], "subscribed");
        let gone = third.frame().await;
        assert_eq!(gone, json!({"type": "dropped", "count": 21, "from_seq": 401, "to_seq": 421}));
        // `sample_expression(n)` is of s(n % 8 + 1), and was given the seq it got.
        let expected: Vec<u64> = (422..1446).filter(|seq| seq % 8 == 2).collect();
        assert_eq!(third.seqs(expected.len()).await, expected);
        third.send(json!({"type": "subscribe", "resume_after": 5000})).await;
        let error = third.frame().await;
        assert_eq!((&error["code"], &error["in_reply_to"]), (&json!("bad_value"), &json!("subscribe")));
    });
}

#[test]
fn what_a_client_says_wrong_is_named_and_forgiven() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut client = stage.client().await;
        client.hello().await;
        for (frame, code, in_reply_to) in [
            (json!({"type": "subscibe"}), "unknown_type", json!("subscibe")),
            (json!({"data": 1}), "unknown_type", Value::Null),
            (json!({"type": "subscribe", "event": []}), "unknown_field", json!("subscribe")),
            (json!({"type": "subscribe", "events": ["smile"]}), "bad_value", json!("subscribe")),
            (json!({"type": "subscribe", "min_confidence": 2}), "bad_value", json!("subscribe")),
            (json!({"type": "subscribe", "labels": ["joy"]}), "bad_value", json!("subscribe")),
            (json!({"type": "calibrate", "subject": "s1", "seconds": 5}), "not_allowed", json!("calibrate")),
            (json!({"type": "pause", "what": "capture"}), "not_allowed", json!("pause")),
        ] {
            client.send(frame).await;
            let error = client.frame().await;
            assert_eq!((&error["type"], &error["code"], &error["in_reply_to"]), (&json!("error"), &json!(code), &in_reply_to), "{error}");
        }
        // Still there, with the subscription it had.
        client.send(json!({"type": "ping", "data": {"a": [1, 2.5, null]}})).await;
        assert_eq!(client.frame().await, json!({"type": "pong", "data": {"a": [1, 2.5, null]}}));
        stage.publish(1);
        assert_eq!(client.seqs(1).await, [1]);
    });
}

#[test]
fn what_is_no_frame_closes_with_4400() {
    let stage = Stage::new(|_| {});
    block_on(async {
        for message in [Message::text("{\"type\":"), Message::text("[]"), Message::text(""), Message::text("7"), Message::binary(b"{}".to_vec())] {
            let mut client = stage.client().await;
            client.hello().await;
            client.raw(message).await;
            client.refused_with("malformed", 4400).await;
        }
    });
}

#[test]
fn bytes_that_break_the_websocket_protocol_close_with_4400() {
    let stage = Stage::new(|_| {});
    block_on(async {
        // Masked with zeros: text that is not UTF-8, a reserved bit, an unknown opcode; and a frame without a mask.
        for bytes in [&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff][..], &[0xc1, 0x80, 0, 0, 0, 0], &[0x83, 0x80, 0, 0, 0, 0], &[0x81, 0x02, b'{', b'}']] {
            let mut client = stage.client().await;
            client.hello().await;
            client.socket.get_mut().write_all(bytes).await.unwrap();
            client.refused_with("malformed", 4400).await;
        }
    });
}

#[test]
fn a_frame_that_is_too_large_closes_with_1009_and_the_client_hears_it() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let of = |bytes: usize| Message::text(json!({"type": "ping", "data": "x".repeat(bytes - r#"{"type":"ping","data":""}"#.len())}).to_string());
        let mut client = stage.client().await;
        client.hello().await;
        client.raw(of(16 << 10)).await;
        assert_eq!(client.frame().await["type"], "pong");
        client.raw(of((16 << 10) + 1)).await;
        client.refused_with("too_large", 1009).await;
        // Far more than the kernel's buffers hold: the client is still sending when it is refused.
        let mut client = stage.client().await;
        client.hello().await;
        client.raw(of(20 << 20)).await;
        client.refused_with("too_large", 1009).await;
        // In pieces.
        let mut client = stage.client().await;
        client.hello().await;
        for piece in 0..5 {
            let opcode = OpCode::Data(if piece == 0 { Data::Text } else { Data::Continue });
            client.raw(Message::Frame(Frame::message(vec![b' '; 4000], opcode, false))).await;
        }
        client.refused_with("too_large", 1009).await;
    });
}

#[test]
fn more_frames_a_second_than_allowed_close_with_4429() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut client = stage.client().await;
        client.hello().await;
        for number in 0..20 {
            client.send(json!({"type": "ping", "data": number})).await;
        }
        for number in 0..20 {
            assert_eq!(client.frame().await, json!({"type": "pong", "data": number}));
        }
        // The window may have moved on if this machine is busy, so once more as many.
        for number in 0..21 {
            client.send(json!({"type": "ping", "data": number})).await;
        }
        loop {
            let frame = client.frame().await;
            if frame["type"] == "error" {
                assert_eq!(frame["code"], "rate_limited");
                break;
            }
        }
        assert_eq!(client.close_code().await, 4429);
    });
}

#[test]
fn one_client_too_many_gets_503_before_the_upgrade() {
    let stage = Stage::new(|settings| settings.max_clients = 2);
    block_on(async {
        let mut first = stage.client().await;
        first.hello().await;
        let mut second = stage.client().await;
        second.hello().await;
        match stage.client_with(&[]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 503),
            other => panic!("{:?}", other.map(|_| "a client")),
        }
        // A place that is given back can be taken, and the others did not notice.
        second.socket.close(None).await.unwrap();
        assert!(matches!(second.message().await, Message::Close(_)));
        let until = tokio::time::Instant::now() + PATIENCE;
        while stage.client_with(&[]).await.is_err() {
            assert!(tokio::time::Instant::now() < until, "the place was not given back");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.publish(1);
        assert_eq!(first.seqs(1).await, [1]);
    });
}

#[test]
fn a_foreign_origin_is_told_why_and_closed_with_4403() {
    let stage = Stage::new(|settings| settings.allow_origins = vec!["https://lab.example.org".into()]);
    block_on(async {
        for origin in ["https://example.org", "null", "http://localhost.example.org"] {
            let mut client = stage.client_with(&[("origin", origin)]).await.unwrap();
            client.refused_with("forbidden_origin", 4403).await;
        }
        for origin in ["http://localhost:8765", "http://127.0.0.1", "https://lab.example.org"] {
            stage.client_with(&[("origin", origin)]).await.unwrap().hello().await;
        }
    });
}

#[test]
fn a_client_that_does_not_pong_is_closed_with_4408() {
    let stage = Stage::new(|settings| {
        settings.ping_every = Duration::from_millis(50);
        settings.pong_within = Duration::from_millis(400);
    });
    block_on(async {
        // This one reads, and tungstenite pongs for it.
        let mut lively = stage.client().await;
        lively.hello().await;
        // This one reads bytes, and nobody answers.
        let mut silent = stage.client().await;
        silent.hello().await;
        let reading = async {
            loop {
                match tokio::time::timeout(Duration::from_millis(1500), lively.socket.next()).await {
                    Ok(Some(Ok(Message::Ping(_)))) => {}
                    Ok(other) => panic!("the lively client got {other:?}"),
                    Err(_) => panic!("the lively client got no ping"),
                }
            }
        };
        let waiting = async {
            let mut bytes = Vec::new();
            let reading = silent.socket.get_mut().read_to_end(&mut bytes);
            tokio::time::timeout(PATIENCE, reading).await.expect("closed in time").expect("closed cleanly");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(text.contains(r#""type":"error""#) && text.contains("no pong"), "{text}");
            assert!(bytes.iter().filter(|byte| **byte == 0x89).count() >= 2, "pings came");
            assert_eq!(bytes[bytes.len() - 4..], [0x88, 2, (4408_u16 >> 8) as u8, (4408_u16 & 0xff) as u8]);
        };
        tokio::select! {
            () = reading => {}
            () = waiting => {}
        }
    });
}

/// Publishes until a client that does not read has lost something.
async fn fill(stage: &Stage) {
    let lost = || stage.vitals.metrics().counters().get("dropped_slow_client").and_then(Value::as_u64).unwrap_or(0);
    for _ in 0..2000 {
        if lost() > 100 {
            return;
        }
        stage.publish(10);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("a client that does not read lost nothing of {} events", stage.ring.next_seq());
}

#[test]
fn a_slow_client_is_told_exactly_what_it_missed_and_the_others_miss_nothing() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut slow = stage.client().await;
        let first_seq = slow.hello().await["next_seq"].as_u64().unwrap();
        let mut quick = stage.client().await;
        quick.hello().await;
        let count_quick = async {
            let mut next = first_seq;
            loop {
                assert_eq!(quick.seqs(1).await, [next]);
                next += 1;
            }
        };
        tokio::select! {
            () = fill(&stage) => {}
            () = count_quick => {}
        }
        stage.publish(1);
        let newest = stage.ring.next_seq() - 1;
        let (mut next, mut dropped) = (first_seq, 0);
        while next <= newest {
            let frame = slow.frame().await;
            if frame["type"] == "dropped" {
                // Everything was wanted, so the numbers between are all lost: no gap stays unexplained.
                assert_eq!(frame["from_seq"], next);
                let to = frame["to_seq"].as_u64().unwrap();
                assert_eq!(frame["count"], to - next + 1);
                dropped += to - next + 1;
                next = to + 1;
            } else {
                assert_eq!(frame["seq"], next);
                next += 1;
            }
        }
        assert!(dropped > 100);
        let counted = stage.vitals.metrics().counters()["dropped_slow_client"].as_u64().unwrap();
        assert_eq!(dropped, counted);
        slow.silent().await;
    });
}

#[test]
fn a_client_that_takes_nothing_is_closed_with_1013_and_hears_why_when_it_reads_again() {
    let stage = Stage::new(|settings| settings.stalled_for = Duration::from_millis(300));
    block_on(async {
        let mut client = stage.client().await;
        client.hello().await;
        fill(&stage).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        loop {
            let frame = client.frame().await;
            if frame["type"] == "error" {
                assert_eq!(frame["code"], "too_slow");
                break;
            }
        }
        assert_eq!(client.close_code().await, 1013);
    });
}

#[test]
fn stopping_says_1001_to_everyone_at_once() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = stage.client().await;
            client.hello().await;
            clients.push(client);
        }
        let stalled = stage.client().await;
        fill(&stage).await;
        let stopping = std::thread::Builder::new().name("stop".into()).spawn({
            let server = stage.server;
            move || {
                let began = expressd::time::monotonic_nanos();
                server.stop();
                Duration::from_nanos((expressd::time::monotonic_nanos() - began) as u64)
            }
        });
        for client in &mut clients {
            let code = loop {
                match client.message().await {
                    Message::Close(close) => break close.map(|close| u16::from(close.code)),
                    Message::Text(text) => assert!(!text.contains("\"error\"")),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(code, Some(1001));
        }
        let took = stopping.unwrap().join().unwrap();
        assert!(took < Duration::from_millis(1500), "{took:?}");
        drop(stalled);
    });
}

#[test]
fn health_metrics_and_status_tell_the_state() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let mut client = stage.client().await;
        client.hello().await;
        assert_eq!(stage.http("GET", "/healthz", "").await.0, 200);
        let (code, head, body) = stage.http("GET", "/readyz", "").await;
        assert_eq!((code, serde_json::from_str::<Value>(&body).unwrap()["ready"].as_bool()), (200, Some(true)));
        assert!(head.contains("content-type: application/json"));
        stage.vitals.readiness.lock().unwrap().checks[1].reason = Some("lost: the camera was unplugged".into());
        let (code, _, body) = stage.http("GET", "/readyz", "").await;
        let page: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &page["ready"]), (503, &json!(false)));
        assert_eq!(page["checks"]["video"], json!({"ready": false, "reason": "lost: the camera was unplugged"}));
        assert_eq!(page["checks"]["audio"], json!({"ready": true, "reason": null}));

        let event = sample_expression(0);
        stage.ring.publish(&event);
        stage.vitals.metrics().published(&event);
        client.seqs(1).await;
        let (code, _, text) = stage.http("GET", "/metrics", "").await;
        assert_eq!(code, 200);
        for line in [
            "expressd_clients 1",
            "expressd_events_total{type=\"expression\"} 1",
            "expressd_latency_seconds_count{stage=\"total\"} 1",
            "expressd_socket_write_seconds_count 1",
            "expressd_deadline_misses_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
        let (code, _, body) = stage.http("GET", "/v1/status", "").await;
        let page: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &page["clients"], &page["next_seq"], &page["ready"]), (200, &json!(1), &json!(2), &json!(false)));
        assert_eq!(page["latency_ms"]["total"]["count"], 1);
        assert_eq!(page["status"]["sources"]["video"]["state"], "off");
    });
}

#[test]
fn wrong_doors_say_so() {
    let stage = Stage::new(|_| {});
    block_on(async {
        let (code, _, body) = stage.http("GET", "/v1/nothing", "").await;
        assert_eq!((code, serde_json::from_str::<Value>(&body).unwrap()["error"].as_str()), (404, Some("nothing at /v1/nothing")));
        assert_eq!(stage.http("POST", "/healthz", "").await.0, 405);
        assert_eq!(stage.http("POST", "/v1/events", "").await.0, 405);
        let (code, head, body) = stage.http("GET", "/v1/events", "").await;
        assert!(code == 426 && head.contains("upgrade: websocket") && body.contains("WebSocket"), "{code} {head} {body}");
        let upgrade = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: ";
        assert_eq!(stage.http("GET", "/v1/events", &format!("{upgrade}8\r\n")).await.0, 426);
        assert_eq!(stage.http("GET", "/v1/events", &format!("{upgrade}13\r\n")).await.0, 400);
        assert_eq!(stage.http("GET", "/", "").await.0, 200);
    });
}

#[test]
fn an_address_that_cannot_be_served_is_refused_with_a_remedy() {
    let stage = Stage::new(|_| {});
    let again = |listen| start(ServeSettings { listen, ..ServeSettings::default() }, Arc::new(Ring::default()), Arc::new(BareVitals::default())).unwrap_err();
    let taken = again(stage.server.addr());
    assert!(matches!(taken, ServeError::PortTaken(addr) if addr == stage.server.addr()));
    assert!(taken.to_string().starts_with(&stage.server.addr().to_string()) && taken.to_string().contains("--listen"), "{taken}");
    for listen in ["0.0.0.0:0", "192.168.1.5:8765", "[::]:0"] {
        let refused = again(listen.parse().unwrap());
        assert!(matches!(refused, ServeError::NotLoopback(_)) && refused.to_string().contains("127.0.0.1"), "{refused}");
    }
}

#[test]
fn the_server_shows_that_it_lives() {
    let stage = Stage::new(|_| {});
    let before = stage.server.beats();
    std::thread::sleep(Duration::from_millis(1200));
    assert!(stage.server.beats() > before);
}
