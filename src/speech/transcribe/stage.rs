//! The transcribe stage: sound with its voice activity in, words on the timeline out.

use std::collections::VecDeque;

use super::{Guess, TranscribeError, Transcriber};
use crate::clip::{
    SAMPLE_RATE_HZ, Transcript, TranscriptSource, VadBlock, VoiceActivity, Word, samples_to_nanos,
};
use crate::speech::{SLIP_NANOS, WINDOW_SAMPLES};
use crate::time::{MediaTime, Span};

/// Which words are believed: voice activity alone lets music through now and then, and a transcriber always finds some word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WordRule {
    /// Words from this posterior on, 0..1.
    pub min_confidence: f32,
    /// The share of a word that has to be judged speech, 0..1.
    pub min_speech_share: f32,
    /// The mean probability of speech over the windows of an utterance that are speech, 0..1: less is a doubtful noise.
    pub min_voice_probability: f32,
    /// The mean posterior of the words that are believed.
    pub min_mean_confidence: f32,
    /// From one partial to the next, and from an utterance's start to the first, in nanoseconds.
    pub partial_nanos: i64,
    /// An utterance is cut at the next pause after this long, and anyhow after half as long again.
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

/// Sound before a turn that is heard with it: its first consonant is often no voice yet.
const LEAD_NANOS: i64 = 250_000_000;
/// Windows that are kept before a turn: it is told when it has lasted for a while.
const KEPT_WINDOWS: usize = 40;
const FULL_WINDOW_NANOS: i64 = samples_to_nanos(WINDOW_SAMPLES as i64);

/// A judged piece of sound.
#[derive(Clone, Debug)]
struct Window {
    activity: VoiceActivity,
    samples: Vec<f32>,
}

/// What the transcriber listens to.
#[derive(Debug)]
struct Utterance {
    /// Where each window begins in it, in samples, and what was judged of it.
    windows: Vec<(usize, VoiceActivity)>,
    samples: usize,
    next_partial: MediaTime,
    /// A partial was told: the final takes it back where nothing is left of it.
    told: bool,
}

/// Gates, listens, believes. Pure but for the transcriber: its answer depends on the sound alone, never on the blocks' lengths.
pub struct TranscribeStage {
    transcriber: Box<dyn Transcriber>,
    rule: WordRule,
    /// Sound that no verdict covers yet, and where it begins.
    pending: Vec<f32>,
    pending_start: Option<MediaTime>,
    kept: VecDeque<Window>,
    utterance: Option<Utterance>,
    heard_until: Option<MediaTime>,
    /// The next block does not follow on the last one.
    interrupted: bool,
    /// Sound before this was lost: a turn that began before it is listened to no more.
    whole_since: MediaTime,
    skipping: bool,
    /// When the newest verdict was known: the last window, which may be a short one, counts as whole. Nothing is told as of before.
    judged_at: MediaTime,
}

impl TranscribeStage {
    pub fn new(transcriber: Box<dyn Transcriber>, rule: WordRule) -> Self {
        TranscribeStage {
            transcriber,
            rule,
            pending: Vec::new(),
            pending_start: None,
            kept: VecDeque::new(),
            utterance: None,
            heard_until: None,
            interrupted: false,
            whole_since: MediaTime::from_nanos(i64::MIN),
            skipping: false,
            judged_at: MediaTime::ZERO,
        }
    }

    /// The next recording: nothing of the last one is left but what the transcriber learned about voices.
    pub fn anew(self) -> Self {
        TranscribeStage::new(self.transcriber, self.rule)
    }

    /// What is understood by the end of this block.
    pub fn hear(&mut self, heard: &VadBlock) -> Result<Vec<Transcript>, TranscribeError> {
        let mut told = Vec::new();
        let (block, mut activity) = (&heard.block, &heard.activity[..]);
        if std::mem::take(&mut self.interrupted) {
            self.whole_since = block.time;
        }
        if let Some(until) = self.heard_until {
            let slip = block.time.nanos_since(until);
            if slip < -SLIP_NANOS {
                return Ok(told);
            }
            if slip > SLIP_NANOS {
                // What the verdicts on the sound before the gap say, they say of what is pending.
                let before = activity
                    .iter()
                    .take_while(|a| a.span.end <= block.time)
                    .count();
                for verdict in &activity[..before] {
                    self.take(verdict, &mut told)?;
                }
                activity = &activity[before..];
                // Sound is missing: words do not straddle a gap.
                self.end_utterance(until.max(self.judged_at), &mut told)?;
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
        self.heard_until = Some(block.span().end.max(self.heard_until.unwrap_or(block.time)));
        for verdict in activity {
            self.take(verdict, &mut told)?;
        }
        // Without verdicts nothing is kept for ever.
        let surplus = self.pending.len().saturating_sub(SAMPLE_RATE_HZ as usize);
        self.drain(surplus);
        Ok(told)
    }

    /// Sound is missing before the next block, or no sound comes for now: the utterance is over, and what is left of its turn is skipped.
    /// The next turn is listened to, as it is whole; a transcriber that cannot follow would never catch up if it began anew at once.
    pub fn interrupt(&mut self) -> Result<Vec<Transcript>, TranscribeError> {
        let told = self.finish()?;
        self.pending.clear();
        self.kept.clear();
        (self.pending_start, self.heard_until, self.interrupted) = (None, None, true);
        Ok(told)
    }

    /// Does a turn go on that is not listened to, because some of it was lost?
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// The sound has ended.
    pub fn finish(&mut self) -> Result<Vec<Transcript>, TranscribeError> {
        let mut told = Vec::new();
        if let Some(until) = self.heard_until {
            self.end_utterance(until.max(self.judged_at), &mut told)?;
        }
        Ok(told)
    }

    /// Up to where all that was said has been told.
    pub fn known_until(&self) -> Option<MediaTime> {
        self.heard_until
    }

    fn drain(&mut self, count: usize) -> Vec<f32> {
        let count = count.min(self.pending.len());
        self.pending_start = self
            .pending_start
            .map(|start| start.plus_nanos(samples_to_nanos(count as i64)));
        self.pending.drain(..count).collect()
    }

    fn take(
        &mut self,
        activity: &VoiceActivity,
        told: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(start) = self.pending_start else {
            return Ok(());
        };
        // To the nearest sample: stamps are slewed.
        let count = (activity.span.end.nanos_since(start).max(0) + samples_to_nanos(1) / 2)
            / samples_to_nanos(1);
        let samples = self.drain(count as usize);
        let window = Window {
            activity: *activity,
            samples,
        };
        // As late as the verdict itself is known.
        let now = activity
            .span
            .end
            .max(activity.span.start.plus_nanos(FULL_WINDOW_NANOS));
        self.judged_at = self.judged_at.max(now);
        let turn = activity.turn.filter(|turn| *turn >= self.whole_since);
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
        // What one utterance has heard, the next does not hear again.
        self.listen(&window)?;
        if activity.turn.is_none() {
            return self.end_utterance(now, told);
        }
        self.tell_partial(now, told)?;
        self.cut_long_utterance(activity, now, told)
    }

    fn begin_utterance(&mut self, turn: MediaTime, now: MediaTime) -> Result<(), TranscribeError> {
        self.transcriber.begin()?;
        self.utterance = Some(Utterance {
            windows: Vec::new(),
            samples: 0,
            next_partial: now.plus_nanos(self.rule.partial_nanos),
            told: false,
        });
        let from = turn.plus_nanos(-LEAD_NANOS);
        let lead: Vec<Window> = self
            .kept
            .drain(..)
            .filter(|window| window.activity.span.end > from)
            .collect();
        lead.iter().try_for_each(|window| self.listen(window))
    }

    fn listen(&mut self, window: &Window) -> Result<(), TranscribeError> {
        if let Some(utterance) = &mut self.utterance {
            utterance.windows.push((utterance.samples, window.activity));
            utterance.samples += window.samples.len();
            self.transcriber.hear(&window.samples)?;
        }
        Ok(())
    }

    fn tell_partial(
        &mut self,
        now: MediaTime,
        told: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(utterance) = self
            .utterance
            .as_mut()
            .filter(|utterance| now >= utterance.next_partial)
        else {
            return Ok(());
        };
        utterance.next_partial = now.plus_nanos(self.rule.partial_nanos);
        let mut guesses = self.transcriber.partial()?;
        // The last one may still be half a word.
        guesses.pop();
        let utterance = self.utterance.as_mut().expect("looked at above");
        let words = utterance.believe(&guesses, &self.rule);
        if !words.is_empty() {
            utterance.told = true;
            told.push(transcript(words, None, false, now));
        }
        Ok(())
    }

    fn cut_long_utterance(
        &mut self,
        activity: &VoiceActivity,
        now: MediaTime,
        told: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(utterance) = &self.utterance else {
            return Ok(());
        };
        let length = samples_to_nanos(utterance.samples as i64);
        if length >= self.rule.longest_nanos && !activity.speech
            || length >= self.rule.longest_nanos * 3 / 2
        {
            // The next one begins with the next window.
            self.end_utterance(now, told)?;
        }
        Ok(())
    }

    fn end_utterance(
        &mut self,
        now: MediaTime,
        told: &mut Vec<Transcript>,
    ) -> Result<(), TranscribeError> {
        let Some(utterance) = self.utterance.take() else {
            return Ok(());
        };
        let guesses = self.transcriber.finish()?;
        let words = utterance.believe(&guesses, &self.rule);
        if !words.is_empty() || utterance.told {
            told.push(transcript(words, utterance.span(), true, now));
        }
        Ok(())
    }
}

impl Utterance {
    fn span(&self) -> Option<Span> {
        Some(Span::new(
            self.windows.first()?.1.span.start,
            self.windows.last()?.1.span.end,
        ))
    }

    /// The words that the rule lets through, on the timeline.
    fn believe(&self, guesses: &[Guess], rule: &WordRule) -> Vec<Word> {
        let voiced = self.windows.iter().filter(|(_, activity)| activity.speech);
        let (sum, count) = voiced.fold((0.0, 0), |(sum, count), (_, activity)| {
            (sum + activity.probability, count + 1)
        });
        if count == 0 || sum / (count as f32) < rule.min_voice_probability {
            return Vec::new();
        }
        let mut words = Vec::new();
        let mut end = MediaTime::from_nanos(i64::MIN);
        for guess in guesses {
            let Some(span) = self.place(guess).filter(|span| span.end > end) else {
                continue;
            };
            let span = Span::new(span.start.max(end), span.end);
            if guess.confidence.is_none_or(|c| c >= rule.min_confidence)
                && self.speech_share(span) >= rule.min_speech_share
            {
                end = span.end;
                words.push(Word {
                    text: guess.text.clone(),
                    span,
                    confidence: guess.confidence,
                });
            }
        }
        let sure: Vec<f32> = words.iter().filter_map(|word| word.confidence).collect();
        if !sure.is_empty()
            && sure.iter().sum::<f32>() / (sure.len() as f32) < rule.min_mean_confidence
        {
            words.clear();
        }
        words
    }

    fn place(&self, guess: &Guess) -> Option<Span> {
        let (start, end) = (
            self.time(guess.samples.start)?,
            self.time(guess.samples.end.min(self.samples))?,
        );
        (start < end).then(|| Span::new(start, end))
    }

    /// When the sample was captured.
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

    fn speech_share(&self, span: Span) -> f32 {
        let speech = self.windows.iter().filter(|(_, activity)| activity.speech);
        let nanos: i64 = speech
            .filter_map(|(_, activity)| activity.span.intersection(&span))
            .map(|common| common.nanos())
            .sum();
        nanos as f32 / span.nanos().max(1) as f32
    }
}

/// `within`: where nothing was said after all.
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
