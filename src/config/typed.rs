//! Conversion of checked TOML values to the types of the fields of `Config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::grammar;
use super::setting::Setting;
use crate::address::Address;
use crate::encode::Provider;
use crate::speech::TranscriberChoice;

/// A type of a field of `Config`, converted from a value that has passed the check. Each
/// implementation supports certain kinds of [`Range`](super::Range). A key with another kind is a
/// defect in `keys.rs`: the conversion panics, already with the default value.
pub(super) trait FromToml {
    /// Whether values of this type may hold a password.
    const SECRET: bool = false;
    /// Converts a checked value; panics if the key's range permits a value of another kind.
    fn from_toml(value: &toml::Value) -> Self;
}

/// The value of the key `name`, converted to the field's type; panics if `settings` lacks the key.
pub(super) fn typed<T: FromToml>(settings: &[Setting], name: &str) -> T {
    let setting = settings.iter().find(|setting| setting.key == name);
    T::from_toml(&setting.expect("every key has a value").value)
}

fn integer(value: &toml::Value) -> i64 {
    value.as_integer().expect("the range is one of integers")
}

fn text(value: &toml::Value) -> &str {
    value.as_str().expect("the range is one of texts")
}

impl FromToml for u32 {
    fn from_toml(value: &toml::Value) -> Self {
        integer(value).try_into().expect("the range fits the type")
    }
}

impl FromToml for usize {
    fn from_toml(value: &toml::Value) -> Self {
        integer(value).try_into().expect("the range fits the type")
    }
}

impl FromToml for f64 {
    fn from_toml(value: &toml::Value) -> Self {
        value.as_float().expect("the range is one of numbers")
    }
}

/// The value is an integer number of milliseconds.
impl FromToml for Duration {
    fn from_toml(value: &toml::Value) -> Self {
        let ms = integer(value).try_into().expect("the range fits the type");
        Duration::from_millis(ms)
    }
}

/// The value is an integer number of milliseconds; zero becomes `None`.
impl FromToml for Option<Duration> {
    fn from_toml(value: &toml::Value) -> Self {
        Some(Duration::from_toml(value)).filter(|duration| !duration.is_zero())
    }
}

impl FromToml for String {
    fn from_toml(value: &toml::Value) -> Self {
        text(value).to_owned()
    }
}

impl FromToml for Vec<String> {
    fn from_toml(value: &toml::Value) -> Self {
        let items = value.as_array().expect("the range is one of lists");
        items.iter().map(String::from_toml).collect()
    }
}

impl FromToml for Address {
    const SECRET: bool = true;
    fn from_toml(value: &toml::Value) -> Self {
        text(value).into()
    }
}

impl FromToml for PathBuf {
    fn from_toml(value: &toml::Value) -> Self {
        text(value).into()
    }
}

/// An empty text becomes `None`.
impl FromToml for Option<PathBuf> {
    fn from_toml(value: &toml::Value) -> Self {
        Some(text(value))
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    }
}

impl FromToml for Provider {
    fn from_toml(value: &toml::Value) -> Self {
        grammar::provider(text(value)).expect("every permitted name is a provider's")
    }
}

impl FromToml for TranscriberChoice {
    fn from_toml(value: &toml::Value) -> Self {
        TranscriberChoice::parse(text(value)).expect("the range is that of transcribers")
    }
}

/// The result holds one address, or two for `localhost`, with the same port; see
/// [`grammar::loopback`].
impl FromToml for Vec<SocketAddr> {
    fn from_toml(value: &toml::Value) -> Self {
        grammar::loopback(text(value)).expect("the range is that of loopback addresses")
    }
}
