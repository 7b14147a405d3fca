//! The charts of a report as inline SVG: line charts, reliability diagrams, scatter plots. Colours
//! are the CSS classes `c0` to `c7` of the page, so that charts follow its light and dark mode.

use maud::{Markup, html};

use crate::train::metrics::measure::{Abstention, ReliabilityBin};
use crate::train::report::projection::Projection;
use crate::train::report::{Line, LineChart};

/// Number of colours. Further lines differ by their dashes, further categories by their marks.
const COLOURS: usize = 8;

/// A coordinate in pixels as text, rounded to 0.1, so that pages are small and equal on every
/// machine.
fn px(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// The linear axis of a chart. It maps the values `low` to `high` to the pixels `from` to `to`.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis from the least to the greatest finite value of `values`, on the pixels `from` to
    /// `to`. A single value is placed in the middle; without values the axis is 0 to 1.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (low, high) = values
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let room = if high > low {
            0.0
        } else {
            (0.5 * low.abs()).max(0.5)
        };
        Axis {
            low: low - room,
            high: high + room,
            from,
            to,
        }
    }
    /// The pixel of `value`.
    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }
    /// The values of the ticks: multiples of 1, 2 or 5 times a power of ten, at most six.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|m| m * power)
            .find(|s| *s >= rough)
            .unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        (first..)
            .map(|i| i as f64 * step)
            .take_while(|v| *v <= self.high + step * 1e-9)
            .collect()
    }
}

/// The text of a number at a tick, with at most four decimals.
fn tick(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Width of a chart in pixels.
const WIDTH: f64 = 520.0;
/// Height of a chart in pixels.
const HEIGHT: f64 = 300.0;
// The edges of the plotting area in pixels from the upper left corner of the chart.
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 258.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 508.0;

/// The SVG of a chart: grid, ticks and axis names, with `inner` drawn over them. `across` and `up`:
/// names of the horizontal and the vertical axis.
fn frame(title: &str, [across, up]: [&str; 2], x: &Axis, y: &Axis, inner: &Markup) -> Markup {
    html! {
        svg viewBox={ "0 0 " (px(WIDTH)) " " (px(HEIGHT)) } role="img" aria-label=(title) {
            @for v in y.ticks() {
                line class="grid" x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(y.at(v))) y2=(px(y.at(v))) {}
                text class="tick" x=(px(LEFT - 6.0)) y=(px(y.at(v) + 4.0)) text-anchor="end" {
                    (tick(v))
                }
            }
            @for v in x.ticks() {
                line class="grid" x1=(px(x.at(v))) x2=(px(x.at(v))) y1=(px(TOP)) y2=(px(BOTTOM)) {}
                text class="tick" x=(px(x.at(v))) y=(px(BOTTOM + 16.0)) text-anchor="middle" {
                    (tick(v))
                }
            }
            text class="axis" x=(px((LEFT + RIGHT) / 2.0)) y=(px(HEIGHT - 6.0))
                text-anchor="middle" { (across) }
            text class="axis"
                transform={ "translate(13 " (px((TOP + BOTTOM) / 2.0)) ") rotate(-90)" }
                text-anchor="middle" { (up) }
            (inner)
        }
    }
}

/// A legend: each name with the mark that `swatch` draws for its index.
fn legend<'a>(
    names: impl Iterator<Item = (usize, &'a str)>,
    swatch: impl Fn(usize) -> Markup,
) -> Markup {
    html! {
        ul class="legend" {
            @for (index, name) in names {
                li {
                    svg class="swatch" viewBox="-8 -6 16 12" aria-hidden="true" { (swatch(index)) }
                    (name)
                }
            }
        }
    }
}

/// The SVG dash pattern of the line with this index.
fn dashes(index: usize) -> &'static str {
    ["none", "7 3", "2 3", "9 3 2 3"][index % 4]
}

/// A line chart with its legend. `across`: name of the horizontal axis; `chosen`: the value on it
/// that a vertical line marks, for example the selected epoch.
pub fn lines(chart: &LineChart, across: &str, chosen: Option<f64>) -> Markup {
    let all = || {
        chart
            .lines
            .iter()
            .flat_map(|line| line.points.iter().copied())
    };
    let x = Axis::over(all().map(|p| p[0]).chain(chosen), LEFT, RIGHT);
    let y = Axis::over(all().map(|p| p[1]), BOTTOM, TOP);
    let path = |line: &Line| -> String {
        // A value that is not finite breaks the line.
        let mut pen = 'M';
        let mut path = String::new();
        for [at, value] in &line.points {
            if !value.is_finite() {
                pen = 'M';
                continue;
            }
            path.push_str(&format!("{pen}{} {}", px(x.at(*at)), px(y.at(*value))));
            pen = 'L';
        }
        path
    };
    let inner = html! {
        @if let Some(at) = chosen {
            line class="chosen" x1=(px(x.at(at))) x2=(px(x.at(at))) y1=(px(TOP)) y2=(px(BOTTOM)) {
                title { "chosen: " (across) " " (tick(at)) }
            }
        }
        @for (index, line) in chart.lines.iter().enumerate() {
            path class={ "line c" (index % COLOURS) } stroke-dasharray=(dashes(index))
                d=(path(line)) { title { (line.name) } }
            @for [at, value] in line.points.iter().filter(|p| p[1].is_finite()) {
                circle class={ "dot c" (index % COLOURS) } cx=(px(x.at(*at))) cy=(px(y.at(*value)))
                    r=(if line.points.len() > 60 { "1" } else { "2.5" }) {
                    title { (line.name) ", " (across) " " (tick(*at)) ": " (tick(*value)) }
                }
            }
        }
    };
    let names = chart.lines.iter().map(|line| line.name.as_str());
    let swatch = |index: usize| {
        html! {
            path class={ "line c" (index % COLOURS) } stroke-dasharray=(dashes(index))
                d="M-8 0L8 0" {}
        }
    };
    html! {
        figure {
            figcaption { (chart.title) }
            (frame(&chart.title, [across, &chart.unit], &x, &y, &inner))
            (legend(names.enumerate(), swatch))
        }
    }
}

/// A reliability diagram, with a histogram of the confidences below it. `what`: the compared
/// quantities, for the caption.
pub fn reliability(bins: &[ReliabilityBin], what: &str) -> Markup {
    let unit = |from, to| Axis {
        low: 0.0,
        high: 1.0,
        from,
        to,
    };
    let (x, y) = (unit(LEFT, RIGHT), unit(BOTTOM, TOP));
    let total = bins.iter().map(|b| b.count).sum::<u64>().max(1) as f64;
    let most = bins
        .iter()
        .map(|b| b.count as f64 / total)
        .fold(0.0, f64::max)
        .max(1e-9);
    let counts = Axis {
        low: 0.0,
        high: most,
        from: 88.0,
        to: 8.0,
    };
    let bar = |bin: &ReliabilityBin| {
        (
            px(x.at(bin.from) + 1.0),
            px(x.at(bin.to) - x.at(bin.from) - 2.0),
        )
    };
    let inner = html! {
        @for bin in bins {
            @if let (Some(confidence), Some(right)) = (bin.confidence, bin.right) {
                rect class="bar" x=(bar(bin).0) width=(bar(bin).1) y=(px(y.at(right)))
                    height=(px(BOTTOM - y.at(right))) {
                    title {
                        (format!(
                            "{:.2} to {:.2}: {} of them, mean confidence {confidence:.3}, \
                             right {right:.3}",
                            bin.from, bin.to, bin.count
                        ))
                    }
                }
                line class="gap" x1=(px(x.at(confidence))) x2=(px(x.at(confidence)))
                    y1=(px(y.at(right))) y2=(px(y.at(confidence))) {}
            }
        }
        line class="ideal" x1=(px(x.at(0.0))) y1=(px(y.at(0.0)))
            x2=(px(x.at(1.0))) y2=(px(y.at(1.0))) { title { "perfect calibration" } }
        @for bin in bins {
            @if let (Some(confidence), Some(right)) = (bin.confidence, bin.right) {
                circle class="dot c1" cx=(px(x.at(confidence))) cy=(px(y.at(right))) r="3.5" {}
            }
        }
    };
    html! {
        figure {
            figcaption {
                "Reliability: " (what) ", in 15 bins. On the diagonal, confidence equals accuracy; \
                 below it, the head is overconfident."
            }
            (frame("Reliability diagram", ["confidence", "share right"], &x, &y, &inner))
            svg class="histogram" viewBox={ "0 0 " (px(WIDTH)) " 96" } role="img"
                aria-label="Histogram of confidences" {
                @for v in [0.0, most] {
                    line class="grid" x1=(px(LEFT)) x2=(px(RIGHT))
                        y1=(px(counts.at(v))) y2=(px(counts.at(v))) {}
                    text class="tick" x=(px(LEFT - 6.0)) y=(px(counts.at(v) + 4.0))
                        text-anchor="end" { (format!("{:.0} %", v * 100.0)) }
                }
                @for bin in bins {
                    @let share = bin.count as f64 / total;
                    rect class="bar count" x=(bar(bin).0) width=(bar(bin).1)
                        y=(px(counts.at(share))) height=(px(88.0 - counts.at(share))) {
                        title {
                            (format!(
                                "{:.2} to {:.2}: {} ({:.1} %)",
                                bin.from, bin.to, bin.count, share * 100.0
                            ))
                        }
                    }
                }
            }
        }
    }
}

/// A line chart of coverage and accuracy over the abstention threshold. `threshold`: the threshold
/// in use, which a vertical line marks.
pub fn abstention(rows: &[Abstention], threshold: f32) -> Markup {
    let line = |name: &str, of: &dyn Fn(&Abstention) -> Option<f64>| Line {
        name: name.to_owned(),
        points: rows
            .iter()
            .filter_map(|row| Some([f64::from(row.threshold), of(row)?]))
            .collect(),
    };
    let chart = LineChart {
        title: "Abstention by confidence threshold (dashed vertical line: the threshold in use)."
            .into(),
        unit: "share".into(),
        lines: vec![
            line("accuracy of the answered", &|row| row.accuracy),
            line("answered", &|row| Some(row.answered)),
        ],
    };
    lines(&chart, "abstain threshold", Some(f64::from(threshold)))
}

/// The mark of the category with index `category` at the pixel (`x`, `y`). Eight colours and five
/// shapes tell 40 categories apart. `title`: the tooltip.
fn mark(category: usize, [x, y]: [f64; 2], title: Option<String>) -> Markup {
    let shape = [
        "M-3 0A3 3 0 1 0 3 0A3 3 0 1 0 -3 0Z",
        "M-2.7 -2.7H2.7V2.7H-2.7Z",
        "M0 -3.6L3.4 2.6H-3.4Z",
        "M0 -3.8L3.8 0L0 3.8L-3.8 0Z",
        "M0 3.6L3.4 -2.6H-3.4Z",
    ];
    html! {
        path class={ "mark c" (category % COLOURS) }
            transform={ "translate(" (px(x)) " " (px(y)) ")" } d=(shape[category % shape.len()]) {
            @if let Some(title) = title { title { (title) } }
        }
    }
}

/// A scatter plot of a projection, coloured by category, with its legend.
pub fn scatter(projection: &Projection) -> Markup {
    let points = &projection.points;
    let x = Axis::over(points.iter().map(|p| p.x), LEFT + 6.0, RIGHT - 6.0);
    let y = Axis::over(points.iter().map(|p| p.y), BOTTOM - 6.0, TOP + 6.0);
    let name = |category: usize| {
        projection
            .categories
            .get(category)
            .map_or("?", String::as_str)
    };
    let inner = html! {
        @for point in points {
            @let title = format!("{}: {}", point.id, name(point.category));
            (mark(point.category, [x.at(point.x), y.at(point.y)], Some(title)))
        }
    };
    let names = projection.categories.iter().map(String::as_str);
    html! {
        figure {
            figcaption {
                (projection.title) ". " (projection.method)
                @if points.len() < projection.rows {
                    " " (points.len()) " of " (projection.rows) " items."
                }
            }
            (frame(&projection.title, ["", ""], &x, &y, &inner))
            (legend(names.enumerate(), |index| mark(index, [0.0, 0.0], None)))
        }
    }
}

/// A small horizontal error bar: a metric's value and interval on a scale from 0 to 1.
pub fn whisker(value: f64, interval: [f64; 2]) -> Markup {
    let at = |v: f64| px(2.0 + 76.0 * v.clamp(0.0, 1.0));
    html! {
        svg class="whisker" viewBox="0 0 80 8" aria-hidden="true" {
            line class="grid" x1="2" x2="78" y1="4" y2="4" {}
            line class="span" x1=(at(interval[0])) x2=(at(interval[1])) y1="4" y2="4" {}
            circle class="dot c0" cx=(at(value)) cy="4" r="3" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        let axis = Axis {
            low: 0.03,
            high: 1.17,
            from: 0.0,
            to: 100.0,
        };
        assert_eq!(
            axis.ticks().iter().map(|t| tick(*t)).collect::<Vec<_>>(),
            ["0.5", "1"]
        );
        let axis = Axis {
            low: 0.0,
            high: 1.0,
            from: 0.0,
            to: 100.0,
        };
        assert_eq!(
            axis.ticks().iter().map(|t| tick(*t)).collect::<Vec<_>>(),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            (tick(2e-5), tick(123456.0), tick(-0.25)),
            ("2.0e-5".into(), "1.2e5".into(), "-0.25".into())
        );
    }

    #[test]
    fn a_line_has_a_gap_where_the_value_is_nan() {
        let chart = LineChart {
            title: "loss".into(),
            unit: "nats".into(),
            lines: vec![Line {
                name: "a".into(),
                points: vec![[0.0, 1.0], [1.0, f64::NAN], [2.0, 0.5]],
            }],
        };
        let text = lines(&chart, "epoch", None).into_string();
        assert!(
            text.contains("d=\"M58 12M508 258\"") && !text.contains("NaN"),
            "{text}"
        );
        // A line of one point, and one without points.
        for points in [vec![[3.0, 0.0]], vec![]] {
            let chart = LineChart {
                title: "loss".into(),
                unit: "nats".into(),
                lines: vec![Line {
                    name: "a".into(),
                    points,
                }],
            };
            let text = lines(&chart, "epoch", Some(3.0)).into_string();
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}
