//! Parity of the losses with the reference: values and gradients.

use burn::tensor::{Device, Tensor};

use super::fixture::{
    MODALITIES, array, arrays, count, each_case, modalities_of, modality_shape, number, reference,
    scalar, texts,
};
use crate::train::fit::values;
use crate::train::heads::{HeadsShape, PretextShape, unit_rows};
use crate::train::objective::{
    ClusterMode, Clusters, FeatureBatch, MARGIN, Objective, Outputs, PretextModel, clustering_loss,
    masked_margin_softmax, merge, pairs, reconstruction_loss, simclr_logits,
};

/// A device on which gradients are computed.
fn autodiff_device() -> Device {
    Device::flex().autodiff()
}

/// The loss of a training step with this objective alone, for a batch in which every clip has all
/// modalities. There are as many modalities as `projections`, at least one.
fn step_loss(
    objective: Objective,
    projections: Vec<Tensor<2>>,
    fused: Option<Tensor<2>>,
    clusters: Option<&Clusters<'_>>,
    device: &Device,
) -> Tensor<1> {
    let rows = fused.as_ref().unwrap_or_else(|| &projections[0]).dims()[0];
    let modalities = MODALITIES.iter().take(projections.len().max(1));
    let heads = HeadsShape {
        modalities: modalities
            .clone()
            .map(|(name, _)| modality_shape(name, 2))
            .collect(),
        representation: 8,
        standardise: false,
    };
    let pretext = PretextShape {
        projection: 2,
        clusters: 0,
        reconstruction: 0,
        rectified_projection: true,
        rectified_reconstruction: true,
        alignment: None,
    };
    let model = PretextModel::new(&heads, &pretext, device);
    let batch = FeatureBatch {
        count: rows,
        modalities: modalities.map(|_| ((0..rows).collect(), vec![])).collect(),
    };
    let outputs = Outputs {
        embeddings: vec![],
        representations: vec![],
        reconstructions: vec![],
        projections,
        cluster_logits: vec![],
        fused,
    };
    model
        .losses(&outputs, &batch, &[objective], 0, clusters, device)
        .total
}

#[test]
fn masked_margin_softmax_equals_the_authors_loss() {
    let device = autodiff_device();
    each_case("mms_loss.json", |case, comparison| {
        let expected = reference(case);
        if let Some(similarities) = case["inputs"].get("S") {
            let leaves: Vec<Tensor<2>> = arrays(similarities)
                .iter()
                .map(|s| s.leaf(&device))
                .collect();
            let each: Vec<Tensor<1>> = leaves
                .iter()
                .map(|s| masked_margin_softmax(s.clone(), number(&case["margin"])))
                .collect();
            for (i, loss) in each.iter().enumerate() {
                comparison.loss("per matrix", loss.clone(), &expected["loss_per_matrix"][i]);
            }
            let total = each.into_iter().reduce(|a, b| a + b).unwrap();
            comparison.loss("loss", total.clone(), &expected["loss"]);
            let gradients = total.backward();
            for (i, leaf) in leaves.iter().enumerate() {
                comparison.gradient(
                    "S",
                    &values(leaf.grad(&gradients).unwrap()).unwrap(),
                    &expected["grad_S"][i],
                );
            }
            return;
        }
        // The other cases have projections: the model forms the pairs of modalities.
        let names = texts(&case["modalities"]);
        let projections: Vec<Tensor<2>> = names
            .iter()
            .map(|m| array(&case["inputs"][m]).leaf(&device))
            .collect();
        for (i, (a, b)) in pairs(names.len()).into_iter().enumerate() {
            let similarity = unit_rows(projections[a].clone())
                .matmul(unit_rows(projections[b].clone()).transpose());
            comparison.values("S", similarity, &expected["S"][i]);
        }
        let objective = Objective::Contrastive {
            weight: 1.0,
            temperature: 1.0,
        };
        let total = step_loss(objective, projections.clone(), None, None, &device);
        comparison.loss("loss", total.clone(), &expected["loss"]);
        let gradients = total.backward();
        for (name, leaf) in names.iter().zip(&projections) {
            comparison.gradient(
                name,
                &values(leaf.grad(&gradients).unwrap()).unwrap(),
                &expected["grad"][name],
            );
        }
    });
}

#[test]
fn clustering_loss_equals_the_authors_loss() {
    let device = autodiff_device();
    each_case("clustering_loss.json", |case, comparison| {
        let (inputs, expected) = (&case["inputs"], reference(case));
        let (features, centroids): (Tensor<2>, Tensor<2>) = (
            array(&inputs["features"]).leaf(&device),
            array(&inputs["centroids"]).leaf(&device),
        );
        let labels = array(&inputs["labels_all"]).indices();
        // As training does, with the labels of the queue before those of the batch. The centroids
        // of training have no gradient.
        let objective = Objective::Clustering {
            weight: 1.0,
            mode: ClusterMode::Joint,
            clusters: centroids.dims()[0],
            queue: 0,
            queue_reduction: 1,
            start_epoch: 0,
        };
        let clusters = Clusters {
            labels: &labels,
            centroids: &array(&inputs["centroids"]).singles(),
        };
        let loss = step_loss(
            objective,
            vec![],
            Some(features.clone()),
            Some(&clusters),
            &device,
        );
        comparison.loss("loss", loss.clone(), &expected["loss"]);
        let gradient = features.grad(&loss.backward()).unwrap();
        comparison.gradient(
            "features",
            &values(gradient).unwrap(),
            &expected["grad_features"],
        );
        let own = &labels[labels.len() - features.dims()[0]..];
        let loss = clustering_loss(features, centroids.clone(), own, MARGIN);
        let gradient = centroids.grad(&loss.backward()).unwrap();
        comparison.gradient(
            "centroids",
            &values(gradient).unwrap(),
            &expected["grad_centroids"],
        );
    });
}

#[test]
fn reconstruction_loss_equals_the_authors_loss() {
    let device = autodiff_device();
    each_case("reconstruction_loss.json", |case, comparison| {
        let (inputs, expected) = (&case["inputs"], reference(case));
        let names = modalities_of(&inputs["reconstructions"]);
        let found: Vec<Tensor<2>> = names
            .iter()
            .map(|m| array(&inputs["reconstructions"][m]).leaf(&device))
            .collect();
        let targets: Vec<Tensor<2>> = names
            .iter()
            .map(|m| array(&inputs["targets"][m]).tensor(&device))
            .collect();
        for (i, name) in names.iter().enumerate() {
            let one = reconstruction_loss(&found[i..=i], &targets[i..=i]).unwrap();
            comparison.loss(name, one, &expected["per_modality"][name]);
        }
        let loss = reconstruction_loss(&found, &targets).unwrap();
        comparison.loss("loss", loss.clone(), &expected["loss"]);
        let gradients = loss.backward();
        for (name, leaf) in names.iter().zip(&found) {
            comparison.gradient(
                name,
                &values(leaf.grad(&gradients).unwrap()).unwrap(),
                &expected["grad"][name],
            );
        }
    });
}

#[test]
fn merged_losses_equal_the_authors_mean() {
    let device = autodiff_device();
    each_case("losses_merging.json", |case, comparison| {
        let expected = reference(case);
        let (names, active) = (texts(&case["names"]), texts(&case["active"]));
        let weights = array(&case["weights"]).data;
        let leaves: Vec<Tensor<1>> = array(&case["inputs"]["values"])
            .singles()
            .iter()
            .map(|v| Tensor::from_floats([*v], &device).require_grad())
            .collect();
        let is_active = |i: &usize| active.contains(&names[*i]);
        let weighted: Vec<_> = (0..names.len())
            .filter(is_active)
            .map(|i| (weights[i], leaves[i].clone()))
            .collect();
        let plain: Vec<_> = weighted
            .iter()
            .map(|(_, loss)| (1.0, loss.clone()))
            .collect();
        let merged = merge(&weighted).unwrap();
        comparison.loss("merged", merged.clone(), &expected["outputs"]["merged"]);
        comparison.loss(
            "unweighted",
            merge(&plain).unwrap(),
            &expected["outputs"]["unweighted"],
        );
        for (i, name) in names.iter().enumerate().filter(|(i, _)| is_active(i)) {
            comparison.loss(
                name,
                merge(&[(weights[i], leaves[i].clone())]).unwrap(),
                &expected["outputs"][name],
            );
        }
        let gradients = merged.backward();
        for (i, leaf) in leaves.iter().enumerate() {
            match leaf.grad(&gradients) {
                Some(gradient) => comparison.loss("gradient", gradient, &expected["grads"][i]),
                None => comparison.exact("gradient", expected["grads"][i].is_null(), true),
            }
        }
    });
}

#[test]
fn simclr_loss_equals_the_authors_loss() {
    let device = autodiff_device();
    each_case("simclr_loss.json", |case, comparison| {
        let expected = reference(case);
        let features: Tensor<2> = array(&case["inputs"]["features"]).leaf(&device);
        let (views, temperature) = (count(&case["n_views"]), number(&case["temperature"]));
        comparison.values(
            "logits",
            simclr_logits(unit_rows(features.clone()), views, temperature),
            &expected["logits"],
        );
        comparison.exact(
            "labels",
            array(&expected["labels"]).indices().iter().all(|l| *l == 0),
            true,
        );
        let objective = Objective::Simclr {
            weight: 1.0,
            temperature,
            views,
        };
        let loss = step_loss(objective, vec![features.clone()], None, None, &device);
        comparison.loss("loss", loss.clone(), &expected["loss"]);
        let gradient = features.grad(&loss.backward()).unwrap();
        comparison.gradient(
            "features",
            &values(gradient).unwrap(),
            &expected["grad_features"],
        );
    });
}

/// The length of a zero vector is 0, so normalisation must not divide by it.
#[test]
fn a_projection_of_zeros_has_a_finite_loss_and_gradient() {
    let device = autodiff_device();
    let zeros = Tensor::<2>::zeros([3, 4], &device).require_grad();
    let other = Tensor::<2>::ones([3, 4], &device);
    let loss = masked_margin_softmax(
        unit_rows(zeros.clone()).matmul(unit_rows(other).transpose()),
        0.001,
    );
    assert!(scalar(loss.clone()).is_finite());
    let gradient = values(zeros.grad(&loss.backward()).unwrap()).unwrap();
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
}
