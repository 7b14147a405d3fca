//! The command `evaluate`: metrics of a bundle on held-out pictures, voices and texts. The bundle's
//! ONNX files are run as in the daemon.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::ValueEnum;

use crate::labels::LABELS;
use crate::modality::{Modality, Presence};
use crate::preprocess::normalise;
use crate::train::annotators::{self, AnnotatorAgreement};
use crate::train::assess::{Assessment, BundlePredictor, Predictor, RunPredictor, assess};
use crate::train::calibrate::low_coverage_warning;
use crate::train::card;
use crate::train::conflict;
use crate::train::data::fer::{self, LabelledCrop};
use crate::train::data::speech_clip::Corpus;
use crate::train::data::votes::Votes;
use crate::train::data::{Part, Split};
use crate::train::embeddings::LabelledEmbeddings;
use crate::train::figure::Figure;
use crate::train::fusion::{
    evaluate_subset, is_evaluated_unweighted, only, single_modality_logits,
};
use crate::train::opened_bundle::{OpenedBundle, entry};
use crate::train::refused::Refused;
use crate::train::sentences::{last_words, whole_text};
use crate::train::staged_bundle::refuse_existing;
use crate::train::subgroups;

mod voices;

use voices::measure_voice;

/// Measures a bundle or a run on your own labelled recordings (`extract` puts them into a store),
/// or the default bundle as its card does: on FER2013's PublicTest and its annotators' votes,
/// speakers of RAVDESS and nEMO, and the development sets of MELD and GoEmotions.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  expressd-train evaluate --run runs/ravdess --split test --report \
                  report.html\n  expressd-train evaluate --bundle models/default --store \
                  stores/mine --split all\n  expressd-train evaluate --bundle models/default"
)]
pub struct EvaluateArgs {
    /// Folder of the bundle to measure.
    #[arg(long, default_value = "models/default")]
    pub bundle: PathBuf,
    /// Folder with FER2013, the voices and the texts; `$EXPRESSD_MATERIAL` takes precedence over
    /// the default.
    #[arg(long)]
    pub material: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Also writes the default bundle's figures into its model card, and the confusion matrices
    /// beside it.
    #[arg(long, conflicts_with_all = ["run", "store"])]
    pub renew_card: bool,
    /// Folder of a run that `finetune` made over stores: measure it instead of a bundle.
    #[arg(long, conflicts_with = "bundle")]
    pub run: Option<PathBuf>,
    /// Folders of stores with labelled clips, one or several (--store A B). Without it, a run is
    /// measured on its own stores.
    #[arg(long, num_args = 1..)]
    pub store: Vec<PathBuf>,
    /// With a run or stores: the split to measure (train, val, test or all).
    #[arg(long, default_value = "test")]
    pub split: SplitChoice,
    /// With a run or stores: file of the HTML report; its numbers are written beside it as `.json`.
    #[arg(long)]
    pub report: Option<PathBuf>,
}

/// The clips to evaluate: those of one split, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SplitChoice {
    Train,
    Val,
    Test,
    All,
}

impl SplitChoice {
    /// The split; `None`: clips of every split.
    fn split(self) -> Option<Split> {
        match self {
            SplitChoice::Train => Some(Split::Train),
            SplitChoice::Val => Some(Split::Val),
            SplitChoice::Test => Some(Split::Test),
            SplitChoice::All => None,
        }
    }
}

/// Evaluates a run, or else a bundle, on stores. Without `--store` the stores are those of the run.
fn evaluate_on_stores(args: &EvaluateArgs) -> anyhow::Result<()> {
    let mut predictor: Box<dyn Predictor> = match &args.run {
        Some(run) => Box::new(RunPredictor::open(run)?),
        None => Box::new(BundlePredictor::open(&args.bundle)?),
    };
    let stores = if args.store.is_empty() {
        predictor.training_stores()
    } else {
        args.store.clone()
    };
    let (kind, measured) = args
        .run
        .as_ref()
        .map_or(("bundle", &args.bundle), |run| ("run", run));
    let named: String = args
        .store
        .iter()
        .map(|store| format!(" --store {}", store.display()))
        .collect();
    let split = args.split.to_possible_value().expect("none is hidden");
    let command = format!(
        "expressd-train evaluate --{kind} {}{named} --split {}",
        measured.display(),
        split.get_name()
    );
    let what = Assessment {
        measured,
        stores: &stores,
        split: args.split.split(),
        report: args.report.as_deref(),
        json: args.json,
        command,
    };
    assess(&what, predictor.as_mut())
}

/// Evaluates a bundle on the public data sets, or a run or bundle on stores. Prints the metrics,
/// and writes the model card or the report if requested.
///
/// # Errors
/// The bundle, run, stores or data sets cannot be read, or the arguments contradict each other.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    if args.run.is_some() || !args.store.is_empty() {
        return evaluate_on_stores(args);
    }
    ensure!(
        args.report.is_none(),
        Refused("--report takes figures of a run or of stores: name --run or --store".into())
    );
    let material = args
        .material
        .clone()
        .or_else(|| Some(std::env::var_os("EXPRESSD_MATERIAL")?.into()))
        .unwrap_or_else(|| "../shared/material".into());
    if args.renew_card {
        // Checked before the measurement, which takes minutes.
        refuse_existing(&args.bundle, true)?;
    }
    let figures = measure(&args.bundle, &material)?;
    if args.renew_card {
        card::renew(&args.bundle, &figures)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    figures.iter().for_each(Figure::print);
    let answered = figures.iter().filter_map(|figure| figure.answered);
    let most = answered.reduce(f64::max);
    if let Some(sentence) = most.and_then(|most| low_coverage_warning(most, "these rows")) {
        println!("{sentence}");
    }
    Ok(())
}

/// All figures of the model card, measured on the bundle in the folder `bundle` with the data sets
/// in `material`.
///
/// # Errors
/// The bundle cannot be opened, or a data set is missing.
pub fn measure(bundle: &Path, material: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut opened = OpenedBundle::open(bundle)?;
    let crops = fer::read(
        &material.join("faces/fer2013_training_publictest.tar.xz"),
        Some(&material.join("faces/ferplus_votes.csv")),
    )?;
    let (copies, crops): (Vec<_>, Vec<_>) = crops
        .into_iter()
        .filter(|c| c.part == Part::Report)
        .partition(|c| c.is_copy);
    let (face_figure, faces, votes) = measure_face(&mut opened, &crops, &copies)?;
    let (voice_figure, voices) = measure_voice(&mut opened, material, Corpus::Ravdess)?;
    let (other_figure, other_voices) = measure_voice(&mut opened, material, Corpus::Nemo)?;
    let mut figures = vec![face_figure, voice_figure, other_figure];
    let (meld, length_ms) = (
        material.join("annotations/meld"),
        opened.manifest.window.length_ms,
    );
    let mut all = [
        faces,
        voices,
        opened
            .words
            .embed_utterances(&meld, Part::Report, whole_text)?,
    ];
    for subset in Presence::subsets() {
        let name = subset.name();
        let what = match name.as_str() {
            "face" => "head, face alone: FER2013 PublicTest (deduplicated), all votes".to_owned(),
            "voice" => "head, voice alone: RAVDESS actors 18-21, per hop".to_owned(),
            "text" => "head, text alone: MELD development utterances".to_owned(),
            "face+text" => {
                "head, face+text: these faces, combined with utterances of their label".to_owned()
            }
            "face+voice" => {
                "head, face+voice: RAVDESS windows, combined with faces of their label".to_owned()
            }
            "voice+text" => {
                "head, voice+text: RAVDESS windows, combined with utterances of their label"
                    .to_owned()
            }
            _ => format!(
                "head, {name}: RAVDESS windows, combined with faces and utterances of their label"
            ),
        };
        let mut figure = head_figure(&mut opened, &what, &all, &subset)?;
        if subset == only(Modality::Face) {
            let logits =
                single_modality_logits(&all, Modality::Face, &mut |batch| opened.fuse(batch))?;
            let head = &opened.manifest.head;
            let temperature = head.temperature.get(&name).copied().unwrap_or(1.0);
            figure.annotators = Some(AnnotatorAgreement::new(
                &logits,
                &votes,
                f64::from(temperature),
                f64::from(head.abstain_threshold),
            ));
        }
        figures.push(figure);
    }
    figures.extend(conflict::figures(
        &all,
        &opened.manifest.head.clone(),
        &mut |batch| opened.fuse(batch),
    )?);
    let ravdess = std::mem::replace(&mut all[1], other_voices);
    for (subset, what) in [
        (
            only(Modality::Voice),
            "head, voice alone: nEMO speakers IC0 and KS0, per hop",
        ),
        (
            Presence {
                face: true,
                voice: true,
                text: false,
            },
            "head, face+voice: nEMO windows, combined with faces of their label",
        ),
    ] {
        figures.push(head_figure(&mut opened, what, &all, &subset)?);
    }
    all[1] = ravdess;
    // Only the words that the daemon's window holds at the end of each utterance.
    all[2] = opened
        .words
        .embed_utterances(&meld, Part::Report, |text| last_words(text, length_ms))?;
    let what = format!(
        "head, text alone: MELD development utterances, words of the last {} s",
        f64::from(length_ms) / 1000.0
    );
    figures.push(head_figure(
        &mut opened,
        &what,
        &all,
        &only(Modality::Text),
    )?);
    all[2] = opened
        .words
        .embed_comments(&material.join("text/goemotions"), Part::Report)?;
    let what = "head, text alone: GoEmotions development comments with one label";
    figures.push(head_figure(&mut opened, what, &all, &only(Modality::Text))?);
    Ok(figures)
}

/// Metrics of the bundle's head on one subset of modalities. `what`: name of model and test data;
/// `all`: test embeddings of each modality, in the order of [`Modality::ALL`].
fn head_figure(
    opened: &mut OpenedBundle,
    what: &str,
    all: &[LabelledEmbeddings],
    subset: &Presence,
) -> anyhow::Result<Figure> {
    let mut predictions = evaluate_subset(all, subset, &mut |batch| opened.fuse(batch))?;
    let mut figure = Figure::from_predictions(what, &predictions, &LABELS);
    if is_evaluated_unweighted(subset) {
        predictions = predictions.unweighted();
    }
    if *subset == only(Modality::Text) {
        figure.weighted_f1 = predictions.metric("f1_weighted");
    }
    let head = &opened.manifest.head;
    let temperature = f64::from(head.temperature.get(&subset.name()).copied().unwrap_or(1.0));
    Ok(figure.with_confidence(&predictions, temperature, f64::from(head.abstain_threshold)))
}

/// Measures the face encoder's own classes on pictures with a majority label. Returns the figure,
/// and the embeddings and votes of all pictures with votes. `copies`: pictures with an identical
/// copy in the training data, for a subgroup of their own.
fn measure_face(
    opened: &mut OpenedBundle,
    crops: &[LabelledCrop],
    copies: &[LabelledCrop],
) -> anyhow::Result<(Figure, LabelledEmbeddings, Vec<Votes>)> {
    let settings = opened.face_settings()?.clone();
    let entry = entry(&opened.manifest, "face")?;
    let mut labelled = LabelledEmbeddings::new(entry.dim);
    let mut logits = Vec::new();
    let (voted, _) = fer::with_votes(crops, Part::Report);
    for sample in &voted {
        let input = normalise(&sample.crop, &settings.normalise);
        let [embedding, row] = OpenedBundle::encode(
            &mut opened.face,
            &[settings.channels, settings.size, settings.size],
            &input,
        )?;
        labelled.push_shares(&sample.votes.shares(), embedding.values);
        logits.extend(row.values);
    }
    let names: Vec<&str> = entry.classes.iter().map(String::as_str).collect();
    let votes: Vec<Votes> = voted.iter().map(|c| c.votes).collect();
    let predictions = annotators::majority_predictions(&logits, &votes);
    let subgroups = subgroups::faces(opened, crops, copies)?;
    let threshold = opened.manifest.head.abstain_threshold;
    Ok((
        Figure {
            subgroups,
            annotators: Some(AnnotatorAgreement::new(
                &logits,
                &votes,
                1.0,
                f64::from(threshold),
            )),
            ..Figure::from_predictions(
                "face encoder: FER2013 PublicTest (deduplicated), majority label",
                &predictions,
                &names,
            )
        },
        labelled,
        votes,
    ))
}
