//! Merges the sources of the configuration (the layers) with the crate `config`. Each value keeps
//! its origin.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use config::{ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use toml::de::{DeTable, DeValue};

use super::{CliOverrides, Fault, Origin, document};
use crate::address;

/// Line number, from 1, of each key of a configuration file.
type Lines = HashMap<String, usize>;

/// Origin that is set on command-line values in the crate `config`, to recognise them after the
/// merge.
const COMMAND_LINE: &str = "the command line";

/// Largest number of points in a name that is passed to the crate `config`. A real key has one.
const MAX_POINTS: usize = 8;

/// Whether a name is safe to pass to the crate `config`. The crate fills a list up to an index in
/// brackets and nests a table for each point, so a short name could use all memory.
fn is_plain(name: &str) -> bool {
    !name.contains('[') && name.matches('.').count() <= MAX_POINTS
}

/// A value of the merged configuration that is not a table, or an empty table.
pub(super) struct Leaf {
    /// Dotted name, for example `serve.listen`; not necessarily a declared key.
    pub key: String,
    pub value: ValueKind,
    /// The source that set the value.
    pub origin: Origin,
}

/// Merges all layers and lists the resulting values. A file that cannot be read or parsed is added
/// to `faults`, and the other layers are still merged.
pub(super) fn merge(
    system_file: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    cli: &CliOverrides,
    faults: &mut Vec<Fault>,
) -> Vec<Leaf> {
    let defaults = File::from_str(&document::defaults(), FileFormat::Toml);
    let mut builder = config::Config::builder().add_source(defaults);
    let mut lines: HashMap<PathBuf, Lines> = HashMap::new();
    let system_file = system_file.is_file().then(|| system_file.to_owned());
    for path in system_file.into_iter().chain(cli.file.clone()) {
        match read(&path) {
            Ok((layer, of_file)) => {
                builder = builder.add_source(layer);
                lines.insert(path, of_file);
            }
            Err(problem) => faults.push(Fault::File { path, problem }),
        }
    }
    // EXPRESSD__SECTION__KEY: the separator is two underscores, because names of keys contain
    // single ones.
    let variables = Environment::with_prefix("EXPRESSD")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true);
    // Values whose name is not passed to `config`; the check reports each as an unknown key.
    let mut odd = Vec::new();
    let environment = environment.into_iter().filter(|(name, value)| {
        let key = name.to_lowercase().replace("__", ".");
        let is_plain = is_plain(&key);
        if let Some(key) = key.strip_prefix("expressd.").filter(|_| !is_plain) {
            odd.push(Leaf {
                key: key.to_owned(),
                value: ValueKind::String(value.clone()),
                origin: Origin::Environment,
            });
        }
        is_plain
    });
    let environment: Map<String, String> = environment.collect();
    builder = builder.add_source(variables.source(Some(environment)));
    let mut layer = command_line(cli, faults);
    let odd_options = layer.0.extract_if(.., |(key, _)| !is_plain(key));
    odd.extend(odd_options.map(|(key, value)| Leaf {
        key,
        value: value.kind,
        origin: Origin::CommandLine,
    }));
    builder = builder.add_source(layer);
    let merged = builder.build().expect("every layer was read before");
    let mut leaves = Vec::new();
    collect("", Value::new(None, merged.cache.kind), &mut leaves);
    leaves.extend(odd);
    for leaf in &mut leaves {
        if let Origin::File { path, line } = &mut leaf.origin {
            *line = lines
                .get(path)
                .and_then(|of_file| of_file.get(&leaf.key).copied());
        }
    }
    leaves
}

/// Reads one file on its own, so that a fault does not affect the other layers. The error is the
/// text of the fault, without passwords.
fn read(path: &Path) -> Result<(Layer, Lines), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let table = DeTable::parse(&text);
    if let Ok(table) = &table {
        let names = table.get_ref().keys();
        if let Some(name) = names
            .map(|name| name.get_ref())
            .find(|name| !is_plain(name))
        {
            return Err(format!(
                "{:?} names no section",
                address::redact_address(name)
            ));
        }
    }
    let file = config::Config::builder()
        .add_source(File::from_str(&text, FileFormat::Toml))
        .build();
    let file = file.map_err(|error| match error {
        ConfigError::FileParse { cause, .. } => without_secrets(&cause.to_string())
            .trim_end()
            .replace('\n', "\n  "),
        other => address::redact(&other.to_string()),
    })?;
    // The crate `config` sets no origin on values of a parsed text. If it read the file itself, it
    // would name the file relative to the working directory.
    let origin = path.display().to_string();
    let values = file.collect().map_err(|error| error.to_string())?;
    let layer = Layer(
        values
            .into_iter()
            .map(|(key, value)| (key, from_origin(value, &origin)))
            .collect(),
    );
    let mut lines = Lines::new();
    if let Ok(table) = table {
        number_lines(&text, "", table.get_ref(), &mut lines);
    }
    Ok((layer, lines))
}

/// Adds the line number of each key of `table` to `lines`; `prefix` is the dotted name of the
/// table.
fn number_lines(text: &str, prefix: &str, table: &DeTable<'_>, lines: &mut Lines) {
    for (name, value) in table {
        let key = join(prefix, name.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            number_lines(text, &key, inner, lines);
        }
        let before = text.get(..name.span().start).unwrap_or_default();
        lines.insert(key, 1 + before.matches('\n').count());
    }
}

/// Dotted name of the key `name` in the table `prefix`.
fn join(prefix: &str, name: &str) -> String {
    match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}.{name}"),
    }
}

/// Removes passwords from the TOML parser's message. The message quotes the faulty line, which is
/// left out if it may hold an address: the line is not TOML, so the end of the address is unknown.
fn without_secrets(message: &str) -> String {
    let is_quote = |line: &&str| {
        let (number, rest) = line.split_once('|').unwrap_or(("x", ""));
        number.trim().chars().all(|c| c.is_ascii_digit())
            && !rest.trim_matches([' ', '^']).is_empty()
    };
    let is_secret = |quote: &str| {
        quote.contains(['@', '?']) || quote.contains("://") || address::redact(quote) != quote
    };
    message
        .lines()
        .map(|line| match is_quote(&line) && is_secret(line) {
            true => "  | (this line may hold an address and is not shown)".to_owned(),
            false => address::redact(line),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Sets the origin of a value and of all values in it.
fn from_origin(value: Value, origin: &String) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => ValueKind::Table(
            table
                .into_iter()
                .map(|(key, value)| (key, from_origin(value, origin)))
                .collect(),
        ),
        ValueKind::Array(items) => ValueKind::Array(
            items
                .into_iter()
                .map(|item| from_origin(item, origin))
                .collect(),
        ),
        scalar => scalar,
    };
    Value::new(Some(origin), kind)
}

/// Values by key as a source for the crate `config`. A later entry overrides an earlier one with
/// the same key.
#[derive(Clone, Debug)]
struct Layer(Vec<(String, Value)>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.iter().cloned().collect())
    }
}

/// The layer of `--set KEY=VALUE` and of flags such as `--listen`. A VALUE is TOML if it parses as
/// TOML, else a string; a flag's value is always a string.
fn command_line(cli: &CliOverrides, faults: &mut Vec<Fault>) -> Layer {
    let mut values = Vec::new();
    for typed in &cli.set {
        match typed.split_once('=') {
            Some((key, value)) => values.push((key.trim().to_owned(), parse(value.trim()))),
            None => faults.push(Fault::NoValue {
                typed: address::redact_address(typed),
            }),
        }
    }
    values.extend(
        cli.flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ValueKind::String(value.clone()))),
    );
    let origin = COMMAND_LINE.to_owned();
    Layer(
        values
            .into_iter()
            .map(|(key, kind)| (key, Value::new(Some(&origin), kind)))
            .collect(),
    )
}

/// Parses the VALUE of `--set KEY=VALUE`.
fn parse(text: &str) -> ValueKind {
    let as_toml = toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    match as_toml {
        Some(toml::Value::Integer(number)) => ValueKind::I64(number),
        Some(toml::Value::Float(number)) => ValueKind::Float(number),
        Some(toml::Value::Boolean(truth)) => ValueKind::Boolean(truth),
        Some(toml::Value::String(text)) => ValueKind::String(text),
        Some(toml::Value::Array(items)) => ValueKind::Array(
            items
                .into_iter()
                .map(|item| Value::new(Some(&COMMAND_LINE.to_owned()), parse(&item.to_string())))
                .collect(),
        ),
        Some(toml::Value::Datetime(_) | toml::Value::Table(_)) | None => {
            ValueKind::String(text.to_owned())
        }
    }
}

/// Adds every value below `value` that is not a table to `leaves`, sorted by name; `prefix` is the
/// dotted name of `value`.
fn collect(prefix: &str, value: Value, leaves: &mut Vec<Leaf>) {
    let origin = match value.origin() {
        None => Origin::Default,
        Some(COMMAND_LINE) => Origin::CommandLine,
        Some("the environment") => Origin::Environment,
        Some(path) => Origin::File {
            path: PathBuf::from(path),
            line: None,
        },
    };
    match value.kind {
        ValueKind::Table(table) if prefix.is_empty() || !table.is_empty() => {
            let mut entries: Vec<_> = table.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (name, value) in entries {
                collect(&join(prefix, &name), value, leaves);
            }
        }
        kind => leaves.push(Leaf {
            key: prefix.to_owned(),
            value: kind,
            origin,
        }),
    }
}
