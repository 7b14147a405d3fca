//! Reports the faults of the data set on disk: some on the terminal, all in a file in the store's
//! folder.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;

use crate::train::data::Fault;

/// Largest number of faults on the terminal.
const NAMED: usize = 20;
/// Largest number of faults of one kind on the terminal, so that frequent ones do not hide others.
const NAMED_OF_A_KIND: usize = 5;

/// Prints some of the faults, and writes all faults to the file `path`, one per line. Without
/// faults, the file of an earlier run is removed.
pub fn report(faults: &[Fault], path: &Path) -> anyhow::Result<()> {
    if faults.is_empty() {
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    let all: String = faults.iter().map(|fault| line(fault) + "\n").collect();
    std::fs::write(path, all).with_context(|| format!("{} cannot be written", path.display()))?;
    let named = named(faults);
    named.iter().for_each(|fault| println!("  {}", line(fault)));
    if named.len() < faults.len() {
        println!("  and {} more", faults.len() - named.len());
    }
    println!("  all of them: {}", path.display());
    Ok(())
}

/// The fault as one line of text.
fn line(fault: &Fault) -> String {
    format!("{}: {}", fault.at, fault.what).replace('\n', " ")
}

/// The faults to print, in their order: at most [`NAMED`], and at most [`NAMED_OF_A_KIND`] of one
/// kind.
fn named(faults: &[Fault]) -> Vec<&Fault> {
    let mut of_kind: HashMap<String, usize> = HashMap::new();
    let is_shown = |fault: &&Fault| {
        let count = of_kind.entry(kind(&fault.what)).or_default();
        *count += 1;
        *count <= NAMED_OF_A_KIND
    };
    faults.iter().filter(is_shown).take(NAMED).collect()
}

/// The text of a fault without quotations, numbers and paths. Faults with the same text are of one
/// kind.
fn kind(what: &str) -> String {
    let words = what.split('"').step_by(2).flat_map(str::split_whitespace);
    words
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '/' || c == '_'))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: usize, what: &str) -> Fault {
        Fault {
            at: format!("labels.csv line {line}"),
            what: what.into(),
        }
    }

    #[test]
    fn frequent_faults_do_not_hide_others() {
        let mut faults: Vec<Fault> = (0..50)
            .map(|i| {
                fault(
                    i,
                    &format!("the file \"deep in/{i} it.mp4\" is missing or empty: left out"),
                )
            })
            .collect();
        faults.extend((50..53).map(|i| {
            fault(
                i,
                &format!("names the same file as line {}: left out", i - 40),
            )
        }));
        let lines = |faults: &[Fault]| {
            named(faults)
                .iter()
                .map(|f| f.at.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&faults), [0, 1, 2, 3, 4, 50, 51, 52]);
        let kinds: Vec<Fault> = ('a'..='z')
            .enumerate()
            .map(|(i, kind)| fault(i, &kind.to_string()))
            .collect();
        assert_eq!(lines(&kinds), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_file_has_all_faults_and_is_removed_without_faults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults-0000-of-0001.txt");
        report(
            &(0..30).map(|i| fault(i, "is\nodd")).collect::<Vec<_>>(),
            &path,
        )
        .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().count() == 30 && text.ends_with("labels.csv line 29: is odd\n"),
            "{text}"
        );
        report(&[], &path).unwrap();
        assert!(!path.exists());
    }
}
