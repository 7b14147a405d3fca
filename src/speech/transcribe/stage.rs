//! The transcribe stage: audio with voice activity in, transcripts on the timeline out.

use std::collections::VecDeque;

use super::{TranscribeError, Transcriber, WordHypothesis};
use crate::clip::{
    SAMPLE_RATE_HZ, Transcript, TranscriptSource, VadBlock, VoiceActivity, Word, samples_to_nanos,
};
use crate::speech::{SLIP_NANOS, WINDOW_SAMPLES};
use crate::time::{MediaTime, Span};

/// Thresholds for utterances and words. They are needed because voice-activity detection sometimes
/// accepts music, and a transcriber always recognises some word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WordRule {
    /// Least posterior probability of a word, 0 to 1.
    pub min_confidence: f32,
    /// Least share of a word's time that is speech by voice-activity detection, 0 to 1.
    pub min_speech_share: f32,
    /// Least mean probability of speech over an utterance's speech windows, 0 to 1. Below it the
    /// utterance is probably noise and has no words.
    pub min_voice_probability: f32,
    /// Least mean posterior of the words that pass the other thresholds, 0 to 1.
    pub min_mean_confidence: f32,
    /// Time between two partials, and from an utterance's start to its first partial, in
    /// nanoseconds.
    pub partial_nanos: i64,
    /// An utterance is cut at the first pause after this duration, in nanoseconds; at 1.5 times
    /// this duration it is cut without a pause.
    pub longest_nanos: i64,
}

impl Default for WordRule {
    fn default() -> Self {
        WordRule {
            min_confidence: 0.1,
            min_speech_share: 0.5,
            min_voice_probability: 0.8,
            min_mean_confidence: 0.3,
            partial_nanos: 600_000_000,
            longest_nanos: 12_000_000_000,
        }
    }
}

/// Length of the audio before a turn, in nanoseconds, that belongs to its utterance: the first
/// consonant is often not detected as voice.
const LEAD_NANOS: i64 = 250_000_000;
/// Number of windows that are kept outside utterances, because a turn is detected only after its
/// minimum length.
const KEPT_WINDOWS: usize = 40;
/// Duration of a complete window, in nanoseconds.
const FULL_WINDOW_NANOS: i64 = samples_to_nanos(WINDOW_SAMPLES as i64);

/// A window of audio with its voice activity.
#[derive(Clone, Debug)]
struct Window {
    activity: VoiceActivity,
    samples: Vec<f32>,
}

/// The open utterance.
#[derive(Debug)]
struct Utterance {
    /// The voice activity of each window, with the index of its first sample in the utterance.
    windows: Vec<(usize, VoiceActivity)>,
    /// Number of samples in the utterance so far.
    samples: usize,
    /// Time at which the next partial is due.
    next_partial: MediaTime,
    /// Whether a partial was emitted. If no word is left at the end, an empty final supersedes it.
    has_partial: bool,
}

/// Segments audio into utterances, transcribes them and filters the words. Pure apart from the
/// transcriber: the output depends on the audio alone, never on the block lengths.
pub struct TranscribeStage {
    transcriber: Box<dyn Transcriber>,
    rule: WordRule,
    /// Samples that are in no classified window yet.
    pending: Vec<f32>,
    /// Time of the first pending sample.
    pending_start: Option<MediaTime>,
    /// The newest windows outside utterances.
    kept: VecDeque<Window>,
    utterance: Option<Utterance>,
    /// End of the newest block; `None` before the first one.
    received_until: Option<MediaTime>,
    /// Whether audio was lost before the next block.
    interrupted: bool,
    /// Audio before this time was lost: turns that began before it are skipped.
    complete_since: MediaTime,
    /// Whether the open turn is skipped, because some of its audio was lost.
    skipping: bool,
    /// Time at which the classification of the newest window became known. An incomplete last
    /// window counts with its full length. No later transcript has an earlier `known_at`.
    classified_at: MediaTime,
}

impl TranscribeStage {
    /// A stage without audio that transcribes with `transcriber`.
    pub fn new(transcriber: Box<dyn Transcriber>, rule: WordRule) -> Self {
        TranscribeStage {
            transcriber,
            rule,
            pending: Vec::new(),
            pending_start: None,
            kept: VecDeque::new(),
            utterance: None,
            received_until: None,
            interrupted: false,
            complete_since: MediaTime::from_nanos(i64::MIN),
            skipping: false,
            classified_at: MediaTime::ZERO,
        }
    }

    /// Returns the stage with cleared state, for the next recording. The transcriber keeps its
    /// adaptation to voices.
    pub fn reset(self) -> Self {
        TranscribeStage::new(self.transcriber, self.rule)
    }

    /// Adds the next block, and returns the transcripts that are known at its end. A block whose
    /// stamp went back is ignored.
    ///
    /// # Errors
    /// The transcriber fails.
    pub fn push(&mut self, input: &VadBlock) -> Result<Vec<Transcript>, TranscribeError> {
        let mut output = Vec::new();
        let (block, mut activity) = (&input.block, &input.activity[..]);
        if std::mem::take(&mut self.interrupted) {
            self.complete_since = block.time;
        }
        if let Some(until) = self.received_until {
            let slip = block.time.nanos_since(until);
            if slip < -SLIP_NANOS {
                return Ok(output);
            }
            if slip > SLIP_NANOS {
                // The windows before the gap cover the pending audio.
                let before = activity
                    .iter()
                    .take_while(|a| a.span.end <= block.time)
                    .count();
                for window in &activity[..before] {
                    self.take(window, &mut output)?;
                }
                activity = &activity[before..];
                // Utterances do not straddle a gap.
                self.end_utterance(until.max(self.classified_at), &mut output)?;
                self.pending.clear();
                self.kept.clear();
            }
        }
        self.pending_start = Some(
            block
                .time
                .plus_nanos(-samples_to_nanos(self.pending.len() as i64)),
        );
        self.pending.extend_from_slice(&block.samples);
        self.received_until = Some(
            block
                .span()
                .end
                .max(self.received_until.unwrap_or(block.time)),
        );
        for window in activity {
            self.take(window, &mut output)?;
        }
        // Without voice activity, at most one second is kept.
        let surplus = self.pending.len().saturating_sub(SAMPLE_RATE_HZ as usize);
        self.drain(surplus);
        Ok(output)
    }

    /// Ends the utterance because audio was lost or capture pauses, and skips the rest of its turn.
    /// Transcription resumes with the next complete turn: a transcriber that is too slow would
    /// never catch up if it restarted at once.
    ///
    /// # Errors
    /// The transcriber fails.
    pub fn interrupt(&mut self) -> Result<Vec<Transcript>, TranscribeError> {
        let output = self.finish()?;
        self.pending.clear();
        self.kept.clear();
        (self.pending_start, self.received_until, self.interrupted) = (None, None, true);
        Ok(output)
    }

    /// Whether the open turn is skipped because some of its audio was lost.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Ends the audio and returns the remaining transcripts.
    ///
    /// # Errors
    /// The transcriber fails.
    pub fn finish(&mut self) -> Result<Vec<Transcript>, TranscribeError> {
        let mut output = Vec::new();
        if let Some(until) = self.received_until {
            self.end_utterance(until.max(self.classified_at), &mut output)?;
        }
        Ok(output)
    }

    /// Time up to which all transcripts have been returned; `None` before the first block.
    pub fn known_until(&self) -> Option<MediaTime> {
        self.received_until
    }

    /// Removes and returns the first `count` pending samples.
    fn drain(&mut self, count: usize) -> Vec<f32> {
        let count = count.min(self.pending.len());
        self.pending_start = self
            .pending_start
            .map(|start| start.plus_nanos(samples_to_nanos(count as i64)));
        self.pending.drain(..count).collect()
    }

    /// Processes the next classified window, and adds the transcripts that it completes to
    /// `output`.
    fn take(
        &mut self,
        activity: &VoiceActivity,
        output: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(start) = self.pending_start else {
            return Ok(());
        };
        // Rounded to the nearest sample, because stamps are slewed.
        let count = (activity.span.end.nanos_since(start).max(0) + samples_to_nanos(1) / 2)
            / samples_to_nanos(1);
        let samples = self.drain(count as usize);
        let window = Window {
            activity: *activity,
            samples,
        };
        // Time at which the classification of the window is known.
        let now = activity
            .span
            .end
            .max(activity.span.start.plus_nanos(FULL_WINDOW_NANOS));
        self.classified_at = self.classified_at.max(now);
        let turn = activity.turn.filter(|turn| *turn >= self.complete_since);
        self.skipping = turn.is_none() && activity.turn.is_some();
        if self.utterance.is_none()
            && let Some(turn) = turn
        {
            self.begin_utterance(turn, now)?;
        }
        if self.utterance.is_none() {
            self.kept.push_back(window);
            if self.kept.len() > KEPT_WINDOWS {
                self.kept.pop_front();
            }
            return Ok(());
        }
        // Each window belongs to one utterance only.
        self.feed(&window)?;
        if activity.turn.is_none() {
            return self.end_utterance(now, output);
        }
        self.emit_partial(now, output)?;
        self.cut_long_utterance(activity, now, output)
    }

    /// Begins the utterance of a turn with the kept windows from [`LEAD_NANOS`] before the turn on.
    fn begin_utterance(&mut self, turn: MediaTime, now: MediaTime) -> Result<(), TranscribeError> {
        self.transcriber.begin()?;
        self.utterance = Some(Utterance {
            windows: Vec::new(),
            samples: 0,
            next_partial: now.plus_nanos(self.rule.partial_nanos),
            has_partial: false,
        });
        let from = turn.plus_nanos(-LEAD_NANOS);
        let lead: Vec<Window> = self
            .kept
            .drain(..)
            .filter(|window| window.activity.span.end > from)
            .collect();
        lead.iter().try_for_each(|window| self.feed(window))
    }

    /// Adds a window to the open utterance.
    fn feed(&mut self, window: &Window) -> Result<(), TranscribeError> {
        if let Some(utterance) = &mut self.utterance {
            utterance.windows.push((utterance.samples, window.activity));
            utterance.samples += window.samples.len();
            self.transcriber.feed(&window.samples)?;
        }
        Ok(())
    }

    /// Emits a partial if one is due at `now` and has words.
    fn emit_partial(
        &mut self,
        now: MediaTime,
        output: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(utterance) = self
            .utterance
            .as_mut()
            .filter(|utterance| now >= utterance.next_partial)
        else {
            return Ok(());
        };
        utterance.next_partial = now.plus_nanos(self.rule.partial_nanos);
        let mut hypotheses = self.transcriber.partial()?;
        // The last word may be incomplete and is left out.
        hypotheses.pop();
        let utterance = self.utterance.as_mut().expect("checked above");
        let words = utterance.accepted_words(&hypotheses, &self.rule);
        if !words.is_empty() {
            utterance.has_partial = true;
            output.push(transcript(words, None, false, now));
        }
        Ok(())
    }

    /// Ends an utterance that exceeds [`WordRule::longest_nanos`].
    fn cut_long_utterance(
        &mut self,
        activity: &VoiceActivity,
        now: MediaTime,
        output: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(utterance) = &self.utterance else {
            return Ok(());
        };
        let length = samples_to_nanos(utterance.samples as i64);
        if length >= self.rule.longest_nanos && !activity.speech
            || length >= self.rule.longest_nanos * 3 / 2
        {
            // The next utterance begins with the next window.
            self.end_utterance(now, output)?;
        }
        Ok(())
    }

    /// Ends the open utterance, if there is one, and emits its final transcript.
    fn end_utterance(
        &mut self,
        now: MediaTime,
        output: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(utterance) = self.utterance.take() else {
            return Ok(());
        };
        let hypotheses = self.transcriber.finish()?;
        let words = utterance.accepted_words(&hypotheses, &self.rule);
        if !words.is_empty() || utterance.has_partial {
            output.push(transcript(words, utterance.span(), true, now));
        }
        Ok(())
    }
}

impl Utterance {
    /// Time from the first window to the last one; `None` without windows.
    fn span(&self) -> Option<Span> {
        Some(Span::new(
            self.windows.first()?.1.span.start,
            self.windows.last()?.1.span.end,
        ))
    }

    /// The recognised words that pass `rule`, with their spans on the timeline.
    fn accepted_words(&self, hypotheses: &[WordHypothesis], rule: &WordRule) -> Vec<Word> {
        let speech = self.windows.iter().filter(|(_, activity)| activity.speech);
        let (sum, count) = speech.fold((0.0, 0), |(sum, count), (_, activity)| {
            (sum + activity.probability, count + 1)
        });
        if count == 0 || sum / (count as f32) < rule.min_voice_probability {
            return Vec::new();
        }
        let mut words = Vec::new();
        let mut end = MediaTime::from_nanos(i64::MIN);
        for hypothesis in hypotheses {
            let Some(span) = self.place(hypothesis).filter(|span| span.end > end) else {
                continue;
            };
            let span = Span::new(span.start.max(end), span.end);
            if hypothesis
                .confidence
                .is_none_or(|c| c >= rule.min_confidence)
                && self.speech_share(span) >= rule.min_speech_share
            {
                end = span.end;
                words.push(Word {
                    text: hypothesis.text.clone(),
                    span,
                    confidence: hypothesis.confidence,
                });
            }
        }
        let posteriors: Vec<f32> = words.iter().filter_map(|word| word.confidence).collect();
        if !posteriors.is_empty()
            && posteriors.iter().sum::<f32>() / (posteriors.len() as f32) < rule.min_mean_confidence
        {
            words.clear();
        }
        words
    }

    /// The span of a recognised word on the timeline; `None` if it is empty.
    fn place(&self, hypothesis: &WordHypothesis) -> Option<Span> {
        let (start, end) = (
            self.time(hypothesis.samples.start)?,
            self.time(hypothesis.samples.end.min(self.samples))?,
        );
        (start < end).then(|| Span::new(start, end))
    }

    /// Capture time of the sample with the index `sample` in the utterance; `None` without a
    /// window.
    fn time(&self, sample: usize) -> Option<MediaTime> {
        let next = self.windows.partition_point(|(first, _)| *first <= sample);
        let (first, activity) = self.windows.get(next.checked_sub(1)?)?;
        Some(
            activity
                .span
                .start
                .plus_nanos(samples_to_nanos((sample - first) as i64))
                .min(activity.span.end),
        )
    }

    /// Share of `span` that is speech, 0 to 1.
    fn speech_share(&self, span: Span) -> f32 {
        let speech = self.windows.iter().filter(|(_, activity)| activity.speech);
        let nanos: i64 = speech
            .filter_map(|(_, activity)| activity.span.intersection(&span))
            .map(|common| common.nanos())
            .sum();
        nanos as f32 / span.nanos().max(1) as f32
    }
}

/// A transcript of the daemon. `within`: its span if it has no words.
fn transcript(
    words: Vec<Word>,
    within: Option<Span>,
    is_final: bool,
    known_at: MediaTime,
) -> Transcript {
    let span = match (words.first(), words.last()) {
        (Some(first), Some(last)) => Span::new(first.span.start, last.span.end),
        _ => within.unwrap_or(Span::new(known_at, known_at)),
    };
    let text = words
        .iter()
        .map(|word| word.text.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    Transcript {
        source: TranscriptSource::Daemon,
        subject: None,
        text,
        span,
        words,
        is_final,
        known_at,
    }
}
