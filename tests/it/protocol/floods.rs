//! Tests that the rate limits count WebSocket frames and bytes of every kind.

use super::*;

/// A client's WebSocket frame with the first byte `first`, at most 125 bytes of payload, and a zero
/// mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        first,
        0x80 | u8::try_from(payload.len()).expect("a short frame"),
    ];
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Sends `bytes` from a new client; expects the error `rate_limited` and the close code 4429.
async fn expect_rate_limit(fixture: &Fixture, name: &str, bytes: &[u8]) {
    let mut client = fixture.client().await;
    client.hello().await;
    // The server may close the connection before it has read everything.
    let _ = client.socket.get_mut().write_all(bytes).await;
    let error = loop {
        let frame = client.frame().await;
        if frame["type"] != "pong" {
            break frame;
        }
    };
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("rate_limited")),
        "{name}: {error}"
    );
    assert_eq!(client.close_code().await, 4429, "{name}");
}

#[test]
fn a_flood_of_any_kind_of_frame_closes_with_4429() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let begin = frame(0x01, b"{");
        for (name, first, payload) in [
            ("empty continuations", 0x00, b"".as_slice()),
            ("one byte continuations", 0x00, b" "),
            ("pings", 0x89, b""),
            ("large pings", 0x89, &[0; 125]),
            ("pongs", 0x8a, b""),
        ] {
            let flood = frame(first, payload).repeat(4000);
            expect_rate_limit(&fixture, name, &[begin.clone(), flood].concat()).await;
        }
        // The limit of bytes also holds for few, large messages.
        let message = json!({"type": "ping", "data": "x".repeat(16_000)}).to_string();
        let mut large = vec![0x81, 0x80 | 126];
        large.extend((message.len() as u16).to_be_bytes());
        large.extend([0; 4]);
        large.extend(message.as_bytes());
        expect_rate_limit(&fixture, "bytes", &large.repeat(19)).await;
    });
}

#[test]
fn frames_within_the_limits_are_answered() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        let pieces = [
            frame(0x01, br#"{"type":"ping","#),
            frame(0x00, b"").repeat(40),
            frame(0x89, b"between").repeat(40),
            frame(0x80, br#""data":1}"#),
        ];
        client
            .socket
            .get_mut()
            .write_all(&pieces.concat())
            .await
            .unwrap();
        assert_eq!(client.frame().await, json!({"type": "pong", "data": 1}));
        client.expect_no_event().await;
    });
}

#[test]
fn floods_do_not_disturb_other_clients() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut other = fixture.client().await;
        other.hello().await;
        let flood = [frame(0x01, b"{"), frame(0x00, b"").repeat(10_000)].concat();
        for seq in 1..=50 {
            // The server closes each flooding client after at most a hundred frames.
            let mut client = fixture.client().await;
            let _ = client.socket.get_mut().write_all(&flood).await;
            fixture.publish(1);
            assert_eq!(other.seqs(1).await, [seq]);
        }
        other.expect_no_event().await;
    });
}
