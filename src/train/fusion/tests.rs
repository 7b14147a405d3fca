//! Tests of the training data, evaluation and calibration of the fusion head.

use std::collections::BTreeMap;

use super::*;
use crate::model::golden::golden_samples;
use crate::train::prior::mean_within_one_error;

/// Embeddings of length `dim`: five items of two views per label, with values near the index of the
/// label.
fn embeddings(dim: usize, seed: u64) -> LabelledEmbeddings {
    let mut embeddings = LabelledEmbeddings::new(dim);
    for label in 0..LABELS.len() {
        for item in 0..5 {
            embeddings.push(
                label,
                golden_samples(seed + (label * 10 + item) as u64, 2 * dim)
                    .into_iter()
                    .map(|v| v + label as f32)
                    .collect(),
            );
        }
    }
    embeddings
}

#[test]
fn the_mean_of_the_settings_within_one_standard_error_is_selected() {
    let tried = |shares: [f64; 5], count| {
        mean_within_one_error(
            &[0.0, 0.2, 0.4, 0.6, 0.8]
                .into_iter()
                .zip(shares)
                .map(|(s, f)| (s, f, count))
                .collect::<Vec<_>>(),
        )
    };
    // With 1,100 rows a standard error is 0.015.
    assert!((tried([0.50, 0.565, 0.57, 0.573, 0.52], 1100) - 0.4).abs() < 1e-6);
    assert!((tried([0.50, 0.565, 0.57, 0.573, 0.52], 1_000_000) - 0.6).abs() < 1e-6);
    assert!((tried([0.57; 5], 10) - 0.4).abs() < 1e-6);
}

#[test]
fn training_batches_balance_labels_and_subsets_and_zero_absent_modalities() {
    let all = [embeddings(4, 1), embeddings(6, 500), embeddings(5, 900)];
    let joined = Joined {
        all: &all,
        pairs: &[],
        same_person: 0.0,
        batch: 700,
        alone: 0.0,
        smoothing: 0.0,
        seed: 3,
    };
    let batch = joined.batch(0, 0);
    assert_eq!(batch, joined.batch(0, 0));
    for label in 0..LABELS.len() {
        let count = batch
            .targets
            .chunks(7)
            .filter(|row| row[label] == 1.0)
            .count();
        assert!((60..140).contains(&count), "label {label}: {count}");
    }
    let mut seen = BTreeMap::new();
    for (row, present) in batch.presence.chunks(3).enumerate() {
        *seen.entry(format!("{present:?}")).or_insert(0) += 1;
        for (i, dim) in [4, 6, 5].into_iter().enumerate() {
            assert_eq!(
                batch.embeddings[i][row * dim..][..dim]
                    .iter()
                    .all(|v| *v == 0.0),
                present[i] == 0.0
            );
        }
    }
    assert!(
        seen.len() == 7 && seen.values().all(|n| *n > 60),
        "{seen:?}"
    );
    // Single modalities are half of the rows, and three sevenths of the other half.
    let batch = Joined {
        alone: 0.5,
        ..joined
    }
    .batch(0, 0);
    let alone = batch
        .presence
        .chunks(3)
        .filter(|present| present.iter().sum::<f32>() == 1.0)
        .count();
    assert!((440..560).contains(&alone), "{alone} of 700");
}

#[test]
fn every_held_out_item_is_evaluated_and_joined_with_items_of_its_label() {
    let all = [embeddings(4, 1), embeddings(6, 500), embeddings(5, 900)];
    for subset in Presence::subsets() {
        let (batch, truth, shares) = held_out(&all, &subset);
        assert!(shares.iter().all(|share| *share == 1.0));
        let several = Modality::ALL.iter().filter(|m| *subset.get(**m)).count() > 1;
        assert_eq!(
            (batch.count, truth.len()),
            if several { (140, 140) } else { (35, 35) },
            "{}",
            subset.name()
        );
        for (row, label) in truth.iter().enumerate() {
            for (i, dim) in [4, 6, 5].into_iter().enumerate() {
                let mean = batch.embeddings[i][row * dim..][..dim].iter().sum::<f32>() / dim as f32;
                let expected = if *subset.get(Modality::ALL[i]) {
                    *label as f32
                } else {
                    0.0
                };
                assert!(
                    (mean - expected).abs() < 0.9,
                    "{}: {mean} for {label}",
                    subset.name()
                );
            }
        }
    }
}

#[test]
fn pictures_are_drawn_and_weighted_by_the_shares_of_their_votes() {
    let mut faces = LabelledEmbeddings::new(1);
    // Of the votes for the first picture, nine are for label 0 and one is for label 2. All votes
    // for the second picture are for label 2. Each other label has one picture.
    faces.push_shares(&[0.9, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0], vec![1.0]);
    faces.push_shares(&[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], vec![2.0]);
    for label in [1, 3, 4, 5, 6] {
        faces.push(label, vec![3.0]);
    }
    let all = [faces, embeddings(6, 500), embeddings(5, 900)];
    let batch = Joined {
        all: &all,
        pairs: &[],
        same_person: 0.0,
        batch: 7000,
        alone: 0.0,
        smoothing: 0.0,
        seed: 5,
    }
    .batch(0, 0);
    let (mut first, mut second) = (0, 0);
    for (row, target) in batch.targets.chunks(7).enumerate() {
        let seen = batch.embeddings[0][row];
        if batch.presence[3 * row] == 1.0 && target[2] == 1.0 {
            first += usize::from(seen == 1.0);
            second += usize::from(seen == 2.0);
        }
        assert!(target[0] == 0.0 || seen == 1.0 || seen == 0.0);
    }
    let share = first as f64 / (first + second) as f64;
    // About 570 rows, of which one in eleven shows the first picture.
    assert!((0.04..0.15).contains(&share), "{first} beside {second}");

    let (batch, truth, shares) = held_out(&all, &only(Modality::Face));
    assert_eq!(batch.count, 8);
    let of: Vec<(f32, usize, f64)> = (0..3)
        .map(|row| (batch.embeddings[0][row], truth[row], shares[row]))
        .collect();
    assert_eq!((of[0].0, of[0].1), (1.0, 0));
    assert!((of[0].2 - 0.9).abs() < 1e-6);
    let disputed = (0..8).filter(|row| batch.embeddings[0][*row] == 1.0);
    assert!((disputed.map(|row| shares[row]).sum::<f64>() - 1.0).abs() < 1e-6);
    // Each picture is evaluated once.
    let logits = single_modality_logits(&all, Modality::Face, &mut |batch| {
        assert_eq!(batch.count, 7);
        Ok(batch.embeddings[0].clone())
    });
    assert_eq!(logits.unwrap(), [1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
}

#[test]
fn absent_modalities_add_nothing_and_priors_apply_only_where_documented() {
    let _turn = crate::train::fit::tests::GENERATOR.lock();
    let device = device();
    let head = Head::new(&[4, 6, 5], 8, 7, &device);
    let run = |head: &Head, voice: f32, presence: [f32; 3]| {
        let batch = HeadBatch {
            count: 1,
            embeddings: vec![vec![0.3; 4], vec![voice; 6], vec![0.1; 5]],
            presence: presence.to_vec(),
            targets: vec![],
        };
        values(forward(head, &batch, &device)).unwrap()
    };
    assert_eq!(
        run(&head, 5.0, [1.0, 0.0, 1.0]),
        run(&head, -2.0, [1.0, 0.0, 1.0])
    );
    assert_ne!(
        run(&head, 5.0, [1.0, 1.0, 0.0]),
        run(&head, -2.0, [1.0, 1.0, 0.0])
    );
    let heavier = head.clone().scaled(&[2.0, 1.0, 1.0]);
    let (one, two) = (
        run(&head, 0.0, [1.0, 0.0, 0.0]),
        run(&heavier, 0.0, [1.0, 0.0, 0.0]),
    );
    assert!(
        one.iter()
            .zip(&two)
            .all(|(a, b)| (2.0 * a - b).abs() < 1e-5)
    );
    // The face's prior applies only if a face is present.
    let shares = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5];
    let seen = head.clone().with_modality_prior(FACE, &shares, &device);
    assert_eq!(
        run(&seen, 0.2, [0.0, 1.0, 1.0]),
        run(&head, 0.2, [0.0, 1.0, 1.0])
    );
    for presence in [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0; 3]] {
        let (with, without) = (run(&seen, 0.2, presence), run(&head, 0.2, presence));
        for (added, (a, b)) in shares.iter().zip(with.iter().zip(&without)) {
            assert!((a - b - added).abs() < 1e-5);
        }
    }
    // The prior of the text applies only if text is the only modality.
    let informed =
        head.clone()
            .with_single_modality_prior(2, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0], &device);
    for presence in [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0; 3]] {
        assert_eq!(run(&informed, 0.2, presence), run(&head, 0.2, presence));
    }
    let (plain, informed) = (
        run(&head, 0.2, [0.0, 0.0, 1.0]),
        run(&informed, 0.2, [0.0, 0.0, 1.0]),
    );
    let differences: Vec<f32> = informed.iter().zip(&plain).map(|(a, b)| a - b).collect();
    assert!(
        (differences[0] - 1.0).abs() < 1e-6
            && differences[3] == 0.0
            && (differences[6] + 1.0).abs() < 1e-6,
        "{differences:?}"
    );
}

#[test]
fn bounds_limit_the_logits_only_if_several_modalities_are_present() {
    let _turn = crate::train::fit::tests::GENERATOR.lock();
    let device = device();
    // Factors so large that each modality is certain of its label.
    let head = Head::new(&[4, 6, 5], 8, 7, &device).scaled(&[200.0, 100.0, 1.0]);
    let run = |head: &Head, presence: [f32; 3]| {
        let batch = HeadBatch {
            count: 1,
            embeddings: vec![vec![0.7; 4], vec![-0.9; 6], vec![0.1; 5]],
            presence: presence.to_vec(),
            targets: vec![],
        };
        values(forward(head, &batch, &device)).unwrap()
    };
    let spread = |row: &[f32]| {
        row.iter().copied().fold(f32::MIN, f32::max) - row.iter().copied().fold(f32::MAX, f32::min)
    };
    let bounded = head.clone().with_bounds(&[4.0, 3.0, 0.0]);
    for presence in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] {
        let (plain, same) = (run(&head, presence), run(&bounded, presence));
        assert!(spread(&plain) > 8.0, "sure: {plain:?}");
        let off = plain.iter().zip(&same).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-4, "alone: {plain:?}, {same:?}");
    }
    let most = 7.0 + 1e-3;
    let both = run(&bounded, [1.0, 1.0, 0.0]);
    assert!(spread(&both) <= most, "{both:?}");
    assert!(spread(&run(&head, [1.0, 1.0, 0.0])) > most);
}

#[test]
fn the_requested_share_of_faces_and_voices_is_of_one_person() {
    let all = [embeddings(4, 1), embeddings(6, 500), embeddings(5, 900)];
    let pair = EmbeddingPair {
        label: 3,
        face: vec![100.0; 4],
        voice: vec![200.0; 6],
    };
    let batch = Joined {
        all: &all,
        pairs: std::slice::from_ref(&pair),
        same_person: 0.5,
        batch: 7000,
        alone: 0.0,
        smoothing: 0.0,
        seed: 3,
    }
    .batch(0, 0);
    let (mut both, mut of_one) = (0, 0);
    for row in 0..batch.count {
        let is_one_face = batch.embeddings[0][4 * row] == 100.0;
        assert_eq!(is_one_face, batch.embeddings[1][6 * row] == 200.0);
        let presence = &batch.presence[3 * row..][..3];
        if batch.targets[7 * row + 3] == 1.0 && presence[..2] == [1.0, 1.0] {
            both += 1;
            of_one += usize::from(is_one_face);
        } else {
            assert!(!is_one_face);
        }
    }
    let share = f64::from(of_one as u32) / f64::from(both as u32);
    assert!((0.4..0.6).contains(&share), "{of_one} of {both}");
}

#[test]
fn pairs_of_one_person_weigh_as_much_as_all_joined_rows() {
    let all = [embeddings(4, 1), embeddings(6, 500), embeddings(5, 900)];
    let pairs: Vec<EmbeddingPair> = (0..3)
        .map(|_| EmbeddingPair {
            label: 2,
            face: vec![0.0; 4],
            voice: vec![0.0; 6],
        })
        .collect();
    // The predictions for joined rows are label 0, and those for pairs their label 2.
    let mut answer = |batch: &HeadBatch| -> anyhow::Result<Vec<f32>> {
        let right = usize::from(batch.count == pairs.len());
        let row = |i| if i == 2 * right { 1.0 } else { 0.0 };
        Ok((0..batch.count).flat_map(|_| (0..7).map(row)).collect())
    };
    let both = Presence {
        face: true,
        voice: true,
        text: false,
    };
    let predictions = evaluate_with_pairs(&all, &pairs, &both, &mut answer).unwrap();
    // Of the 140 joined rows, the 20 with label 0 are right.
    assert!((predictions.accuracy() - (20.0 + 140.0) / 280.0).abs() < 1e-9);
    assert_eq!(predictions.rows(), 143);
    let voice = evaluate_with_pairs(&all, &pairs, &only(Modality::Voice), &mut answer).unwrap();
    assert_eq!(voice.rows(), 35);
}

#[test]
fn a_joined_corpus_has_the_requested_share_of_draws_whatever_its_size() {
    let mut talk = LabelledEmbeddings::new(1);
    let mut comments = LabelledEmbeddings::new(1);
    for label in 0..LABELS.len() {
        talk.push(label, vec![0.0]);
        (0..50).for_each(|_| comments.push(label, vec![1.0]));
    }
    talk.join(comments, 0.25);
    assert_eq!(talk.count(), 7 * 51);
    let mut rng = generator(1, 0, 0);
    for label in 0..LABELS.len() {
        let drawn: f32 = (0..2000).map(|_| talk.draw(label, &mut rng)[0]).sum();
        assert!((400.0..600.0).contains(&drawn), "{drawn} of 2000");
    }
}
