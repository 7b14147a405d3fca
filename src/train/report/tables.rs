//! The tables of a report: metrics by subset of modalities, confusion matrix, metrics by label,
//! definitions, examples.

use maud::{Markup, html};

use crate::manifest::Task;
use crate::train::metrics::figure::{Better, LabelMetric, Metric};
use crate::train::metrics::measure::{Estimate, Measurement};
use crate::train::report::chart::whisker;
use crate::train::report::examples::Example;

/// A heading, and whether the metric with a given name belongs under it.
type Group = (&'static str, fn(&str) -> bool);

/// The tables of the summary, in order.
const GROUPS: [Group; 3] = [
    ("The literature's", |name| {
        !is_calibration(name) && !is_reference(name)
    }),
    ("ConCluGen's own, as coded", is_reference),
    ("Calibration and abstention", is_calibration),
];

/// Whether the metric is one of ConCluGen's.
fn is_reference(name: &str) -> bool {
    name.starts_with("reference_")
}

/// Whether the metric belongs to calibration and abstention.
fn is_calibration(name: &str) -> bool {
    ["ece", "brier", "nll", "answered", "answered_accuracy"].contains(&name)
}

/// The summary: tables with a row per subset of modalities and a column per metric. Each cell shows
/// the value and its bootstrap interval; the definition of a metric is the tooltip of its column.
pub fn summary(task: Task, measured: &[Measurement]) -> Markup {
    html! {
        @for (title, belongs) in GROUPS {
            @let metrics = Metric::all(task).filter(|m| m.headline && belongs(m.name));
            @let metrics: Vec<&Metric> = metrics.collect();
            h3 { (title) }
            div class="wide" {
                table class="summary" {
                    thead {
                        tr {
                            th scope="col" { "modalities" }
                            th scope="col" class="number" { "N" }
                            @for metric in &metrics {
                                th scope="col" class="number" title=(metric.definition) {
                                    (parts(metric.name)) (arrow(metric.better))
                                }
                            }
                        }
                    }
                    tbody {
                        @for row in measured {
                            tr {
                                th scope="row" { (row.subset) }
                                td class="number" {
                                    (row.items)
                                    @if row.grouped { small { (row.units) " groups" } }
                                }
                                @for metric in &metrics { (cell(row, metric)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The name of a metric, with possible line breaks after its underscores.
fn parts(name: &str) -> Markup {
    html! { @for part in name.split_inclusive('_') { span class="part" { (part) } } }
}

/// The arrow after a metric's name: whether higher or lower values are better.
fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => " ↑",
        Better::Lower => " ↓",
        Better::Neither => "",
    }
}

/// The cell of the summary for one metric of one subset.
fn cell(row: &Measurement, metric: &Metric) -> Markup {
    let figure = row.figure(metric.name);
    let value = figure.and_then(|f| f.value);
    let value_text = value.map_or(String::new(), |v| v.to_string());
    html! {
        td class="number" data-metric=(metric.name) data-subset=(row.subset)
            data-value=(value_text) {
            @match figure {
                Some(figure) => {
                    (number(figure.value))
                    @if let (Some(value), Some(interval)) = (figure.value, figure.interval) {
                        small { (span(interval)) }
                        @if !["nll", "brier"].contains(&metric.name) { (whisker(value, interval)) }
                    }
                }
                None => "–",
            }
        }
    }
}

/// A value with three decimals; a dash for an undefined value.
pub fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.3}"))
}

/// An interval as text.
fn span([low, high]: [f64; 2]) -> String {
    format!("{low:.3} to {high:.3}")
}

/// A cell with a value and its interval.
fn figure_cell(figure: &Estimate) -> Markup {
    html! {
        td class="number" {
            (number(figure.value))
            @if let Some(interval) = figure.interval { small { (span(interval)) } }
        }
    }
}

/// The confusion matrix with counts and shares of each row. `rows`: counts `[truth][predicted]`.
/// With several labels per item: `[label][true negatives, false positives, false negatives, true
/// positives]`.
pub fn confusion(task: Task, labels: &[String], rows: &[Vec<u64>]) -> Markup {
    let heads: Vec<&str> = if task == Task::Single {
        labels.iter().map(String::as_str).collect()
    } else {
        vec![
            "no, not predicted",
            "no, but predicted",
            "yes, not predicted",
            "yes, predicted",
        ]
    };
    html! {
        figure {
            figcaption {
                @if task == Task::Single {
                    "Confusion matrix: true labels in rows, predicted labels in columns; count and \
                     share of the row."
                } @else {
                    "Per label: true and predicted values; count and share of the items with, or \
                     without, the label."
                }
            }
            div class="wide" {
                table class="confusion" {
                    thead { tr { th {} @for head in &heads { th scope="col" { (head) } } } }
                    tbody {
                        @for (label, row) in labels.iter().zip(rows) {
                            tr {
                                th scope="row" { (label) }
                                @for (column, count) in row.iter().enumerate() {
                                    @let of = if task == Task::Single {
                                        row.iter().sum::<u64>()
                                    } else {
                                        row[column / 2 * 2] + row[column / 2 * 2 + 1]
                                    };
                                    @let share = *count as f64 / of.max(1) as f64;
                                    @let head = &heads[column];
                                    @let title = format!("{label}, {head}: {count} of {of}");
                                    td class=(if share > 0.55 { "heat strong" } else { "heat" })
                                        style={ "--share:" (format!("{share:.3}")) } title=(title) {
                                        (count) small { (format!("{:.0} %", share * 100.0)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The table of the labels: number of items with the label (support), number predicted, metrics.
pub fn labels(task: Task, measured: &Measurement) -> Markup {
    html! {
        div class="wide" {
            table class="labels" {
                thead {
                    tr {
                        th scope="col" { "label" }
                        th scope="col" class="number" title="Items that have the label." {
                            "support"
                        }
                        th scope="col" class="number" title="Items predicted to have the label." {
                            "predicted"
                        }
                        @for metric in LabelMetric::all(task) {
                            th scope="col" class="number" title=(metric.definition) {
                                (parts(metric.name))
                            }
                        }
                    }
                }
                tbody {
                    @for row in &measured.labels {
                        tr {
                            th scope="row" { (row.label) }
                            td class="number" { (row.support) }
                            td class="number" { (row.predicted) }
                            @for figure in &row.figures { (figure_cell(figure)) }
                        }
                    }
                }
            }
        }
    }
}

/// The list of all metrics of one subset of modalities, with intervals.
pub fn figures(measured: &Measurement) -> Markup {
    html! {
        dl class="figures" {
            @for figure in &measured.figures {
                div {
                    dt { code { (figure.metric) } }
                    dd {
                        (number(figure.value))
                        @if let Some(interval) = figure.interval { small { (span(interval)) } }
                    }
                }
            }
        }
    }
}

/// The list of the definitions of all metrics of `task`.
pub fn definitions(task: Task) -> Markup {
    html! {
        dl {
            @for metric in Metric::all(task) {
                dt { code { (metric.name) } }
                dd { (metric.definition) }
            }
        }
        h3 { "Per label" }
        dl {
            @for metric in LabelMetric::all(task) {
                dt { code { (metric.name) } }
                dd { (metric.definition) }
            }
        }
    }
}

/// The table of one list of example items, under the heading `title`.
pub fn examples(title: &str, list: &[Example]) -> Markup {
    let names = |labels: &[String]| {
        if labels.is_empty() {
            "none".to_owned()
        } else {
            labels.join(", ")
        }
    };
    html! {
        h3 { (title) }
        @if list.is_empty() { p { "None." } } @else {
            div class="wide" {
                table class="examples" {
                    thead {
                        tr {
                            th scope="col" { "id" }
                            th scope="col" { "truth" }
                            th scope="col" { "predicted" }
                            th scope="col" class="number" { "confidence" }
                            th scope="col" { "words" }
                        }
                    }
                    tbody {
                        @for example in list {
                            tr {
                                td { code { (example.id) } }
                                td { (names(&example.truth)) }
                                td { (names(&example.predicted)) }
                                td class="number" { (format!("{:.3}", example.confidence)) }
                                td class="words" { (example.text.as_deref().unwrap_or("")) }
                            }
                        }
                    }
                }
            }
        }
    }
}
