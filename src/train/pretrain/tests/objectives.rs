//! Tests of the objectives beside ConCluGen's, in the training loop.

use burn::optim::ModuleOptimizer;

use super::replicas::weights;
use super::*;
use crate::train::features::Features;

/// Sigmoid alignment with the initial values of the paper.
pub(super) const SIGLIP: Objective = Objective::Siglip {
    weight: 1.0,
    scale: 10.0,
    bias: -10.0,
};

/// VICReg with the factors of the paper.
pub(super) const VICREG: Objective = Objective::Vicreg {
    weight: 1.0,
    invariance: 25.0,
    variance: 25.0,
    covariance: 1.0,
};

/// The recipe of the other tests with these objectives.
pub(super) fn recipe_of(objectives: Vec<Objective>, epochs: usize) -> PretrainRecipe {
    PretrainRecipe {
        objectives,
        ..recipe(epochs)
    }
}

/// The value of the curve `name` after each epoch of a run.
fn curve(recipe: &PretrainRecipe, features: &Features, name: &str) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder(folder.path().to_owned());
    let (_, progress) = pretrain(recipe, features, vec![], &run, false).unwrap();
    progress.curves[name].clone()
}

#[test]
fn each_objective_is_minimised_alone_and_beside_others_without_some_modalities() {
    let _turn = GENERATOR.lock();
    let gaps = with_missing_modalities(&small());
    for (name, objective) in [("siglip", SIGLIP), ("vicreg", VICREG)] {
        let losses = curve(&recipe_of(vec![objective.clone()], 6), &gaps, name);
        assert!(
            losses.iter().all(|loss| loss.is_finite()) && losses[5] < 0.9 * losses[0],
            "{name}: {losses:?}"
        );
        let joint = recipe_of([vec![objective], recipe(1).objectives].concat(), 3);
        assert!(joint.faults().is_empty());
        let losses = curve(&joint, &gaps, name);
        assert!(losses[2] < losses[0], "{name} beside others: {losses:?}");
    }
}

/// The losses of the two objectives for projections of face, voice and text, `[3, 2]` each, of
/// which the clips in `rows` are present.
fn losses_of(rows: [&[usize]; 3]) -> Vec<f32> {
    let features = small();
    let recipe = recipe_of(vec![SIGLIP, VICREG], 1);
    let net = PretextModel::new(&recipe.heads(&features), &recipe.pretext(), &device());
    let all = [
        [[0.3f32, 1.0], [0.5, -1.0], [-1.0, 0.2]],
        [[0.1, 2.0], [1.0, 0.4], [0.5, -2.0]],
        [[1.0, 0.7], [0.2, -0.4], [0.9, 0.6]],
    ];
    let projections = all.iter().zip(rows).map(|(clips, rows)| {
        let values = rows.iter().flat_map(|row| clips[*row]).collect();
        crate::train::fit::tensor(values, [rows.len(), 2], &device())
    });
    let outputs = crate::train::objective::Outputs {
        embeddings: vec![],
        representations: vec![],
        reconstructions: vec![],
        projections: projections.collect(),
        cluster_logits: vec![],
        fused: None,
    };
    let batch = FeatureBatch {
        count: 3,
        modalities: rows.map(|rows| (rows.to_vec(), vec![])).into(),
    };
    net.losses(&outputs, &batch, &recipe.objectives, 0, None, &device())
        .each
        .into_iter()
        .map(|(_, loss)| values(loss).unwrap()[0])
        .collect()
}

#[test]
fn a_pair_of_modalities_counts_the_clips_with_both_alone() {
    let _turn = GENERATOR.lock();
    // The text of one clip forms no pair: the loss is that of face and voice over the clips 0, 2.
    let expected = losses_of([&[0, 2], &[0, 2], &[]]);
    assert_eq!(expected.len(), 2);
    for rows in [
        [&[0, 2][..], &[0, 1, 2][..], &[1][..]],
        [&[0, 2], &[0, 2], &[0]],
        [&[0, 1, 2], &[0, 2], &[1]],
    ] {
        assert_eq!(losses_of(rows), expected, "{rows:?}");
    }
    assert_ne!(losses_of([&[0, 1, 2], &[0, 1, 2], &[]]), expected);
    assert!(
        losses_of([&[0], &[1, 2], &[0, 1]]).is_empty(),
        "no pair has two clips"
    );
}

/// Trains `steps` further steps from number `from` on.
fn steps(
    recipe: &PretrainRecipe,
    features: &Features,
    net: PretextModel,
    optimizer: &mut ModuleOptimizer,
    from: usize,
) -> PretextModel {
    let training = vec![device().autodiff()];
    let mut net = net.to_device(&training[0]).train();
    for step in from..from + 3 {
        let rows: Vec<usize> = (step * 32..(step + 1) * 32).collect();
        let batch = features.batch(&rows).unwrap();
        (net, _) = train_step(
            recipe, net, optimizer, &batch, 0, step, None, 1e-3, &training,
        )
        .unwrap();
    }
    net.valid()
}

#[test]
fn a_checkpoint_keeps_the_learned_scale_and_bias() {
    let _turn = GENERATOR.lock();
    let (features, recipe) = (small(), recipe_of(vec![SIGLIP, VICREG], 1));
    device().seed(4);
    let new = || PretextModel::new(&recipe.heads(&features), &recipe.pretext(), &device());
    let (first, mut optimizer) = (new(), recipe.optimizer());
    let half = steps(&recipe, &features, first.clone(), &mut optimizer, 0);
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder(folder.path().to_owned());
    run.save(&half, &optimizer, &Progress::default()).unwrap();
    let whole = steps(&recipe, &features, half, &mut optimizer, 3);
    let (half, mut optimizer) = run.load(new(), recipe.optimizer(), 0).unwrap();
    let resumed = steps(&recipe, &features, half, &mut optimizer, 3);
    assert_eq!(weights(&resumed), weights(&whole));
    let learned = |net: &PretextModel| {
        let alignment = net.pretext.alignment.as_ref().unwrap();
        let value = |value| values::<1>(value).unwrap()[0];
        [
            value(alignment.log_scale.val()),
            value(alignment.bias.val()),
        ]
    };
    assert_eq!(learned(&first), [10f32.ln(), -10.0]);
    for (before, after) in learned(&first).iter().zip(learned(&resumed)) {
        let change = (after - before).abs();
        assert!((1e-3..1e-1).contains(&change), "{before} {after}");
    }
}

#[test]
fn invalid_settings_of_siglip_and_vicreg_are_refused_with_the_permitted_values() {
    let faults = |objective: Objective| recipe_of(vec![objective], 1).faults().join("; ");
    assert_eq!(faults(SIGLIP) + &faults(VICREG), "");
    let siglip = |scale, bias| Objective::Siglip {
        weight: 1.0,
        scale,
        bias,
    };
    assert_eq!(
        faults(siglip(0.0, f64::NAN)),
        "scale of siglip is 0, permitted are numbers above 0; bias of siglip is NaN, permitted \
         are finite numbers"
    );
    let vicreg = |invariance, variance, covariance| Objective::Vicreg {
        weight: 1.0,
        invariance,
        variance,
        covariance,
    };
    assert_eq!(faults(vicreg(1.0, 0.0, 0.0)), "");
    assert!(faults(vicreg(0.0, 0.0, 0.0)).contains("vicreg has no term"));
    assert_eq!(
        faults(vicreg(1.0, -1.0, f64::INFINITY)),
        "variance of vicreg is -1, permitted are numbers from 0; covariance of vicreg is inf, \
         permitted are numbers from 0"
    );
    let face = PretrainRecipe {
        modalities: vec![Modality::Face],
        rectified_projection: true,
        ..recipe_of(vec![SIGLIP, VICREG], 1)
    };
    let faults = face.faults().join("; ");
    for expected in [
        "siglip needs two modalities",
        "vicreg needs two modalities",
        "vicreg needs rectified_projection = false",
    ] {
        assert!(faults.contains(expected), "{faults}");
    }
}
