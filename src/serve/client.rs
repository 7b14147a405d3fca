//! The task of a WebSocket client: sends events, answers requests, and enforces the client's
//! limits.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Sink, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::task::coop;
use tokio::time::{Duration, Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::client_slots::{ClientSlot, Command};
use super::ending::End;
use super::identity::{PROTOCOL, server_name};
use super::wire::Wire;
use super::{Shared, Tick};
use crate::event::{Answer, ClockPair, ErrorCode, Hello, Refusal, Request};
use crate::hub::{Cursor, Missed, Next};
use crate::time::monotonic_nanos;

mod closing;

type Socket = WebSocketStream<Wire<TokioIo<Upgraded>>>;

/// Largest number of answers that may wait for a client. Beyond it, no frame of the client is read.
const MAX_ANSWERS: usize = 4;

/// A connected client.
pub(super) struct Client {
    shared: Arc<Shared>,
    slot: ClientSlot,
    socket: Socket,
    cursor: Cursor,
    /// The bundle's labels, which a subscription may name.
    labels: Vec<String>,
    /// Frames for this client only, which are sent before events.
    answers: VecDeque<Message>,
    /// Since when the socket has accepted nothing although frames wait; `None` if it accepts.
    blocked_since: Option<Instant>,
    last_pong: Instant,
    next_ping: Instant,
    /// Arrival times of the client's messages within the last second, oldest first.
    recent_frames: VecDeque<Instant>,
}

/// Why a client's task wakes up.
enum Wakeup {
    /// The client sent a message.
    Message(Message),
    /// A timeout of the client may be due.
    Timer,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, slot: ClientSlot, socket: Socket) -> Self {
        let now = Instant::now();
        let settings = &shared.settings;
        Client {
            slot,
            cursor: Cursor::new(shared.ring.clone(), settings.unsent_events),
            labels: Vec::new(),
            answers: VecDeque::new(),
            blocked_since: None,
            last_pong: now,
            next_ping: now + settings.ping_every,
            recent_frames: VecDeque::new(),
            socket,
            shared,
        }
    }

    /// Serves the client until one side ends the connection. If its `Origin` is not `allowed`, the
    /// client gets an `error` frame and is closed.
    pub(super) async fn run(mut self, allowed: bool) {
        let server_state = self.shared.server_state.clone();
        let _counted = Counted::new(server_state.metrics());
        let end = if allowed {
            self.send_hello();
            self.serve_messages().await
        } else {
            End::Refused(Refusal::new(
                ErrorCode::ForbiddenOrigin,
                "this web page's origin is not on the list: add it to [serve] allow_origins",
                None,
            ))
        };
        self.close(end).await;
    }

    fn send_hello(&mut self) {
        let server_state = &self.shared.server_state;
        let facts = server_state.hello();
        self.labels = facts.bundle.labels.clone();
        let (oldest_seq, next_seq) = self.cursor.bounds();
        // Both clocks are read without delay in between, because the times are to be simultaneous.
        let clock = ClockPair {
            media_ns: server_state.clock().now(),
            wall: format!("{:.6}", jiff::Timestamp::now()),
        };
        let hello = Hello {
            protocol: PROTOCOL,
            server: server_name(),
            session: facts.session,
            clock,
            bundle: facts.bundle,
            subscription: self.cursor.subscription().clone(),
            oldest_seq,
            next_seq,
        };
        self.answer(&Answer::Hello(Box::new(hello)));
    }

    fn answer(&mut self, answer: &Answer) {
        self.answers.push_back(Message::text(answer.to_json()));
    }

    /// Sends events and answers messages until the connection has to end. Returns why.
    async fn serve_messages(&mut self) -> End {
        let mut tick = self.shared.tick.clone();
        let slot = self.slot.state.clone();
        let timer = tokio::time::sleep_until(self.next_timeout());
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                wakeup = poll_fn(|cx| self.poll(cx, timer.as_mut())) => {
                    let handled = match wakeup {
                        Ok(Wakeup::Message(message)) => self.handle_message(message),
                        Ok(Wakeup::Timer) => self.check_timeouts(),
                        Err(end) => Err(end),
                    };
                    if let Err(end) = handled {
                        return end;
                    }
                }
                command = slot.command() => if let Err(end) = self.execute(command) {
                    return end;
                },
                changed = tick.changed() => {
                    if changed.is_err() || *tick.borrow_and_update() == Tick::Stopping {
                        return End::Stopping;
                    }
                },
            }
        }
    }

    /// Writes as much as the socket accepts, checks the timer, then reads one message.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Result<Wakeup, End>> {
        let written = self.write(cx);
        let lost = self.cursor.take_uncounted();
        if lost > 0 {
            self.shared
                .server_state
                .metrics()
                .dropped("slow_client", lost);
        }
        if written.is_err() {
            return Poll::Ready(Err(End::Gone));
        }
        // An early timer finds nothing due and is set again. A late one would miss the timeout of a
        // stall that has just begun.
        let due = self.next_timeout();
        if due < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(due);
        }
        if timer.poll(cx).is_ready() {
            return Poll::Ready(Ok(Wakeup::Timer));
        }
        if self.answers.len() >= MAX_ANSWERS {
            return Poll::Pending;
        }
        let Poll::Ready(read) = self.socket.poll_next_unpin(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match read {
            Some(Ok(message)) => Ok(Wakeup::Message(message)),
            None => Err(End::Closed),
            Some(Err(error)) => Err(End::of_read(error, &self.shared.settings)),
        })
    }

    /// Writes answers and events until the socket accepts no more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let mut moved = false;
        let mut socket = Pin::new(&mut self.socket);
        let metrics = self.shared.server_state.metrics();
        loop {
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break,
            }
            self.blocked_since = None;
            let message = match self.answers.pop_front() {
                Some(answer) => answer,
                None => match self.cursor.next_frame() {
                    Some(Next::Frame {
                        seq,
                        frame,
                        published_nanos,
                    }) => {
                        match socket.as_mut().start_send(Message::Text(frame)) {
                            Ok(()) => {
                                metrics.socket_write.observe_ms(
                                    (monotonic_nanos() - published_nanos) as f64 * 1e-6,
                                );
                                moved = true;
                            }
                            // The event exceeds the write buffer: it is dropped for this client and
                            // reported.
                            Err(Error::WriteBufferFull(_)) => {
                                self.cursor.add_missed(Missed::range(seq, seq));
                                metrics.dropped("too_large", 1);
                            }
                            Err(error) => return Err(error),
                        }
                        continue;
                    }
                    Some(Next::Dropped(missed)) => Message::text(missed.answer().to_json()),
                    None => return Ok(()),
                },
            };
            socket.as_mut().start_send(message)?;
            moved = true;
        }
        // The socket is full, or tokio's budget of this task is used up. The client falls behind
        // only in the first case, and only if nothing was written.
        if !moved && coop::has_budget_remaining() {
            self.cursor.drop_excess();
        }
        if moved || self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
        }
        Ok(())
    }

    /// The time of the next ping or timeout.
    fn next_timeout(&self) -> Instant {
        let settings = &self.shared.settings;
        let timer = self.next_ping.min(self.last_pong + settings.pong_within);
        self.blocked_since
            .map_or(timer, |since| timer.min(since + settings.stalled_for))
    }

    /// Closes a client that has stalled or sent no pong in time, and sends a ping if one is due.
    fn check_timeouts(&mut self) -> Result<(), End> {
        let (now, settings) = (Instant::now(), &self.shared.settings);
        if self
            .blocked_since
            .is_some_and(|since| now >= since + settings.stalled_for)
        {
            let message = format!(
                "nothing was read for {} s: read faster, or subscribe to less",
                settings.stalled_for.as_secs_f32()
            );
            return Err(End::Refused(Refusal::new(
                ErrorCode::TooSlow,
                message,
                None,
            )));
        }
        if now >= self.last_pong + settings.pong_within {
            return Err(End::Idle(Refusal::new(
                ErrorCode::TooSlow,
                format!("no pong for {} s", settings.pong_within.as_secs_f32()),
                None,
            )));
        }
        if now >= self.next_ping {
            self.next_ping = now + settings.ping_every;
            // A stalled client gets no second ping behind the first.
            if self.blocked_since.is_none() {
                self.ping();
            }
        }
        Ok(())
    }

    fn ping(&mut self) {
        self.answers.push_back(Message::Ping(Bytes::new()));
        self.slot.state.pinged(monotonic_nanos());
    }

    /// Executes a command from [`ClientSlots`](super::client_slots::ClientSlots).
    fn execute(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Ping => self.ping(),
            Command::Evict => {
                return Err(End::Idle(Refusal::new(
                    ErrorCode::TooSlow,
                    "no pong, and another client needs this place",
                    None,
                )));
            }
        }
        Ok(())
    }

    fn handle_message(&mut self, message: Message) -> Result<(), End> {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            self.count_frame()?;
        }
        match message {
            Message::Text(text) => match Request::parse(&text, &self.labels) {
                Ok(request) => self.handle_request(request),
                Err(refusal) if refusal.code.close_code().is_some() => {
                    return Err(End::Refused(refusal));
                }
                Err(refusal) => self.answer(&refusal.answer()),
            },
            Message::Binary(_) => {
                return Err(End::Refused(Refusal::new(
                    ErrorCode::Malformed,
                    "frames are JSON text, not binary",
                    None,
                )));
            }
            Message::Pong(_) => {
                self.last_pong = Instant::now();
                self.slot.state.answered();
            }
            Message::Close(_) => return Err(End::Closed),
            // tungstenite answers a ping itself.
            Message::Ping(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    /// Counts a message, and refuses it if the client has sent too many within a second. [`Wire`]
    /// limits WebSocket frames and bytes.
    fn count_frame(&mut self) -> Result<(), End> {
        let (now, most) = (Instant::now(), self.shared.settings.max_client_frames_per_s);
        while self
            .recent_frames
            .front()
            .is_some_and(|first| now.duration_since(*first) >= Duration::from_secs(1))
        {
            self.recent_frames.pop_front();
        }
        if self.recent_frames.len() >= most {
            return Err(End::Refused(Refusal::new(
                ErrorCode::RateLimited,
                format!("a client may send {most} frames a second"),
                None,
            )));
        }
        self.recent_frames.push_back(now);
        Ok(())
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Transcript(transcript) => {
                if let Err(refusal) = self
                    .shared
                    .server_state
                    .submit_transcript(self.slot.number, transcript)
                {
                    self.answer(&refusal.answer());
                }
            }
            Request::Ping { data } => self.answer(&Answer::Pong { data }),
            Request::Subscribe(subscribe) => {
                while let Some(missed) = self.cursor.take_missed() {
                    self.answer(&missed.answer());
                }
                match self
                    .cursor
                    .subscribe(subscribe.subscription, subscribe.resume_after)
                {
                    Ok(()) => self.answer(&Answer::Subscribed {
                        subscription: self.cursor.subscription().clone(),
                    }),
                    Err(error) => {
                        let message = format!(
                            "`resume_after` must be below {}, the next seq of this session; is it \
                             from an earlier session?",
                            error.next_seq
                        );
                        self.answer(
                            &Refusal::new(ErrorCode::BadValue, message, Some("subscribe")).answer(),
                        );
                    }
                }
            }
        }
    }
}

/// Counts a connected client in the metrics until this value is dropped.
struct Counted(prometheus_client::metrics::gauge::Gauge);

impl Counted {
    fn new(metrics: &super::Metrics) -> Self {
        metrics.clients.inc();
        metrics.clients_total.inc();
        Counted(metrics.clients.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
