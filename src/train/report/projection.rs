//! Scatter plots of embeddings or representations: projection to two dimensions by PCA or t-SNE.

use bhtsne::{Neighbor, tSNE};
use nalgebra::DMatrix;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::train::metrics::{Predictions, Truth};

/// Largest number of points in a plot. Of more rows, evenly spaced ones are shown, to keep the page
/// small.
const POINTS_AT_MOST: usize = 1500;
/// Number of principal components that are computed. PCA shows two of them; t-SNE uses all of them
/// as its input. Components beyond the second also improve the convergence of the first two.
const DIRECTIONS: usize = 32;
/// Perplexity of t-SNE: about the number of neighbours of each point. The legend states it.
const PERPLEXITY: f32 = 30.0;

/// Vectors projected to a plane, for a scatter plot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Projection {
    /// Name of the projected vectors, for example `face representation`.
    pub title: String,
    /// Description of the method, for the legend.
    pub method: String,
    /// Names of the categories; [`ProjectedPoint::category`] is an index of this list.
    pub categories: Vec<String>,
    /// The projected vectors, at most 1,500.
    pub points: Vec<ProjectedPoint>,
    /// Number of vectors from which `points` were chosen.
    pub rows: usize,
}

/// A projected vector. Its coordinates have no unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProjectedPoint {
    /// Id of the item that the vector belongs to.
    pub id: String,
    pub x: f64,
    pub y: f64,
    /// Index of the category in [`Projection::categories`].
    pub category: usize,
}

/// The vectors that a [`Projection`] projects, one row per item.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Name of the vectors, for example `face representation`.
    pub title: &'a str,
    /// The vectors, `[rows, dim]` row by row.
    pub values: &'a [f32],
    /// Length of a vector.
    pub dim: usize,
    /// Id of each row's item.
    pub ids: &'a [String],
    /// Names of the categories, by which points are coloured.
    pub categories: &'a [String],
    /// The category of each row, as an index of `categories`; see [`categories()`].
    pub category: &'a [usize],
}

/// Categories of items by their true labels: the names of the categories, and for each item the
/// index of its category. The category is the item's only true label. Items with several true
/// labels have the category `several`, items without any `none`.
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
    /// Projects the rows onto their first two principal components. Equal rows give equal results.
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
        rows.projection(&kept, method, |point| [at(point, 0), at(point, 1)])
    }

    /// Projects the first 32 principal components of the rows by t-SNE (Barnes-Hut, perplexity 30).
    /// The first two components are the initial positions, so equal rows give equal results.
    /// Distances between clusters have no meaning. `None`: there are fewer than 100 rows, or t-SNE
    /// failed.
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
        // One thread, because the sums of the crate depend on the number of threads.
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
        Some(rows.projection(&kept, method, |point| {
            [plane[2 * point].into(), plane[2 * point + 1].into()]
        }))
    }
}

impl Rows<'_> {
    /// The projection of the rows with the indices `kept`. `at`: coordinates by index in `kept`.
    fn projection(
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

/// Indices of the rows that are shown: all of them, or evenly spaced ones if there are too many.
fn thinned(rows: usize) -> Vec<usize> {
    let kept = rows.min(POINTS_AT_MOST);
    (0..kept).map(|i| i * rows / kept).collect()
}

/// The samples nearest to the one with index `of`, which are three times the perplexity in number.
/// The own search of the crate `bhtsne` is randomised, so equal reports would get different pages.
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

/// Principal components of rows.
struct Components {
    /// Coordinates of the rows, `[rows, components]`, by decreasing variance of the components.
    coordinates: DMatrix<f32>,
    /// Share of each component in the total variance, 0..1.
    shares: Vec<f64>,
}

impl Components {
    /// Principal components of the rows with the indices `kept`, by subspace iteration (Halko,
    /// Martinsson and Tropp 2011, algorithm 4.4). It needs no covariance matrix, which would have
    /// 12,288 x 12,288 values for the representations of three modalities.
    fn find(rows: &Rows<'_>, kept: &[usize]) -> Components {
        assert_eq!(rows.values.len(), rows.ids.len() * rows.dim);
        assert_eq!(rows.category.len(), rows.ids.len());
        // The centred rows as columns.
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
        // The sign of a component is arbitrary. The point furthest from 0 is made positive.
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

    /// `count` noisy vectors of 40 dimensions in three clusters, which differ in dimensions 7 and
    /// 21. Returns the vectors row by row, their ids and the index of each vector's cluster.
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

    /// Share of the points that are nearest to the centre of their own category, 0..1.
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
    fn pca_finds_the_two_directions_of_largest_variance() {
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
        // Without noise, dimension 7 has a variance of (81 + 25 + 16) / 3 = 40.7. Coordinates are
        // not rescaled.
        let variance = pca.points.iter().map(|p| p.x * p.x).sum::<f64>() / 300.0;
        assert!((variance - 40.75).abs() < 0.5, "{variance}");
        assert!(
            pca.points.iter().all(|p| p.category != 0 || p.x > 7.0),
            "the furthest point is on the positive side"
        );
        assert_eq!(pca, Projection::pca(&rows));
    }

    #[test]
    fn tsne_keeps_clusters_apart_and_is_reproducible() {
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
    fn pca_accepts_no_rows_or_one_and_many_rows_are_thinned_evenly() {
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
    fn items_with_several_labels_or_none_have_categories_of_their_own() {
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
