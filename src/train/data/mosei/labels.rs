//! CMU-MOSEI's labels: the SDK's computational sequence (an HDF5 file), or a table made from it.

use std::collections::BTreeMap;
use std::path::Path;

use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use hdf5_reader::{Hdf5File, OpenOptions};

use crate::train::data::DataError;
use crate::train::data::catalogue::Catalogue;
use crate::train::data::table::Table;

/// The emotions, in the order of columns 1 to 6 of the SDK's label matrix (column 0 is sentiment).
/// The reference's configuration swaps surprise and fear (`src/train/method.md` a.2).
pub const LABELS: [&str; 6] = ["happy", "sad", "anger", "surprise", "disgust", "fear"];

/// The labels of one interval of a video.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledInterval {
    /// Number of the interval in its video, from 0: the row in the computational sequence.
    pub index: usize,
    /// Start and end in the video, in seconds; `None` if the table has interval numbers only.
    pub interval: Option<[f64; 2]>,
    /// Intensities of 0 to 3 for the emotions in [`LABELS`].
    pub values: [f32; 6],
    /// File and line or row of the interval, for faults.
    pub at: String,
}

/// Upper limit of one video's label matrix, in bytes. A damaged file may state any size; the
/// published matrices have some kilobytes.
const VIDEO_BYTES: usize = 1 << 22;

/// The labelled intervals of each video, by the video's name.
pub type Labels = BTreeMap<String, Vec<LabelledInterval>>;

/// Reads the SDK's `CMU_MOSEI_Labels.csd`, whose groups are
/// `<name>/data/<video>/{features, intervals}`. A row of `features` has the sentiment and six
/// intensities, a row of `intervals` start and end in seconds.
///
/// # Errors
/// The file cannot be read or is not such a sequence. An unusable video is a fault.
pub fn read_sequence(path: &Path, catalogue: &mut Catalogue) -> Result<Labels, DataError> {
    let malformed = |error: Error| DataError::Malformed {
        path: path.to_path_buf(),
        what: format!("is not a computational sequence of CMU-MOSEI's SDK: {error}"),
    };
    let limited = OpenOptions::default()
        .with_max_read_bytes(VIDEO_BYTES)
        .with_max_chunk_bytes(VIDEO_BYTES);
    let file = Hdf5File::open_with_options(path, limited).map_err(malformed)?;
    let root = file.root_group().map_err(malformed)?;
    let sequence = root
        .groups()
        .map_err(malformed)?
        .into_iter()
        .find_map(|g| g.group("data").ok());
    let Some(sequence) = sequence else {
        return Err(DataError::Malformed {
            path: path.to_path_buf(),
            what: "is not a computational sequence of CMU-MOSEI's SDK: no group holds data".into(),
        });
    };
    let mut labels = Labels::new();
    for video in sequence.groups().map_err(malformed)? {
        let at = format!("{} {}", path.display(), video.name());
        match (numbers(&video, "features"), numbers(&video, "intervals")) {
            (Ok((features, 7)), Ok((intervals, 2)))
                if features.len() / 7 == intervals.len() / 2 =>
            {
                let rows = features
                    .chunks_exact(7)
                    .zip(intervals.chunks_exact(2))
                    .enumerate()
                    .map(|(index, (row, times))| LabelledInterval {
                        index,
                        interval: Some([times[0], times[1]]),
                        values: std::array::from_fn(|k| row[k + 1] as f32),
                        at: format!("{at} row {index}"),
                    });
                labels.insert(video.name().to_string(), rows.collect());
            }
            (Err(error), _) | (_, Err(error)) => {
                catalogue.fault(at, format!("cannot be read: {error}: left out"))
            }
            _ => catalogue.fault(at, "has not 7 features and 2 times in every row: left out"),
        }
    }
    Ok(labels)
}

/// The numbers of the matrix `name`, row-major, and its number of columns (0 if it is not a
/// matrix).
fn numbers(group: &Group, name: &str) -> Result<(Vec<f64>, usize), Error> {
    let dataset = group.dataset(name)?;
    let width = match dataset.shape() {
        [_, width] => *width as usize,
        _ => 0,
    };
    let read = match dataset.read_array::<f64>() {
        Ok(array) => array.iter().copied().collect(),
        Err(_) => dataset
            .read_array::<f32>()?
            .iter()
            .map(|v| f64::from(*v))
            .collect(),
    };
    Ok((read, width))
}

/// Reads `labels.csv`, with the columns `video`, the six emotions, and `start` and `end` (seconds),
/// `interval` (the interval's number), or all three.
///
/// # Errors
/// The file cannot be read, or a column is missing. An unusable line is a fault.
pub fn read_table(path: &Path, catalogue: &mut Catalogue) -> Result<Labels, DataError> {
    let mut table = Table::open(path)?;
    let video = table.column("video")?;
    let mut columns = [0; 6];
    for (column, label) in columns.iter_mut().zip(LABELS) {
        *column = table.column(label)?;
    }
    let number = table.optional("interval");
    // If the table has neither times nor numbers, the error names the missing times.
    let times = match (table.optional("start"), table.optional("end"), number) {
        (None, None, Some(_)) => None,
        _ => Some([table.column("start")?, table.column("end")?]),
    };
    let mut labels = Labels::new();
    while let Some(row) = table.next(catalogue)? {
        let at = table.at(row.line);
        let rows = labels.entry(row.get(video).to_string()).or_default();
        let index = match row.optional(number).map(str::parse::<usize>) {
            None => rows.len(),
            Some(Ok(index)) => index,
            Some(Err(_)) => {
                catalogue.fault(
                    at,
                    format!(
                        "the interval {:?} is not a number: left out",
                        row.optional(number).unwrap_or_default()
                    ),
                );
                continue;
            }
        };
        let interval = match times.map(|t| t.map(|c| row.get(c).parse::<f64>())) {
            None => None,
            Some([Ok(start), Ok(end)]) => Some([start, end]),
            Some(_) => {
                catalogue.fault(at, "start and end are not seconds: left out");
                continue;
            }
        };
        let mut values = [0.0; 6];
        let wrong = columns.iter().zip(&mut values).find_map(|(column, value)| {
            match row.get(*column).parse::<f32>() {
                Ok(number) => {
                    *value = number;
                    None
                }
                Err(_) => Some(row.get(*column).to_string()),
            }
        });
        match wrong {
            Some(cell) => catalogue.fault(
                at,
                format!("the intensity {cell:?} is not a number: left out"),
            ),
            None => rows.push(LabelledInterval {
                index,
                interval,
                values,
                at,
            }),
        }
    }
    labels.retain(|_, rows| !rows.is_empty());
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::data::testing::Tree;

    /// h5py wrote the golden file as the SDK does (compressed chunks, metadata as text of variable
    /// length). Its numbers are invented.
    #[test]
    fn names_intervals_and_intensities_of_a_sequence_are_read() {
        let mut catalogue = Catalogue::default();
        let labels = read_sequence(
            &crate::testing::project("tests/golden/mosei_labels.csd"),
            &mut catalogue,
        )
        .unwrap();
        assert_eq!(
            labels.keys().collect::<Vec<_>>(),
            ["-3g5yACwYnA", "100178", "_q7DM8WkzAQ"]
        );
        let row = &labels["100178"][0];
        assert_eq!(
            (row.index, row.interval),
            (0, Some([4.838_181_194_257_078_5, 7.338_181_194_257_078_5]))
        );
        assert_eq!(
            row.values,
            [1.0 / 3.0, 8.0 / 3.0, 7.0 / 3.0, 8.0 / 3.0, 1.0 / 3.0, 0.0]
        );
        assert_eq!(
            labels["-3g5yACwYnA"]
                .iter()
                .map(|r| r.index)
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_file_that_is_not_hdf5_is_an_error() {
        let tree = Tree::new(&[]);
        tree.write("a.csd", "not HDF5");
        let error = read_sequence(&tree.path().join("a.csd"), &mut Catalogue::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not a computational sequence"), "{error}");
    }

    #[test]
    fn a_table_needs_the_times_or_the_numbers_of_intervals() {
        let tree = Tree::new(&[]);
        let read = |text: &str| {
            tree.write("labels.csv", text);
            read_table(&tree.path().join("labels.csv"), &mut Catalogue::default())
        };
        let six = "happy,sad,anger,surprise,disgust,fear";
        assert!(
            read(&format!("video,{six}\n"))
                .unwrap_err()
                .to_string()
                .contains("no column \"start\"")
        );
        assert!(
            read("video,start,end,happy,sad\n")
                .unwrap_err()
                .to_string()
                .contains("no column \"anger\": found video, start")
        );
        let labels = read(&format!(
            "video,start,end,{six}\na,0,1,0,0,0,0,0,3\na,1,2,1,0,0,0,0,0\n"
        ))
        .unwrap();
        assert_eq!(
            labels["a"]
                .iter()
                .map(|r| (r.index, r.interval))
                .collect::<Vec<_>>(),
            [(0, Some([0.0, 1.0])), (1, Some([1.0, 2.0]))]
        );
        let labels = read(&format!(
            "video,interval,sentiment,{six}\na,4,0,0,0,0,0,0,3\n"
        ))
        .unwrap();
        assert_eq!(
            (
                labels["a"][0].index,
                labels["a"][0].interval,
                labels["a"][0].values[5]
            ),
            (4, None, 3.0)
        );
    }
}
