//! Feature rows, the input of training, from stores or from memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::modality::Modality;
use crate::recognize::Embeddings;
use crate::train::data::Target;
use crate::train::heads::ModalityShape;
use crate::train::objective::FeatureBatch;
use crate::train::refused::Refused;
use crate::train::store::{Entry, Store, StoreSpec};

/// Number of neighbouring rows that are shuffled together, so that rows close to each other on disk
/// are read at about the same time.
const SHUFFLED_TOGETHER: usize = 16_384;

/// The rows of compatible stores, one store after another, or rows in memory.
#[derive(Clone, Debug)]
pub struct Features {
    rows: Rows,
    spec: StoreSpec,
    modalities: Vec<ModalityShape>,
    /// For each modality and each of its encoders: index of the encoder in the specification, and
    /// start and length of its part of a row.
    pieces: Vec<Vec<(usize, usize, usize)>>,
}

/// The origin of the rows.
#[derive(Clone, Debug)]
enum Rows {
    Stores(Arc<Vec<Part>>),
    Memory(Arc<Vec<(Entry, Vec<f32>)>>),
}

/// A store, and for each of its labels the index in the joined list of labels.
#[derive(Debug)]
struct Part {
    store: Store,
    labels: Vec<usize>,
}

impl Features {
    /// Opens the stores in `paths` as one. The label list is the union of their lists, in the order
    /// of first appearance.
    ///
    /// # Errors
    /// No store is given, one is given twice or cannot be read, or two differ in encoders or clips.
    pub fn open(paths: &[std::path::PathBuf]) -> anyhow::Result<Features> {
        if let Some((_, twice)) = paths
            .iter()
            .enumerate()
            .find(|(i, path)| paths[..*i].contains(path))
        {
            bail!(Refused(format!(
                "the store {} is named twice",
                twice.display()
            )));
        }
        let stores = paths
            .iter()
            .map(|p| Store::open(p).with_context(|| format!("store {}", p.display())))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut spec = stores
            .first()
            .context("no store is named: add --store DIR")?
            .spec()
            .clone();
        for store in &stores {
            ensure!(
                store.spec().fingerprint == spec.fingerprint
                    && store.spec().encoders == spec.encoders,
                "{} was made by other encoders ({}) than {} ({}): rows of the two can not be mixed",
                store.path().display(),
                store.spec().fingerprint,
                paths[0].display(),
                spec.fingerprint
            );
            ensure!(
                store.spec().clips == spec.clips,
                "a row of {} is another thing ({}) than one of {} ({}): extract both with the same \
                 --clips and version",
                store.path().display(),
                store.spec().clips,
                paths[0].display(),
                spec.clips
            );
        }
        let labelled: Vec<&StoreSpec> = stores
            .iter()
            .map(Store::spec)
            .filter(|spec| !spec.labels.is_empty())
            .collect();
        if !labelled.is_empty() {
            spec.labels = distinct(labelled.iter().flat_map(|spec| &spec.labels));
            spec.dataset = distinct(labelled.iter().map(|spec| &spec.dataset)).join(" + ");
        }
        let place = |name: &String| {
            spec.labels
                .iter()
                .position(|label| label == name)
                .expect("the list has all of them")
        };
        let parts = stores
            .into_iter()
            .map(|store| Part {
                labels: store.spec().labels.iter().map(place).collect(),
                store,
            })
            .collect();
        Ok(Features::new(Rows::Stores(Arc::new(parts)), spec))
    }

    /// Features of rows in memory: metadata and values in the layout of `spec`.
    pub fn in_memory(spec: StoreSpec, rows: Vec<(Entry, Vec<f32>)>) -> Features {
        Features::new(Rows::Memory(Arc::new(rows)), spec)
    }

    /// Groups the encoders of `spec` by modality.
    fn new(rows: Rows, spec: StoreSpec) -> Features {
        let (mut modalities, mut pieces) = (Vec::new(), Vec::new());
        for modality in Modality::ALL {
            let (mut start, mut own) = (0, Vec::new());
            for (place, encoder) in spec.encoders.iter().enumerate() {
                if encoder.modality == modality {
                    own.push((place, start, encoder.dim));
                }
                start += encoder.dim;
            }
            if !own.is_empty() {
                modalities.push(ModalityShape {
                    modality,
                    dim: own.iter().map(|(_, _, dim)| dim).sum(),
                });
                pieces.push(own);
            }
        }
        Features {
            rows,
            spec,
            modalities,
            pieces,
        }
    }

    /// Restricts the rows to the modalities `wanted`, in this order.
    ///
    /// # Errors
    /// The stores have no encoder of a wanted modality.
    pub fn with_modalities(mut self, wanted: &[Modality]) -> anyhow::Result<Features> {
        let place = |wanted: &Modality| {
            let found = self.modalities.iter().position(|m| m.modality == *wanted);
            found.with_context(|| {
                format!(
                    "the store has no {}: its encoders are {:?}",
                    wanted.name(),
                    self.spec.encoders
                )
            })
        };
        let places = wanted
            .iter()
            .map(place)
            .collect::<anyhow::Result<Vec<_>>>()?;
        self.modalities = places.iter().map(|p| self.modalities[*p]).collect();
        self.pieces = places.iter().map(|p| self.pieces[*p].clone()).collect();
        Ok(self)
    }

    /// The specification of the first store, with the labels and data set names of all labelled
    /// stores.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }
    /// The modality of each input of training, and the length of its embedding.
    pub fn modalities(&self) -> &[ModalityShape] {
        &self.modalities
    }
    /// Number of items of which `extract` made no row, by reason.
    pub fn skipped(&self) -> std::collections::BTreeMap<String, usize> {
        let mut all = std::collections::BTreeMap::new();
        if let Rows::Stores(parts) = &self.rows {
            for (reason, count) in parts.iter().flat_map(|part| part.store.skipped()) {
                *all.entry(reason.clone()).or_default() += count;
            }
        }
        all
    }
    /// Number of rows.
    pub fn count(&self) -> usize {
        match &self.rows {
            Rows::Stores(parts) => parts.iter().map(|part| part.store.entries().len()).sum(),
            Rows::Memory(rows) => rows.len(),
        }
    }

    /// The store of a row, and the row's index in it.
    fn locate<'a>(&self, parts: &'a [Part], mut row: usize) -> (&'a Part, usize) {
        for part in parts {
            let count = part.store.entries().len();
            if row < count {
                return (part, row);
            }
            row -= count;
        }
        panic!("row {row} is beyond the stores");
    }

    /// Metadata of a row. Its target indexes the labels of the row's own store;
    /// [`Features::target`] indexes the joined labels.
    pub fn entry(&self, row: usize) -> &Entry {
        match &self.rows {
            Rows::Stores(parts) => {
                let (part, row) = self.locate(parts, row);
                &part.store.entries()[row]
            }
            Rows::Memory(rows) => &rows[row].0,
        }
    }

    /// The name of a row's recording. In a store of windows several rows have the same one, and are
    /// not independent. In other stores it is the row's id.
    pub fn recording(&self, row: usize) -> &str {
        let entry = self.entry(row);
        if self.spec.has_windows() {
            entry.item()
        } else {
            &entry.id
        }
    }

    /// Number of different recordings that the rows with these indices come from.
    pub fn recordings(&self, rows: &[usize]) -> usize {
        let all: BTreeSet<&str> = rows.iter().map(|row| self.recording(*row)).collect();
        all.len()
    }

    /// The target of a row, which indexes the joined labels of all stores ([`Features::spec`]).
    /// `None`: the row has no label.
    ///
    /// # Errors
    /// The label index in the row is not in its store's list.
    pub fn target(&self, row: usize) -> anyhow::Result<Option<Target>> {
        let Rows::Stores(parts) = &self.rows else {
            return Ok(self.entry(row).target.clone());
        };
        let (part, row) = self.locate(parts, row);
        let entry = &part.store.entries()[row];
        let place = |own: usize| {
            let (path, count) = (part.store.path().display(), part.labels.len());
            part.labels.get(own).copied().with_context(|| {
                format!(
                    "{} in {path} has label {own} of {count}: extract it again",
                    entry.id
                )
            })
        };
        Ok(match &entry.target {
            None => None,
            Some(Target::Class(class)) => Some(Target::Class(place(*class)?)),
            Some(Target::Values(values)) => {
                let mut all = vec![0.0; self.spec.labels.len()];
                for (own, value) in values.iter().enumerate() {
                    all[place(own)?] = *value;
                }
                Some(Target::Values(all))
            }
        })
    }

    /// Checks that all stores have targets of one kind.
    ///
    /// # Errors
    /// The clips of one store have one label each, and those of another store have several.
    pub fn ensure_targets_are_alike(&self) -> anyhow::Result<()> {
        let Rows::Stores(parts) = &self.rows else {
            return Ok(());
        };
        let with = |wanted: fn(&Target) -> bool| {
            parts.iter().map(|part| &part.store).find(|s| {
                s.entries()
                    .iter()
                    .filter_map(|e| e.target.as_ref())
                    .any(wanted)
            })
        };
        if let (Some(one), Some(several)) = (
            with(|t| matches!(t, Target::Class(_))),
            with(|t| matches!(t, Target::Values(_))),
        ) {
            let (one, several) = (one.path().display(), several.path().display());
            bail!(Refused(format!(
                "clips of {one} have one label each, those of {several} several: the two can not \
                 be mixed"
            )));
        }
        Ok(())
    }

    /// Whether the row has the embeddings of the modality with this index in
    /// [`Features::modalities`].
    pub fn has(&self, row: usize, modality: usize) -> bool {
        let present = &self.entry(row).present;
        self.pieces[modality]
            .iter()
            .all(|(encoder, _, _)| present[*encoder])
    }

    /// Reads the values of a row into `out`: the embeddings of all encoders, in the order of
    /// [`Features::spec`].
    ///
    /// # Errors
    /// The store cannot be read, or a value is not finite.
    pub fn read(&self, row: usize, out: &mut [f32]) -> anyhow::Result<()> {
        match &self.rows {
            Rows::Stores(parts) => {
                let (part, row) = self.locate(parts, row);
                part.store.read(row, out)?;
            }
            Rows::Memory(rows) => out.copy_from_slice(&rows[row].1),
        }
        out.iter()
            .position(|value| !value.is_finite())
            .map_or(Ok(()), |at| Err(self.not_finite_error(row, at)))
    }

    /// The error for a value that is not finite; `at`: its index in the row.
    fn not_finite_error(&self, row: usize, at: usize) -> anyhow::Error {
        let mut end = 0;
        let within = self.spec.encoders.iter().find(|encoder| {
            end += encoder.dim;
            at < end
        });
        let encoder = within.map_or("", |encoder| encoder.name.as_str());
        let store = match &self.rows {
            Rows::Stores(parts) => self.locate(parts, row).0.store.path().display().to_string(),
            Rows::Memory(_) => self.spec.dataset.clone(),
        };
        anyhow!(
            "in {store} the row of {} holds, of the encoder {encoder}, a value that is no number; \
             extract it again",
            self.entry(row).id
        )
    }

    /// The embeddings of a row by encoder name. Modalities that the row lacks, or that are not
    /// marked in `shown` (in the order of [`Features::modalities`]), are omitted.
    pub fn embeddings(&self, row: usize, shown: &[bool]) -> anyhow::Result<Embeddings> {
        let mut values = vec![0.0; self.spec.dim()];
        self.read(row, &mut values)?;
        let mut embeddings = Embeddings::new();
        for (_, pieces) in self
            .pieces
            .iter()
            .enumerate()
            .filter(|(modality, _)| shown[*modality] && self.has(row, *modality))
        {
            embeddings.extend(pieces.iter().map(|(encoder, start, dim)| {
                (
                    self.spec.encoders[*encoder].name.clone(),
                    values[*start..][..*dim].to_vec(),
                )
            }));
        }
        Ok(embeddings)
    }

    /// The rows with these indices as a batch. For each modality the batch has only the rows with
    /// an embedding of it.
    pub fn batch(&self, rows: &[usize]) -> anyhow::Result<FeatureBatch> {
        let mut batch = FeatureBatch {
            count: rows.len(),
            modalities: vec![(Vec::new(), Vec::new()); self.modalities.len()],
        };
        let mut values = vec![0.0; self.spec.dim()];
        for (place, row) in rows.iter().enumerate() {
            self.read(*row, &mut values)?;
            for (modality, pieces) in self.pieces.iter().enumerate() {
                if self.has(*row, modality) {
                    let (present, out) = &mut batch.modalities[modality];
                    present.push(place);
                    pieces.iter().for_each(|(_, start, dim)| {
                        out.extend_from_slice(&values[*start..][..*dim])
                    });
                }
            }
        }
        Ok(batch)
    }

    /// Mean and standard deviation of each embedding value, a pair of vectors for each modality.
    /// They are computed over at most `most` evenly spread indices of `rows`; a modality counts the
    /// rows that have it.
    pub fn statistics(
        &self,
        rows: &[usize],
        most: usize,
    ) -> anyhow::Result<Vec<(Vec<f32>, Vec<f32>)>> {
        let step = rows.len().div_ceil(most).max(1);
        let mut sums: Vec<(f64, Vec<[f64; 2]>)> = self
            .modalities
            .iter()
            .map(|m| (0.0, vec![[0.0; 2]; m.dim]))
            .collect();
        for rows in rows
            .iter()
            .step_by(step)
            .copied()
            .collect::<Vec<_>>()
            .chunks(256)
        {
            for ((count, sums), (present, values)) in
                sums.iter_mut().zip(self.batch(rows)?.modalities)
            {
                *count += present.len() as f64;
                let width = sums.len();
                values.iter().enumerate().for_each(|(i, v)| {
                    sums[i % width][0] += f64::from(*v);
                    sums[i % width][1] += f64::from(*v).powi(2);
                });
            }
        }
        let finish = |(count, sums): (f64, Vec<[f64; 2]>)| {
            let count = count.max(1.0);
            let mean = |[sum, _]: &[f64; 2]| sum / count;
            let deviation =
                |pair: &[f64; 2]| (pair[1] / count - mean(pair).powi(2)).max(0.0).sqrt();
            // A constant value has deviation 1, so that standardisation does not scale it.
            let deviation = |pair: &[f64; 2]| {
                if deviation(pair) < 1e-6 {
                    1.0
                } else {
                    deviation(pair) as f32
                }
            };
            (
                sums.iter().map(|pair| mean(pair) as f32).collect(),
                sums.iter().map(deviation).collect(),
            )
        };
        Ok(sums.into_iter().map(finish).collect())
    }
}

/// The different names, each once, in the order of first appearance.
pub fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// The indices `rows` in the order of one epoch: chunks of 16,384 neighbours in random order, each
/// chunk shuffled. The order is a function of `seed` and `epoch` alone.
pub fn shuffled(rows: &[usize], seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = StdRng::seed_from_u64(seed ^ ((epoch as u64 + 1) << 24));
    let mut windows: Vec<Vec<usize>> = rows
        .chunks(SHUFFLED_TOGETHER)
        .map(<[usize]>::to_vec)
        .collect();
    windows.shuffle(&mut rng);
    windows
        .iter_mut()
        .for_each(|window| window.shuffle(&mut rng));
    windows.concat()
}

#[cfg(test)]
mod tests;
