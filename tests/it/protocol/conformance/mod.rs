//! Tests of RFC 6455 on raw sockets: the cases of Autobahn's test suite, sections 1 to 7 and 10.
//!
//! Autobahn itself needs Python 2 and an echo server. In place of its echoed messages these tests
//! send `{"type":"ping","data":…}`, which the server answers with a `pong` with the same data.
//! Autobahn's messages above the size limit for clients get `too_large`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::*;
use expressd::testing::server::connect;

mod close;
mod framing;
mod utf8;

/// A frame that the server sends in a test case.
#[derive(Clone, Debug, PartialEq)]
enum Reaction {
    /// A JSON message `pong` with this data, verbatim.
    Echo(Vec<u8>),
    /// A WebSocket Pong frame with this payload.
    Pong(Vec<u8>),
    /// A JSON message `error` with this code.
    Error(&'static str),
    /// A WebSocket Close frame with this code (0: none) and reason, then the end of the stream.
    Close(u16, Vec<u8>),
}

use Reaction::{Close, Echo, Error as Refused, Pong};

/// A test case: the bytes that are sent on a new connection, and the expected frames of the server.
#[derive(Clone)]
struct Case {
    name: String,
    /// Bytes to send; each element is one write.
    send: Vec<Vec<u8>>,
    expect: Vec<Reaction>,
}

impl Case {
    fn new(name: impl Into<String>, frames: &[Vec<u8>], expect: Vec<Reaction>) -> Case {
        Case {
            name: name.into(),
            send: frames.to_vec(),
            expect,
        }
    }

    /// The same case with the bytes in writes of `size`.
    fn chopped(mut self, size: usize) -> Case {
        self.name += &format!(", in chops of {size}");
        let bytes = self.send.concat();
        self.send = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        self
    }
}

/// First byte of an unfragmented text frame. [`BINARY`], [`CLOSE`], [`PING`] and [`PONG`] are those
/// of other kinds.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// First byte of the last fragment of a message. [`MORE`] is that of a fragment in the middle.
const LAST: u8 = 0x80;
const MORE: u8 = 0x00;

/// A client's WebSocket frame with the first byte `first` and a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// A text message that the server echoes; `data` becomes a JSON string.
fn message(data: &[u8]) -> Vec<u8> {
    [br#"{"type":"ping","data":""#, data, br#""}"#].concat()
}

/// The expected reaction to [`message`] with this data.
fn echo(data: &[u8]) -> Reaction {
    Echo([b"\"", data, b"\""].concat())
}

/// The text message `payload` in fragments of `size` bytes.
fn fragments(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let pieces: Vec<&[u8]> = payload.chunks(size).collect();
    let last = pieces.len() - 1;
    pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| {
            let opcode = if index == 0 { 1 } else { 0 };
            frame(opcode | if index == last { LAST } else { MORE }, piece)
        })
        .collect()
}

/// The expected reactions to a violation of RFC 6455: an `error`, then a Close frame with this
/// code.
fn violation(code: u16) -> [Reaction; 2] {
    [Refused("malformed"), Close(code, Vec::new())]
}

/// Runs each case on its own connection, and panics with a list of all failures. There must be at
/// least `at_least` cases.
fn run(cases: Vec<Case>, at_least: usize) {
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    let fixture = Fixture::new(|_| {});
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let reactions = play(&fixture, case);
            let mut expect = case.expect.clone();
            if !matches!(expect.last(), Some(Close(..))) {
                // The connection must still be open and close normally.
                expect.extend([Echo(b"\"end\"".into()), Close(1000, b"bye".into())]);
            }
            (reactions.as_ref() != Ok(&expect))
                .then(|| format!("{}: expected {expect:?}, got {reactions:?}", case.name))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// Runs one case; returns the server's frames until the connection ends. The error describes an
/// unexpected frame or end.
fn play(fixture: &Fixture, case: &Case) -> Result<Vec<Reaction>, String> {
    let mut stream = connect(fixture.server.addr()).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    for piece in &case.send {
        // The server may have ended the connection already.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    if !matches!(case.expect.last(), Some(Close(..))) {
        let end = [frame(TEXT, &message(b"end")), frame(CLOSE, b"\x03\xe8bye")].concat();
        stream.write_all(&end).map_err(|error| error.to_string())?;
    }
    let mut reactions = Vec::new();
    while let Some((first, payload)) = read_frame(&mut stream)? {
        reactions.push(match first {
            PING => continue,
            PONG => Pong(payload),
            CLOSE => match payload.split_at_checked(2) {
                Some((code, reason)) => {
                    Close(u16::from_be_bytes([code[0], code[1]]), reason.to_vec())
                }
                None => Close(0, payload),
            },
            TEXT => text_reaction(&payload)?,
            other => return Err(format!("a frame that begins with {other:#x}")),
        });
    }
    Ok(reactions)
}

/// Classifies a text frame of the server as an echo or an error.
fn text_reaction(payload: &[u8]) -> Result<Reaction, String> {
    let shown = || String::from_utf8_lossy(payload).into_owned();
    if let Some(rest) = payload.strip_prefix(br#"{"type":"pong","data":"#) {
        return Ok(Echo(rest.strip_suffix(b"}").ok_or_else(shown)?.to_vec()));
    }
    let error: Value = serde_json::from_slice(payload).map_err(|_| shown())?;
    let codes = ["malformed", "bad_value", "too_large", "rate_limited"];
    codes
        .into_iter()
        .find(|code| error["type"] == "error" && error["code"] == **code)
        .map(Refused)
        .ok_or_else(shown)
}

/// Reads a WebSocket frame; returns (first byte, payload), `None` at the end of the stream.
fn read_frame(stream: &mut TcpStream) -> Result<Option<(u8, Vec<u8>)>, String> {
    let mut read = |bytes: &mut [u8]| stream.read_exact(bytes);
    let mut head = [0; 2];
    match read(&mut head[..1]) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(format!("the end: {error}")),
    }
    let mut rest = || -> std::io::Result<Vec<u8>> {
        read(&mut head[1..])?;
        let length = match head[1] {
            length @ 0..126 => usize::from(length),
            126 => {
                let mut length = [0; 2];
                read(&mut length)?;
                usize::from(u16::from_be_bytes(length))
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        let mut payload = vec![0; length];
        read(&mut payload)?;
        Ok(payload)
    };
    let payload = rest().map_err(|error| format!("inside a frame: {error}"))?;
    Ok(Some((head[0], payload)))
}
