//! Subgroup accuracy: by size and brightness of the face picture, and by the speaker's sex.

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clip::Crop;
use crate::preprocess::normalise;
use crate::train::augment::{bilinear, normal};
use crate::train::calibrate::argmax;
use crate::train::data::fer::LabelledCrop;
use crate::train::data::speech_clip::Corpus;
use crate::train::figure::Subgroup;
use crate::train::opened_bundle::OpenedBundle;

/// Bounds of the mean pixel value, 0..255: a picture is dark below the first bound, and bright from
/// the second one on.
const BRIGHTNESS: [f64; 2] = [90.0, 160.0];

/// A picture, and the index of its label in [`LABELS`](crate::labels::LABELS).
type LabelledPicture<'a> = (&'a Crop, usize);

/// Accuracy of the face encoder on pictures with a majority label: by picture size, by brightness,
/// and with a simulated dim camera. Two more subgroups compare with FER2013's own labels; the
/// second one includes `copies`, which have an identical picture in the training data.
pub fn faces(
    opened: &mut OpenedBundle,
    crops: &[LabelledCrop],
    copies: &[LabelledCrop],
) -> anyhow::Result<Vec<Subgroup>> {
    let clear: Vec<LabelledPicture<'_>> = crops
        .iter()
        .filter_map(|c| Some((&c.crop, c.votes.ok()?.first()?)))
        .collect();
    let whole = correct_predictions(opened, &clear, &mut Crop::clone)?;
    let mut found = vec![Subgroup::new("face size 48 px (original)", &whole)];
    for factor in [2, 3, 4] {
        let name = format!("face size {} px, enlarged to 48 px", 48 / factor);
        found.push(Subgroup::new(
            &name,
            &correct_predictions(opened, &clear, &mut |crop| coarse(crop, factor))?,
        ));
    }
    let brightness = |crop: &Crop| {
        crop.pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / crop.pixels.len().max(1) as f64
    };
    for (name, low, high) in [
        ("dark", 0.0, BRIGHTNESS[0]),
        ("medium", BRIGHTNESS[0], BRIGHTNESS[1]),
        ("bright", BRIGHTNESS[1], 256.0),
    ] {
        let of: Vec<bool> = clear
            .iter()
            .zip(&whole)
            .filter(|((crop, _), _)| (low..high).contains(&brightness(crop)))
            .map(|(_, right)| *right)
            .collect();
        found.push(Subgroup::new(
            &format!("brightness of the picture: {name}"),
            &of,
        ));
    }
    let mut rng = StdRng::seed_from_u64(1);
    found.push(Subgroup::new(
        "simulated dim camera: a sixth of the brightness, with sensor noise",
        &correct_predictions(opened, &clear, &mut |crop| dim(crop, &mut rng))?,
    ));
    let new = correct_predictions(opened, &own_labels(crops), &mut Crop::clone)?;
    let copied = correct_predictions(opened, &own_labels(copies), &mut Crop::clone)?;
    found.push(Subgroup::new(
        "FER2013's original labels, which are the majority label of 63 in 100 pictures",
        &new,
    ));
    let name = format!(
        "FER2013's original labels, all of PublicTest as in published results: {} of its pictures \
         have a copy in Training",
        copies.len()
    );
    found.push(Subgroup::new(&name, &[new, copied].concat()));
    Ok(found)
}

/// The pictures with FER2013's own labels.
fn own_labels(crops: &[LabelledCrop]) -> Vec<LabelledPicture<'_>> {
    crops.iter().map(|c| (&c.crop, c.label)).collect()
}

/// Accuracy of the voice encoder for men, then for women. `answers`: for each clip, whether the
/// speaker is a woman, and whether the prediction is correct.
pub fn voices(corpus: Corpus, answers: &[(bool, bool)]) -> Vec<Subgroup> {
    let of = |name: &str, women: bool| {
        let right: Vec<bool> = (answers.iter())
            .filter(|(is_woman, _)| *is_woman == women)
            .map(|(_, right)| *right)
            .collect();
        Subgroup::new(&format!("{}, clips: {name}", corpus.name()), &right)
    };
    vec![of("men", false), of("women", true)]
}

/// For each picture, after `change`, whether the face encoder predicts its label.
fn correct_predictions(
    opened: &mut OpenedBundle,
    pictures: &[LabelledPicture<'_>],
    change: &mut dyn FnMut(&Crop) -> Crop,
) -> anyhow::Result<Vec<bool>> {
    let settings = opened
        .manifest
        .face
        .clone()
        .context("the bundle has no [face]")?;
    let shape = [settings.channels, settings.size, settings.size];
    let is_right = |(crop, label): &LabelledPicture<'_>| {
        let input = normalise(&change(crop), &settings.normalise);
        let [_, logits] = OpenedBundle::encode(&mut opened.face, &shape, &input)?;
        Ok(argmax(&logits.values) == *label)
    };
    pictures.iter().map(is_right).collect()
}

/// The picture reduced in size by `factor` and enlarged to its former size.
fn coarse(crop: &Crop, factor: usize) -> Crop {
    let side = crop.size / factor;
    let cell = |i: usize| {
        let (x, y) = (i % side * factor, i / side * factor);
        let pixels = (0..factor * factor)
            .map(|j| u32::from(crop.pixels[(y + j / factor) * crop.size + x + j % factor]));
        (pixels.sum::<u32>() / (factor * factor) as u32) as u8
    };
    let small = Crop {
        size: side,
        channels: 1,
        pixels: (0..side * side).map(cell).collect(),
    };
    let at = |i: usize| (i as f32 + 0.5) / factor as f32 - 0.5;
    let pixels = (0..crop.size * crop.size)
        .map(|i| bilinear(&small, 0, at(i % crop.size), at(i / crop.size)).round() as u8)
        .collect();
    Crop {
        size: crop.size,
        channels: 1,
        pixels,
    }
}

/// The picture at a sixth of its brightness, with normal noise of deviation 2.5 on the scale
/// 0..255.
fn dim(crop: &Crop, rng: &mut StdRng) -> Crop {
    let pixels = crop
        .pixels
        .iter()
        .map(|p| {
            (f32::from(*p) / 6.0 + 2.5 * normal(rng))
                .round()
                .clamp(0.0, 255.0) as u8
        })
        .collect();
    Crop {
        size: crop.size,
        channels: 1,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::golden_crop;

    #[test]
    fn coarse_pictures_keep_their_mean_and_lose_detail() {
        let crop = golden_crop(1, 0, 48, 1);
        let mean = |crop: &Crop| {
            crop.pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / crop.pixels.len() as f64
        };
        let roughness = |crop: &Crop| {
            crop.pixels
                .windows(2)
                .map(|p| f64::from(p[0].abs_diff(p[1])))
                .sum::<f64>()
        };
        let mut last = roughness(&crop);
        for factor in [2, 3, 4] {
            let found = coarse(&crop, factor);
            assert_eq!((found.size, found.pixels.len()), (48, 48 * 48));
            assert!(
                (mean(&found) - mean(&crop)).abs() < 2.0,
                "{} {}",
                mean(&found),
                mean(&crop)
            );
            assert!(roughness(&found) < last);
            last = roughness(&found);
        }
    }

    #[test]
    fn voices_gives_the_accuracy_of_men_and_of_women() {
        let answers = [(true, true), (false, true), (false, false), (true, false)];
        let found = voices(Corpus::Nemo, &answers);
        assert_eq!(
            (found[0].n, found[0].accuracy, found[1].n, found[1].accuracy),
            (2, 0.5, 2, 0.5)
        );
        assert!(found[0].interval[0] < 0.5 && found[0].interval[1] > 0.5);
    }
}
