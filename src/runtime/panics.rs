//! Reports of panics: place and message, without the data that the message quotes.
//!
//! Panic messages quote data: slicing a string inside a character quotes the whole string, and
//! `unwrap` quotes the error. Quoted parts are removed, so that no transcribed speech gets into the
//! log.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::output::Log;

thread_local! {
    /// This thread's newest panic.
    static NEWEST: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
}

/// A panic of a thread: where it happened, and its message without quoted data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicReport {
    /// File, line and column of the source code.
    place: String,
    /// The panic's message without quoted data.
    text: String,
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked at {}: {}", self.place, self.text)
    }
}

impl PanicReport {
    fn new(info: &PanicHookInfo<'_>) -> PanicReport {
        PanicReport {
            place: info
                .location()
                .map_or_else(|| "an unknown place".into(), ToString::to_string),
            text: without_quotes(info.payload_as_str().unwrap_or("no text")),
        }
    }
}

/// Runs `work`. If it panics, the panic is returned as an error. The panic's place and message are
/// known only after [`install_panic_hook`].
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, PanicReport> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let newest = NEWEST.with_borrow_mut(Option::take);
        newest.unwrap_or_else(|| PanicReport {
            place: "an unknown place".into(),
            text: "no text".into(),
        })
    })
}

/// Installs a panic hook that writes a panic's thread, place and message without quoted data to
/// standard error. A second call does nothing.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let report = PanicReport::new(info);
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            // Does not wait for the reader of standard error, and never fails.
            let _ = Log.write_all(format!("expressd: thread {name} {report}\n").as_bytes());
            NEWEST.with_borrow_mut(|newest| *newest = Some(report));
        }));
    });
}

/// `text` with `…` in place of each part between double quotation marks or backquotes. If the
/// closing mark is absent, the rest of the text is left out.
fn without_quotes(text: &str) -> String {
    let (mut kept, mut quote) = (String::new(), None);
    let mut is_escaped = false;
    for mark in text.chars() {
        match quote {
            None => {
                kept.push(mark);
                if mark == '"' || mark == '`' {
                    quote = Some(mark);
                    kept.push('…');
                }
            }
            Some('"') if is_escaped => is_escaped = false,
            Some('"') if mark == '\\' => is_escaped = true,
            Some(closing) if mark == closing => {
                kept.push(mark);
                quote = None;
            }
            Some(_) => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_parts_of_a_panic_are_left_out() {
        for (text, kept) in [
            (
                "index out of bounds: the len is 3 but the index is 7",
                "index out of bounds: the len is 3 but the index is 7",
            ),
            (
                "end byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of \
                 `épée \"x\"`",
                "end byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of `…`",
            ),
            (
                "called `Result::unwrap()` on an `Err` value: \
                 Custom { error: \"a \\\"secret\\\" word\" }",
                "called `…` on an `…` value: Custom { error: \"…\" }",
            ),
            ("it holds `an open end", "it holds `…"),
        ] {
            assert_eq!(without_quotes(text), kept);
        }
    }

    #[test]
    fn a_caught_panic_has_its_message_and_place() {
        install_panic_hook();
        let caught = catch(|| -> u8 { panic!("seven of {}", 9) }).unwrap_err();
        let report = caught.to_string();
        assert!(report.contains("src/runtime/panics.rs:"), "{report}");
        assert!(report.ends_with("seven of 9"), "{report}");
        assert_eq!(catch(|| 7), Ok(7));
    }
}
