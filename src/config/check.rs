//! The check of every value against its range.

use config::ValueKind;

use super::layers::Leaf;
use super::{Fault, KEYS, Key, Origin, Range, Setting};
use crate::address;

impl Range {
    /// The value as TOML, if it is permitted.
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

/// Checks every leaf, then lists the settings in the order of [`KEYS`]. The list is complete only
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

/// The fault of a value whose name is not a key.
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
    // A key in the wrong section is closer to its own name in the right section than to the keys
    // beside it.
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

fn integer(value: &ValueKind) -> Option<i64> {
    match value {
        ValueKind::I64(number) => Some(*number),
        ValueKind::U64(number) => i64::try_from(*number).ok(),
        // A dedicated flag.
        ValueKind::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn number(value: &ValueKind) -> Option<f64> {
    match value {
        ValueKind::Float(number) => Some(*number),
        ValueKind::String(text) => text.parse().ok(),
        other => integer(other).map(|number| number as f64),
    }
}

/// The type of an environment variable is guessed from its text, and a device may be named `0`.
fn text(value: &ValueKind) -> Option<String> {
    match value {
        ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => None,
        scalar => Some(scalar.to_string()),
    }
}

/// A list, or one text with commas (an environment variable).
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
