//! Text of an error with its chain of sources.

use std::error::Error;

/// The error and all its sources on one line, separated by `: `.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    // Messages of ONNX Runtime end with a line break.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it stopped")]
    struct Stopped(#[source] std::io::Error);

    #[test]
    fn an_error_and_its_source_are_on_one_line() {
        assert_eq!(
            one_line(&Stopped(std::io::Error::other("no space\nleft\n"))),
            "it stopped: no space left"
        );
    }
}
