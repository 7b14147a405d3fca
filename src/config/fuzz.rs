//! Fuzz tests of the configuration: its file, and the values of environment variables and the
//! command line.

use super::*;
use crate::testing::fuzz::{InputFile, Target};

/// A file that sets a value other than the default for most keys, with several forms of address.
const VALUES: &str = r#"
[video]
source = "uri:rtsp://ann:secret@host:554/live?key=1"
[audio]
source = "alsa:hw:1"
channel = "mix"
[face]
detect_interval_ms = 100
max_subjects = 2
[speech]
transcriber = "pocketsphinx"
threshold = 0.25
[window]
hop_ms = 250
[inference]
provider = "cpu"
threads = 2
[serve]
listen = "[::1]:9000"
hosts = ["box.local"]
allow_origins = ["https://example.org"]
[publish]
jsonl = "events.jsonl"
[log]
level = "debug"
"#;

/// The effective values as the text of a configuration file.
fn written(config: &Config) -> String {
    let line = |setting: &Setting| format!("{} = {}\n", setting.key, setting.value);
    config.settings().iter().map(line).collect()
}

/// Writes `text` to `file` and loads it together with `environment` and the `--set` options `set`.
fn load(
    file: &InputFile,
    text: &[u8],
    environment: Vec<(String, String)>,
    set: Vec<String>,
) -> Result<Config, ConfigFaults> {
    let cli = CliOverrides {
        file: Some(file.write(text).to_owned()),
        set,
        flags: Vec::new(),
    };
    Config::load_from(Path::new(""), environment, &cli)
}

/// Checks the result of a load. An accepted configuration has every key, and loading its written
/// values gives the same values and hash. A fault has a text.
fn check(file: &InputFile, loaded: Result<Config, ConfigFaults>) {
    let config = match loaded {
        Ok(config) => config,
        Err(faults) => {
            assert!(!faults.0.is_empty());
            assert!(
                faults
                    .0
                    .iter()
                    .all(|fault| !fault.to_string().trim().is_empty())
            );
            assert!(faults.to_string().contains("expressd check"));
            return;
        }
    };
    let keys: Vec<_> = config
        .settings()
        .iter()
        .map(|setting| setting.key)
        .collect();
    assert_eq!(keys, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
    let text = written(&config);
    let again = load(file, text.as_bytes(), Vec::new(), Vec::new());
    let again = again.unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    assert_eq!(written(&again), text);
    assert_eq!(again.hash(), config.hash());
}

#[test]
fn mutated_files_are_read_or_refused() {
    let file = InputFile::in_memory();
    let valid = load(&file, VALUES.as_bytes(), Vec::new(), Vec::new());
    check(&file, Ok(valid.expect("a seed")));
    // A seed without comments, so that most mutations change keys and values.
    let defaults = document();
    let defaults: Vec<_> = defaults
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    Target::text("config", 1500)
        .seeds([document(), defaults.join("\n"), VALUES.to_owned()])
        .words(&[
            "auto",
            "test",
            "none",
            "uri:",
            "v4l2:",
            "pipewire:",
            "gst:",
            "sherpa:",
            "[[video]]",
        ])
        .run(|input| check(&file, load(&file, input, Vec::new(), Vec::new())));
}

/// Each line of the input is one setting: an environment variable, or the argument of `--set`.
#[test]
fn mutated_variables_and_options_are_read_or_refused() {
    let file = InputFile::in_memory();
    let options = KEYS
        .iter()
        .map(|key| format!("{}={}\n", key.name, key.default));
    let variables = KEYS.iter().map(|key| {
        let name = key.name.replace('.', "__").to_uppercase();
        format!("EXPRESSD__{name}={}\n", key.default.trim_matches('"'))
    });
    Target::text("settings", 1500)
        .seeds([options.collect::<String>(), variables.collect::<String>()])
        .words(&[
            "[0]",
            "[-1]",
            "EXPRESSD__",
            "__",
            ".",
            "=",
            "a,b",
            "2020-01-01",
        ])
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let (variables, options): (Vec<_>, Vec<_>) = text
                .lines()
                .partition(|line| line.starts_with("EXPRESSD__"));
            let variable = |line: &str| {
                let (name, value) = line.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            };
            let variables = variables.into_iter().filter_map(variable).collect();
            let options = options.into_iter().map(str::to_owned).collect();
            check(&file, load(&file, b"", variables, options));
        });
}

/// The crate `config` would use gigabytes of memory for these names.
#[test]
fn names_with_an_index_or_deep_nesting_are_refused() {
    let file = InputFile::in_memory();
    let names = [
        "video.source[100000000]".to_owned(),
        "a[-9223372036854775808]".to_owned(),
        "a.".repeat(50_000) + "a",
    ];
    for name in names {
        let option = load(&file, b"", Vec::new(), vec![format!("{name}=1")]);
        let quoted = load(
            &file,
            format!("{name:?} = 1").as_bytes(),
            Vec::new(),
            Vec::new(),
        );
        let variable = format!("EXPRESSD__{}", name.replace('.', "__"));
        let variable = load(&file, b"", vec![(variable, "1".to_owned())], Vec::new());
        for (refused, origin) in [
            (option, Origin::CommandLine),
            (variable, Origin::Environment),
        ] {
            let faults = refused.expect_err("it is no key").0;
            let [Fault::Unknown { origin: found, .. }] = &faults[..] else {
                panic!("{faults:?}");
            };
            assert_eq!(*found, origin);
        }
        let faults = quoted.expect_err("it is no key").to_string();
        assert!(faults.contains("names no section"), "{faults}");
    }
}
