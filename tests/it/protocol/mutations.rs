//! Sends ten thousand mutated frames to the server: it survives, each connection ends, and another
//! client loses no event.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::*;
use expressd::testing::server::connect;

/// Number of mutated frames.
const FRAMES: usize = 10_000;
/// Number of mutated frames that one connection sends.
const FRAMES_PER_CONNECTION: usize = 25;

/// The pseudo-random generator xorshift64* with a fixed seed, so that every run sends the same
/// frames.
struct Random(u64);

impl Random {
    /// A number from 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// A client's WebSocket frame with the first byte `first`. Its mask is zero, so that mutations
/// change the payload directly.
fn frame_with_zero_mask(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Frames of every kind that a client may send.
fn valid_frames() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"type":"ping","data":{"a":[1,2.5,null,"é"],"b":-1e10}}"#,
        concat!(
            r#"{"type":"subscribe","events":["expression"],"subjects":["s1"],"labels":["happy"],"#,
            r#""min_confidence":0.5,"max_rate_hz":2,"resume_after":0}"#,
        ),
        r#"{"type":"subscribe","resume_after":0}"#,
        concat!(
            r#"{"type":"transcript","text":"Good day","start_ns":1,"end_ns":2,"final":true,"#,
            r#""subject":"s1"}"#,
        ),
        r#"{"type":"pause","what":"capture"}"#,
    ];
    let mut frames: Vec<Vec<u8>> = texts
        .map(|text| frame_with_zero_mask(0x81, text.as_bytes()))
        .into();
    frames.push(frame_with_zero_mask(0x01, texts[0].as_bytes()));
    frames.push(frame_with_zero_mask(0x80, b"}"));
    frames.push(frame_with_zero_mask(0x00, b""));
    frames.push(frame_with_zero_mask(0x89, b"ping"));
    frames.push(frame_with_zero_mask(0x8a, &[7; 125]));
    frames.push(frame_with_zero_mask(0x82, &[7; 300]));
    frames.push(frame_with_zero_mask(0x88, b"\x03\xe8bye"));
    frames.push(frame_with_zero_mask(0x81, &[b'['; 400]));
    frames
}

/// Changes a frame in one to four places.
fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random
            .below(frame.len().max(1))
            .min(frame.len().saturating_sub(1));
        match random.below(7) {
            0 if !frame.is_empty() => frame[at] ^= 1 << random.below(8),
            1 if !frame.is_empty() => frame[at] = random.byte(),
            2 => frame.insert(at, random.byte()),
            3 if !frame.is_empty() => drop(frame.remove(at)),
            4 => frame.truncate(at),
            5 => {
                let end = (at + random.below(40)).min(frame.len());
                let piece = frame[at..end].to_vec();
                frame.splice(at..at, piece);
            }
            // Changes the header, which holds most of the protocol.
            _ if frame.len() > 1 => frame[random.below(2)] = random.byte(),
            _ => {}
        }
    }
}

#[test]
fn mutated_frames_break_nothing_and_disturb_no_other_client() {
    let fixture = Fixture::new(|settings| {
        // With the default limits, connections would end before they reach the tested code.
        settings.max_client_frames_per_s = usize::MAX >> 1;
        settings.max_wire_frames_per_s = usize::MAX;
        settings.max_wire_bytes_per_s = usize::MAX;
        settings.unsent_events = 2 * FRAMES;
    });
    let sound = valid_frames();
    let mut random = Random(0x1234_5678_9abc_def1);
    block_on(async {
        let mut other = fixture.client().await;
        let mut next = other.hello().await["next_seq"].as_u64().expect("a seq");
        for round in 0..FRAMES / FRAMES_PER_CONNECTION {
            let mut stream = connect(fixture.server.addr()).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            for _ in 0..FRAMES_PER_CONNECTION {
                let mut frame = sound[random.below(sound.len())].clone();
                mutate(&mut frame, &mut random);
                // The connection may be closed already.
                let _ = stream.write_all(&frame);
            }
            let _ = stream.shutdown(Shutdown::Write);
            let mut answers = [0; 4096];
            loop {
                match stream.read(&mut answers) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                    Err(error) => panic!("connection {round} did not end: {error}"),
                }
            }
            fixture.publish(1);
            assert_eq!(other.seqs(1).await, [next], "connection {round}");
            next += 1;
        }
        other.expect_no_event().await;
        assert_eq!(fixture.http("GET", "/healthz", "").await.0, 200);
    });
}
