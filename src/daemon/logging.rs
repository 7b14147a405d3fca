//! Sets up the log: which messages are logged, and where to.
//!
//! Dependencies log their data: a tokenizer logs each character, a WebSocket library each frame. At
//! level `trace`, the log would contain every spoken word. Therefore only messages of this crate
//! and of listed dependencies are logged, whatever level or target is requested. Records of the
//! crate `log` are not collected.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{fmt, registry};

/// The crates whose messages may be logged, each with the most detailed level. Messages of `ort`
/// (ONNX Runtime) contain only names of files and devices.
const ADMITTED: [(&str, LevelFilter); 2] =
    [("expressd", LevelFilter::TRACE), ("ort", LevelFilter::WARN)];

/// Starts the log on standard error. The environment variable `RUST_LOG`, if set, is the filter,
/// else `level`. A second call does nothing.
pub fn start_log(level: &str) {
    let requested = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.trim().is_empty());
    let parsed = requested
        .as_deref()
        .map(|text| EnvFilter::builder().parse(text));
    let (filter, refused) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(level), Some(error)),
        None => (EnvFilter::new(level), None),
    };
    let admitted = filter_fn(|metadata| is_admitted(metadata.target(), *metadata.level()));
    let lines = fmt::layer()
        .with_writer(|| crate::output::Log)
        .with_target(false)
        .with_ansi(stderr().is_terminal());
    // Under systemd the journal stamps every line.
    let lines = if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().boxed()
    } else {
        lines.boxed()
    };
    let log = registry().with(lines.with_filter(filter.and(admitted)));
    // `try_init` would collect the records of the crate `log`.
    if tracing::subscriber::set_global_default(log).is_err() {
        return;
    }
    if let Some(error) = refused {
        tracing::warn!(
            "RUST_LOG is not a valid filter ({error}); log.level is used; correct or unset \
             RUST_LOG"
        );
    }
    let closed = requested.as_deref().map(closed_targets).unwrap_or_default();
    if !closed.is_empty() {
        tracing::warn!(
            "RUST_LOG names {}; messages of libraries are not logged, because they may contain \
             speech; name only expressd",
            closed.join(", ")
        );
    }
}

/// Whether messages of the module path `target` at `level` may be logged, by [`ADMITTED`].
fn is_admitted(target: &str, level: tracing::Level) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    ADMITTED
        .iter()
        .any(|(name, most)| *name == root && level <= *most)
}

/// The targets in `directives` (the value of `RUST_LOG`) that [`ADMITTED`] excludes.
fn closed_targets(directives: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = directives.split(|c: char| {
        depth += i32::from("[{".contains(c)) - i32::from("]}".contains(c));
        c == ',' && depth == 0
    });
    parts
        .map(|directive| {
            directive
                .split(['[', '='])
                .next()
                .unwrap_or_default()
                .trim()
        })
        .filter(|target| !target.is_empty() && target.parse::<LevelFilter>().is_err())
        .filter(|target| !is_admitted(target, tracing::Level::ERROR))
        .collect()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn only_messages_of_this_crate_and_of_listed_dependencies_are_admitted() {
        for (target, level, admitted) in [
            ("expressd", Level::TRACE, true),
            ("expressd::serve::client", Level::TRACE, true),
            ("ort", Level::WARN, true),
            ("ort::session", Level::INFO, false),
            ("expressd_elsewhere", Level::ERROR, false),
            ("tokenizers::tokenizer::normalizer", Level::ERROR, false),
            ("tungstenite::protocol", Level::ERROR, false),
            ("hyper::proto", Level::ERROR, false),
            ("log", Level::ERROR, false),
            ("", Level::ERROR, false),
        ] {
            assert_eq!(is_admitted(target, level), admitted, "{target} {level}");
        }
    }

    #[test]
    fn directives_for_targets_that_are_not_admitted_are_found() {
        for (directives, closed) in [
            ("trace", &[][..]),
            ("expressd=trace,warn", &[]),
            ("expressd::serve[client{id=3,name=x}]=trace, ort=warn", &[]),
            (
                "tokenizers=trace,TRACE,tungstenite::protocol",
                &["tokenizers", "tungstenite::protocol"],
            ),
            (
                "hyper[request{a=b,c=d}]=trace,expressd=info,off",
                &["hyper"],
            ),
            ("[span]=trace,,", &[]),
        ] {
            assert_eq!(closed_targets(directives), closed, "{directives}");
        }
    }
}
