//! One client: its socket, its cursor, its limits.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Sink, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::coop;
use tokio::time::{Duration, Instant, Sleep, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::ending::End;
use super::places::{Command, Place};
use super::wire::Wire;
use super::{Shared, Tick, upgrade};
use crate::event::{Answer, ClockPair, ErrorCode, Hello, Refusal, Request};
use crate::hub::{Cursor, Missed, Next};
use crate::time::monotonic_nanos;

type Socket = WebSocketStream<Wire<TokioIo<Upgraded>>>;

/// Answers that may wait before the client's next frame is read.
const MAX_ANSWERS: usize = 4;
/// While a connection closes, what the client still sends is read and thrown away, so that its kernel does not throw away the last frames:
/// 12.8 MB a second at most, for as long as the goodbye may take.
const DRAINED_BYTES_A_PAUSE: usize = 128 << 10;
const DRAINING_PAUSE: Duration = Duration::from_millis(10);
const DRAINED_AT_ONCE: usize = 16 << 10;
/// Our end of a connection is closed once a client that was refused has sent nothing for so long.
/// Closed while it sends, it looks to some clients like a loss of the connection.
const QUIET: Duration = Duration::from_millis(100);

pub(super) struct Client {
    shared: Arc<Shared>,
    place: Place,
    socket: Socket,
    cursor: Cursor,
    labels: Vec<String>,
    /// Frames to this client alone; they go before events.
    answers: VecDeque<Message>,
    /// Since when the socket has taken nothing although something waits.
    blocked_since: Option<Instant>,
    last_pong: Instant,
    next_ping: Instant,
    /// When the newest client frames came, as many as are allowed in a second.
    recent_frames: VecDeque<Instant>,
}

/// What a client's task has to do next.
enum Turn {
    VadBlock(Message),
    Alarm,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, place: Place, socket: Socket) -> Self {
        let now = Instant::now();
        let settings = &shared.settings;
        Client {
            place,
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

    /// Talks until one side ends it. `allowed`: whether the client's origin is.
    pub(super) async fn run(mut self, allowed: bool) {
        let server_state = self.shared.server_state.clone();
        let _counted = Counted::new(server_state.metrics());
        let end = if allowed {
            self.greet();
            self.talk().await
        } else {
            End::Refused(Refusal::new(
                ErrorCode::ForbiddenOrigin,
                "this web page's origin is not on the list: add it to [serve] allow_origins",
                None,
            ))
        };
        self.part(end).await;
    }

    fn greet(&mut self) {
        let server_state = &self.shared.server_state;
        let facts = server_state.hello();
        self.labels = facts.bundle.labels.clone();
        let (oldest_seq, next_seq) = self.cursor.bounds();
        // Read one right after the other: they are a pair.
        let clock = ClockPair {
            media_ns: server_state.clock().now(),
            wall: format!("{:.6}", jiff::Timestamp::now()),
        };
        let hello = Hello {
            protocol: upgrade::PROTOCOL,
            server: upgrade::server_name(),
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

    async fn talk(&mut self) -> End {
        let mut tick = self.shared.tick.clone();
        let seat = self.place.seat.clone();
        let alarm = tokio::time::sleep_until(self.next_alarm());
        tokio::pin!(alarm);
        loop {
            tokio::select! {
                biased;
                turn = poll_fn(|cx| self.poll(cx, alarm.as_mut())) => {
                    let went_on = match turn {
                        Ok(Turn::VadBlock(message)) => self.hear(message),
                        Ok(Turn::Alarm) => self.look_at_the_clock(),
                        Err(end) => Err(end),
                    };
                    if let Err(end) = went_on {
                        return end;
                    }
                }
                command = seat.command() => if let Err(end) = self.obey(command) {
                    return end;
                },
                changed = tick.changed() => if changed.is_err() || *tick.borrow_and_update() == Tick::Stopping {
                    return End::Stopping;
                },
            }
        }
    }

    /// Writes what the socket takes, looks whether something is due, then reads one message.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut alarm: Pin<&mut Sleep>,
    ) -> Poll<Result<Turn, End>> {
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
        // Later than planned is fine (it rings, finds nothing due and is set anew), earlier is not: a stall may just have begun.
        let due = self.next_alarm();
        if due < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(due);
        }
        if alarm.poll(cx).is_ready() {
            return Poll::Ready(Ok(Turn::Alarm));
        }
        if self.answers.len() >= MAX_ANSWERS {
            return Poll::Pending;
        }
        let Poll::Ready(read) = self.socket.poll_next_unpin(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match read {
            Some(Ok(message)) => Ok(Turn::VadBlock(message)),
            None => Err(End::Closed),
            Some(Err(error)) => Err(End::of_read(error, &self.shared.settings)),
        })
    }

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
                            // More than is held for one client: this event alone is lost to it, and it hears so.
                            Err(Error::WriteBufferFull(_)) => {
                                self.cursor.lose(Missed::range(seq, seq));
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
        // Full, or this task's turn is over. Only if it is not that, and nothing at all went through, does the client fall behind.
        if !moved && coop::has_budget_remaining() {
            self.cursor.fall_behind();
        }
        if moved || self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
        }
        Ok(())
    }

    fn next_alarm(&self) -> Instant {
        let settings = &self.shared.settings;
        let alarm = self.next_ping.min(self.last_pong + settings.pong_within);
        self.blocked_since
            .map_or(alarm, |since| alarm.min(since + settings.stalled_for))
    }

    fn look_at_the_clock(&mut self) -> Result<(), End> {
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
            // A client that takes nothing needs no second ping behind the first.
            if self.blocked_since.is_none() {
                self.ping();
            }
        }
        Ok(())
    }

    fn ping(&mut self) {
        self.answers.push_back(Message::Ping(Bytes::new()));
        self.place.seat.pinged(monotonic_nanos());
    }

    /// Executes a command of [`Places`](super::places::Places).
    fn obey(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Ping => self.ping(),
            Command::Leave => {
                return Err(End::Idle(Refusal::new(
                    ErrorCode::TooSlow,
                    "no pong, and another client needs this place",
                    None,
                )));
            }
        }
        Ok(())
    }

    fn hear(&mut self, message: Message) -> Result<(), End> {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            self.count_frame()?;
        }
        match message {
            Message::Text(text) => match Request::parse(&text, &self.labels) {
                Ok(request) => self.follow(request),
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
                self.place.seat.answered();
            }
            Message::Close(_) => return Err(End::Closed),
            // tungstenite answers it.
            Message::Ping(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    /// Refuses more messages a second than a client may send. [`Wire`] counts what they are made of.
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

    fn follow(&mut self, request: Request) {
        match request {
            Request::Transcript(telling) => {
                if let Err(refusal) = self.shared.server_state.hear(self.place.number, telling) {
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
                            "`resume_after` must be below {}, the next seq of this session; is it from an earlier session?",
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

    /// Says why, closes, and reads on for a while: bytes that lie unread when a socket closes make the kernel throw away what the
    /// client has not read yet.
    async fn part(mut self, end: End) {
        // A client that closes but keeps its connection open must not hold a place.
        self.place.leave();
        let settings = &self.shared.settings;
        let stopping = matches!(end, End::Stopping);
        let goodbye = end.goodbye(settings);
        let may_be_sending = matches!(end, End::Refused(_) | End::Broken(..));
        let refusal = match end {
            End::Gone => return,
            // No frame follows a client's Close but the reply.
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
            // tungstenite's reply to a Close. It ends in an error once all is written.
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
                // A client that goes on sending gets no more of the processor than this.
                if drained >= DRAINED_BYTES_A_PAUSE {
                    drained = 0;
                    sleep(DRAINING_PAUSE).await;
                }
            }
            Ok::<(), Error>(())
        };
        tokio::select! {
            _ = timeout(goodbye, leave) => {}
            // The daemon does not wait for a client that was on its way out anyway.
            _ = tick.wait_for(|tick| *tick == Tick::Stopping), if !stopping => {}
        }
    }
}

/// Counts a client while it lives.
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
