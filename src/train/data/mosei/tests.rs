use super::*;
use crate::train::data::Media;
use crate::train::data::testing::{Tree, faults, ids, item};

const FOLDS: &str = "{\"standard_train_fold\": [\"-3g5yACwYnA\"], \
                     \"standard_valid_fold\": [\"100178\"], \
                     \"standard_test_fold\": [\"_q7DM8WkzAQ\", \"a_b\"]}";

/// A copy in the raw layout with the labels of `tests/golden/mosei_labels.csd`: two labelled
/// videos, one unlabelled video, and one transcript.
fn raw_copy() -> Tree {
    let tree = Tree::new(&[
        "Raw/Videos/Full/Combined/-3g5yACwYnA.mp4",
        "Raw/Videos/Full/Combined/_q7DM8WkzAQ.mp4",
        "Raw/Videos/Full/Combined/unlabelled.mp4",
    ]);
    std::fs::copy(
        crate::testing::project("tests/golden/mosei_labels.csd"),
        tree.path().join("CMU_MOSEI_Labels.csd"),
    )
    .unwrap();
    tree.write("standard_folds.json", FOLDS);
    tree.write(
        "Raw/Transcript/Segmented/Combined/-3g5yACwYnA.txt",
        "-3g5yACwYnA___7___16.07___18.57___it's \
         special___really\r\n-3g5yACwYnA___6___8.48___10.98___first, he said\r\nnonsense\r\n\r\n",
    );
    tree
}

#[test]
fn labels_of_the_sdk_are_joined_with_transcripts_and_folds() {
    let tree = raw_copy();
    let listing = tree.list("cmu-mosei").unwrap();
    assert_eq!(
        ids(&listing),
        [
            "-3g5yACwYnA_0",
            "-3g5yACwYnA_1",
            "-3g5yACwYnA_2",
            "_q7DM8WkzAQ_0",
            "_q7DM8WkzAQ_1",
            "_q7DM8WkzAQ_2"
        ]
    );
    assert_eq!(
        listing.labels,
        ["happy", "sad", "anger", "surprise", "disgust", "fear"]
    );
    let texts: Vec<_> = listing.items[..3]
        .iter()
        .map(|i| i.text.as_deref())
        .collect();
    assert_eq!(
        texts,
        [Some("first, he said"), Some("it's special___really"), None]
    );
    let first = item(&listing, "-3g5yACwYnA_0");
    assert_eq!(
        first.target,
        Some(Target::Values(vec![
            8.0 / 3.0,
            8.0 / 3.0,
            0.0,
            5.0 / 3.0,
            1.0,
            3.0
        ]))
    );
    assert_eq!(
        (first.group.as_str(), first.split),
        ("-3g5yACwYnA", Split::Train)
    );
    assert!((first.interval.unwrap()[0] - 8.4798).abs() < 1e-3);
    assert_eq!(
        first.media,
        Media::Recording(tree.path().join("Raw/Videos/Full/Combined/-3g5yACwYnA.mp4"))
    );
    assert_eq!(item(&listing, "_q7DM8WkzAQ_0").split, Split::Test);
    assert_eq!(
        faults(&listing, "100178", "missing or empty: 1 intervals"),
        1
    );
    assert_eq!(faults(&listing, "100178", ""), 1, "one fault a video");
    assert_eq!(faults(&listing, "unlabelled", "has no labels"), 1);
    assert_eq!(faults(&listing, "_q7DM8WkzAQ", "has no transcript"), 1);
    assert_eq!(
        faults(&listing, "-3g5yACwYnA.txt line 3", "is not <video>___"),
        1
    );
}

#[test]
fn separate_sound_and_segmented_videos_are_used() {
    let tree = raw_copy();
    tree.write("Raw/Audio/Full/WAV_16000/-3g5yACwYnA.wav", "x");
    tree.write("Raw/Audio/Full/WAV_16000/100178.wav", "x");
    std::fs::remove_file(tree.path().join("Raw/Videos/Full/Combined/_q7DM8WkzAQ.mp4")).unwrap();
    tree.write("Raw/Videos/Segmented/Combined/_q7DM8WkzAQ_1.mp4", "x");
    let listing = tree.list("cmu-mosei").unwrap();
    assert!(matches!(
        &item(&listing, "-3g5yACwYnA_2").media,
        Media::Separate { audio, .. } if audio.ends_with("-3g5yACwYnA.wav")
    ));
    assert!(matches!(
        &item(&listing, "100178_0").media,
        Media::Recording(path) if path.ends_with("100178.wav")
    ));
    let cut = item(&listing, "_q7DM8WkzAQ_1");
    assert!(
        matches!(&cut.media, Media::Recording(path) if path.ends_with("_q7DM8WkzAQ_1.mp4"))
            && cut.interval.is_none()
    );
    assert_eq!(
        faults(&listing, "_q7DM8WkzAQ", "missing or empty: 2 intervals"),
        1
    );
}

#[test]
fn a_table_without_times_gets_them_from_the_transcript() {
    let tree = Tree::new(&["Videos/a_b.mp4", "Videos/other.mp4"]);
    tree.write("standard_folds.json", FOLDS);
    tree.write(
        "Transcript/Segmented/Combined/a_b.txt",
        "a_b___0___1.5___3.25___yes\na_b___1___3.25___4___no\n",
    );
    let six = "happy,sad,anger,surprise,disgust,fear";
    tree.write(
        "labels.csv",
        &format!(
            "video,interval,sentiment,{six}\r\na_b,1,-1,0,1,0,0,0,2\r\na_b,9,0,0,0,0,0,0,0\r\n\
             a_b,0,0,x,0,0,0,0,0\r\nother,0,0,0,0,0,0,0,0\r\n"
        ),
    );
    let listing = tree.list("cmu-mosei").unwrap();
    assert_eq!(ids(&listing), ["a_b_1"]);
    assert_eq!(
        (listing.items[0].interval, listing.items[0].text.as_deref()),
        (Some([3.25, 4.0]), Some("no"))
    );
    assert_eq!(
        listing.items[0].target,
        Some(Target::Values(vec![0.0, 1.0, 0.0, 0.0, 0.0, 2.0]))
    );
    assert_eq!(faults(&listing, "labels.csv line 3", "no line 9"), 1);
    assert_eq!(
        faults(&listing, "labels.csv line 4", "\"x\" is not a number"),
        1
    );
    assert_eq!(faults(&listing, "other", "none of the standard folds"), 1);
}

#[test]
fn labels_need_folds_and_without_labels_transcript_lines_are_items() {
    let tree = raw_copy();
    std::fs::remove_file(tree.path().join("standard_folds.json")).unwrap();
    assert!(matches!(
        tree.list("cmu-mosei"),
        Err(DataError::Missing { .. })
    ));
    std::fs::remove_file(tree.path().join("CMU_MOSEI_Labels.csd")).unwrap();
    let listing = tree.list("cmu-mosei").unwrap();
    assert_eq!(ids(&listing), ["-3g5yACwYnA_6", "-3g5yACwYnA_7"]);
    assert!(
        listing.labels.is_empty()
            && listing
                .items
                .iter()
                .all(|i| i.target.is_none() && i.text.is_some())
    );
    assert_eq!(faults(&listing, "", "without labels"), 1);
}

#[test]
fn folds_are_equal_from_the_python_file_and_from_json() {
    let tree = raw_copy();
    let expected = tree.list("cmu-mosei").unwrap();
    std::fs::remove_file(tree.path().join("standard_folds.json")).unwrap();
    let python = "standard_train_fold=['-3g5yACwYnA']\r\nstandard_valid_fold = \
                  [\"100178\",\n]\n\nstandard_test_fold = ['_q7DM8WkzAQ', 'a_b']\n";
    tree.write("sdk/CMU_MOSEI/cmu_mosei_std_folds.py", python);
    assert_eq!(tree.list("cmu-mosei").unwrap(), expected);
    tree.write(
        "sdk/CMU_MOSEI/cmu_mosei_std_folds.py",
        "standard_train_fold = []\n",
    );
    let error = tree.list("cmu-mosei").unwrap_err().to_string();
    assert!(error.contains("has no \"standard_valid_fold\""), "{error}");
}

#[test]
fn the_published_folds_have_the_published_sizes() {
    let Some(path) = crate::testing::material("annotations/mosei/standard_folds.json") else {
        return;
    };
    let folds = read_folds(&path).unwrap();
    let count = |split| folds.values().filter(|s| **s == split).count();
    assert_eq!(
        [Split::Train, Split::Val, Split::Test].map(count),
        [2249, 300, 678]
    );
}

#[test]
fn a_video_that_cannot_be_used_has_one_fault() {
    let tree = raw_copy();
    let video = "Raw/Videos/Full/Combined/_q7DM8WkzAQ.mp4";
    tree.write(video, "");
    let listing = tree.list("cmu-mosei").unwrap();
    assert_eq!(
        faults(&listing, "_q7DM8WkzAQ", ""),
        1,
        "{:?}",
        listing.faults
    );
    assert_eq!(faults(&listing, video, "is empty: left out"), 1);
}

#[test]
fn names_of_videos_match_in_any_unicode_form() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let [video, transcript] = [
        format!("Videos/{decomposed}.mp4"),
        format!("Transcript/Segmented/Combined/{decomposed}.txt"),
    ];
    let tree = Tree::new(&[&video]);
    tree.write(
        "standard_folds.json",
        &format!(
            "{{\"standard_train_fold\": [], \"standard_valid_fold\": [\"{decomposed}\"], \
             \"standard_test_fold\": []}}"
        ),
    );
    tree.write(&transcript, &format!("{composed}___0___1___3___yes\n"));
    let six = "happy,sad,anger,surprise,disgust,fear";
    tree.write(
        "labels.csv",
        &format!("video,start,end,{six}\n{composed},1,3,0,0,0,0,0,3\n"),
    );
    let listing = tree.list("cmu-mosei").unwrap();
    assert_eq!(ids(&listing), [format!("{composed}_0")]);
    let found = &listing.items[0];
    assert_eq!(
        (found.split, found.text.as_deref(), &found.media),
        (
            Split::Val,
            Some("yes"),
            &Media::Recording(tree.path().join(&video))
        )
    );
    assert_eq!(listing.faults, []);
    let other = format!("Videos/{composed}.mp4");
    tree.write(&other, "x");
    let listing = tree.list("cmu-mosei").unwrap();
    assert_eq!(listing.items.len(), 1);
    assert_eq!(faults(&listing, "caf", "has the same name as"), 1);
    let [fault] = &listing.faults[..] else {
        panic!("{:?}", listing.faults)
    };
    assert!(
        fault.what.contains("café.mp4") && fault.what.contains("cafe\\u{301}.mp4"),
        "{fault:?}"
    );
}
