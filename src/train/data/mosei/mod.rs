//! CMU-MOSEI (Zadeh et al. 2018): intervals of monologues with intensities of six emotions; a
//! multi-label task.
//!
//! ```text
//! Raw/Videos/Full/Combined/<video>.mp4             or without Raw/
//! Raw/Audio/Full/WAV_16000/<video>.wav             optional; needed if the videos have no sound
//! Raw/Transcript/Segmented/Combined/<video>.txt    <video>___<number>___<start>___<end>___<text>
//! CMU_MOSEI_Labels.csd                             the SDK's labels; or labels.csv
//! cmu_mosei_std_folds.py                           the SDK's folds; or standard_folds.json
//! ```
//! An item is a row of a video's labels; its id is `<video>_<row>`. The text of an item is the
//! transcript line with the largest overlap in time. All items of a video are in the same split. If
//! a copy lacks a full video, `Raw/Videos/Segmented/Combined/<video>_<number>.mp4` are used
//! instead. Without labels, the items are the lines of the transcripts, for pre-training.
//!
//! The folds are read from the SDK's `cmu_mosei_std_folds.py`, unchanged, or from
//! `standard_folds.json`, an object of the same three lists. Files of labels and folds may also be
//! in a folder at most two levels below the root. Names of videos match in any Unicode form.
//!
//! The `.csd` file is read directly. If it has another structure, this script makes `labels.csv`
//! from it:
//! ```python
//! import csv, h5py
//! rows = csv.writer(open("labels.csv", "w", newline=""))
//! rows.writerow("video interval start end sentiment "
//!               "happy sad anger surprise disgust fear".split())
//! for video, data in h5py.File("CMU_MOSEI_Labels.csd")["All Labels"]["data"].items():
//!     for row, (times, values) in enumerate(zip(data["intervals"], data["features"])):
//!         rows.writerow([video, row, *times, *values])
//! ```

mod labels;
mod media_files;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use self::labels::{LABELS, LabelledInterval, Labels, read_sequence, read_table};
use self::media_files::MediaFiles;
use super::catalogue::Catalogue;
use super::folded_names::folded;
use super::tree::{folder, walk};
use super::{DataError, Item, Listing, Options, Split, Target};

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "Raw/Videos/Full/Combined/<video>.mp4, \
                      Raw/Transcript/Segmented/Combined/<video>.txt, CMU_MOSEI_Labels.csd (or \
                      labels.csv) and cmu_mosei_std_folds.py (or standard_folds.json)";

/// A line of a video's transcript.
#[derive(Clone, Debug, PartialEq)]
struct TranscriptLine {
    /// Number of the segment in its video, from 0.
    number: usize,
    /// Start and end in the video, in seconds.
    interval: [f64; 2],
    text: String,
}

/// Lists the labelled intervals of CMU-MOSEI in the folder `root`; without labels, the lines of the
/// transcripts.
///
/// # Errors
/// A folder or an annotation file cannot be read, the folds are missing, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let media_files = MediaFiles::find(root, &mut catalogue)?;
    let transcripts = transcripts(root, &mut catalogue)?;
    if media_files.videos.is_empty() && media_files.sounds.is_empty() && media_files.cut.is_empty()
    {
        return catalogue.finish("cmu-mosei", &LABELS, root, LAYOUT);
    }
    let labels = read_labels(root, &mut catalogue)?;
    let folds = match ["standard_folds.json", "cmu_mosei_std_folds.py"]
        .iter()
        .find_map(|name| annotation(root, name))
    {
        Some(path) => Some(read_folds(&path)?),
        None if labels.is_some() => {
            let remedy = "copy the SDK's cmu_mosei_std_folds.py beside the labels".into();
            return Err(DataError::Missing {
                what: "the SDK's list of folds",
                path: root.join("standard_folds.json"),
                remedy,
            });
        }
        None => None,
    };
    let is_labelled = labels.is_some();
    let labels = labels.unwrap_or_else(|| {
        catalogue.fault(
            root.display().to_string(),
            "there is neither CMU_MOSEI_Labels.csd nor labels.csv: the items are without labels",
        );
        unlabelled(&transcripts)
    });

    let mut labelled: HashMap<String, &String> = HashMap::new();
    for (video, rows) in &labels {
        let name = folded(video);
        if let Some(first) = labelled.insert(name.clone(), video) {
            let what =
                format!("{video:?} differs in its Unicode form only from {first:?}: left out");
            catalogue.fault(video, what);
            continue;
        }
        let split = match &folds {
            None => Split::Train,
            Some(folds) => match folds.get(&name) {
                Some(split) => *split,
                None => {
                    catalogue.fault(
                        video,
                        format!(
                            "is in none of the standard folds: {} intervals left out",
                            rows.len()
                        ),
                    );
                    continue;
                }
            },
        };
        let spoken = transcripts.get(&name).map_or(&[][..], Vec::as_slice);
        let (mut missing, mut unusable, mut listed) = (0, 0, 0);
        for row in rows {
            let line = transcript_line(spoken, row);
            let Some(interval) = row.interval.or(line.map(|l| l.interval)) else {
                catalogue.fault(
                    &row.at,
                    format!("the transcript has no line {}: left out", row.index),
                );
                continue;
            };
            if !(interval[0] >= 0.0 && interval[1] > interval[0] && interval[1].is_finite())
                || row.values.iter().any(|v| !v.is_finite())
            {
                catalogue.fault(
                    &row.at,
                    format!(
                        "{interval:?} with {:?} is no labelled interval: left out",
                        row.values
                    ),
                );
                continue;
            }
            let number = line.map_or(row.index, |l| l.number);
            let Some((media, is_cut)) = media_files.media(&name, number) else {
                // An unusable file is a fault already.
                if media_files.is_unusable(&name, number) {
                    unusable += 1;
                } else {
                    missing += 1;
                }
                continue;
            };
            let item = Item {
                id: format!("{video}_{}", row.index),
                split,
                group: video.clone(),
                media,
                interval: (!is_cut).then_some(interval),
                text: line.map(|l| l.text.clone()),
                target: is_labelled.then(|| Target::Values(row.values.to_vec())),
            };
            catalogue.add(item, &row.at);
            listed += 1;
        }
        // A video without media is one fault, even if its transcript is missing too.
        if spoken.is_empty() && (listed > 0 || missing + unusable == 0) {
            catalogue.fault(video, "has no transcript: its intervals are without words");
        }
        if missing > 0 {
            catalogue.fault(
                video,
                format!("its recording is missing or empty: {missing} intervals left out"),
            );
        }
    }
    for video in media_files.videos.keys().collect::<BTreeSet<_>>() {
        if !labelled.contains_key(video) {
            catalogue.fault(
                video,
                if is_labelled {
                    "has no labels: left out"
                } else {
                    "has no transcript: left out"
                },
            );
        }
    }
    catalogue.finish(
        "cmu-mosei",
        if is_labelled { &LABELS } else { &[] },
        root,
        LAYOUT,
    )
}

/// The first of `candidates` that is a folder of the copy, below `Raw/` or below the root. `None`
/// if no candidate exists.
fn in_copy(root: &Path, candidates: &[&str]) -> Option<PathBuf> {
    candidates
        .iter()
        .find_map(|c| folder(root, &[&format!("Raw/{c}"), c]))
}

/// The transcript lines of all videos, by the normal form of the video's name.
fn transcripts(
    root: &Path,
    catalogue: &mut Catalogue,
) -> Result<BTreeMap<String, Vec<TranscriptLine>>, DataError> {
    let mut transcripts = BTreeMap::new();
    let Some(below) = in_copy(
        root,
        &["Transcript/Segmented/Combined", "Transcript/Segmented"],
    ) else {
        return Ok(transcripts);
    };
    for file in walk(&below, &["txt"], catalogue)? {
        let at = file.path.display().to_string();
        let bytes = match std::fs::read(&file.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                catalogue.fault(at, format!("cannot be read: {error}"));
                continue;
            }
        };
        let mut lines = Vec::new();
        for (number, line) in String::from_utf8_lossy(&bytes)
            .trim_start_matches('\u{feff}')
            .lines()
            .enumerate()
        {
            match spoken(file.stem(), line) {
                Some(spoken) => lines.push(spoken),
                None if line.trim().is_empty() => {}
                None => catalogue.fault(
                    format!("{at} line {}", number + 1),
                    "is not <video>___<number>___<start>___<end>___<text>: left out",
                ),
            }
        }
        if transcripts.insert(folded(file.stem()), lines).is_some() {
            catalogue.fault(
                at,
                "another transcript has the same name: this one is taken",
            );
        }
    }
    Ok(transcripts)
}

/// Parses a line of the transcript of `video`; `None` if the line is malformed.
fn spoken(video: &str, line: &str) -> Option<TranscriptLine> {
    // The name is removed first, because it may contain the separator `___`.
    let line = line.trim();
    let [number, start, end, text] = after_name(video, line)?
        .strip_prefix("___")?
        .splitn(4, "___")
        .collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let interval = [start.trim().parse().ok()?, end.trim().parse().ok()?];
    Some(TranscriptLine {
        number: number.trim().parse().ok()?,
        interval,
        text: text.trim().to_string(),
    })
}

/// The rest of the line after the video's name. The line may have the name in another Unicode form.
/// `None` if the line does not begin with the name.
fn after_name<'a>(video: &str, line: &'a str) -> Option<&'a str> {
    line.strip_prefix(video).or_else(|| {
        let name = Some(folded(video)).filter(|_| !video.is_ascii())?;
        let mut ends = line.char_indices().map(|(at, _)| line.split_at(at));
        ends.find(|(before, after)| after.starts_with("___") && folded(before) == name)
            .map(|(_, after)| after)
    })
}

/// The transcript line of a labelled interval: the line whose overlap with the interval is the
/// largest and at least half of their union. If the labels have no times, it is the line with the
/// interval's number. `None` if there is no such line.
fn transcript_line<'a>(
    lines: &'a [TranscriptLine],
    row: &LabelledInterval,
) -> Option<&'a TranscriptLine> {
    let Some([start, end]) = row.interval else {
        return lines.iter().find(|l| l.number == row.index);
    };
    let share = |line: &TranscriptLine| {
        let common = end.min(line.interval[1]) - start.max(line.interval[0]);
        common / (end.max(line.interval[1]) - start.min(line.interval[0]))
    };
    lines
        .iter()
        .map(|l| (share(l), l))
        .filter(|(share, _)| *share >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, line)| line)
}

/// The transcript lines as intervals with zero intensities, for a copy without labels.
fn unlabelled(transcripts: &BTreeMap<String, Vec<TranscriptLine>>) -> Labels {
    let rows = |video: &String, lines: &Vec<TranscriptLine>| {
        let row = |l: &TranscriptLine| LabelledInterval {
            index: l.number,
            interval: Some(l.interval),
            values: [0.0; 6],
            at: format!("{video} line {}", l.number),
        };
        (video.clone(), lines.iter().map(row).collect())
    };
    transcripts
        .iter()
        .map(|(video, lines)| rows(video, lines))
        .collect()
}

/// The labels from `labels.csv` or else from the SDK's file; `None` if the copy has neither.
fn read_labels(root: &Path, catalogue: &mut Catalogue) -> Result<Option<Labels>, DataError> {
    if let Some(path) = annotation(root, "labels.csv") {
        return read_table(&path, catalogue).map(Some);
    }
    annotation(root, "CMU_MOSEI_Labels.csd")
        .map(|path| read_sequence(&path, catalogue))
        .transpose()
}

/// The path of the annotation file `name`: at the root, one or two folders below it, or in the
/// parent folder of a root called `Raw`. `None` if it does not exist.
fn annotation(root: &Path, name: &str) -> Option<PathBuf> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.is_dir())
            .collect();
        folders.sort();
        folders
    };
    let first = below(root);
    let second: Vec<PathBuf> = first.iter().flat_map(|f| below(f)).collect();
    let beside = root
        .parent()
        .filter(|_| root.ends_with("Raw"))
        .map(Path::to_path_buf);
    std::iter::once(root.to_path_buf())
        .chain(first)
        .chain(second)
        .chain(beside)
        .map(|folder| folder.join(name))
        .find(|p| p.is_file())
}

/// The split of each video, by the normal form of its name. Fails if the file is malformed or a
/// video is in two folds.
fn read_folds(path: &Path) -> Result<HashMap<String, Split>, DataError> {
    let text = std::fs::read_to_string(path).map_err(|source| DataError::Unreadable {
        path: path.to_path_buf(),
        source,
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let malformed = |what: String| DataError::Malformed {
        path: path.to_path_buf(),
        what,
    };
    let mut lists: HashMap<String, Vec<String>> = if path.extension().is_some_and(|e| e == "py") {
        python_lists(text)
    } else {
        serde_json::from_str(text)
            .map_err(|error| malformed(format!("is not an object of lists of videos: {error}")))?
    };
    let mut folds = HashMap::new();
    for (name, split) in [
        ("standard_train_fold", Split::Train),
        ("standard_valid_fold", Split::Val),
        ("standard_test_fold", Split::Test),
    ] {
        let videos = lists
            .remove(name)
            .ok_or_else(|| malformed(format!("has no {name:?}")))?;
        for video in videos {
            if let Some(other) = folds.insert(folded(&video), split)
                && other != split
            {
                return Err(malformed(format!("{video} is in two folds")));
            }
        }
    }
    Ok(folds)
}

/// The lists by their names in the SDK's Python file, which contains assignments
/// `name = ["video", …]` only.
fn python_lists(text: &str) -> HashMap<String, Vec<String>> {
    let lists = text.split(']').filter_map(|part| part.split_once('['));
    lists
        .map(|(before, videos)| {
            let name = before
                .lines()
                .last()
                .unwrap_or_default()
                .trim_end_matches(|c: char| c == '=' || c.is_whitespace());
            let videos = videos
                .split(',')
                .map(|v| v.trim().trim_matches(['\'', '"']).to_string())
                .filter(|v| !v.is_empty());
            (name.to_string(), videos.collect())
        })
        .collect()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
