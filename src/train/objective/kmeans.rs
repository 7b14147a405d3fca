//! Online k-means with cosine similarity (`src/train/method.md` c.2, points 2 and 3): the
//! pseudo-labels of clustering, and the queue of earlier batches.

/// The result of k-means.
#[derive(Clone, Debug, PartialEq)]
pub struct Kmeans {
    /// The cluster of each row in the assignment before the last update of the centroids (as in the
    /// reference).
    pub labels: Vec<usize>,
    /// The centroids `[clusters, dim]`, row by row, not normalised; zero for an empty cluster.
    pub centroids: Vec<f32>,
    /// Number of assignment passes.
    pub passes: usize,
}

/// Clusters `rows` (`[n, dim]`, row by row) into `initial.len()` clusters. `initial`: indices of
/// the rows that are the first centroids.
///
/// Each row is assigned to the centroid with the largest cosine (the first one of a tie; a zero
/// vector has no cosine and takes the first). Each centroid becomes the mean of its rows. This is
/// repeated until the squared shifts of the centroids sum to at most 1e-4, at most 100 times.
///
/// # Panics
/// `initial` contains an invalid index, or `rows` is not a multiple of `dim`.
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

/// One pass: assigns the rows (`unit`: the same rows, normalised), and returns the means of the
/// clusters.
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

/// The rows, `[rows, dim]` row by row, each divided by its Euclidean norm.
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
/// of them.
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

/// Rows of the last batches, newest first, which k-means uses before those of the current batch.
#[derive(Clone, Debug)]
pub struct Queue {
    dim: usize,
    batch: usize,
    /// A share of 1 / `reduction` of each batch's rows is kept; `None`: all.
    reduction: Option<usize>,
    rows: Vec<f32>,
}

impl Queue {
    /// An empty queue for `batches` batches of `batch` rows, which are reduced by `reduction`.
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

    /// The input of k-means for this batch, preceded by the rows of the queue if it is full. Then
    /// the batch is added to the queue.
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

    /// The first part of each group of `batch / 128` rows. This is the reference's reduction, which
    /// is meant as one group for each device's 128 rows.
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
