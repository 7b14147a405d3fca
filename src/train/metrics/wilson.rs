//! Wilson's score interval of a proportion.

/// Wilson's 95 % score interval `[low, high]` of the proportion `share` (0..1) of `count` items.
pub fn wilson(share: f64, count: usize) -> [f64; 2] {
    let (n, z) = (count.max(1) as f64, 1.959964);
    let middle = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    [middle - half, middle + half].map(|bound| (bound / (1.0 + z * z / n)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_equal_newcombes_published_ones() {
        // Newcombe (1998), table I, method 3: 81 of 263 and 0 of 20.
        let [low, high] = wilson(81.0 / 263.0, 263);
        assert!(
            (low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4,
            "{low} {high}"
        );
        let [low, high] = wilson(0.0, 20);
        assert!(low == 0.0 && (high - 0.1611).abs() < 1e-4, "{low} {high}");
    }
}
