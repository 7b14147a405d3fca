//! MSP-Podcast (Lotfian & Busso 2019): turns of speech from podcasts, labelled by raters.
//!
//! ```text
//! Labels/labels_consensus.csv              FileName, EmoClass, SpkrID, Split_Set and others
//! Audios/MSP-PODCAST_0001_0008.wav         or Audio/
//! Transcripts/MSP-PODCAST_0001_0008.txt    optional
//! ```
//! The labels (`EmoClass`) are A angry, S sad, H happy, U surprised, F fearful, D disgusted and
//! N neutral. C (contempt), O (other) and X (no agreement) are not in the event protocol: these
//! items have no label. The splits are the publication's, which keep the known speakers of Train
//! (train), Development (val) and the test sets (test) apart. A group is a speaker; it is empty if
//! the speaker is unknown, which occurs in Train alone. Test3 is published without labels.

use std::path::Path;

use super::catalogue::Catalogue;
use super::table::Table;
use super::tree::{self, is_nonempty_file};
use super::wire_labels::WireLabels;
use super::{DataError, Item, Listing, Media, Options, Split};
use crate::labels::LABELS;

/// The codes of the labels, and their names.
const CODES: [(&str, &str); 10] = [
    ("A", "angry"),
    ("S", "sad"),
    ("H", "happy"),
    ("U", "surprised"),
    ("F", "fearful"),
    ("D", "disgusted"),
    ("N", "neutral"),
    ("C", "contempt"),
    ("O", "other"),
    ("X", "no agreement"),
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str =
    "Labels/labels_consensus.csv (or at the root) and Audios/MSP-PODCAST_0001_0008.wav";

/// Lists the turns of MSP-Podcast in the folder `root`.
///
/// # Errors
/// `labels_consensus.csv` cannot be read or lacks a column, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let mut labels = WireLabels::default();
    let tables = ["Labels/labels_consensus.csv", "labels_consensus.csv"];
    if let Some(path) = tree::file(root, &tables) {
        let audio = tree::folder(root, &["Audios", "Audio"]).unwrap_or(root.join("Audios"));
        let mut table = Table::open(&path)?;
        let (file, class) = (table.column("FileName")?, table.column("EmoClass")?);
        let (speaker, set) = (table.column("SpkrID")?, table.column("Split_Set")?);
        while let Some(row) = table.next(&mut catalogue)? {
            let at = table.at(row.line);
            let cells = [file, class, speaker, set].map(|column| row.get(column));
            let item = read_row(cells, root, &audio, &mut labels);
            match item {
                Ok(item) => catalogue.add(item, at),
                Err(what) => catalogue.fault(at, what),
            }
        }
    }
    labels.report(root, &mut catalogue);
    catalogue.finish("msp-podcast", &LABELS, root, LAYOUT)
}

/// The item of a row with these cells: file name, label, speaker, split. Its recording is in the
/// folder `audio`. The error is a fault's text.
fn read_row(
    [file, class, speaker, set]: [&str; 4],
    root: &Path,
    audio: &Path,
    labels: &mut WireLabels,
) -> Result<Item, String> {
    let split = match set {
        "Train" => Split::Train,
        "Development" => Split::Val,
        "Test1" | "Test2" | "Test3" => Split::Test,
        _ => {
            return Err(format!(
                "the split {set:?} is none of Train, Development, Test1, Test2 and Test3: left out"
            ));
        }
    };
    let Some((_, name)) = CODES.into_iter().find(|(code, _)| *code == class) else {
        return Err(format!(
            "the label {class:?} is none of A, S, H, U, F, D, N, C, O and X: left out"
        ));
    };
    let id = file.strip_suffix(".wav").unwrap_or(file);
    if id.is_empty() || id.contains('/') {
        return Err(format!("{file:?} is not the name of a recording: left out"));
    }
    let recording = audio.join(format!("{id}.wav"));
    if !is_nonempty_file(&recording) {
        return Err(format!(
            "{} is missing or empty: left out",
            recording.display()
        ));
    }
    let transcript = std::fs::read(root.join(format!("Transcripts/{id}.txt"))).ok();
    let text = transcript.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string());
    let is_known = !speaker.eq_ignore_ascii_case("unknown");
    Ok(Item {
        id: id.to_string(),
        split,
        group: if is_known { speaker } else { "" }.to_string(),
        media: Media::Recording(recording),
        interval: None,
        text: text.filter(|text| !text.is_empty()),
        target: labels.target(name),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    const HEADER: &str = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n";

    #[test]
    fn rows_give_label_speaker_and_split() {
        let tree = Tree::new(&[
            "Audios/MSP-PODCAST_0001_0008.wav",
            "Audios/MSP-PODCAST_0001_0009.wav",
            "Audios/MSP-PODCAST_0001_0011.wav",
            "Audios/MSP-PODCAST_0002_0001.wav",
        ]);
        tree.write("Transcripts/MSP-PODCAST_0001_0008.txt", "And so it was.\n");
        tree.write(
            "Labels/labels_consensus.csv",
            &format!(
                "{HEADER}MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1\n\
                 MSP-PODCAST_0001_0009.wav,H,3.8,3.6,3.8,39,Male,Development\n\
                 MSP-PODCAST_0001_0011.wav,C,4.1,4.8,4.0,Unknown,Unknown,Train\n\
                 MSP-PODCAST_0002_0001.wav,U,4.1,4.8,4.0,12,Female,Test2\n\
                 MSP-PODCAST_0002_0002.wav,A,4.1,4.8,4.0,12,Female,Test2\n\
                 MSP-PODCAST_0001_0008.wav,Q,4.1,4.8,4.0,12,Female,Test2\n\
                 MSP-PODCAST_0001_0008.wav,A,4.1,4.8,4.0,12,Female,Validation\n\
                 MSP-PODCAST_0001_0008.wav,A,4.1,4.8,4.0,12,Female,Train\n"
            ),
        );
        let listing = tree.list("msp-podcast").unwrap();
        assert_eq!(
            ids(&listing),
            [
                "MSP-PODCAST_0001_0008",
                "MSP-PODCAST_0001_0009",
                "MSP-PODCAST_0001_0011",
                "MSP-PODCAST_0002_0001"
            ]
        );
        let targets: Vec<_> = listing.items.iter().map(|i| i.target.clone()).collect();
        let class = |index| Some(Target::Class(index));
        assert_eq!(targets, [class(0), class(1), None, class(6)]);
        let groups: Vec<_> = listing.items.iter().map(|i| i.group.as_str()).collect();
        assert_eq!(groups, ["30", "39", "", "12"]);
        use Split::{Test, Train, Val};
        let splits: Vec<_> = listing.items.iter().map(|i| i.split).collect();
        assert_eq!(splits, [Test, Val, Train, Test]);
        let first = item(&listing, "MSP-PODCAST_0001_0008");
        assert_eq!(first.text.as_deref(), Some("And so it was."));
        assert_eq!(faults(&listing, "line 6", "0002_0002.wav is missing"), 1);
        assert_eq!(faults(&listing, "line 7", "\"Q\" is none of"), 1);
        assert_eq!(faults(&listing, "line 8", "\"Validation\" is none of"), 1);
        assert_eq!(faults(&listing, "line 9", "is taken by"), 1);
        assert_eq!(
            faults(&listing, "", "1 items have the label \"contempt\""),
            1
        );
        assert_eq!(listing.faults.len(), 5);
    }

    #[test]
    fn a_table_without_the_splits_is_an_error() {
        let tree = Tree::new(&["Audios/a.wav"]);
        tree.write(
            "labels_consensus.csv",
            "FileName,EmoClass,SpkrID\na.wav,N,1\n",
        );
        let error = tree.list("msp-podcast").unwrap_err().to_string();
        assert!(error.contains("has no column \"Split_Set\""), "{error}");
    }
}
