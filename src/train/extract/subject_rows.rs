//! Converts the clips of one item to rows. Only the clips of the subject with the most faces become
//! rows.

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

/// What a row of a store covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClipsRule {
    /// One row per window, with the length, hop and half-life of the encoders as the daemon serves
    /// them: for a bundle that is used live. A shorter window is a row only if the item has no full
    /// one.
    Window,
    /// One row per item: the weighted mean of windows that do not overlap, for figures per
    /// recording and as in the paper. All faces of the recording have equal weights; voices have
    /// the time that no earlier window covers as weight.
    Recording,
}

impl ClipsRule {
    /// The value of [`StoreSpec::clips`](crate::train::store::StoreSpec::clips) for this rule.
    pub fn name(self) -> &'static str {
        match self {
            ClipsRule::Window => WINDOW,
            ClipsRule::Recording => RECORDING,
        }
    }

    /// Length, hop and half-life of the windows that this rule encodes. `served`: those of the
    /// encoders.
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

/// A row of a store before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Start of the window in milliseconds from the item's start; `None`: the row covers the whole
    /// item.
    pub start_ms: Option<i64>,
    /// Number of the view: 0 is the unchanged clip, others are augmented.
    pub view: u32,
    /// Length of the covered time in seconds; 0 for a picture or a text.
    pub seconds: f64,
    /// The embeddings by encoder; an encoder without evidence is missing.
    pub embeddings: Embeddings,
}

/// The id of a row in the store: the item's id, for a window followed by `#` and its start in
/// milliseconds.
pub fn row_id(item: &str, start_ms: Option<i64>) -> String {
    start_ms.map_or_else(|| item.to_owned(), |start| format!("{item}#{start}"))
}

/// First face id in augmented views. It is above all ids of the face stage, because encoders cache
/// embeddings by face id.
const VARIED_FACES: u64 = 1 << 40;

/// Collects the clips of one item, by subject.
#[derive(Debug)]
pub struct SubjectRows {
    rule: ClipsRule,
    /// Length of a full window.
    length_nanos: i64,
    view_encoder: ViewEncoder,
    subjects: BTreeMap<SubjectId, SubjectAccumulator>,
}

/// Encodes clips of one item in every view.
#[derive(Debug)]
struct ViewEncoder {
    /// The item's id, from which the augmentation is derived.
    item: String,
    /// Number of views, the unchanged clip included.
    views: u32,
    /// The augmented views for rows that cover the whole item.
    of_item: Vec<View>,
    /// The next face id for an augmented view.
    next_face: u64,
}

impl ViewEncoder {
    /// The embeddings of the unchanged clip, then those of its augmented views. `start_ms`: start
    /// of the window; `None` if the row covers the whole item.
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

/// By encoder: the weighted sum of the embeddings, and the sum of their weights.
type Sums = BTreeMap<String, (Vec<f64>, f64)>;

/// The rows of one subject so far, or the sums of its embeddings.
#[derive(Debug, Default)]
struct SubjectAccumulator {
    /// End of the last clip in `sums`.
    until: MediaTime,
    /// A clip that is used only if no better one follows, because it is shorter than a window or
    /// overlaps an earlier clip. It is the newest such clip, with rule `window` the longest.
    pending: Option<Clip>,
    /// Number of faces in the clips so far.
    faces: usize,
    /// Number of clips with voice so far.
    voices: usize,
    /// With rule `recording`: the sums for each view.
    sums: Vec<Sums>,
    /// With rule `window`: the rows.
    rows: Vec<Row>,
}

impl SubjectRows {
    /// A collector for the item with the id `item`. `length_nanos`: length of a full window.
    /// `views`: number of rows of each clip, 1 for the unchanged clip alone.
    pub fn new(rule: ClipsRule, length_nanos: i64, item: &str, views: u32) -> SubjectRows {
        let of_item = (1..views).map(|number| View::draw(item, number)).collect();
        let view_encoder = ViewEncoder {
            item: item.to_owned(),
            views,
            of_item,
            next_face: VARIED_FACES,
        };
        SubjectRows {
            rule,
            length_nanos,
            view_encoder,
            subjects: BTreeMap::new(),
        }
    }

    /// Adds a clip, and encodes it unless it may be replaced by a better one. Clips must be in the
    /// aligner's order. Fails if an encoder fails.
    pub fn take(&mut self, clip: Clip, set: &mut EncoderSet) -> Result<(), EncodeError> {
        let SubjectRows {
            view_encoder,
            subjects,
            ..
        } = self;
        let subject = subjects.entry(clip.subject).or_default();
        let is_whole = clip.span.nanos() >= self.length_nanos;
        match self.rule {
            ClipsRule::Window if is_whole => subject.add_row(&clip, view_encoder, set),
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
                    subject.flush(view_encoder, set)?;
                }
                if is_whole && clip.span.start >= subject.until {
                    subject.pending = None;
                    return subject.add(clip, view_encoder, set);
                }
                subject.pending = Some(clip);
                Ok(())
            }
        }
    }

    /// The rows of the subject with the most faces, among equals of the one with the most clips
    /// with voice, then of the first. Empty if the item has no embedding. `seconds`: length of the
    /// item. Fails if an encoder fails.
    pub fn finish(mut self, set: &mut EncoderSet, seconds: f64) -> Result<Vec<Row>, EncodeError> {
        for subject in self.subjects.values_mut() {
            match (self.rule, subject.pending.take()) {
                (ClipsRule::Window, Some(clip)) if subject.rows.is_empty() => {
                    subject.add_row(&clip, &mut self.view_encoder, set)?
                }
                (ClipsRule::Recording, pending) => {
                    subject.pending = pending;
                    subject.flush(&mut self.view_encoder, set)?;
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
    /// Counts the clip's faces and voice, for the choice of the subject.
    fn count(&mut self, clip: &Clip) {
        self.faces += clip.faces.len();
        self.voices += usize::from(clip.voice.is_ok());
    }

    /// Adds a row for each view of the clip, unless it has no embedding.
    fn add_row(
        &mut self,
        clip: &Clip,
        view_encoder: &mut ViewEncoder,
        set: &mut EncoderSet,
    ) -> Result<(), EncodeError> {
        let start_ms = Some(clip.span.start.nanos().div_euclid(1_000_000));
        let views = view_encoder.encode(clip, start_ms, set)?;
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

    /// Adds the pending clip to the sums if it covers time after the last clip.
    fn flush(
        &mut self,
        view_encoder: &mut ViewEncoder,
        set: &mut EncoderSet,
    ) -> Result<(), EncodeError> {
        match self
            .pending
            .take()
            .filter(|clip| clip.span.end > self.until)
        {
            Some(clip) => self.add(clip, view_encoder, set),
            None => Ok(()),
        }
    }

    /// Adds the embeddings of the clip to the sums. Faces before the end of the last clip are
    /// removed, because they were counted with it.
    fn add(
        &mut self,
        mut clip: Clip,
        view_encoder: &mut ViewEncoder,
        set: &mut EncoderSet,
    ) -> Result<(), EncodeError> {
        let until = self.until;
        clip.faces.retain(|face| face.time >= until);
        let new_seconds = clip.span.end.nanos_since(clip.span.start.max(until)) as f64 * 1e-9;
        self.until = clip.span.end;
        self.count(&clip);
        let views = view_encoder.encode(&clip, None, set)?;
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
