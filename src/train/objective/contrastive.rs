//! Contrastive losses: masked margin softmax over pairs of modalities (`src/train/method.md` c.1;
//! in ConCluGen's code `mms_loss.py`), and NT-Xent over augmented views of one modality
//! (`src/train/method.md` c.5; `simclr_loss.py`).

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// The margin of ConCluGen's code: subtracted from the similarity of each true pair.
pub const MARGIN: f64 = 0.001;

/// Masked margin softmax loss of similarities `S`, `[batch, batch]`. `S_bc` is the similarity of
/// clip `b` in one modality to clip `c` in another; the true pairs are on the diagonal.
///
/// The loss is the cross-entropy of finding the matching column of each row, and the matching row
/// of each column: `mean_b(-S'_bb + logsumexp_c S'_bc) + mean_b(-S'_bb + logsumexp_c S'_cb)`, with
/// `S' = S - margin I`.
pub fn masked_margin_softmax(similarity: Tensor<2>, margin: f64) -> Tensor<1> {
    let [batch, _] = similarity.dims();
    let device = similarity.device();
    let similarity = similarity - Tensor::<2>::eye(batch, &device).mul_scalar(margin);
    let rows = numbers(batch, &device);
    let diagonal = |log: Tensor<2>| log.gather(1, rows.clone()).mean();
    let (by_row, by_column) = (
        log_softmax(similarity.clone(), 1),
        log_softmax(similarity, 0),
    );
    (diagonal(by_row) + diagonal(by_column)).neg()
}

/// The indices 0 to `count` - 1 as a column, `[count, 1]`.
fn numbers(count: usize, device: &Device) -> Tensor<2, Int> {
    let values: Vec<i32> = (0..count as i32).collect();
    Tensor::from_data(TensorData::new(values, [count, 1]), device)
}

/// The pairs of modality indices that the contrastive loss compares: (0, 1) of two modalities; (0,
/// 1), (1, 2), (2, 0) of three; none of one.
pub fn pairs(modalities: usize) -> Vec<(usize, usize)> {
    match modalities {
        0 | 1 => Vec::new(),
        2 => vec![(0, 1)],
        n => (0..n).map(|i| (i, (i + 1) % n)).collect(),
    }
}

/// NT-Xent logits `[rows, rows - 1]`: the cosine similarities of each row to all other rows,
/// divided by `temperature`. `unit`: vectors of length 1, `[views * batch, dim]`, view after view.
///
/// The first columns are the other views of the same clip (positives), the further columns the
/// other clips (negatives).
pub fn simclr_logits(unit: Tensor<2>, views: usize, temperature: f64) -> Tensor<2> {
    let [rows, _] = unit.dims();
    let batch = rows / views;
    let similarity = unit
        .clone()
        .matmul(unit.transpose())
        .div_scalar(temperature);
    let order: Vec<i32> = (0..rows)
        .flat_map(|r| {
            let positive = move |c: &usize| c % batch == r % batch && *c != r;
            let negatives = (0..rows).filter(move |c| c % batch != r % batch);
            (0..rows)
                .filter(positive)
                .chain(negatives)
                .map(|c| c as i32)
        })
        .collect();
    let order = Tensor::<2, Int>::from_data(
        TensorData::new(order, [rows, rows - 1]),
        &similarity.device(),
    );
    similarity.gather(1, order)
}

/// NT-Xent loss of SimCLR: the mean over rows of the cross-entropy of finding another view of the
/// same clip. Arguments as for [`simclr_logits`].
///
/// Only the first other view is the true class. As in ConCluGen's code, with more than two views
/// the further ones count as negatives.
pub fn simclr_loss(unit: Tensor<2>, views: usize, temperature: f64) -> Tensor<1> {
    let logits = simclr_logits(unit, views, temperature);
    log_softmax(logits, 1).narrow(1, 0, 1).mean().neg()
}
