//! Converts the clips of one item to rows, for the subject with the most observations.

use std::collections::BTreeMap;

use super::view::View;
use crate::clip::{Clip, SubjectId};
use crate::encode::EncodeError;
use crate::manifest::{EncoderKind, WindowRule};
use crate::modality::Modality;
use crate::recognize::Embeddings;
use crate::time::MediaTime;
use crate::train::encoders::EncoderSet;
use crate::train::store::{RECORDING, WINDOW};

/// How clips are converted to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClipsRule {
    /// One row per window of the encoders' length, hop and half-life, as the daemon serves them:
    /// for a bundle that is served live. A shorter window only if there is no full one.
    Window,
    /// One row per item: the weighted mean over windows that do not overlap, for figures per
    /// recording and as in the paper. All faces of the recording weigh the same; voices weigh by
    /// the time that no earlier window covers.
    Recording,
}

impl ClipsRule {
    /// The rule's name in the field `clips` of a store. Stores from before faces had equal weights
    /// have `recording`.
    pub fn name(self) -> &'static str {
        match self {
            ClipsRule::Window => WINDOW,
            ClipsRule::Recording => RECORDING,
        }
    }

    /// Length, hop and half-life of the rows, from those of the encoders.
    pub fn window(self, served: WindowRule) -> WindowRule {
        match self {
            ClipsRule::Window => served,
            ClipsRule::Recording => WindowRule {
                length_ms: served.length_ms,
                hop_ms: served.length_ms,
                half_life_ms: None,
            },
        }
    }
}

/// One row of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Start of the window in milliseconds from the start of the item; `None`: the row is for the
    /// whole item.
    pub start_ms: Option<i64>,
    /// 0: the clip unchanged; others: augmented.
    pub view: u32,
    pub seconds: f64,
    pub embeddings: Embeddings,
}

/// The id of an item's row.
pub fn row_id(item: &str, start_ms: Option<i64>) -> String {
    start_ms.map_or_else(|| item.to_owned(), |start| format!("{item}#{start}"))
}

/// First id of the faces of augmented views, above all ids of a face stage.
const VARIED_FACES: u64 = 1 << 40;

/// The embeddings of each subject of one item.
#[derive(Debug)]
pub struct SubjectRows {
    rule: ClipsRule,
    length_nanos: i64,
    screen: Screen,
    subjects: BTreeMap<SubjectId, SubjectAccumulator>,
}

/// Encodes clips in every view.
#[derive(Debug)]
struct Screen {
    item: String,
    views: u32,
    /// Views of rows that are whole items.
    of_item: Vec<View>,
    next_face: u64,
}

impl Screen {
    /// The embeddings of the clip unchanged, then of its augmented views.
    fn encode(
        &mut self,
        clip: &Clip,
        start_ms: Option<i64>,
        set: &mut EncoderSet,
    ) -> Result<Vec<Embeddings>, EncodeError> {
        let mut all = vec![set.encode(clip)?];
        for number in 1..self.views {
            let of_window = start_ms
                .is_some()
                .then(|| View::draw(&row_id(&self.item, start_ms), number));
            let view = of_window
                .as_ref()
                .unwrap_or_else(|| &self.of_item[number as usize - 1]);
            all.push(set.encode(&view.of_clip(clip, &mut self.next_face))?);
        }
        Ok(all)
    }
}

/// Sum of the embeddings and of their weights, by encoder.
type Sums = BTreeMap<String, (Vec<f64>, f64)>;

/// The clips of one subject, summed or converted to rows.
#[derive(Debug, Default)]
struct SubjectAccumulator {
    until: MediaTime,
    /// The newest clip (rule `window`: the longest) that is shorter than a window or overlaps an
    /// earlier one. Used only if no better clip follows.
    pending: Option<Clip>,
    faces: usize,
    voices: usize,
    /// Per view.
    sums: Vec<Sums>,
    rows: Vec<Row>,
}

impl SubjectRows {
    /// Rows for the item `item`, in `views` views.
    pub fn new(rule: ClipsRule, length_nanos: i64, item: &str, views: u32) -> SubjectRows {
        let of_item = (1..views).map(|number| View::draw(item, number)).collect();
        let screen = Screen {
            item: item.to_owned(),
            views,
            of_item,
            next_face: VARIED_FACES,
        };
        SubjectRows {
            rule,
            length_nanos,
            screen,
            subjects: BTreeMap::new(),
        }
    }

    /// Adds a clip. Clips must be in the aligner's order.
    pub fn take(&mut self, clip: Clip, set: &mut EncoderSet) -> Result<(), EncodeError> {
        let SubjectRows {
            screen, subjects, ..
        } = self;
        let subject = subjects.entry(clip.subject).or_default();
        let is_whole = clip.span.nanos() >= self.length_nanos;
        match self.rule {
            ClipsRule::Window if is_whole => subject.add_row(&clip, screen, set),
            ClipsRule::Window => {
                if subject
                    .pending
                    .as_ref()
                    .is_none_or(|p| p.span.nanos() <= clip.span.nanos())
                {
                    subject.pending = Some(clip);
                }
                Ok(())
            }
            ClipsRule::Recording => {
                if subject
                    .pending
                    .as_ref()
                    .is_some_and(|p| p.span.end <= clip.span.start)
                {
                    subject.flush(screen, set)?;
                }
                if is_whole && clip.span.start >= subject.until {
                    subject.pending = None;
                    return subject.add(clip, screen, set);
                }
                subject.pending = Some(clip);
                Ok(())
            }
        }
    }

    /// The rows of the subject with the most faces; ties are decided by voice, then by order. Empty
    /// without any embedding.
    pub fn finish(mut self, set: &mut EncoderSet, seconds: f64) -> Result<Vec<Row>, EncodeError> {
        for subject in self.subjects.values_mut() {
            match (self.rule, subject.pending.take()) {
                (ClipsRule::Window, Some(clip)) if subject.rows.is_empty() => {
                    subject.add_row(&clip, &mut self.screen, set)?
                }
                (ClipsRule::Recording, pending) => {
                    subject.pending = pending;
                    subject.flush(&mut self.screen, set)?;
                }
                _ => {}
            }
        }
        let mut best: Option<SubjectAccumulator> = None;
        for subject in self.subjects.into_values() {
            if best
                .as_ref()
                .is_none_or(|b| (subject.faces, subject.voices) > (b.faces, b.voices))
            {
                best = Some(subject);
            }
        }
        let Some(best) = best else {
            return Ok(Vec::new());
        };
        Ok(match self.rule {
            ClipsRule::Window => best.rows,
            ClipsRule::Recording => {
                let mean = |(sum, weight): (Vec<f64>, f64)| {
                    sum.iter().map(|s| (s / weight) as f32).collect()
                };
                let row = |(view, sums): (u32, Sums)| Row {
                    start_ms: None,
                    view,
                    seconds,
                    embeddings: sums
                        .into_iter()
                        .map(|(name, sum)| (name, mean(sum)))
                        .collect(),
                };
                (0..)
                    .zip(best.sums)
                    .filter(|(_, sums)| !sums.is_empty())
                    .map(row)
                    .collect()
            }
        })
    }
}

impl SubjectAccumulator {
    fn count(&mut self, clip: &Clip) {
        self.faces += clip.faces.len();
        self.voices += usize::from(clip.voice.is_ok());
    }

    fn add_row(
        &mut self,
        clip: &Clip,
        screen: &mut Screen,
        set: &mut EncoderSet,
    ) -> Result<(), EncodeError> {
        let start_ms = Some(clip.span.start.nanos().div_euclid(1_000_000));
        let views = screen.encode(clip, start_ms, set)?;
        if !views[0].is_empty() {
            self.count(clip);
            let seconds = clip.span.nanos() as f64 * 1e-9;
            self.rows
                .extend((0..).zip(views).map(|(view, embeddings)| Row {
                    start_ms,
                    view,
                    seconds,
                    embeddings,
                }));
        }
        Ok(())
    }

    fn flush(&mut self, screen: &mut Screen, set: &mut EncoderSet) -> Result<(), EncodeError> {
        match self
            .pending
            .take()
            .filter(|clip| clip.span.end > self.until)
        {
            Some(clip) => self.add(clip, screen, set),
            None => Ok(()),
        }
    }

    fn add(
        &mut self,
        mut clip: Clip,
        screen: &mut Screen,
        set: &mut EncoderSet,
    ) -> Result<(), EncodeError> {
        let until = self.until;
        clip.faces.retain(|face| face.time >= until);
        let new_seconds = clip.span.end.nanos_since(clip.span.start.max(until)) as f64 * 1e-9;
        self.until = clip.span.end;
        self.count(&clip);
        let views = screen.encode(&clip, None, set)?;
        self.sums.resize_with(views.len(), Sums::new);
        for (sums, embeddings) in self.sums.iter_mut().zip(views) {
            for entry in set.entries() {
                let Some(embedding) = embeddings.get(&entry.name) else {
                    continue;
                };
                let weight = if entry.modality == Modality::Face && entry.kind == EncoderKind::Frame
                {
                    entry.input_faces(&clip.faces).count() as f64
                } else {
                    new_seconds
                };
                let (sum, all) = sums
                    .entry(entry.name.clone())
                    .or_insert_with(|| (vec![0.0; entry.dim], 0.0));
                sum.iter_mut()
                    .zip(embedding)
                    .for_each(|(s, v)| *s += weight * f64::from(*v));
                *all += weight;
            }
        }
        Ok(())
    }
}
