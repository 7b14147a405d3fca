//! Redacts addresses, credentials and secret properties inside other text.

use super::{HIDDEN, Redacted, Secret, redact_url, redact_user_info, scheme_at_start};

/// Whether the path of an address contains a named secret, as some cameras require
/// (`/user=a_password=b_channel=1.sdp`).
pub(super) fn contains_secret(path: &str) -> bool {
    path.match_indices('=')
        .any(|(at, _)| is_secret_name(name_before(path, at)))
}

/// Whether a GStreamer property (`user-pw`, `proxy-id`, `passphrase`, `extra-headers`) or a query
/// parameter with this name holds a secret.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = [
        "pass",
        "pw",
        "user",
        "login",
        "secret",
        "token",
        "cookie",
        "header",
        "auth",
        "credential",
        "proxy-id",
    ];
    parts.iter().any(|part| name.contains(part))
        || name.ends_with("key")
        || name.ends_with("key-id")
}

/// The name before the `=` at byte offset `at`.
fn name_before(text: &str, at: usize) -> &str {
    let before = text[..at].trim_end();
    let of_name = |c: char| c.is_alphanumeric() || "-_:.".contains(c);
    before[before.trim_end_matches(of_name).len()..].trim_start_matches([':', '.'])
}

/// Redacts every address, credential and secret property in `text`.
pub(super) fn redact_text(text: &str) -> Redacted {
    let mut redacted = Redacted::default();
    // `redacted` holds the text before the offset `done`.
    let (mut done, mut from) = (0, 0);
    while let Some(at) = text[from..].find(['=', ':', '@']).map(|at| from + at) {
        from = at + 1;
        let found = match text.as_bytes()[at] {
            b'=' if is_secret_name(name_before(text, at)) => {
                Some((at + 1, value_end(text, at + 1)))
            }
            b':' if text[at..].starts_with("://") => address_around(text, done, at),
            b'@' => credentials_before(text, done, at),
            _ => None,
        };
        let Some((start, end)) = found else { continue };
        redacted.text.push_str(&text[done..start]);
        let part = &text[start..end];
        redacted.push(match text.as_bytes()[at] {
            b'=' => redact_property(part),
            b':' => redact_url(part),
            _ => redact_user_info(part),
        });
        (done, from) = (end, end.max(from));
    }
    redacted.text.push_str(&text[done..]);
    redacted
}

/// Redacts the value of a secret property, including its quotes.
fn redact_property(value: &str) -> Redacted {
    let text = value.trim_start();
    if text.is_empty() {
        return Redacted::plain(value);
    }
    let bare = text.trim_matches(['"', '\'']);
    let unescaped = bare.replace('\\', "");
    Redacted {
        text: HIDDEN.to_owned(),
        secrets: vec![
            Secret::new(text),
            Secret::new(bare),
            Secret::new(&unescaped),
        ],
    }
}

/// Byte offset of the end of the value that begins at `start`, possibly after spaces.
fn value_end(text: &str, start: usize) -> usize {
    let value = text[start..].trim_start();
    let start = text.len() - value.len();
    let quote = value.chars().next().filter(|c| "\"'".contains(*c));
    let mut is_escaped = false;
    for (at, c) in value.char_indices().skip(usize::from(quote.is_some())) {
        match quote {
            _ if is_escaped => is_escaped = false,
            _ if c == '\\' => is_escaped = true,
            Some(quote) if c == quote => return start + at + 1,
            None if c.is_whitespace() => return start + at,
            _ => {}
        }
    }
    text.len()
}

/// Byte range of the address whose `://` is at `at`; `None` without a scheme before it. The text
/// before `done` is not searched.
fn address_around(text: &str, done: usize, at: usize) -> Option<(usize, usize)> {
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let before = &text[done..at];
    let start = done + before.trim_end_matches(of_scheme).len();
    scheme_at_start(&text[start..])?;
    let quote = text[..start]
        .chars()
        .next_back()
        .filter(|c| "\"'`".contains(*c));
    let rest = &text[at..];
    if let Some(end) = quote.and_then(|quote| rest.find(quote)) {
        return Some((start, at + end));
    }
    let word_end = |from: usize| {
        rest[from..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |end| from + end)
    };
    // A password may contain a space. So the address reaches at least to the word after the last
    // `@` before the next address.
    let next = rest[3..].find("://").map_or(rest.len(), |next| next + 3);
    let end = rest[..next].rfind('@').map_or(0, word_end).max(word_end(0));
    Some((start, at + end))
}

/// Byte range of `name:password` before the `@` at `at`, in an address without a scheme; `None` if
/// there is no such text. The text before `done` is not searched.
fn credentials_before(text: &str, done: usize, at: usize) -> Option<(usize, usize)> {
    let before = &text[done..at];
    let start = before
        .rfind(|c: char| c.is_whitespace() || "\"'`=(".contains(c))
        .map_or(0, |space| {
            space + before[space..].chars().next().map_or(0, char::len_utf8)
        });
    let word = &before[start..];
    (word.contains(':') && !word.starts_with(['/', '.', '~'])).then_some((done + start, at))
}

/// Replaces `form` by `by` where no letter or digit is adjacent to `form`.
pub(super) fn replace_whole_word(text: &str, form: &str, by: &str) -> String {
    let (mut replaced, mut done) = (String::new(), 0);
    for (at, _) in text.match_indices(form) {
        let end = at + form.len();
        let touched = text[..at].ends_with(char::is_alphanumeric)
            || text[end..].starts_with(char::is_alphanumeric);
        if !touched {
            replaced.push_str(&text[done..at]);
            replaced.push_str(by);
            done = end;
        }
    }
    replaced + &text[done..]
}
