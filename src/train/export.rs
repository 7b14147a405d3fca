//! The command `export`: writes a bundle from the best weights of a recipe's runs. No bundle is
//! written if the outputs of ONNX Runtime and Burn differ.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use burn::module::Module;
use burn::tensor::Tensor;
use burn_onnx::export::{AxisSpec, InputSpec, OnnxExporter};

use crate::encode::{Graph, Input, Provider, Runtime};
use crate::manifest::{Int8Entry, hex_sha256};
use crate::modality::{Modality, Presence};
use crate::model::golden::golden_samples;
use crate::onnx::sentence::SentenceFiles;
use crate::preprocess::{LogMel, normalise};
use crate::train::card;
use crate::train::data::Part;
use crate::train::data::fer::{self, LabelledCrop};
use crate::train::device::burn_cpu;
use crate::train::encoder_runs::{VoiceRun, load_face, load_voice};
use crate::train::evaluate::measure;
use crate::train::fit::{device, tensor, values};
use crate::train::fusion::{dims, load_head};
use crate::train::int8::{self, Trial};
use crate::train::net::{Encoder, Head};
use crate::train::prior;
use crate::train::recipe::Recipe;
use crate::train::samples::{milliseconds, windows};
use crate::train::staged_bundle::{StagedBundle, refuse_existing};

mod goldens;
mod manifest;

use goldens::goldens;
use manifest::manifest;

/// Largest accepted absolute difference between outputs of ONNX Runtime and Burn.
const TOLERANCE: f32 = 1e-4;

/// Writes a bundle from the best weights of a recipe's runs, and measures it once for its model
/// card.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  expressd-train export --run runs/ravdess --encoders models/default \
                  --bundle models/mine\n  expressd-train export --recipe config/train/default.toml \
                  --overwrite"
)]
pub struct ExportArgs {
    /// File of the recipe whose runs are exported.
    #[arg(long, default_value = "config/train/default.toml")]
    pub recipe: PathBuf,
    /// Folder of a run that `finetune` made over stores: export it instead of a recipe's runs.
    #[arg(long, requires_all = ["encoders", "bundle"])]
    pub run: Option<PathBuf>,
    /// With a run: the encoder folders given to `extract`, in the same order.
    #[arg(long, num_args = 1..)]
    pub encoders: Vec<PathBuf>,
    /// With a run: folder of the new bundle.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Replace an existing bundle in the folder. The old bundle stays until the new one is
    /// complete.
    #[arg(long)]
    pub overwrite: bool,
    /// With a run: export it even if its head was trained on rows of whole recordings (`extract
    /// --clips recording`). The daemon serves windows, which differ from such rows.
    #[arg(long, requires = "run")]
    pub allow_recording_rows: bool,
}

/// Exports the run `--run` if it is given, and otherwise the runs of the recipe. Prints the result.
///
/// # Errors
/// A run is missing or unfinished, the bundle's folder is refused, or the graphs differ from Burn.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if let (Some(run), Some(bundle)) = (&args.run, &args.bundle) {
        let (overwrite, allow) = (args.overwrite, args.allow_recording_rows);
        return crate::train::bundle::export(run, &args.encoders, bundle, overwrite, allow);
    }
    let recipe = Recipe::read(&args.recipe)?;
    refuse_existing(&recipe.bundle, args.overwrite)?;
    let (face, voice) = (load_face(&recipe)?, load_voice(&recipe, VoiceRun::Final)?);
    let (head, calibration) = load_head(&recipe)?;
    let crops = fer::read(&recipe.fer_archive(), recipe.face_votes().as_deref())?;
    let (prior, strength) = prior::encoder_correction(&recipe, &face, &crops)?;
    println!(
        "export: face encoder, prior of its own classes: {:.2} of their log shares ({:.2} of \
         rare labels'): accuracy {:.4}, mean recall {:.4} on selection data",
        strength.common_labels, strength.rare_labels, strength.accuracy, strength.recall
    );
    let face = face.with_prior(&prior, &device());
    let (face, voice, head) = (
        face.to_device(&burn_cpu()),
        voice.to_device(&burn_cpu()),
        head.to_device(&burn_cpu()),
    );
    let graphs = Graphs {
        face: export_encoder(&face, [recipe.face.preprocessing.size; 2], None)?,
        voice: export_voice(&recipe, &voice)?,
        head: export_head(&head, &dims(&recipe))?,
    };
    let sentence = SentenceFiles::from_dir(&recipe.words.encoder)?;
    let difference = compare(&recipe, &crops, &graphs, &face, &voice, &head)?;
    println!("export: Burn and ONNX Runtime differ by at most {difference:.1e} on real inputs");
    let staged = StagedBundle::begin(&recipe.bundle, args.overwrite)?;
    let write = |name: &str, bytes: &[u8]| staged.write(name, bytes);
    for (name, bytes) in [
        ("face.onnx", &graphs.face),
        ("voice.onnx", &graphs.voice),
        ("head.onnx", &graphs.head),
    ] {
        write(name, bytes)?;
    }
    // The sentence encoder's graph is derived from published weights and as large as these. It is
    // kept out of version control; set-up makes it again.
    write(&sentence.entry.file, &sentence.graph)?;
    write(&sentence.text.tokenizer, &sentence.tokenizer)?;
    let mut manifest = manifest(&recipe, &graphs, &sentence, &calibration);
    let mut trials = Vec::new();
    for (trial, bytes) in int8_trials(&recipe, &crops, &graphs)? {
        println!("export: {}", trial.sentence());
        let (file, entry) = (
            format!("{}.int8.onnx", trial.encoder),
            manifest
                .encoders
                .iter_mut()
                .find(|e| e.name == trial.encoder),
        );
        if trial.is_kept() {
            write(&file, &bytes)?;
            entry.context("the trial is of no encoder")?.int8 = Some(Int8Entry {
                file,
                sha256: hex_sha256(&bytes),
            });
        }
        trials.push(trial);
    }
    let faults = manifest.faults();
    ensure!(
        faults.is_empty(),
        "the manifest contradicts itself: {}",
        faults.join("; ")
    );
    write("manifest.toml", toml::to_string(&manifest)?.as_bytes())?;
    write(
        "golden.json",
        serde_json::to_string_pretty(&goldens(staged.path())?)?.as_bytes(),
    )?;
    let figures = measure(staged.path(), &recipe.material)?;
    write(
        "MODEL_CARD.md",
        card::write(
            &recipe,
            &args.recipe,
            &manifest,
            &figures,
            &calibration,
            &strength,
            difference,
            &trials,
        )?
        .as_bytes(),
    )?;
    for (name, svg) in card::pictures(&figures) {
        write(&name, svg.as_bytes())?;
    }
    staged.publish()?;
    println!("export: wrote {}", recipe.bundle.display());
    Ok(())
}

/// ONNX files of the trained networks.
struct Graphs {
    face: Vec<u8>,
    voice: Vec<u8>,
    head: Vec<u8>,
}

/// The ONNX bytes of an encoder for inputs `[batch, 1, rows, columns]`. The batch axis is dynamic.
/// The columns are dynamic too if `other_columns`, a second length to trace with, is given.
pub fn export_encoder(
    net: &Encoder,
    [rows, columns]: [usize; 2],
    other_columns: Option<usize>,
) -> anyhow::Result<Vec<u8>> {
    let zeros = |batch, columns| Tensor::<4>::zeros([batch, 1, rows, columns], &burn_cpu());
    let last = if other_columns.is_some() {
        AxisSpec::dynamic("frames")
    } else {
        AxisSpec::Static
    };
    let specs = [InputSpec::new([
        AxisSpec::dynamic("batch"),
        AxisSpec::Static,
        AxisSpec::Static,
        last,
    ])];
    let other = zeros(3, other_columns.unwrap_or(columns));
    let model = OnnxExporter::new().export_dynamic(
        &net.valid(),
        zeros(2, columns),
        other,
        &specs,
        Encoder::forward,
    )?;
    Ok(model.as_bytes().to_vec())
}

/// The ONNX bytes of a voice encoder with a dynamic number of frames, traced with one and two
/// seconds.
fn export_voice(recipe: &Recipe, net: &Encoder) -> anyhow::Result<Vec<u8>> {
    export_encoder(net, [recipe.voice.preprocessing.mels, 101], Some(201))
}

/// The ONNX bytes of the head. Inputs: one embedding `[batch, dims[i]]` for each modality, then the
/// presence `[batch, modalities]`. The batch axis is dynamic.
pub fn export_head(head: &Head, dims: &[usize]) -> anyhow::Result<Vec<u8>> {
    let zeros = |batch| {
        dims.iter()
            .chain([&dims.len()])
            .map(|width| Tensor::<2>::zeros([batch, *width], &burn_cpu()))
            .collect::<Vec<_>>()
    };
    let specs =
        vec![InputSpec::new([AxisSpec::dynamic("batch"), AxisSpec::Static]); dims.len() + 1];
    let forward = |head: &Head, mut inputs: Vec<Tensor<2>>| {
        let presence = inputs.pop().expect("presence comes last");
        head.forward(inputs, presence)
    };
    let model =
        OnnxExporter::new().export_dynamic(&head.valid(), zeros(2), zeros(3), &specs, forward)?;
    Ok(model.as_bytes().to_vec())
}

/// The largest absolute difference between outputs of Burn and ONNX Runtime: of the encoders on
/// selection pictures and voices, and of the head on these embeddings and generated text
/// embeddings. A difference above [`TOLERANCE`] is an error.
fn compare(
    recipe: &Recipe,
    crops: &[LabelledCrop],
    graphs: &Graphs,
    face: &Encoder,
    voice: &Encoder,
    head: &Head,
) -> anyhow::Result<f32> {
    let runtime = Runtime::load()?;
    let open = |name: &str, bytes: &[u8]| Graph::open(&runtime, name, bytes, Provider::Cpu, 2);
    let (mut face_graph, mut voice_graph, mut head_graph) = (
        open("face", &graphs.face)?,
        open("voice", &graphs.voice)?,
        open("head", &graphs.head)?,
    );
    let size = recipe.face.preprocessing.size;
    let faces: Vec<f32> = crops
        .iter()
        .filter(|c| c.part == Part::Select)
        .take(64)
        .flat_map(|c| normalise(&c.crop, &recipe.face.preprocessing.normalise))
        .collect();
    let (mut difference, face_rows) = compare_encoder(
        face,
        &mut face_graph,
        [faces.len() / (size * size), 1, size, size],
        &faces,
    )?;
    let mel = LogMel::new(&recipe.voice.preprocessing);
    let clips = VoiceRun::Calibration.clips(recipe, Part::Select)?;
    ensure!(
        !clips.is_empty(),
        "no clip of the calibration actors is there"
    );
    let mut voice_rows = Vec::new();
    // Short windows are compared too; they occur at the start of speech.
    for length_ms in [
        recipe.voice.preprocessing.min_speech_ms,
        1000,
        recipe.window.length_ms,
    ] {
        let length = milliseconds(length_ms);
        let spectrograms: Vec<f32> = clips
            .iter()
            .cycle()
            .take(64)
            .flat_map(|clip| mel.compute(windows(clip, length, length)[0]).0)
            .collect();
        let shape = [64, 1, recipe.voice.preprocessing.mels, mel.frames(length)];
        let (found, rows) = compare_encoder(voice, &mut voice_graph, shape, &spectrograms)?;
        difference = difference.max(found);
        voice_rows = rows;
    }
    let subsets: Vec<Presence> = Presence::subsets().collect();
    let presence: Vec<f32> = (0..64)
        .flat_map(|i| Modality::ALL.map(|m| f32::from(*subsets[i % 7].get(m))))
        .collect();
    let text_rows = golden_samples(7, 64 * dims(recipe)[2]);
    let columns = [face_rows, voice_rows, text_rows, presence];
    let shapes: Vec<[usize; 2]> = columns
        .iter()
        .map(|column| [64, column.len() / 64])
        .collect();
    let mut inputs: Vec<Tensor<2>> = columns
        .iter()
        .zip(&shapes)
        .map(|(column, shape)| tensor(column.clone(), *shape, &burn_cpu()))
        .collect();
    let presence = inputs.pop().expect("presence comes last");
    let burn = values(head.forward(inputs, presence))?;
    let onnx = head_graph.run(
        &columns
            .iter()
            .zip(&shapes)
            .map(|(column, shape)| Input::F32(shape, column))
            .collect::<Vec<_>>(),
    )?;
    difference = difference.max(largest_difference(&burn, &onnx[0].values));
    ensure!(
        difference <= TOLERANCE,
        "Burn and ONNX Runtime differ by {difference:.1e}, more than {TOLERANCE:.0e}: no bundle is \
         written"
    );
    Ok(difference)
}

/// The int8 graphs of the face and voice encoders, each with its trial on the selection data.
fn int8_trials(
    recipe: &Recipe,
    crops: &[LabelledCrop],
    graphs: &Graphs,
) -> anyhow::Result<Vec<(Trial, Vec<u8>)>> {
    let runtime = Runtime::load()?;
    let [train, select] = [Part::Train, Part::Select].map(|part| fer::with_votes(crops, part).0);
    let faces = int8::faces(&train, &select, &recipe.face.preprocessing);
    let face = int8::attempt(&runtime, "face", &graphs.face, &faces)?;
    let voices = int8::voices(
        &VoiceRun::Calibration.clips(recipe, Part::Train)?,
        &VoiceRun::Calibration.clips(recipe, Part::Select)?,
        &recipe.voice.preprocessing,
        recipe.window.length_ms,
    );
    // The final voice encoder was trained on the selection actors. The cost of int8 is therefore
    // measured with the calibration encoder, which was not.
    let held_out = load_voice(recipe, VoiceRun::Calibration)?.to_device(&burn_cpu());
    let (trial, _) = int8::attempt(
        &runtime,
        "voice",
        &export_voice(recipe, &held_out)?,
        &voices,
    )?;
    let (_, voice) = int8::attempt(&runtime, "voice", &graphs.voice, &voices)?;
    Ok(vec![face, (trial, voice)])
}

/// Compares a network in Burn and in ONNX Runtime: embeddings and logits of a batch of `shape`, and
/// the embedding of the first input alone. Returns the largest absolute difference and Burn's
/// embeddings.
fn compare_encoder(
    net: &Encoder,
    graph: &mut Graph,
    shape: [usize; 4],
    input: &[f32],
) -> anyhow::Result<(f32, Vec<f32>)> {
    let (embeddings, logits) = net.forward(tensor(input.to_vec(), shape, &burn_cpu()));
    let (embeddings, logits) = (values(embeddings)?, values(logits)?);
    let whole = graph.run(&[Input::F32(&shape, input)])?;
    ensure!(
        whole.len() == 2,
        "{} gives {} outputs, expected two",
        graph.name(),
        whole.len()
    );
    let mut difference = largest_difference(&embeddings, &whole[0].values)
        .max(largest_difference(&logits, &whole[1].values));
    let first = graph.run(&[Input::F32(
        &[1, shape[1], shape[2], shape[3]],
        &input[..input.len() / shape[0]],
    )])?;
    difference = difference.max(largest_difference(
        &embeddings[..first[0].values.len()],
        &first[0].values,
    ));
    Ok((difference, embeddings))
}

/// The largest absolute difference between values of the same index; infinite if the lengths
/// differ.
fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[cfg(test)]
mod tests;
