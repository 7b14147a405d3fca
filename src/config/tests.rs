use std::time::Duration;

use super::*;

/// Loads a configuration from a file with the text `file`, environment variables and `--set`
/// options; without a system file.
pub(super) fn load(
    file: &str,
    environment: &[(&str, &str)],
    set: &[&str],
) -> Result<Config, ConfigFaults> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.toml");
    std::fs::write(&path, file).unwrap();
    let cli = CliOverrides {
        file: Some(path),
        set: set.iter().map(ToString::to_string).collect(),
        flags: Vec::new(),
    };
    Config::load_from(
        Path::new("/nonexistent"),
        environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        &cli,
    )
}

fn origin_of(config: &Config, key: &str) -> Origin {
    config
        .settings()
        .iter()
        .find(|setting| setting.key == key)
        .unwrap()
        .origin
        .clone()
}

#[test]
fn later_layers_override_and_every_value_has_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let [system, given] = ["system.toml", "given.toml"].map(|name| folder.path().join(name));
    std::fs::write(
        &system,
        "[face]\nmin_face_px = 50\nmax_subjects = 2\ndetect_interval_ms = 100\n\
         [inference]\nthreads = 2\n",
    )
    .unwrap();
    std::fs::write(
        &given,
        "[face]\nmin_face_px = 60\nmax_subjects = 3\ndetect_interval_ms = 110\n",
    )
    .unwrap();
    let environment = [
        ("EXPRESSD__FACE__MAX_SUBJECTS", "4"),
        ("EXPRESSD__FACE__DETECT_INTERVAL_MS", "120"),
        ("EXPRESSD_ONNXRUNTIME", "elsewhere"),
    ];
    let cli = CliOverrides {
        file: Some(given.clone()),
        set: vec![
            "face.detect_interval_ms=130".into(),
            "serve.listen=127.0.0.1:1".into(),
        ],
        flags: vec![("serve.listen", "127.0.0.1:9000".into())],
    };
    let config = Config::load_from(
        &system,
        environment.map(|(k, v)| (k.to_owned(), v.to_owned())),
        &cli,
    )
    .unwrap();
    assert_eq!(
        (
            config.inference.threads,
            origin_of(&config, "inference.threads")
        ),
        (
            2,
            Origin::File {
                path: system,
                line: Some(6)
            }
        )
    );
    assert_eq!(
        (
            config.face.min_face_px,
            origin_of(&config, "face.min_face_px")
        ),
        (
            60,
            Origin::File {
                path: given,
                line: Some(2)
            }
        )
    );
    assert_eq!(
        (
            config.face.max_subjects,
            origin_of(&config, "face.max_subjects")
        ),
        (4, Origin::Environment)
    );
    assert_eq!(
        (
            config.face.detect_interval,
            origin_of(&config, "face.detect_interval_ms")
        ),
        (Duration::from_millis(130), Origin::CommandLine)
    );
    assert_eq!(
        (
            config.face.lost_after,
            origin_of(&config, "face.lost_after_ms")
        ),
        (Duration::from_secs(2), Origin::Default)
    );
    assert_eq!(config.serve.listen[0].port(), 9000);
    assert_eq!(config.settings().len(), KEYS.len());
}

#[test]
fn each_fault_is_a_line_and_the_remedy_is_the_last() {
    let file = "[face]\nmin_face_px = 5\nmax_subject = 3\n\
                [inference]\nprovider = \"gpu\"\nbudget_ms = \"soon\"\n\
                [video]\nsource = \"/dev/video0\"\n";
    let faults = load(file, &[], &[]).unwrap_err();
    assert_eq!(faults.0.len(), 5);
    let text = faults.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    for expected in [
        ["face.min_face_px = 5", "given.toml:2)", "20 to 1000"],
        [
            "face.max_subject ",
            "no such key",
            "the nearest is face.max_subjects",
        ],
        [
            "inference.provider = \"gpu\"",
            "given.toml",
            "\"auto\", \"tensorrt\", \"cuda\", \"cpu\"",
        ],
        [
            "inference.budget_ms = \"soon\"",
            "given.toml:6)",
            "10 to 10000",
        ],
        [
            "video.source = \"/dev/video0\"",
            "given.toml",
            "v4l2:<device>",
        ],
    ] {
        assert!(
            lines
                .iter()
                .any(|line| expected.iter().all(|part| line.contains(part))),
            "{expected:?} in\n{text}"
        );
    }
    assert!(lines[5].contains("expressd check"));
}

#[test]
fn faults_of_all_sources_are_reported_together() {
    let faults = load(
        "[face\n",
        &[
            ("EXPRESSD__WINDOW__HOP_MS", "39"),
            ("EXPRESSD__WINDO__HOP_MS", "40"),
        ],
        &["log.level=loud", "nothing"],
    )
    .unwrap_err();
    let text = faults.to_string();
    assert_eq!(faults.0.len(), 5, "{text}");
    assert!(matches!(&faults.0[0], Fault::File { .. }), "{text}");
    assert!(
        text.contains("window.hop_ms = 39 (from the environment)"),
        "{text}"
    );
    assert!(text.contains("the nearest is window.hop_ms"), "{text}");
    assert!(
        text.contains("log.level = \"loud\" (from the command line)"),
        "{text}"
    );
    assert!(text.contains("--set nothing: expected KEY=VALUE"), "{text}");
}

#[test]
fn a_missing_config_file_is_a_fault_and_a_missing_system_file_is_not() {
    let cli = CliOverrides {
        file: Some("/nonexistent/given.toml".into()),
        ..CliOverrides::default()
    };
    let faults = Config::load_from(Path::new("/nonexistent/system.toml"), [], &cli).unwrap_err();
    assert_eq!(faults.0.len(), 1);
    assert!(
        faults.to_string().starts_with("/nonexistent/given.toml: "),
        "{faults}"
    );
}

#[test]
fn unknown_sections_and_sections_that_are_not_tables_are_faults() {
    let faults = load("face = 3\n[vidoe]\n[face2]\nmin_face_px = 50\n", &[], &[])
        .unwrap_err()
        .to_string();
    assert!(faults.contains("face = 3"), "{faults}");
    assert!(faults.contains("vidoe (from"), "{faults}");
    assert!(
        faults.contains("the nearest is face.min_face_px"),
        "{faults}"
    );
}

#[test]
fn serve_listen_accepts_loopback_addresses_only() {
    for (text, permitted) in [
        ("127.0.0.1:8765", true),
        ("[::1]:0", true),
        ("localhost:80", true),
        ("0.0.0.0:8765", false),
        ("192.168.1.4:8765", false),
        ("[::]:8765", false),
        ("8765", false),
        ("localhost:65536", false),
    ] {
        let result = load("", &[("EXPRESSD__SERVE__LISTEN", text)], &[]);
        assert_eq!(result.is_ok(), permitted, "{text}");
        if let Err(faults) = result {
            assert!(
                faults.to_string().contains("no access tokens yet"),
                "{faults}"
            );
        }
    }
}

#[test]
fn localhost_means_both_loopback_addresses() {
    let listen = |text: &str| {
        load("", &[], &[&format!("serve.listen={text}")])
            .unwrap()
            .serve
            .listen
    };
    let addresses = ["127.0.0.1:8000", "[::1]:8000"].map(|addr| addr.parse().unwrap());
    assert_eq!(listen("localhost:8000"), addresses);
    assert_eq!(listen("127.0.0.1:8000"), addresses[..1]);
    assert_eq!(listen("[::1]:8000"), addresses[1..]);
}

#[test]
fn malformed_video_sources_are_refused() {
    for (text, permitted) in [
        ("auto", true),
        ("none", true),
        ("test", true),
        ("v4l2:/dev/video0", true),
        ("pipewire", true),
        ("pipewire:42", true),
        ("uri:rtsp://127.0.0.1:8554/x", true),
        ("gst:videotestsrc ! identity", true),
        ("v4l2", false),
        ("uri:", false),
        ("camera", false),
        ("", false),
        ("rtsp://127.0.0.1/x", false),
    ] {
        assert_eq!(
            load("", &[], &[&format!("video.source={text}")]).is_ok(),
            permitted,
            "{text}"
        );
    }
}

#[test]
fn passwords_in_addresses_are_used_and_not_shown() {
    let source = |password: &str| format!("uri:rtsp://ann:{password}@host/live?token={password}");
    let [one, other] = ["xyzzy", "plugh"]
        .map(|password| load("", &[], &[&format!("video.source={}", source(password))]).unwrap());
    assert_eq!(one.video.expose(), source("xyzzy"));
    let source = one.settings().iter().find(|s| s.key == "video.source");
    let text = format!("{one:?} {}", source.unwrap());
    assert!(
        text.contains("uri:rtsp://***@host/live?***") && !text.contains("xyzzy"),
        "{text}"
    );
    // The password is not part of the hash: each event has it, and the password could be guessed
    // from it.
    assert_eq!(one.hash(), other.hash());
    assert_ne!(
        one.hash(),
        load("", &[], &["video.source=uri:rtsp://ann:xyzzy@elsewhere"])
            .unwrap()
            .hash()
    );

    let line = |text: &str| load(&format!("[video]\n{text}\n"), &[], &[]).unwrap_err();
    for faults in [
        line("source = \"uri:rtsp://ann:xyzzy@host"),
        line("source = uri:rtsp://ann:xyzzy@host"),
        line("source = \"uri:ann:xy\\zzy xyzzy@host\""),
        line("source = \"rtsp://ann:xyzzy@host\""),
        line("source = { uri = \"rtsp://ann:xyzzy@host\" }"),
        line("\"rtsp://ann:xyzzy@host\" = 1"),
        line(
            "source = [\"x\", \"rtsp://ann:xyzzy@host\"]\n[face]\nmin_face_px = \"user-pw=xyzzy\"",
        ),
        load(
            "",
            &[("EXPRESSD__VIDEO__SOURCE", "rtsp://ann:xyzzy@host")],
            &["video.source rtsp://ann:xyzzy@host"],
        )
        .unwrap_err(),
    ] {
        let text = format!("{faults} {faults:?}");
        assert!(!text.contains("zzy"), "{text}");
    }
    // A line without an address is quoted.
    let faults = line("source = auto").to_string();
    assert!(
        faults.contains("1 | [video]") || faults.contains("source = auto"),
        "{faults}"
    );
}

#[test]
fn a_list_is_read_from_a_file_a_variable_and_the_command_line() {
    let expected = vec![
        "https://a.example".to_owned(),
        "https://b.example".to_owned(),
    ];
    let list = "[\"https://a.example\", \"https://b.example\"]";
    let from_file = load(&format!("[serve]\nallow_origins = {list}\n"), &[], &[]).unwrap();
    let from_variable = load(
        "",
        &[(
            "EXPRESSD__SERVE__ALLOW_ORIGINS",
            "https://a.example, https://b.example",
        )],
        &[],
    )
    .unwrap();
    let from_command = load("", &[], &[&format!("serve.allow_origins={list}")]).unwrap();
    for config in [from_file, from_variable, from_command] {
        assert_eq!(config.serve.allow_origins, expected);
    }
}

#[test]
fn values_at_the_limits_are_accepted_and_values_beyond_are_refused() {
    for (key, inside, outside) in [
        ("face.detect_interval_ms", ["40", "5000"], ["39", "5001"]),
        ("face.min_face_px", ["20", "1000"], ["19", "20.5"]),
        ("face.max_subjects", ["1", "64"], ["0", "65"]),
        ("speech.threshold", ["0.05", "0.95"], ["0", "1.5"]),
        ("window.hop_ms", ["0", "10000"], ["-1", "39"]),
        ("inference.threads", ["1", "64"], ["0", "true"]),
        ("inference.budget_ms", ["10", "10000"], ["9", "10001"]),
        ("serve.max_clients", ["1", "10000"], ["0", "many"]),
        (
            "serve.hosts",
            ["lab.example,sensor-1.lab.,10.0.0.7", "[fd00::7]"],
            ["http://lab.example", "lab.example:8765"],
        ),
        ("serve.hosts", ["a_b", "x"], ["*.example", "fd00::7"]),
        (
            "serve.allow_origins",
            ["https://lab.example,http://10.0.0.7:8080/", "null"],
            ["*", "https://lab.example,http://"],
        ),
    ] {
        for value in inside {
            assert!(
                load("", &[], &[&format!("{key}={value}")]).is_ok(),
                "{key}={value}"
            );
        }
        for value in outside {
            assert!(
                load("", &[], &[&format!("{key}={value}")]).is_err(),
                "{key}={value}"
            );
        }
    }
}

#[test]
fn known_transcribers_are_accepted_and_others_are_refused() {
    use crate::speech::TranscriberChoice;
    assert_eq!(
        load("", &[], &[]).unwrap().speech.transcriber,
        TranscriberChoice::None
    );
    for choice in [
        TranscriberChoice::None,
        TranscriberChoice::PocketSphinx,
        TranscriberChoice::Sherpa("models/a model: 2".into()),
    ] {
        let set = format!("speech.transcriber={choice}");
        assert_eq!(load("", &[], &[&set]).unwrap().speech.transcriber, choice);
    }
    let faults = load(
        "[speech]\ntranscriber = \"vosk\"\n",
        &[],
        &["speech.threshold=2"],
    )
    .unwrap_err();
    assert_eq!(faults.0.len(), 2);
    assert!(
        faults.to_string().contains("speech.transcriber = \"vosk\"")
            && faults.to_string().contains("\"none\", \"pocketsphinx\""),
        "{faults}"
    );
}
