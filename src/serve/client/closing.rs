//! Closes a WebSocket connection: sends the reason and the Close frame, and discards the client's
//! remaining input.

use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::super::Tick;
use super::super::ending::End;
use super::Client;
use crate::event::ErrorCode;

/// While a connection closes, the client's input is read and discarded, with a pause after each
/// this many bytes: at most 12.8 MB per second. Unread input would make the kernel discard the last
/// frames to the client.
const DRAINED_BYTES_A_PAUSE: usize = 128 << 10;
/// Length of a pause in discarding input.
const DRAINING_PAUSE: Duration = Duration::from_millis(10);
/// Size of the buffer for discarded input, in bytes.
const DRAINED_AT_ONCE: usize = 16 << 10;
/// A refused client must be silent for this time before its connection is closed. Some clients
/// treat a close while they send as a loss of the connection.
const QUIET: Duration = Duration::from_millis(100);

impl Client {
    /// Closes the connection: sends waiting frames, the reason and a Close frame, then discards
    /// input for a while. If a socket is closed with unread input, the kernel discards sent data
    /// that the client has not read.
    pub(super) async fn close(mut self, end: End) {
        // A client that closes but keeps its connection open must not hold a slot.
        self.slot.leave();
        let settings = &self.shared.settings;
        let stopping = matches!(end, End::Stopping);
        let close_within = end.close_within(settings);
        let may_be_sending = matches!(end, End::Refused(_) | End::Broken(..));
        let refusal = match end {
            End::Gone => return,
            // After a Close frame of the client, only the reply may be sent.
            End::Closed => {
                self.answers.clear();
                None
            }
            End::BadClose(code) => {
                self.answers.clear();
                self.shared
                    .server_state
                    .metrics()
                    .refused(ErrorCode::Malformed);
                Some((code, None))
            }
            End::Stopping => Some((1001, None)),
            End::Broken(code, refusal) => Some((code, Some(refusal))),
            End::Idle(refusal) => Some((4408, Some(refusal))),
            End::Refused(refusal) => {
                Some((refusal.code.close_code().unwrap_or(1011), Some(refusal)))
            }
        };
        if let Some((code, refusal)) = refusal {
            if let Some(refusal) = refusal {
                self.shared.server_state.metrics().refused(refusal.code);
                tracing::debug!("a client is closed with {code}: {}", refusal.message);
                while let Some(missed) = self.cursor.take_missed() {
                    self.answer(&missed.answer());
                }
                self.answer(&refusal.answer());
            }
            self.answers.push_back(Message::Close(Some(CloseFrame {
                code: code.into(),
                reason: "".into(),
            })));
        }
        let Client {
            shared,
            mut socket,
            mut answers,
            ..
        } = self;
        let mut tick = shared.tick.clone();
        let leave = async {
            while let Some(answer) = answers.pop_front() {
                socket.send(answer).await?;
            }
            // Writes tungstenite's reply to a Close. The error at its end is expected.
            let _ = socket.flush().await;
            let stream = socket.get_mut().stream_mut();
            let (mut waste, mut drained) = (vec![0; DRAINED_AT_ONCE], 0);
            let mut is_quiet = !may_be_sending;
            if is_quiet {
                stream.shutdown().await?;
            }
            loop {
                let read = stream.read(&mut waste);
                let bytes = if is_quiet {
                    read.await?
                } else if let Ok(bytes) = timeout(QUIET, read).await {
                    bytes?
                } else {
                    is_quiet = true;
                    stream.shutdown().await?;
                    continue;
                };
                if bytes == 0 {
                    break;
                }
                drained += bytes;
                // Bounds the processor time of a client that goes on sending.
                if drained >= DRAINED_BYTES_A_PAUSE {
                    drained = 0;
                    sleep(DRAINING_PAUSE).await;
                }
            }
            Ok::<(), Error>(())
        };
        tokio::select! {
            _ = timeout(close_within, leave) => {}
            // A stopping daemon does not wait for a client that closes already.
            _ = tick.wait_for(|tick| *tick == Tick::Stopping), if !stopping => {}
        }
    }
}
