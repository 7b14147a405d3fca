//! `evaluate` over stores, of a run or of a bundle: every figure per modality subset, with intervals, and `report.html`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

mod answering;

pub use answering::{Answering, OfBundle, OfRun};

use crate::manifest::Task;
use crate::modality::{Modality, PerModality};
use crate::train::data::Split;
use crate::train::features::Features;
use crate::train::labelled::Labelled;
use crate::train::metrics::{Bootstrap, Judgements, MeasureOptions, Measured, Metric, measure};
use crate::train::report::{self, Examples, Origin, Projection, Report, Rows, categories};

/// What to measure on, and where the figures go.
#[derive(Clone, Debug)]
pub struct Assessment<'a> {
    /// The run or the bundle, as it was named.
    pub measured: &'a Path,
    pub stores: &'a [PathBuf],
    /// `None`: all rows, whatever split they are of.
    pub split: Option<Split>,
    /// Where the page goes.
    pub report: Option<&'a Path>,
    pub json: bool,
    /// How to measure it again.
    pub command: String,
}

/// Measures what answers on a split of stores.
pub fn assess(what: &Assessment<'_>, answering: &mut dyn Answering) -> anyhow::Result<()> {
    let features = Features::open(what.stores)?;
    let there: Vec<Modality> = features.modalities().iter().map(|m| m.modality).collect();
    let wanted: Vec<Modality> = answering
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
        features.spec().fingerprint == answering.fingerprint(),
        "{} knows embeddings of {}, the stores hold those of {}: extract them with the same encoders",
        what.measured.display(),
        answering.fingerprint(),
        features.spec().fingerprint
    );
    let labels = answering.labels().to_vec();
    let map = answering.label_map(&features.spec().labels);
    let clips = Labelled::find(&features, what.split, answering.task(), &labels, &map)?;
    ensure!(
        !clips.rows.is_empty(),
        "the stores have no labelled clips of the split {}",
        split_name(what.split)
    );
    let left_out = if answering.task() == Task::Single {
        Labelled::left_out(&features, what.split, &map)?
    } else {
        Vec::new()
    };
    let left_out = (!left_out.is_empty()).then(|| {
        let counted: Vec<String> = left_out
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        format!(
            "Left out, since no answer goes by their labels: {}.",
            counted.join(", ")
        )
    });
    if let Some(sentence) = &left_out {
        eprintln!("{sentence}");
    }
    let mut measured = Vec::new();
    let mut best: Option<(String, Labelled, Judgements)> = None;
    for (name, shown) in subsets(&wanted) {
        let own = clips.having(&features, &shown, labels.len());
        if own.rows.is_empty() {
            continue;
        }
        let logits = answering.logits(&features, &own.rows, &shown)?;
        let judged = Judgements::from_logits(
            labels.clone(),
            logits,
            answering.temperature(&name),
            own.truth.clone(),
        )?;
        let groups: Vec<String> = own
            .rows
            .iter()
            .map(|r| features.entry(*r).group.clone())
            .collect();
        let options = MeasureOptions {
            bootstrap: Bootstrap::default(),
            groups: &groups,
            abstain_threshold: answering.abstain_threshold(),
        };
        measured.push(measure(&name, &judged, &options));
        // The page shows items of the subset that has the most; of equal ones, of the largest.
        if best
            .as_ref()
            .is_none_or(|(_, most, _)| most.rows.len() < own.rows.len())
        {
            best = Some((name, own, judged));
        }
    }
    // The page first: whoever reads the figures may stop reading.
    if let Some(path) = what.report {
        let (subset, shown, judged) = best.context("nothing was measured")?;
        let mut page = page(
            what,
            answering,
            &features,
            measured.clone(),
            &subset,
            &shown,
            &judged,
        )?;
        page.origin.items = clips.rows.len();
        page.origin.notes.extend(left_out);
        let numbers = report::write(path, &page)?;
        eprintln!("wrote {} and {}", path.display(), numbers.display());
    }
    print(&measured, answering, what.json)
}

/// The subsets of modalities, the largest first: name, and which are shown.
pub fn subsets(modalities: &[Modality]) -> Vec<(String, Vec<bool>)> {
    let subset = |bits: u32| {
        let shown: Vec<bool> = (0..modalities.len())
            .map(|m| bits & (1 << m) != 0)
            .collect();
        let mut presence = PerModality::<bool>::default();
        modalities
            .iter()
            .zip(&shown)
            .for_each(|(m, shown)| *presence.get_mut(*m) = *shown);
        (presence.name(), shown)
    };
    (1..1 << modalities.len()).rev().map(subset).collect()
}

fn split_name(split: Option<Split>) -> &'static str {
    match split {
        None => "all",
        Some(Split::Train) => "train",
        Some(Split::Val) => "val",
        Some(Split::Test) => "test",
    }
}

fn print(measured: &[Measured], answering: &dyn Answering, json: bool) -> anyhow::Result<()> {
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
        for metric in Metric::all(answering.task()) {
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

fn page(
    what: &Assessment<'_>,
    answering: &mut dyn Answering,
    features: &Features,
    measured: Vec<Measured>,
    subset: &str,
    clips: &Labelled,
    judged: &Judgements,
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
    let (names, category) = categories(judged);
    let mut projections = Vec::new();
    for (modality, shape) in features.modalities().iter().enumerate() {
        let places: Vec<usize> = (0..clips.rows.len())
            .filter(|p| features.has(clips.rows[*p], modality))
            .collect();
        let rows: Vec<usize> = places.iter().map(|p| clips.rows[*p]).collect();
        let (dim, values) = answering.representations(features, &rows, modality)?;
        let picked = |all: &[String]| places.iter().map(|p| all[*p].clone()).collect::<Vec<_>>();
        let (own, kinds) = (
            picked(&ids),
            places.iter().map(|p| category[*p]).collect::<Vec<_>>(),
        );
        let title = format!("{} {}", shape.modality.name(), answering.represented());
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
    let mut notes = answering.notes();
    notes.push(format!(
        "Abstains under a confidence of {:.2}; temperatures and threshold come from other clips than these, unless these taught it.",
        answering.abstain_threshold()
    ));
    Ok(Report {
        title: answering.title(),
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
            fingerprint: answering.fingerprint().to_owned(),
            skipped: features.skipped(),
            notes,
        },
        task: answering.task(),
        labels: answering.labels().to_vec(),
        measured,
        training: answering.training(),
        projections,
        examples: Some(Examples::pick(subset, judged, &ids, &texts, 8)),
    })
}
