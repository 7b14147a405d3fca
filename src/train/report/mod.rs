//! The report of `evaluate`: `report.html`, all metrics on one self-contained page, and
//! `report.json` in the same folder, every number.
//!
//! The page consists of HTML with inline SVG and CSS. It loads no script, font or other file. Equal
//! [`Report`]s give equal bytes: the date is a field of [`Origin`] and not read from the clock.

pub mod chart;
pub mod examples;
pub mod projection;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;
use thiserror::Error;

use crate::manifest::Task;
use crate::train::metrics::figure::{LabelMetric, Metric};
use crate::train::metrics::measure::Measurement;

pub use examples::{Example, Examples};
pub use projection::{Projection, Rows, categories};

/// The content of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    pub origin: Origin,
    /// Whether each item has exactly one label or any number of labels.
    pub task: Task,
    /// Names of the labels, in the order of the scores.
    pub labels: Vec<String>,
    /// The metrics of each subset of modalities. On the page, the section of the subset with the
    /// most items is unfolded (the first one of a tie).
    pub measured: Vec<Measurement>,
    /// The training curves; `None`: they are unknown, as for a bundle.
    pub training: Option<Training>,
    /// Scatter plots of embeddings or representations.
    pub projections: Vec<Projection>,
    /// Example items; `None`: the section is left out.
    pub examples: Option<Examples>,
}

/// Origin of the metrics of a report: the command and the data that reproduce them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Origin {
    /// Folder of the evaluated run or bundle.
    pub measured: String,
    /// The command line of the evaluation.
    pub command: String,
    /// The date of the evaluation as text.
    pub date: String,
    /// The feature stores, each with its data set.
    pub stores: Vec<String>,
    /// Name of the evaluated split, for example `test`.
    pub split: String,
    /// Number of evaluated items.
    pub items: usize,
    /// Hash of the encoders and their preprocessing, by which the stores were extracted.
    pub fingerprint: String,
    /// Number of items that were not evaluated, by reason.
    pub skipped: BTreeMap<String, usize>,
    /// Notes for the reader of the page, one sentence each.
    pub notes: Vec<String>,
}

/// The training curves of a run, for the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Training {
    /// The name of the horizontal axis: `epoch` or `step`.
    pub axis: String,
    /// Charts of losses, selection metric and learning rate.
    pub charts: Vec<LineChart>,
    /// The epoch or step of the selected weights, on the horizontal axis; `None`: unknown.
    pub chosen: Option<f64>,
}

/// A chart of several lines with the same axes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LineChart {
    /// Caption of the chart.
    pub title: String,
    /// The name of the vertical axis.
    pub unit: String,
    pub lines: Vec<Line>,
}

/// One line of a [`LineChart`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Points `[x, y]`, by ascending x; a y that is not finite leaves a gap in the line.
    pub points: Vec<[f64; 2]>,
}

/// Why a report could not be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file or its folder could not be written.
    #[error("{} cannot be written; choose another path with --report", .path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Writes the page to `path`, and its numbers to a JSON file of the same name (`report.html` →
/// `report.json`). Creates the folder if it is missing. Returns the path of the JSON file.
///
/// # Errors
/// A file or the folder cannot be written.
pub fn write(path: &Path, report: &Report) -> Result<PathBuf, ReportError> {
    let json = path.with_extension("json");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| ReportError::Write {
            path: path.to_owned(),
            source,
        })?;
    }
    let put = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|source| ReportError::Write {
            path: path.to_owned(),
            source,
        })
    };
    put(path, render(report))?;
    put(&json, numbers(report))?;
    Ok(json)
}

/// The JSON text of a report: all its fields, and the definitions of the metrics.
pub fn numbers(report: &Report) -> String {
    #[derive(Serialize)]
    struct Numbers<'a> {
        #[serde(flatten)]
        report: &'a Report,
        definitions: BTreeMap<&'static str, &'static str>,
        label_definitions: BTreeMap<&'static str, &'static str>,
    }
    let definitions = Metric::all(report.task)
        .map(|m| (m.name, m.definition))
        .collect();
    let label_definitions = LabelMetric::all(report.task)
        .map(|m| (m.name, m.definition))
        .collect();
    let numbers = Numbers {
        report,
        definitions,
        label_definitions,
    };
    serde_json::to_string_pretty(&numbers).expect("numbers and names serialise") + "\n"
}

/// The HTML page of a report.
pub fn render(report: &Report) -> String {
    let most = report.measured.iter().map(|measured| measured.items).max();
    let shown = report
        .measured
        .iter()
        .position(|measured| Some(measured.items) == most);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                h1 { (report.title) }
                (origin(&report.origin))
                h2 { "Summary" }
                p { (intervals(&report.measured)) }
                (tables::summary(report.task, &report.measured))
                @if let Some(training) = &report.training {
                    h2 { "Training" }
                    div class="charts" {
                        @for line_chart in &training.charts {
                            (chart::lines(line_chart, &training.axis, training.chosen))
                        }
                    }
                }
                h2 { "By modality subset" }
                @for (index, measured) in report.measured.iter().enumerate() {
                    (subset(report, measured, Some(index) == shown))
                }
                @if !report.projections.is_empty() {
                    h2 { "Representations" }
                    div class="charts" {
                        @for projection in &report.projections { (chart::scatter(projection)) }
                    }
                }
                @if let Some(examples) = &report.examples {
                    h2 { "Examples by confidence (" (examples.subset) ")" }
                    (tables::examples("Most confident and right", &examples.confident_right))
                    (tables::examples("Most confident and wrong", &examples.confident_wrong))
                    (tables::examples("Least confident", &examples.least_confident))
                }
                h2 { "What the names mean" }
                (tables::definitions(report.task))
            }
        }
    };
    page.into_string() + "\n"
}

/// A number of items as text, such as "3 items".
fn counted(items: usize) -> String {
    format!("{items} {}", if items == 1 { "item" } else { "items" })
}

/// The list of [`Origin`] at the top of the page.
fn origin(origin: &Origin) -> Markup {
    let skipped = origin.skipped.iter();
    let skipped: Vec<_> = skipped
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    html! {
        dl class="origin" {
            dt { "measured" } dd { (origin.measured) }
            dt { "by" } dd { code { (origin.command) } }
            dt { "on" } dd { (origin.date) }
            dt { "store" } dd { (origin.stores.join("; ")) }
            dt { "split" } dd { (origin.split) ", " (counted(origin.items)) }
            dt { "fingerprint" } dd { code { (origin.fingerprint) } }
            @if !skipped.is_empty() {
                dt { "left out" }
                dd { (skipped.join(", ")) }
            }
            @for note in &origin.notes { dt { "note" } dd { (note) } }
        }
    }
}

/// The sentences that explain the intervals and marks of the summary table.
fn intervals(measured: &[Measurement]) -> String {
    let Some(first) = measured.first() else {
        return "Nothing was measured.".into();
    };
    let drawn = if first.grouped {
        "whole groups (speakers) are drawn, because items of one speaker are dependent"
    } else {
        "items are drawn"
    };
    format!(
        "In small print: the {:.0} % percentile interval of {} bootstrap resamples; {drawn}. ↑: \
         higher is better, ↓: lower is better. –: undefined, because items are missing. \
         Definitions: at the end, and on hover.",
        first.level * 100.0,
        first.resamples
    )
}

/// The section of one subset of modalities; `open`: it is unfolded.
fn subset(report: &Report, measured: &Measurement, open: bool) -> Markup {
    let what = if report.task == Task::Single {
        "probability of the top label against accuracy"
    } else {
        "probability of each label against the share of items that have it"
    };
    let inner = html! {
        summary { (measured.subset) ", " (counted(measured.items)) }
        (tables::confusion(report.task, &report.labels, &measured.confusion))
        div class="charts" {
            (chart::reliability(&measured.reliability, what))
            (chart::abstention(&measured.abstention, measured.abstain_threshold))
        }
        h3 { "Per label" }
        (tables::labels(report.task, measured))
        h3 { "All figures" }
        (tables::figures(measured))
    };
    if open {
        html! { details open="open" { (inner) } }
    } else {
        html! { details { (inner) } }
    }
}

#[cfg(test)]
mod tests;
