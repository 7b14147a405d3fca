//! The thread "speech": receives sound, detects voice activity, and sends both to the aligner and
//! the transcriber.

use std::sync::atomic::{AtomicU64, Ordering};

use super::callbacks::{IsLost, TICK};
use super::failure::StageError;
use crate::align::AlignInput;
use crate::clip::AudioBlock;
use crate::lane::{LaneReceiver, LaneSender, Received};
use crate::notify::Heartbeat;
use crate::session::{SpeechDetection, SpeechInput, SpeechOutput, TranscriberInput};

/// The thread that detects voice activity in the sound.
pub(super) struct SpeechThread<'a> {
    pub speech: SpeechDetection,
    /// The captured sound.
    pub blocks: LaneReceiver<AudioBlock>,
    /// The aligner's inputs.
    pub inbox: LaneSender<AlignInput>,
    /// The transcriber's inputs; `None` without transcription.
    pub transcriber: Option<LaneSender<TranscriberInput>>,
    /// Whether the microphone is lost; `None` in a replay.
    pub is_lost: Option<IsLost>,
    /// Receives the number of blocks that were dropped because their stamps went back.
    pub refused: &'a AtomicU64,
}

impl SpeechThread<'_> {
    /// Runs until the sound ends.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<(), StageError> {
        loop {
            heartbeat.send();
            match self.blocks.recv(Some(TICK)) {
                Received::TimedOut => {
                    if self.is_lost.as_ref().is_some_and(|is_lost| is_lost()) {
                        self.push(SpeechInput::Lost)?;
                    }
                }
                Received::Ended => return self.push(SpeechInput::Ended),
                Received::Item(block) => self.push(SpeechInput::Sound(block))?,
            }
            self.refused.store(self.speech.refused(), Ordering::Relaxed);
        }
    }

    fn push(&mut self, input: SpeechInput) -> Result<(), StageError> {
        self.speech.push(input)?;
        while let Some(output) = self.speech.pop() {
            match (output, &self.transcriber) {
                (SpeechOutput::Align(input), _) => {
                    let sent = self.inbox.send(input);
                    sent.map_err(|_| StageError::Gone("aligner"))?;
                }
                (SpeechOutput::Transcribe(input), Some(transcriber)) => {
                    let sent = transcriber.send(input);
                    sent.map_err(|_| StageError::Gone("transcriber"))?;
                }
                (SpeechOutput::Transcribe(_), None) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::encode::Runtime;
    use crate::lane::{WhenFull, lane};
    use crate::notify::Progress;
    use crate::speech::{SpeechStage, TurnRule, VoiceDetector, WINDOW_SAMPLES};
    use crate::time::MediaTime;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

    #[test]
    fn a_lost_source_is_reported_once_to_aligner_and_transcriber() {
        let stage = SpeechStage::new(
            TurnRule::default(),
            VoiceDetector::load(&Runtime::load().unwrap()).unwrap(),
        );
        let (sender, blocks) = lane("audio", 4, WhenFull::DropOldest);
        let (inbox, inputs) = lane("align", 16, WhenFull::DropOldest);
        let (passing, passed) = lane("transcribe", 16, WhenFull::DropOldest);
        let heartbeat =
            Progress::new(Duration::MAX, MediaTime::ZERO).add("speech", MediaTime::ZERO);
        let block = |seconds: i64| AudioBlock {
            time: MediaTime::from_millis(1000 * seconds),
            samples: vec![0.0; WINDOW_SAMPLES].into(),
        };
        // Sent before the thread starts to wait.
        assert!(sender.send(block(0)).is_ok());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let is_lost: IsLost = Box::new(|| true);
                let thread = SpeechThread {
                    speech: SpeechDetection::new(stage, true),
                    blocks,
                    inbox,
                    transcriber: Some(passing),
                    is_lost: Some(is_lost),
                    refused: &AtomicU64::new(0),
                };
                thread.run(&heartbeat).unwrap();
            });
            for number in [0, 2] {
                if number > 0 {
                    assert!(sender.send(block(60)).is_ok());
                }
                let next = || match passed.recv(PATIENCE) {
                    Received::Item(item) => (item.number, item.vad.is_some()),
                    _ => panic!("an item"),
                };
                assert_eq!(next(), (number, true));
                assert_eq!(next(), (number + 1, false));
            }
            drop(sender);
        });
        for _ in 0..2 {
            assert!(matches!(
                inputs.recv(Some(Duration::ZERO)),
                Received::Item(AlignInput::VadBlock(_))
            ));
            assert!(matches!(
                inputs.recv(Some(Duration::ZERO)),
                Received::Item(AlignInput::AudioLost)
            ));
        }
        assert!(matches!(
            inputs.recv(Some(Duration::ZERO)),
            Received::Item(AlignInput::AudioEnded)
        ));
    }
}
