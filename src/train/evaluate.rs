//! `evaluate`: what a bundle is worth on pictures, voices and words it has never met, from its ONNX files as the daemon runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::encode::{Graph, GraphFiles, Input, Output, Precision, Provider, Runtime};
use crate::labels::{LABELS, RAVDESS, label_index};
use crate::modality::{Modality, Presence};
use crate::model::Encoder;
use crate::model::manifest::{EncoderEntry, FacePreprocessing, Manifest, hex_sha256};
use crate::preprocess::{LogMel, Tokenizer, normalise};
use crate::train::assess::{Answering, Assessment, OfBundle, OfRun, assess};
use crate::train::calibrate::Judged;
use crate::train::card;
use crate::train::conditions::{self, Condition};
use crate::train::confusion::Confusion;
use crate::train::data::fer::{self, LabelledCrop};
use crate::train::data::ravdess;
use crate::train::data::{Part, Split};
use crate::train::evidence::Evidence;
use crate::train::fusion::{HeadBatch, judge, only};
use crate::train::refused::Refused;
use crate::train::samples::{live_windows, milliseconds, windows};
use crate::train::words::{Words, ending, whole};

/// Measures a bundle or a run on labelled recordings of yours (`extract` puts them into a store), or the default bundle as its card does: on
/// FER2013's PublicTest, RAVDESS's actors 18 to 21 and MELD's development utterances.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  expressd-train evaluate --run runs/ravdess --split test --report report.html\n  expressd-train evaluate --bundle models/default --store stores/mine --split all\n  expressd-train evaluate --bundle models/default"
)]
pub struct EvaluateArgs {
    #[arg(long, default_value = "models/default")]
    pub bundle: PathBuf,
    /// Where FER2013, RAVDESS and MELD's tables lie; `$EXPRESSD_MATERIAL` goes before the default.
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

fn no_confusion() -> Confusion {
    Confusion::of(&Judged::new(0, Vec::new(), Vec::new()), &[])
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
    #[serde(skip, default = "no_confusion")]
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
    for figure in &figures {
        println!(
            "{}: n {}, {} classes: accuracy {:.4} [{:.4}, {:.4}], mean recall {:.4}",
            figure.what,
            figure.n,
            figure.classes,
            figure.accuracy,
            figure.interval[0],
            figure.interval[1],
            figure.recall
        );
        if let Some(f1) = figure.weighted_f1 {
            println!("    weighted F1 {f1:.4}");
        }
        println!(
            "    {}",
            figure
                .recalls
                .iter()
                .map(|(name, (recall, _))| format!("{name} {recall:.2}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        for condition in &figure.conditions {
            let [low, high] = condition.interval;
            println!(
                "    {}: n {}, accuracy {:.4} [{low:.4}, {high:.4}]",
                condition.what, condition.n, condition.accuracy
            );
        }
        if let (Some(error), Some(answered), Some(accuracy)) = (
            figure.calibration_error,
            figure.answered,
            figure.answered_accuracy,
        ) {
            println!(
                "    calibration error {error:.3} (by chance alone {:.3}); answers {:.1} %, of those right {accuracy:.4}",
                figure.chance_error.unwrap_or(f64::NAN),
                answered * 100.0
            );
        }
    }
    Ok(())
}

/// A bundle's manifest and graphs, each checked against its hash: what the daemon opens on a CPU.
pub struct Opened {
    pub manifest: Manifest,
    pub face: Graph,
    pub voice: Graph,
    pub words: Words,
    pub head: Graph,
}

impl Opened {
    pub fn open(folder: &Path) -> anyhow::Result<Opened> {
        Opened::open_in(folder, Precision::Int8)
    }

    /// Encoders in eight bits where there are such and `precision` wants them.
    pub fn open_in(folder: &Path, precision: Precision) -> anyhow::Result<Opened> {
        let path = folder.join("manifest.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let manifest: Manifest =
            toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        let faults = manifest.faults();
        ensure!(
            faults.is_empty(),
            "{}: {}",
            path.display(),
            faults.join("; ")
        );
        let runtime = Runtime::load()?;
        let read = |file: &str, sha256: &str| -> anyhow::Result<Vec<u8>> {
            let bytes = std::fs::read(folder.join(file))
                .with_context(|| format!("{file} cannot be read"))?;
            ensure!(
                hex_sha256(&bytes) == sha256,
                "{file} is not the file that the manifest names: its hash differs"
            );
            Ok(bytes)
        };
        let encoder = |name: &str| -> anyhow::Result<Graph> {
            let entry = manifest
                .encoder(name)
                .with_context(|| format!("no encoder {name} in the bundle"))?;
            let int8 = entry
                .int8
                .as_ref()
                .filter(|_| precision == Precision::Int8)
                .map(|int8| read(&int8.file, &int8.sha256))
                .transpose()?;
            let files = GraphFiles {
                fp32: &read(&entry.file, &entry.sha256)?,
                int8: int8.as_deref(),
            };
            Ok(Graph::open_for(&runtime, name, files, Provider::Cpu, 2)?)
        };
        let (face, voice) = (encoder("face")?, encoder("voice")?);
        let text = manifest.text.as_ref().context("the bundle has no [text]")?;
        let bytes = read(&text.tokenizer, &text.sha256)?;
        let words = Words {
            encoder: Encoder {
                entry: entry(&manifest, "text")?,
                graph: encoder("text")?,
            },
            tokenizer: Tokenizer::from_bytes(&bytes, text.max_tokens)?,
        };
        let head = Graph::open(
            &runtime,
            "head",
            &read(&manifest.head.file, &manifest.head.sha256)?,
            Provider::Cpu,
            2,
        )?;
        Ok(Opened {
            manifest,
            face,
            voice,
            words,
            head,
        })
    }

    fn face_settings(&self) -> anyhow::Result<&FacePreprocessing> {
        self.manifest
            .face
            .as_ref()
            .context("the bundle has no [face]")
    }

    /// Embedding and logits of one preprocessed input of `shape` (without the batch axis).
    pub fn encode(
        graph: &mut Graph,
        shape: &[usize],
        input: &[f32],
    ) -> anyhow::Result<[Output; 2]> {
        let shape: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
        let outputs = graph.run(&[Input::F32(&shape, input)])?;
        outputs
            .try_into()
            .ok()
            .with_context(|| format!("{} does not give an embedding and logits", graph.name()))
    }

    /// The head's logits before the temperature.
    pub fn fuse(&mut self, batch: &HeadBatch) -> anyhow::Result<Vec<f32>> {
        let width = |values: &[f32]| [batch.count, values.len() / batch.count];
        let inputs: Vec<&Vec<f32>> = batch.embeddings.iter().chain([&batch.presence]).collect();
        let shapes: Vec<[usize; 2]> = inputs.iter().map(|values| width(values)).collect();
        let inputs: Vec<Input<'_>> = inputs
            .iter()
            .zip(&shapes)
            .map(|(values, shape)| Input::F32(shape, values))
            .collect();
        Ok(self.head.run(&inputs)?.remove(0).values)
    }
}

/// All figures of a bundle.
pub fn measure(bundle: &Path, material: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut opened = Opened::open(bundle)?;
    let crops = fer::read(&material.join("faces/fer2013_training_publictest.tar.xz"))?;
    let (copies, crops): (Vec<_>, Vec<_>) = crops
        .into_iter()
        .filter(|c| c.part == Part::Report)
        .partition(|c| c.is_copy);
    let clips = ravdess::read(&material.join("speech/ravdess"), Part::Report, &[])?;
    let (face_figure, faces) = measure_face(&mut opened, &crops, &copies)?;
    let (voice_figure, voices) = measure_voice(&mut opened, &clips)?;
    let mut figures = vec![face_figure, voice_figure];
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
            "face" => "head, face alone: FER2013 PublicTest, pictures new to it".to_owned(),
            "voice" => "head, voice alone: RAVDESS actors 18-21, each hop".to_owned(),
            "text" => "head, words alone: MELD's development utterances".to_owned(),
            "face+text" => {
                "head, face+text: each of those faces with utterances of its label".to_owned()
            }
            _ => format!("head, {name}: each of those windows with others of its label"),
        };
        figures.push(head_figure(&mut opened, &what, &all, &subset)?);
    }
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
    if *subset == only(Modality::Text) {
        judged = judged.as_counted();
        figure.weighted_f1 = judged.metric("f1_weighted");
    }
    let head = &opened.manifest.head;
    let temperature = f64::from(head.temperature.get(&subset.name()).copied().unwrap_or(1.0));
    let verdicts = judged.verdicts(temperature);
    let answered: Vec<_> = verdicts
        .iter()
        .filter(|v| v.confidence >= f64::from(head.abstain_threshold))
        .collect();
    figure.calibration_error = Some(judged.calibration_error(temperature));
    figure.chance_error = Some(judged.chance_error(temperature));
    figure.answered = Some(answered.len() as f64 / verdicts.len() as f64);
    figure.answered_accuracy =
        Some(answered.iter().filter(|v| v.right).count() as f64 / answered.len().max(1) as f64);
    Ok(figure)
}

/// The face encoder's own classes, and its embeddings.
fn measure_face(
    opened: &mut Opened,
    crops: &[LabelledCrop],
    copies: &[LabelledCrop],
) -> anyhow::Result<(Figure, Evidence)> {
    let settings = opened.face_settings()?.clone();
    let entry = entry(&opened.manifest, "face")?;
    let mut evidence = Evidence::new(entry.dim);
    let mut logits = Vec::new();
    for sample in crops {
        let input = normalise(&sample.crop, &settings.normalise);
        let [embedding, row] = Opened::encode(
            &mut opened.face,
            &[settings.channels, settings.size, settings.size],
            &input,
        )?;
        evidence.push(sample.label, embedding.values);
        logits.extend(row.values);
    }
    let names: Vec<&str> = entry.classes.iter().map(String::as_str).collect();
    let judged = Judged::new(names.len(), logits, crops.iter().map(|c| c.label).collect());
    let conditions = conditions::faces(opened, crops, copies)?;
    Ok((
        Figure {
            conditions,
            ..figure_of(
                "face encoder: FER2013 PublicTest, pictures new to it",
                &judged,
                &names,
            )
        },
        evidence,
    ))
}

/// The voice encoder's own classes, clip by clip (mean of the windows' logits), and its embeddings, window by window as the daemon cuts them.
fn measure_voice(
    opened: &mut Opened,
    clips: &[ravdess::LabelledClip],
) -> anyhow::Result<(Figure, Evidence)> {
    let settings = opened
        .manifest
        .audio
        .clone()
        .context("the bundle has no [audio]")?;
    let entry = entry(&opened.manifest, "voice")?;
    let mel = LogMel::new(&settings);
    let window = opened.manifest.window;
    let length = milliseconds(window.length_ms);
    let mut evidence = Evidence::new(entry.dim);
    let mut logits = Vec::new();
    for clip in clips {
        let pieces = windows(clip, length, milliseconds(500));
        let mut sum = vec![0.0; entry.classes.len()];
        for piece in &pieces {
            let (input, frames) = mel.compute(piece);
            let [_, row] = Opened::encode(&mut opened.voice, &[1, settings.mels, frames], &input)?;
            sum.iter_mut()
                .zip(row.values)
                .for_each(|(s, v)| *s += v / pieces.len() as f32);
        }
        let label =
            label_index(RAVDESS[clip.emotion]).context("an emotion that is not on the wire")?;
        for piece in live_windows(
            clip,
            length,
            milliseconds(window.hop_ms),
            milliseconds(settings.min_speech_ms),
        ) {
            let (input, frames) = mel.compute(piece);
            let [embedding, _] =
                Opened::encode(&mut opened.voice, &[1, settings.mels, frames], &input)?;
            evidence.push(label, embedding.values);
        }
        logits.extend(sum);
    }
    let names: Vec<&str> = entry.classes.iter().map(String::as_str).collect();
    let judged = Judged::new(
        names.len(),
        logits,
        clips.iter().map(|c| c.emotion).collect(),
    );
    let by_actor: Vec<(u32, bool)> = judged
        .answers()
        .zip(clips)
        .map(|((truth, answer), clip)| (clip.actor, truth == answer))
        .collect();
    let conditions = conditions::voices(&by_actor);
    Ok((
        Figure {
            conditions,
            ..figure_of(
                "voice encoder: RAVDESS actors 18-21, clips",
                &judged,
                &names,
            )
        },
        evidence,
    ))
}

fn entry(manifest: &Manifest, name: &str) -> anyhow::Result<EncoderEntry> {
    manifest
        .encoder(name)
        .cloned()
        .with_context(|| format!("no encoder {name} in the bundle"))
}

fn figure_of(what: &str, judged: &Judged, names: &[&str]) -> Figure {
    let recalls = judged
        .recalls()
        .into_iter()
        .enumerate()
        .zip(names)
        .filter_map(|((class, recall), name)| {
            let count = judged
                .answers()
                .filter(|(truth, _)| *truth == class)
                .count();
            Some((name.to_string(), (recall?, wilson(recall?, count))))
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
}
