//! The clips of one item become its rows: of all subjects, those of the one who shows the most.

use std::collections::BTreeMap;

use crate::clip::{Clip, SubjectId};
use crate::encode::EncodeError;
use crate::modality::Modality;
use crate::model::manifest::EncoderKind;
use crate::recognize::Embeddings;
use crate::time::MediaTime;
use crate::train::encoders::EncoderSet;

/// Which clips become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClipsRule {
    /// One row per item: the mean over windows that do not overlap, each weighed by what it shows (faces by their number, voices by the
    /// time that no window before has shown).
    Recording,
    /// One row per window of the encoders' length and hop; one that is shorter only where there is no whole one.
    Window,
}

impl ClipsRule {
    pub fn name(self) -> &'static str {
        match self {
            ClipsRule::Recording => "recording",
            ClipsRule::Window => "window",
        }
    }
}

/// One row of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where the window begins, in milliseconds from the item's start; `None`: the row is the whole item.
    pub start_ms: Option<i64>,
    pub seconds: f64,
    pub embeddings: Embeddings,
}

/// What was seen and heard of each subject of one item.
#[derive(Debug)]
pub struct Evidence {
    rule: ClipsRule,
    length_nanos: i64,
    subjects: BTreeMap<SubjectId, Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    until: MediaTime,
    /// The newest clip (windows: the longest) that is not whole, or shows again what was shown: used only if nothing better comes.
    pending: Option<Clip>,
    faces: usize,
    voices: usize,
    /// Per encoder: sum and weight.
    sums: BTreeMap<String, (Vec<f64>, f64)>,
    rows: Vec<Row>,
}

impl Evidence {
    pub fn new(rule: ClipsRule, length_nanos: i64) -> Evidence {
        Evidence { rule, length_nanos, subjects: BTreeMap::new() }
    }

    /// Clips come in the aligner's order.
    pub fn take(&mut self, clip: Clip, set: &mut EncoderSet) -> Result<(), EncodeError> {
        let shown = self.subjects.entry(clip.subject).or_default();
        let is_whole = clip.span.nanos() >= self.length_nanos;
        match self.rule {
            ClipsRule::Window if is_whole => shown.add_row(&clip, set),
            ClipsRule::Window => {
                if shown.pending.as_ref().is_none_or(|p| p.span.nanos() <= clip.span.nanos()) {
                    shown.pending = Some(clip);
                }
                Ok(())
            }
            ClipsRule::Recording => {
                if shown.pending.as_ref().is_some_and(|p| p.span.end <= clip.span.start) {
                    shown.flush(set)?;
                }
                if is_whole && clip.span.start >= shown.until {
                    shown.pending = None;
                    return shown.add(clip, set);
                }
                shown.pending = Some(clip);
                Ok(())
            }
        }
    }

    /// The rows of the subject with the most faces (then voice, then the first); none where nobody showed anything.
    pub fn finish(mut self, set: &mut EncoderSet, seconds: f64) -> Result<Vec<Row>, EncodeError> {
        for shown in self.subjects.values_mut() {
            match (self.rule, shown.pending.take()) {
                (ClipsRule::Window, Some(clip)) if shown.rows.is_empty() => shown.add_row(&clip, set)?,
                (ClipsRule::Recording, pending) => {
                    shown.pending = pending;
                    shown.flush(set)?;
                }
                _ => {}
            }
        }
        let mut best: Option<Shown> = None;
        for shown in self.subjects.into_values() {
            if best.as_ref().is_none_or(|b| (shown.faces, shown.voices) > (b.faces, b.voices)) {
                best = Some(shown);
            }
        }
        let Some(best) = best else { return Ok(Vec::new()) };
        Ok(match self.rule {
            ClipsRule::Window => best.rows,
            ClipsRule::Recording if best.sums.is_empty() => Vec::new(),
            ClipsRule::Recording => {
                let mean = |(sum, weight): (Vec<f64>, f64)| sum.iter().map(|s| (s / weight) as f32).collect();
                vec![Row { start_ms: None, seconds, embeddings: best.sums.into_iter().map(|(name, sum)| (name, mean(sum))).collect() }]
            }
        })
    }
}

impl Shown {
    fn count(&mut self, clip: &Clip) {
        self.faces += clip.faces.len();
        self.voices += usize::from(clip.voice.is_ok());
    }

    fn add_row(&mut self, clip: &Clip, set: &mut EncoderSet) -> Result<(), EncodeError> {
        let embeddings = set.encode(clip)?;
        if !embeddings.is_empty() {
            self.count(clip);
            self.rows.push(Row { start_ms: Some(clip.span.start.nanos().div_euclid(1_000_000)), seconds: clip.span.nanos() as f64 * 1e-9, embeddings });
        }
        Ok(())
    }

    fn flush(&mut self, set: &mut EncoderSet) -> Result<(), EncodeError> {
        match self.pending.take().filter(|clip| clip.span.end > self.until) {
            Some(clip) => self.add(clip, set),
            None => Ok(()),
        }
    }

    fn add(&mut self, mut clip: Clip, set: &mut EncoderSet) -> Result<(), EncodeError> {
        let until = self.until;
        clip.faces.retain(|face| face.time >= until);
        let new_seconds = clip.span.end.nanos_since(clip.span.start.max(until)) as f64 * 1e-9;
        self.until = clip.span.end;
        self.count(&clip);
        let embeddings = set.encode(&clip)?;
        for entry in set.entries() {
            let Some(embedding) = embeddings.get(&entry.name) else { continue };
            let weight =
                if entry.modality == Modality::Face && entry.kind == EncoderKind::Frame { entry.sees(&clip.faces).count() as f64 } else { new_seconds };
            let (sum, all) = self.sums.entry(entry.name.clone()).or_insert_with(|| (vec![0.0; entry.dim], 0.0));
            sum.iter_mut().zip(embedding).for_each(|(s, v)| *s += weight * f64::from(*v));
            *all += weight;
        }
        Ok(())
    }
}
