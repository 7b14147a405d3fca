//! Evaluates a run or a bundle on feature stores. The results are every metric for each subset of
//! modalities, with confidence intervals, and an HTML report.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

mod predictor;

pub use predictor::{BundlePredictor, Predictor, RunPredictor};

use crate::manifest::Task;
use crate::modality::Modality;
use crate::train::calibrate::low_coverage_warning;
use crate::train::data::Split;
use crate::train::features::Features;
use crate::train::labelled::{LabelledClips, subsets};
use crate::train::metrics::{Bootstrap, MeasureOptions, Measurement, Metric, Predictions, measure};
use crate::train::report::{self, Examples, Origin, Projection, Report, Rows, categories};
use crate::train::windows::unlike_served;

/// Arguments of an evaluation over stores.
#[derive(Clone, Debug)]
pub struct Assessment<'a> {
    /// Path of the evaluated run or bundle, as given on the command line.
    pub measured: &'a Path,
    /// Folders of the feature stores with the labelled clips.
    pub stores: &'a [PathBuf],
    /// The split to evaluate; `None`: all rows.
    pub split: Option<Split>,
    /// The path of the HTML report; `None`: no report is written.
    pub report: Option<&'a Path>,
    /// Whether the metrics are printed as JSON instead of text.
    pub json: bool,
    /// The command line that repeats the evaluation, for the report.
    pub command: String,
}

/// Evaluates a predictor on a split of stores for each subset of modalities, prints the metrics to
/// standard output and writes the report.
///
/// # Errors
/// The stores cannot be read, have no labelled clips of the split, or were made by other encoders
/// than the predictor's. The report cannot be written.
pub fn assess(what: &Assessment<'_>, predictor: &mut dyn Predictor) -> anyhow::Result<()> {
    let features = Features::open(what.stores)?;
    let there: Vec<Modality> = features.modalities().iter().map(|m| m.modality).collect();
    let wanted: Vec<Modality> = predictor
        .modalities()
        .into_iter()
        .filter(|m| there.contains(m))
        .collect();
    ensure!(
        !wanted.is_empty(),
        "the stores hold no modality that {} knows",
        what.measured.display()
    );
    let features = features.with_modalities(&wanted)?;
    ensure!(
        features.spec().fingerprint == predictor.fingerprint(),
        "{} knows embeddings of {}, the stores hold those of {}: extract them with the same \
         encoders",
        what.measured.display(),
        predictor.fingerprint(),
        features.spec().fingerprint
    );
    let labels = predictor.labels().to_vec();
    let map = predictor.label_map(&features.spec().labels);
    let clips = LabelledClips::find(&features, what.split, predictor.task(), &labels, &map)?;
    ensure!(
        !clips.rows.is_empty(),
        "the stores have no labelled clips of the split {}",
        split_name(what.split)
    );
    let mut notes: Vec<String> = unlike_served(&features)
        .map(|rows| {
            format!(
                "Rows of these stores are {rows}: stores of --clips window give figures of what is \
                 served."
            )
        })
        .into_iter()
        .collect();
    let left_out = if predictor.task() == Task::Single {
        LabelledClips::unmapped_counts(&features, what.split, &map)?
    } else {
        Vec::new()
    };
    notes.extend((!left_out.is_empty()).then(|| {
        let counted: Vec<String> = left_out
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        format!(
            "Left out, because the model has no such label: {}.",
            counted.join(", ")
        )
    }));
    let mut measured = Vec::new();
    let mut best: Option<(String, LabelledClips, Predictions)> = None;
    for (name, shown) in subsets(&wanted) {
        let own = clips.with_modalities(&features, &shown, labels.len());
        if own.rows.is_empty() {
            continue;
        }
        let logits = predictor.logits(&features, &own.rows, &shown)?;
        let predictions = Predictions::from_logits(
            labels.clone(),
            logits,
            predictor.temperature(&name),
            own.truth.clone(),
        )?;
        let groups: Vec<String> = own.rows.iter().map(|r| unit_of(&features, *r)).collect();
        let options = MeasureOptions {
            bootstrap: Bootstrap::default(),
            groups: &groups,
            abstain_threshold: predictor.abstain_threshold(),
        };
        measured.push(measure(&name, &predictions, &options));
        // The report shows example clips of the subset of modalities with the most clips. For equal
        // numbers it is the first subset, which has the most modalities.
        if best
            .as_ref()
            .is_none_or(|(_, most, _)| most.rows.len() < own.rows.len())
        {
            best = Some((name, own, predictions));
        }
    }
    notes.extend(best_coverage_warning(&measured));
    notes.iter().for_each(|note| eprintln!("{note}"));
    // The report is written first: a closed pipe on standard output must not prevent it.
    if let Some(path) = what.report {
        let (subset, shown, predictions) = best.context("nothing was measured")?;
        let mut page = report_page(
            what,
            predictor,
            &features,
            measured.clone(),
            &subset,
            &shown,
            &predictions,
        )?;
        page.origin.items = clips.rows.len();
        page.origin.notes.extend(notes);
        let numbers = report::write(path, &page)?;
        eprintln!("wrote {} and {}", path.display(), numbers.display());
    }
    print_measurements(&measured, predictor, what.json)
}

/// The warning that the model abstains from nearly all clips. It is judged by the subset of
/// modalities with the highest share of answers; `None` if that share is not low.
fn best_coverage_warning(measured: &[Measurement]) -> Option<String> {
    let answered = |row: &Measurement| row.figure("answered").and_then(|figure| figure.value);
    let most = measured.iter().filter_map(answered).reduce(f64::max)?;
    low_coverage_warning(most, "these clips")
}

/// The bootstrap unit of a row: its person. For an unknown person in a store of windows it is the
/// recording, which has several rows. Empty: the row is a unit of its own.
fn unit_of(features: &Features, row: usize) -> String {
    let entry = features.entry(row);
    match entry.group.is_empty() && features.spec().has_windows() {
        true => entry.item().to_owned(),
        false => entry.group.clone(),
    }
}

/// The name of a split on the command line.
fn split_name(split: Option<Split>) -> &'static str {
    match split {
        None => "all",
        Some(Split::Train) => "train",
        Some(Split::Val) => "val",
        Some(Split::Test) => "test",
    }
}

/// Prints one measurement per subset of modalities to standard output, as text or JSON.
fn print_measurements(
    measured: &[Measurement],
    predictor: &dyn Predictor,
    json: bool,
) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(measured)?);
        return Ok(());
    }
    for row in measured {
        println!(
            "{}: clips: {}, {}: {}",
            row.subset,
            row.items,
            if row.grouped { "groups" } else { "units" },
            row.units
        );
        for metric in Metric::all(predictor.task()) {
            let Some(figure) = row.figure(metric.name) else {
                continue;
            };
            let Some(value) = figure.value else { continue };
            match figure.interval {
                Some([low, high]) => {
                    println!("    {} {value:.4} [{low:.4}, {high:.4}]", metric.name)
                }
                None => println!("    {} {value:.4}", metric.name),
            }
        }
    }
    Ok(())
}

/// The contents of the report. `subset`: name of the subset of modalities whose `clips` and
/// `predictions` are shown as examples.
fn report_page(
    what: &Assessment<'_>,
    predictor: &mut dyn Predictor,
    features: &Features,
    measured: Vec<Measurement>,
    subset: &str,
    clips: &LabelledClips,
    predictions: &Predictions,
) -> anyhow::Result<Report> {
    let ids: Vec<String> = clips
        .rows
        .iter()
        .map(|r| features.entry(*r).id.clone())
        .collect();
    let texts: Vec<Option<String>> = clips
        .rows
        .iter()
        .map(|r| features.entry(*r).text.clone())
        .collect();
    let (names, category) = categories(predictions);
    let mut projections = Vec::new();
    for (modality, shape) in features.modalities().iter().enumerate() {
        let places: Vec<usize> = (0..clips.rows.len())
            .filter(|p| features.has(clips.rows[*p], modality))
            .collect();
        let rows: Vec<usize> = places.iter().map(|p| clips.rows[*p]).collect();
        let (dim, values) = predictor.representations(features, &rows, modality)?;
        let picked = |all: &[String]| places.iter().map(|p| all[*p].clone()).collect::<Vec<_>>();
        let (own, kinds) = (
            picked(&ids),
            places.iter().map(|p| category[*p]).collect::<Vec<_>>(),
        );
        let title = format!(
            "{} {}",
            shape.modality.name(),
            predictor.representation_name()
        );
        let rows = Rows {
            title: &title,
            values: &values,
            dim,
            ids: &own,
            categories: &names,
            category: &kinds,
        };
        if places.len() >= 3 {
            projections.push(Projection::pca(&rows));
            projections.extend(Projection::tsne(&rows));
        }
    }
    let mut notes = predictor.notes();
    notes.push(format!(
        "Abstains below a confidence of {:.2}. Temperatures and threshold come from other clips \
         than these, unless these are training or selection data.",
        predictor.abstain_threshold()
    ));
    Ok(Report {
        title: predictor.title(),
        origin: Origin {
            measured: what.measured.display().to_string(),
            command: what.command.clone(),
            date: jiff::Zoned::now().date().to_string(),
            stores: what
                .stores
                .iter()
                .map(|p| p.display().to_string())
                .collect(),
            split: split_name(what.split).to_owned(),
            items: clips.rows.len(),
            fingerprint: predictor.fingerprint().to_owned(),
            skipped: features.skipped(),
            notes,
        },
        task: predictor.task(),
        labels: predictor.labels().to_vec(),
        measured,
        training: predictor.training(),
        projections,
        examples: Some(Examples::pick(subset, predictions, &ids, &texts, 8)),
    })
}
