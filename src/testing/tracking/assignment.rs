//! Finds the one-to-one assignment with the highest sum of weights (Hungarian algorithm).

use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

/// Unit in which the weights are rounded to integers, because the algorithm needs exact sums.
const UNIT: f64 = 1e-12;

/// Pairs of (row, column) with the highest sum of weights, in which no row and no column occurs
/// twice. Weights must be from 0 to about 10⁵; pairs of weight 0 are left out.
pub(super) fn best_pairs(
    rows: usize,
    columns: usize,
    weight: impl Fn(usize, usize) -> f64,
) -> Vec<(usize, usize)> {
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    // The algorithm requires at least as many columns as rows.
    let flipped = rows > columns;
    let weight = |a: usize, b: usize| {
        let (row, column) = if flipped { (b, a) } else { (a, b) };
        (weight(row, column) / UNIT).round() as i64
    };
    let (short, long) = (rows.min(columns), rows.max(columns));
    let weights = Matrix::from_fn(short, long, |(a, b)| weight(a, b));
    let (_, assigned) = kuhn_munkres(&weights);
    let pairs = assigned.into_iter().enumerate();
    pairs
        .filter(|(a, b)| weights[(*a, *b)] > 0)
        .map(|(a, b)| if flipped { (b, a) } else { (a, b) })
        .collect()
}
