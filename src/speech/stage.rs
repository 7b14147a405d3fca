//! The speech stage: adds voice activity to audio blocks of any length.

use std::sync::Arc;

use super::{SLIP_NANOS, TurnRule, Turns, VoiceDetector, WINDOW_SAMPLES};
use crate::clip::{AudioBlock, VadBlock, VoiceActivity, samples_to_nanos};
use crate::encode::EncodeError;
use crate::time::{MediaTime, Span};

/// Cuts audio into windows and runs voice-activity detection on each complete window.
///
/// Windows are contiguous from the first sample on, independent of the block lengths. A block more
/// than [`SLIP_NANOS`] after the end of the previous one marks a gap. At a gap the pending window
/// is padded with zeros and classified, the detector is reset, and windows restart, so that no
/// window straddles a gap. A block more than [`SLIP_NANOS`] before the end of the previous one is a
/// fault of the source. Such a block is passed on without voice activity, and counted.
#[derive(Debug)]
pub struct SpeechStage {
    detector: VoiceDetector,
    turns: Turns,
    /// Samples after the last classified window.
    pending: Vec<f32>,
    /// End of the last block; `None` before the first block.
    received_until: Option<MediaTime>,
    /// End of the last classified window. Spans do not overlap, although stamps are slewed.
    classified_until: MediaTime,
    refused: u64,
}

impl SpeechStage {
    /// Creates a stage without audio; `rule` defines the turns.
    pub fn new(rule: TurnRule, detector: VoiceDetector) -> Self {
        let pending = Vec::with_capacity(WINDOW_SAMPLES);
        SpeechStage {
            detector,
            turns: Turns::new(rule),
            pending,
            received_until: None,
            classified_until: MediaTime::from_nanos(i64::MIN),
            refused: 0,
        }
    }

    /// Returns the detector, with cleared state, for use in another stage.
    pub fn into_detector(mut self) -> VoiceDetector {
        self.detector.reset();
        self.detector
    }

    /// Number of blocks whose stamps went back by more than [`SLIP_NANOS`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds a block, and returns it with the voice activity of the windows that it completes.
    ///
    /// # Errors
    /// The voice-activity graph fails.
    pub fn push(&mut self, block: AudioBlock) -> Result<VadBlock, EncodeError> {
        let mut activity = Vec::new();
        if let Some(received_until) = self.received_until {
            let slip = block.time.nanos_since(received_until);
            if slip < -SLIP_NANOS {
                self.refused += 1;
                return Ok(VadBlock { block, activity });
            }
            if slip > SLIP_NANOS {
                activity.extend(self.classify_rest(received_until)?);
                self.detector.reset();
            }
        }
        // Start of the pending window, by the newest stamp.
        let mut start = block
            .time
            .plus_nanos(-samples_to_nanos(self.pending.len() as i64));
        let mut samples = &block.samples[..];
        while self.pending.len() + samples.len() >= WINDOW_SAMPLES {
            let (head, rest) = samples.split_at(WINDOW_SAMPLES - self.pending.len());
            self.pending.extend_from_slice(head);
            samples = rest;
            let end = start.plus_nanos(samples_to_nanos(WINDOW_SAMPLES as i64));
            activity.extend(self.classify_pending(start, end)?);
            start = end;
        }
        self.pending.extend_from_slice(samples);
        self.received_until = Some(block.span().end);
        Ok(VadBlock { block, activity })
    }

    /// Ends the audio: pads the incomplete last window with zeros and classifies it. Returns its
    /// voice activity in a block without samples; `None` if no window is pending.
    ///
    /// # Errors
    /// The voice-activity graph fails.
    pub fn finish(&mut self) -> Result<Option<VadBlock>, EncodeError> {
        let Some(received_until) = self.received_until else {
            return Ok(None);
        };
        let activity: Vec<_> = self.classify_rest(received_until)?.into_iter().collect();
        self.detector.reset();
        Ok((!activity.is_empty()).then(|| VadBlock {
            block: AudioBlock {
                time: received_until,
                samples: Arc::new([]),
            },
            activity,
        }))
    }

    /// Classifies the pending samples as the last window of continuous audio that ended at `end`.
    fn classify_rest(&mut self, end: MediaTime) -> Result<Option<VoiceActivity>, EncodeError> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let start = end.plus_nanos(-samples_to_nanos(self.pending.len() as i64));
        self.classify_pending(start, end)
    }

    /// Pads the pending samples to a window and classifies it. `None`: classified windows already
    /// cover the time up to `end`.
    fn classify_pending(
        &mut self,
        start: MediaTime,
        end: MediaTime,
    ) -> Result<Option<VoiceActivity>, EncodeError> {
        let mut window = [0.0; WINDOW_SAMPLES];
        window[..self.pending.len()].copy_from_slice(&self.pending);
        self.pending.clear();
        let probability = self.detector.probability(&window)?;
        let start = start.max(self.classified_until);
        if start >= end {
            return Ok(None);
        }
        self.classified_until = end;
        let span = Span::new(start, end);
        let (speech, turn) = self.turns.update(span, probability);
        Ok(Some(VoiceActivity {
            span,
            probability,
            speech,
            turn,
        }))
    }
}
