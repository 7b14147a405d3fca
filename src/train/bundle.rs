//! Exports a run that `finetune` made over stores as a bundle: copies the encoders of the stores,
//! writes the trained heads and classifier as one graph, and stores golden outputs of all graphs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use burn_onnx::export::{AxisSpec, InputSpec, OnnxExporter};

use crate::encode::{Graph, Input, Provider, Runtime};
use crate::manifest::{HeadEntry, Manifest, hex_sha256};
use crate::modality::Modality;
use crate::model::golden::{GoldenCase, Goldens, golden_crop, golden_samples};
use crate::model::{Bundle, EncoderFiles};
use crate::recognize::{embed, head_logits};
use crate::train::classify::{self, ClassifierRun, Recognition};
use crate::train::data::Split;
use crate::train::device::burn_cpu;
use crate::train::encoders::EncoderSetFiles;
use crate::train::features::Features;
use crate::train::fit::{tensor, values};
use crate::train::labelled::LabelledClips;
use crate::train::refused::Refused;
use crate::train::staged_bundle::{StagedBundle, refuse_existing};
use crate::train::windows::unlike_served;

mod card;

use card::card;

/// Largest accepted difference between outputs of ONNX Runtime and Burn, relative to the larger of
/// 1 and the output's magnitude.
const TOLERANCE: f32 = 1e-4;

/// Writes the folder `bundle` from a run that `finetune` made over stores. `encoders`: the encoder
/// folders given to `extract`, in the same order. `overwrite`: an existing bundle is replaced.
///
/// # Errors
/// A head that was trained on rows of whole recordings is refused unless `allow_recording_rows`.
/// Other encoders than those of the stores are refused, and so is a head whose outputs in Burn and
/// ONNX Runtime differ by more than 1e-4.
pub fn export(
    run_folder: &Path,
    encoders: &[PathBuf],
    bundle: &Path,
    overwrite: bool,
    allow_recording_rows: bool,
) -> anyhow::Result<()> {
    refuse_existing(bundle, overwrite)?;
    let (run, net, calibration, _) = classify::load(run_folder)?;
    let wanted: Vec<_> = run.heads.modalities.iter().map(|m| m.modality).collect();
    let features = Features::open(&classify::stores_of(&run))?.with_modalities(&wanted)?;
    let unlike = unlike_served(&features);
    if let Some(rows) = unlike.filter(|_| !allow_recording_rows) {
        bail!(Refused(format!(
            "the head of {} was trained on {rows}: live, it would be given other inputs than \
             evaluate measures. Extract with --clips window and run finetune again (--from stays), \
             or add --allow-recording-rows",
            run_folder.display()
        )));
    }
    let files = EncoderSetFiles::read(encoders)?;
    ensure!(
        files.fingerprint() == run.fingerprint,
        "the run was trained on embeddings of {}, these encoders are {}: name those that `extract` \
         had, in the same order",
        run.fingerprint,
        files.fingerprint()
    );
    let are_served = features.spec().has_windows();
    let rows = unlike.or(are_served.then_some("windows as they are served"));
    let staged = StagedBundle::begin(bundle, overwrite)?;
    let mut manifest = files.manifest().clone();
    let inputs = head_inputs(&manifest, &run);
    // An encoder of a modality that the head does not use would cost time, and the manifest would
    // state that it is used.
    manifest.encoders.retain(|e| inputs.contains(&e.name));
    let reads = |modality| manifest.encoders.iter().any(|e| e.modality == modality);
    let (face, voice, text) = (
        reads(Modality::Face),
        reads(Modality::Voice),
        reads(Modality::Text),
    );
    manifest.face = manifest.face.filter(|_| face);
    manifest.audio = manifest.audio.filter(|_| voice);
    manifest.text = manifest.text.filter(|_| text);
    copy_encoders(encoders, &mut manifest, staged.path())?;
    let graph = head_graph(&net, &manifest, &run, &inputs)?;
    let difference = compare(&net, &graph, &manifest, &run, &inputs, &features)?;
    println!(
        "export: Burn and ONNX Runtime differ by at most {difference:.1e} on validation clips"
    );
    manifest.name = run.recipe.name.clone();
    manifest.task = run.recipe.task;
    manifest.labels = run.labels.clone();
    let temperature = calibration
        .subsets
        .iter()
        .map(|(name, c)| (name.clone(), c.temperature))
        .collect();
    manifest.head = HeadEntry {
        file: "head.onnx".into(),
        sha256: hex_sha256(&graph),
        inputs,
        temperature,
        abstain_threshold: calibration.abstain_threshold,
        ..HeadEntry::default()
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    let faults = manifest.faults();
    ensure!(
        faults.is_empty(),
        "the manifest contradicts itself: {}",
        faults.join("; ")
    );
    staged.write("head.onnx", &graph)?;
    staged.write("manifest.toml", toml::to_string(&manifest)?.as_bytes())?;
    staged.write(
        "golden.json",
        serde_json::to_string_pretty(&goldens(&manifest, staged.path())?)?.as_bytes(),
    )?;
    staged.write(
        "MODEL_CARD.md",
        card(&run, &manifest, &calibration, rows, run_folder, difference)?.as_bytes(),
    )?;
    crate::model::seal(staged.path())?;
    // The daemon's own checks when it opens a bundle: every hash, every golden output.
    Bundle::open(&Runtime::load()?, staged.path(), Provider::Cpu, 2)?;
    staged.publish()?;
    println!(
        "export: wrote {}; it passes the checks of the daemon",
        bundle.display()
    );
    if let Some(sentence) = calibration.low_coverage_warning() {
        println!("export: {sentence}");
    }
    if calibration.answered.is_none() {
        println!(
            "export: the abstention threshold was found by an earlier version; run finetune again \
             to renew it"
        );
    }
    Ok(())
}

/// Copies the encoders' graphs and the tokenizer into the folder `bundle`, and updates their names
/// in `manifest`. Each file is named after its encoder, because several sets may have files of the
/// same name.
fn copy_encoders(
    folders: &[PathBuf],
    manifest: &mut Manifest,
    bundle: &Path,
) -> anyhow::Result<()> {
    let find = |file: &str, sha256: &str| {
        let found = folders
            .iter()
            .map(|f| f.join(file))
            .find(|path| std::fs::read(path).is_ok_and(|bytes| hex_sha256(&bytes) == sha256));
        found.with_context(|| format!("no encoder set holds {file} with hash {sha256}"))
    };
    let copy = |from: &Path, name: &str| {
        let to = bundle.join(name);
        std::fs::copy(from, &to)
            .map(|_| ())
            .with_context(|| format!("{} cannot be written", to.display()))
    };
    for entry in &mut manifest.encoders {
        // Int8 graphs are left out, because their accuracy was measured with another head.
        entry.int8 = None;
        let name = format!("{}.onnx", entry.name);
        copy(&find(&entry.file, &entry.sha256)?, &name)?;
        entry.file = name;
    }
    if let Some(text) = &manifest.text {
        copy(&find(&text.tokenizer, &text.sha256)?, &text.tokenizer)?;
    }
    Ok(())
}

/// Names of the encoders whose embeddings the head takes, in the order of the heads' modalities.
fn head_inputs(manifest: &Manifest, run: &ClassifierRun) -> Vec<String> {
    let of = |modality: Modality| {
        manifest
            .encoders
            .iter()
            .filter(move |e| e.modality == modality)
            .map(|e| e.name.clone())
    };
    run.heads
        .modalities
        .iter()
        .flat_map(|m| of(m.modality))
        .collect()
}

/// For each encoder named in `inputs`: the length of its embedding, and the index of its modality
/// in the heads' modalities.
fn input_shapes(
    manifest: &Manifest,
    run: &ClassifierRun,
    inputs: &[String],
) -> Vec<(usize, usize)> {
    let entry = |name: &String| manifest.encoder(name).expect("inputs are encoders");
    let place = |modality| {
        run.heads
            .modalities
            .iter()
            .position(|m| m.modality == modality)
            .expect("inputs are of the heads' modalities")
    };
    inputs
        .iter()
        .map(|name| (entry(name).dim, place(entry(name).modality)))
        .collect()
}

/// Logits `[batch, labels]` by the network's own `forward`. `inputs`: the embedding `[batch,
/// length]` of each encoder, then the presence `[batch, encoders]`, 0 or 1. `widths`: the result of
/// [`input_shapes`].
fn forward(net: &Recognition, widths: &[(usize, usize)], mut inputs: Vec<Tensor<2>>) -> Tensor<2> {
    let presence = inputs.pop().expect("presence comes last");
    let modalities = widths.iter().map(|(_, m)| m + 1).max().unwrap_or(0);
    // A modality is present if its first encoder gave an embedding.
    let mut picks = vec![0.0f32; widths.len() * modalities];
    let mut embeddings: Vec<Vec<Tensor<2>>> = vec![Vec::new(); modalities];
    for (i, ((_, modality), input)) in widths.iter().zip(inputs).enumerate() {
        if embeddings[*modality].is_empty() {
            picks[i * modalities + modality] = 1.0;
        }
        embeddings[*modality].push(input);
    }
    let picks = Tensor::<2>::from_data(
        TensorData::new(picks, [widths.len(), modalities]),
        &presence.device(),
    );
    let joined = embeddings
        .into_iter()
        .map(|mut e| {
            if e.len() == 1 {
                e.remove(0)
            } else {
                Tensor::cat(e, 1)
            }
        })
        .collect();
    net.forward(joined, presence.matmul(picks))
}

/// The network as ONNX bytes with a dynamic batch axis. The inputs are those of [`forward`].
fn head_graph(
    net: &Recognition,
    manifest: &Manifest,
    run: &ClassifierRun,
    inputs: &[String],
) -> anyhow::Result<Vec<u8>> {
    let widths = input_shapes(manifest, run, inputs);
    let zeros = |batch: usize| -> Vec<Tensor<2>> {
        widths
            .iter()
            .map(|(dim, _)| *dim)
            .chain([widths.len()])
            .map(|width| Tensor::zeros([batch, width], &burn_cpu()))
            .collect()
    };
    let specs: Vec<InputSpec> = (0..=widths.len())
        .map(|_| InputSpec::new([AxisSpec::dynamic("batch"), AxisSpec::Static]))
        .collect();
    let model = OnnxExporter::new().export_dynamic(
        &net.valid(),
        zeros(2),
        zeros(3),
        &specs,
        |net, inputs| forward(net, &widths, inputs),
    )?;
    Ok(model.as_bytes().to_vec())
}

/// The largest relative difference between outputs of Burn and ONNX Runtime, over 64 validation
/// clips and all subsets of modalities. A difference above [`TOLERANCE`] is an error.
fn compare(
    net: &Recognition,
    graph: &[u8],
    manifest: &Manifest,
    run: &ClassifierRun,
    inputs: &[String],
    features: &Features,
) -> anyhow::Result<f32> {
    let widths = input_shapes(manifest, run, inputs);
    let clips = LabelledClips::find(
        features,
        Split::Val,
        run.recipe.task,
        &run.labels,
        &run.recipe.label_map,
    )?;
    let rows: Vec<usize> = clips.rows.iter().copied().take(64).collect();
    let mut graph = Graph::open(&Runtime::load()?, "head", graph, Provider::Cpu, 2)?;
    let (mut largest, mut values_of) = (0.0f32, vec![0.0; features.spec().dim()]);
    for (_, shown) in classify::subsets(&run.heads) {
        let (mut columns, mut presence) = (vec![Vec::new(); widths.len()], Vec::new());
        for row in &rows {
            features.read(*row, &mut values_of)?;
            for ((column, name), (dim, modality)) in columns.iter_mut().zip(inputs).zip(&widths) {
                let start: usize = features
                    .spec()
                    .encoders
                    .iter()
                    .take_while(|e| e.name != *name)
                    .map(|e| e.dim)
                    .sum();
                let present = shown[*modality] && features.has(*row, *modality);
                column.extend(
                    values_of[start..start + dim]
                        .iter()
                        .map(|v| if present { *v } else { 0.0 }),
                );
                presence.push(f32::from(present));
            }
        }
        let shapes: Vec<[usize; 2]> = widths
            .iter()
            .map(|(dim, _)| [rows.len(), *dim])
            .chain([[rows.len(), widths.len()]])
            .collect();
        columns.push(presence);
        let burn = values(forward(
            net,
            &widths,
            columns
                .iter()
                .zip(&shapes)
                .map(|(c, s)| tensor(c.clone(), *s, &burn_cpu()))
                .collect(),
        ))?;
        let onnx = graph.run(
            &columns
                .iter()
                .zip(&shapes)
                .map(|(c, s)| Input::F32(s, c))
                .collect::<Vec<_>>(),
        )?;
        ensure!(
            onnx[0].values.len() == burn.len(),
            "the head's graph gives {} values, expected {}",
            onnx[0].values.len(),
            burn.len()
        );
        largest = burn
            .iter()
            .zip(&onnx[0].values)
            .map(|(a, b)| (a - b).abs() / a.abs().max(1.0))
            .fold(largest, f32::max);
    }
    ensure!(
        largest <= TOLERANCE,
        "Burn and ONNX Runtime differ by {largest:.1e}, more than {TOLERANCE:.0e}: no bundle is \
         written"
    );
    Ok(largest)
}

/// The golden file: embeddings and logits of the bundle's graphs for generated clips.
fn goldens(manifest: &Manifest, folder: &Path) -> anyhow::Result<Goldens> {
    let runtime = Runtime::load()?;
    let (encoders, tokenizer) =
        EncoderFiles::read(folder, manifest)?.open(&runtime, folder, manifest, Provider::Cpu, 2)?;
    let head = Graph::open(
        &runtime,
        "head",
        &std::fs::read(folder.join("head.onnx"))?,
        Provider::Cpu,
        2,
    )?;
    let mut bundle = Bundle {
        manifest: manifest.clone(),
        encoders,
        tokenizer,
        head,
        further: Vec::new(),
    };
    let has = |modality| manifest.encoders.iter().any(|e| e.modality == modality);
    let words = "I did not expect that at all.";
    let mut cases = Vec::new();
    for (seed, frames, samples, says) in [
        (1, 16, 0, false),
        (2, 0, 32_000, false),
        (3, 0, 0, true),
        (4, 20, 32_000, true),
        (5, 1, 12_000, false),
    ] {
        let face_frames = if has(Modality::Face) { frames } else { 0 };
        let voice_samples = if has(Modality::Voice) { samples } else { 0 };
        let text = (says && has(Modality::Text)).then(|| words.to_owned());
        if face_frames == 0 && voice_samples == 0 && text.is_none() {
            continue;
        }
        let crops: Vec<Arc<_>> = manifest
            .face
            .iter()
            .flat_map(|f| {
                (0..face_frames).map(|i| Arc::new(golden_crop(seed, i as u32, f.size, f.channels)))
            })
            .collect();
        let voice = (voice_samples > 0).then(|| golden_samples(seed, voice_samples));
        let embeddings = embed(&mut bundle, &crops, voice.as_deref(), text.as_deref())?;
        let logits = head_logits(&mut bundle, &embeddings)?;
        cases.push(GoldenCase {
            seed,
            face_frames,
            voice_samples,
            text,
            embeddings,
            int8: Default::default(),
            logits,
            also: Default::default(),
        });
    }
    Ok(Goldens { cases })
}

#[cfg(test)]
mod replacement;
#[cfg(test)]
mod tests;
