//! Online k-means with cosine similarity, which gives the pseudo-labels of the clustering loss, and
//! its queue of rows of earlier batches (`src/train/method.md` c.2, points 2 and 3).

/// The result of [`kmeans_cosine`].
#[derive(Clone, Debug, PartialEq)]
pub struct Kmeans {
    /// Index of the cluster of each row. The rows were assigned before the last update of the
    /// centroids, as in ConCluGen's code.
    pub labels: Vec<usize>,
    /// The centroids `[clusters, dim]`, row by row, not normalised; zeros for an empty cluster.
    pub centroids: Vec<f32>,
    /// Number of passes; each assigns all rows and updates the centroids.
    pub passes: usize,
}

/// Groups `rows` (`[n, dim]`, row by row) by k-means with cosine similarity. There is one cluster
/// per entry of `initial`, the indices of the rows that are the initial centroids.
///
/// A pass assigns each row to the centroid with the largest cosine, the first one of a tie; a row
/// of zeros is assigned to the first centroid. Then each centroid becomes the mean of its rows.
/// Passes end when the squared shifts of the centroids sum to at most 1e-4, or after 100 passes.
///
/// # Panics
/// `initial` contains an invalid index, or the length of `rows` is not a multiple of `dim`.
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

/// One pass of k-means: writes the nearest cluster of each row to `labels`, and returns the mean of
/// each cluster's rows, `[clusters, dim]`. `unit`: `rows` divided by their norms.
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

/// `rows` (`[n, dim]`, row by row), each divided by its Euclidean norm; a row of zeros stays zero.
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

/// Writes the index of the nearest centroid of each row to `labels`. `unit` and `centroids` are of
/// length 1. Centroids are transposed, so that the inner loop runs over consecutive values.
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

/// Cluster logits of the last batches, newest first. K-means clusters them together with those of
/// the current batch.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Length of a row.
    dim: usize,
    /// Number of rows of a batch.
    batch: usize,
    /// One of `reduction` rows of each batch is kept; `None`: every row.
    reduction: Option<usize>,
    /// The rows of the queue, `[rows, dim]` row by row; zeros where it is not yet filled.
    rows: Vec<f32>,
}

impl Queue {
    /// An empty queue for the rows of `batches` batches. `batch`: rows of a batch; `dim`: length of
    /// a row; `reduction`: one of this many rows is kept (`None`: every row).
    pub fn new(batches: usize, batch: usize, dim: usize, reduction: Option<usize>) -> Self {
        let rows = batches * batch / reduction.unwrap_or(1);
        Queue {
            dim,
            batch,
            reduction,
            rows: vec![0.0; rows * dim],
        }
    }

    /// The rows of the queue, `[rows, dim]` row by row, newest batch first; zeros where the queue
    /// is not yet filled.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Returns the input of k-means: the rows of the queue if it is full, then those of `batch`
    /// (`[rows, dim]`, row by row). Then adds `batch` to the queue, which drops its oldest rows.
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

    /// The rows of `batch` that the queue keeps: the first rows of each group of `batch / 128`
    /// rows. This is the rule of ConCluGen's code, which was meant to form a group of the 128 rows
    /// of each device.
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
