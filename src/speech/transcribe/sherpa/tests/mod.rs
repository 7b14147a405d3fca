//! Tests of model folders and tokens; with the feature `sherpa`, also of the library ([`engine`]).

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::Folder;
use super::header::Header;
use super::model::Model;
use super::tokens::{DecodedTokens, Spelling, words};
use crate::speech::{TranscribeError, WordHypothesis};
use crate::testing::project;

#[cfg(feature = "sherpa")]
mod engine;

/// Folders of the models that `tests/sherpa/make_models.py` made, one per family.
const FAMILIES: [&str; 6] = [
    "zipformer2-transducer",
    "nemo-transducer",
    "zipformer2-ctc",
    "nemo-ctc",
    "t-one-ctc",
    "paraformer",
];

fn model(family: &str) -> PathBuf {
    project("tests/sherpa").join(family)
}

/// A copy of the model of a family in a temporary folder.
fn copy(family: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(model(family)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn named(folder: &Path, part: &str) -> PathBuf {
    let found = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().contains(part));
    found.unwrap_or_else(|| panic!("no {part} in {}", folder.display()))
}

#[track_caller]
fn assert_refused(folder: &Path, parts: &[&str]) {
    let error = Folder::read(folder).expect_err("the folder must be refused");
    assert!(
        matches!(error, TranscribeError::Unusable { .. }),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(
        message.ends_with("or set [speech] transcriber = \"none\""),
        "{message}"
    );
}

#[test]
fn every_family_is_detected_by_its_files() {
    for family in FAMILIES {
        let folder = Folder::read(&model(family)).unwrap();
        let (expected, window, scale) = match &folder.model {
            Model::Transducer {
                encoder,
                decoder,
                joiner,
            } => {
                for (path, part) in [
                    (encoder, "encoder"),
                    (decoder, "decoder"),
                    (joiner, "joiner"),
                ] {
                    assert!(
                        path.is_file()
                            && path
                                .file_name()
                                .unwrap()
                                .to_str()
                                .unwrap()
                                .starts_with(part),
                        "{path:?}"
                    );
                }
                if family == "nemo-transducer" {
                    (family, 0.4, 1.0)
                } else {
                    ("zipformer2-transducer", 0.45, 1.0)
                }
            }
            Model::Paraformer { encoder, decoder } => {
                assert!(
                    encoder.ends_with("paraformer/encoder.onnx")
                        && decoder.ends_with("paraformer/decoder.onnx")
                );
                ("paraformer", 0.61, 1.0)
            }
            Model::Zipformer2Ctc(path) => {
                assert!(path.is_file());
                ("zipformer2-ctc", 0.45, 1.0)
            }
            // One output frame of the model spans 8 frames of 10 ms.
            Model::NemoCtc(_) => ("nemo-ctc", 0.4, 2.0),
            Model::ToneCtc(_) => ("t-one-ctc", 0.3, 1.0),
        };
        assert_eq!(
            (family, folder.time_scale, folder.tokens),
            (expected, scale, model(family).join("tokens.txt"))
        );
        assert!(
            (folder.window_seconds - window).abs() < 1e-6,
            "{family}: {}",
            folder.window_seconds
        );
        assert_eq!(
            folder.capitals,
            family.starts_with("zipformer2"),
            "{family}"
        );
    }
}

#[test]
fn int8_variants_take_precedence_then_unsuffixed_ones() {
    let folder = copy("zipformer2-transducer");
    let encoder = named(folder.path(), "encoder");
    let beside = |ending: &str| encoder.with_extension(ending);
    fs::copy(&encoder, beside("fp16.onnx")).unwrap();
    let taken = || match Folder::read(folder.path()).unwrap().model {
        Model::Transducer { encoder, .. } => encoder,
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(), encoder);
    fs::copy(&encoder, beside("int8.onnx")).unwrap();
    assert_eq!(taken(), beside("int8.onnx"));
    fs::remove_file(beside("int8.onnx")).unwrap();
    fs::remove_file(&encoder).unwrap();
    assert_eq!(taken(), beside("fp16.onnx"));
}

#[test]
fn errors_for_other_folders_name_the_remedy() {
    assert_refused(
        Path::new("nowhere/at/all"),
        &[
            "nowhere/at/all",
            "there is no such folder",
            "name the unpacked folder",
        ],
    );
    let empty = tempfile::tempdir().unwrap();
    assert_refused(empty.path(), &["no .onnx file"]);

    for family in FAMILIES {
        let folder = copy(family);
        fs::remove_file(folder.path().join("tokens.txt")).unwrap();
        assert_refused(folder.path(), &["tokens.txt", "not there"]);
        for (tokens, problem) in [
            ("", "it is empty"),
            ("<blk> 0\na 2\n", "number 1 is missing"),
            ("a 0\nb 0\n", "number 0 occurs twice"),
            ("word\n", "line 1"),
        ] {
            fs::write(folder.path().join("tokens.txt"), tokens).unwrap();
            assert_refused(folder.path(), &["tokens.txt", problem]);
        }
        // The file has too few tokens, or no blank.
        fs::write(folder.path().join("tokens.txt"), "a 0\n").unwrap();
        assert_refused(folder.path(), &["tokens.txt"]);
    }
}

#[test]
fn two_models_in_one_folder_are_refused() {
    let folder = copy("zipformer2-transducer");
    fs::copy(
        named(&model("zipformer2-ctc"), "ctc"),
        folder.path().join("ctc.onnx"),
    )
    .unwrap();
    assert_refused(
        folder.path(),
        &[
            "more than one model",
            "ctc.onnx",
            "encoder-epoch",
            "into a folder of their own",
        ],
    );

    let folder = copy("zipformer2-transducer");
    let encoder = named(folder.path(), "encoder");
    fs::copy(
        &encoder,
        folder
            .path()
            .join("encoder-epoch-99-avg-1-chunk-16-left-64.onnx"),
    )
    .unwrap();
    assert_refused(
        folder.path(),
        &["more than one model", "left-64", "left-128"],
    );
    // ONNX files of an unknown kind beside a model are ignored.
    let folder = copy("nemo-ctc");
    fs::copy(
        named(&model("zipformer2-transducer"), "joiner"),
        folder.path().join("silero_vad.onnx"),
    )
    .unwrap();
    assert!(matches!(
        Folder::read(folder.path()).unwrap().model,
        Model::NemoCtc(_)
    ));
    fs::remove_file(folder.path().join("model.onnx")).unwrap();
    assert_refused(
        folder.path(),
        &[
            "none of its files is a streaming model",
            "silero_vad.onnx (no model_type)",
        ],
    );
    let folder = copy("zipformer2-transducer");
    fs::remove_file(named(folder.path(), "decoder")).unwrap();
    assert_refused(
        folder.path(),
        &["encoder, decoder and joiner are not all present"],
    );
}

/// With such files sherpa-onnx would exit the process, or crash.
#[test]
fn invalid_files_never_reach_the_library() {
    for family in FAMILIES {
        for file in fs::read_dir(model(family))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        {
            let name = file.file_name().unwrap();
            let whole = fs::read(&file).unwrap();
            let folder = copy(family);
            for length in [0, 1, whole.len() / 3, whole.len() - 1] {
                fs::write(folder.path().join(name), &whole[..length]).unwrap();
                assert_refused(
                    folder.path(),
                    &[name.to_str().unwrap(), "it is not an ONNX file"].map(|part| {
                        if length == 0 {
                            name.to_str().unwrap()
                        } else {
                            part
                        }
                    }),
                );
            }
            fs::write(
                folder.path().join(name),
                "version https://git-lfs.github.com/spec/v1\n",
            )
            .unwrap();
            assert_refused(folder.path(), &[name.to_str().unwrap()]);
        }
    }
    let folder = copy("zipformer2-transducer");
    let (encoder, joiner) = (
        named(folder.path(), "encoder"),
        named(folder.path(), "joiner"),
    );
    fs::copy(&joiner, &encoder).unwrap();
    assert_refused(
        folder.path(),
        &["encoder-epoch", "model_type \"\"", "conformer"],
    );
    // Only NeMo's decoder has states, so the encoder has to be NeMo's too.
    let folder = copy("zipformer2-transducer");
    fs::copy(
        model("paraformer").join("decoder.onnx"),
        named(folder.path(), "decoder"),
    )
    .unwrap();
    assert_refused(
        folder.path(),
        &["encoder-epoch", "its metadata has no vocab_size"],
    );
    // Invalid numbers, and numbers that the library does not accept.
    for (family, part, entry, other, problem) in [
        (
            "zipformer2-ctc",
            "ctc",
            &b"\x0a\x01T\x12\x0245"[..],
            &b"\x0a\x01T\x12\x02x5"[..],
            "T is not a valid number",
        ),
        (
            "nemo-ctc",
            "model",
            b"subsampling_factor\x12\x018",
            b"subsampling_factor\x12\x010",
            "subsampling_factor is not a valid number",
        ),
        (
            "nemo-ctc",
            "model",
            b"normalize_type\x12\x02NA",
            b"normalize_type\x12\x02xx",
            "normalize_type is \"xx\"",
        ),
    ] {
        let folder = copy(family);
        let path = named(folder.path(), part);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes
            .windows(entry.len())
            .position(|window| window == entry)
            .unwrap();
        bytes[at..at + entry.len()].copy_from_slice(other);
        fs::write(&path, bytes).unwrap();
        assert_refused(folder.path(), &[part, problem]);
    }
}

#[test]
fn a_header_is_read_without_the_weights() {
    let header = Header::read(&named(&model("zipformer2-transducer"), "encoder")).unwrap();
    assert_eq!(
        (
            header.outputs,
            &*header.metadata["model_type"],
            &*header.metadata["T"]
        ),
        (9, "zipformer2", "45")
    );
    assert_eq!(
        Header::read(&model("paraformer").join("decoder.onnx"))
            .unwrap()
            .outputs,
        3
    );
    assert_eq!(
        Header::read(&model("paraformer").join("encoder.onnx"))
            .unwrap()
            .metadata["neg_mean"]
            .split(',')
            .count(),
        560
    );
}

fn joined_words(
    text: &str,
    tokens: &[&str],
    seconds: &[f32],
    log_probs: &[f32],
    spelling: Spelling,
    length_seconds: f32,
) -> Vec<WordHypothesis> {
    let tokens: Vec<String> = tokens.iter().map(|token| (*token).into()).collect();
    words(
        DecodedTokens {
            text,
            tokens: &tokens,
            seconds,
            log_probs,
        },
        spelling,
        (length_seconds * 16_000.0) as usize,
    )
}

fn texts(hypotheses: &[WordHypothesis]) -> Vec<&str> {
    hypotheses
        .iter()
        .map(|hypothesis| &*hypothesis.text)
        .collect()
}

#[test]
fn words_have_times_and_confidences() {
    let hypotheses = joined_words(
        " HELLO WORLD",
        &[" HE", "LLO", " WORLD"],
        &[0.4, 0.6, 1.0],
        &[-0.1, -0.3, -2.0],
        Spelling::Spaced,
        3.0,
    );
    assert_eq!(texts(&hypotheses), ["HELLO", "WORLD"]);
    assert_eq!(hypotheses[0].samples, 4480..11520, "0.28 s to 0.72 s");
    assert_eq!(hypotheses[1].samples, 14080..17920, "0.88 s to 1.12 s");
    assert!(
        (hypotheses[0].confidence.unwrap() - (-0.2f32).exp()).abs() < 1e-6
            && (hypotheses[1].confidence.unwrap() - (-2.0f32).exp()).abs() < 1e-6
    );
    // Neighbouring words share the time between them; no word exceeds the utterance.
    let hypotheses = joined_words(
        "a b c",
        &["▁a", "▁b", "▁c"],
        &[0.0, 0.04, 2.5],
        &[],
        Spelling::Spaced,
        1.0,
    );
    assert_eq!(
        hypotheses
            .iter()
            .map(|hypothesis| hypothesis.samples.clone())
            .collect::<Vec<_>>(),
        [0..320, 320..2560, 12160..16000]
    );
    assert!(
        hypotheses
            .iter()
            .all(|hypothesis| hypothesis.confidence.is_none())
    );
    // More log-probabilities than tokens: the library dropped an unknown token, and it is not clear
    // which probability belongs to it.
    assert_eq!(
        joined_words("a", &[" a"], &[0.1], &[-1.0, -1.0], Spelling::Spaced, 1.0)[0].confidence,
        None
    );
    assert!(joined_words("", &[], &[], &[], Spelling::Spaced, 1.0).is_empty());
}

#[test]
fn words_follow_the_spelling_of_the_model() {
    let even = |count: usize| (0..count).map(|i| 0.5 * i as f32).collect::<Vec<_>>();
    let spaced = |text: &str, tokens: &[&str]| {
        joined_words(
            text,
            tokens,
            &even(tokens.len()),
            &[],
            Spelling::Spaced,
            30.0,
        )
    };
    // Tokens are letters, with a space token between words (T-one).
    assert_eq!(
        texts(&spaced("да нет", &["д", "а", " ", "н", "е", "т", " "])),
        ["да", "нет"]
    );
    // Tokens are characters, with English in between (bilingual models).
    assert_eq!(
        texts(&spaced("你好 HELLO吗", &["你", "好", " HE", "LLO", "吗"])),
        ["你", "好", "HELLO", "吗"]
    );
    // Byte tokens are parts of one character; special tokens are not words.
    assert_eq!(
        texts(&spaced(
            "é x",
            &[" ", "<0xC3>", "<0xA9>", " x", "<unk>", "[noise]"]
        )),
        ["é", "x"]
    );
    // Byte-level tokens: the words come from the text.
    assert_eq!(
        texts(&spaced("naïve idea", &["▁na", "Ƌū", "ve", "▁idea"])),
        ["naïve", "idea"]
    );
    let joined = |tokens: &[&str]| {
        joined_words("", tokens, &even(tokens.len()), &[], Spelling::Joined, 30.0)
    };
    assert_eq!(
        texts(&joined(&["so@@", "ft", "loud", "你", "好", "to@@", "day"])),
        ["soft", "loud", "你", "好", "today"]
    );
}
