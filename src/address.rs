//! Addresses of sources, which are displayed without their passwords and other secrets.
//!
//! A network camera's address often holds a user name, a password or a token. [`Address`] keeps the
//! full text only for the connection. `Display`, `Debug` and `Serialize` write `***` in place of
//! the user information, the query and the fragment. If it is unclear where the user information
//! ends, as with an unescaped `/`, `?` or `#` in a password, only the scheme is shown. [`redact`]
//! does the same for addresses inside other text.

mod source;
mod text;

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize, Serializer};
pub use source::{AudioSpec, UnknownAudio, UnknownVideo, VideoSpec};
use text::{contains_secret, redact_text, replace_whole_word};

/// Text that replaces a secret.
const HIDDEN: &str = "***";
/// Length in bytes from which a secret is replaced at any position in other text. A shorter one is
/// replaced only as a whole word.
const DISTINCT_LENGTH: usize = 4;

/// A source in the configuration: an address, a path, a GStreamer bin description or the name of a
/// device. It is displayed without its secrets; [`Address::expose`] returns the full text.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// The full text with its secrets. Use it only to open the source.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Redacts `text`, the message of a library: removes the secrets of this address, in any
    /// encoding, and those of any other address in `text`.
    pub fn redact_in(&self, text: &str) -> String {
        let redacted = redact_value(&self.0);
        let whole = Secret::new(&self.0);
        let mut secrets: Vec<(String, &str, bool)> = Vec::new();
        if redacted.text != self.0 {
            secrets.extend(
                whole
                    .forms()
                    .map(|form| (form, redacted.text.as_str(), true)),
            );
        }
        for secret in &redacted.secrets {
            secrets.extend(
                secret
                    .forms()
                    .map(|form| (form, HIDDEN, secret.is_distinct)),
            );
        }
        secrets.sort_by_key(|(form, ..)| std::cmp::Reverse(form.len()));
        let text =
            secrets
                .iter()
                .fold(text.to_owned(), |text, (form, replacement, is_distinct)| {
                    if *is_distinct {
                        text.replace(form.as_str(), replacement)
                    } else {
                        replace_whole_word(&text, form, replacement)
                    }
                });
        redact(&text)
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Address(text)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Address(text.to_owned())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_address(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", redact_address(&self.0))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Redacts a configured value. The whole value may be an address, so that spaces and quotes belong
/// to it.
pub fn redact_address(value: &str) -> String {
    redact_value(value).text
}

/// Redacts all addresses, credentials and secret properties inside `text`. An address ends at white
/// space, or at the closing quote if it is quoted.
pub fn redact(text: &str) -> String {
    redact_text(text).text
}

/// Redacted text, and the secrets that were removed from it.
#[derive(Debug, Default)]
struct Redacted {
    text: String,
    secrets: Vec<Secret>,
}

/// A removed part of an address, needed to find the part in other text.
struct Secret {
    text: String,
    /// Whether the secret is long enough to be replaced at any position, not only as a whole word.
    is_distinct: bool,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Secret {
    /// A secret of any kind.
    fn new(text: &str) -> Secret {
        let is_distinct = text.len() >= DISTINCT_LENGTH;
        Secret {
            text: text.to_owned(),
            is_distinct,
        }
    }

    /// A user name. It is replaced only as a whole word, because user names are often ordinary
    /// words of messages.
    fn name(text: &str) -> Secret {
        Secret {
            text: text.to_owned(),
            is_distinct: false,
        }
    }

    /// The secret as written, percent-decoded and percent-encoded, because libraries convert
    /// addresses before they quote them. Empty texts are left out.
    fn forms(&self) -> impl Iterator<Item = String> {
        let decoded = percent_decode_str(&self.text)
            .decode_utf8_lossy()
            .into_owned();
        let encoded = utf8_percent_encode(&decoded, NON_ALPHANUMERIC).to_string();
        [self.text.clone(), decoded, encoded]
            .into_iter()
            .filter(|form| !form.is_empty())
    }
}

impl Redacted {
    /// A text without secrets.
    fn plain(text: &str) -> Redacted {
        Redacted {
            text: text.to_owned(),
            secrets: Vec::new(),
        }
    }

    fn with_prefix(self, prefix: &str) -> Redacted {
        Redacted {
            text: format!("{prefix}{}", self.text),
            ..self
        }
    }

    fn push(&mut self, part: Redacted) {
        self.text.push_str(&part.text);
        self.secrets.extend(part.secrets);
    }
}

/// Redacts a value of the configuration, with or without a prefix `uri:` or `gst:`.
fn redact_value(value: &str) -> Redacted {
    if let Some(bin) = value.strip_prefix("gst:") {
        return redact_text(bin).with_prefix("gst:");
    }
    if let Some(rest) = value.strip_prefix("uri:") {
        let place = rest.trim_start();
        return redact_location(place).with_prefix(&value[..value.len() - place.len()]);
    }
    redact_location(value)
}

/// Redacts a value without its prefix `uri:`: an address, a path or any other text.
fn redact_location(text: &str) -> Redacted {
    if scheme_at_start(text).is_some() {
        return redact_url(text);
    }
    if text.contains("://") || is_bin(text) {
        return redact_text(text);
    }
    if text.starts_with(['/', '.', '~']) {
        return Redacted::plain(text);
    }
    // The text may be an address with a missing or misspelled scheme.
    let (place, query) = match text.split_once('?') {
        Some((place, query)) if query.contains('=') => (place, Some(query)),
        _ => (text, None),
    };
    let mut redacted = match place.rfind('@') {
        Some(at) if place[..at].contains(':') => {
            redact_user_info(&place[..at]).followed_by(&place[at..])
        }
        _ => redact_text(place),
    };
    if let Some(query) = query {
        redacted.push(redact_query('?', query));
    }
    redacted
}

/// Whether the text is a GStreamer bin description. It starts with the name of an element, because
/// a path may contain `=` and `!` too.
fn is_bin(text: &str) -> bool {
    !text.starts_with(['/', '.', '~']) && text.contains(['=', '!']) && text.contains(' ')
}

impl Redacted {
    /// Appends text that holds no secret.
    fn followed_by(mut self, text: &str) -> Redacted {
        self.text.push_str(text);
        self
    }
}

/// The scheme of an address, without `://`; `None` if the text does not begin with a scheme.
fn scheme_at_start(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(of_scheme))
        .then_some(scheme)
}

/// Redacts `scheme://…`, where the whole text is one address. Panics without a scheme.
fn redact_url(text: &str) -> Redacted {
    let scheme = scheme_at_start(text).expect("the caller found one");
    let rest = &text[scheme.len() + 3..];
    // In a local path `?`, `#` and `@` are characters of file names.
    if scheme.eq_ignore_ascii_case("file") && rest.starts_with('/') {
        return Redacted::plain(text);
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let user = rest.rfind('@').map(|at| redact_user_info(&rest[..at]));
    let host = authority.rsplit('@').next().unwrap_or_default();
    if tail.contains('@') || !is_host(host) {
        let mut redacted = Redacted {
            text: format!("{scheme}://{HIDDEN}"),
            secrets: vec![Secret::new(rest)],
        };
        redacted
            .secrets
            .extend(user.into_iter().flat_map(|user| user.secrets));
        return redacted;
    }
    let mut redacted = user.map_or_else(Redacted::default, |user| user.followed_by("@"));
    redacted.text.push_str(host);
    let (path, query) = tail.split_at(tail.find(['?', '#']).unwrap_or(tail.len()));
    if contains_secret(path) {
        redacted.push(Redacted {
            text: format!("/{HIDDEN}"),
            secrets: vec![Secret::new(path)],
        });
    } else {
        redacted.text.push_str(path);
    }
    if let Some(sign) = query.chars().next() {
        redacted.push(redact_query(sign, &query[1..]));
    }
    redacted.with_prefix(&format!("{scheme}://"))
}

/// Redacts user information (`name:password`), without its `@`.
fn redact_user_info(text: &str) -> Redacted {
    let mut secrets = vec![Secret::new(text)];
    match text.split_once(':') {
        Some((user, password)) => secrets.extend([Secret::name(user), Secret::new(password)]),
        None => secrets.push(Secret::name(text)),
    }
    Redacted {
        text: HIDDEN.to_owned(),
        secrets,
    }
}

/// Redacts a query or a fragment. `sign` is its `?` or `#`, `text` the rest.
fn redact_query(sign: char, text: &str) -> Redacted {
    let mut secrets = vec![Secret::new(text)];
    let values = text
        .split(['&', ';', '#'])
        .filter_map(|part| part.split_once('='));
    secrets.extend(
        values
            .map(|(_, value)| Secret::new(value))
            .filter(|secret| secret.is_distinct),
    );
    let text = if text.is_empty() {
        sign.to_string()
    } else {
        format!("{sign}{HIDDEN}")
    };
    Redacted { text, secrets }
}

/// Whether the text is a host name or IP address, with or without a port. Any other text may be
/// part of a password.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let is_number = host.starts_with('[') && host.ends_with(']');
    port.chars().all(|c| c.is_ascii_digit())
        && (is_number || !host.contains(|c: char| c == ':' || c.is_whitespace()))
}

#[cfg(test)]
mod tests;
