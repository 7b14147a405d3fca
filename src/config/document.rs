//! Writes the declared keys as a documented TOML file, `config/expressd.toml`.

use super::{KEYS, Key};

/// Largest length of a comment line, in characters.
const COLUMNS: usize = 100;

/// Comment at the head of `config/expressd.toml`.
const HEADER: &str = "\
# The configuration of expressd: every key with its meaning, its permitted values and its default.
# Written by `expressd check --defaults`; the keys are declared in src/config/keys.rs.
#
# Copy the keys to change into /etc/expressd/expressd.toml, or into a file that --config names.
# Later sources override earlier ones: the defaults, /etc/expressd/expressd.toml, --config,
# environment variables (EXPRESSD__FACE__MIN_FACE_PX=60), the command line
# (--set face.min_face_px=60). `expressd check` reports every fault at once, and
# `expressd check --effective` lists every value with its origin. Relative paths are looked up in
# the working directory, then beside the program (../share/expressd), then in the project.
";

/// Comment on each key whose value may hold a password.
const SECRET: &str = "A password in it is never shown or logged. A file with one should be \
    readable by the daemon alone.";

/// Text of `config/expressd.toml`: every key with its description, its permitted values and its
/// default.
pub fn document() -> String {
    let mut text = HEADER.to_owned();
    let mut current = "";
    for key in KEYS {
        let (section, name) = key.parts();
        if section != current {
            text += &format!("\n[{section}]\n");
            current = section;
        }
        text += &comment(key);
        text += &format!("{name} = {}\n", key.default);
    }
    text
}

/// The default of every key as TOML, without comments.
pub(super) fn defaults() -> String {
    KEYS.iter()
        .map(|key| format!("{} = {}\n", key.name, key.default))
        .collect()
}

/// The comment lines above a key: description, permitted values, and a warning if the value may
/// hold a password.
fn comment(key: &Key) -> String {
    let mut lines: Vec<String> = key.description.lines().map(str::to_owned).collect();
    lines.extend(wrap(&format!("Permitted: {}.", key.range)));
    if key.secret {
        lines.extend(wrap(SECRET));
    }
    lines.iter().map(|line| format!("#{line}\n")).collect()
}

/// Breaks `text` at spaces into lines of at most [`COLUMNS`] characters. Each line begins with a
/// space; the caller puts `#` before it.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_full = |line: &String| 1 + line.len() + 1 + word.len() > COLUMNS;
        if lines.last().is_none_or(is_full) {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("never empty");
        line.push(' ');
        line.push_str(word);
    }
    lines
}
