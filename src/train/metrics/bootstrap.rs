//! Bootstrap: percentile intervals of metrics over resamples of items, or of groups of items.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Settings of the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Number of resamples; 0: no intervals.
    pub resamples: usize,
    /// Seed of the random generator: equal seeds give equal intervals.
    pub seed: u64,
    /// Share of the resampled values that lie within the interval, 0..1.
    pub level: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap {
            resamples: 2000,
            seed: 127,
            level: 0.95,
        }
    }
}

/// The units that the bootstrap draws with replacement: single items, or groups of items. Items of
/// one speaker or actor depend on each other, so such a group is one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResamplingUnits {
    /// Index of the unit (0 to `count` - 1) to which each item belongs, in the order of the items.
    unit_of_item: Vec<usize>,
    /// Number of units.
    count: usize,
    /// Whether any item belongs to a named group.
    grouped: bool,
}

impl ResamplingUnits {
    /// `count` items, each of which is a unit.
    pub fn items(count: usize) -> ResamplingUnits {
        ResamplingUnits {
            unit_of_item: (0..count).collect(),
            count,
            grouped: false,
        }
    }

    /// Units by the group name of each item: items with equal names are one unit. An item with an
    /// empty name, whose group is unknown, is a unit of its own.
    pub fn groups<S: AsRef<str>>(groups: &[S]) -> ResamplingUnits {
        let mut known = BTreeMap::new();
        let mut count = 0;
        let unit_of_item = groups
            .iter()
            .map(|group| {
                let mut fresh = || {
                    count += 1;
                    count - 1
                };
                if group.as_ref().is_empty() {
                    fresh()
                } else {
                    *known.entry(group.as_ref().to_owned()).or_insert_with(fresh)
                }
            })
            .collect();
        ResamplingUnits {
            unit_of_item,
            count,
            grouped: !known.is_empty(),
        }
    }

    /// Number of units.
    pub fn count(&self) -> usize {
        self.count
    }
    /// Whether at least one item has a known group.
    pub fn is_grouped(&self) -> bool {
        self.grouped
    }
}

impl Bootstrap {
    /// Draws [`Bootstrap::resamples`] samples of units, and calls `each` once per sample. The
    /// argument of `each` returns how often the item with a given index is in the sample.
    pub fn run(&self, units: &ResamplingUnits, mut each: impl FnMut(&dyn Fn(usize) -> u32)) {
        let mut generator = StdRng::seed_from_u64(self.seed);
        let mut drawn = vec![0u32; units.count];
        for _ in 0..self.resamples {
            drawn.fill(0);
            for _ in 0..units.count {
                drawn[generator.random_range(0..units.count)] += 1;
            }
            each(&|item| drawn[units.unit_of_item[item]]);
        }
    }

    /// The percentile interval `[low, high]` of a metric. `values`: the metric in each resample;
    /// `None` where it is undefined. The interval is `None` if fewer than half of the values are
    /// defined.
    pub fn interval(&self, values: &[Option<f64>]) -> Option<[f64; 2]> {
        let mut defined: Vec<f64> = values.iter().flatten().copied().collect();
        if defined.is_empty() || 2 * defined.len() < values.len() {
            return None;
        }
        defined.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some([tail, 1.0 - tail].map(|q| quantile(&defined, q)))
    }
}

/// The quantile `q` (0..1) of `sorted`, which is ascending and not empty. Values between two
/// neighbours are interpolated linearly (numpy's default).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, share) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + share * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_equal_those_of_numpy() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(
            [0.0, 0.5, 1.0].map(|q| quantile(&sorted, q)),
            [1.0, 3.0, 8.0]
        );
        assert!((quantile(&sorted, 0.025) - 1.075).abs() < 1e-12);
    }

    #[test]
    fn groups_are_drawn_as_a_whole_and_ungrouped_items_singly() {
        let units = ResamplingUnits::groups(&["a", "", "b", "a", ""]);
        assert_eq!(
            (
                units.unit_of_item.clone(),
                units.count(),
                units.is_grouped()
            ),
            (vec![0, 1, 2, 0, 3], 4, true)
        );
        let bootstrap = Bootstrap {
            resamples: 50,
            ..Bootstrap::default()
        };
        let mut all = Vec::new();
        bootstrap.run(&units, |times| {
            let drawn: Vec<u32> = (0..5).map(times).collect();
            assert_eq!(drawn[0], drawn[3]);
            assert_eq!(drawn[0] + drawn[1] + drawn[2] + drawn[4], 4);
            all.push(drawn);
        });
        assert_eq!(all.len(), 50);
        let mut again = Vec::new();
        bootstrap.run(&units, |times| {
            again.push((0..5).map(times).collect::<Vec<u32>>())
        });
        assert_eq!(all, again);
        assert!(!ResamplingUnits::groups(&["", ""]).is_grouped());
    }

    #[test]
    fn there_is_no_interval_if_most_resamples_are_undefined() {
        let bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.interval(&[None, None, Some(1.0)]), None);
        assert_eq!(
            bootstrap.interval(&[None, Some(1.0), Some(1.0)]),
            Some([1.0, 1.0])
        );
    }
}
