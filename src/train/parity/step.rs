//! A whole step of pre-training, in each of the authors' variants.

use burn::optim::{GradientsParams, ModuleOptimizer};

use crate::train::adamw::AdamW;
use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::fixture::{
    Comparison, array, count, each_case, modality_shape, number, reference, texts,
};
use super::places::Places;
use crate::train::fit::values;
use crate::train::heads::{HeadsShape, PretextShape};
use crate::train::objective::{
    ClusterMode, Clusters, FeatureBatch, Kmeans, MARGIN, Objective, Outputs, PretextModel,
    StepLosses, kmeans_cosine,
};

const RATE: f64 = 1e-3;
const DECAY: f32 = 0.004;

/// The trained variant of a case.
struct Variant {
    names: Vec<String>,
    objectives: Vec<Objective>,
    heads: HeadsShape,
    pretext: PretextShape,
    batch: FeatureBatch,
    initial: Vec<usize>,
}

impl Variant {
    fn read(case: &Value) -> Self {
        let (dims, params) = (&case["dims"], case["params"].as_object().unwrap());
        let weights = array(&case["loss_weights"]).data;
        let mode = if case["kmeans_loss_mode"] == "individual" {
            ClusterMode::Individual
        } else {
            ClusterMode::Joint
        };
        // Alone, a loss has no weight.
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

    fn places<'a>(&self, model: &'a mut PretextModel) -> Places<'a> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut places = Places::default();
        places.representations("_representation_heads.heads.", &names, &mut model.heads);
        places.pretext("_pretraining_heads.", &names, &mut model.pretext);
        places
    }

    fn step(&self, model: &PretextModel, device: &Device) -> (Outputs, Option<Kmeans>, StepLosses) {
        let outputs = model.forward(&self.batch, &self.objectives, device);
        let found = outputs.fused.as_ref().map(|fused| {
            kmeans_cosine(
                &values(fused.clone()).unwrap(),
                fused.dims()[1],
                &self.initial,
            )
        });
        let clusters = found.as_ref().map(|k| Clusters {
            labels: &k.labels,
            centroids: &k.centroids,
        });
        let losses = model.losses(
            &outputs,
            &self.batch,
            &self.objectives,
            0,
            clusters.as_ref(),
            device,
        );
        (outputs, found, losses)
    }
}

/// Each loss times its weight, and the means. Alone, a loss is not listed, or by modality.
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

/// Each modality's share of reconstruction.
fn compare_reconstructions(
    variant: &Variant,
    model: &PretextModel,
    outputs: &Outputs,
    expected: &Value,
    comparison: &mut Comparison,
) {
    // Without reconstruction, terms by modality are clustering's.
    let names = if model.pretext.reconstruct.is_empty() {
        &[][..]
    } else {
        &variant.names[..]
    };
    for (i, name) in names.iter().enumerate() {
        let listed = expected
            .get(format!("reconstruction_{name}"))
            .or_else(|| expected.get(name));
        if let Some(listed) = listed {
            let error: Tensor<2> = model
                .pretext
                .reconstruct(i, outputs.representations[i].clone())
                - outputs.embeddings[i].clone();
            comparison.loss(name, error.square().mean(), listed);
        }
    }
}

#[test]
fn a_step_is_the_authors_in_every_variant() {
    let device = Device::flex().autodiff();
    assert_eq!(MARGIN, 0.001);
    each_case("pretraining_step_end_to_end.json", |case, comparison| {
        let (variant, expected) = (Variant::read(case), reference(case));
        let mut model = PretextModel::new(&variant.heads, &variant.pretext, &device);
        variant.places(&mut model).load(&case["params"], &device);
        let (outputs, found, losses) = variant.step(&model, &device);
        comparison.loss("loss", losses.total.clone(), &expected["loss"]);
        compare_losses(&variant, &losses, &expected["loss_terms"], comparison);
        compare_reconstructions(
            &variant,
            &model,
            &outputs,
            &expected["loss_terms"],
            comparison,
        );
        if let Some(fused) = expected.get("fused") {
            comparison.values("fused", outputs.fused.clone().unwrap(), fused);
            let found = found.unwrap();
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
        variant
            .places(&mut model)
            .compare_gradients(&expected["grads"], &gradients, comparison);

        let mut optimizer = ModuleOptimizer::from(AdamW {
            weight_decay: DECAY,
        });
        let gradients = GradientsParams::from_grads(gradients, &model);
        let mut model = optimizer.step(RATE, model, gradients);
        if let Some(stepped) = expected.get("params_after_one_adamw_step") {
            variant.places(&mut model).compare_stepped(
                stepped,
                &expected["grads"],
                RATE,
                comparison,
            );
        }
        let (_, _, losses) = variant.step(&model, &device);
        let after = number(&expected["loss_after_one_adamw_step"]);
        // The sign of a very small gradient is not determined, so a parameter may have moved the
        // other way.
        comparison.within(
            "loss after the step",
            &values(losses.total).unwrap(),
            &[after],
            1e-5,
            1e-6,
        );
    });
}
