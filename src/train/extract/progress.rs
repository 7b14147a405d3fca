//! Progress of the extraction on standard error: a bar on a terminal, otherwise a line every 10 s.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Seconds between two lines if standard error is not a terminal.
const LINE_SECONDS: f64 = 10.0;
/// Largest number of reasons for items without rows that are shown; the others are summed.
const REASONS_NAMED: usize = 3;

/// The progress display.
#[derive(Debug)]
pub struct Progress {
    /// Number of all items.
    all: usize,
    /// `None`: standard error is not a terminal.
    bar: Option<ProgressBar>,
    /// Time of the last line, in seconds since the start.
    printed_at: f64,
}

impl Progress {
    /// A display for `all` items.
    pub fn new(all: usize) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{wide_bar} {msg}").expect("the template is valid");
            ProgressBar::new(all as u64).with_style(style)
        });
        Progress {
            all,
            bar,
            printed_at: 0.0,
        }
    }

    /// Shows the progress: `done` items after `seconds`. `share`: share of the CPU time in graphs,
    /// in [0, 1]. `refused`: number of items without rows, by reason.
    pub fn report(
        &mut self,
        done: usize,
        seconds: f64,
        share: impl FnOnce() -> f64,
        refused: &BTreeMap<String, usize>,
    ) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(done as u64);
                bar.set_message(line(done, self.all, seconds, share(), refused));
            }
            None if seconds - self.printed_at >= LINE_SECONDS => {
                self.printed_at = seconds;
                eprintln!("{}", line(done, self.all, seconds, share(), refused));
            }
            None => {}
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The progress as text:
/// `120/4000 items, 3.10 items/s, 20 min 51 s left, 80 % in graphs; 3 no face and silent`.
fn line(
    done: usize,
    all: usize,
    seconds: f64,
    share: f64,
    refused: &BTreeMap<String, usize>,
) -> String {
    let rate = done as f64 / seconds.max(1e-9);
    let left = if done == 0 {
        "time left unknown".into()
    } else {
        format!("{} left", duration((all - done) as f64 / rate))
    };
    let mut line = format!(
        "{done}/{all} items, {rate:.2} items/s, {left}, {:.0} % in graphs",
        100.0 * share
    );
    let mut reasons: Vec<_> = refused.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (i, (reason, count)) in reasons.iter().take(REASONS_NAMED).enumerate() {
        line.push_str(&format!(
            "{} {count} {reason}",
            if i == 0 { ";" } else { "," }
        ));
    }
    match reasons
        .iter()
        .skip(REASONS_NAMED)
        .map(|(_, count)| **count)
        .sum::<usize>()
    {
        0 => line,
        more => format!("{line}, {more} for other reasons"),
    }
}

/// The duration in the two largest units, such as `2 h 5 min`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_shows_the_remaining_time_and_the_refusals() {
        let none = BTreeMap::new();
        assert_eq!(
            line(0, 10, 5.0, 0.0, &none),
            "0/10 items, 0.00 items/s, time left unknown, 0 % in graphs"
        );
        assert_eq!(
            line(50, 300, 20.0, 0.8, &none),
            "50/300 items, 2.50 items/s, 1 min 40 s left, 80 % in graphs"
        );
        let refused = [("silent", 2), ("no face", 9), ("x", 1), ("y", 1), ("z", 1)]
            .map(|(reason, count)| (reason.to_owned(), count))
            .into();
        let text = line(1, 7201, 1.0, 0.8, &refused);
        assert_eq!(
            text,
            "1/7201 items, 1.00 items/s, 2 h 0 min left, 80 % in graphs; 9 no face, 2 silent, 1 x, \
             2 for other reasons"
        );
    }
}
