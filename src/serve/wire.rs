//! A byte stream between the socket and tungstenite: checks RFC 6455's framing, and limits frames
//! and bytes per second.
//!
//! tungstenite joins fragments and handles control frames internally, so its messages do not
//! measure a client's traffic. [`Wire`] sees each frame header first. Bytes before a violation are
//! passed on; then reading fails with a [`WireFault`].

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant};

use super::framing::{Framing, WireFault};

/// Limits of the traffic that one client may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireLimits {
    /// Largest size of a message with all its fragments, in bytes.
    pub message_bytes: usize,
    /// Largest number of frames per second, control frames and fragments included.
    pub frames_per_s: usize,
    /// Largest number of bytes per second, headers included.
    pub bytes_per_s: usize,
}

/// A client's byte stream. Reading fails once the client violates the framing or a limit.
pub(super) struct Wire<S> {
    stream: S,
    framing: Framing,
    rate: Rate,
    limits: WireLimits,
    /// The first violation; reading fails from then on.
    fault: Option<WireFault>,
}

impl<S> Wire<S> {
    pub fn new(stream: S, limits: WireLimits) -> Self {
        Wire {
            stream,
            framing: Framing::new(limits.message_bytes),
            rate: Rate::default(),
            limits,
            fault: None,
        }
    }

    /// The underlying stream, to drain it while the connection closes.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Counts and checks the bytes `fresh`, which arrived at `now`. Returns how many of them may be
    /// passed on: on a violation, those before the frame at fault.
    fn inspect(&mut self, fresh: &[u8], now: Instant) -> usize {
        let (mut at, mut frame_at) = (0, 0);
        self.rate.add(now, 0, fresh.len());
        while at < fresh.len() {
            if self.framing.between_frames() {
                frame_at = at;
            }
            let step = self.framing.step(&fresh[at..]);
            at += step.bytes;
            let mut fault = step.fault;
            if fault.is_none() && step.frame {
                self.rate.add(now, 1, 0);
            }
            if fault.is_none()
                && (self.rate.frames > self.limits.frames_per_s
                    || self.rate.bytes > self.limits.bytes_per_s)
            {
                fault = Some(WireFault::RateLimited);
            }
            if fault.is_some() {
                self.fault = fault;
                return frame_at;
            }
        }
        at
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(fault) = self.fault {
            return Poll::Ready(Err(fault.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let passed = self.inspect(&buf.filled()[before..], Instant::now());
        buf.set_filled(before + passed);
        Poll::Ready(match self.fault {
            Some(fault) if passed == 0 => Err(fault.into()),
            _ => Ok(()),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Counts the frames and bytes of the last second.
#[derive(Default)]
struct Rate {
    /// Entries of time, number of frames and number of bytes, oldest first. Traffic within
    /// [`GRAIN`] of an entry's time is added to that entry.
    recent: VecDeque<(Instant, usize, usize)>,
    /// Sum of the frames in `recent`.
    frames: usize,
    /// Sum of the bytes in `recent`.
    bytes: usize,
}

/// The time in which frames and bytes are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// The resolution of the counts in time, which bounds their memory.
const GRAIN: Duration = Duration::from_millis(10);

impl Rate {
    fn add(&mut self, now: Instant, frames: usize, bytes: usize) {
        while let Some((since, old_frames, old_bytes)) = self.recent.front()
            && now.duration_since(*since) >= WINDOW
        {
            self.frames -= old_frames;
            self.bytes -= old_bytes;
            self.recent.pop_front();
        }
        self.frames += frames;
        self.bytes += bytes;
        match self.recent.back_mut() {
            Some((since, of_frames, of_bytes)) if now.duration_since(*since) < GRAIN => {
                *of_frames += frames;
                *of_bytes += bytes;
            }
            _ => self.recent.push_back((now, frames, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WireLimits = WireLimits {
        message_bytes: 1000,
        frames_per_s: 10,
        bytes_per_s: 4000,
    };

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        bytes
    }

    /// Feeds `bytes` in pieces of `size` bytes. Returns the number of bytes that pass, and the
    /// violation.
    fn passed(bytes: &[u8], size: usize) -> (usize, Option<WireFault>) {
        let mut wire = Wire::new((), LIMITS);
        let (now, mut passed) = (Instant::now(), 0);
        for piece in bytes.chunks(size) {
            passed += wire.inspect(piece, now);
            if wire.fault.is_some() {
                break;
            }
        }
        (passed, wire.fault)
    }

    #[test]
    fn valid_frames_pass_in_pieces_of_any_size() {
        let bytes = [
            frame(0x81, b"text"),
            frame(0x01, b"fragm"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"ented"),
            frame(0x82, &[0; 300]),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        for size in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(passed(&bytes, size), (bytes.len(), None), "{size}");
        }
    }

    #[test]
    fn a_violation_stops_later_bytes_and_passes_earlier_ones() {
        let before = frame(0x81, b"text");
        let mut oversized_control = frame(0x89, &[0; 126]);
        oversized_control.truncate(2);
        for wrong in [
            frame(0x91, b""),
            frame(0xa1, b""),
            frame(0xc1, b""),
            frame(0x83, b""),
            frame(0x8b, b""),
            frame(0x80, b""),
            frame(0x00, b""),
            frame(0x09, b""),
            oversized_control,
            b"\x81\x00".to_vec(),
            b"\x81\xfe\x00\x05\0\0\0\0".to_vec(),
            b"\x81\xff\0\0\0\0\0\0\x01\0\0\0\0\0".to_vec(),
            b"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        ] {
            let bytes = [before.clone(), wrong.clone(), before.clone()].concat();
            let (count, fault) = passed(&bytes, bytes.len());
            assert_eq!(count, before.len(), "{wrong:x?}");
            assert!(matches!(fault, Some(WireFault::Framing(_))), "{wrong:x?}");
            assert_eq!(passed(&bytes, 1).1, fault, "{wrong:x?}");
        }
        let interrupted = [frame(0x01, b"a"), frame(0x81, b"b")].concat();
        assert!(matches!(
            passed(&interrupted, 100).1,
            Some(WireFault::Framing(_))
        ));
    }

    #[test]
    fn the_size_limit_applies_to_a_message_with_all_its_fragments() {
        assert_eq!(passed(&frame(0x81, &[b' '; 1000]), 100).1, None);
        assert_eq!(
            passed(&frame(0x81, &[b' '; 1001]), 100),
            (0, Some(WireFault::TooLarge))
        );
        let pieces = [
            frame(0x01, &[b' '; 600]),
            frame(0x89, b"between"),
            frame(0x80, &[b' '; 401]),
        ]
        .concat();
        assert_eq!(passed(&pieces, 4000).1, Some(WireFault::TooLarge));
    }

    #[test]
    fn frames_and_bytes_per_second_are_limited_for_every_type_of_frame() {
        for first in [0x89, 0x8a, 0x00] {
            let mut wire = Wire::new((), LIMITS);
            let began = Instant::now();
            let begin = frame(0x01, b"");
            assert_eq!(wire.inspect(&begin, began), begin.len());
            let nine = frame(first, b"").repeat(9);
            assert_eq!(wire.inspect(&nine, began), nine.len());
            let later = began + WINDOW;
            let ten = frame(first, b"").repeat(10);
            assert_eq!(wire.inspect(&ten, later), ten.len());
            let one = frame(first, b"");
            assert_eq!(wire.inspect(&one, later + WINDOW / 2), 0);
            assert_eq!(wire.fault, Some(WireFault::RateLimited));
        }
        let mut wire = Wire::new((), LIMITS);
        let began = Instant::now();
        let large = frame(0x82, &[0; 990]);
        for _ in 0..4 {
            assert_eq!(wire.inspect(&large, began), large.len());
        }
        assert_eq!(wire.inspect(&large, began + WINDOW / 2), 0);
        assert_eq!(wire.fault, Some(WireFault::RateLimited));
    }
}
