//! The thread "text": encodes the texts of live clips beside the inference thread, at a lower
//! priority.
//!
//! The inference thread waits for embeddings of texts for a bounded share of the time only. A text
//! that would take longer is postponed: it is encoded if a later window holds the same text, and is
//! used from then on.

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

/// The inference thread waits for texts for at most `1 / WAIT_DIVISOR` of the time on average, and
/// for at most `1 / WAIT_DIVISOR` of the budget at once.
const WAIT_DIVISOR: i64 = 4;
/// Added to the niceness of the process, so that the text thread has a lower priority.
const NICENESS_INCREMENT: i32 = 2;
/// Weight of the newest measurement in the running mean of the time per token.
const NEWEST_WEIGHT: f64 = 0.3;
/// Factor by which each postponed text reduces the estimated time per token. A postponed text gives
/// no measurement, so an estimate that is too high would otherwise stay.
const DECAY: f64 = 0.95;
/// Largest number of postponed texts that are remembered.
const MAX_POSTPONED: usize = 16;

/// State of the embedding of a clip's text.
pub(super) enum TextStatus {
    /// The embedding is known; `None` if the text has no token.
    Known(Option<Vec<f32>>),
    /// The text is being encoded, and by the estimate its embedding will be ready for this clip.
    Soon,
    /// The embedding will not be ready for this clip.
    Later,
    /// The tokenizer failed.
    Failed(TextError),
}

/// Result of the text thread for one text and encoder.
pub(super) struct Answer {
    /// Index of the text encoder, in the order of [`TextThread::names`].
    pub encoder: usize,
    /// The encoded text.
    pub text: String,
    /// The embedding, or the error of the encoder.
    pub embedding: Result<Vec<f32>, EncodeError>,
    /// Measured time of encoding divided by the number of tokens, in nanoseconds.
    token_nanos: f64,
}

/// A text to encode, sent to the text thread; `encoder` is an index into its encoders.
struct Request {
    encoder: usize,
    text: String,
    tokens: Tokens,
}

/// A request that the text thread has not answered.
struct Pending {
    encoder: usize,
    text: String,
    /// Time of the request on the monotonic clock, in nanoseconds.
    requested_at: i64,
    /// Estimated time to encode the text, in nanoseconds.
    nanos: f64,
}

/// Handle of the text thread, held by the inference thread. Dropping it ends and joins the thread.
pub(super) struct TextThread {
    /// Names of the text encoders.
    names: Vec<String>,
    /// Requests to the thread; `None` closes the lane, which ends the thread.
    requests: Option<LaneSender<Request>>,
    /// Results from the thread.
    answers: LaneReceiver<Answer>,
    thread: Option<JoinHandle<()>>,
    /// Unanswered requests, one for each encoder. All are for the same text, because one text is
    /// encoded at a time.
    pending: Vec<Pending>,
    /// Answers that were received during the wait for another answer.
    arrived: Vec<Answer>,
    /// Postponed texts as (index of the encoder, text), the oldest first.
    postponed: VecDeque<(usize, String)>,
    /// Estimated time per token, in nanoseconds; 0 before the first measurement.
    token_nanos: f64,
    /// Time that the inference thread may spend waiting, as of `credited_at`, in nanoseconds.
    credit_nanos: i64,
    /// Time of the last update of `credit_nanos` on the monotonic clock, in nanoseconds.
    credited_at: i64,
    /// Largest credit, in nanoseconds: a share of the latency budget.
    max_credit_nanos: i64,
}

impl fmt::Debug for TextThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextThread({:?})", self.names)
    }
}

impl TextThread {
    /// Starts the thread with `encoders`; `None` if there are none. `budget` is the latency budget
    /// of a clip.
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
            // If the system forbids the change, the thread runs at the process's priority.
            let _ = rustix::process::setpriority_process(None, NICENESS_INCREMENT);
            while let Received::Item(request) = requested.recv(None) {
                if sender.send(encode(&mut encoders, request)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("text".into())
            .spawn(work)?;
        let max_credit_nanos = i64::try_from(budget.as_nanos()).unwrap_or(i64::MAX) / WAIT_DIVISOR;
        Ok(Some(TextThread {
            names,
            requests: Some(requests),
            answers,
            thread: Some(thread),
            pending: Vec::new(),
            arrived: Vec::new(),
            postponed: VecDeque::new(),
            token_nanos: 0.0,
            credit_nanos: max_credit_nanos,
            credited_at: monotonic_nanos(),
            max_credit_nanos,
        }))
    }

    /// The names of the text encoders; their order defines the encoders' indices.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Takes all answers that have arrived since the last call, without waiting.
    pub fn answers(&mut self) -> Vec<Answer> {
        while let Received::Item(answer) = self.answers.recv(Some(Duration::ZERO)) {
            self.record(&answer);
            self.arrived.push(answer);
        }
        std::mem::take(&mut self.arrived)
    }

    /// Requests the embedding of `text`, whose tokens are `tokens`, from the encoder with this
    /// index. The text is postponed if its estimated time exceeds the permitted wait, unless it was
    /// postponed before. `deadline` is that of the clip, on the monotonic clock in nanoseconds.
    pub fn request(
        &mut self,
        encoder: usize,
        text: &str,
        tokens: Tokens,
        deadline: i64,
    ) -> TextStatus {
        let is_this = |pending: &&Pending| pending.encoder == encoder && pending.text == text;
        if let Some(pending) = self.pending.iter().find(is_this) {
            // There is no wait for an overdue text: its estimate is wrong, for example because the
            // machine is busy.
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
                if self.postponed.len() == MAX_POSTPONED {
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

    /// Waits for the answer for `text`, within the permitted wait for a clip with this `deadline`
    /// (monotonic clock, nanoseconds). `None` if it does not arrive in time.
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

    /// Nanoseconds that inference may wait now for a text of a clip with this deadline: the credit,
    /// but at most half of the time that is left.
    fn wait_budget(&mut self, deadline: i64) -> i64 {
        let now = monotonic_nanos();
        let earned = (now - self.credited_at) / WAIT_DIVISOR;
        self.credit_nanos = (self.credit_nanos + earned).min(self.max_credit_nanos);
        self.credited_at = now;
        self.credit_nanos.min((deadline - now) / 2).max(0)
    }

    /// Removes the answered request and updates the estimated time per token.
    fn record(&mut self, answer: &Answer) {
        self.pending
            .retain(|pending| pending.encoder != answer.encoder || pending.text != answer.text);
        if self.token_nanos == 0.0 {
            self.token_nanos = answer.token_nanos;
        } else {
            self.token_nanos += NEWEST_WEIGHT * (answer.token_nanos - self.token_nanos);
        }
    }
}

/// Joins the thread, because no graph may be running when the process ends.
impl Drop for TextThread {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether `texts` contains this text for this encoder.
fn is_among<'a>(
    texts: impl IntoIterator<Item = &'a (usize, String)>,
    encoder: usize,
    text: &str,
) -> bool {
    texts
        .into_iter()
        .any(|(other, known)| *other == encoder && known == text)
}

/// Encodes one requested text; runs on the text thread.
fn encode(encoders: &mut [Encoder], request: Request) -> Answer {
    let Request {
        encoder,
        text,
        tokens,
    } = request;
    let text_encoder = &mut encoders[encoder];
    // The time of opening a released graph is not part of the time per token.
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
