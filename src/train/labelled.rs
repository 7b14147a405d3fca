//! Labelled clips: rows of feature stores with their labels.

use std::collections::BTreeMap;

use anyhow::bail;
use sha2::{Digest, Sha256};

use crate::manifest::{Task, hex_sha256};
use crate::modality::{Modality, PerModality};
use crate::train::data::{Split, Target};
use crate::train::features::{Features, shuffled};
use crate::train::metrics::{Truth, weights};
use crate::train::refused::Refused;

/// Labelled clips: indices of feature rows, and the label or labels of each.
#[derive(Clone, Debug)]
pub struct LabelledClips {
    /// Indices of the clips' rows in [`Features`].
    pub rows: Vec<usize>,
    /// The label or labels of each clip, in the order of `rows`.
    pub truth: Truth,
}

impl LabelledClips {
    /// The labelled clips of `split` (`None`: of all splits), without augmented views. `labels`:
    /// the model's label names; `map`: the model's label for each store label that has another
    /// name. Clips whose label `map` maps to an empty name are left out.
    ///
    /// # Errors
    /// A store has a label that the model lacks, or clips may have several labels and `task` is
    /// single-label.
    pub fn find(
        features: &Features,
        split: impl Into<Option<Split>>,
        task: Task,
        labels: &[String],
        map: &BTreeMap<String, String>,
    ) -> anyhow::Result<LabelledClips> {
        let split = split.into();
        features.ensure_targets_are_alike()?;
        let ours: Vec<Option<usize>> =
            features
                .spec()
                .labels
                .iter()
                .map(|name| {
                    let name = map.get(name).unwrap_or(name);
                    if name.is_empty() {
                        return Ok(None);
                    }
                    let found = labels.iter().position(|l| l == name);
                    found.map(Some).ok_or_else(|| {
                    let ours = labels.join(", ");
                    let remedy = "name it in label_map of a recipe of finetune, with one of these, \
                                  or \"\" to leave it out";
                    Refused(format!("the stores' label {name} is none of {ours}, which are \
                                     answered with: {remedy}")).into()
                })
                })
                .collect::<anyhow::Result<_>>()?;
        let (mut rows, mut classes, mut holds) = (Vec::new(), Vec::new(), Vec::new());
        for row in clips_of(features, split) {
            match (features.target(row)?, task) {
                (None, _) => {}
                (Some(Target::Class(class)), Task::Single) => {
                    if let Some(class) = ours[class] {
                        rows.push(row);
                        classes.push(class);
                    }
                }
                (Some(target), Task::Multi) => {
                    let held: Vec<usize> = match target {
                        Target::Class(class) => vec![class],
                        Target::Values(values) => values
                            .iter()
                            .enumerate()
                            .filter(|(_, v)| **v > 0.0)
                            .map(|(i, _)| i)
                            .collect(),
                    };
                    let mut row_holds = vec![false; labels.len()];
                    held.iter()
                        .filter_map(|h| ours[*h])
                        .for_each(|h| row_holds[h] = true);
                    rows.push(row);
                    holds.extend(row_holds);
                }
                (Some(Target::Values(_)), Task::Single) => {
                    let remedy = "config/train/linear_multi.toml is a recipe for several";
                    bail!(Refused(format!(
                        "{} may have several labels, and one is answered with: {remedy}",
                        features.entry(row).id
                    )))
                }
            }
        }
        let truth = if task == Task::Single {
            Truth::Classes(classes)
        } else {
            Truth::Labels(holds)
        };
        Ok(LabelledClips { rows, truth })
    }

    /// Names of the store labels that `map` maps to an empty name, each with its number of clips in
    /// `split` (`None`: in all splits). These clips are not evaluated.
    pub fn unmapped_counts(
        features: &Features,
        split: Option<Split>,
        map: &BTreeMap<String, String>,
    ) -> anyhow::Result<Vec<(String, usize)>> {
        let names = &features.spec().labels;
        let mut counts = vec![0; names.len()];
        for row in clips_of(features, split) {
            if let Some(Target::Class(class)) = features.target(row)?
                && map.get(&names[class]).is_some_and(String::is_empty)
            {
                counts[class] += 1;
            }
        }
        Ok(names
            .iter()
            .cloned()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .collect())
    }

    /// Number of clips of each label as text, such as "happy 12, sad 9".
    pub fn counts(&self, labels: &[String]) -> String {
        let counts = weights::count_labels(labels.len(), &self.truth);
        labels
            .iter()
            .zip(counts)
            .map(|(label, count)| format!("{label} {count}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The clips at the positions `places` of this list. `labels`: number of labels.
    pub fn select(&self, places: &[usize], labels: usize) -> LabelledClips {
        let truth = match &self.truth {
            Truth::Classes(classes) => Truth::Classes(places.iter().map(|p| classes[*p]).collect()),
            Truth::Labels(holds) => Truth::Labels(
                places
                    .iter()
                    .flat_map(|p| holds[p * labels..][..labels].to_vec())
                    .collect(),
            ),
        };
        LabelledClips {
            rows: places.iter().map(|p| self.rows[*p]).collect(),
            truth,
        }
    }

    /// Selects a share (0..1) of the recordings of each class in a shuffled order, at least one of
    /// each class. Either all windows of a recording are taken or none. The class of a clip with
    /// several labels is its first label.
    pub fn take_share(
        &self,
        features: &Features,
        share: f64,
        labels: usize,
        seed: u64,
    ) -> LabelledClips {
        if share >= 1.0 {
            return self.clone();
        }
        let recordings: Vec<&[usize]> = self
            .rows
            .chunk_by(|a, b| features.recording(*a) == features.recording(*b))
            .collect();
        let firsts: Vec<usize> = recordings
            .iter()
            .scan(0, |first, rows| {
                *first += rows.len();
                Some(*first - rows.len())
            })
            .collect();
        let order = shuffled(&(0..recordings.len()).collect::<Vec<_>>(), seed, 0);
        let class = |recording: usize| match &self.truth {
            Truth::Classes(classes) => classes[firsts[recording]],
            Truth::Labels(holds) => holds[firsts[recording] * labels..][..labels]
                .iter()
                .position(|h| *h)
                .unwrap_or(labels),
        };
        let mut taken = Vec::new();
        for wanted in 0..=labels {
            let own: Vec<usize> = order
                .iter()
                .copied()
                .filter(|recording| class(*recording) == wanted)
                .collect();
            let count = ((own.len() as f64 * share).round() as usize).max(1);
            let places = own.iter().take(count).flat_map(|recording| {
                let first = firsts[*recording];
                first..first + recordings[*recording].len()
            });
            taken.extend(places);
        }
        taken.sort_unstable();
        self.select(&taken, labels)
    }

    /// The clips that have every modality marked in `shown`, which is in the order of
    /// [`Features::modalities`]. `labels`: number of labels.
    pub fn with_modalities(
        &self,
        features: &Features,
        shown: &[bool],
        labels: usize,
    ) -> LabelledClips {
        let places: Vec<usize> = (0..self.rows.len())
            .filter(|p| {
                shown
                    .iter()
                    .enumerate()
                    .all(|(m, s)| !s || features.has(self.rows[*p], m))
            })
            .collect();
        self.select(&places, labels)
    }
}

/// Indices of the rows of a split (`None`: of all splits) with at least one of the modalities,
/// without augmented views.
fn clips_of(features: &Features, split: Option<Split>) -> impl Iterator<Item = usize> {
    (0..features.count()).filter(move |row| {
        let entry = features.entry(*row);
        split.is_none_or(|split| entry.split == split)
            && entry.view == 0
            && (0..features.modalities().len()).any(|m| features.has(*row, m))
    })
}

/// SHA-256 of the ids and labels of clips, in hexadecimal. A run stores it and is not resumed on
/// other clips or labels.
pub fn sha256_of(features: &Features, sets: &[&LabelledClips]) -> String {
    let mut hasher = Sha256::new();
    for set in sets {
        for row in &set.rows {
            hasher.update(features.entry(*row).id.as_bytes());
            hasher.update([0]);
        }
        match &set.truth {
            Truth::Classes(classes) => classes
                .iter()
                .for_each(|class| hasher.update((*class as u64).to_le_bytes())),
            Truth::Labels(holds) => holds
                .iter()
                .for_each(|holds| hasher.update([u8::from(*holds)])),
        }
    }
    hex_sha256(&hasher.finalize())
}

/// The non-empty subsets of `modalities`, all modalities first. A subset is its name, and for each
/// of `modalities` whether the subset contains it.
pub fn subsets(modalities: &[Modality]) -> Vec<(String, Vec<bool>)> {
    let subset = |bits: u32| {
        let shown: Vec<bool> = (0..modalities.len())
            .map(|m| bits & (1 << m) != 0)
            .collect();
        let mut presence = PerModality::<bool>::default();
        modalities
            .iter()
            .zip(&shown)
            .for_each(|(m, shown)| *presence.get_mut(*m) = *shown);
        (presence.name(), shown)
    };
    (1..1 << modalities.len()).rev().map(subset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::store::{Entry, StoreSpec, WINDOW};
    use crate::train::synthetic::SyntheticSet;

    #[test]
    fn take_share_takes_all_windows_of_a_recording_or_none() {
        let set = SyntheticSet {
            classes: 2,
            train: 40,
            select: 0,
            test: 0,
            ..SyntheticSet::default()
        }
        .make();
        let labels = set.spec().labels.clone();
        // Ten windows of each of four recordings.
        let windows = |row: usize| {
            let mut values = vec![0.0; set.spec().dim()];
            set.read(row, &mut values).unwrap();
            let entry = Entry {
                id: format!("{}#{}", row / 10, 200 * (row % 10)),
                target: Some(Target::Class(row / 10 % 2)),
                ..set.entry(row).clone()
            };
            (entry, values)
        };
        let spec = StoreSpec {
            clips: WINDOW.into(),
            ..set.spec().clone()
        };
        let features = Features::in_memory(spec, (0..40).map(windows).collect());
        let map = BTreeMap::new();
        let all =
            LabelledClips::find(&features, Split::Train, Task::Single, &labels, &map).unwrap();
        let half = all.take_share(&features, 0.5, 2, 3);
        assert_eq!((all.rows.len(), half.rows.len()), (40, 20));
        assert_eq!(features.recordings(&half.rows), 2);
        assert_eq!(half.counts(&labels), "class0 10, class1 10");
    }

    #[test]
    fn the_hash_of_clips_depends_on_their_labels() {
        let features = SyntheticSet {
            train: 16,
            select: 8,
            test: 8,
            ..SyntheticSet::default()
        }
        .make();
        let rows = vec![0, 1, 2];
        let of = |classes: &[usize]| {
            sha256_of(
                &features,
                &[&LabelledClips {
                    rows: rows.clone(),
                    truth: Truth::Classes(classes.to_vec()),
                }],
            )
        };
        assert_eq!(of(&[0, 1, 1]), of(&[0, 1, 1]));
        assert_ne!(of(&[0, 1, 1]), of(&[0, 1, 2]));
        assert_ne!(sha256_of(&features, &[]), of(&[0, 1, 1]));
    }
}
