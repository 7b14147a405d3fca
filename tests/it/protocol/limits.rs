//! Tests of every limit of `src/event/protocol.md`: its value, its error and close code, and that
//! the client receives both.

use super::*;
use expressd::event::{Event, SpeechEvent, SpeechPhase};
use expressd::serve::{Exposition, ServerState};
use expressd::time::MediaTime;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[test]
fn a_malformed_frame_closes_with_4400() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        for message in [
            Message::text("{\"type\":"),
            Message::text("[]"),
            Message::text(""),
            Message::text("7"),
            Message::binary(b"{}".to_vec()),
        ] {
            let mut client = fixture.client().await;
            client.hello().await;
            client.raw(message).await;
            client.refused_with("malformed", 4400).await;
        }
    });
}

#[test]
fn bytes_that_break_the_websocket_protocol_close_as_rfc_6455_has_it() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        // The frames are masked with zeros: text that is not UTF-8, a reserved bit, an unknown
        // opcode. The last frame has no mask.
        for (bytes, close) in [
            (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff][..], 1007),
            (&[0xc1, 0x80, 0, 0, 0, 0], 1002),
            (&[0x83, 0x80, 0, 0, 0, 0], 1002),
            (&[0x81, 0x02, b'{', b'}'], 1002),
        ] {
            let mut client = fixture.client().await;
            client.hello().await;
            client.socket.get_mut().write_all(bytes).await.unwrap();
            client.refused_with("malformed", close).await;
        }
    });
}

#[test]
fn a_frame_that_is_too_large_gets_an_error_and_closes_with_1009() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let of = |bytes: usize| {
            let data = "x".repeat(bytes - r#"{"type":"ping","data":""}"#.len());
            Message::text(json!({"type": "ping", "data": data}).to_string())
        };
        let mut client = fixture.client().await;
        client.hello().await;
        client.raw(of(16 << 10)).await;
        assert_eq!(client.frame().await["type"], "pong");
        client.raw(of((16 << 10) + 1)).await;
        client.refused_with("too_large", 1009).await;
        // The frame is far larger than the kernel's buffers, so the client is still sending when it
        // is refused.
        let mut client = fixture.client().await;
        client.hello().await;
        client.raw(of(20 << 20)).await;
        client.refused_with("too_large", 1009).await;
        // The limit also holds for a message in fragments.
        let mut client = fixture.client().await;
        client.hello().await;
        for piece in 0..5 {
            let opcode = OpCode::Data(if piece == 0 {
                Data::Text
            } else {
                Data::Continue
            });
            client
                .raw(Message::Frame(Frame::message(
                    vec![b' '; 4000],
                    opcode,
                    false,
                )))
                .await;
        }
        client.refused_with("too_large", 1009).await;
    });
}

#[test]
fn more_frames_a_second_than_allowed_close_with_4429() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        for number in 0..20 {
            client.send(json!({"type": "ping", "data": number})).await;
        }
        for number in 0..20 {
            assert_eq!(
                client.frame().await,
                json!({"type": "pong", "data": number})
            );
        }
        // On a busy machine the rate window may have advanced, so 21 more pings are sent.
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
fn a_client_above_the_limit_gets_503_before_the_upgrade() {
    let fixture = Fixture::new(|settings| settings.max_clients = 2);
    block_on(async {
        let mut first = fixture.client().await;
        first.hello().await;
        let mut second = fixture.client().await;
        second.hello().await;
        match fixture.client_with(&[]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 503),
            other => panic!("{:?}", other.map(|_| "a client")),
        }
        // After a client has left, another one can connect, and the first is unaffected.
        second.socket.close(None).await.unwrap();
        assert!(matches!(second.message().await, Message::Close(_)));
        let until = tokio::time::Instant::now() + PATIENCE;
        while fixture.client_with(&[]).await.is_err() {
            assert!(
                tokio::time::Instant::now() < until,
                "the place was not given back"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fixture.publish(1);
        assert_eq!(first.seqs(1).await, [1]);
    });
}

#[test]
fn a_foreign_origin_gets_an_error_and_closes_with_4403() {
    let fixture =
        Fixture::new(|settings| settings.allow_origins = vec!["https://lab.example.org".into()]);
    block_on(async {
        for origin in [
            "https://example.org",
            "null",
            "http://localhost.example.org",
        ] {
            let mut client = fixture.client_with(&[("origin", origin)]).await.unwrap();
            client.refused_with("forbidden_origin", 4403).await;
        }
        for origin in [
            "http://localhost:8765",
            "http://127.0.0.1",
            "https://lab.example.org",
        ] {
            fixture
                .client_with(&[("origin", origin)])
                .await
                .unwrap()
                .hello()
                .await;
        }
    });
}

#[test]
fn a_client_that_does_not_pong_is_closed_with_4408() {
    let fixture = Fixture::new(|settings| {
        settings.ping_every = Duration::from_millis(200);
        settings.pong_within = Duration::from_millis(2000);
    });
    block_on(async {
        // This client reads, so tungstenite sends its pongs.
        let mut lively = fixture.client().await;
        lively.hello().await;
        // This client reads raw bytes, so no pong is sent.
        let mut silent = fixture.client().await;
        silent.hello().await;
        let reading = async {
            loop {
                match tokio::time::timeout(Duration::from_secs(15), lively.socket.next()).await {
                    Ok(Some(Ok(Message::Ping(_)))) => {}
                    Ok(other) => panic!("the lively client got {other:?}"),
                    Err(_) => panic!("the lively client got no ping"),
                }
            }
        };
        let waiting = async {
            let mut bytes = Vec::new();
            let reading = silent.socket.get_mut().read_to_end(&mut bytes);
            tokio::time::timeout(PATIENCE, reading)
                .await
                .expect("closed in time")
                .expect("closed cleanly");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(
                text.contains(r#""type":"error""#) && text.contains("no pong"),
                "{text}"
            );
            assert!(bytes.contains(&0x89), "pings came");
            assert_eq!(
                bytes[bytes.len() - 4..],
                [0x88, 2, (4408_u16 >> 8) as u8, (4408_u16 & 0xff) as u8]
            );
        };
        tokio::select! {
            () = reading => {}
            () = waiting => {}
        }
    });
}

/// Publishes events until a client that does not read has lost more than a hundred.
async fn publish_until_loss(fixture: &Fixture) {
    let lost = || {
        fixture
            .server_state
            .metrics()
            .counters()
            .get("dropped_slow_client")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    for _ in 0..2000 {
        if lost() > 100 {
            return;
        }
        fixture.publish(10);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!(
        "a client that does not read lost nothing of {} events",
        fixture.ring.next_seq()
    );
}

#[test]
fn a_slow_client_gets_its_exact_losses_and_other_clients_lose_nothing() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut slow = fixture.client().await;
        let first_seq = slow.hello().await["next_seq"].as_u64().unwrap();
        let mut quick = fixture.client().await;
        quick.hello().await;
        let count_quick = async {
            let mut next = first_seq;
            loop {
                assert_eq!(quick.seqs(1).await, [next]);
                next += 1;
            }
        };
        tokio::select! {
            () = publish_until_loss(&fixture) => {}
            () = count_quick => {}
        }
        fixture.publish(1);
        let newest = fixture.ring.next_seq() - 1;
        let (mut next, mut dropped) = (first_seq, 0);
        while next <= newest {
            let frame = slow.frame().await;
            if frame["type"] == "dropped" {
                // Every event is subscribed, so `dropped` must account for every gap.
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
        slow.expect_no_event().await;
        let counted = fixture.server_state.metrics().counters()["dropped_slow_client"]
            .as_u64()
            .unwrap();
        assert_eq!(dropped, counted);
    });
}

#[test]
fn an_event_that_is_too_large_is_reported_as_dropped_and_closes_nothing() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let (mut all, mut some) = (fixture.client().await, fixture.client().await);
        all.hello().await;
        some.hello().await;
        some.send(json!({"type": "subscribe", "events": ["expression"]}))
            .await;
        assert_eq!(some.frame().await["type"], "subscribed");
        let text = Some("x".repeat(300 << 10));
        fixture.publish(1);
        fixture.ring.publish(Event::Speech(SpeechEvent {
            phase: SpeechPhase::Final,
            start_ns: MediaTime::ZERO,
            end_ns: None,
            text,
            words: None,
            owner: None,
        }));
        fixture.publish(1);
        assert_eq!(all.seqs(1).await, [1]);
        assert_eq!(
            all.frame().await,
            json!({"type": "dropped", "count": 1, "from_seq": 2, "to_seq": 2})
        );
        assert_eq!(all.seqs(1).await, [3]);
        assert_eq!(
            some.seqs(2).await,
            [1, 3],
            "a client without a subscription to it loses nothing"
        );
        all.expect_no_event().await;
        let counters = fixture.server_state.metrics().counters();
        assert_eq!(
            (
                counters.get("dropped_too_large"),
                counters.get("dropped_slow_client")
            ),
            (Some(&json!(1)), None)
        );
    });
}

#[test]
fn a_client_without_progress_gets_an_error_and_closes_with_1013() {
    let fixture = Fixture::new(|settings| settings.stalled_for = Duration::from_millis(300));
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        // The kernel accepts a few more bytes from time to time, so publishing must continue until
        // the client is closed.
        let closed = || {
            fixture
                .server_state
                .metrics()
                .encode(Exposition::OpenMetrics)
                .contains(r#"expressd_refusals_total{code="too_slow"} 1"#)
        };
        for _ in 0..2000 {
            if closed() {
                break;
            }
            fixture.publish(10);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(closed());
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
fn stopping_closes_every_client_with_1001_at_once() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = fixture.client().await;
            client.hello().await;
            clients.push(client);
        }
        let stalled = fixture.client().await;
        publish_until_loss(&fixture).await;
        let stopping = std::thread::Builder::new().name("stop".into()).spawn({
            let server = fixture.server;
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
fn silent_connections_are_closed_and_do_not_exclude_other_clients() {
    let fixture = Fixture::new(|settings| {
        (settings.max_clients, settings.request_within) = (1, Duration::from_millis(500))
    });
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        // There are more connections than the limit; some send nothing, some an incomplete first
        // line.
        let mut idle = Vec::new();
        for number in 0..200 {
            let mut stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
            if number % 3 == 0 {
                stream.write_all(b"GET /heal").await.unwrap();
            }
            idle.push(stream);
        }
        assert_eq!(fixture.http("GET", "/healthz", "").await.0, 200);
        let refused = fixture.client_with(&[]).await;
        assert!(
            matches!(refused, Err(Error::Http(response)) if response.status() == 503),
            "the only place is taken"
        );
        for stream in &mut idle {
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
                .await
                .expect("an idle connection is ended");
            assert!(
                ended.is_err() || rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
                "{:?}",
                String::from_utf8_lossy(&rest)
            );
        }
        // The time limit also holds between two requests of one connection.
        let mut stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("ended")
            .unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        // A WebSocket may be silent for longer, because pings check it.
        fixture.publish(1);
        client.seqs(1).await;
    });
}
