//! The thread that encodes texts beside the inference thread, at a lower priority.
//!
//! Faces and voices wait for a text for a bounded share of the time alone. A text that would take
//! longer is not encoded, unless the next window still holds the same text; then the answer is
//! there for a later one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use super::text::token_embedding;
use crate::encode::EncodeError;
use crate::lane::{LaneReceiver, LaneSender, Received, WhenFull, lane};
use crate::model::Encoder;
use crate::preprocess::{TextError, Tokens};
use crate::time::monotonic_nanos;

/// Waiting takes at most one part in so many of the time, and of the budget at once.
const SHARE: i64 = 4;
/// Added to the niceness of the process.
const NICER: i32 = 2;
/// Weight of the newest measurement in the time that a token takes.
const NEWEST: f64 = 0.3;
/// A text that is not encoded teaches nothing about the time that it would take: the estimate sinks
/// by this, so that one is tried again.
const FORGET: f64 = 0.95;
/// Texts that were too long to be waited for and are remembered.
const POSTPONED: usize = 16;

/// What is known of a text's embedding.
pub(super) enum Asked {
    /// `None`: it has no token.
    Known(Option<Vec<f32>>),
    /// It is worth waiting for.
    Soon,
    /// Not in time for this clip.
    Later,
    Failed(TextError),
}

pub(super) struct Answer {
    /// Number of the encoder.
    pub encoder: usize,
    pub text: String,
    pub embedding: Result<Vec<f32>, EncodeError>,
    /// Time that a token took.
    token_nanos: f64,
}

struct Request {
    encoder: usize,
    text: String,
    tokens: Tokens,
}

struct Pending {
    encoder: usize,
    text: String,
    asked_at: i64,
    /// How long it takes by the estimate.
    nanos: f64,
}

pub(super) struct TextThread {
    names: Vec<String>,
    /// `None`: the thread has to end.
    requests: Option<LaneSender<Request>>,
    answers: LaneReceiver<Answer>,
    thread: Option<JoinHandle<()>>,
    /// What is being encoded: one text at a time.
    pending: Vec<Pending>,
    /// Answers that came while another one was waited for.
    arrived: Vec<Answer>,
    postponed: VecDeque<(usize, String)>,
    /// 0: nothing is known yet.
    token_nanos: f64,
    /// For how long texts may be waited for, as of `credited_at`.
    credit_nanos: i64,
    credited_at: i64,
    most_nanos: i64,
}

impl fmt::Debug for TextThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextThread({:?})", self.names)
    }
}

impl TextThread {
    /// `None` where there are no encoders.
    pub fn spawn(mut encoders: Vec<Encoder>, budget: Duration) -> io::Result<Option<TextThread>> {
        if encoders.is_empty() {
            return Ok(None);
        }
        let names = encoders.iter().map(|e| e.entry.name.clone()).collect();
        let (requests, requested) = lane("text", encoders.len(), WhenFull::DropNewest);
        let (sender, answers) = lane("text answers", 2 * encoders.len(), WhenFull::DropOldest);
        let work = move || {
            // Where the system forbids it, the thread competes with the others.
            let _ = rustix::process::setpriority_process(None, NICER);
            while let Received::Item(request) = requested.recv(None) {
                if sender.send(answer(&mut encoders, request)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("text".into())
            .spawn(work)?;
        let most_nanos = i64::try_from(budget.as_nanos()).unwrap_or(i64::MAX) / SHARE;
        Ok(Some(TextThread {
            names,
            requests: Some(requests),
            answers,
            thread: Some(thread),
            pending: Vec::new(),
            arrived: Vec::new(),
            postponed: VecDeque::new(),
            token_nanos: 0.0,
            credit_nanos: most_nanos,
            credited_at: monotonic_nanos(),
            most_nanos,
        }))
    }

    /// The encoders' names, in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All answers that are there.
    pub fn answers(&mut self) -> Vec<Answer> {
        while let Received::Item(answer) = self.answers.recv(Some(Duration::ZERO)) {
            self.note(&answer);
            self.arrived.push(answer);
        }
        std::mem::take(&mut self.arrived)
    }

    /// Has `tokens` of `text` encoded, if that is worth it. `deadline`: of the clip, on the
    /// monotonic clock.
    pub fn ask(&mut self, encoder: usize, text: &str, tokens: Tokens, deadline: i64) -> Asked {
        let is_this = |pending: &&Pending| pending.encoder == encoder && pending.text == text;
        if let Some(pending) = self.pending.iter().find(is_this) {
            // What is overdue is not waited for: the machine is busy with something else.
            let left = pending.nanos - (monotonic_nanos() - pending.asked_at) as f64;
            let in_time = left >= 0.0 && left <= self.patience(deadline) as f64;
            return if in_time { Asked::Soon } else { Asked::Later };
        }
        if self.pending.iter().any(|pending| pending.text != text) {
            return Asked::Later;
        }
        let nanos = self.token_nanos * tokens.ids.len() as f64;
        let in_time = nanos <= self.patience(deadline) as f64;
        if !in_time {
            self.token_nanos *= FORGET;
            if !is_among(&self.postponed, encoder, text) {
                if self.postponed.len() == POSTPONED {
                    self.postponed.pop_front();
                }
                self.postponed.push_back((encoder, text.to_owned()));
                return Asked::Later;
            }
        }
        let request = Request {
            encoder,
            text: text.to_owned(),
            tokens,
        };
        let sent = self.requests.as_ref().map(|lane| lane.send(request));
        if !matches!(sent, Some(Ok(true))) {
            return Asked::Later;
        }
        self.pending.push(Pending {
            encoder,
            text: text.to_owned(),
            asked_at: monotonic_nanos(),
            nanos,
        });
        if in_time { Asked::Soon } else { Asked::Later }
    }

    /// The answer about `text`, if it comes while waiting for it holds nothing up.
    pub fn wait(&mut self, encoder: usize, text: &str, deadline: i64) -> Option<Answer> {
        let began = monotonic_nanos();
        let until = began + self.patience(deadline);
        let found = loop {
            let left = (until - monotonic_nanos()).max(0) as u64;
            let Received::Item(answer) = self.answers.recv(Some(Duration::from_nanos(left))) else {
                break None;
            };
            self.note(&answer);
            if answer.encoder == encoder && answer.text == text {
                break Some(answer);
            }
            self.arrived.push(answer);
        };
        self.credit_nanos -= monotonic_nanos() - began;
        found
    }

    /// For how long a text of a clip with this deadline may be waited for.
    fn patience(&mut self, deadline: i64) -> i64 {
        let now = monotonic_nanos();
        let earned = (now - self.credited_at) / SHARE;
        self.credit_nanos = (self.credit_nanos + earned).min(self.most_nanos);
        self.credited_at = now;
        self.credit_nanos.min((deadline - now) / 2).max(0)
    }

    fn note(&mut self, answer: &Answer) {
        self.pending
            .retain(|pending| pending.encoder != answer.encoder || pending.text != answer.text);
        if self.token_nanos == 0.0 {
            self.token_nanos = answer.token_nanos;
        } else {
            self.token_nanos += NEWEST * (answer.token_nanos - self.token_nanos);
        }
    }
}

/// The graphs must not be running when the process ends.
impl Drop for TextThread {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_among<'a>(
    texts: impl IntoIterator<Item = &'a (usize, String)>,
    encoder: usize,
    text: &str,
) -> bool {
    texts
        .into_iter()
        .any(|(other, theirs)| *other == encoder && theirs == text)
}

fn answer(encoders: &mut [Encoder], request: Request) -> Answer {
    let Request {
        encoder,
        text,
        tokens,
    } = request;
    let encoder_of = &mut encoders[encoder];
    // Opening a graph says nothing about the time that a token takes.
    let opened = encoder_of.graph.reopen();
    let began = monotonic_nanos();
    let embedding = opened.and_then(|()| token_embedding(encoder_of, &tokens));
    Answer {
        encoder,
        text,
        embedding,
        token_nanos: (monotonic_nanos() - began) as f64 / tokens.ids.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests;
