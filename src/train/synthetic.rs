//! A synthetic multi-modal data set with known classes, for tests and benchmarks of self-supervised
//! training.
//!
//! Each clip has a class, and its modalities have a common part, `centre(class) + spread`. Each
//! modality adds a nuisance of its own, which is larger than the common part and independent of the
//! other modalities. A random matrix mixes the two parts, and a nonlinearity follows. Within one
//! modality, the nuisance therefore dominates the variance; the class is visible only across
//! modalities.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::modality::Modality;
use crate::train::data::{Split, Target};
use crate::train::features::Features;
use crate::train::store::{Entry, SCHEMA, StoreSpec, StoredEncoder};

/// Settings of the synthetic data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SyntheticSet {
    /// Number of classes.
    pub classes: usize,
    /// Number of training items.
    pub train: usize,
    /// Number of selection items.
    pub select: usize,
    /// Number of test items.
    pub test: usize,
    /// Dimension of the common part of the modalities.
    pub shared: usize,
    /// Dimension of each modality's nuisance: the part that depends neither on the class nor on the
    /// other modalities.
    pub nuisance: usize,
    /// Standard deviation of the nuisance; that of the class centres is 1.
    pub nuisance_scale: f32,
    /// Standard deviation of the common part within a class.
    pub spread: f32,
    /// Seed of all random values.
    pub seed: u64,
}

impl Default for SyntheticSet {
    fn default() -> Self {
        SyntheticSet {
            classes: 8,
            train: 4000,
            select: 400,
            test: 2000,
            shared: 8,
            nuisance: 24,
            nuisance_scale: 2.0,
            spread: 0.5,
            seed: 1,
        }
    }
}

/// The modalities of the data set, and the lengths of their embeddings.
const DIMS: [(Modality, usize); 3] = [
    (Modality::Face, 96),
    (Modality::Voice, 64),
    (Modality::Text, 48),
];

impl SyntheticSet {
    /// Generates the data set as rows in memory.
    pub fn make(&self) -> Features {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let centres: Vec<Vec<f32>> = (0..self.classes)
            .map(|_| normals(self.shared, 1.0, &mut rng))
            .collect();
        let mix = |from: usize, to: usize, rng: &mut StdRng| {
            normals(from * to, 1.0 / (from as f32).sqrt(), rng)
        };
        let mixes: Vec<(Vec<f32>, Vec<f32>)> = DIMS
            .iter()
            .map(|(_, dim)| {
                (
                    mix(self.shared, *dim, &mut rng),
                    mix(self.nuisance, *dim, &mut rng),
                )
            })
            .collect();
        let mut rows = Vec::new();
        for (split, count) in [
            (Split::Train, self.train),
            (Split::Val, self.select),
            (Split::Test, self.test),
        ] {
            for i in 0..count {
                let class = i % self.classes;
                let shared: Vec<f32> = centres[class]
                    .iter()
                    .zip(normals(self.shared, self.spread, &mut rng))
                    .map(|(c, s)| c + s)
                    .collect();
                let mut row = Vec::new();
                for ((_, dim), (of_shared, of_nuisance)) in DIMS.iter().zip(&mixes) {
                    let nuisance = normals(self.nuisance, self.nuisance_scale, &mut rng);
                    let sum = |weights: &[f32], values: &[f32], out: usize| {
                        values
                            .iter()
                            .enumerate()
                            .map(|(k, v)| v * weights[k * dim + out])
                            .sum::<f32>()
                    };
                    row.extend((0..*dim).map(|out| {
                        (0.5 * (sum(of_shared, &shared, out) + sum(of_nuisance, &nuisance, out)))
                            .tanh()
                    }));
                }
                let entry = Entry {
                    id: format!("{split:?}{i:05}"),
                    split,
                    group: String::new(),
                    target: Some(Target::Class(class)),
                    present: vec![true; 3],
                    seconds: 1.0,
                    text: None,
                    view: 0,
                };
                rows.push((entry, row));
            }
        }
        let encoders = DIMS.iter().map(|(modality, dim)| StoredEncoder {
            name: modality.name().into(),
            modality: *modality,
            dim: *dim,
        });
        let spec = StoreSpec {
            schema: SCHEMA,
            fingerprint: "synthetic".into(),
            dataset: "synthetic".into(),
            labels: (0..self.classes).map(|c| format!("class{c}")).collect(),
            clips: "recording".into(),
            window: None,
            views: 1,
            encoders: encoders.collect(),
        };
        Features::in_memory(spec, rows)
    }
}

/// `count` normally distributed values with mean 0 and standard deviation `deviation` (Box-Muller).
pub fn normals(count: usize, deviation: f32, rng: &mut StdRng) -> Vec<f32> {
    let mut one = || {
        let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32 * deviation
    };
    (0..count).map(|_| one()).collect()
}
