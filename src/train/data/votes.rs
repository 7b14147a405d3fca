//! FER+ (Barsoum et al. 2016): the votes of ten annotators for each picture of FER2013, as label
//! distributions.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, ensure};

use super::catalogue::Catalogue;
use super::table::Table;
use crate::labels::{LABELS, label_index};

/// The table's columns for the wire's labels ([`LABELS`]).
const COLUMNS: [&str; 7] = [
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
];

/// Least number of votes for labels on the wire, of ten. Fewer votes do not estimate a
/// distribution.
const LEAST: u32 = 5;

/// The annotators' votes for one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Number of votes for each of [`LABELS`].
    counts: [u32; LABELS.len()],
    /// Number of all votes, including votes for labels that are not on the wire.
    total_votes: u32,
}

/// Why the votes of a picture are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum VoteExclusion {
    /// The table has no row for the picture, because annotators found no face in it; or it has two
    /// rows for the picture's name.
    #[error("without votes")]
    NoRow,
    /// Fewer than five votes are for the wire's seven labels.
    #[error("with less than five votes for the seven labels")]
    FewVotes,
    /// No label has more votes than contempt, which is not on the wire.
    #[error("of contempt")]
    Contempt,
}

impl Votes {
    /// A single vote for `label`, an index in [`LABELS`].
    pub fn single(label: usize) -> Votes {
        let mut counts = [0; LABELS.len()];
        counts[label] = 1;
        Votes {
            counts,
            total_votes: 1,
        }
    }

    /// The votes for a picture: `counts` for each of [`LABELS`], `contempt`, and `neither` for
    /// *unknown* and *no face* together.
    ///
    /// Votes for labels that are not on the wire count in [`Votes::agreement`] only. Votes for
    /// contempt are not added to another label: annotators rarely choose disgust or neutral for the
    /// same faces.
    ///
    /// # Errors
    /// No label has more votes than contempt, or fewer than five votes are for the wire's labels.
    pub fn new(
        counts: [u32; LABELS.len()],
        contempt: u32,
        neither: u32,
    ) -> Result<Votes, VoteExclusion> {
        let named: u32 = counts.iter().sum();
        if counts.iter().all(|count| *count <= contempt) && contempt > 0 {
            return Err(VoteExclusion::Contempt);
        }
        if named < LEAST {
            return Err(VoteExclusion::FewVotes);
        }
        Ok(Votes {
            counts,
            total_votes: named + contempt + neither,
        })
    }

    /// Number of votes for the wire's labels.
    fn named(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// The share of each of [`LABELS`] in the votes for the wire's labels; the shares sum to 1.
    pub fn shares(&self) -> [f32; LABELS.len()] {
        self.counts.map(|count| count as f32 / self.named() as f32)
    }

    /// The label with the most votes, as an index in [`LABELS`]; `None` for a tie.
    pub fn first(&self) -> Option<usize> {
        let most = *self.counts.iter().max().expect("there are labels");
        let mut firsts = (0..LABELS.len()).filter(|label| self.counts[*label] == most);
        firsts.next().filter(|_| firsts.next().is_none())
    }

    /// The share of the most frequent label in all votes, in [0, 1].
    pub fn agreement(&self) -> f32 {
        *self.counts.iter().max().expect("there are labels") as f32 / self.total_votes as f32
    }

    /// The probability, in [0, 1], that two annotators drawn from the votes for the wire's labels
    /// chose the same label. `None` for a single vote.
    pub fn inter_annotator_agreement(&self) -> Option<f64> {
        let pairs = |count: u32| f64::from(count) * (f64::from(count) - 1.0);
        let all = pairs(self.named());
        (all > 0.0).then(|| self.counts.iter().map(|count| pairs(*count)).sum::<f64>() / all)
    }

    /// Entropy of [`Votes::shares`], in nats.
    pub fn entropy(&self) -> f64 {
        let shares = self.shares().map(f64::from);
        -shares
            .iter()
            .filter(|share| **share > 0.0)
            .map(|share| share * share.ln())
            .sum::<f64>()
    }
}

/// The votes for all pictures of FER2013, by split and file name. The file is a table with the
/// columns `split,file,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF`.
#[derive(Clone, Debug, Default)]
pub struct VotesTable(HashMap<(String, String), Result<Votes, VoteExclusion>>);

impl VotesTable {
    /// Reads the table of votes at `path`.
    ///
    /// # Errors
    /// The file cannot be read, a column is missing, a line is not a row of counts, or there is no
    /// row. The error names the file, and the line of a malformed row.
    pub fn read(path: &Path) -> anyhow::Result<VotesTable> {
        ensure!(
            path.is_file(),
            "the annotators' votes are not at {}: set $EXPRESSD_MATERIAL, the recipe's material or \
             its face.votes",
            path.display()
        );
        let mut table = Table::open(path)?;
        let (split, file) = (table.column("split")?, table.column("file")?);
        let mut labels = [0; LABELS.len()];
        for name in COLUMNS {
            let label = label_index(name).expect("the wire has these labels");
            labels[label] = table.column(name)?;
        }
        let [contempt, unknown, no_face] = [
            table.column("contempt")?,
            table.column("unknown")?,
            table.column("NF")?,
        ];
        let (mut faults, mut found, mut twice) =
            (Catalogue::default(), HashMap::new(), HashSet::new());
        while let Some(row) = table.next(&mut faults)? {
            let count = |column: usize| {
                let cell = row.get(column);
                let count = cell.parse::<u8>().ok().map(u32::from);
                count.with_context(|| {
                    format!("{}: {cell:?} is no number of votes", table.at(row.line))
                })
            };
            let mut counts = [0; LABELS.len()];
            for (label, column) in labels.into_iter().enumerate() {
                counts[label] = count(column)?;
            }
            let votes = Votes::new(counts, count(contempt)?, count(unknown)? + count(no_face)?);
            let name = (row.get(split).to_owned(), row.get(file).to_owned());
            if found.insert(name.clone(), votes).is_some() {
                twice.insert(name);
            }
        }
        if let Some(fault) = faults.first_fault() {
            anyhow::bail!("{}: {}", fault.at, fault.what.replace(": left out", ""));
        }
        // Two rows have the same name: which picture a row belongs to is unknown.
        found.retain(|name, _| !twice.contains(name));
        ensure!(!found.is_empty(), "{} has no votes in it", path.display());
        Ok(VotesTable(found))
    }

    /// The votes for the picture `file` of FER2013's split `split`.
    ///
    /// # Errors
    /// The picture has no row, or its votes are excluded for another reason.
    pub fn votes(&self, split: &str, file: &str) -> Result<Votes, VoteExclusion> {
        let name = (split.to_owned(), file.to_owned());
        self.0
            .get(&name)
            .copied()
            .unwrap_or(Err(VoteExclusion::NoRow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "split,file,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n";

    /// The table of votes with the rows `rows` below the header.
    fn read(rows: &str) -> anyhow::Result<VotesTable> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes.csv");
        std::fs::write(&path, format!("{HEADER}{rows}")).unwrap();
        VotesTable::read(&path)
    }

    #[test]
    fn shares_agreement_and_entropy_are_those_of_the_votes() {
        let table = read("Training,a.jpg,2,0,0,1,4,0,0,1,1,1\n").unwrap();
        let votes = table.votes("Training", "a.jpg").unwrap();
        let shares = votes.shares();
        assert_eq!(votes.first(), label_index("angry"));
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let expected = [("neutral", 2.0), ("sad", 1.0), ("angry", 4.0)];
        for (name, count) in expected {
            assert!((shares[label_index(name).unwrap()] - count / 7.0).abs() < 1e-6);
        }
        // Four of ten votes are for the most frequent label.
        assert!((votes.agreement() - 0.4).abs() < 1e-6);
        // Pairs of annotators with the same label: 2 * 1 for neutral and 4 * 3 for angry, of 7 * 6.
        let expected_agreement = (2.0 * 1.0 + 4.0 * 3.0) / (7.0 * 6.0);
        assert!((votes.inter_annotator_agreement().unwrap() - expected_agreement).abs() < 1e-9);
        let entropy = [2.0, 1.0, 4.0].map(|n: f64| -(n / 7.0) * (n / 7.0).ln());
        assert!((votes.entropy() - entropy.iter().sum::<f64>()).abs() < 1e-6);
        assert_eq!(
            table.votes("PublicTest", "a.jpg"),
            Err(VoteExclusion::NoRow)
        );
        let single = Votes::single(3);
        assert_eq!(
            (
                single.first(),
                single.agreement(),
                single.inter_annotator_agreement()
            ),
            (Some(3), 1.0, None)
        );
    }

    #[test]
    fn exclusion_of_pictures_states_its_reason() {
        let rows = [
            "Training,few.jpg,2,0,0,1,1,0,0,0,3,3",
            "Training,contempt.jpg,3,0,0,0,2,0,0,5,0,0",
            "Training,as_much.jpg,4,0,0,0,2,0,0,4,0,0",
            "Training,tie.jpg,5,0,0,5,0,0,0,0,0,0",
            "Training,twice.jpg,9,0,0,0,1,0,0,0,0,0",
            "Training,twice.jpg,0,9,0,0,1,0,0,0,0,0",
        ];
        let table = read(&rows.join("\n")).unwrap();
        let of = |file: &str| table.votes("Training", file);
        assert_eq!(of("few.jpg"), Err(VoteExclusion::FewVotes));
        assert_eq!(of("contempt.jpg"), Err(VoteExclusion::Contempt));
        assert_eq!(of("as_much.jpg"), Err(VoteExclusion::Contempt));
        assert_eq!(of("tie.jpg").unwrap().first(), None);
        assert_eq!(of("twice.jpg"), Err(VoteExclusion::NoRow));
    }

    #[test]
    fn a_malformed_table_is_an_error_that_names_file_and_line() {
        let good = "Training,a.jpg,2,0,0,1,4,0,0,1,1,1\n";
        for (rows, cause) in [
            (
                format!("{good}Training,b.jpg,2,x,0,1,4,0,0,1,1,1\n"),
                "\"x\" is no number of votes",
            ),
            (
                format!("{good}Training,b.jpg,2,-1,0,1,4,0,0,1,1,1\n"),
                "\"-1\"",
            ),
            (format!("{good}Training,b.jpg,2,0\n"), "has 4 cells"),
        ] {
            let error = format!("{:#}", read(&rows).unwrap_err());
            assert!(
                error.contains("votes.csv line 3") && error.contains(cause),
                "{error}"
            );
        }
        assert!(read("").unwrap_err().to_string().contains("no votes"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes.csv");
        let error = VotesTable::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("votes.csv") && error.ends_with("face.votes"),
            "{error}"
        );
        std::fs::write(&path, HEADER.replace("sadness,", "")).unwrap();
        let error = VotesTable::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("votes.csv") && error.contains("sadness"),
            "{error}"
        );
    }
}
