//! Tests that `config/expressd.toml` documents the configuration and its defaults.

use std::path::Path;

use expressd::config::{CliOverrides, Config, KEYS, Origin, document};

use crate::harness::{expressd, stderr};

/// Path of the documented configuration.
const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/expressd.toml");

#[test]
fn the_documented_configuration_is_the_default_one() {
    let text = std::fs::read_to_string(DOCUMENTED).unwrap();
    assert_eq!(
        text,
        document(),
        "run `expressd check --defaults > config/expressd.toml`"
    );

    let cli = CliOverrides {
        file: Some(DOCUMENTED.into()),
        ..CliOverrides::default()
    };
    let loaded = Config::load_from(Path::new("/nonexistent"), [], &cli).unwrap();
    assert_eq!(loaded.hash(), Config::default().hash());
    // The file has every key, in the order of KEYS.
    for (setting, key) in loaded.settings().iter().zip(KEYS) {
        assert_eq!(setting.key, key.name);
        let (_, name) = key.parts();
        let Origin::File { path, line } = &setting.origin else {
            panic!("{setting}");
        };
        assert_eq!(path, Path::new(DOCUMENTED));
        let line = text.lines().nth(line.unwrap() - 1).unwrap();
        assert_eq!(line, format!("{name} = {}", key.default));
    }
}

/// A comment must precede each key and name the limits that the check enforces.
#[test]
fn every_key_is_described_with_its_limits() {
    let text = std::fs::read_to_string(DOCUMENTED).unwrap();
    let (mut section, mut comment) = (String::new(), String::new());
    let mut described = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some(words) = line.strip_prefix('#') {
            comment += words;
            continue;
        } else if let Some((name, _)) = line.split_once(" = ") {
            let name = format!("{section}.{name}");
            let key = KEYS
                .iter()
                .find(|key| key.name == name)
                .unwrap_or_else(|| panic!("{name} is no key"));
            assert!(!comment.is_empty(), "{name} is not described");
            // Only ranges of numbers are compared with the comment.
            let permitted = key.permitted();
            if permitted.starts_with(|c: char| c.is_ascii_digit()) {
                for number in permitted
                    .split(|c: char| !c.is_ascii_digit() && c != '.')
                    .filter(|part| !part.is_empty())
                {
                    assert!(
                        comment.contains(number),
                        "{name}: its description does not say {number}: {comment}"
                    );
                }
            }
            described += 1;
        }
        comment.clear();
    }
    assert_eq!(described, KEYS.len());
}

#[test]
fn check_prints_the_documented_and_the_effective_configuration() {
    let output = expressd(&["check", "--defaults", "--set", "face.max_subjects=0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), document());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.toml");
    std::fs::write(
        &path,
        "[video]\nsource = \"uri:rtsp://ann:xyzzy@host/live\"\n",
    )
    .unwrap();
    let output = expressd(&[
        "check",
        "--effective",
        "--config",
        path.to_str().unwrap(),
        "--set",
        "face.max_subjects=3",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count(), KEYS.len(), "{text}");
    let source = format!(
        "video.source = \"uri:rtsp://***@host/live\"  # {}:2",
        path.display()
    );
    for line in [
        source.as_str(),
        "face.max_subjects = 3  # the command line",
        "log.level = \"info\"  # the default",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("xyzzy"), "{text}");
}

/// Help passes the filter that removes passwords from output, so none of its words may look like a
/// password.
#[test]
fn help_is_complete_on_standard_output() {
    let output = expressd(&["run", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("--set <NAME=VALUE>"), "{help}");
    assert!(!help.contains("***"), "{help}");
}
