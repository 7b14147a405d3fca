//! Describes scenes, generates their two streams, and reads the aligner's output.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::align::{AlignInput, AlignSettings, Aligned, Aligner};
use crate::clip::{
    AudioBlock, Clip, Crop, Face, FramedFaces, Rect, SAMPLE_RATE_HZ, SubjectChange, SubjectId,
    SubjectPhase, VadBlock, VoiceActivity, samples_to_nanos,
};
use crate::speech::{TurnRule, Turns};
use crate::time::{MediaTime, Span};

/// One millisecond in nanoseconds.
pub const MS: i64 = 1_000_000;

pub fn ms(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

pub fn settings() -> AlignSettings {
    AlignSettings {
        length_nanos: 2000 * MS,
        hop_nanos: 200 * MS,
        face_rate_hz: 16.0,
        min_speech_nanos: 250 * MS,
        lateness_nanos: None,
        video: true,
        audio: true,
    }
}

/// A simulated person. Intervals are in milliseconds.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: u32,
    /// The time in which the person is visible.
    pub present: std::ops::Range<i64>,
    /// The times in which the lips move.
    pub talking: Vec<std::ops::Range<i64>>,
    /// The time in which the face is unusable.
    pub blurred: std::ops::Range<i64>,
}

impl Person {
    pub fn new(id: u32, present: std::ops::Range<i64>) -> Self {
        Person {
            id,
            present,
            talking: Vec::new(),
            blurred: 0..0,
        }
    }
    pub fn talking(self, talking: &[std::ops::Range<i64>]) -> Self {
        Person {
            talking: talking.to_vec(),
            ..self
        }
    }
}

/// Whether `time` is in one of `ranges`, all in milliseconds.
pub fn inside(ranges: &[std::ops::Range<i64>], time: i64) -> bool {
    ranges.iter().any(|r| r.contains(&time))
}

/// Frames of `people` at `fps` frames per second, from 0 to `millis` milliseconds.
pub fn frames(people: &[Person], millis: i64, fps: i64) -> Vec<FramedFaces> {
    let count = (millis * fps + 999) / 1000;
    (0..count)
        .map(|i| {
            let nanos = i * 1_000_000_000 / fps;
            let (time, now) = (MediaTime::from_nanos(nanos), nanos / MS);
            let before = (i > 0).then(|| (i - 1) * 1_000_000_000 / fps / MS);
            let change = |p: &Person, phase| SubjectChange {
                subject: SubjectId::Face(p.id),
                time,
                phase,
                into: None,
                rect: [0.0; 4],
                quality: 1.0,
            };
            let mut changes = Vec::new();
            for p in people {
                let was = before.is_some_and(|b| p.present.contains(&b));
                match (was, p.present.contains(&now)) {
                    (false, true) => changes.push(change(p, SubjectPhase::Appeared)),
                    (true, false) => changes.push(change(p, SubjectPhase::Lost)),
                    _ => {}
                }
            }
            let faces = people.iter().filter(|p| p.present.contains(&now)).map(|p| {
                let crop = (!p.blurred.contains(&now)).then(|| {
                    Arc::new(Crop {
                        size: 1,
                        channels: 1,
                        pixels: vec![0],
                    })
                });
                let lip_motion = if inside(&p.talking, now) {
                    0.03 + 0.02 * ((i % 3) as f32)
                } else {
                    0.008 + 0.002 * ((i % 2) as f32)
                };
                Arc::new(Face {
                    id: u64::from(p.id) << 32 | i as u64,
                    subject: SubjectId::Face(p.id),
                    time,
                    rect: Rect {
                        x: 0.0,
                        y: 0.0,
                        w: 1.0,
                        h: 1.0,
                    },
                    landmarks: [[0.0; 2]; 5],
                    score: 1.0,
                    quality: 1.0,
                    lip_motion,
                    crop,
                })
            });
            FramedFaces {
                time,
                picture_size: [640, 480],
                faces: faces.collect(),
                changes,
            }
        })
        .collect()
}

/// Audio from 0 to `millis` milliseconds, without sound in `gaps` and with speech in `speech`.
/// `lengths`: samples of the blocks, repeated cyclically. The result equals the output of the
/// speech stage with an ideal detector.
pub fn sound(
    speech: &[std::ops::Range<i64>],
    gaps: &[std::ops::Range<i64>],
    millis: i64,
    lengths: &[usize],
) -> Vec<VadBlock> {
    let rate = i64::from(SAMPLE_RATE_HZ) / 1000;
    let (mut turns, mut blocks) = (Turns::new(TurnRule::default()), Vec::<VadBlock>::new());
    let mut lengths = lengths.iter().cycle();
    let mut carried: Option<VoiceActivity> = None;
    let mut at = 0;
    while at < millis {
        let interval_end = gaps
            .iter()
            .map(|g| g.start)
            .filter(|s| *s > at)
            .min()
            .unwrap_or(millis)
            .min(millis);
        let (first, last) = (at * rate, interval_end * rate);
        let (mut sample, mut classified) = (first, first);
        while sample < last {
            let end = (sample + *lengths.next().unwrap() as i64).min(last);
            let mut activity: Vec<_> = carried.take().into_iter().collect();
            while classified + 512 <= end {
                activity.push(classify(&mut turns, classified, classified + 512, speech));
                classified += 512;
            }
            let samples = (sample..end).map(|i| i as f32).collect();
            blocks.push(VadBlock {
                block: AudioBlock {
                    time: MediaTime::from_nanos(samples_to_nanos(sample)),
                    samples,
                },
                activity,
            });
            sample = end;
        }
        if classified < last {
            carried = Some(classify(&mut turns, classified, last, speech));
        }
        at = gaps
            .iter()
            .find(|g| g.start == interval_end)
            .map_or(millis, |g| g.end);
    }
    if let Some(activity) = carried {
        let time = blocks.last().unwrap().block.span().end;
        blocks.push(VadBlock {
            block: AudioBlock {
                time,
                samples: Arc::new([]),
            },
            activity: vec![activity],
        });
    }
    blocks
}

/// Voice activity of the samples `first..last` at 16 kHz, by an ideal detector of `speech`
/// (intervals in milliseconds).
pub fn classify(
    turns: &mut Turns,
    first: i64,
    last: i64,
    speech: &[std::ops::Range<i64>],
) -> VoiceActivity {
    let span = Span::new(
        MediaTime::from_nanos(samples_to_nanos(first)),
        MediaTime::from_nanos(samples_to_nanos(last)),
    );
    let probability = if inside(speech, (first + last) / 2 / 16) {
        0.95
    } else {
        0.02
    };
    let (speech, turn) = turns.update(span, probability);
    VoiceActivity {
        span,
        probability,
        speech,
        turn,
    }
}

/// Pushes both streams into an aligner, interleaved by `choices` (`true`: video), until both have
/// ended. Returns all outputs.
pub fn play(
    settings: AlignSettings,
    frames: Vec<FramedFaces>,
    blocks: Vec<VadBlock>,
    choices: &[bool],
) -> Vec<Aligned> {
    let mut aligner = Aligner::new(settings);
    let mut video: VecDeque<_> = frames.into_iter().map(AlignInput::Faces).collect();
    let mut audio: VecDeque<_> = blocks.into_iter().map(AlignInput::VadBlock).collect();
    video.push_back(AlignInput::FacesEnded);
    audio.push_back(AlignInput::AudioEnded);
    let mut output = Vec::new();
    let mut choices = choices.iter().copied().chain(std::iter::repeat(true));
    while !video.is_empty() || !audio.is_empty() {
        let pick = choices.next().unwrap();
        let item = if pick {
            video.pop_front().or_else(|| audio.pop_front())
        } else {
            audio.pop_front().or_else(|| video.pop_front())
        };
        aligner.push(item.unwrap());
        output.extend(std::iter::from_fn(|| aligner.pop(MediaTime::ZERO)));
    }
    assert_eq!(aligner.refused(), 0);
    output
}

pub fn clips(output: &[Aligned]) -> Vec<&Clip> {
    output
        .iter()
        .filter_map(|a| {
            if let Aligned::Clip(c) = a {
                Some(c)
            } else {
                None
            }
        })
        .collect()
}

pub fn clips_of(output: &[Aligned], subject: SubjectId) -> Vec<&Clip> {
    clips(output)
        .into_iter()
        .filter(|c| c.subject == subject)
        .collect()
}

/// Start and end of each clip, in milliseconds.
pub fn spans(clips: &[&Clip]) -> Vec<(i64, i64)> {
    clips
        .iter()
        .map(|c| (c.span.start.nanos() / MS, c.span.end.nanos() / MS))
        .collect()
}
