//! Optimal one-to-one assignment.

use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

/// Weights become integers in this unit, because the algorithm needs exact sums.
const UNIT: f64 = 1e-12;

/// The pairs (row, column) with the highest sum of weights, no row and no column twice. Weights
/// are from 0 to about 10⁵; a pair of weight 0 is no pair.
pub(super) fn best_pairs(
    rows: usize,
    columns: usize,
    weight: impl Fn(usize, usize) -> f64,
) -> Vec<(usize, usize)> {
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    // The crate needs at least as many columns as rows.
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
