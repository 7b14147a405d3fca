//! The thread "text": encodes texts beside the inference thread, at a lower priority.
//!
//! Inference waits for a text for a bounded share of the time only. A text that takes longer is
//! postponed. It is encoded if the next window holds the same text, and serves a later window.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use super::text_embedding::token_embedding;
use crate::encode::EncodeError;
use crate::lane::{LaneReceiver, LaneSender, Received, WhenFull, lane};
use crate::model::Encoder;
use crate::preprocess::{TextError, Tokens};
use crate::time::monotonic_nanos;

/// Waiting takes at most `1 / SHARE` of the time in all, and at most `1 / SHARE` of the budget at
/// once.
const SHARE: i64 = 4;
/// Added to the niceness of the process.
const NICER: i32 = 2;
/// Weight of the newest measurement in the running mean of the time per token.
const NEWEST: f64 = 0.3;
/// Factor on the estimated time per token after each postponed text. A postponed text gives no
/// measurement, so an estimate that is too high would otherwise never sink.
const DECAY: f64 = 0.95;
/// Number of postponed texts that are remembered.
const POSTPONED: usize = 16;

/// State of a text's embedding.
pub(super) enum TextStatus {
    /// The embedding; `None` if the text has no token.
    Known(Option<Vec<f32>>),
    /// It is being encoded, and will be ready for this clip by the estimate.
    Soon,
    /// It will not be ready for this clip.
    Later,
    /// The tokenizer failed.
    Failed(TextError),
}

/// The embedding of a text, from the thread.
pub(super) struct Answer {
    /// Index of the text encoder.
    pub encoder: usize,
    pub text: String,
    pub embedding: Result<Vec<f32>, EncodeError>,
    /// Measured time per token.
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
    requested_at: i64,
    /// Estimated time to encode.
    nanos: f64,
}

/// The owner's end of the thread.
pub(super) struct TextThread {
    names: Vec<String>,
    /// `None` ends the thread.
    requests: Option<LaneSender<Request>>,
    answers: LaneReceiver<Answer>,
    thread: Option<JoinHandle<()>>,
    /// Requests of the one text that is being encoded, one per encoder.
    pending: Vec<Pending>,
    /// Answers received while waiting for another one.
    arrived: Vec<Answer>,
    postponed: VecDeque<(usize, String)>,
    /// Estimated time per token; 0 before the first measurement.
    token_nanos: f64,
    /// Time that inference may spend waiting, as of `credited_at`, in nanoseconds.
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
    /// Starts the thread with `encoders`. `None` if there are none.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn spawn(mut encoders: Vec<Encoder>, budget: Duration) -> io::Result<Option<TextThread>> {
        if encoders.is_empty() {
            return Ok(None);
        }
        let names = encoders.iter().map(|e| e.entry.name.clone()).collect();
        let (requests, requested) = lane("text", encoders.len(), WhenFull::DropNewest);
        let (sender, answers) = lane("text answers", 2 * encoders.len(), WhenFull::DropOldest);
        let work = move || {
            // If the system forbids it, the thread runs at the process's priority.
            let _ = rustix::process::setpriority_process(None, NICER);
            while let Received::Item(request) = requested.recv(None) {
                if sender.send(encode(&mut encoders, request)).is_err() {
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

    /// The encoders' names, in the order of their indices.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All answers that have arrived.
    pub fn answers(&mut self) -> Vec<Answer> {
        while let Received::Item(answer) = self.answers.recv(Some(Duration::ZERO)) {
            self.record(&answer);
            self.arrived.push(answer);
        }
        std::mem::take(&mut self.arrived)
    }

    /// Requests the embedding of `text`, whose tokens are `tokens`, unless it is postponed.
    /// `deadline`: that of the clip, on the monotonic clock.
    pub fn request(
        &mut self,
        encoder: usize,
        text: &str,
        tokens: Tokens,
        deadline: i64,
    ) -> TextStatus {
        let is_this = |pending: &&Pending| pending.encoder == encoder && pending.text == text;
        if let Some(pending) = self.pending.iter().find(is_this) {
            // An overdue text is not waited for: the machine is busy with something else.
            let left = pending.nanos - (monotonic_nanos() - pending.requested_at) as f64;
            let in_time = left >= 0.0 && left <= self.wait_budget(deadline) as f64;
            return if in_time {
                TextStatus::Soon
            } else {
                TextStatus::Later
            };
        }
        if self.pending.iter().any(|pending| pending.text != text) {
            return TextStatus::Later;
        }
        let nanos = self.token_nanos * tokens.ids.len() as f64;
        let in_time = nanos <= self.wait_budget(deadline) as f64;
        if !in_time {
            self.token_nanos *= DECAY;
            if !is_among(&self.postponed, encoder, text) {
                if self.postponed.len() == POSTPONED {
                    self.postponed.pop_front();
                }
                self.postponed.push_back((encoder, text.to_owned()));
                return TextStatus::Later;
            }
        }
        let request = Request {
            encoder,
            text: text.to_owned(),
            tokens,
        };
        let sent = self.requests.as_ref().map(|lane| lane.send(request));
        if !matches!(sent, Some(Ok(true))) {
            return TextStatus::Later;
        }
        self.pending.push(Pending {
            encoder,
            text: text.to_owned(),
            requested_at: monotonic_nanos(),
            nanos,
        });
        if in_time {
            TextStatus::Soon
        } else {
            TextStatus::Later
        }
    }

    /// The answer for `text`, if it arrives within the wait budget.
    pub fn wait(&mut self, encoder: usize, text: &str, deadline: i64) -> Option<Answer> {
        let began = monotonic_nanos();
        let until = began + self.wait_budget(deadline);
        let found = loop {
            let left = (until - monotonic_nanos()).max(0) as u64;
            let Received::Item(answer) = self.answers.recv(Some(Duration::from_nanos(left))) else {
                break None;
            };
            self.record(&answer);
            if answer.encoder == encoder && answer.text == text {
                break Some(answer);
            }
            self.arrived.push(answer);
        };
        self.credit_nanos -= monotonic_nanos() - began;
        found
    }

    /// Nanoseconds that inference may wait for a text of a clip with this deadline.
    fn wait_budget(&mut self, deadline: i64) -> i64 {
        let now = monotonic_nanos();
        let earned = (now - self.credited_at) / SHARE;
        self.credit_nanos = (self.credit_nanos + earned).min(self.most_nanos);
        self.credited_at = now;
        self.credit_nanos.min((deadline - now) / 2).max(0)
    }

    fn record(&mut self, answer: &Answer) {
        self.pending
            .retain(|pending| pending.encoder != answer.encoder || pending.text != answer.text);
        if self.token_nanos == 0.0 {
            self.token_nanos = answer.token_nanos;
        } else {
            self.token_nanos += NEWEST * (answer.token_nanos - self.token_nanos);
        }
    }
}

/// Joins the thread: no graph may be running when the process ends.
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
        .any(|(other, known)| *other == encoder && known == text)
}

fn encode(encoders: &mut [Encoder], request: Request) -> Answer {
    let Request {
        encoder,
        text,
        tokens,
    } = request;
    let text_encoder = &mut encoders[encoder];
    // Opening a graph is no part of the time per token.
    let opened = text_encoder.graph.reopen();
    let began = monotonic_nanos();
    let embedding = opened.and_then(|()| token_embedding(text_encoder, &tokens));
    Answer {
        encoder,
        text,
        embedding,
        token_nanos: (monotonic_nanos() - began) as f64 / tokens.ids.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests;
