//! Tests of `expressd replay`: recordings pass through every stage, with real people if the
//! material is present.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::harness::{demo, events, expressd, material, of_type, replay};

/// Checks the rules of `src/event/protocol.md` for the offline form of events, which hold for every
/// recording.
fn check_contract(events: &[Value], end_ns: i64) {
    let mut alive = BTreeSet::new();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "seq counts what is written");
        match event["type"].as_str().unwrap() {
            "subject" => {
                let subject = event["subject"].as_str().unwrap().to_owned();
                let time = event["time_ns"].as_i64().unwrap();
                assert!((0..=end_ns).contains(&time), "{event}");
                match event["phase"].as_str().unwrap() {
                    "appeared" => assert!(alive.insert(subject), "appeared twice: {event}"),
                    "updated" => assert!(alive.contains(&subject), "{event}"),
                    _ => assert!(alive.remove(&subject), "was not there: {event}"),
                }
            }
            "expression" => check_expression(event, end_ns),
            "speech" => assert!(
                (0..=end_ns).contains(&event["start_ns"].as_i64().unwrap()),
                "{event}"
            ),
            other => assert!(
                offline_types().contains(&other),
                "{other} is not part of the offline form"
            ),
        }
    }
    assert!(alive.is_empty(), "still there at the end: {alive:?}");
}

/// The event types that the protocol's document permits in the offline form.
fn offline_types() -> Vec<&'static str> {
    let text = include_str!("../../src/event/protocol.md");
    let (_, list) = text.split_once("*offline form*: only ").unwrap();
    let (list, _) = list.split_once(", without").unwrap();
    list.split('`').skip(1).step_by(2).collect()
}

/// Checks the fields of an `expression` event in the offline form.
fn check_expression(event: &Value, end_ns: i64) {
    let (start, end) = (
        event["start_ns"].as_i64().unwrap(),
        event["end_ns"].as_i64().unwrap(),
    );
    assert!(0 <= start && start < end && end <= end_ns, "{event}");
    let scores = event["scores"].as_object().unwrap();
    let sum: f64 = scores.values().map(|s| s.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() <= 1e-3, "{event}");
    let top = event["top"].as_str().unwrap();
    assert!(
        scores.values().all(|s| s.as_f64() <= scores[top].as_f64()),
        "{event}"
    );
    for absent in ["latency_ms", "deadline", "degraded", "provenance"] {
        assert!(
            event.get(absent).is_none(),
            "{absent} is not part of the offline form"
        );
    }
}

/// Tolerance in nanoseconds for times after the recording's end: an event may end one frame after
/// the last frame's time.
const SLACK_NS: i64 = 100_000_000;

/// Duration of a recording by its container, in nanoseconds.
fn duration_ns(file: &Path) -> i64 {
    let recording = expressd::capture::Recording::open(file).unwrap();
    recording
        .duration()
        .expect("the container says how long it is")
        .nanos()
}

#[test]
fn the_demonstration_recording_yields_a_subject_speech_and_changing_expressions() {
    let (code, events, stderr) = replay(&demo(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    check_contract(&events, duration_ns(&demo()) + SLACK_NS);
    assert_eq!(
        of_type(&events, "subject")
            .filter(|e| e["phase"] == "appeared")
            .count(),
        1,
        "one head"
    );
    assert!(of_type(&events, "speech").count() >= 2);
    let tops: BTreeSet<_> = of_type(&events, "expression")
        .map(|e| e["top"].to_string())
        .collect();
    assert!(tops.len() >= 2, "the head changes its expression: {tops:?}");
}

#[test]
fn two_runs_and_two_paces_give_the_same_bytes() {
    let file = demo();
    let run = |more: &[&str]| {
        let mut args = vec!["replay", file.to_str().unwrap(), "--jsonl", "-"];
        args.extend(more);
        let output = expressd(&args);
        assert_eq!(output.status.code(), Some(0));
        output.stdout
    };
    let first = run(&[]);
    assert!(events(&first).len() > 20);
    assert!(first == run(&[]), "two runs differ");
    assert!(first == run(&["--realtime"]), "two paces differ");
}

#[test]
fn every_talking_face_of_the_material_gives_subjects_and_expressions() {
    let Some(folder) = material("av/talking") else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    for file in files.iter().take(6) {
        let (code, events, stderr) = replay(file, &[]);
        assert_eq!(code, Some(0), "{}: {stderr}", file.display());
        check_contract(&events, duration_ns(file) + SLACK_NS);
        assert!(
            of_type(&events, "subject").any(|e| e["phase"] == "appeared"),
            "{}",
            file.display()
        );
        assert!(
            of_type(&events, "expression").any(|e| e["modalities"]["face"]["used"] == true),
            "{}",
            file.display()
        );
        assert!(
            of_type(&events, "speech").count() >= 1,
            "{}",
            file.display()
        );
    }
}

#[test]
fn sound_alone_gives_a_voice_and_video_alone_gives_faces() {
    let Some(sound) = material("speech/ravdess/Actor_18/03-01-05-02-01-01-18.flac") else {
        return;
    };
    let (code, events, stderr) = replay(&sound, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    check_contract(&events, duration_ns(&sound) + SLACK_NS);
    assert!(of_type(&events, "expression").count() >= 3);
    assert!(
        of_type(&events, "expression")
            .all(|e| e["subject"] == "voice" && e["modalities"]["face"]["used"] == false)
    );

    let silent =
        material("av/mead_silent/M030_front_happy_level3_001.mp4").expect("the material is there");
    let (code, events, stderr) = replay(&silent, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    check_contract(&events, duration_ns(&silent) + SLACK_NS);
    assert!(of_type(&events, "expression").count() >= 3);
    assert!(of_type(&events, "expression").all(|e| e["modalities"]["voice"]["used"] == false));
    assert_eq!(of_type(&events, "speech").count(), 0);
}

/// Compares the mean scores of acted clips, with face and voice, with the acted emotion. The
/// training data have no pictures of this actor.
#[test]
fn the_top_label_follows_the_acted_emotion() {
    let Some(folder) = material("av/ravdess_actor01") else {
        return;
    };
    let label = |code: &str| match code {
        "01" | "02" => "neutral",
        "03" => "happy",
        "04" => "sad",
        "05" => "angry",
        "06" => "fearful",
        "07" => "disgusted",
        _ => "surprised",
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let (mut right, mut n) = (0, 0);
    for file in &files {
        let acted = label(
            file.file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .split('-')
                .nth(2)
                .unwrap(),
        );
        let (code, events, stderr) = replay(file, &[]);
        assert_eq!(code, Some(0), "{}: {stderr}", file.display());
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for event in of_type(&events, "expression") {
            for (label, score) in event["scores"].as_object().unwrap() {
                *sums.entry(label).or_default() += score.as_f64().unwrap();
            }
        }
        let top = sums
            .iter()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(label, _)| *label);
        n += 1;
        right += usize::from(top == Some(acted));
    }
    println!("{right} of {n} acted clips right");
    // Chance is 1 in 7; the exact figures are in `tests/bench/README.md` and the model card.
    assert!(right * 5 >= n * 2, "{right} of {n} clips right");
}
