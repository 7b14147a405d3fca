//! Checks every value of the configuration against the range of its key.

use config::ValueKind;

use super::layers::Leaf;
use super::{Fault, KEYS, Key, Origin, Range, Setting};
use crate::address;

impl Range {
    /// Converts the value to TOML; `None` if it is not permitted.
    fn accept(&self, value: &ValueKind) -> Option<toml::Value> {
        match self {
            Range::Integer { min, max } => integer(value)
                .filter(|number| (min..=max).contains(&number))
                .map(Into::into),
            Range::ZeroOr { min, max, .. } => integer(value)
                .filter(|number| *number == 0 || (min..=max).contains(&number))
                .map(Into::into),
            Range::Number { min, max } => number(value)
                .filter(|number| (min..=max).contains(&number))
                .map(Into::into),
            Range::OneOf(names) => text(value)
                .filter(|name| names.contains(&name.as_str()))
                .map(Into::into),
            Range::Text { fits, .. } => text(value).filter(|text| fits(text)).map(Into::into),
            Range::List { fits, .. } => texts(value)
                .filter(|items| items.iter().all(|item| fits(item)))
                .map(Into::into),
        }
    }
}

/// Checks every merged value and adds a fault for each one that is not permitted or whose key is
/// unknown. Returns the permitted values in the order of [`KEYS`]; the list is complete only
/// without a fault.
pub(super) fn check(leaves: Vec<Leaf>, faults: &mut Vec<Fault>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for Leaf {
        key: name,
        value,
        origin,
    } in leaves
    {
        match KEYS.iter().find(|key| key.name == name) {
            Some(key) => match key.range.accept(&value) {
                Some(value) => settings.push(Setting {
                    key: key.name,
                    value,
                    origin,
                }),
                None => faults.push(Fault::Value {
                    key: name,
                    found: display(&value),
                    origin,
                    permitted: key.permitted(),
                }),
            },
            None => faults.push(unknown(name, &value, origin)),
        }
    }
    settings.sort_by_key(|setting| KEYS.iter().position(|key| key.name == setting.key));
    settings
}

/// The fault of a value whose name is not a key, with the most similar key.
fn unknown(name: String, value: &ValueKind, origin: Origin) -> Fault {
    if KEYS.iter().any(|key| key.parts().0 == name) {
        let permitted = format!("a section: [{name}], then its keys");
        return Fault::Value {
            key: name,
            found: display(value),
            origin,
            permitted,
        };
    }
    // The distance is that of the full names, or 1 plus that of the names without their sections.
    // So a key in the wrong section is matched to its right section.
    let own = name.rsplit('.').next().unwrap_or(&name);
    let distance = |key: &&Key| {
        let (_, key_own) = key.parts();
        strsim::damerau_levenshtein(key.name, &name)
            .min(1 + strsim::damerau_levenshtein(key_own, own))
    };
    let nearest = KEYS
        .iter()
        .min_by_key(distance)
        .expect("there are keys")
        .name;
    Fault::Unknown {
        key: address::redact_address(&name),
        origin,
        nearest,
    }
}

/// An integer, also one written as a string.
fn integer(value: &ValueKind) -> Option<i64> {
    match value {
        ValueKind::I64(number) => Some(*number),
        ValueKind::U64(number) => i64::try_from(*number).ok(),
        // The value of a flag such as `--listen` is always a string.
        ValueKind::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number, also one written as a string.
fn number(value: &ValueKind) -> Option<f64> {
    match value {
        ValueKind::Float(number) => Some(*number),
        ValueKind::String(text) => text.parse().ok(),
        other => integer(other).map(|number| number as f64),
    }
}

/// A text. Scalars of other types are converted, because the type of an environment variable is
/// guessed from its text: a device may be named `0`.
fn text(value: &ValueKind) -> Option<String> {
    match value {
        ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => None,
        scalar => Some(scalar.to_string()),
    }
}

/// A list of texts, or one text with commas, as in an environment variable.
fn texts(value: &ValueKind) -> Option<Vec<String>> {
    match value {
        ValueKind::Array(items) => items
            .iter()
            .map(|item| text(&item.kind).filter(|text| !text.is_empty()))
            .collect(),
        ValueKind::Table(_) | ValueKind::Nil => None,
        scalar => Some(
            scalar
                .to_string()
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
    }
}

/// The value as text for a fault, without passwords.
fn display(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => format!("{:?}", address::redact_address(text)),
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(items) => format!(
            "[{}]",
            items
                .iter()
                .map(|item| display(&item.kind))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        other => other.to_string(),
    }
}
