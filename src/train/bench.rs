//! The command `bench`: training speed, and the accuracy that each pre-training objective reaches
//! on synthetic data or on stores.

use std::path::PathBuf;

use anyhow::Context;
use burn::module::Module;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::manifest::Task;
use crate::modality::Modality;
use crate::time::monotonic_nanos;
use crate::train::checkpoint::RunFolder;
use crate::train::classify::{self, ClassWeights, FinetuneKind, FinetuneRecipe, logits};
use crate::train::data::Split;
use crate::train::features::Features;
use crate::train::fit::device;
use crate::train::heads::{ClassifierShape, HeadsShape, ModalityShape};
use crate::train::labelled::LabelledClips;
use crate::train::metrics::{Predictions, Truth};
use crate::train::objective::{ClusterMode, FeatureBatch, Objective, PretextModel, Queue};
use crate::train::pretrain::{PretrainKind, PretrainRecipe, Profile, pretrain, train_step};
use crate::train::schedule::RateSchedule;
use crate::train::synthetic::{SyntheticSet, normals};

/// Measures the trainer.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  expressd-train bench step --batch 256\n  expressd-train bench \
                  objectives --seeds 5"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: Bench,
}

#[derive(clap::Subcommand, Debug)]
pub enum Bench {
    /// Seconds of one pre-training step of the paper's dimensions (4096, 1024, 768 to
    /// representations of 4096), and peak memory.
    Step {
        #[arg(long, default_value = "256")]
        batch: usize,
        #[arg(long, default_value = "4096")]
        representation: usize,
        /// Number of timed steps, after an untimed one.
        #[arg(long, default_value = "5")]
        steps: usize,
    },
    /// Linear evaluation after each objective, on a generated set with known classes.
    Objectives {
        #[arg(long, default_value = "5")]
        seeds: u64,
        #[arg(long, default_value = "30")]
        epochs: usize,
    },
    /// Linear evaluation of each objective's heads on real stores: the heads are trained on the
    /// unlabelled ones, the classifier on the labelled one.
    Stores {
        /// Stores to train the heads on.
        #[arg(long, required = true, num_args = 1..)]
        unlabelled: Vec<PathBuf>,
        /// Store to train and evaluate the classifier on.
        #[arg(long, required = true)]
        labelled: PathBuf,
        #[arg(
            long,
            value_delimiter = ',',
            value_parser = crate::train::pretrain::modality,
            required = true
        )]
        modalities: Vec<Modality>,
        #[arg(long, default_value = "5")]
        seeds: u64,
        #[arg(long, default_value = "60")]
        epochs: usize,
    },
}

/// Runs one benchmark and prints the result to standard output.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.what {
        Bench::Step {
            batch,
            representation,
            steps,
        } => time_steps(*batch, *representation, *steps),
        Bench::Objectives { seeds, epochs } => {
            let make = |seed| {
                SyntheticSet {
                    seed,
                    ..SyntheticSet::default()
                }
                .make()
            };
            print_accuracy_table(
                *seeds,
                *epochs,
                &[Modality::Face, Modality::Voice, Modality::Text],
                |seed| Ok((make(seed), make(seed))),
            )
        }
        Bench::Stores {
            unlabelled,
            labelled,
            modalities,
            seeds,
            epochs,
        } => print_accuracy_table(*seeds, *epochs, modalities, |_| {
            let unlabelled = Features::open(unlabelled)?.with_modalities(modalities)?;
            Ok((
                unlabelled,
                Features::open(std::slice::from_ref(labelled))?.with_modalities(modalities)?,
            ))
        }),
    }
}

/// The contrastive objective with weight 1.
fn contrastive(temperature: f64) -> Objective {
    Objective::Contrastive {
        weight: 1.0,
        temperature,
    }
}
/// The clustering objective from epoch 0 on, with one set of clusters for all modalities and a
/// queue of four batches.
fn clustering(weight: f64, clusters: usize) -> Objective {
    Objective::Clustering {
        weight,
        mode: ClusterMode::Joint,
        clusters,
        queue: 4,
        queue_reduction: 1,
        start_epoch: 0,
    }
}
/// The reconstruction objective.
fn reconstruction(weight: f64, hidden: usize, rectified: bool) -> Objective {
    Objective::Reconstruction {
        weight,
        hidden,
        rectified,
    }
}

/// Sigmoid alignment with the paper's initial scale and bias.
fn siglip() -> Objective {
    Objective::Siglip {
        weight: 1.0,
        scale: 10.0,
        bias: -10.0,
    }
}
/// VICReg with the paper's factors.
fn vicreg() -> Objective {
    Objective::Vicreg {
        weight: 1.0,
        invariance: 25.0,
        variance: 25.0,
        covariance: 1.0,
    }
}

/// Times training steps of ConCluGen in the paper's dimensions (110 million weights with the
/// pretext heads) and prints seconds, losses and peak memory as JSON.
fn time_steps(batch: usize, representation: usize, steps: usize) -> anyhow::Result<()> {
    let dims = [
        (Modality::Face, 4096),
        (Modality::Voice, 1024),
        (Modality::Text, 768),
    ];
    let objectives = vec![
        contrastive(1.0),
        clustering(0.5, 32),
        reconstruction(0.5, 512, true),
    ];
    let recipe = PretrainRecipe {
        kind: PretrainKind::Pretrain,
        name: "step".into(),
        profile: Profile::Reference,
        seed: 127,
        modalities: dims.iter().map(|(m, _)| *m).collect(),
        representation,
        projection: 512,
        standardise: false,
        rectified_projection: true,
        epochs: 1,
        batch,
        learning_rate: 1e-4,
        weight_decay: 1e-3,
        schedule: RateSchedule::Constant,
        objectives,
    };
    let heads = HeadsShape {
        modalities: dims
            .iter()
            .map(|(modality, dim)| ModalityShape {
                modality: *modality,
                dim: *dim,
            })
            .collect(),
        representation,
        standardise: false,
    };
    let device = device();
    device.seed(recipe.seed);
    let training = device.clone().autodiff();
    let mut learner = PretextModel::new(&heads, &recipe.pretext(), &device)
        .to_device(&training)
        .train();
    let weights = learner.num_params();
    let mut optimizer = recipe.optimizer();
    let mut queue = Queue::new(4, batch, 32, None);
    let mut rng = StdRng::seed_from_u64(1);
    let modalities = dims
        .iter()
        .map(|(_, dim)| {
            (
                (0..batch).collect(),
                normals(batch * dim, 1.0, &mut rng)
                    .iter()
                    .map(|v| v.max(0.0))
                    .collect(),
            )
        })
        .collect();
    let batch_of = FeatureBatch {
        count: batch,
        modalities,
    };
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for i in 0..=steps {
        let started = monotonic_nanos();
        let found;
        (learner, found) = train_step(
            &recipe,
            learner,
            &mut optimizer,
            &batch_of,
            0,
            i,
            Some(&mut queue),
            1e-4,
            std::slice::from_ref(&training),
        )?;
        losses.push(found.last().map_or(f64::NAN, |(_, v)| *v));
        if i > 0 {
            seconds.push((monotonic_nanos() - started) as f64 * 1e-9);
        }
    }
    seconds.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|l| {
            l.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .context("no VmHWM")?;
    let numbers = serde_json::json!({
        "batch": batch,
        "representation": representation,
        "weights": weights,
        "seconds": seconds,
        "median_s": seconds[seconds.len() / 2],
        "peak_mib": peak / 1024,
        "losses": losses,
    });
    println!("{numbers}");
    Ok(())
}

/// Shares of the training labels with which the linear classifiers are trained.
const SHARES: [f64; 3] = [0.01, 0.1, 1.0];

/// Prints a Markdown table of test accuracy: a row per combination of objectives, a column per
/// share of labels. `make` returns the unlabelled and the labelled data for a seed.
fn print_accuracy_table(
    seeds: u64,
    epochs: usize,
    modalities: &[Modality],
    make: impl Fn(u64) -> anyhow::Result<(Features, Features)>,
) -> anyhow::Result<()> {
    let (con, clu, gen_) = (
        || contrastive(0.1),
        |w| clustering(w, 16),
        |w| reconstruction(w, 64, false),
    );
    let variants: Vec<(&str, Vec<Objective>)> = vec![
        ("random heads", vec![]),
        ("Con", vec![con()]),
        ("Clu", vec![clu(1.0)]),
        ("Gen", vec![gen_(1.0)]),
        ("ConClu", vec![con(), clu(0.5)]),
        ("ConGen", vec![con(), gen_(0.5)]),
        ("CluGen", vec![clu(0.5), gen_(0.5)]),
        ("ConCluGen", vec![con(), clu(0.5), gen_(0.5)]),
        ("SigLIP", vec![siglip()]),
        ("VICReg", vec![vicreg()]),
    ];
    println!("| objectives | 1 % of labels | 10 % | 100 % |\n|---|---|---|---|");
    for (name, objectives) in &variants {
        let mut accuracies = vec![Vec::new(); SHARES.len()];
        for seed in 1..=seeds {
            let (unlabelled, labelled) = make(seed)?;
            let folder = tempdir(&format!("{name}-{seed}").replace(' ', "-"))?;
            let recipe = PretrainRecipe {
                kind: PretrainKind::Pretrain,
                name: name.to_string(),
                profile: Profile::Fixed,
                seed,
                modalities: modalities.to_vec(),
                representation: 128,
                projection: 64,
                standardise: true,
                rectified_projection: false,
                epochs,
                batch: 256,
                learning_rate: 1e-3,
                weight_decay: 1e-3,
                schedule: RateSchedule::WarmupCosine { warmup_share: 0.1 },
                objectives: objectives.clone(),
            };
            let from = folder.join("pretrain");
            if !objectives.is_empty() {
                pretrain(
                    &recipe,
                    &unlabelled,
                    vec![],
                    &RunFolder(from.clone()),
                    false,
                )?;
            }
            for (share, accuracies) in SHARES.iter().zip(&mut accuracies) {
                let pretrained = if objectives.is_empty() {
                    None
                } else {
                    Some(crate::train::pretrain::load(&from)?)
                };
                let evaluation = linear_recipe(seed, *share, modalities);
                let run = RunFolder(folder.join(format!("linear-{share}")));
                let (net, run, _) = classify::train(
                    &evaluation,
                    &labelled,
                    vec![],
                    None,
                    pretrained,
                    &run,
                    false,
                )?;
                let clips = LabelledClips::find(
                    &labelled,
                    Split::Test,
                    Task::Single,
                    &run.labels,
                    &run.recipe.label_map,
                )?;
                let found = logits(&net, &labelled, &clips.rows, &vec![true; modalities.len()])?;
                let predictions = Predictions::from_logits(run.labels, found, 1.0, clips.truth)?;
                let right = (0..predictions.count())
                    .filter(|i| predictions.is_right(*i))
                    .count();
                accuracies.push(right as f64 / predictions.count().max(1) as f64);
            }
            std::fs::remove_dir_all(&folder)?;
        }
        let cells: Vec<String> = accuracies.iter().map(|a| mean_and_deviation(a)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    let (_, labelled) = make(1)?;
    let clips = LabelledClips::find(
        &labelled,
        Split::Test,
        Task::Single,
        &labelled.spec().labels,
        &Default::default(),
    )?;
    if let Truth::Classes(classes) = &clips.truth {
        println!(
            "{} test clips, {} classes, {seeds} seeds: mean and deviation of accuracy",
            classes.len(),
            labelled.spec().labels.len()
        );
    }
    Ok(())
}

/// The recipe of a linear classifier on frozen heads, trained with this share of the labels.
fn linear_recipe(seed: u64, share: f64, modalities: &[Modality]) -> FinetuneRecipe {
    FinetuneRecipe {
        kind: FinetuneKind::Finetune,
        name: "linear".into(),
        profile: Profile::Fixed,
        seed,
        task: Task::Single,
        train_heads: false,
        modalities: modalities.to_vec(),
        representation: 128,
        standardise: true,
        label_map: Default::default(),
        labels: vec![],
        classifier: ClassifierShape {
            layers: 1,
            hidden: 128,
            dropout: 0.2,
            presence: false,
        },
        class_weights: ClassWeights::None,
        modality_dropout: 0.0,
        epochs: 40,
        patience: 40,
        batch: 256,
        learning_rate: 3e-3,
        weight_decay: 4e-3,
        schedule: RateSchedule::WarmupCosine { warmup_share: 0.05 },
        label_share: share,
    }
}

/// Mean and sample standard deviation as text, such as `0.612 ± 0.021`.
fn mean_and_deviation(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        / (values.len() as f64 - 1.0).max(1.0))
    .sqrt();
    format!("{mean:.3} ± {deviation:.3}")
}

/// Creates a temporary folder for checkpoints; its name has the process id, so processes do not
/// share it.
fn tempdir(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("expressd-train-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
