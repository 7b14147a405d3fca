//! The hash of the effective configuration.

use sha2::{Digest, Sha256};

use super::setting::Setting;

/// SHA-256, 64 hexadecimal digits, over one line `key = value` for each setting. Origins are left
/// out and passwords in addresses are redacted.
pub(super) fn hash(settings: &[Setting]) -> String {
    let mut hasher = Sha256::new();
    for setting in settings {
        hasher.update(format!("{} = {}\n", setting.key, setting.redacted()));
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;
    use crate::config::{Config, Origin};

    /// A configuration with every kind of value. Keys that are added later are not in it, so its
    /// hash stays.
    const FILE: &str = "[video]\nsource = \"uri:rtsp://ann:xyzzy@host/live\"\n\
                        [face]\nmax_subjects = 3\nmin_face_px = 60\n\
                        [speech]\nthreshold = 0.25\n\
                        [serve]\nhosts = [\"lab.example\", \"10.0.0.7\"]\n";

    /// The output of `sha256sum` for the lines
    /// ```text
    /// video.source = "uri:rtsp://***@host/live"
    /// face.min_face_px = 60
    /// face.max_subjects = 3
    /// speech.threshold = 0.25
    /// serve.hosts = ["lab.example", "10.0.0.7"]
    /// ```
    const HASH: &str = "db4b0d48718b5dd96155402fd2a549f880eb6f8c9f189957b4d6e19f41e99cf5";

    /// The settings that come from the file, without the defaults.
    fn settings_of_file(config: &Config) -> Vec<Setting> {
        let is_of_file = |setting: &&Setting| matches!(setting.origin, Origin::File { .. });
        let settings = config.settings().iter();
        settings.filter(is_of_file).cloned().collect()
    }

    /// Recorded events hold hashes of earlier versions, so the algorithm must not change.
    #[test]
    fn the_hash_of_a_fixed_configuration_does_not_change() {
        let config = load(FILE, &[], &[]).unwrap();
        assert_eq!(hash(&settings_of_file(&config)), HASH);
        assert_eq!(hash(config.settings()), config.hash());
    }

    /// The keys of 2026-11-28 in their order, one a line. Keys that are added later are not in it.
    const KEYS: &str = include_str!("../../tests/golden/config_keys.txt");

    /// Recorded events hold the hash of the defaults, so it must not change.
    #[test]
    fn the_hash_of_the_defaults_does_not_change() {
        let config = Config::default();
        let settings = config.settings().iter();
        let known: Vec<Setting> = settings
            .filter(|setting| KEYS.lines().any(|key| key == setting.key))
            .cloned()
            .collect();
        assert_eq!(known.len(), KEYS.lines().count());
        assert_eq!(
            hash(&known),
            "53fd0a90598bcf4c1e871a40ff3a2b804e41b1b8c01e5fda4053d06f04dad67f"
        );
    }

    #[test]
    fn the_order_of_tables_and_keys_has_no_effect() {
        let reordered = "serve.hosts = [\"lab.example\", \"10.0.0.7\"]\n\
                         [speech]\nthreshold = 0.25\n\
                         [face]\nmin_face_px = 60\nmax_subjects = 3\n\
                         [video]\nsource = \"uri:rtsp://ann:xyzzy@host/live\"\n";
        let config = load(reordered, &[], &[]).unwrap();
        assert_eq!(hash(&settings_of_file(&config)), HASH);
        assert_eq!(config.hash(), load(FILE, &[], &[]).unwrap().hash());
    }

    #[test]
    fn the_hash_depends_on_every_key_and_value_and_on_no_origin() {
        let config = Config::default();
        for index in 0..config.settings().len() {
            let mut settings = config.settings().to_vec();
            settings[index].origin = Origin::CommandLine;
            assert_eq!(hash(&settings), config.hash(), "{}", settings[index]);
            settings[index].value = "another value".into();
            assert_ne!(hash(&settings), config.hash(), "{}", settings[index]);
            settings[index] = Setting {
                key: "another.key",
                ..config.settings()[index].clone()
            };
            assert_ne!(hash(&settings), config.hash(), "{}", settings[index]);
        }
    }

    #[test]
    fn the_hash_depends_on_values_of_files_variables_and_command_line() {
        let default = Config::default().hash();
        let of_file = |text: &str| load(text, &[], &[]).unwrap().hash();
        assert_eq!(of_file("[face]\nmin_face_px = 40\n"), default);
        let changed = of_file("[face]\nmin_face_px = 41\n");
        assert_ne!(changed, default);
        let variable = ("EXPRESSD__FACE__MIN_FACE_PX", "41");
        assert_eq!(load("", &[variable], &[]).unwrap().hash(), changed);
        let on_command_line = load("", &[], &["face.min_face_px=41"]).unwrap();
        assert_eq!(on_command_line.hash(), changed);
    }
}
