//! `config/expressd.toml` says what the program does without it.

use std::path::Path;

use expressd::config::{CliOverrides, Config, KEYS, Origin, RawConfig};

const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/expressd.toml");

#[test]
fn the_documented_configuration_is_the_default_one() {
    let text = std::fs::read_to_string(DOCUMENTED).unwrap();
    let documented: RawConfig = toml::from_str(&text).unwrap();
    assert_eq!(documented, RawConfig::default());

    let cli = CliOverrides {
        file: Some(DOCUMENTED.into()),
        ..CliOverrides::default()
    };
    let loaded = Config::load_from(Path::new("/nonexistent"), [], &cli).unwrap();
    assert_eq!(loaded.hash(), Config::default().hash());
    // Every key stands there, and in the order of KEYS.
    for (setting, key) in loaded.settings().iter().zip(KEYS) {
        assert_eq!(setting.key, key.name);
        assert_eq!(
            setting.origin,
            Origin::File {
                path: DOCUMENTED.into()
            },
            "{}",
            key.name
        );
    }
}

/// Each key has a comment right above it, which names the limits that the check enforces.
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
            // Numbers, and names in quotes; addresses and examples aside.
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
