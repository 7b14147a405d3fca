//! Counts of the frames, sound and events of a recording, for the summary line of a replay.

use std::fmt;
use std::sync::Mutex;

use crate::align::AlignInput;
use crate::clip::{SAMPLE_RATE_HZ, samples_to_nanos};
use crate::time::MediaTime;

/// Counts of one recording. `Display` gives the summary line of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// Number of video frames.
    pub frames: u64,
    /// Number of video frames in which at least one face was tracked.
    pub frames_with_face: u64,
    /// Number of audio samples at 16 kHz.
    pub samples: u64,
    /// Duration of speech by the voice-activity detection, in nanoseconds.
    pub speech_nanos: i64,
    /// Number of written events.
    pub events: u64,
    /// Start and end of the played part; `None` if nothing was played.
    span: Option<(MediaTime, MediaTime)>,
    /// Time of the newest frame.
    last_frame: Option<MediaTime>,
}

impl ReplayCounts {
    /// Extends the played part to include `start..end`.
    fn extend(&mut self, start: MediaTime, end: MediaTime) {
        let (first, last) = self.span.unwrap_or((start, end));
        self.span = Some((first.min(start), last.max(end)));
    }

    fn add(&mut self, input: &AlignInput) {
        match input {
            // An input without a picture size reports only the end of tracks.
            AlignInput::Faces(faces) if faces.picture_size != [0, 0] => {
                self.frames += 1;
                self.frames_with_face += u64::from(!faces.faces.is_empty());
                // A picture is taken to last as long as the one before it.
                let gap = self
                    .last_frame
                    .map_or(0, |last| faces.time.nanos_since(last));
                self.last_frame = Some(faces.time);
                self.extend(faces.time, faces.time.plus_nanos(gap));
            }
            AlignInput::VadBlock(vad) => {
                let count = vad.block.samples.len();
                let end = vad.block.time.plus_nanos(samples_to_nanos(count as i64));
                self.samples += count as u64;
                self.extend(vad.block.time, end);
                let speech = vad.activity.iter().filter(|activity| activity.speech);
                self.speech_nanos += speech
                    .map(|activity| activity.span.end.nanos_since(activity.span.start))
                    .sum::<i64>();
            }
            _ => {}
        }
    }
}

impl fmt::Display for ReplayCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let played = self.span.map_or(0, |(start, end)| end.nanos_since(start));
        write!(f, "played {:.2} s, ", played as f64 * 1e-9)?;
        match self.frames {
            0 => write!(f, "no pictures, ")?,
            frames => write!(
                f,
                "{frames} frames ({} with a face), ",
                self.frames_with_face
            )?,
        }
        match self.samples as f64 / f64::from(SAMPLE_RATE_HZ) {
            0.0 => write!(f, "no sound, ")?,
            seconds => {
                let speech = self.speech_nanos as f64 * 1e-9;
                write!(f, "{seconds:.2} s of sound ({speech:.1} s of speech), ")?;
            }
        }
        write!(f, "{} events", self.events)
    }
}

/// [`ReplayCounts`] behind a lock: the thread "align" updates them, and the replay reads them.
#[derive(Debug, Default)]
pub struct SharedReplayCounts(Mutex<ReplayCounts>);

impl SharedReplayCounts {
    /// Counts an input of the aligner.
    pub(super) fn add(&self, input: &AlignInput) {
        self.0.lock().expect("counts lock").add(input);
    }

    /// The counts so far.
    pub fn get(&self) -> ReplayCounts {
        *self.0.lock().expect("counts lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{AudioBlock, FramedFaces, VadBlock, VoiceActivity};
    use crate::time::Span;

    #[test]
    fn the_summary_line_counts_pictures_sound_speech_and_events() {
        let counts = SharedReplayCounts::default();
        assert_eq!(
            counts.get().to_string(),
            "played 0.00 s, no pictures, no sound, 0 events"
        );
        let at = MediaTime::from_millis;
        for millis in [20_000, 20_040, 20_080] {
            counts.add(&AlignInput::Faces(FramedFaces {
                time: at(millis),
                picture_size: [64, 48],
                faces: Vec::new(),
                changes: Vec::new(),
            }));
        }
        counts.add(&AlignInput::VadBlock(VadBlock {
            block: AudioBlock {
                time: at(20_000),
                samples: vec![0.0; 8_000].into(),
            },
            activity: vec![VoiceActivity {
                span: Span {
                    start: at(20_000),
                    end: at(20_320),
                },
                probability: 0.9,
                speech: true,
                turn: None,
            }],
        }));
        let line =
            "played 0.50 s, 3 frames (0 with a face), 0.50 s of sound (0.3 s of speech), 1 events";
        let with_event = ReplayCounts {
            events: 1,
            ..counts.get()
        };
        assert_eq!(with_event.to_string(), line);
    }
}
