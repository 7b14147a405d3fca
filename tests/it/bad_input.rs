//! Tests of bad input: its message, its exit code, and that no other data are lost.

use std::fs;
use std::path::Path;

use crate::generate::{AAC, Sound, generate, tone};
use crate::harness::{command, demo, events, expressd, material, of_type, project, replay, stderr};

/// Runs `expressd ARGS`; expects the exit code `code` and that standard error contains each of
/// `parts`.
fn expect_failure(args: &[&str], code: i32, parts: &[&str]) {
    let output = expressd(args);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?} should say {part:?}: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn files_that_are_not_recordings_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let empty = file("empty.mp4", b"");
    expect_failure(
        &["replay", &empty, "--jsonl", "-"],
        1,
        &["empty.mp4", "empty"],
    );
    let text = file(
        "text.mp4",
        b"This is no film, only a text that says so.\n"
            .repeat(50)
            .as_slice(),
    );
    expect_failure(&["replay", &text, "--jsonl", "-"], 1, &["text.mp4"]);
    expect_failure(
        &["replay", "no_such_file.mp4", "--jsonl", "-"],
        3,
        &["no_such_file.mp4"],
    );
    expect_failure(
        &[
            "run",
            "--replay",
            "no_such_file.mp4",
            "--listen",
            "127.0.0.1:0",
        ],
        3,
        &["no_such_file.mp4"],
    );
}

/// The test uses ONNX Runtime's CPU build, so that the result is the same on machines with a GPU.
#[test]
fn an_unusable_gpu_is_an_error_if_requested_and_not_in_auto() {
    let demo = demo();
    let with = |provider: &str| {
        let replay = ["replay", demo.to_str().unwrap(), "--jsonl", "-", "--set"];
        let mut command = command(
            &[
                &replay[..],
                &[&format!("inference.provider=\"{provider}\"")],
            ]
            .concat(),
        );
        command
            .env(
                "EXPRESSD_ONNXRUNTIME",
                project(".deps/onnxruntime/libonnxruntime.so"),
            )
            .output()
            .unwrap()
    };
    for provider in ["cuda", "tensorrt"] {
        let output = with(provider);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{text}");
        assert!(
            text.contains(&format!("provider {provider} cannot be used"))
                && text.contains("make gpu"),
            "{text}"
        );
        assert!(output.stdout.is_empty());
    }
    let output = with("auto");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(of_type(&events(&output.stdout), "expression").count() > 0);
}

#[test]
fn a_truncated_recording_gives_its_events_and_then_exit_1() {
    let Some(folder) = material("av") else { return };
    let temporary = tempfile::tempdir().unwrap();
    let mut cut_files = 0;
    for group in ["talking", "several_people", "mead", "mead_silent"] {
        let mut files: Vec<_> = fs::read_dir(folder.join(group))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "mp4"))
            .collect();
        files.sort();
        for file in files.iter().filter(|f| is_fast_start(f)).take(1) {
            let cut = temporary.path().join("cut.mp4");
            let bytes = fs::read(file).unwrap();
            fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
            check_cut(&cut);
            cut_files += 1;
        }
    }
    assert!(
        cut_files > 0,
        "the material has a recording with a leading index"
    );
}

/// Whether the index of an MP4 file precedes its media, so that half the file can be played.
fn is_fast_start(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap();
    let find = |name: &[u8]| bytes.windows(4).position(|w| w == name);
    matches!((find(b"moov"), find(b"mdat")), (Some(moov), Some(mdat)) if moov < mdat)
}

/// Expects that a truncated recording gives events, a message and exit code 1.
fn check_cut(file: &Path) {
    let (code, events, stderr) = replay(file, &[]);
    assert_eq!(code, Some(1), "{}: {stderr}", file.display());
    assert!(stderr.contains("truncated"), "{stderr}");
    assert!(
        of_type(&events, "expression").count() >= 1,
        "{}: the remaining sound is decoded",
        file.display()
    );
}

#[test]
fn a_configuration_with_five_faults_names_all_five() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("five.toml");
    let five = "[face]\ndetect_interval_ms = 1\nmin_face_px = \"big\"\n[inference]\nprovider = \
        \"abacus\"\nbudget_ms = 5\n[serve]\nlisten = \"0.0.0.0:8765\"\nport = 1\n";
    fs::write(&path, five).unwrap();
    for verb in ["check", "run"] {
        expect_failure(
            &[verb, "--config", path.to_str().unwrap()],
            2,
            &[
                "face.detect_interval_ms",
                "face.min_face_px",
                "inference.provider",
                "inference.budget_ms",
                "serve.listen",
                "serve.port",
            ],
        );
    }
    assert_eq!(
        expressd(&[
            "check",
            "--config",
            project("config/expressd.toml").to_str().unwrap()
        ])
        .status
        .code(),
        Some(0)
    );
}

#[test]
fn a_bundle_with_one_flipped_byte_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let original = project("models/default");
    let names: Vec<String> = fs::read_dir(&original)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let bundle = folder.path().join("bundle");
    for file in &names {
        let _ = fs::remove_dir_all(&bundle);
        fs::create_dir(&bundle).unwrap();
        for name in &names {
            fs::copy(original.join(name), bundle.join(name)).unwrap();
        }
        let mut bytes = fs::read(bundle.join(file)).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 0x01;
        fs::write(bundle.join(file), bytes).unwrap();
        let says = if file == "SHA256SUMS" { "bundle" } else { file };
        expect_failure(
            &[
                "replay",
                demo().to_str().unwrap(),
                "--jsonl",
                "-",
                "--bundle",
                bundle.to_str().unwrap(),
            ],
            4,
            &[says],
        );
    }
    expect_failure(
        &[
            "replay",
            demo().to_str().unwrap(),
            "--jsonl",
            "-",
            "--bundle",
            "no/such/bundle",
        ],
        4,
        &["no/such/bundle"],
    );
}

#[test]
fn a_taken_port_an_absent_device_and_a_public_address_are_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    expect_failure(
        &[
            "run",
            "--replay",
            demo().to_str().unwrap(),
            "--listen",
            &address,
        ],
        1,
        &[&address],
    );
    expect_failure(
        &[
            "run",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "video.source=v4l2:/dev/video99",
            "--set",
            "audio.source=none",
        ],
        3,
        &["/dev/video99"],
    );
    expect_failure(
        &[
            "run",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "video.source=none",
            "--set",
            "audio.source=no such microphone",
        ],
        3,
        &["no such microphone"],
    );
    expect_failure(&["run", "--listen", "0.0.0.0:8765"], 2, &["0.0.0.0:8765"]);
}

#[test]
fn a_full_disk_is_reported_once_and_the_recording_is_played() {
    let (code, _, text) = {
        let output = expressd(&["replay", demo().to_str().unwrap(), "--jsonl", "/dev/full"]);
        (output.status.code(), (), stderr(&output))
    };
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/dev/full"), "{text}");
    // A live daemon continues to serve, and its exit code reports the loss.
    let folder = tempfile::tempdir().unwrap();
    let short = short_recording(folder.path());
    expect_failure(
        &[
            "run",
            "--replay",
            &short,
            "--jsonl",
            "/dev/full",
            "--listen",
            "127.0.0.1:0",
        ],
        1,
        &["events are missing in /dev/full"],
    );
}

/// Creates a recording with two seconds of a tone; returns its path.
fn short_recording(folder: &Path) -> String {
    let path = folder.join("short.mp4");
    let samples = tone(44_100, 700.0, 2.0);
    generate(
        &path,
        "mp4mux",
        None,
        Some(Sound {
            rate_hz: 44_100,
            channels: 1,
            encoder: AAC,
            samples,
            begins_ms: 0,
        }),
    );
    path.to_str().unwrap().to_owned()
}

#[test]
fn other_files_in_a_folder_of_recordings_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(demo(), folder.path().join("demo.mp4")).unwrap();
    fs::write(folder.path().join("Notes.TXT"), "subject 7 was late\n").unwrap();
    let events = folder.path().join("events.jsonl");
    let replay = || {
        let output = expressd(&[
            "replay",
            folder.path().to_str().unwrap(),
            "--jsonl",
            events.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (fs::read_to_string(&events).unwrap(), stderr(&output))
    };
    let (first, errors) = replay();
    assert!(
        errors.contains("1 of 2 files are not recordings"),
        "{errors}"
    );
    // The folder now also contains the events of the first run.
    let (second, errors) = replay();
    assert!(
        errors.contains("2 of 3 files are not recordings"),
        "{errors}"
    );
    assert!(
        first == second && first.contains("\"recording\":\"demo.mp4\""),
        "{first}"
    );
}

#[test]
fn a_wrong_command_overwrites_neither_recording_nor_events() {
    let folder = tempfile::tempdir().unwrap();
    let [recording, events] = ["recording.mp4", "events.jsonl"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    std::fs::copy(demo(), &recording).unwrap();
    let bytes = std::fs::read(&recording).unwrap();
    expect_failure(
        &["replay", &recording, "--jsonl", &recording],
        2,
        &["is the recording itself"],
    );
    expect_failure(
        &[
            "run",
            "--replay",
            &recording,
            "--jsonl",
            &recording,
            "--listen",
            "127.0.0.1:0",
        ],
        2,
        &["is the recording itself"],
    );
    assert!(
        std::fs::read(&recording).unwrap() == bytes,
        "the recording is as it was"
    );
    std::fs::write(&events, "what an earlier run found\n").unwrap();
    expect_failure(
        &["replay", "no/such/file.mp4", "--jsonl", &events],
        3,
        &["no/such/file.mp4"],
    );
    expect_failure(
        &[
            "replay",
            &recording,
            "--jsonl",
            &events,
            "--bundle",
            "no/such/bundle",
        ],
        4,
        &["no/such/bundle"],
    );
    assert_eq!(
        std::fs::read_to_string(&events).unwrap(),
        "what an earlier run found\n"
    );
    let new = folder.path().join("new.jsonl");
    expect_failure(
        &[
            "replay",
            "no/such/file.mp4",
            "--jsonl",
            new.to_str().unwrap(),
        ],
        3,
        &["no/such/file.mp4"],
    );
    assert!(!new.exists(), "an empty file is no record of anything");
    expect_failure(
        &[
            "run",
            "--replay",
            &recording,
            "--jsonl",
            "no/such/folder/x.jsonl",
            "--listen",
            "127.0.0.1:0",
        ],
        1,
        &["check the folder"],
    );
}

#[test]
fn contradicting_sources_are_refused_by_check_and_by_run() {
    for (video, audio, says) in [
        ("none", "none", "nothing to capture"),
        ("none", "uri", "which has none"),
        ("test", "uri", "which has none"),
        ("auto", "uri", "which has none"),
    ] {
        let sources = [
            format!("video.source={video}"),
            format!("audio.source={audio}"),
        ];
        for verb in ["check", "run"] {
            expect_failure(
                &[verb, "--set", &sources[0], "--set", &sources[1]],
                2,
                &[says],
            );
        }
    }
    expect_failure(
        &["check", "--set", "serve.allow_origins=*"],
        2,
        &["serve.allow_origins", "https://lab.example"],
    );
}
