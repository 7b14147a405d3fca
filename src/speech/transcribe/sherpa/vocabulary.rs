//! The vocabulary of a model: its `tokens.txt`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::model_file::unusable;
use crate::speech::TranscribeError;

/// Reads `tokens.txt`: the tokens, indexed by their numbers. Each line is a token (which may be a
/// space) and its number.
///
/// # Errors
/// The file is missing or empty, or its numbers are not 0, 1, 2 and so on.
pub(super) fn read_tokens(path: &Path) -> Result<Vec<String>, TranscribeError> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => unusable(path, "not there".into()),
        _ => unusable(path, error.to_string()),
    })?;
    let mut tokens = BTreeMap::new();
    for (i, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let numbered = line
            .trim_end()
            .rsplit_once([' ', '\t'])
            .and_then(|(token, number)| Some((token, number.parse::<usize>().ok()?)));
        let Some((token, number)) = numbered else {
            return Err(unusable(
                path,
                format!("line {} is not a token with its number", i + 1),
            ));
        };
        let token = if token.trim().is_empty() {
            " "
        } else {
            token.trim()
        };
        if tokens.insert(number, token.to_owned()).is_some() {
            return Err(unusable(path, format!("number {number} occurs twice")));
        }
    }
    if let Some(gap) = (0..tokens.len()).find(|number| !tokens.contains_key(number)) {
        return Err(unusable(path, format!("number {gap} is missing")));
    }
    if tokens.is_empty() {
        return Err(unusable(path, "it is empty".into()));
    }
    Ok(tokens.into_values().collect())
}
