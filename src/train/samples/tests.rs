//! Tests of the training batches of the encoders: windows, targets, mixup, augmentation.

use super::*;
use crate::model::golden::golden_samples;
use crate::train::data::Part;
use crate::train::data::votes::Votes;

/// A clip of `length` samples at 16 kHz, with speech between the samples `speech[0]` and
/// `speech[1]`.
fn clip(length: usize, speech: [usize; 2]) -> LabelledClip {
    LabelledClip {
        samples: golden_samples(1, length),
        speech,
        emotion: 2,
        corpus: crate::train::data::speech_clip::Corpus::Ravdess,
        actor: 1,
        part: Part::Train,
    }
}

#[test]
fn evaluation_windows_lie_within_speech() {
    let starts = |clip: &LabelledClip| {
        let base = clip.samples.as_ptr() as usize;
        windows(clip, 32_000, 8_000)
            .iter()
            .map(|w| (w.len(), (w.as_ptr() as usize - base) / 4))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        starts(&clip(64_000, [8_000, 57_000])),
        [(32_000, 8_000), (32_000, 16_000), (32_000, 24_000)]
    );
    assert_eq!(starts(&clip(64_000, [20_000, 40_000])), [(32_000, 14_000)]);
    assert_eq!(starts(&clip(20_000, [0, 20_000])), [(20_000, 0)]);
}

#[test]
fn live_windows_end_every_hop_during_speech() {
    let spans = |clip: &LabelledClip, least| {
        let base = clip.samples.as_ptr() as usize;
        live_windows(clip, 32_000, 3_200, least)
            .iter()
            .map(|w| (w.as_ptr() as usize - base) / 4)
            .zip(live_windows(clip, 32_000, 3_200, least))
            .map(|(start, w)| [start, start + w.len()])
            .collect::<Vec<_>>()
    };
    let early = spans(&clip(64_000, [16_000, 48_000]), 4_800);
    assert_eq!(
        (early[0], early[1], early.len()),
        ([0, 20_800], [0, 24_000], 9)
    );
    assert_eq!(early[8], [14_400, 46_400]);
    // Speech that is shorter than the minimum gives one window, which contains all of it.
    assert_eq!(
        spans(&clip(64_000, [40_000, 42_000]), 4_800),
        [[10_000, 42_000]]
    );
}

#[test]
fn random_windows_contain_at_least_600_ms_of_speech() {
    let clip = clip(64_000, [16_000, 48_000]);
    let mut rng = generator(1, 0, 0);
    for _ in 0..200 {
        let start = random_start(&clip, 16_000, &mut rng);
        let spoken = (start + 16_000).min(48_000) - start.max(16_000);
        assert!(
            spoken >= 9_600 && start + 16_000 <= 64_000,
            "{start}: {spoken}"
        );
    }
}

#[test]
fn smoothed_and_mixed_targets_sum_to_one() {
    let mut targets: Vec<f32> = smoothed(1, 4, 0.1).chain(smoothed(3, 4, 0.1)).collect();
    assert!((targets[1] - 0.925).abs() < 1e-6);
    mix_with_next(&mut targets, 2, 0.7);
    for row in targets.chunks(4) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    assert!(targets[1] > targets[3] && targets[7] > targets[5]);
}

#[test]
fn distillation_targets_mix_labels_and_teacher_predictions() {
    let mut recipe =
        crate::train::recipe::Recipe::read(&crate::testing::project("config/train/default.toml"))
            .unwrap();
    recipe.face.mixup = 0.0;
    let round = crate::train::recipe::DistillationRound {
        teacher_weight: 0.25,
        shape: None,
        camera_variation: None,
        early: Some(EarlyEpochs {
            epochs: 1,
            size: 40,
        }),
        fit: FitSettings {
            label_smoothing: 0.05,
            ..recipe.face.fit.clone()
        },
    };
    let picture = |i: u64| VotedCrop {
        crop: crate::model::golden::golden_crop(i, 0, 48, 1),
        votes: Votes::single(i as usize % 7),
    };
    let crops: Vec<_> = (0..2 * round.fit.batch as u64).map(picture).collect();
    // For every picture, the teacher is certain of the label after the right one.
    let probabilities: Vec<f32> = crops
        .iter()
        .flat_map(|c| {
            let wrong = (c.votes.first().unwrap() + 1) % 7;
            (0..7).map(move |i| f32::from(i == wrong))
        })
        .collect();
    let first = FaceBatches {
        crops: &crops,
        mean_agreement: mean_agreement(&crops),
        recipe: &recipe.face,
        fit: &round.fit,
        early: round.early,
        camera_variation: 1.0,
        teacher: None,
        classes: 7,
        seed: 3,
    };
    let (label, smoothing) = (first.batch(0, 1), round.fit.label_smoothing);
    assert_eq!(label.shape, [round.fit.batch, 1, 40, 40]);
    let second = FaceBatches {
        teacher: Some((probabilities, 0.25)),
        ..first
    };
    let both = second.batch(0, 1);
    assert_eq!(
        (both.values == label.values, both.shape),
        (true, label.shape),
        "the same pictures"
    );
    for (before, after) in label.targets.chunks(7).zip(both.targets.chunks(7)) {
        let class = before.iter().position(|t| *t > 0.5).unwrap();
        assert!((after.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(
            (after[class] - 0.75 * before[class]).abs() < 1e-6
                && (after[(class + 1) % 7] - 0.25 - 0.75 * smoothing / 7.0).abs() < 1e-6
        );
    }
    // Later epochs have pictures of the full size.
    assert_eq!(second.batch(round.early.unwrap().epochs, 0).shape[2], 48);
}

#[test]
fn face_targets_are_the_votes_weighted_by_agreement() {
    let mut recipe =
        crate::train::recipe::Recipe::read(&crate::testing::project("config/train/default.toml"))
            .unwrap();
    let fit = FitSettings {
        batch: 2,
        label_smoothing: 0.0,
        ..recipe.face.fit.clone()
    };
    let picture = |i: u64, counts, neither| VotedCrop {
        crop: crate::model::golden::golden_crop(i, 0, 48, 1),
        votes: Votes::new(counts, 0, neither).unwrap(),
    };
    // The first picture has ten votes for label 1. The second has four votes for label 2, one for
    // label 0, and five for none of the labels.
    let crops = [
        picture(0, [0, 10, 0, 0, 0, 0, 0], 0),
        picture(1, [1, 0, 4, 0, 0, 0, 0], 5),
    ];
    let targets = |recipe: &FaceRecipe| {
        let batch = FaceBatches {
            crops: &crops,
            mean_agreement: mean_agreement(&crops),
            recipe,
            fit: &fit,
            early: None,
            camera_variation: 1.0,
            teacher: None,
            classes: 7,
            seed: 3,
        }
        .batch(0, 0);
        let mut rows: Vec<Vec<f32>> = batch.targets.chunks(7).map(<[f32]>::to_vec).collect();
        rows.sort_by(|a, b| a[1].total_cmp(&b[1]));
        rows
    };
    recipe.face.mixup = 0.0;
    let plain = targets(&recipe.face);
    // Weights 1 and 0.4; their mean is 0.7.
    let [sure, torn] = [1.0 / 0.7, 0.4 / 0.7];
    for (row, expected) in plain.iter().zip([
        [0.2 * torn, 0.0, 0.8 * torn, 0.0, 0.0, 0.0, 0.0],
        [0.0, sure, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]) {
        let alike = row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(alike, "{row:?}, expected {expected:?}");
    }
    // With mixup, targets are mixed too, with the larger share for the own target.
    recipe.face.mixup = 5.0;
    let mixed = targets(&recipe.face);
    assert!(mixed[1][1] >= 0.5 * sure && mixed[1][1] < sure && mixed[0][1] > 0.0);
    assert!((mixed[0][1] + mixed[1][1] - sure).abs() < 1e-5);
}

#[test]
fn voice_batches_have_the_shape_of_the_recipe_and_are_reproducible() {
    let recipe =
        crate::train::recipe::Recipe::read(&crate::testing::project("config/train/default.toml"))
            .unwrap();
    let clips: Vec<_> = (0..64).map(|_| clip(50_000, [8_000, 44_000])).collect();
    let mel = LogMel::new(&recipe.voice.preprocessing);
    let batches = VoiceBatches {
        clips: &clips,
        recipe: &recipe.voice,
        window_ms: 2000,
        classes: 8,
        seed: 5,
        mel,
    };
    let batch = batches.batch(3, 1);
    assert_eq!(
        (batch.shape[0], batch.shape[1], batch.shape[2]),
        (32, 1, 64)
    );
    assert!((101..=201).contains(&batch.shape[3]), "{:?}", batch.shape);
    assert_eq!(batch.values.len(), batch.shape.iter().product::<usize>());
    assert_eq!(batch.values, batches.batch(3, 1).values);
    assert_ne!(batch.values, batches.batch(4, 1).values);
}

#[test]
fn without_camera_variation_pictures_are_only_moved_and_with_it_the_requested_share_changes() {
    let recipe =
        crate::train::recipe::Recipe::read(&crate::testing::project("config/train/default.toml"))
            .unwrap();
    let fit = FitSettings {
        batch: 400,
        ..recipe.face.fit.clone()
    };
    // Pictures of one shade, which only changes of light, noise, glare and erasing can alter.
    let crops: Vec<VotedCrop> = (0..400)
        .map(|_| VotedCrop {
            crop: crate::clip::Crop {
                size: 48,
                channels: 1,
                pixels: vec![90; 48 * 48],
            },
            votes: Votes::single(0),
        })
        .collect();
    let changed = |camera_variation| {
        let face = FaceRecipe {
            mixup: 0.0,
            ..recipe.face.clone()
        };
        let batch = FaceBatches {
            crops: &crops,
            mean_agreement: mean_agreement(&crops),
            recipe: &face,
            fit: &fit,
            early: None,
            camera_variation,
            teacher: None,
            classes: 7,
            seed: 3,
        }
        .batch(0, 0);
        let rows = batch.values.chunks(48 * 48);
        rows.filter(|row| row.iter().any(|v| (v - row[0]).abs() > 1e-3))
            .count()
    };
    let all = changed(1.0);
    assert_eq!(changed(0.0), 0);
    assert!(all > 240, "{all} of 400");
    let share = changed(0.3) as f64 / all as f64;
    assert!((0.2..0.4).contains(&share), "{share}");
}
