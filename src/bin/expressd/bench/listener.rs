//! A minimal WebSocket client that records the arrival time of each event. It parses only `seq`, so
//! that its cost is small beside the daemon's.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use expressd::time::{Clock, MediaTime, SystemClock};

/// A WebSocket client that reads events on its own thread.
pub struct Listener {
    socket: TcpStream,
    thread: JoinHandle<Vec<(u64, MediaTime)>>,
}

impl Listener {
    /// Connects to the event socket of the server at `address`. `clock` gives the arrival times.
    ///
    /// # Panics
    /// The server does not accept the connection, or no thread can be started.
    pub fn connect(address: SocketAddr, clock: Arc<SystemClock>) -> Listener {
        let mut socket = TcpStream::connect(address).expect("our own server accepts");
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket
            .write_all(request.as_bytes())
            .expect("our own server reads");
        let reading = socket.try_clone().expect("a second handle");
        let work = move || arrivals(BufReader::new(reading), &clock);
        let thread = std::thread::Builder::new()
            .name("listener".into())
            .spawn(work)
            .expect("the system gives threads");
        Listener { socket, thread }
    }

    /// Closes the connection. Returns (`seq`, arrival time) of each event.
    pub fn finish(self) -> Vec<(u64, MediaTime)> {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.thread.join().unwrap_or_default()
    }
}

/// Skips the handshake's response, then returns (`seq`, arrival time) of each event until the
/// connection ends.
fn arrivals(mut from: BufReader<TcpStream>, clock: &SystemClock) -> Vec<(u64, MediaTime)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if from.read_exact(&mut byte).is_err() {
            return Vec::new();
        }
        head.push(byte[0]);
    }
    let mut seen = Vec::new();
    while let Some(payload) = frame(&mut from) {
        let at = clock.now();
        seen.extend(seq(&payload).map(|seq| (seq, at)));
    }
    seen
}

/// Reads one WebSocket frame of any type and returns its payload; `None` at the end of the
/// connection. A server's frames are not masked (RFC 6455).
fn frame(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    from.read_exact(&mut head).ok()?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut more = [0; 2];
            from.read_exact(&mut more).ok()?;
            usize::from(u16::from_be_bytes(more))
        }
        127 => {
            let mut more = [0; 8];
            from.read_exact(&mut more).ok()?;
            usize::try_from(u64::from_be_bytes(more)).ok()?
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).ok()?;
    Some(payload)
}

/// The value of `seq` in an event's JSON text.
fn seq(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let rest = &text[text.find("\"seq\":")? + 6..];
    rest[..rest.find([',', '}'])?].parse().ok()
}
