//! The house's rules that no compiler knows: who may name whom, how long a file gets, what nothing is called.

use std::path::Path;

mod text;

use text::{Text, names, none, texts};

const LINES_AT_MOST: usize = 500;

/// Files that were within the limit at 160 columns. They may only shrink; remove a row once its
/// file has at most [`LINES_AT_MOST`] lines.
const TO_SPLIT: [(&str, usize); 5] = [
    ("src/align/tests/mod.rs", 547),
    ("src/align/tests/words.rs", 520),
    ("src/clip.rs", 501),
    ("src/speech/transcribe/sherpa/folder.rs", 527),
    ("tests/it/recordings.rs", 662),
];

#[test]
fn a_crate_stays_in_its_place() {
    let places: &[(&[&str], &[&str])] = &[
        (
            &[
                "tokio::",
                "axum::",
                "hyper::",
                "hyper_util::",
                "futures_util::",
            ],
            // A sink that needs a runtime owns it, on its own thread.
            &["serve", "hub/sinks", "bin/expressd/bench"],
        ),
        // Its text type alone: what the ring holds is what the socket sends.
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
    none(found, "a crate outside of its place");
}

/// `gstreamer` as a path's root (`gstreamer::…`, `use gstreamer as gst`), not as a part of other words.
fn code_uses(code: &str, name: &str) -> bool {
    let root = name.trim_end_matches("::");
    names(code, &format!("use {root}")) || {
        let path = format!("{root}::");
        let of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        code.match_indices(&path)
            .any(|(at, _)| !code[..at].ends_with(of_path))
    }
}

#[test]
fn pure_modules_know_no_thread_no_clock_and_no_socket() {
    let strangers = [
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
            strangers
                .iter()
                .filter(|name| names(&code, name))
                .map(|name| format!("{} knows {name}", text.path)),
        );
    }
    none(found, "time comes as an argument, work as a call");
}

#[test]
fn nothing_points_up_the_stream() {
    // A module may name what stands before it in lib.rs's order, not these.
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
    let above = [
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
            above.to_vec()
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
                .filter(|name| names(&code, name))
                .map(|name| format!("{} names {name}", text.path)),
        );
    }
    none(found, "imports against the stream");
}

/// What goes to clients is made in `event` (frames), `serve` (pages) and `hub`; stages make none of
/// it.
#[test]
fn stages_write_no_json() {
    // Reads what a library answers.
    let readers = [
        "src/speech/transcribe/sherpa/engine.rs",
        // To each other, not to clients.
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
        if names(&text.code(), "serde_json") {
            found.push(text.path.clone());
        }
    }
    none(found, "only event, serve and hub write JSON for clients");
}

#[test]
fn files_stay_short() {
    let texts = texts();
    let long = texts
        .iter()
        .filter(|text| text.is_rust() || text.path.ends_with(".py") || text.path.ends_with(".sh"));
    let long = long
        .map(|text| (text, text.text.lines().count()))
        .filter(|(text, lines)| {
            let known = TO_SPLIT.iter().find(|(path, _)| *path == text.path);
            *lines > known.map_or(LINES_AT_MOST, |(_, limit)| *limit)
        });
    none(
        long.map(|(text, lines)| format!("{}: {lines} lines", text.path))
            .collect(),
        "split by nouns what is over 500 lines",
    );
}

#[test]
fn nothing_is_called_by_a_word_that_says_nothing() {
    let empty = [
        "manager", "handler", "helper", "helpers", "util", "utils", "common", "misc", "info",
    ];
    // Names that a foreign format gives: ONNX's message.
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
    none(found, "name it by what it is or does");
}

/// `ClockMap` is clock, map; `clock_map` too.
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
fn nothing_is_skipped_or_left_undone() {
    // Spelled in halves, so that this file passes its own test.
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
    none(found, "tests that do not run, code that is not there");
}

#[test]
fn documents_that_are_cited_exist() {
    // Made at run time, beside what it describes.
    const MADE: &str = "MODEL_CARD.md";
    let is_part = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let mut missing = Vec::new();
    // That list names files inside packages.
    let is_ours = |text: &&Text| text.path != "config/setup/wheels.txt";
    for text in texts().iter().filter(is_ours) {
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
    none(missing, "documents that are not there");
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
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
    none(found, "paths of one machine");
}

/// Files are searched at run time (`src/assets.rs`).
#[test]
fn no_program_holds_the_path_of_its_build() {
    let compiled_in = concat!("env!(\"CARGO_MAN", "IFEST_DIR\")");
    let texts = texts();
    let found = texts.iter().filter(|text| {
        text.is_rust() && text.path.starts_with("src/") && text.text.contains(compiled_in)
    });
    none(
        found.map(|text| text.path.clone()).collect(),
        "paths of the build",
    );
}

#[test]
fn the_rules_find_what_breaks_them() {
    let breaking = Text {
        path: "src/align/x.rs".into(),
        text: "use std::time::Instant; // tokio::spawn\nuse gstreamer as gst;\nlet a = my_tokio::b; let x = \"cpal::y\";\n#[cfg(test)]\nmod tests { use tokio::x; }\n".into(),
    };
    let code = breaking.code();
    assert!(names(&code, "Instant") && !names(&code, "Inst"));
    assert!(
        code_uses(&code, "gstreamer") && !code_uses(&code, "tokio::") && !code_uses(&code, "gst::")
    );
    assert!(breaking.lies_in(&["align"]) && !breaking.lies_in(&["ali", "serve"]));
    assert_eq!(words("FrameInfo"), ["frame", "info"]);
    assert_eq!(words("information"), ["information"]);
}
