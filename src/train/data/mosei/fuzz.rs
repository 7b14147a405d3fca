//! Fuzz tests of the reader of annotation tables, and of both readers of CMU-MOSEI's labels (table
//! and HDF5).

use super::labels::{read_sequence, read_table};
use super::*;
use crate::testing::fuzz::{InputFile, Target};
use crate::testing::project;
use crate::train::data::table::Table;

/// Valid and malformed tables, the seeds of the mutations.
const TABLES: [&str; 4] = [
    "video,start,end,happy,sad,anger,surprise,disgust,fear\n\
     a,0,1,0,0,0,0,0,3\na,1,2.5,1,0,0.33,0,0,0\nb,0,1,0,0,0,0,0,0\n",
    "video;interval;sentiment;happy;sad;anger;surprise;disgust;fear\r\n\
     a;4;-1;0;0;0;0;0;3\r\n\r\na;5;0;1;0;0;0;0;0\r\n",
    "\u{feff}a\tb\n\"one, two\"\t\"x\n\"\"y\"\"\"\n1\t\"2\n3\t4\n",
    "Sr No.,Utterance,Emotion\n1,\"He said \"\"no\"\", then.\",neutral\n2,café,joy\n",
];

/// Reads the whole table. Checks that line numbers increase, that the first cell of each row can be
/// read, and that errors and faults have a text.
fn check_table(path: &Path, input: &[u8]) {
    let mut catalogue = Catalogue::default();
    let mut table = match Table::open(path) {
        Ok(table) => table,
        Err(error) => {
            assert!(!error.to_string().trim().is_empty());
            return;
        }
    };
    let lines = 1 + input.iter().filter(|byte| **byte == b'\n').count() as u64;
    let (mut last, mut rows) = (0, 0);
    loop {
        match table.next(&mut catalogue) {
            Ok(Some(row)) => {
                assert!(
                    row.line > last && row.line <= lines,
                    "line {} of {lines}",
                    row.line
                );
                (last, rows) = (row.line, rows + 1);
                assert!(row.optional(Some(0)).is_none_or(|cell| cell == row.get(0)));
                assert!(rows <= lines, "more rows than lines");
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.to_string().trim().is_empty());
                break;
            }
        }
    }
    if let Some(fault) = catalogue.first_fault() {
        assert!(!fault.at.is_empty() && !fault.what.is_empty());
    }
}

/// Checks that each interval states its position in the file, and that errors and faults have a
/// text.
fn check_labels(read: Result<Labels, DataError>, catalogue: &Catalogue) {
    if let Some(fault) = catalogue.first_fault() {
        assert!(!fault.at.is_empty() && !fault.what.is_empty());
    }
    match read {
        Ok(labels) => {
            for rows in labels.values() {
                assert!(rows.iter().all(|row| !row.at.is_empty()));
            }
        }
        Err(error) => assert!(!error.to_string().trim().is_empty()),
    }
}

#[test]
fn mutated_tables_are_read_or_refused_without_a_panic() {
    let file = InputFile::in_memory();
    Target::text("table", 6000)
        .seeds(TABLES)
        .seeds([&b"\x93caf\xe9\x94,b\n1,2\n"[..]])
        .words(&["\",\"", "\"\"", "\r\n", "\t", ";", "\u{feff}"])
        .run(|input| {
            let path = file.write(input);
            check_table(path, input);
            let mut catalogue = Catalogue::default();
            check_labels(read_table(path, &mut catalogue), &catalogue);
        });
}

#[test]
fn mutated_sequences_are_read_or_refused_without_a_panic() {
    let file = InputFile::in_memory();
    let golden = std::fs::read(project("tests/golden/mosei_labels.csd")).unwrap();
    Target::bytes("sequence", 1500)
        .seeds([golden])
        .words(&[
            "features",
            "intervals",
            "data",
            "OHDR",
            "TREE",
            "SNOD",
            "HEAP",
            "FRHP",
            "BTHD",
        ])
        .run(|input| {
            let mut catalogue = Catalogue::default();
            check_labels(read_sequence(file.write(input), &mut catalogue), &catalogue);
        });
}
