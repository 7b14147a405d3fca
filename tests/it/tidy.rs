//! Tests of rules that the compiler does not check: imports between modules, lengths of files,
//! names.

use std::path::Path;

mod modules;
mod text;

use text::{Text, assert_none, contains_word, texts};

/// Largest number of lines of a source file.
const MAX_LINES: usize = 500;

#[test]
fn a_dependency_is_used_in_its_modules_only() {
    let places: &[(&[&str], &[&str])] = &[
        (
            &[
                "tokio::",
                "axum::",
                "hyper::",
                "hyper_util::",
                "futures_util::",
            ],
            // A sink that needs tokio owns a runtime on its own thread.
            &["serve", "hub/sinks", "bin/expressd/bench"],
        ),
        // `hub` uses only its text type: the ring holds the frames that the sockets send.
        (&["tokio_tungstenite::"], &["serve", "hub"]),
        (
            &[
                "gstreamer",
                "gstreamer_app",
                "gstreamer_video",
                "alsa",
                "cpal",
                "ringbuf",
            ],
            &["capture"],
        ),
        (&["burn::", "burn_onnx::", "symphonia::"], &["train"]),
        (&["prost::", "safetensors::"], &["train", "onnx"]),
        (&["tokenizers::"], &["preprocess"]),
        (&["ort::"], &["encode"]),
        (&["libloading::", "sherpa_onnx_sys::"], &["speech"]),
        (&["sd_notify::"], &["notify"]),
        (&["config::Config::builder"], &["config"]),
    ];
    let texts = texts();
    let mut found = Vec::new();
    for text in texts
        .iter()
        .filter(|text| text.is_rust() && !text.is_test())
    {
        // Package names in strings are not imports.
        let code: String = text.code().split('"').step_by(2).collect();
        for (crates, own) in places {
            for name in crates
                .iter()
                .filter(|name| !text.lies_in(own) && code_uses(&code, name))
            {
                found.push(format!(
                    "{} uses {name}, which belongs to {}",
                    text.path,
                    own.join(", ")
                ));
            }
        }
    }
    assert_none(found, "a dependency outside its modules");
}

/// Whether `name` begins a path in the code (`gstreamer::…`, `use gstreamer as gst`) and is not a
/// part of another word.
fn code_uses(code: &str, name: &str) -> bool {
    let root = name.trim_end_matches("::");
    contains_word(code, &format!("use {root}")) || {
        let path = format!("{root}::");
        let of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        code.match_indices(&path)
            .any(|(at, _)| !code[..at].ends_with(of_path))
    }
}

#[test]
fn pure_modules_use_no_thread_clock_or_socket() {
    let forbidden = [
        "std::thread",
        "std::net",
        "std::fs",
        "Mutex",
        "Condvar",
        "Instant",
        "SystemTime",
        "SystemClock",
        "Clock",
        "monotonic_nanos",
        "crate::lane",
    ];
    let mut found = Vec::new();
    for text in texts()
        .iter()
        .filter(|text| text.lies_in(&["align", "schedule", "clip", "session"]) && !text.is_test())
    {
        let code = text.code();
        found.extend(
            forbidden
                .iter()
                .filter(|name| contains_word(&code, name))
                .map(|name| format!("{} uses {name}", text.path)),
        );
    }
    assert_none(found, "pure modules get the time as an argument");
}

#[test]
fn lower_modules_import_no_higher_ones() {
    // The core modules, in the order of lib.rs. They import none of the modules in `higher`.
    let core = [
        "time",
        "clip",
        "labels",
        "manifest",
        "modality",
        "lane",
        "encode",
        "face",
        "speech",
        "align",
        "model",
        "preprocess",
        "recognize",
        "schedule",
        "event",
    ];
    let higher = [
        "crate::capture",
        "crate::serve",
        "crate::session",
        "crate::runtime",
        "crate::hub",
        "crate::daemon",
        "crate::train",
        "crate::config",
        "crate::notify",
    ];
    let mut found = Vec::new();
    for text in texts()
        .iter()
        .filter(|text| text.is_rust() && !text.is_test())
    {
        let code = text.code();
        let forbidden: Vec<&str> = if text.lies_in(&core) {
            higher.to_vec()
        } else if text.lies_in(&["capture"]) {
            vec![
                "crate::serve",
                "crate::session",
                "crate::runtime",
                "crate::hub",
                "crate::daemon",
                "crate::train",
                "crate::face",
                "crate::align",
                "crate::recognize",
            ]
        } else if text.lies_in(&["serve", "hub"]) {
            vec![
                "crate::session",
                "crate::runtime",
                "crate::serve",
                "crate::daemon",
                "crate::train",
                "crate::capture",
                "crate::face",
                "crate::align",
                "crate::recognize",
            ]
        } else if text.lies_in(&["session"]) {
            vec![
                "crate::capture",
                "crate::serve",
                "crate::hub",
                "crate::notify",
                "crate::runtime",
                "crate::daemon",
                "crate::train",
            ]
        } else if text.lies_in(&["runtime"]) {
            vec![
                "crate::serve",
                "crate::hub",
                "crate::daemon",
                "crate::train",
            ]
        } else if text.lies_in(&["train"]) {
            vec!["crate::serve", "crate::hub"]
        } else {
            Vec::new()
        };
        found.extend(
            forbidden
                .iter()
                .filter(|name| contains_word(&code, name))
                .map(|name| format!("{} names {name}", text.path)),
        );
    }
    assert_none(found, "imports of higher modules");
}

/// Neither top-level modules nor sibling modules import each other in a cycle.
#[test]
fn modules_do_not_import_each_other_in_a_cycle() {
    let mut sources: Vec<(String, String)> = texts()
        .into_iter()
        .filter(|text| text.is_rust() && text.path.starts_with("src/"))
        .filter(|text| !text.is_test() && !text.path.starts_with("src/bin/"))
        .map(|text| (text.path, text.text))
        .collect();
    sources.sort();
    let cycles = modules::cycles(&sources).into_iter().map(|cycle| {
        let siblings = cycle.siblings.join(", ");
        let imports = cycle.imports.join("\n    ");
        format!("in {}: {siblings}\n    {imports}", cycle.parent)
    });
    assert_none(
        cycles.collect(),
        "modules that import each other in a cycle",
    );
}

/// Only `event` (frames), `serve` (pages) and `hub` write JSON for clients.
#[test]
fn stages_write_no_json() {
    let readers = [
        // This file parses results of the library sherpa-onnx.
        "src/speech/transcribe/sherpa/engine.rs",
        // These files exchange messages between the daemon and its decoder processes.
        "src/capture/decoder/child.rs",
        "src/capture/decoder/process.rs",
    ];
    let mut found = Vec::new();
    let stages = [
        "capture",
        "face",
        "speech",
        "align",
        "preprocess",
        "encode",
        "recognize",
        "schedule",
        "lane",
        "clip",
        "time",
    ];
    for text in texts()
        .iter()
        .filter(|text| text.lies_in(&stages) && !text.is_test() && !readers.contains(&&*text.path))
    {
        if contains_word(&text.code(), "serde_json") {
            found.push(text.path.clone());
        }
    }
    assert_none(found, "only event, serve and hub write JSON for clients");
}

#[test]
fn no_source_file_exceeds_500_lines() {
    let texts = texts();
    let long = texts
        .iter()
        .filter(|text| text.is_rust() || text.path.ends_with(".py") || text.path.ends_with(".sh"));
    let long = long
        .map(|text| (text, text.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES);
    assert_none(
        long.map(|(text, lines)| format!("{}: {lines} lines", text.path))
            .collect(),
        "split files over 500 lines by noun",
    );
}

#[test]
fn no_name_contains_a_meaningless_word() {
    let empty = [
        "manager", "handler", "helper", "helpers", "util", "utils", "common", "misc", "info",
    ];
    // The name of a message in the ONNX format.
    let given = ["ValueInfoProto"];
    let mut found = Vec::new();
    for text in &texts() {
        let stem = Path::new(&text.path)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let folders = Path::new(&text.path)
            .parent()
            .map(|folder| folder.to_string_lossy().into_owned())
            .unwrap_or_default();
        if stem
            .split(['_', '-', '.'])
            .chain(folders.split('/'))
            .any(|word| empty.contains(&word))
        {
            found.push(text.path.clone());
        }
        if !text.is_rust() {
            continue;
        }
        for line in text.text.lines().map(str::trim_start) {
            let line = line
                .strip_prefix("pub ")
                .or_else(|| line.strip_prefix("pub(crate) "))
                .or_else(|| line.strip_prefix("pub(super) "))
                .unwrap_or(line);
            let Some(name) = ["struct ", "enum ", "trait ", "type ", "mod "]
                .iter()
                .find_map(|kind| line.strip_prefix(kind))
            else {
                continue;
            };
            let name: String = name
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if !given.contains(&name.as_str())
                && words(&name)
                    .iter()
                    .any(|word| empty.contains(&word.as_str()))
            {
                found.push(format!("{}: {name}", text.path));
            }
        }
    }
    assert_none(found, "a name must state the thing or its action");
}

/// Splits a name into lower-case words: `ClockMap` and `clock_map` become clock, map.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if (c.is_uppercase() || c == '_') && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c != '_' {
            words
                .last_mut()
                .expect("never empty")
                .extend(c.to_lowercase());
        }
    }
    words
}

#[test]
fn no_test_is_ignored_and_no_code_is_unfinished() {
    // The texts are split, so that this file does not contain them.
    let undone = [
        concat!("#[ig", "nore"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
    ];
    let mut found = Vec::new();
    for text in texts().iter().filter(|text| text.is_rust()) {
        found.extend(
            undone
                .iter()
                .filter(|word| text.text.contains(**word))
                .map(|word| format!("{}: {word}", text.path)),
        );
    }
    assert_none(found, "ignored tests and unfinished code");
}

#[test]
fn cited_documents_exist() {
    // This file is written into a bundle at run time.
    const MADE: &str = "MODEL_CARD.md";
    let is_part = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let mut missing = Vec::new();
    // The list of wheels names files inside packages, which are not files of the project.
    let is_own = |text: &&Text| text.path != "config/setup/wheels.txt";
    for text in texts().iter().filter(is_own) {
        for word in text.text.split(|c: char| !is_part(c)) {
            let word = word.trim_end_matches('.');
            if !word.ends_with(".md") || word == ".md" || word.ends_with(MADE) {
                continue;
            }
            let beside = Path::new(&text.path)
                .parent()
                .map(|folder| folder.join(word));
            let exists = |path: &Path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists();
            if !exists(Path::new(word)) && !beside.is_some_and(|path| exists(&path)) {
                missing.push(format!("{}: {word}", text.path));
            }
        }
    }
    assert_none(missing, "cited documents that do not exist");
}

#[test]
fn no_file_holds_a_path_of_one_machine() {
    let machine = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let mut found = Vec::new();
    for text in &texts() {
        for (number, line) in text.text.lines().enumerate() {
            if machine.iter().any(|path| line.contains(path)) {
                found.push(format!("{}:{}: {}", text.path, number + 1, line.trim()));
            }
        }
    }
    assert_none(found, "paths of one machine");
}

/// Programs search their files at run time (`src/assets.rs`), so that they also run on another
/// machine.
#[test]
fn no_program_holds_the_path_of_its_build() {
    let compiled_in = concat!("env!(\"CARGO_MAN", "IFEST_DIR\")");
    let texts = texts();
    let found = texts.iter().filter(|text| {
        text.is_rust() && text.path.starts_with("src/") && text.text.contains(compiled_in)
    });
    assert_none(
        found.map(|text| text.path.clone()).collect(),
        "paths of the build",
    );
}

#[test]
fn the_checks_of_this_file_find_violations() {
    let breaking = Text {
        path: "src/align/x.rs".into(),
        text: "use std::time::Instant; // tokio::spawn\nuse gstreamer as gst;\n\
               let a = my_tokio::b; let x = \"cpal::y\";\n\
               #[cfg(test)]\nmod tests { use tokio::x; }\n"
            .into(),
    };
    let code = breaking.code();
    assert!(contains_word(&code, "Instant") && !contains_word(&code, "Inst"));
    assert!(
        code_uses(&code, "gstreamer") && !code_uses(&code, "tokio::") && !code_uses(&code, "gst::")
    );
    assert!(breaking.lies_in(&["align"]) && !breaking.lies_in(&["ali", "serve"]));
    assert_eq!(words("FrameInfo"), ["frame", "info"]);
    assert_eq!(words("information"), ["information"]);
}
