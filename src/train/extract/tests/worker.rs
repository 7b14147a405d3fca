//! Tests of a worker's rows for recordings, intervals, pictures and texts.

use std::path::Path;

use super::super::*;
use super::demo;
use crate::testing::{material, project};
use crate::train::data::{Media, Picture, Split};

/// An unlabelled item without text.
fn item(media: Media, interval: Option<[f64; 2]>) -> Item {
    Item {
        id: "x".into(),
        split: Split::Train,
        group: String::new(),
        media,
        interval,
        text: None,
        target: None,
    }
}

/// A worker with a row per recording, without augmented views.
fn worker() -> Worker {
    worker_of(ClipsRule::Recording, 1)
}

/// A worker with the default bundle's encoders.
fn worker_of(rule: ClipsRule, views: u32) -> Worker {
    let files = EncoderSetFiles::read(&[project("models/default")]).unwrap();
    Worker::new(
        &Runtime::load().unwrap(),
        &files,
        Path::new("models/yunet"),
        Provider::Cpu,
        (rule, views),
    )
    .unwrap()
}

#[test]
fn rows_of_intervals_and_of_separate_files_agree_with_whole_recordings() {
    let Some(path) = material("av/ravdess_actor01/01-01-03-01-01-01-01.mp4") else {
        return;
    };
    let mut worker = worker();
    let whole = worker
        .extract(&item(Media::Recording(path.clone()), None))
        .rows
        .unwrap();
    let apart = worker
        .extract(&item(
            Media::Separate {
                video: path.clone(),
                audio: path.clone(),
            },
            None,
        ))
        .rows
        .unwrap();
    assert_eq!(whole, apart);
    let all = worker
        .extract(&item(Media::Recording(path.clone()), Some([0.0, 60.0])))
        .rows
        .unwrap();
    assert_eq!(whole, all);
    let part = worker
        .extract(&item(Media::Recording(path.clone()), Some([1.0, 2.5])))
        .rows
        .unwrap();
    assert!((part[0].seconds - 1.5).abs() < 1e-6, "{}", part[0].seconds);
    assert!(part[0].embeddings.contains_key("face") && part[0].embeddings != whole[0].embeddings);
    let beyond = worker
        .extract(&item(Media::Recording(path), Some([60.0, 61.0])))
        .rows;
    assert_eq!(beyond.unwrap_err(), Refusal::Beyond);
}

#[test]
fn face_weights_differ_between_rows_of_recordings_and_of_windows() {
    let of = |rule| {
        worker_of(rule, 1)
            .extract(&item(Media::Recording(demo()), Some([0.0, 2.0])))
            .rows
            .unwrap()
            .swap_remove(0)
    };
    let (whole, window) = (of(ClipsRule::Recording), of(ClipsRule::Window));
    assert_eq!(whole.embeddings["voice"], window.embeddings["voice"]);
    assert_ne!(whole.embeddings["face"], window.embeddings["face"]);
}

/// A picture that is not square is a whole scene, in which a face is detected. A square picture is
/// a crop that the data set made.
#[test]
fn faces_are_detected_in_whole_pictures() {
    let Some(archive) = material("faces/fer2013_training_publictest.tar.xz") else {
        return;
    };
    let mut face = None;
    let tar = liblzma::read::XzDecoder::new(std::fs::File::open(archive).unwrap());
    // Searches FER2013 for a face that is still detected if it fills less of the picture.
    let mut worker = worker();
    let folder = tempfile::tempdir().unwrap();
    let of = |worker: &mut Worker, name: &str, image: &image::GrayImage| {
        let file = folder.path().join(name);
        image.save(&file).unwrap();
        worker
            .extract(&item(Media::Picture(Picture::File(file)), None))
            .rows
    };
    let searched = crate::train::data::fer::for_each_picture(tar, |_, jpeg| {
        let near = image::load_from_memory(jpeg)?.into_luma8();
        let large = image::imageops::resize(&near, 192, 192, image::imageops::FilterType::Triangle);
        let mut far = image::GrayImage::from_pixel(640, 480, image::Luma([128]));
        image::imageops::replace(&mut far, &large, 300, 120);
        if let Ok(rows) = of(&mut worker, "far.png", &far) {
            face = Some((near, rows));
            anyhow::bail!("found");
        }
        Ok(())
    });
    assert_eq!(searched.unwrap_err().to_string(), "found");
    let (near, far) = face.unwrap();
    let (cut, far) = (
        &of(&mut worker, "near.png", &near).unwrap()[0].embeddings["face"],
        &far[0].embeddings["face"],
    );
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = product(cut, far) / (product(cut, cut) * product(far, far)).sqrt();
    assert!(
        cosine > 0.5,
        "the face found is not the face shown: cosine {cosine}"
    );
    let nobody = image::GrayImage::from_pixel(640, 480, image::Luma([128]));
    assert!(
        of(&mut worker, "nobody.png", &nobody)
            .unwrap_err()
            .to_string()
            .contains("no face")
    );
}

#[test]
fn square_pictures_and_texts_are_encoded_without_detection() {
    let mut worker = worker();
    let pixels: Vec<u8> = (0..48 * 48u32).map(|i| (i * 7 % 251) as u8).collect();
    let grey = Media::Picture(Picture::Grey {
        size: 48,
        pixels: pixels.clone(),
    });
    let row = worker.extract(&item(grey, None)).rows.unwrap().remove(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("face.png");
    image::GrayImage::from_raw(48, 48, pixels)
        .unwrap()
        .save(&file)
        .unwrap();
    assert_eq!(
        worker
            .extract(&item(Media::Picture(Picture::File(file)), None))
            .rows
            .unwrap()[0],
        row
    );
    assert_eq!(row.embeddings.keys().collect::<Vec<_>>(), ["face"]);
    let missing = Media::Picture(Picture::File(folder.path().join("nothing.png")));
    assert!(matches!(
        worker.extract(&item(missing, None)).rows,
        Err(Refusal::Unreadable(_))
    ));
    // An item with text alone, and an item with nothing.
    let words = Item {
        text: Some("good morning".into()),
        ..item(Media::None, None)
    };
    assert_eq!(
        worker.extract(&words).rows.unwrap()[0]
            .embeddings
            .keys()
            .collect::<Vec<_>>(),
        ["text"]
    );
    assert_eq!(
        worker.extract(&item(Media::None, None)).rows.unwrap_err(),
        Refusal::NothingToEncode
    );
}

#[test]
fn intervals_played_in_one_pass_equal_intervals_played_alone() {
    let mut recordings = vec![demo()];
    recordings.extend(material("av/grid_s1/bbwm5s.mpg"));
    for path in recordings {
        // Adjacent intervals, intervals with a gap, ends between frames and samples, and an
        // interval after the recording's end.
        let intervals = [[0.2, 1.13], [1.13, 1.9], [2.101, 2.9], [90.0, 91.0]];
        let items = intervals.map(|interval| Item {
            id: format!("{interval:?}"),
            ..item(Media::Recording(path.clone()), Some(interval))
        });
        let mut together = Vec::new();
        let mut worker = worker_of(ClipsRule::Window, 1);
        worker.extract_all(&items.each_ref(), &|| true, &mut |item, outcome| {
            together.push((item.id.clone(), outcome.rows))
        });
        let alone: Vec<_> = items
            .iter()
            .map(|item| {
                (
                    item.id.clone(),
                    worker_of(ClipsRule::Window, 1).extract(item).rows,
                )
            })
            .collect();
        assert!(
            alone[..3]
                .iter()
                .all(|(_, rows)| rows.as_ref().is_ok_and(|rows| !rows.is_empty())),
            "{alone:?}"
        );
        assert_eq!(alone[3].1, Err(Refusal::Beyond));
        assert!(
            together == alone,
            "{}: one pass gives other rows",
            path.display()
        );
    }
}

#[test]
fn silence_and_missing_speech_of_recordings_are_reported() {
    let Some(nobody) = material("av/odd") else {
        return;
    };
    let mut worker = worker();
    let mut reason = |path: &Path| {
        worker
            .extract(&item(Media::Recording(path.to_owned()), None))
            .rows
            .map(|rows| rows.len())
            .map_err(|r| r.to_string())
    };
    let mut all = Vec::new();
    for file in std::fs::read_dir(nobody).unwrap() {
        let path = file.unwrap().path();
        all.push((
            path.file_name().unwrap().to_string_lossy().into_owned(),
            reason(&path),
        ));
    }
    all.sort();
    println!("{all:?}");
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("silent.wav");
    std::fs::write(&silent, wav(&[0; 32_000])).unwrap();
    assert_eq!(reason(&silent), Err("no pictures and silent".into()));
    let hum: Vec<i16> = (0..32_000)
        .map(|i| (8000.0 * (f64::from(i) * 0.05).sin()) as i16)
        .collect();
    std::fs::write(&silent, wav(&hum)).unwrap();
    assert_eq!(reason(&silent), Err("no pictures and no speech".into()));
}

/// A WAV file with these samples, 16 kHz, mono, 16 bits.
fn wav(samples: &[i16]) -> Vec<u8> {
    let bytes = samples.len() as u32 * 2;
    let mut out = b"RIFF".to_vec();
    out.extend((36 + bytes).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    [1u16, 1].iter().for_each(|v| out.extend(v.to_le_bytes()));
    [16_000u32, 32_000]
        .iter()
        .for_each(|v| out.extend(v.to_le_bytes()));
    [2u16, 16].iter().for_each(|v| out.extend(v.to_le_bytes()));
    out.extend(b"data");
    out.extend(bytes.to_le_bytes());
    samples.iter().for_each(|s| out.extend(s.to_le_bytes()));
    out
}

/// The head's scores for a row equal those of the daemon's replay of the recording.
#[cfg(feature = "serve")]
#[test]
fn scores_of_rows_equal_those_of_the_daemons_replay() {
    use std::sync::Mutex;

    use crate::clip::SubjectId;
    use crate::config::Config;
    use crate::daemon::{Lines, replay};
    use crate::modality::PerModality;
    use crate::model::Bundle;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut recordings = vec![demo()];
    recordings.extend(material("av/grid_s1/bbwm5s.mpg"));
    recordings.extend(material("av/ravdess_actor01/01-01-03-01-01-01-01.mp4"));
    // Stores are made with float graphs, so the bundle has to use float graphs too.
    let folder = tempfile::tempdir().unwrap();
    crate::model::tests::copy_default_bundle(folder.path());
    let mut config = Config::default();
    config.inference.bundle = folder.path().into();
    let mut bundle =
        Bundle::open(&Runtime::load().unwrap(), folder.path(), Provider::Cpu, 1).unwrap();
    let length_ms = i64::from(bundle.manifest.window.length_ms);
    for path in recordings {
        let out = Shared::default();
        let lines = Arc::new(Mutex::new(Lines::new(Box::new(out.clone()))));
        replay(&config, &path, false, &lines).unwrap();
        let text = out.0.lock().unwrap().clone();
        let events: Vec<serde_json::Value> = text
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        let rows = worker_of(ClipsRule::Window, 1)
            .extract(&item(Media::Recording(path.clone()), None))
            .rows
            .unwrap();
        let (mut compared, mut worst) = (0, 0.0f64);
        for row in &rows {
            let logits = crate::recognize::head_logits(&mut bundle, &row.embeddings).unwrap();
            let start_ms = row.start_ms.unwrap();
            let first = SubjectId::Face(1).to_string();
            let event = events.iter().find(|e| {
                let at = |key: &str| e[key].as_i64().unwrap_or(i64::MIN);
                e["type"] == "expression"
                    && e["subject"] == first.as_str()
                    && at("start_ns").div_euclid(1_000_000) == start_ms
                    && at("end_ns") - at("start_ns") >= length_ms * 1_000_000
            });
            let Some(event) = event else {
                panic!(
                    "{}: no event of the window that begins at {start_ms} ms",
                    path.display()
                )
            };
            // Softmax with temperature, as in the daemon for a single-label task.
            let has = |name: &str| row.embeddings.contains_key(name);
            let used = PerModality {
                face: has("face"),
                voice: has("voice"),
                text: false,
            };
            let powers: Vec<f64> = logits
                .iter()
                .map(|l| f64::from(l / bundle.manifest.temperature(&used)).exp())
                .collect();
            let sum: f64 = powers.iter().sum();
            for (label, power) in bundle.manifest.labels.iter().zip(powers) {
                worst = worst.max((event["scores"][label].as_f64().unwrap() - power / sum).abs());
            }
            assert_eq!(
                [
                    &event["modalities"]["face"]["used"],
                    &event["modalities"]["voice"]["used"]
                ],
                [used.face, used.voice]
            );
            compared += 1;
        }
        println!(
            "{}: {compared} windows, scores differ by at most {worst:.1e}",
            path.file_name().unwrap().to_string_lossy()
        );
        assert!(
            compared > 3 && worst < 2e-4,
            "{}: {compared} windows, {worst}",
            path.display()
        );
    }
}
