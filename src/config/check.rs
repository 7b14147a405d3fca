//! The keys, what each permits, and the check of all of them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use config::ValueKind;

use super::layers::Leaf;
use super::{Fault, Origin, Setting};
use crate::address;
use crate::encode::Provider;
use crate::speech::TranscriberChoice;

/// A key of the configuration: `section.name`.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Integer {
        min: i64,
        max: i64,
    },
    /// Zero means something of its own.
    ZeroOr {
        zero: &'static str,
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    OneOf(&'static [&'static str]),
    /// Any text but an empty one.
    Text(&'static str),
    MaybeText(&'static str),
    Hosts,
    Origins,
    VideoSource,
    /// One of these words, or a number from 1 on.
    WordOrNumber(&'static [&'static str]),
    Transcriber,
    Loopback,
}

const fn integer(name: &'static str, min: i64, max: i64) -> Key {
    Key {
        name,
        kind: Kind::Integer { min, max },
    }
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// Every key there is, in the order of `config/expressd.toml`.
pub const KEYS: &[Key] = &[
    key("video.source", Kind::VideoSource),
    key("video.track", Kind::WordOrNumber(&["auto"])),
    key(
        "audio.source",
        Kind::Text(
            "\"default\", \"uri\" (the sound of the video's source), \"none\", or a device as `expressd devices` lists it",
        ),
    ),
    key("audio.track", Kind::WordOrNumber(&["auto"])),
    key("audio.channel", Kind::WordOrNumber(&["auto", "mix"])),
    key("face.detector", Kind::Text("a folder")),
    key("face.tracker", Kind::Text("a folder")),
    integer("face.detect_interval_ms", 40, 5_000),
    integer("face.min_face_px", 20, 1_000),
    integer("face.max_subjects", 1, 64),
    integer("face.lost_after_ms", 100, 60_000),
    key(
        "speech.threshold",
        Kind::Number {
            min: 0.05,
            max: 0.95,
        },
    ),
    integer("speech.min_silence_ms", 50, 5_000),
    key("speech.transcriber", Kind::Transcriber),
    key(
        "window.hop_ms",
        Kind::ZeroOr {
            zero: "the manifest's",
            min: 40,
            max: 10_000,
        },
    ),
    integer("window.lateness_ms", 0, 5_000),
    key("inference.bundle", Kind::Text("a folder")),
    key(
        "inference.provider",
        Kind::OneOf(&["auto", "tensorrt", "cuda", "cpu"]),
    ),
    integer("inference.threads", 1, 64),
    integer("inference.budget_ms", 10, 10_000),
    key("serve.listen", Kind::Loopback),
    key("serve.hosts", Kind::Hosts),
    key("serve.allow_origins", Kind::Origins),
    integer("serve.max_clients", 1, 10_000),
    key(
        "publish.jsonl",
        Kind::MaybeText("a file, \"-\" for standard output, or \"\" for none"),
    ),
    key(
        "log.level",
        Kind::OneOf(&["error", "warn", "info", "debug", "trace"]),
    ),
];

impl Key {
    /// What may stand there, for people.
    pub fn permitted(&self) -> String {
        match self.kind {
            Kind::Integer { min, max } => format!("{min} to {max}"),
            Kind::ZeroOr { zero, min, max } => format!("0 ({zero}) or {min} to {max}"),
            Kind::Number { min, max } => format!("{min} to {max}"),
            Kind::OneOf(names) => names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "),
            Kind::Text(meaning) | Kind::MaybeText(meaning) => meaning.to_owned(),
            Kind::Hosts => "a list of names or addresses without a port, each like \"lab.example\" or \"[fd00::7]\"; none stands for many".to_owned(),
            Kind::Origins => "a list of origins as browsers send them, each like \"https://lab.example\" or \"http://10.0.0.7:8080\": no path, and none that stands for many".to_owned(),
            Kind::VideoSource => {
                "\"auto\", \"v4l2:<device>\", \"pipewire\" or \"pipewire:<node>\", \"uri:<file, http or rtsp>\", \"gst:<bin>\", \"test\" or \"none\"".to_owned()
            }
            Kind::WordOrNumber(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("{} or a number from 1 on", words.join(", "))
            }
            Kind::Transcriber => TranscriberChoice::PERMITTED.to_owned(),
            Kind::Loopback => {
                "a loopback address and a port, for example \"127.0.0.1:8765\", or \"localhost:8765\" for 127.0.0.1 and [::1]: others are refused, because whoever reaches the port may listen (there are no access tokens yet)".to_owned()
            }
        }
    }

    /// The value as TOML, if it is permitted.
    fn accept(&self, value: &ValueKind) -> Option<toml::Value> {
        match &self.kind {
            Kind::Integer { min, max } => whole(value)
                .filter(|number| (min..=max).contains(&number))
                .map(Into::into),
            Kind::ZeroOr { min, max, .. } => whole(value)
                .filter(|number| *number == 0 || (min..=max).contains(&number))
                .map(Into::into),
            Kind::Number { min, max } => number(value)
                .filter(|number| (min..=max).contains(&number))
                .map(Into::into),
            Kind::OneOf(names) => text(value)
                .filter(|name| names.contains(&name.as_str()))
                .map(Into::into),
            Kind::Text(_) => text(value)
                .filter(|text| !text.trim().is_empty())
                .map(Into::into),
            Kind::MaybeText(_) => text(value).map(Into::into),
            Kind::Hosts => texts(value)
                .filter(|hosts| hosts.iter().all(|host| is_host(host)))
                .map(Into::into),
            Kind::Origins => texts(value)
                .filter(|origins| origins.iter().all(|origin| is_origin(origin)))
                .map(Into::into),
            Kind::VideoSource => text(value)
                .filter(|text| is_video_source(text))
                .map(Into::into),
            Kind::WordOrNumber(words) => text(value)
                .filter(|text| {
                    words.contains(&text.as_str()) || text.parse::<std::num::NonZeroU32>().is_ok()
                })
                .map(Into::into),
            Kind::Transcriber => text(value)
                .filter(|text| TranscriberChoice::parse(text).is_some())
                .map(Into::into),
            Kind::Loopback => text(value)
                .filter(|text| loopback(text).is_some())
                .map(Into::into),
        }
    }
}

/// Checks every leaf, then lists the settings in the order of [`KEYS`]. Complete only if there was no fault.
pub(super) fn check(leaves: Vec<Leaf>, faults: &mut Vec<Fault>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for Leaf {
        key: name,
        value,
        origin,
    } in leaves
    {
        match KEYS.iter().find(|key| key.name == name) {
            Some(key) => match key.accept(&value) {
                Some(value) => settings.push(Setting {
                    key: key.name,
                    value,
                    origin,
                }),
                None => faults.push(Fault::Value {
                    key: name,
                    found: shown(&value),
                    origin,
                    permitted: key.permitted(),
                }),
            },
            None => faults.push(stranger(name, &value, origin)),
        }
    }
    settings.sort_by_key(|setting| KEYS.iter().position(|key| key.name == setting.key));
    settings
}

/// The fault of a leaf that is no key.
fn stranger(name: String, value: &ValueKind, origin: Origin) -> Fault {
    if KEYS.iter().any(|key| {
        key.name
            .split_once('.')
            .is_some_and(|(section, _)| section == name)
    }) {
        let permitted = format!("a section: [{name}], then its keys");
        return Fault::Value {
            key: name,
            found: shown(value),
            origin,
            permitted,
        };
    }
    // A key put into the wrong section is nearer to itself elsewhere than to its neighbours.
    let own = name.rsplit('.').next().unwrap_or(&name);
    let distance = |key: &&Key| {
        let key_own = key.name.rsplit('.').next().unwrap_or(key.name);
        strsim::damerau_levenshtein(key.name, &name)
            .min(1 + strsim::damerau_levenshtein(key_own, own))
    };
    let nearest = KEYS
        .iter()
        .min_by_key(distance)
        .expect("there are keys")
        .name;
    Fault::Unknown {
        key: address::shown(&name),
        origin,
        nearest,
    }
}

pub(super) fn provider(name: &str) -> Option<Provider> {
    [
        Provider::Auto,
        Provider::Tensorrt,
        Provider::Cuda,
        Provider::Cpu,
    ]
    .into_iter()
    .find(|provider| provider.name() == name)
}

/// A loopback address with a port; `localhost` is both of them, 127.0.0.1 and [::1] (RFC 6761, 6.3).
pub(super) fn loopback(text: &str) -> Option<Vec<SocketAddr>> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let port: u16 = port.parse().ok()?;
        return Some(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    let address: SocketAddr = text.parse().ok()?;
    address.ip().is_loopback().then(|| vec![address])
}

/// A host name or an address as `Host` has it, without a port; IPv6 stands in brackets.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => {
            text.contains(|c: char| c.is_ascii_alphanumeric())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        }
    }
}

/// `scheme://host` or `scheme://host:port`, or `null`; a slash at the end does no harm.
fn is_origin(text: &str) -> bool {
    // What a page without an origin of its own sends.
    if text == "null" {
        return true;
    }
    let Some((scheme, host)) = text.strip_suffix('/').unwrap_or(text).split_once("://") else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme
        && !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/*@?#".contains(c))
}

fn is_video_source(text: &str) -> bool {
    match text.split_once(':') {
        None => matches!(text, "auto" | "pipewire" | "test" | "none"),
        Some((scheme, rest)) => {
            matches!(scheme, "v4l2" | "pipewire" | "uri" | "gst") && !rest.trim().is_empty()
        }
    }
}

fn whole(value: &ValueKind) -> Option<i64> {
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
        other => whole(other).map(|number| number as f64),
    }
}

/// Environment variables come as what they look like; a device may well be named `0`.
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

fn shown(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => format!("{:?}", address::shown(text)),
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(items) => format!(
            "[{}]",
            items
                .iter()
                .map(|item| shown(&item.kind))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        other => other.to_string(),
    }
}
