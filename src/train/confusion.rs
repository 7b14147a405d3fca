//! The confusion matrix of predictions, drawn as an SVG, and its largest off-diagonal entries.

use std::fmt::Write;

use crate::train::calibrate::LabelledLogits;

/// A confusion matrix of summed prediction weights: a row per true class, a column per predicted
/// class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfusionMatrix {
    names: Vec<String>,
    counts: Vec<Vec<f64>>,
}

impl ConfusionMatrix {
    /// Sums the weights of `predictions` by true and predicted class; `names`: the class names by
    /// index.
    pub fn from_predictions(predictions: &LabelledLogits, names: &[&str]) -> ConfusionMatrix {
        let mut counts = vec![vec![0.0; names.len()]; names.len()];
        predictions
            .predictions()
            .for_each(|(truth, answer, share)| counts[truth][answer] += share);
        ConfusionMatrix {
            names: names.iter().map(|name| name.to_string()).collect(),
            counts,
        }
    }

    /// Share of the class `truth` that is predicted as `answer`, 0..1.
    fn share(&self, truth: usize, answer: usize) -> f64 {
        self.counts[truth][answer]
            / self.counts[truth]
                .iter()
                .sum::<f64>()
                .max(f64::MIN_POSITIVE)
    }

    /// At most `count` off-diagonal entries, the most frequent first, as `(class, predicted class,
    /// share of the class, recall of the class)`.
    pub fn largest_errors(&self, count: usize) -> Vec<(&str, &str, f64, f64)> {
        let classes = 0..self.names.len();
        let mut errors: Vec<_> = classes
            .clone()
            .flat_map(|t| {
                classes
                    .clone()
                    .filter(move |a| *a != t)
                    .map(move |a| (t, a))
            })
            .collect();
        errors.sort_by(|a, b| self.share(b.0, b.1).total_cmp(&self.share(a.0, a.1)));
        errors.truncate(count);
        errors
            .into_iter()
            .map(|(t, a)| {
                (
                    &*self.names[t],
                    &*self.names[a],
                    self.share(t, a),
                    self.share(t, t),
                )
            })
            .collect()
    }

    /// The text of an SVG file with a row per true class with its count, a column per predicted
    /// class. Cells show per cent of the row; higher values are darker.
    pub fn svg(&self, title: &str) -> String {
        // In pixels.
        const CELL: usize = 54;
        const LEFT: usize = 150;
        const TOP: usize = 64;
        let size = self.names.len();
        let (width, height) = (LEFT + size * CELL + 10, TOP + size * CELL + 10);
        let mut svg = String::new();
        let mut push = |line: std::fmt::Arguments<'_>| {
            svg.write_fmt(line).expect("a string takes what is written")
        };
        push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
                width=\"{width}\" font-family=\"sans-serif\" font-size=\"11\" role=\"img\">\n\
             <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" \
             fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{title}</text>\n"
        ));
        for (place, name) in self.names.iter().enumerate() {
            let (x, y) = (
                LEFT + place * CELL + CELL / 2,
                TOP + place * CELL + CELL / 2 + 4,
            );
            let count: f64 = self.counts[place].iter().sum();
            push(format_args!(
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n",
                TOP - 8
            ));
            push(format_args!(
                "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{name} ({count:.0})</text>\n",
                LEFT - 8
            ));
            for answer in 0..size {
                let share = self.share(place, answer);
                let (x, top) = (LEFT + answer * CELL, TOP + place * CELL);
                // Right answers are blue, wrong ones red.
                let fill = if answer == place {
                    "#1f5fa8"
                } else {
                    "#b3261e"
                };
                push(format_args!(
                    "<rect x=\"{x}\" y=\"{top}\" width=\"{CELL}\" height=\"{CELL}\" \
                        fill=\"{fill}\" fill-opacity=\"{share:.3}\" stroke=\"#ccc\"/>\n"
                ));
                let ink = if share > 0.55 { "#fff" } else { "#000" };
                push(format_args!(
                    "<text x=\"{}\" y=\"{y}\" text-anchor=\"middle\" fill=\"{ink}\">{:.0}</text>\n",
                    x + CELL / 2,
                    100.0 * share
                ));
            }
        }
        push(format_args!("</svg>\n"));
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_errors_and_the_svg_use_shares_of_the_true_class() {
        // Two of class 0 right, one predicted as 2; class 1 always predicted as 0; class 2 right.
        let logits = [
            [2.0, 0.0, 1.0],
            [2.0, 0.0, 1.0],
            [0.0, 0.0, 1.0],
            [2.0, 0.0, 1.0],
            [0.0, 0.0, 1.0],
        ]
        .concat();
        let confusion = ConfusionMatrix::from_predictions(
            &LabelledLogits::new(3, logits, vec![0, 0, 0, 1, 2]),
            &["a", "b", "c"],
        );
        assert_eq!(
            confusion.counts,
            [[2.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        );
        let largest_errors = confusion.largest_errors(2);
        assert_eq!(
            (
                largest_errors[0].0,
                largest_errors[0].1,
                largest_errors[0].2,
                largest_errors[0].3
            ),
            ("b", "a", 1.0, 0.0)
        );
        assert_eq!((largest_errors[1].0, largest_errors[1].1), ("a", "c"));
        let svg = confusion.svg("what a & b are taken for".replace('&', "and").as_str());
        assert!(svg.contains(">a (3)<") && svg.contains(">67<") && svg.contains(">100<"));
        assert_eq!(svg.matches("<rect").count(), 10);
    }
}
