//! The command `finetune`: trains the encoders on labelled data, then the head on their embeddings.

use std::path::PathBuf;

use anyhow::{bail, ensure};

use crate::labels::LABELS;
use crate::preprocess::normalise;
use crate::train::calibrate::argmax;
use crate::train::classify::StoreTraining;
use crate::train::data::Part;
use crate::train::data::fer::{self, VotedCrop};
use crate::train::encoder_runs::{VoiceRun, encode_faces, face_run, generation};
use crate::train::fit::{State, device, fit, read_state};
use crate::train::metrics::predictions::softmax;
use crate::train::net::{Encoder, EncoderShape};
use crate::train::recipe::{Recipe, RecipeKind};
use crate::train::refused::Refused;
use crate::train::samples::{FaceBatches, mean_agreement};

mod voice;

use voice::train_voice;

/// The network that `finetune` trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    Face,
    Voice,
    Head,
    All,
}

/// Trains encoders and head on labelled data; resumes where it was interrupted.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  expressd-train finetune --recipe config/train/default.toml --only \
                  face\n  expressd-train finetune --recipe config/train/linear.toml --store \
                  stores/ravdess --from runs/conclugen --run runs/ravdess"
)]
pub struct FinetuneArgs {
    /// File of the recipe.
    #[arg(long, default_value = "config/train/default.toml")]
    pub recipe: PathBuf,
    /// Network to train; the head needs both trained encoders.
    #[arg(long, value_enum, default_value = "all")]
    pub only: Target,
    /// With a recipe of kind finetune: feature stores of labelled clips, one or several (--store A
    /// B).
    #[arg(long, num_args = 1..)]
    pub store: Vec<PathBuf>,
    /// With stores: folder of the run of `pretrain` with the initial heads; without it, heads start
    /// with random weights.
    #[arg(long)]
    pub from: Option<PathBuf>,
    /// With stores: folder of the checkpoints.
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// With stores and without --from: modalities to use instead of the recipe's, such as
    /// face,voice.
    #[arg(long, value_delimiter = ',', value_parser = crate::train::pretrain::modality)]
    pub modalities: Vec<crate::modality::Modality>,
}

/// Trains a classifier on stores if `--store` is given, and otherwise the networks of the recipe.
/// Prints the progress.
///
/// # Errors
/// Arguments or recipe are not valid, data is missing, or the run has other settings.
pub fn run(args: &FinetuneArgs) -> anyhow::Result<()> {
    if !args.store.is_empty() {
        return crate::train::classify::finetune(&StoreTraining {
            recipe: &args.recipe,
            stores: &args.store,
            from: args.from.as_deref(),
            run: args.run.as_deref(),
            modalities: &args.modalities,
        });
    }
    let of_stores = args.run.is_some() || args.from.is_some() || !args.modalities.is_empty();
    ensure!(
        !of_stores,
        Refused(
            "--run and --from go with --store, and so does --modalities: name \
                                 the stores to train on"
                .into()
        )
    );
    if RecipeKind::read(&args.recipe)? == Some(RecipeKind::Finetune) {
        bail!(Refused(format!(
            "--store is needed: {} trains on feature stores",
            args.recipe.display()
        )));
    }
    let recipe = Recipe::read(&args.recipe)?;
    let wanted = |target| args.only == target || args.only == Target::All;
    if wanted(Target::Face) {
        let (_, state) = train_face(&recipe)?;
        println!(
            "face: selection accuracy {:.4}, epoch {}",
            state.kept().unwrap_or(f64::NAN),
            state.best
        );
    }
    if wanted(Target::Voice) {
        for which in VoiceRun::all(&recipe) {
            train_voice(&recipe, which)?;
        }
    }
    if wanted(Target::Head) {
        crate::train::fusion::train(&recipe)?;
    }
    Ok(())
}

/// Trains the face encoder: the first generation on votes, then the rounds of distillation. Returns
/// the last generation and its state.
fn train_face(recipe: &Recipe) -> anyhow::Result<(Encoder, State)> {
    let crops = fer::read(&recipe.fer_archive(), recipe.face_votes().as_deref())?;
    let [train, select] = [Part::Train, Part::Select].map(|part| {
        let (found, left_out) = fer::with_votes(&crops, part);
        for (reason, count) in left_out {
            println!("face: left out: {count} pictures {reason}");
        }
        found
    });
    drop(crops);
    let operations = Encoder::operations(
        &recipe.face.shape,
        LABELS.len(),
        [recipe.face.preprocessing.size; 2],
    );
    println!(
        "face: {} training pictures, {} selection pictures, {:.1} MFLOP per picture",
        train.len(),
        select.len(),
        operations as f64 * 1e-6
    );
    let device = device();
    device.seed(recipe.seed);
    let net = Encoder::new(&recipe.face.shape, LABELS.len(), &device);
    let face = &recipe.face;
    // Only pictures with a majority label are used, because accuracy compares with this label.
    let (inputs, labels): (Vec<Vec<f32>>, Vec<usize>) = select
        .iter()
        .filter_map(|c| {
            let input = normalise(&c.crop, &recipe.face.preprocessing.normalise);
            Some((input, c.votes.first()?))
        })
        .unzip();
    let select = |net: &Encoder| {
        let (_, logits) = encode_faces(net, &inputs, face.preprocessing.size)?;
        Ok(Some(accuracy(&logits, LABELS.len(), &labels)))
    };
    let first = FaceBatches {
        crops: &train,
        mean_agreement: mean_agreement(&train),
        recipe: face,
        fit: &face.fit,
        early: face.early,
        camera_variation: face.camera_variation.unwrap_or(1.0),
        teacher: None,
        classes: LABELS.len(),
        seed: recipe.seed,
    };
    let (mut net, mut state) = fit(
        &face_run(recipe, 0, &generation(0))?,
        net,
        &device,
        &first,
        select,
    )?;
    // The last trained network of each shape: the teachers of the next round.
    let mut shapes: Vec<(&EncoderShape, Encoder)> = vec![(&face.shape, net.clone())];
    for (number, round) in (1..).zip(&face.distillation) {
        let part = generation(number);
        let run = face_run(recipe, number, &part)?;
        // A finished run is only loaded, so the teachers' probabilities are not needed.
        let probabilities = if read_state(&run.folder)?
            .is_some_and(|run| run.epochs >= round.fit.epochs)
        {
            Vec::new()
        } else {
            println!(
                "face: teacher, generation {number} (selection accuracy {:.4}): predictions for {} \
                 pictures",
                state.kept().unwrap_or(f64::NAN),
                train.len()
            );
            teacher_probabilities(shapes.iter().map(|(_, net)| net), &train, recipe)?
        };
        let shape = round.shape.as_ref().unwrap_or(&face.shape);
        let begun = shapes.iter().position(|(other, _)| *other == shape);
        let begin = match begun {
            Some(at) => shapes.remove(at).1,
            None => {
                let operations =
                    Encoder::operations(shape, LABELS.len(), [face.preprocessing.size; 2]);
                println!(
                    "face: generation {} begins with random weights, {:.1} MFLOP per picture",
                    number + 1,
                    operations as f64 * 1e-6
                );
                device.seed(run.seed);
                Encoder::new(shape, LABELS.len(), &device)
            }
        };
        let batches = FaceBatches {
            fit: &round.fit,
            early: round.early,
            camera_variation: round.camera_variation.unwrap_or(first.camera_variation),
            teacher: Some((probabilities, round.teacher_weight)),
            seed: run.seed,
            ..first
        };
        (net, state) = fit(&run, begin, &device, &batches, select)?;
        shapes.push((shape, net.clone()));
    }
    Ok((net, state))
}

/// The teachers' probability of each label for each picture: `[crops, labels]`, row-major. It is
/// the mean over `nets`, and over the picture and its mirror image.
fn teacher_probabilities<'a>(
    nets: impl Iterator<Item = &'a Encoder>,
    crops: &[VotedCrop],
    recipe: &Recipe,
) -> anyhow::Result<Vec<f32>> {
    let size = recipe.face.preprocessing.size;
    let nets: Vec<&Encoder> = nets.collect();
    let mut probabilities = Vec::with_capacity(crops.len() * LABELS.len());
    for crops in crops.chunks(128) {
        let straight: Vec<Vec<f32>> = crops
            .iter()
            .map(|c| normalise(&c.crop, &recipe.face.preprocessing.normalise))
            .collect();
        let mirrored = straight
            .iter()
            .map(|plane| {
                plane
                    .chunks(size)
                    .flat_map(|row| row.iter().rev().copied())
                    .collect()
            })
            .collect::<Vec<Vec<f32>>>();
        let mut sum = vec![0.0; crops.len() * LABELS.len()];
        for net in &nets {
            for seen in [&straight, &mirrored] {
                let (_, logits) = encode_faces(net, seen, size)?;
                sum.iter_mut()
                    .zip(
                        logits
                            .chunks(LABELS.len())
                            .flat_map(|row| softmax(row, 1.0)),
                    )
                    .for_each(|(sum, p)| *sum += p);
            }
        }
        probabilities.extend(sum.into_iter().map(|sum| sum / (2 * nets.len()) as f32));
    }
    Ok(probabilities)
}

/// Share of rows whose largest logit is that of the true label, 0..1. `logits`: `[rows, classes]`,
/// row-major; `labels`: index of each row's true label.
pub fn accuracy(logits: &[f32], classes: usize, labels: &[usize]) -> f64 {
    let right = logits
        .chunks(classes)
        .zip(labels)
        .filter(|(row, label)| argmax(row) == **label)
        .count();
    right as f64 / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests;
