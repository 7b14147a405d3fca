//! Representations projected to two dimensions, coloured by label.

use bhtsne::{Neighbor, tSNE};
use nalgebra::DMatrix;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::train::metrics::{Predictions, Truth};

/// Largest number of points. More rows are thinned out evenly, to keep the page small.
const POINTS_AT_MOST: usize = 1500;
/// Number of principal components that are computed. Two are shown; the others improve convergence,
/// and t-SNE starts from all of them.
const DIRECTIONS: usize = 32;
/// Perplexity of t-SNE, stated in the legend.
const PERPLEXITY: f32 = 30.0;

/// Rows projected to a plane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Projection {
    /// Name of the projected vectors: `face representation`, `all modalities`.
    pub title: String,
    /// Name of the method, for the legend.
    pub method: String,
    /// Names of the categories, which [`ProjectedPoint::category`] indexes.
    pub categories: Vec<String>,
    pub points: Vec<ProjectedPoint>,
    /// Number of rows before thinning.
    pub rows: usize,
}

/// One projected row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProjectedPoint {
    pub id: String,
    pub x: f64,
    pub y: f64,
    /// Index of the category in [`Projection::categories`].
    pub category: usize,
}

/// The rows to project.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub title: &'a str,
    /// Vectors `[ids, dim]`, row by row.
    pub values: &'a [f32],
    pub dim: usize,
    pub ids: &'a [String],
    pub categories: &'a [String],
    /// Index of each row's category; see [`categories`].
    pub category: &'a [usize],
}

/// The names of the categories, and the index of each item's category: its class; with several
/// labels, its only label, `several` or `none`.
pub fn categories(predictions: &Predictions) -> (Vec<String>, Vec<usize>) {
    let labels = predictions.labels().len();
    match predictions.truth() {
        Truth::Classes(classes) => (predictions.labels().to_vec(), classes.clone()),
        Truth::Labels(holds) => {
            let of = |row: &[bool]| match row.iter().filter(|h| **h).count() {
                0 => labels + 1,
                1 => row.iter().position(|h| *h).expect("one holds"),
                _ => labels,
            };
            let names = predictions
                .labels()
                .iter()
                .cloned()
                .chain(["several".to_owned(), "none".to_owned()]);
            (names.collect(), holds.chunks(labels).map(of).collect())
        }
    }
}

impl Projection {
    /// Projection onto the first two principal components. The same rows give the same picture.
    pub fn pca(rows: &Rows<'_>) -> Projection {
        let kept = thinned(rows.ids.len());
        let components = Components::find(rows, &kept);
        let [first, second] =
            [0, 1].map(|i| 100.0 * components.shares.get(i).copied().unwrap_or(0.0));
        let method = format!(
            "Principal components: horizontal {first:.1} %, vertical {second:.1} % of the variance."
        );
        let at = |point: usize, axis: usize| {
            components
                .coordinates
                .get((point, axis))
                .copied()
                .unwrap_or(0.0)
                .into()
        };
        rows.picture(&kept, method, |point| [at(point, 0), at(point, 1)])
    }

    /// t-SNE (Barnes-Hut, perplexity 30) of the first 32 principal components, initialised with the
    /// first two, so the same rows give the same picture. Distances between clusters have no
    /// meaning. `None` for fewer than 100 rows.
    pub fn tsne(rows: &Rows<'_>) -> Option<Projection> {
        let kept = thinned(rows.ids.len());
        let components = Components::find(rows, &kept);
        let (count, width) = components.coordinates.shape();
        if count < 100 || width < 2 {
            return None;
        }
        let samples: Vec<Vec<f32>> = components
            .coordinates
            .row_iter()
            .map(|row| row.iter().copied().collect())
            .collect();
        // t-SNE needs small initial values.
        let spread = (0..count)
            .map(|i| samples[i][0].powi(2))
            .sum::<f32>()
            .sqrt()
            / (count as f32).sqrt();
        let begin: Vec<f32> = samples
            .iter()
            .flat_map(|s| [s[0], s[1]])
            .map(|v| v * 1e-4 / spread.max(f32::MIN_POSITIVE))
            .collect();
        let neighbours: Vec<Vec<Neighbor<f32>>> =
            (0..count).map(|i| nearest(&samples, i)).collect();
        // A single thread: the crate's sums depend on the number of threads.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(|_| "tsne".into())
            .build()
            .ok()?;
        let plane = pool.install(|| {
            let mut tsne = tSNE::<f32, Vec<f32>, 2>::new(&samples);
            tsne.perplexity(PERPLEXITY)
                .epochs(500)
                .initial_embedding(begin)
                .barnes_hut_with_neighbors(0.5, &neighbours)
                .embedding()
        });
        if plane.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let method = "t-SNE, perplexity 30, initialised with the principal components. Distances \
                      between clusters have no meaning."
            .to_owned();
        Some(rows.picture(&kept, method, |point| {
            [plane[2 * point].into(), plane[2 * point + 1].into()]
        }))
    }
}

impl Rows<'_> {
    fn picture(
        &self,
        kept: &[usize],
        method: String,
        at: impl Fn(usize) -> [f64; 2],
    ) -> Projection {
        let points = kept.iter().enumerate().map(|(point, row)| {
            let [x, y] = at(point);
            ProjectedPoint {
                id: self.ids[*row].clone(),
                x,
                y,
                category: self.category[*row],
            }
        });
        Projection {
            title: self.title.to_owned(),
            method,
            categories: self.categories.to_vec(),
            points: points.collect(),
            rows: self.ids.len(),
        }
    }
}

/// Indices of the kept rows: all, or evenly spaced ones.
fn thinned(rows: usize) -> Vec<usize> {
    let kept = rows.min(POINTS_AT_MOST);
    (0..kept).map(|i| i * rows / kept).collect()
}

/// The nearest other samples, three times the perplexity of them. The crate's own search is
/// randomised, and pages would differ.
fn nearest(samples: &[Vec<f32>], of: usize) -> Vec<Neighbor<f32>> {
    let distance = |other: usize| {
        samples[of]
            .iter()
            .zip(&samples[other])
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f32>()
            .sqrt()
    };
    let others = (0..samples.len()).filter(|other| *other != of);
    let mut found: Vec<_> = others
        .map(|index| Neighbor {
            index,
            distance: distance(index),
        })
        .collect();
    found.sort_by(|a, b| {
        a.distance
            .total_cmp(&b.distance)
            .then(a.index.cmp(&b.index))
    });
    found.truncate(3 * PERPLEXITY as usize);
    found
}

struct Components {
    /// `[rows, directions]`, ordered by decreasing variance.
    coordinates: DMatrix<f32>,
    /// Share of the variance of each direction.
    shares: Vec<f64>,
}

impl Components {
    /// By subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4): the covariance of
    /// 12,288 dimensions is never formed.
    fn find(rows: &Rows<'_>, kept: &[usize]) -> Components {
        assert_eq!(rows.values.len(), rows.ids.len() * rows.dim);
        assert_eq!(rows.category.len(), rows.ids.len());
        // A column per kept row.
        let mut centred = DMatrix::from_fn(rows.dim, kept.len(), |i, point| {
            rows.values[kept[point] * rows.dim + i]
        });
        let mean = centred.column_mean();
        centred
            .column_iter_mut()
            .for_each(|mut column| column -= &mean);
        let width = DIRECTIONS.min(rows.dim).min(kept.len());
        if width == 0 {
            return Components {
                coordinates: DMatrix::zeros(kept.len(), 0),
                shares: Vec::new(),
            };
        }
        let mut generator = StdRng::seed_from_u64(127);
        let mut basis = DMatrix::from_fn(kept.len(), width, |_, _| {
            generator.random_range(-1.0f32..1.0)
        });
        for _ in 0..12 {
            let directions = (&centred * basis).qr().q();
            basis = centred.tr_mul(&directions).qr().q();
        }
        let directions = (&centred * basis).qr().q();
        let coordinates = centred.tr_mul(&directions);
        let inner = coordinates.tr_mul(&coordinates).symmetric_eigen();
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|a, b| inner.eigenvalues[*b].total_cmp(&inner.eigenvalues[*a]));
        let turned = DMatrix::from_fn(width, width, |i, j| inner.eigenvectors[(i, order[j])]);
        let mut coordinates = coordinates * turned;
        // A direction has two ends: the furthest point goes to the positive side.
        for mut column in coordinates.column_iter_mut() {
            if column
                .iter()
                .copied()
                .fold(0.0f32, |far, v| if v.abs() > far.abs() { v } else { far })
                < 0.0
            {
                column.neg_mut();
            }
        }
        let total: f64 = centred.iter().map(|v| f64::from(*v).powi(2)).sum();
        let shares = order
            .iter()
            .map(|i| f64::from(inner.eigenvalues[*i]).max(0.0) / total.max(f64::MIN_POSITIVE))
            .collect();
        Components {
            coordinates,
            shares,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clusters in 40 dimensions along two known directions, and noise.
    fn clusters(count: usize) -> (Vec<f32>, Vec<String>, Vec<usize>) {
        let mut generator = StdRng::seed_from_u64(5);
        let category: Vec<usize> = (0..count).map(|i| i % 3).collect();
        let centre = [[9.0f32, 0.0], [-5.0, 3.0], [-4.0, -3.0]];
        let values = category.iter().flat_map(|c| {
            let noise: Vec<f32> = (0..40)
                .map(|_| generator.random_range(-0.5f32..0.5))
                .collect();
            (0..40)
                .map(move |d| {
                    noise[d]
                        + if d == 7 {
                            centre[*c][0]
                        } else if d == 21 {
                            centre[*c][1]
                        } else {
                            2.0
                        }
                })
                .collect::<Vec<f32>>()
        });
        (
            values.collect(),
            (0..count).map(|i| format!("clip {i}")).collect(),
            category,
        )
    }

    fn separation(projection: &Projection) -> f64 {
        let mean = |c: usize| {
            let of: Vec<_> = projection
                .points
                .iter()
                .filter(|p| p.category == c)
                .collect();
            [
                of.iter().map(|p| p.x).sum::<f64>() / of.len() as f64,
                of.iter().map(|p| p.y).sum::<f64>() / of.len() as f64,
            ]
        };
        let centres = [mean(0), mean(1), mean(2)];
        let distance = |p: &ProjectedPoint, c: [f64; 2]| (p.x - c[0]).hypot(p.y - c[1]);
        let right = projection.points.iter().filter(|p| {
            (0..3).all(|c| distance(p, centres[p.category]) <= distance(p, centres[c]))
        });
        right.count() as f64 / projection.points.len() as f64
    }

    #[test]
    fn the_two_widest_directions_are_found() {
        let (values, ids, category) = clusters(300);
        let names = ["a", "b", "c"].map(String::from);
        let rows = Rows {
            title: "face",
            values: &values,
            dim: 40,
            ids: &ids,
            categories: &names,
            category: &category,
        };
        let pca = Projection::pca(&rows);
        assert_eq!(separation(&pca), 1.0);
        // Direction 7 has a variance of (81 + 25 + 16) / 3 = 40.7 and a bit, and the picture keeps
        // the lengths.
        let variance = pca.points.iter().map(|p| p.x * p.x).sum::<f64>() / 300.0;
        assert!((variance - 40.75).abs() < 0.5, "{variance}");
        assert!(
            pca.points.iter().all(|p| p.category != 0 || p.x > 7.0),
            "the furthest point is on the positive side"
        );
        assert_eq!(pca, Projection::pca(&rows));
    }

    #[test]
    fn tsne_keeps_clusters_and_repeats_itself() {
        let (values, ids, category) = clusters(300);
        let names = ["a", "b", "c"].map(String::from);
        let rows = Rows {
            title: "face",
            values: &values,
            dim: 40,
            ids: &ids,
            categories: &names,
            category: &category,
        };
        let tsne = Projection::tsne(&rows).unwrap();
        assert!(separation(&tsne) > 0.97, "{}", separation(&tsne));
        assert!(
            tsne == Projection::tsne(&rows).unwrap(),
            "the same rows gave another picture"
        );
        let few = Rows {
            values: &values[..400],
            ids: &ids[..10],
            category: &category[..10],
            ..rows
        };
        assert_eq!(Projection::tsne(&few), None);
    }

    #[test]
    fn few_rows_and_many_are_shown() {
        let names = ["a".to_owned()];
        let rows = |values, ids, category| Rows {
            title: "",
            values,
            dim: 2,
            ids,
            categories: &names,
            category,
        };
        assert!(Projection::pca(&rows(&[], &[], &[])).points.is_empty());
        let one = Projection::pca(&rows(&[3.0, 4.0], &["x".to_owned()], &[0]));
        assert!(one.points.len() == 1 && one.points[0].x.abs() < 1e-6);
        let kept = thinned(4000);
        assert_eq!((kept.len(), kept[0], kept[1499]), (1500, 0, 3997));
    }

    #[test]
    fn several_labels_have_two_more_colours() {
        let labels = ["a", "b"].map(String::from).to_vec();
        let truth = Truth::Labels(vec![true, false, true, true, false, false]);
        let predictions = Predictions::new(labels, vec![0.5; 6], None, truth).unwrap();
        assert_eq!(
            categories(&predictions),
            (
                ["a", "b", "several", "none"].map(String::from).to_vec(),
                vec![0, 2, 3]
            )
        );
    }
}
