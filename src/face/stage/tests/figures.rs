//! Tests of the tracker's accuracy on each kind of scene. The figures are compared with
//! `tests/golden/tracking.json` and with the required values ([`CONTRACTS`]).
//!
//! `src/face/tracking.md` shows the required values and the figures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;

use super::kinds::{CONTRACTS, KINDS, Kind, People};
use super::recording::Outcome;
use crate::testing::tracking::{Figures, Sequence};
use crate::testing::{material, project};

const GOLDEN: &str = "tests/golden/tracking.json";
const DOCUMENT: &str = "src/face/tracking.md";
/// The environment variable with which the figures and the tables are written instead of compared.
const WRITE: &str = "EXPRESSD_WRITE_TRACKING";

/// The outcomes of the scenes of the kind `name`. A kind is played once in a run of the tests, at
/// the first call. `folder` has the pictures of the people.
pub(super) fn outcomes(name: &str, folder: &Path) -> &'static [Outcome] {
    static PEOPLE: OnceLock<People> = OnceLock::new();
    static OUTCOMES: [OnceLock<Vec<Outcome>>; KINDS.len()] =
        [const { OnceLock::new() }; KINDS.len()];
    let index = KINDS.iter().position(|kind| kind.name == name);
    let index = index.expect("the name of a kind");
    let people = PEOPLE.get_or_init(|| People::new(folder));
    OUTCOMES[index].get_or_init(|| KINDS[index].play(people))
}

/// The accuracy over all frames of several scenes, rounded as in the golden file.
pub(super) fn figures(outcomes: &[Outcome]) -> Figures {
    let mut sequence = Sequence::default();
    outcomes
        .iter()
        .for_each(|outcome| sequence.append(&outcome.frames));
    sequence.figures().rounded()
}

/// The figures of each kind of scene, by its name.
type FiguresByKind = BTreeMap<String, Figures>;

/// The figures of all kinds as a Markdown table.
fn table(all: &FiguresByKind) -> String {
    let mut table = String::from(
        "| scenes | faces | MOTA | IDF1 | HOTA | DetA | AssA | LocA | switches | fragmentations |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for name in KINDS.iter().map(|kind| kind.name) {
        let f = &all[name];
        let shares = [f.mota, f.idf1, f.hota, f.det_a, f.ass_a, f.loc_a].map(|v| format!("{v:.3}"));
        let (boxes, shares) = (f.boxes, shares.join(" | "));
        let (switches, fragmentations) = (f.switches, f.fragmentations);
        writeln!(
            table,
            "| {name} | {boxes} | {shares} | {switches} | {fragmentations} |"
        )
        .expect("strings take all");
    }
    table
}

/// The required values ([`CONTRACTS`]) as a Markdown table.
fn contract_table() -> String {
    let mut table = String::from(
        "| under | MOTA | IDF1 | HOTA | switches per 1000 faces, at most |\n\
         |---|---|---|---|---|\n",
    );
    for c in &CONTRACTS {
        let (name, switches) = (c.name, c.switches);
        writeln!(
            table,
            "| {name} | {} | {} | {} | {switches} |",
            c.mota, c.idf1, c.hota
        )
        .expect("strings take all");
    }
    table
}

/// The text of [`DOCUMENT`] with its tables replaced by the required values and the figures `all`.
fn document(all: &FiguresByKind) -> String {
    let mut text = std::fs::read_to_string(project(DOCUMENT)).unwrap();
    for (head, table) in [("| under |", contract_table()), ("| scenes |", table(all))] {
        let start = text.find(head).expect("the head of the table");
        let length = text[start..]
            .find("\n\n")
            .map_or(text.len() - start, |at| at + 1);
        text.replace_range(start..start + length, &table);
    }
    text
}

/// One line for each kind of scene whose figures miss the required values.
fn breaches(all: &FiguresByKind) -> Vec<String> {
    let breach = |kind: &Kind| {
        let (f, least) = (&all[kind.name], kind.contract);
        let switches = 1000.0 * f.switches as f64 / f.boxes as f64;
        let kept = f.mota >= least.mota
            && f.idf1 >= least.idf1
            && f.hota >= least.hota
            && switches <= least.switches;
        (!kept).then(|| format!("{}: {f:?}", kind.name))
    };
    KINDS.iter().filter_map(breach).collect()
}

/// One line for each figure in `found` that differs from `expected` by more than a tolerance. The
/// tolerance is for different processors, whose arithmetic differs a little: a face may be found
/// one frame earlier. On one processor the figures are always equal.
fn differences(name: &str, found: &Figures, expected: &Figures) -> Vec<String> {
    let tolerance = |key: &str| match key {
        "boxes" | "switches" => 0.0,
        "misses" | "false_positives" | "fragmentations" => 2.0,
        _ => 0.0015,
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
fn tracking_figures_reach_the_required_values_and_equal_the_golden_file() {
    let Some(folder) = material("detector") else {
        return;
    };
    let all: FiguresByKind = KINDS
        .iter()
        .map(|kind| (kind.name.to_owned(), figures(outcomes(kind.name, &folder))))
        .collect();
    println!("{}", table(&all));
    let breaches = breaches(&all);
    assert!(
        breaches.is_empty(),
        "the tracker's contract ({DOCUMENT}) is broken:\n{}",
        breaches.join("\n")
    );
    if std::env::var_os(WRITE).is_some() {
        let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
        std::fs::write(project(GOLDEN), text).unwrap();
        std::fs::write(project(DOCUMENT), document(&all)).unwrap();
        return;
    }
    let golden = golden();
    assert!(
        golden.keys().eq(all.keys()),
        "{GOLDEN} has other kinds: {:?}",
        golden.keys()
    );
    let differences: Vec<String> = all
        .iter()
        .flat_map(|(name, found)| differences(name, found, &golden[name]))
        .collect();
    assert!(
        differences.is_empty(),
        "the tracker's figures changed:\n{}\nIf this is an improvement, write {GOLDEN} and the \
         tables of {DOCUMENT}: {WRITE}=1 cargo test --release --lib tracking_figures",
        differences.join("\n")
    );
}

fn golden() -> FiguresByKind {
    let text = std::fs::read_to_string(project(GOLDEN)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn tracking_md_shows_the_required_values_and_the_golden_figures() {
    let text = std::fs::read_to_string(project(DOCUMENT)).unwrap();
    assert!(
        text == document(&golden()),
        "{DOCUMENT} differs from {GOLDEN} or from the contract: {WRITE}=1 writes both"
    );
}
