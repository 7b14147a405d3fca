//! Parity of the heads with the reference: outputs and gradients.

use burn::tensor::{Device, Tensor};

use super::fixture::{array, arrays, count, each_case, modalities_of, modality_shape, reference};
use super::places::NamedParameters;
use crate::train::fit::values;
use crate::train::heads::{
    ClassificationHead, ClassifierShape, HeadsShape, PretextHeads, PretextShape,
    RepresentationHead, unit_rows,
};
use crate::train::metrics::Truth;
use crate::train::objective::label_loss;

#[test]
fn gated_embedding_units_equal_the_authors_units() {
    let device = Device::flex().autodiff();
    each_case("gated_embedding_unit.json", |case, comparison| {
        let (params, expected) = (&case["params"], reference(case));
        let x: Tensor<2> = array(&case["inputs"]["x"]).leaf(&device);
        // The voice's head has a linear layer (`1`) after the unit (`0`).
        let audio = params.get("1.weight").map(|widen| array(widen).shape[0]);
        let shape = modality_shape(
            if audio.is_some() {
                "audio_spectrograms"
            } else {
                "texts"
            },
            x.dims()[1],
        );
        let representation = audio.unwrap_or_else(|| array(&params["fc1.weight"]).shape[0]);
        let mut head = RepresentationHead::new(shape, representation, &device);
        let mut parameters = NamedParameters::default();
        parameters.representation("", &mut head);
        parameters.load(params, &device);
        let y = head.forward(x.clone());
        comparison.values("y", y.clone(), &expected["y"]);
        let gradients = (y * array(&case["inputs"]["upstream_grad"]).tensor(&device))
            .sum()
            .backward();
        comparison.gradient(
            "x",
            &values(x.grad(&gradients).unwrap()).unwrap(),
            &expected["grad_x"],
        );
        let mut parameters = NamedParameters::default();
        parameters.representation("", &mut head);
        parameters.compare_gradients(&expected["grad_params"], &gradients, comparison);
    });
}

#[test]
fn pretext_heads_equal_the_authors_heads() {
    each_case("pretraining_heads.json", |case, comparison| {
        let (dims, expected, after) =
            (&case["dims"], reference(case), &reference(case)["bn_after"]);
        let before = array(&case["params"]["projection_head.1.num_batches_tracked"]).indices()[0];
        let trains = count(&after["num_batches_tracked"]) > before;
        let device = if trains {
            Device::flex().autodiff()
        } else {
            Device::flex()
        };
        let names = modalities_of(&case["inputs"]);
        let heads = HeadsShape {
            modalities: names
                .iter()
                .map(|m| modality_shape(m, count(&dims["embedding"][m])))
                .collect(),
            representation: count(&dims["representation"]),
            standardise: false,
        };
        let shape = PretextShape {
            projection: count(&dims["projection"]),
            clusters: count(&dims["clusters"]),
            reconstruction: count(&dims["reconstruction"]),
            rectified_projection: true,
            rectified_reconstruction: true,
            alignment: None,
        };
        let mut pretext = PretextHeads::new(&heads, &shape, &device);
        comparison.exact(
            "hidden",
            pretext.narrow.weight.dims()[1],
            count(&dims["projection_hidden"]),
        );
        let mut parameters = NamedParameters::default();
        parameters.pretext("", &names, &mut pretext);
        parameters.load(&case["params"], &device);
        for (i, name) in names.iter().enumerate() {
            let representation: Tensor<2> = array(&case["inputs"][name]).tensor(&device);
            let projection = pretext.project_narrowed(pretext.narrow(representation.clone()));
            comparison.values(
                name,
                pretext.cluster(projection.clone()),
                &expected["cluster_logits"][name],
            );
            comparison.values(
                name,
                unit_rows(projection),
                &expected["projections_normalised"][name],
            );
            comparison.values(
                name,
                pretext.reconstruct(i, representation),
                &expected["reconstructions"][name],
            );
        }
        comparison.values(
            "running mean",
            pretext.norm.running_mean.value_sync(),
            &after["running_mean"],
        );
        comparison.values(
            "running variance",
            pretext.norm.running_var.value_sync(),
            &after["running_var"],
        );
    });
}

#[test]
fn classification_heads_equal_the_authors_heads() {
    each_case("classification_head.json", |case, comparison| {
        let (params, expected) = (case["params"].as_object().unwrap(), reference(case));
        let inputs = arrays(&case["inputs"]["representations"]);
        let targets = array(&case["inputs"]["targets"]);
        let weights = case
            .get("class_weights")
            .filter(|w| !w.is_null())
            .map(|w| array(w).singles());
        // The authors' layers are sequences. A linear layer is named by its position in its
        // sequence.
        let name = |layer: usize| {
            let prefix = format!("linear_layers.{layer}.");
            params
                .keys()
                .find(|k| k.starts_with(&prefix) && k.ends_with(".weight"))
                .map(|k| k.trim_end_matches(".weight").to_owned())
        };
        let names: Vec<String> = (0..).map_while(name).collect();
        let widths: Vec<usize> = names
            .iter()
            .map(|n| array(&params[&format!("{n}.weight")]).shape[0])
            .collect();
        let dropout = |share| ClassifierShape {
            layers: names.len(),
            hidden: widths[0],
            dropout: share,
            presence: false,
        };
        let labels = *widths.last().unwrap();
        let build = |share, device: &Device| {
            let mut head = ClassificationHead::new(
                &dropout(share),
                inputs.len(),
                inputs[0].shape[1],
                labels,
                device,
            );
            let mut parameters = NamedParameters::default();
            names
                .iter()
                .zip(&mut head.layers)
                .for_each(|(name, layer)| parameters.linear(name, layer));
            parameters.load(&case["params"], device);
            head
        };
        let forward = |head: &ClassificationHead, xs: &[Tensor<2>]| {
            let presence = Tensor::ones([xs[0].dims()[0], xs.len()], &xs[0].device());
            head.forward(xs.to_vec(), presence)
        };
        // Dropout has no effect in inference.
        let inference = Device::flex();
        let xs: Vec<Tensor<2>> = inputs.iter().map(|x| x.tensor(&inference)).collect();
        comparison.values(
            "logits",
            forward(&build(0.5, &inference), &xs),
            &expected["logits"],
        );

        let device = Device::flex().autodiff();
        let mut head = build(0.0, &device);
        let xs: Vec<Tensor<2>> = inputs.iter().map(|x| x.leaf(&device)).collect();
        let logits = forward(&head, &xs);
        let truth = match targets.shape.len() {
            1 => Truth::Classes(targets.indices()),
            _ => Truth::Labels(targets.data.iter().map(|v| *v != 0.0).collect()),
        };
        let loss = label_loss(logits, &truth, weights.as_deref(), &device);
        comparison.loss("loss", loss.clone(), &expected["loss"]);
        let gradients = loss.backward();
        for (x, expected) in xs
            .iter()
            .zip(expected["grad_representations"].as_array().unwrap())
        {
            comparison.gradient(
                "representations",
                &values(x.grad(&gradients).unwrap()).unwrap(),
                expected,
            );
        }
        let mut parameters = NamedParameters::default();
        names
            .iter()
            .zip(&mut head.layers)
            .for_each(|(name, layer)| parameters.linear(name, layer));
        parameters.compare_gradients(&expected["grad_params"], &gradients, comparison);
    });
}
