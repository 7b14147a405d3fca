//! `evaluate`: what a bundle is worth on pictures, voices and words it has never met, from its ONNX files as the daemon runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::labels::LABELS;
use crate::manifest::{EncoderEntry, Manifest};
use crate::modality::{Modality, Presence};
use crate::preprocess::normalise;
use crate::train::assess::{Answering, Assessment, OfBundle, OfRun, assess};
use crate::train::calibrate::Judged;
use crate::train::card;
use crate::train::conditions::{self, Condition};
use crate::train::confusion::Confusion;
use crate::train::crowd::{self, Crowd};
use crate::train::data::fer::{self, LabelledCrop};
use crate::train::data::voices::Corpus;
use crate::train::data::votes::Votes;
use crate::train::data::{Part, Split};
use crate::train::evidence::Evidence;
use crate::train::fusion::{alone, is_as_counted, judge, only};
use crate::train::misled::{self, Misled};
use crate::train::refused::Refused;
use crate::train::words::{ending, whole};

mod opened;
mod voices;

pub use opened::Opened;
use voices::measure_voice;
pub use voices::{judged_clips, on_the_wire};

/// Measures a bundle or a run on labelled recordings of yours (`extract` puts them into a store), or the default bundle as its card does: on
/// FER2013's PublicTest and its annotators' votes, speakers of RAVDESS and nEMO, and the
/// development sets of MELD and GoEmotions.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  expressd-train evaluate --run runs/ravdess --split test --report report.html\n  expressd-train evaluate --bundle models/default --store stores/mine --split all\n  expressd-train evaluate --bundle models/default"
)]
pub struct EvaluateArgs {
    #[arg(long, default_value = "models/default")]
    pub bundle: PathBuf,
    /// Where FER2013, the voices and the texts lie; `$EXPRESSD_MATERIAL` goes before the default.
    #[arg(long)]
    pub material: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Writes the default bundle's figures into its model card, too, and its pictures beside it.
    #[arg(long, conflicts_with_all = ["run", "store"])]
    pub renew_card: bool,
    /// A run that `finetune` made over stores.
    #[arg(long, conflicts_with = "bundle")]
    pub run: Option<PathBuf>,
    /// Stores of labelled clips, one or several (--store A B). With a run: other stores than its own.
    #[arg(long, num_args = 1..)]
    pub store: Vec<PathBuf>,
    /// With a run or stores: train, val, test or all.
    #[arg(long, default_value = "test")]
    pub split: SplitChoice,
    /// With a run or stores: where the page goes; its numbers go beside it, into a `.json`.
    #[arg(long)]
    pub report: Option<PathBuf>,
}

/// A split, or all clips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SplitChoice {
    Train,
    Val,
    Test,
    All,
}

impl SplitChoice {
    fn split(self) -> Option<Split> {
        match self {
            SplitChoice::Train => Some(Split::Train),
            SplitChoice::Val => Some(Split::Val),
            SplitChoice::Test => Some(Split::Test),
            SplitChoice::All => None,
        }
    }
}

/// On stores: a run, or else the bundle.
fn on_stores(args: &EvaluateArgs) -> anyhow::Result<()> {
    let mut answering: Box<dyn Answering> = match &args.run {
        Some(run) => Box::new(OfRun::open(run)?),
        None => Box::new(OfBundle::open(&args.bundle)?),
    };
    let stores = if args.store.is_empty() {
        answering.own_stores()
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
    assess(&what, answering.as_mut())
}

/// One measured row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub what: String,
    pub n: usize,
    pub classes: usize,
    pub accuracy: f64,
    /// Wilson's interval of the accuracy, 95 %, as if rows were independent.
    pub interval: [f64; 2],
    /// Mean of the classes' recalls.
    pub recall: f64,
    /// Recall of each class by name, with Wilson's interval.
    pub recalls: BTreeMap<String, (f64, [f64; 2])>,
    /// Accuracy by what differs between users.
    pub conditions: Vec<Condition>,
    /// Of faces: beside those who judged the pictures.
    pub crowd: Option<Crowd>,
    /// Of fused answers: what a modality does that is wrong and sure of it.
    pub misled: Option<Misled>,
    #[serde(skip)]
    pub confusion: Confusion,
    /// F1 of the classes weighed by their counts, where that is what others report.
    pub weighted_f1: Option<f64>,
    /// Expected calibration error at the bundle's temperature, and share of answers that are not abstained; where the head answers.
    pub calibration_error: Option<f64>,
    /// What so few rows show of it by chance, were every confidence exactly right.
    pub chance_error: Option<f64>,
    pub answered: Option<f64>,
    /// Accuracy among what was answered.
    pub answered_accuracy: Option<f64>,
}

pub fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    if args.run.is_some() || !args.store.is_empty() {
        return on_stores(args);
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
    let figures = measure(&args.bundle, &material)?;
    if args.renew_card {
        card::renew(&args.bundle, &figures)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    figures.iter().for_each(Figure::print);
    Ok(())
}

/// All figures of a bundle.
pub fn measure(bundle: &Path, material: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut opened = Opened::open(bundle)?;
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
        opened.words.evidence(&meld, Part::Report, whole)?,
    ];
    for subset in Presence::subsets() {
        let name = subset.name();
        let what = match name.as_str() {
            "face" => {
                "head, face alone: FER2013 PublicTest, pictures new to it, each annotator's vote"
                    .to_owned()
            }
            "voice" => "head, voice alone: RAVDESS actors 18-21, each hop".to_owned(),
            "text" => "head, words alone: MELD's development utterances".to_owned(),
            "face+text" => {
                "head, face+text: each of those faces with utterances of its label".to_owned()
            }
            _ => format!("head, {name}: each of those windows with others of its label"),
        };
        let mut figure = head_figure(&mut opened, &what, &all, &subset)?;
        if subset == only(Modality::Face) {
            let logits = alone(&all, Modality::Face, &mut |batch| opened.fuse(batch))?;
            let head = &opened.manifest.head;
            let temperature = head.temperature.get(&name).copied().unwrap_or(1.0);
            figure.crowd = Some(Crowd::of(
                &logits,
                &votes,
                f64::from(temperature),
                f64::from(head.abstain_threshold),
            ));
        }
        figures.push(figure);
    }
    figures.extend(misled::figures(
        &all,
        &opened.manifest.head.clone(),
        &mut |batch| opened.fuse(batch),
    )?);
    let ravdess = std::mem::replace(&mut all[1], other_voices);
    for (subset, what) in [
        (
            only(Modality::Voice),
            "head, voice alone: nEMO speakers IC0 and KS0, each hop",
        ),
        (
            Presence {
                face: true,
                voice: true,
                text: false,
            },
            "head, face+voice: each of nEMO's windows with others of its label",
        ),
    ] {
        figures.push(head_figure(&mut opened, what, &all, &subset)?);
    }
    all[1] = ravdess;
    // What the daemon's window holds of a longer utterance when it has been said.
    all[2] = opened
        .words
        .evidence(&meld, Part::Report, |text| ending(text, length_ms))?;
    let what = format!(
        "head, words alone: what the last {} s of each utterance hold",
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
        .comments(&material.join("text/goemotions"), Part::Report)?;
    let what = "head, words alone: GoEmotions' development comments of one label";
    figures.push(head_figure(&mut opened, what, &all, &only(Modality::Text))?);
    Ok(figures)
}

/// What the bundle's head answers to one subset of modalities.
fn head_figure(
    opened: &mut Opened,
    what: &str,
    all: &[Evidence],
    subset: &Presence,
) -> anyhow::Result<Figure> {
    let mut judged = judge(all, subset, &mut |batch| opened.fuse(batch))?;
    let mut figure = figure_of(what, &judged, &LABELS);
    if is_as_counted(subset) {
        judged = judged.as_counted();
    }
    if *subset == only(Modality::Text) {
        figure.weighted_f1 = judged.metric("f1_weighted");
    }
    let head = &opened.manifest.head;
    let temperature = f64::from(head.temperature.get(&subset.name()).copied().unwrap_or(1.0));
    Ok(figure.with_confidence(&judged, temperature, f64::from(head.abstain_threshold)))
}

impl Figure {
    /// As text on standard output.
    pub fn print(&self) {
        println!(
            "{}: n {}, {} classes: accuracy {:.4} [{:.4}, {:.4}], mean recall {:.4}",
            self.what,
            self.n,
            self.classes,
            self.accuracy,
            self.interval[0],
            self.interval[1],
            self.recall
        );
        if let Some(f1) = self.weighted_f1 {
            println!("    weighted F1 {f1:.4}");
        }
        println!(
            "    {}",
            self.recalls
                .iter()
                .map(|(name, (recall, _))| format!("{name} {recall:.2}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        if let Some(crowd) = &self.crowd {
            println!("{}", crowd.sentences());
        }
        for condition in &self.conditions {
            let [low, high] = condition.interval;
            println!(
                "    {}: n {}, accuracy {:.4} [{low:.4}, {high:.4}]",
                condition.what, condition.n, condition.accuracy
            );
        }
        if let (Some(error), Some(answered), Some(accuracy)) = (
            self.calibration_error,
            self.answered,
            self.answered_accuracy,
        ) {
            println!(
                "    calibration error {error:.3} (by chance alone {:.3}); answers {:.1} %, of those right {accuracy:.4}",
                self.chance_error.unwrap_or(f64::NAN),
                answered * 100.0
            );
        }
        if let Some(misled) = &self.misled {
            println!(
                "    the {} is wrong: {:.1} % follow it, {:.1} % are abstained from; without it {:.4} are right",
                misled.wrong,
                misled.follows * 100.0,
                misled.abstained * 100.0,
                misled.alone
            );
        }
    }

    /// The same with what confidences at `temperature` are worth, and how much is answered from
    /// `threshold` on.
    pub fn with_confidence(mut self, judged: &Judged, temperature: f64, threshold: f64) -> Figure {
        // Of all items, and of those that are right: what is answered.
        let (mut answered, mut right) = (0.0, 0.0);
        for (verdict, (.., share)) in judged.verdicts(temperature).iter().zip(judged.answers()) {
            if verdict.confidence >= threshold {
                answered += share;
                right += if verdict.right { share } else { 0.0 };
            }
        }
        self.calibration_error = Some(judged.calibration_error(temperature));
        self.chance_error = Some(judged.chance_error(temperature));
        self.answered = Some(answered / judged.count().max(1) as f64);
        self.answered_accuracy = Some(right / f64::max(answered, 1.0));
        self
    }
}

/// The face encoder's own classes, where most annotators say one label; its embeddings, and the
/// votes for each.
fn measure_face(
    opened: &mut Opened,
    crops: &[LabelledCrop],
    copies: &[LabelledCrop],
) -> anyhow::Result<(Figure, Evidence, Vec<Votes>)> {
    let settings = opened.face_settings()?.clone();
    let entry = entry(&opened.manifest, "face")?;
    let mut evidence = Evidence::new(entry.dim);
    let mut logits = Vec::new();
    let (voted, _) = fer::voted(crops, Part::Report);
    for sample in &voted {
        let input = normalise(&sample.crop, &settings.normalise);
        let [embedding, row] = Opened::encode(
            &mut opened.face,
            &[settings.channels, settings.size, settings.size],
            &input,
        )?;
        evidence.push_shares(&sample.votes.shares(), embedding.values);
        logits.extend(row.values);
    }
    let names: Vec<&str> = entry.classes.iter().map(String::as_str).collect();
    let votes: Vec<Votes> = voted.iter().map(|c| c.votes).collect();
    let judged = crowd::judged_clear(&logits, &votes);
    let conditions = conditions::faces(opened, crops, copies)?;
    let threshold = opened.manifest.head.abstain_threshold;
    Ok((
        Figure {
            conditions,
            crowd: Some(Crowd::of(&logits, &votes, 1.0, f64::from(threshold))),
            ..figure_of(
                "face encoder: FER2013 PublicTest, pictures new to it, annotators' first choice",
                &judged,
                &names,
            )
        },
        evidence,
        votes,
    ))
}

fn entry(manifest: &Manifest, name: &str) -> anyhow::Result<EncoderEntry> {
    manifest
        .encoder(name)
        .cloned()
        .with_context(|| format!("no encoder {name} in the bundle"))
}

pub fn figure_of(what: &str, judged: &Judged, names: &[&str]) -> Figure {
    let recalls = (judged.recalls().into_iter().zip(judged.sums()))
        .zip(names)
        .filter_map(|((recall, sum), name)| {
            let interval = wilson(recall?, sum.round() as usize);
            Some((name.to_string(), (recall?, interval)))
        });
    Figure {
        what: what.to_owned(),
        n: judged.count(),
        classes: names.len(),
        accuracy: judged.accuracy(),
        interval: wilson(judged.accuracy(), judged.count()),
        recall: judged.recall(),
        recalls: recalls.collect(),
        conditions: Vec::new(),
        crowd: None,
        misled: None,
        confusion: Confusion::of(judged, names),
        weighted_f1: None,
        calibration_error: None,
        chance_error: None,
        answered: None,
        answered_accuracy: None,
    }
}

/// Wilson's interval, 95 %, of a share of `count`.
pub fn wilson(share: f64, count: usize) -> [f64; 2] {
    let (n, z) = (count.max(1) as f64, 1.959964);
    let middle = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    [middle - half, middle + half].map(|bound| (bound / (1.0 + z * z / n)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_the_published_one() {
        // Newcombe (1998), table I, method 3: 81 of 263 and 0 of 20.
        let [low, high] = wilson(81.0 / 263.0, 263);
        assert!(
            (low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4,
            "{low} {high}"
        );
        let [low, high] = wilson(0.0, 20);
        assert!(low == 0.0 && (high - 0.1611).abs() < 1e-4, "{low} {high}");
    }
    #[test]
    fn a_figure_is_read_back_from_json_without_its_confusion_matrix() {
        let logits = vec![2.0, 0.0, 0.0, 1.0, 3.0, 0.5];
        let judged = Judged::new(2, logits, vec![0, 1, 1]);
        let written = figure_of("three rows", &judged, &["happy", "sad"]);
        let json = serde_json::to_string(&written).unwrap();
        let read: Figure = serde_json::from_str(&json).unwrap();
        assert_eq!(read.confusion, Confusion::default());
        let expected = Figure {
            confusion: Confusion::default(),
            ..written
        };
        assert_eq!(read, expected);
    }
}
