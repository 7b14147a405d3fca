//! The tracker's figures by kind of scene, against `tests/golden/tracking.json`.
//!
//! The contract of the tracker is [`LEAST`], the table in `src/face/tracking.md` shows the figures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;

use super::kinds::{KINDS, People};
use super::recording::Outcome;
use crate::testing::tracking::{Figures, Sequence};
use crate::testing::{material, project};

const GOLDEN: &str = "tests/golden/tracking.json";
const DOCUMENT: &str = "src/face/tracking.md";
/// Set: the figures and the table are written instead of compared.
const WRITE: &str = "EXPRESSD_WRITE_TRACKING";
/// Tolerance of the shares: the networks' arithmetic differs between processors.
const TOLERANCE: f64 = 0.0015;

/// Lowest value of each share, for every kind of scene. They do not fall with the golden file.
struct Least {
    mota: f64,
    idf1: f64,
    hota: f64,
    ass_a: f64,
    /// Identity switches for each 1000 true boxes, at most.
    switches: f64,
}

const LEAST: Least = Least {
    mota: 0.0,
    idf1: 0.0,
    hota: 0.0,
    ass_a: 0.0,
    switches: 1000.0,
};

/// The outcomes of a kind of scene. Each kind is played once in a run of the tests.
pub(super) fn outcomes(name: &str, folder: &Path) -> &'static [Outcome] {
    static PEOPLE: OnceLock<People> = OnceLock::new();
    static OUTCOMES: [OnceLock<Vec<Outcome>>; KINDS.len()] =
        [const { OnceLock::new() }; KINDS.len()];
    let index = KINDS.iter().position(|kind| kind.name == name);
    let index = index.expect("the name of a kind");
    let people = PEOPLE.get_or_init(|| People::new(folder));
    OUTCOMES[index].get_or_init(|| KINDS[index].play(people))
}

pub(super) fn figures(outcomes: &[Outcome]) -> Figures {
    let mut sequence = Sequence::default();
    outcomes
        .iter()
        .for_each(|outcome| sequence.append(&outcome.frames));
    sequence.figures().rounded()
}

/// The table of the document.
fn table(all: &BTreeMap<&str, Figures>) -> String {
    let mut table = String::from(
        "| scenes | faces | MOTA | IDF1 | HOTA | DetA | AssA | LocA | switches | fragmentations |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for name in KINDS.iter().map(|kind| kind.name) {
        let f = &all[name];
        writeln!(
            table,
            "| {name} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {} | {} |",
            f.boxes,
            f.mota,
            f.idf1,
            f.hota,
            f.det_a,
            f.ass_a,
            f.loc_a,
            f.switches,
            f.fragmentations
        )
        .expect("strings take all");
    }
    table
}

/// The document with its table replaced.
fn document(table: &str) -> String {
    let text = std::fs::read_to_string(project(DOCUMENT)).unwrap();
    let start = text.find("| scenes |").expect("the table");
    let end = start
        + text[start..]
            .find("\n\n")
            .map_or(text.len() - start, |at| at + 1);
    [&text[..start], table, &text[end..]].concat()
}

/// What differs from the golden figures, one line a figure.
fn differences(name: &str, found: &Figures, expected: &Figures) -> Vec<String> {
    let tolerance = |key: &str| {
        let shares = [
            "mota", "motp", "idf1", "idp", "idr", "hota", "det_a", "ass_a", "loc_a",
        ];
        if shares.contains(&key) {
            TOLERANCE
        } else {
            0.0
        }
    };
    let value = |figures: &Figures| serde_json::to_value(figures).unwrap();
    let (found, expected) = (value(found), value(expected));
    let found = found.as_object().unwrap();
    found
        .iter()
        .filter(|(key, value)| {
            let away = value.as_f64().unwrap() - expected[*key].as_f64().unwrap();
            away.abs() > tolerance(key)
        })
        .map(|(key, value)| format!("{name}: {key} is {value}, was {}", expected[key]))
        .collect()
}

#[test]
fn tracking_figures_are_those_of_the_golden_file() {
    let Some(folder) = material("detector") else {
        return;
    };
    let all: BTreeMap<&str, Figures> = KINDS
        .iter()
        .map(|kind| (kind.name, figures(outcomes(kind.name, &folder))))
        .collect();
    let table = table(&all);
    println!("{table}");
    for (name, f) in &all {
        let switches = 1000.0 * f.switches as f64 / f.boxes as f64;
        let fine = f.mota >= LEAST.mota
            && f.idf1 >= LEAST.idf1
            && f.hota >= LEAST.hota
            && f.ass_a >= LEAST.ass_a
            && switches <= LEAST.switches;
        assert!(fine, "{name} breaks the tracker's contract: {f:?}");
    }
    if std::env::var_os(WRITE).is_some() {
        let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
        std::fs::write(project(GOLDEN), text).unwrap();
        std::fs::write(project(DOCUMENT), document(&table)).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(project(GOLDEN)).unwrap();
    let golden: BTreeMap<String, Figures> = serde_json::from_str(&golden).unwrap();
    assert!(
        golden.keys().eq(all.keys()),
        "{GOLDEN} has other kinds: {:?}",
        golden.keys()
    );
    let differences: Vec<String> = all
        .iter()
        .flat_map(|(name, found)| differences(name, found, &golden[*name]))
        .collect();
    assert!(
        differences.is_empty(),
        "the tracker's figures changed:\n{}\nIf this is an improvement, write {GOLDEN} and the \
         table in {DOCUMENT}: {WRITE}=1 cargo test --release --lib tracking_figures",
        differences.join("\n")
    );
}
