//! The speech stage: blocks of any length in, the same blocks with their verdicts out.

use std::sync::Arc;

use super::{SLIP_NANOS, TurnRule, Turns, VoiceDetector, WINDOW_SAMPLES};
use crate::clip::{AudioBlock, VadBlock, VoiceActivity, samples_to_nanos};
use crate::encode::EncodeError;
use crate::time::{MediaTime, Span};

/// Cuts the sound into windows and judges each as soon as it is whole.
///
/// Windows follow one another from the first sample on, whatever the blocks' lengths. Where sound is missing (a block more than
/// [`SLIP_NANOS`] after the end of the one before) the window that was begun is filled up with zeros and judged, the detector forgets,
/// and windows begin anew: none straddles a gap. A block that begins more than that before the end of the one before is a fault of its
/// source: it passes through unjudged, and is counted.
#[derive(Debug)]
pub struct SpeechStage {
    detector: VoiceDetector,
    turns: Turns,
    pending: Vec<f32>,
    /// End of the last block.
    heard_until: Option<MediaTime>,
    /// End of the last verdict: spans do not overlap although stamps are slewed.
    judged_until: MediaTime,
    refused: u64,
}

impl SpeechStage {
    pub fn new(rule: TurnRule, detector: VoiceDetector) -> Self {
        let pending = Vec::with_capacity(WINDOW_SAMPLES);
        SpeechStage {
            detector,
            turns: Turns::new(rule),
            pending,
            heard_until: None,
            judged_until: MediaTime::from_nanos(i64::MIN),
            refused: 0,
        }
    }

    /// The graph back, for the next stage, with nothing in its memory.
    pub fn into_detector(mut self) -> VoiceDetector {
        self.detector.reset();
        self.detector
    }

    /// Blocks whose stamps went back.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The block and the verdicts that it completes.
    pub fn hear(&mut self, block: AudioBlock) -> Result<VadBlock, EncodeError> {
        let mut activity = Vec::new();
        if let Some(heard_until) = self.heard_until {
            let slip = block.time.nanos_since(heard_until);
            if slip < -SLIP_NANOS {
                self.refused += 1;
                return Ok(VadBlock { block, activity });
            }
            if slip > SLIP_NANOS {
                activity.extend(self.judge_rest(heard_until)?);
                self.detector.reset();
            }
        }
        // By the newest stamp: where the block's first sample is, and so where the window that was begun before it began.
        let mut start = block
            .time
            .plus_nanos(-samples_to_nanos(self.pending.len() as i64));
        let mut samples = &block.samples[..];
        while self.pending.len() + samples.len() >= WINDOW_SAMPLES {
            let (head, rest) = samples.split_at(WINDOW_SAMPLES - self.pending.len());
            self.pending.extend_from_slice(head);
            samples = rest;
            let end = start.plus_nanos(samples_to_nanos(WINDOW_SAMPLES as i64));
            activity.extend(self.judge_pending(start, end)?);
            start = end;
        }
        self.pending.extend_from_slice(samples);
        self.heard_until = Some(block.span().end);
        Ok(VadBlock { block, activity })
    }

    /// The sound has ended: the verdict on its last, incomplete window, with an empty block at its end.
    pub fn finish(&mut self) -> Result<Option<VadBlock>, EncodeError> {
        let Some(heard_until) = self.heard_until else {
            return Ok(None);
        };
        let activity: Vec<_> = self.judge_rest(heard_until)?.into_iter().collect();
        self.detector.reset();
        Ok((!activity.is_empty()).then(|| VadBlock {
            block: AudioBlock {
                time: heard_until,
                samples: Arc::new([]),
            },
            activity,
        }))
    }

    fn judge_rest(&mut self, end: MediaTime) -> Result<Option<VoiceActivity>, EncodeError> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let start = end.plus_nanos(-samples_to_nanos(self.pending.len() as i64));
        self.judge_pending(start, end)
    }

    fn judge_pending(
        &mut self,
        start: MediaTime,
        end: MediaTime,
    ) -> Result<Option<VoiceActivity>, EncodeError> {
        let mut window = [0.0; WINDOW_SAMPLES];
        window[..self.pending.len()].copy_from_slice(&self.pending);
        self.pending.clear();
        let probability = self.detector.probability(&window)?;
        let start = start.max(self.judged_until);
        if start >= end {
            return Ok(None);
        }
        self.judged_until = end;
        let span = Span::new(start, end);
        let (speech, turn) = self.turns.judge(span, probability);
        Ok(Some(VoiceActivity {
            span,
            probability,
            speech,
            turn,
        }))
    }
}
