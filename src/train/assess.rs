//! `evaluate` of a run over stores: every figure per modality subset, with intervals, and `report.html`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::train::checkpoint::Progress;
use crate::train::classify::{self, ClassifierRun, HeadCalibration, Recognition, inputs, logits, subsets};
use crate::train::data::Split;
use crate::train::features::Features;
use crate::train::fit::{device, values};
use crate::train::labelled::Labelled;
use crate::train::metrics::{Bootstrap, Judgements, MeasureOptions, Measured, Metric, measure};
use crate::train::report::{self, Examples, Line, LineChart, Origin, Projection, Report, Rows, Training, categories};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Assessment<'a> {
    pub run: &'a Path,
    /// Other stores than the run's.
    pub stores: &'a [PathBuf],
    pub split: Split,
    /// Where the page goes.
    pub report: Option<&'a Path>,
    pub json: bool,
}

/// Measures a run's best weights on a split of stores.
pub fn assess(what: &Assessment<'_>) -> anyhow::Result<()> {
    let (run, net, calibration, progress) = classify::load(what.run)?;
    let paths = if what.stores.is_empty() { classify::stores_of(&run) } else { what.stores.to_vec() };
    let wanted: Vec<_> = run.heads.modalities.iter().map(|m| m.modality).collect();
    let features = Features::open(&paths)?.with_modalities(&wanted)?;
    ensure!(
        features.spec().fingerprint == run.fingerprint,
        "the run knows embeddings of {}, the stores hold those of {}: extract them with the same encoders",
        run.fingerprint,
        features.spec().fingerprint
    );
    let clips = Labelled::find(&features, what.split, run.recipe.task, &run.labels, &run.recipe.label_map)?;
    ensure!(!clips.rows.is_empty(), "the stores have no labelled clips of the split {:?}", what.split);
    let mut measured = Vec::new();
    let mut best: Option<(Labelled, Judgements)> = None;
    for (name, shown) in subsets(&run.heads) {
        let own = clips.having(&features, &shown, run.labels.len());
        if own.rows.is_empty() {
            continue;
        }
        let temperature = calibration.subsets.get(&name).map_or(1.0, |c| c.temperature);
        let judged = Judgements::from_logits(run.labels.clone(), logits(&net, &features, &own.rows, &shown)?, temperature, own.truth.clone())?;
        let groups: Vec<String> = own.rows.iter().map(|r| features.entry(*r).group.clone()).collect();
        let options = MeasureOptions { bootstrap: Bootstrap::default(), groups: &groups, abstain_threshold: calibration.abstain_threshold };
        measured.push(measure(&name, &judged, &options));
        best.get_or_insert((own, judged));
    }
    print(&measured, &run, what.json)?;
    if let Some(path) = what.report {
        let (clips, judged) = best.context("nothing was measured")?;
        let page = page(what, &run, &net, &calibration, &progress, &features, &paths, measured, &clips, &judged)?;
        let numbers = report::write(path, &page)?;
        println!("wrote {} and {}", path.display(), numbers.display());
    }
    Ok(())
}

fn print(measured: &[Measured], run: &ClassifierRun, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(measured)?);
        return Ok(());
    }
    for row in measured {
        println!("{}: {} clips, {} {}", row.subset, row.items, row.units, if row.grouped { "groups" } else { "units" });
        for metric in Metric::all(run.recipe.task) {
            let Some(figure) = row.figure(metric.name) else { continue };
            let Some(value) = figure.value else { continue };
            match figure.interval {
                Some([low, high]) => println!("    {} {value:.4} [{low:.4}, {high:.4}]", metric.name),
                None => println!("    {} {value:.4}", metric.name),
            }
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn page(
    what: &Assessment<'_>,
    run: &ClassifierRun,
    net: &Recognition,
    calibration: &HeadCalibration,
    progress: &Progress,
    features: &Features,
    paths: &[PathBuf],
    measured: Vec<Measured>,
    clips: &Labelled,
    judged: &Judgements,
) -> anyhow::Result<Report> {
    let ids: Vec<String> = clips.rows.iter().map(|r| features.entry(*r).id.clone()).collect();
    let texts: Vec<Option<String>> = clips.rows.iter().map(|r| features.entry(*r).text.clone()).collect();
    let (names, category) = categories(judged);
    let mut projections = Vec::new();
    for (modality, shape) in run.heads.modalities.iter().enumerate() {
        let places: Vec<usize> = (0..clips.rows.len()).filter(|p| features.has(clips.rows[*p], modality)).collect();
        let mut representations = Vec::new();
        for rows in places.iter().map(|p| clips.rows[*p]).collect::<Vec<_>>().chunks(512) {
            let shown = vec![true; run.heads.modalities.len()];
            let (embeddings, _) = inputs(features, rows, &shown, &device(), None)?;
            representations.extend(values(net.heads.forward(modality, embeddings[modality].clone()))?);
        }
        let picked = |all: &[String]| places.iter().map(|p| all[*p].clone()).collect::<Vec<_>>();
        let (own, kinds) = (picked(&ids), places.iter().map(|p| category[*p]).collect::<Vec<_>>());
        let title = format!("{} representations", shape.modality.name());
        let rows = Rows { title: &title, values: &representations, dim: run.heads.representation, ids: &own, categories: &names, category: &kinds };
        if places.len() >= 3 {
            projections.push(Projection::pca(&rows));
            projections.extend(Projection::tsne(&rows));
        }
    }
    let chart = |title: &str, unit: &str, wanted: &dyn Fn(&str) -> bool| {
        let points = |values: &[f64]| values.iter().enumerate().map(|(i, v)| [i as f64, *v]).collect();
        let lines = progress.curves.iter().filter(|(name, _)| wanted(name)).map(|(name, values)| Line { name: name.clone(), points: points(values) });
        LineChart { title: title.into(), unit: unit.into(), lines: lines.collect() }
    };
    let charts = vec![chart("Loss", "loss", &|name| !name.starts_with("selection")), chart("Selection", "figure", &|name| name.starts_with("selection"))];
    let split = serde_json::to_value(what.split)?.as_str().unwrap_or_default().to_owned();
    Ok(Report {
        title: format!("{}: {}", run.recipe.name, run.dataset),
        origin: Origin {
            measured: what.run.display().to_string(),
            command: format!("expressd-train evaluate --run {} --split {split}", what.run.display()),
            date: jiff::Zoned::now().date().to_string(),
            stores: paths.iter().map(|p| p.display().to_string()).collect(),
            split,
            items: clips.rows.len(),
            fingerprint: run.fingerprint.clone(),
            skipped: features.skipped(),
            notes: vec![
                format!("Profile {:?}; heads {}.", run.recipe.profile, run.from.as_deref().map_or("began at random".into(), |f| format!("from {f}")))
                    .to_lowercase(),
                format!("Abstains under a confidence of {:.2}; temperatures and threshold come from the validation split.", calibration.abstain_threshold),
            ],
        },
        task: run.recipe.task,
        labels: run.labels.clone(),
        measured,
        training: Some(Training { axis: "epoch".into(), charts, chosen: progress.best.map(|b| b as f64) }),
        projections,
        examples: Some(Examples::pick("all", judged, &ids, &texts, 8)),
    })
}
