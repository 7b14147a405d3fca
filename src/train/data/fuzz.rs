//! Fuzz tests of the parsers of names and of lines in annotation files.

use std::path::Path;

use super::catalogue::Catalogue;
use super::{Split, emo_db, goemotions_list, iemocap, nemo_list, raf_db};
use crate::labels::LABELS;
use crate::testing::fuzz::{InputFile, Target};

/// Valid and malformed lines of IEMOCAP, RAF-DB and GoEmotions, and names of recordings.
const LINES: [&str; 4] = [
    "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n",
    "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nM: Yeah.\n",
    "train_00001.jpg 5\ntest_0001.jpg 7\r\nother.jpg 9\n",
    "03a01Wa\nWR0_surprised_64\nä3a01W\n",
];

#[test]
fn mutated_lines_are_parsed_or_refused_without_a_panic() {
    Target::text("lines", 6000)
        .seeds(LINES)
        .words(&["[", "]:", " - ", "Ses01", "inf", "nan", ".jpg"])
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            iemocap::read_transcripts(&text);
            for line in text.lines() {
                if let Some(turn) = iemocap::parse_turn(line) {
                    assert!(turn.interval[0] < turn.interval[1] && turn.interval[1].is_finite());
                    iemocap::speaker_of(turn.name, "Ses01F_impro01");
                }
                iemocap::speaker_of("Ses01F_impro01_F000", line);
                if let Err(what) = raf_db::read_line(line, Path::new("/")) {
                    assert!(!what.is_empty());
                }
                emo_db::parse(line);
                nemo_list::parse(line);
            }
        });
}

#[test]
fn mutated_comments_are_read_or_refused_without_a_panic() {
    let file = InputFile::in_memory();
    let labels: Vec<usize> = (0..LABELS.len()).collect();
    Target::text("comments", 6000)
        .seeds([
            "Well, \"no\".\t0,2\tid1\nYes\t6\tid2\n\nNo\t7\tid3\n",
            "anger\njoy\nneutral\n",
        ])
        .words(&["\t", ",", "\r\n", "-1"])
        .run(|input| {
            let path = file.write(input);
            let mut catalogue = Catalogue::default();
            if let Ok(labels) = goemotions_list::read_labels(path) {
                assert!(labels.iter().all(|label| *label < LABELS.len()));
            }
            let read = goemotions_list::read_table(path, Split::Train, &labels, &mut catalogue);
            if let Err(error) = read {
                assert!(!error.to_string().trim().is_empty());
            }
            if let Some(fault) = catalogue.first_fault() {
                assert!(!fault.at.is_empty() && !fault.what.is_empty());
            }
        });
}
