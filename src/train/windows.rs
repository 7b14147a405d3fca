//! Selection of windows for pre-training from stores with several rows per recording. Windows of
//! one recording overlap and are not independent.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::modality::Modality;
use crate::train::features::Features;

/// Rows of stores, grouped by recording. Pre-training uses only windows of a recording that do not
/// overlap. Its objectives contrast every clip with every other one, and two windows of the same
/// moment must not be contrasted. In stores without windows, each row is a recording of its own.
#[derive(Clone, Debug)]
pub struct Windows {
    recordings: Vec<Vec<Window>>,
}

/// A row, and the start and end of its window in milliseconds from the start of the recording.
#[derive(Clone, Copy, Debug)]
struct Window {
    row: usize,
    start_ms: i64,
    end_ms: i64,
}

impl Windows {
    /// Groups the rows with the ascending indices `rows`.
    pub fn new(features: &Features, rows: &[usize]) -> Windows {
        let window = |row: &usize| {
            let entry = features.entry(*row);
            let start_ms = entry.start_ms().unwrap_or(0);
            Window {
                row: *row,
                start_ms,
                end_ms: start_ms + (entry.seconds * 1e3).round() as i64,
            }
        };
        // Rows of one recording are neighbours in a store.
        let recordings = rows
            .chunk_by(|a, b| features.recording(*a) == features.recording(*b))
            .map(|rows| {
                let mut windows: Vec<Window> = rows.iter().map(window).collect();
                windows.sort_by_key(|window| window.start_ms);
                windows
            })
            .collect();
        Windows { recordings }
    }

    /// Smallest number of rows that [`Windows::draw`] can return.
    pub fn min_rows(&self) -> usize {
        let counts = self.recordings.iter().map(|windows| {
            let firsts = 0..firsts(windows);
            firsts
                .map(|first| without_overlap(windows, first).count())
                .min()
        });
        counts.map(|least| least.unwrap_or(0)).sum()
    }

    /// The indices of an epoch's rows, ascending: windows of each recording that do not overlap.
    /// The first window of a recording is drawn at random in each epoch. The result depends on
    /// `seed` and `epoch` alone.
    pub fn draw(&self, seed: u64, epoch: usize) -> Vec<usize> {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x7769_6e64 ^ ((epoch as u64 + 1) << 32));
        let mut rows = Vec::new();
        for windows in &self.recordings {
            let first = match firsts(windows) {
                1 => 0,
                several => rng.random_range(0..several),
            };
            rows.extend(without_overlap(windows, first).map(|window| window.row));
        }
        rows.sort_unstable();
        rows
    }
}

/// Number of windows of a recording that may be drawn as the first one: the earliest window, and
/// those that overlap it.
fn firsts(windows: &[Window]) -> usize {
    let overlaps = |window: &&Window| window.start_ms < windows[0].end_ms;
    windows.iter().take_while(overlaps).count().max(1)
}

/// The window with index `first`, then in turn the earliest window that starts at or after the end
/// of the previous one.
fn without_overlap(windows: &[Window], first: usize) -> impl Iterator<Item = Window> {
    let mut end_ms = i64::MIN;
    windows[first..].iter().copied().filter(move |window| {
        let is_apart = window.start_ms >= end_ms;
        if is_apart {
            end_ms = window.end_ms;
        }
        is_apart
    })
}

/// A description of the rows for a message, if they differ from the windows that the daemon uses.
/// `None`: they do not differ, or the items are no recordings (pictures, texts).
pub fn unlike_served(features: &Features) -> Option<&'static str> {
    let is_heard_or_seen = |modality| modality != Modality::Text;
    let is_unlike = !features.spec().has_windows()
        && features
            .modalities()
            .iter()
            .any(|m| is_heard_or_seen(m.modality))
        && (0..features.count()).any(|row| features.entry(row).seconds > 0.0);
    is_unlike.then_some(
        "means over whole recordings, in which all faces weigh alike; the daemon serves windows, \
         in which recent faces may weigh more",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::store::{Entry, WINDOW};
    use crate::train::synthetic::SyntheticSet;

    /// In-memory rows of recordings: for each number in `windows`, a recording with as many windows
    /// of 2 s, one every 0.2 s. `kind`: the store's kind of rows.
    fn features(kind: &str, windows: &[usize]) -> Features {
        let one = SyntheticSet {
            train: 1,
            select: 0,
            test: 0,
            ..SyntheticSet::default()
        }
        .make();
        let (mut rows, mut values) = (Vec::new(), vec![0.0; one.spec().dim()]);
        one.read(0, &mut values).unwrap();
        for (recording, count) in windows.iter().enumerate() {
            let mut ids: Vec<String> = (0..*count)
                .map(|i| format!("{recording}#{}", 200 * i))
                .collect();
            // Stores sort rows by id.
            ids.sort();
            let entry = |id| Entry {
                id,
                seconds: 2.0,
                ..one.entry(0).clone()
            };
            rows.extend(ids.into_iter().map(|id| (entry(id), values.clone())));
        }
        let spec = crate::train::store::StoreSpec {
            clips: kind.into(),
            ..one.spec().clone()
        };
        Features::in_memory(spec, rows)
    }

    #[test]
    fn an_epoch_has_no_overlapping_windows_of_one_recording() {
        let features = features(WINDOW, &[1, 36, 10, 11]);
        let windows = Windows::new(&features, &(0..58).collect::<Vec<_>>());
        let mut firsts = std::collections::BTreeSet::new();
        for epoch in 0..40 {
            let rows = windows.draw(7, epoch);
            assert_eq!(rows, windows.draw(7, epoch));
            assert!(rows.len() >= windows.min_rows());
            for (i, a) in rows.iter().enumerate() {
                for b in &rows[..i] {
                    let [a, b] = [*a, *b].map(|row| features.entry(row));
                    let gap = a.start_ms().unwrap() - b.start_ms().unwrap();
                    assert!(a.item() != b.item() || gap.abs() >= 2000, "{a:?} {b:?}");
                }
            }
            firsts.insert(rows[1]);
        }
        assert!(firsts.len() > 5, "{firsts:?}");
        // Recordings of 1, 10 and 11 windows give one row. 36 windows cover 9 s; from 1.8 s on, 7.2
        // s are left for three.
        assert_eq!(windows.min_rows(), 1 + 3 + 1 + 1);
    }

    #[test]
    fn every_row_is_drawn_if_rows_are_whole_recordings() {
        let features = features(crate::train::store::RECORDING, &[3, 3]);
        let rows: Vec<usize> = (0..6).collect();
        let windows = Windows::new(&features, &rows);
        assert_eq!((windows.min_rows(), windows.draw(1, 0)), (6, rows));
    }
}
