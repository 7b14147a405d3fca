//! Contrastive losses: masked margin softmax over pairs of modalities (`src/train/method.md` c.1;
//! reference `mms_loss.py`), and NT-Xent over views of one (`src/train/method.md` c.5; reference
//! `simclr_loss.py`).

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// The reference's margin.
pub const MARGIN: f64 = 0.001;

/// Masked margin softmax of similarities `[batch, batch]` between rows of two modalities, with the
/// true pairs on the diagonal. It is the cross-entropy of identifying the matching row and column:
/// `mean(-S'_bb + lse_c S'_bc) + mean(-S'_bb + lse_c S'_cb)` with `S' = S - margin I`.
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

/// The row numbers `[[0], [1], …]`.
fn numbers(count: usize, device: &Device) -> Tensor<2, Int> {
    let values: Vec<i32> = (0..count as i32).collect();
    Tensor::from_data(TensorData::new(values, [count, 1]), device)
}

/// The pairs of modalities that are compared: a ring over three, or the one pair of two.
pub fn pairs(modalities: usize) -> Vec<(usize, usize)> {
    match modalities {
        0 | 1 => Vec::new(),
        2 => vec![(0, 1)],
        n => (0..n).map(|i| (i, (i + 1) % n)).collect(),
    }
}

/// NT-Xent logits of unit rows `[views * batch, dim]`, view after view: first the positives, then
/// the negatives in their order, divided by the temperature. With more than two views, positives
/// after the first are treated as negatives (as in the reference).
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

/// NT-Xent loss: the mean cross-entropy over rows, with the first positive as the true class.
pub fn simclr_loss(unit: Tensor<2>, views: usize, temperature: f64) -> Tensor<1> {
    let logits = simclr_logits(unit, views, temperature);
    log_softmax(logits, 1).narrow(1, 0, 1).mean().neg()
}
