use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use crate::config::{
    CliOverrides, Config, ConfigFaults, Fault, KEYS, Key, Origin, Range, Reload, grammar,
};

/// Loads a configuration from environment variables and `--set` options, without a file.
fn load(environment: &[(String, String)], set: &[String]) -> Result<Config, ConfigFaults> {
    let cli = CliOverrides {
        set: set.to_vec(),
        ..CliOverrides::default()
    };
    Config::load_from(Path::new(""), environment.to_vec(), &cli)
}

/// The declaration of the key `name`.
fn key(name: &str) -> &'static Key {
    KEYS.iter().find(|key| key.name == name).unwrap()
}

/// `text` as a quoted TOML string, for the command line.
fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[test]
fn every_key_is_described_in_whole_sentences() {
    for key in KEYS {
        let text = key.description;
        assert!(text.trim_end().ends_with('.'), "{}: {text}", key.name);
        assert!(
            text.trim_start()
                .starts_with(|c: char| c.is_uppercase() || c == '"'),
            "{}: {text}",
            key.name
        );
        let permitted = key.permitted();
        assert!(!permitted.is_empty(), "{}", key.name);
        assert!(
            text.lines()
                .all(|line| line.starts_with(' ') && line.len() < 100),
            "{}: {text}",
            key.name
        );
    }
}

#[test]
fn key_names_are_unique_and_keys_of_a_section_are_adjacent() {
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.parts().0).collect();
    sections.dedup();
    let mut names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KEYS.len());
    let all = sections.len();
    sections.sort_unstable();
    sections.dedup();
    assert_eq!(sections.len(), all);
}

/// `Config::default` panics if a default lies outside its range, or if a field's type does not
/// support the range.
#[test]
fn defaults_lie_within_their_ranges_and_are_the_effective_values() {
    let config = Config::default();
    assert_eq!(config.settings().len(), KEYS.len());
    for (setting, key) in config.settings().iter().zip(KEYS) {
        assert_eq!(setting.key, key.name);
        assert_eq!(setting.value.to_string(), key.default, "{}", key.name);
        assert_eq!(setting.origin, Origin::Default);
    }
}

#[test]
fn every_key_can_be_set_by_environment_and_command_line() {
    for key in KEYS {
        let plain = match toml_of(key.default) {
            toml::Value::String(text) => text,
            toml::Value::Array(_) => String::new(),
            other => other.to_string(),
        };
        let variable = format!("EXPRESSD__{}", key.name.to_uppercase().replace('.', "__"));
        let from_environment = load(&[(variable, plain)], &[]).unwrap();
        let from_command = load(&[], &[format!("{}={}", key.name, key.default)]).unwrap();
        for (config, origin) in [
            (&from_environment, Origin::Environment),
            (&from_command, Origin::CommandLine),
        ] {
            for setting in config.settings() {
                let expected = match setting.key == key.name {
                    true => &origin,
                    false => &Origin::Default,
                };
                assert_eq!(
                    &setting.origin, expected,
                    "{} for {}",
                    setting.key, key.name
                );
            }
            assert_eq!(config.hash(), Config::default().hash(), "{}", key.name);
        }
    }
}

/// Parses `text` as a TOML value.
fn toml_of(text: &str) -> toml::Value {
    let mut table: toml::Table = toml::from_str(&format!("value = {text}")).unwrap();
    table.remove("value").unwrap()
}

#[test]
fn limits_of_ranges_are_permitted_and_fit_the_fields_types() {
    for key in KEYS {
        let values: Vec<String> = match &key.range {
            Range::Integer { min, max } => vec![min.to_string(), max.to_string()],
            Range::ZeroOr { min, max, .. } => vec!["0".into(), min.to_string(), max.to_string()],
            Range::Number { min, max } => vec![min.to_string(), max.to_string()],
            Range::OneOf(names) => names.iter().map(|name| toml_text(name)).collect(),
            Range::Text { .. } | Range::List { .. } => vec![key.default.to_owned()],
        };
        for value in values {
            if let Err(faults) = load(&[], &[format!("{}={value}", key.name)]) {
                panic!("{faults}");
            }
        }
    }
}

/// Keys of an open file or socket need a restart. The server and the log read their other settings
/// at each use. All other keys affect stages and sources, which a new session builds.
#[test]
fn the_reload_class_follows_from_the_section_of_a_key() {
    for key in KEYS {
        let expected = match key.parts().0 {
            "publish" => Reload::Restart,
            _ if key.permitted() == grammar::LOOPBACK => Reload::Restart,
            "serve" | "log" => Reload::Hot,
            _ => Reload::Session,
        };
        assert_eq!(key.reload, expected, "{}", key.name);
    }
}

#[test]
fn settings_serialise_with_reload_class_and_without_passwords() {
    assert!(key("video.source").secret && key("audio.source").secret && !key("log.level").secret);
    let source = "video.source=uri:rtsp://ann:xyzzy@host/live".to_owned();
    let config = load(&[], &[source, "serve.max_clients=3".into()]).unwrap();
    let listed = serde_json::to_value(config.settings()).unwrap();
    assert!(!listed.to_string().contains("xyzzy"), "{listed}");
    let by_key: BTreeMap<&str, &serde_json::Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| (setting["key"].as_str().unwrap(), setting))
        .collect();
    assert_eq!(by_key.len(), KEYS.len());
    let expected = [
        (
            "video.source",
            r#""uri:rtsp://***@host/live""#,
            "session",
            true,
        ),
        ("serve.max_clients", "3", "hot", false),
    ];
    for (key, value, reload, secret) in expected {
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        assert_eq!(
            *by_key[key],
            serde_json::json!({
                "key": key,
                "value": value,
                "origin": {"from": "command_line"},
                "reload": reload,
                "secret": secret,
            })
        );
    }
}

#[test]
fn the_effective_configuration_loads_again_with_the_same_values() {
    let config = load(&[], &["face.max_subjects=3".into()]).unwrap();
    let lines: Vec<String> = config.settings().iter().map(|one| one.to_toml()).collect();
    assert!(lines.contains(&"face.max_subjects = 3  # the command line".to_owned()));
    assert!(lines.contains(&"video.source = \"auto\"  # the default".to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("effective.toml");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let cli = CliOverrides {
        file: Some(path),
        ..CliOverrides::default()
    };
    let again = Config::load_from(Path::new(""), [], &cli).unwrap();
    assert_eq!(again.hash(), config.hash());
}

/// Generates values outside a key's range, as TOML: numbers beyond the limits, and texts that no
/// key's grammar accepts.
fn outside(key: &'static Key) -> BoxedStrategy<String> {
    let integers = |min: i64, max: i64| {
        prop_oneof![i64::MIN..min, max + 1..=i64::MAX]
            .prop_map(|number| number.to_string())
            .boxed()
    };
    // No key accepts a list of lists. Texts with these characters are neither a choice nor an
    // address.
    let nested = Just("[[1]]".to_owned()).boxed();
    let noise = "[ <>|]{1,4}[a-z]{0,6}[<>|]".prop_map(|text| toml_text(&text));
    let own = match &key.range {
        Range::Integer { min, max } => integers(*min, *max),
        Range::ZeroOr { min, max, .. } => integers(*min, *max)
            .prop_filter("zero has a meaning", |text| text != "0")
            .boxed(),
        Range::Number { min, max } => prop_oneof![-1e9..*min - 1e-9, *max + 1e-9..1e9]
            .prop_map(|number| format!("{number:?}"))
            .boxed(),
        Range::OneOf(_) => noise.boxed(),
        Range::List { .. } => noise.prop_map(|text| format!("[{text}]")).boxed(),
        // Any text is a valid file name, and any text that is not blank is a valid folder or
        // device.
        Range::Text { permitted, .. } => {
            if permitted.starts_with("a file") {
                nested.clone()
            } else if permitted.starts_with("a folder") || permitted.contains("a device") {
                " {0,5}".prop_map(|text| toml_text(&text)).boxed()
            } else {
                noise.boxed()
            }
        }
    };
    prop_oneof![4 => own, 1 => nested].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn values_outside_of_a_range_are_refused_by_the_name_of_the_key(
        (key, value) in (0..KEYS.len()).prop_flat_map(|at| (Just(&KEYS[at]), outside(&KEYS[at])))
    ) {
        let faults = load(&[], &[format!("{}={value}", key.name)]).expect_err(key.name);
        prop_assert_eq!(faults.0.len(), 1);
        let Fault::Value { key: named, origin, permitted, .. } = &faults.0[0] else {
            panic!("{faults}");
        };
        prop_assert_eq!(named, key.name);
        prop_assert_eq!(origin, &Origin::CommandLine);
        prop_assert_eq!(permitted, &key.permitted());
    }
}
