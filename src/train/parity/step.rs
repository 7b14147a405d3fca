//! Parity of a whole training step of pre-training with the reference, in each of its variants.

use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use serde_json::Value;

use super::fixture::{
    Comparison, array, count, each_case, modality_shape, number, reference, texts,
};
use super::places::NamedParameters;
use crate::train::adamw::{AdamW, burns};
use crate::train::fit::values;
use crate::train::heads::{HeadsShape, PretextShape};
use crate::train::objective::{
    ClusterMode, FeatureBatch, MARGIN, Objective, Outputs, PretextModel, StepLosses, queue,
    reconstruction_loss,
};
use crate::train::pretrain::step::{Forward, forward, update};

/// Learning rate of the authors' step.
const RATE: f64 = 1e-3;
/// Weight decay of the authors' step.
const DECAY: f32 = 0.004;

/// The combination of modalities and objectives that a case trains.
struct Variant {
    /// The authors' names of the modalities.
    names: Vec<String>,
    objectives: Vec<Objective>,
    heads: HeadsShape,
    pretext: PretextShape,
    batch: FeatureBatch,
    /// Rows of the batch that are the initial centroids of k-means.
    initial: Vec<usize>,
}

impl Variant {
    /// Reads the variant of a case.
    fn read(case: &Value) -> Self {
        let (dims, params) = (&case["dims"], case["params"].as_object().unwrap());
        let weights = array(&case["loss_weights"]).data;
        let mode = if case["kmeans_loss_mode"] == "individual" {
            ClusterMode::Individual
        } else {
            ClusterMode::Joint
        };
        // A case with a single objective has no weights: its weight is 1.
        let objective = |(i, loss): (usize, &String)| {
            let weight = weights.get(i).copied().unwrap_or(1.0);
            match loss.as_str() {
                "contrastive" => Objective::Contrastive {
                    weight,
                    temperature: 1.0,
                },
                "clustering" => Objective::Clustering {
                    weight,
                    mode,
                    clusters: count(&dims["clusters"]),
                    queue: 0,
                    queue_reduction: 0,
                    start_epoch: 0,
                },
                "reconstruction" => Objective::Reconstruction {
                    weight,
                    hidden: count(&dims["reconstruction"]),
                    rectified: true,
                },
                other => panic!("{other} is not an objective"),
            }
        };
        let names = texts(&case["modalities"]);
        let has = |part: &str| params.keys().any(|k| k.contains(part));
        let size = |name: &str, part: &str| if has(part) { count(&dims[name]) } else { 0 };
        let rows = count(&dims["batch"]);
        Variant {
            objectives: texts(&case["losses"])
                .iter()
                .enumerate()
                .map(objective)
                .collect(),
            heads: HeadsShape {
                modalities: names
                    .iter()
                    .map(|m| modality_shape(m, count(&dims["embedding"][m])))
                    .collect(),
                representation: count(&dims["representation"]),
                standardise: false,
            },
            pretext: PretextShape {
                projection: count(&dims["projection"]),
                clusters: size("clusters", "cluster_classification_head"),
                reconstruction: size("reconstruction", "reconstruction_heads"),
                rectified_projection: true,
                rectified_reconstruction: true,
                alignment: None,
            },
            batch: FeatureBatch {
                count: rows,
                modalities: names
                    .iter()
                    .map(|m| ((0..rows).collect(), array(&case["inputs"][m]).singles()))
                    .collect(),
            },
            initial: case
                .get("kmeans_init_indices")
                .filter(|v| !v.is_null())
                .map_or(vec![], |v| array(v).indices()),
            names,
        }
    }

    /// The parameters of the model by the authors' names.
    fn parameters<'a>(&self, model: &'a mut PretextModel) -> NamedParameters<'a> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut parameters = NamedParameters::default();
        parameters.representations("_representation_heads.heads.", &names, &mut model.heads);
        parameters.pretext("_pretraining_heads.", &names, &mut model.pretext);
        parameters
    }

    /// The outputs and losses of a training step, with the initial rows of k-means from the case.
    fn forward(&self, model: &PretextModel, device: &Device) -> (Forward, StepLosses) {
        let found = forward(
            model,
            None,
            &self.batch,
            &self.objectives,
            queue(&self.objectives, self.batch.count).as_mut(),
            |_, _| self.initial.clone(),
            device,
        )
        .unwrap();
        let losses = found.losses(model, &self.batch, &self.objectives, 0, device);
        (found, losses)
    }
}

/// Compares each loss with and without its weight, and the means over the losses. A case with a
/// single objective lists no separate losses.
fn compare_losses(
    variant: &Variant,
    losses: &StepLosses,
    expected: &Value,
    comparison: &mut Comparison,
) {
    comparison.exact("objectives", losses.each.len(), variant.objectives.len());
    let Some(listed) = expected.as_object() else {
        return;
    };
    if let Some(merged) = listed.get("merged") {
        comparison.loss("merged", losses.total.clone(), merged);
    }
    for ((name, loss), objective) in losses.each.iter().zip(&variant.objectives) {
        if let Some(weighted) = listed.get(*name) {
            comparison.loss(name, loss.clone().mul_scalar(objective.weight()), weighted);
            comparison.loss(name, loss.clone(), &listed[&format!("{name}_unweighted")]);
        }
    }
    if let Some(unweighted) = listed.get("unweighted") {
        let sum = losses
            .each
            .iter()
            .map(|(_, loss)| loss.clone())
            .reduce(|a, b| a + b)
            .unwrap();
        comparison.loss(
            "unweighted",
            sum.div_scalar(losses.each.len() as f64),
            unweighted,
        );
    }
}

/// Compares the reconstruction loss of each modality.
fn compare_reconstructions(
    variant: &Variant,
    outputs: &Outputs,
    expected: &Value,
    comparison: &mut Comparison,
) {
    // In a case without reconstruction, the terms by modality are those of clustering: nothing is
    // compared here.
    let reconstructions = &outputs.reconstructions;
    for (i, name) in variant.names.iter().enumerate().take(reconstructions.len()) {
        let listed = expected
            .get(format!("reconstruction_{name}"))
            .or_else(|| expected.get(name));
        if let Some(listed) = listed {
            let one = reconstruction_loss(&reconstructions[i..=i], &outputs.embeddings[i..=i]);
            comparison.loss(name, one.unwrap(), listed);
        }
    }
}

#[test]
fn a_training_step_equals_the_authors_step_in_every_variant() {
    let device = Device::flex().autodiff();
    assert_eq!(MARGIN, 0.001);
    each_case("pretraining_step_end_to_end.json", |case, comparison| {
        let (variant, expected) = (Variant::read(case), reference(case));
        let mut model = PretextModel::new(&variant.heads, &variant.pretext, &device);
        variant
            .parameters(&mut model)
            .load(&case["params"], &device);
        let (Forward { outputs, kmeans }, losses) = variant.forward(&model, &device);
        comparison.loss("loss", losses.total.clone(), &expected["loss"]);
        compare_losses(&variant, &losses, &expected["loss_terms"], comparison);
        compare_reconstructions(&variant, &outputs, &expected["loss_terms"], comparison);
        if let Some(fused) = expected.get("fused") {
            comparison.values("fused", outputs.fused.clone().unwrap(), fused);
            let found = kmeans.unwrap();
            comparison.exact("labels", found.labels, array(&expected["labels"]).indices());
            comparison.within(
                "centroids",
                &found.centroids,
                &array(&expected["centroids"]).data,
                1e-5,
                1e-6,
            );
        }
        let gradients = losses.total.backward();
        variant.parameters(&mut model).compare_gradients(
            &expected["grads"],
            &gradients,
            comparison,
        );

        // Our AdamW, which pre-training uses, and Burn's, which fine-tuning uses.
        let ours = ModuleOptimizer::from(AdamW {
            weight_decay: DECAY,
        });
        for mut optimizer in [ours, burns(DECAY)] {
            let gradients = variant.forward(&model, &device).1.total.backward();
            let mut stepped = update(
                model.clone(),
                None,
                &mut optimizer,
                gradients,
                RATE,
                &device,
            );
            if let Some(expected_weights) = expected.get("params_after_one_adamw_step") {
                variant.parameters(&mut stepped).compare_stepped(
                    expected_weights,
                    &expected["grads"],
                    RATE,
                    comparison,
                );
            }
            let (_, losses) = variant.forward(&stepped, &device);
            let after = number(&expected["loss_after_one_adamw_step"]);
            // The sign of a very small gradient depends on rounding, so a parameter may have moved
            // in the other direction.
            comparison.within(
                "loss after the step",
                &values(losses.total).unwrap(),
                &[after],
                1e-5,
                1e-6,
            );
        }
    });
}
