//! Online k-means by cosine (`src/train/method.md` c.2, points 2 and 3): the pseudo-labels of
//! clustering, and the queue of earlier batches.

/// Result of k-means.
#[derive(Clone, Debug, PartialEq)]
pub struct Kmeans {
    /// Per row, of the assignment before the last update of the centroids (the reference's).
    pub labels: Vec<usize>,
    /// `clusters x dim`, not normalised; zero where a cluster stayed empty.
    pub centroids: Vec<f32>,
    /// Number of assignment passes.
    pub passes: usize,
}

/// Clusters `rows` (`n x dim`) into `initial.len()` clusters; `initial` are the rows that the
/// centroids begin with.
///
/// Rows go to the centroid with the largest cosine (the first of equals; a zero vector is equally
/// far from all), a centroid becomes the plain mean of its rows, until the centroids' squared
/// shifts sum to 1e-4 or less, or 100 passes.
///
/// # Panics
/// If `initial` names a row that is not there, or the rows are not whole.
pub fn kmeans_cosine(rows: &[f32], dim: usize, initial: &[usize]) -> Kmeans {
    assert_eq!(rows.len() % dim, 0, "rows must be whole");
    let unit = unit_rows(rows, dim);
    let mut centroids: Vec<f32> = initial
        .iter()
        .flat_map(|i| rows[i * dim..][..dim].iter().copied())
        .collect();
    let mut labels = vec![0; rows.len() / dim];
    for passes in 1.. {
        let means = pass(rows, &unit, dim, &centroids, &mut labels);
        let shift: f64 = means
            .iter()
            .zip(&centroids)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum();
        centroids = means;
        if shift <= 1e-4 || passes == 100 {
            return Kmeans {
                labels,
                centroids,
                passes,
            };
        }
    }
    unreachable!("the loop ends by its hundredth pass")
}

/// Assigns the rows (`unit`: the same rows, normalised) and returns the means of the clusters.
pub(crate) fn pass(
    rows: &[f32],
    unit: &[f32],
    dim: usize,
    centroids: &[f32],
    labels: &mut [usize],
) -> Vec<f32> {
    assign(unit, dim, &unit_rows(centroids, dim), labels);
    let mut sums = vec![0.0f64; centroids.len()];
    let mut counts = vec![0usize; centroids.len() / dim];
    for (row, label) in rows.chunks_exact(dim).zip(labels.iter()) {
        counts[*label] += 1;
        sums[label * dim..][..dim]
            .iter_mut()
            .zip(row)
            .for_each(|(s, v)| *s += f64::from(*v));
    }
    sums.iter()
        .enumerate()
        .map(|(i, s)| (s / counts[i / dim].max(1) as f64) as f32)
        .collect()
}

pub(crate) fn unit_rows(rows: &[f32], dim: usize) -> Vec<f32> {
    let norm = |row: &[f32]| {
        (row.iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt()
            + 1e-8) as f32
    };
    rows.chunks_exact(dim)
        .flat_map(|row| row.iter().map(move |v| v / norm(row)))
        .collect()
}

/// The nearest centroid of each row. Centroids are transposed, so that the inner loop runs over all
/// of them at once.
fn assign(unit: &[f32], dim: usize, centroids: &[f32], labels: &mut [usize]) {
    let clusters = centroids.len() / dim;
    let mut columns = vec![0.0f32; centroids.len()];
    for (c, centroid) in centroids.chunks_exact(dim).enumerate() {
        centroid
            .iter()
            .enumerate()
            .for_each(|(d, v)| columns[d * clusters + c] = *v);
    }
    let mut similarity = vec![0.0f32; clusters];
    for (row, label) in unit.chunks_exact(dim).zip(labels) {
        similarity.fill(0.0);
        for (value, column) in row.iter().zip(columns.chunks_exact(clusters)) {
            similarity
                .iter_mut()
                .zip(column)
                .for_each(|(s, c)| *s += value * c);
        }
        *label = (1..clusters).fold(0, |best, c| {
            if similarity[c] > similarity[best] {
                c
            } else {
                best
            }
        });
    }
}

/// The rows of the last batches, newest first, that k-means takes before the current batch's.
#[derive(Clone, Debug)]
pub struct Queue {
    dim: usize,
    batch: usize,
    /// Keeps a share of 1 / `reduction` of each batch's rows; `None`: all.
    reduction: Option<usize>,
    rows: Vec<f32>,
}

impl Queue {
    /// Room for `batches` batches of `batch` rows, with `reduction` for a part of each.
    pub fn new(batches: usize, batch: usize, dim: usize, reduction: Option<usize>) -> Self {
        let rows = batches * batch / reduction.unwrap_or(1);
        Queue {
            dim,
            batch,
            reduction,
            rows: vec![0.0; rows * dim],
        }
    }

    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// The input of k-means for this batch: the queue's rows before it if the queue is full. Then
    /// the batch enters the queue.
    pub fn push(&mut self, batch: &[f32]) -> Vec<f32> {
        let is_full = self.rows.len() >= self.dim
            && self.rows[self.rows.len() - self.dim..]
                .iter()
                .any(|v| *v != 0.0);
        let input = if is_full {
            [&self.rows[..], batch].concat()
        } else {
            batch.to_vec()
        };
        let kept = self.reduced(batch);
        let kept = &kept[..kept.len().min(self.rows.len())];
        let older = self.rows.len() - kept.len();
        self.rows.copy_within(..older, kept.len());
        self.rows[..kept.len()].copy_from_slice(kept);
        input
    }

    /// The first part of each group of `batch / 128` rows (the reference's reduction; it means one
    /// group per device's 128).
    fn reduced(&self, batch: &[f32]) -> Vec<f32> {
        let Some(factor) = self.reduction else {
            return batch.to_vec();
        };
        let group = (self.batch / 128).max(1);
        let kept = (group / factor).max(1);
        batch
            .chunks(group * self.dim)
            .flat_map(|g| g[..(kept * self.dim).min(g.len())].iter().copied())
            .collect()
    }
}
