//! Checks the frames of clients against RFC 6455: their headers, and the payload of Close frames.

use std::io;

/// A violation by a client, after which nothing more is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireFault {
    /// A frame violates RFC 6455, as described. The connection is closed with code 1002.
    #[error("WebSocket framing: {0}")]
    Framing(&'static str),
    /// The Close frame is malformed, and is answered with this close code.
    #[error("a malformed Close frame")]
    Close(u16),
    /// A message, with all its fragments, exceeds the size limit.
    #[error("a client frame is too large")]
    TooLarge,
    /// The client sent too many frames or bytes within a second.
    #[error("too many WebSocket frames or bytes in a second")]
    RateLimited,
}

impl WireFault {
    /// The violation that `error` was made from; `None` for any other I/O error.
    pub fn from_io(error: &io::Error) -> Option<WireFault> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<WireFault> for io::Error {
    fn from(fault: WireFault) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

/// Size of the longest frame header in bytes: 2, and 8 for the length, and 4 for the mask (RFC
/// 6455,
/// 5.2).
const MAX_HEADER: usize = 14;
/// Opcode of a Close frame.
const CLOSE: u8 = 8;
/// Size of the longest payload of a control frame in bytes (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;

/// Parses a client's frames incrementally, and checks headers and the payload of Close frames.
pub(super) struct Framing {
    /// The header of the current frame, as far as it has arrived.
    header: [u8; MAX_HEADER],
    /// Number of bytes in `header` that have arrived; 0 between frames.
    header_bytes: usize,
    /// Number of payload bytes of the current frame that have not arrived.
    payload_left: u64,
    /// Whether a message has begun whose last fragment has not arrived.
    fragmented: bool,
    /// Payload size of the current message in bytes, with all fragments so far.
    message_bytes: u64,
    max_message_bytes: u64,
    /// The payload of the Close frame that is being read; `None` during any other frame.
    close: Option<Vec<u8>>,
}

/// The result of [`Framing::step`].
#[derive(Default)]
pub(super) struct Step {
    /// Number of consumed bytes.
    pub bytes: usize,
    /// Whether the step completed the header of a frame.
    pub frame: bool,
    /// The violation; `None` if the bytes are valid.
    pub fault: Option<WireFault>,
}

impl Framing {
    pub fn new(max_message_bytes: usize) -> Self {
        Framing {
            header: [0; MAX_HEADER],
            header_bytes: 0,
            payload_left: 0,
            fragmented: false,
            message_bytes: 0,
            max_message_bytes: max_message_bytes as u64,
            close: None,
        }
    }

    /// Whether the next byte begins a frame.
    pub fn between_frames(&self) -> bool {
        self.header_bytes == 0
    }

    /// Consumes one byte of a header, or the bytes at the start of `bytes` that belong to the
    /// current frame's payload. `bytes` must not be empty.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        if self.payload_left > 0 {
            let take = self.payload_left.min(bytes.len() as u64) as usize;
            self.payload_left -= take as u64;
            if let Some(close) = &mut self.close {
                close.extend(&bytes[..take]);
            }
            let fault = if self.payload_left == 0 {
                self.end_frame()
            } else {
                None
            };
            return Step {
                bytes: take,
                fault,
                ..Step::default()
            };
        }
        self.header[self.header_bytes] = bytes[0];
        self.header_bytes += 1;
        let mut step = Step {
            bytes: 1,
            ..Step::default()
        };
        step.fault = match self.header_bytes {
            1 => self.check_first(),
            2 => self.check_second(),
            _ => None,
        };
        if step.fault.is_none() && self.header_bytes > 1 && self.header_bytes == self.header_needs()
        {
            step.frame = true;
            step.fault = self.begin_payload();
            if step.fault.is_none() && self.payload_left == 0 {
                step.fault = self.end_frame();
            }
        }
        if self.opcode() == CLOSE
            && let Some(WireFault::Framing(_)) = step.fault
        {
            step.fault = Some(WireFault::Close(1002));
        }
        step
    }

    fn is_final(&self) -> bool {
        self.header[0] & 0x80 != 0
    }
    fn opcode(&self) -> u8 {
        self.header[0] & 0x0f
    }
    fn is_control(&self) -> bool {
        self.opcode() & 0x08 != 0
    }
    /// Size of the current frame's header in bytes, which its second byte determines. The mask is
    /// always present in a client's frame.
    fn header_needs(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 8,
            127 => MAX_HEADER,
            _ => 6,
        }
    }

    /// Checks the first byte of a header: reserved bits, opcode, fragmentation.
    fn check_first(&self) -> Option<WireFault> {
        let wrong = match (self.opcode(), self.fragmented) {
            _ if self.header[0] & 0x70 != 0 => "a reserved bit is set",
            (3..=7 | 11..=15, _) => "an unknown opcode",
            (0, false) => "a continuation without a beginning",
            (1 | 2, true) => "a new message inside a fragmented one",
            _ if self.is_control() && !self.is_final() => "a fragmented control frame",
            _ => return None,
        };
        Some(WireFault::Framing(wrong))
    }

    /// Checks the second byte of a header: mask, and length of a control frame.
    fn check_second(&self) -> Option<WireFault> {
        if self.header[1] & 0x80 == 0 {
            return Some(WireFault::Framing("a client frame without a mask"));
        }
        (self.is_control() && self.header[1] & 0x7f > MAX_CONTROL as u8)
            .then_some(WireFault::Framing("a control frame over 125 bytes"))
    }

    /// Checks the length of the payload, once the header is complete.
    fn begin_payload(&mut self) -> Option<WireFault> {
        let (length, least) = match self.header[1] & 0x7f {
            126 => (
                u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
                126,
            ),
            127 => {
                let bytes = self.header[2..10].try_into().expect("eight bytes");
                (u64::from_be_bytes(bytes), 1 << 16)
            }
            short => (u64::from(short), 0),
        };
        if length < least || length >> 63 != 0 {
            return Some(WireFault::Framing(
                "a length that is not minimal, or over 63 bits",
            ));
        }
        if !self.is_control() {
            self.message_bytes = length
                + if self.opcode() == 0 {
                    self.message_bytes
                } else {
                    0
                };
            if self.message_bytes > self.max_message_bytes {
                return Some(WireFault::TooLarge);
            }
        }
        self.close = (self.opcode() == CLOSE).then(Vec::new);
        self.payload_left = length;
        None
    }

    /// Ends the current frame, and checks the payload of a Close frame.
    fn end_frame(&mut self) -> Option<WireFault> {
        if !self.is_control() {
            self.fragmented = !self.is_final();
        }
        let mask: [u8; 4] = self.header[self.header_needs() - 4..self.header_needs()]
            .try_into()
            .expect("four bytes");
        self.header_bytes = 0;
        let mut payload = self.close.take()?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        check_close(&payload)
    }
}

/// Checks the unmasked payload of a Close frame (RFC 6455, 5.5.1 and 7.4). It must be empty, or a
/// permitted close code with a reason in UTF-8.
fn check_close(payload: &[u8]) -> Option<WireFault> {
    let reason = match payload {
        [] => return None,
        [_] => return Some(WireFault::Close(1002)),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 => reason,
            _ => return Some(WireFault::Close(1002)),
        },
    };
    std::str::from_utf8(reason)
        .is_err()
        .then_some(WireFault::Close(1007))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_payload_must_be_empty_or_a_permitted_code_with_utf8() {
        let close = check_close;
        assert_eq!(close(b""), None);
        assert_eq!(close(b"\x03"), Some(WireFault::Close(1002)));
        for code in [1000_u16, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert_eq!(close(&code.to_be_bytes()), None, "{code}");
        }
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert_eq!(
                close(&code.to_be_bytes()),
                Some(WireFault::Close(1002)),
                "{code}"
            );
        }
        assert_eq!(close(b"\x03\xe8\xff"), Some(WireFault::Close(1007)));
    }
}
