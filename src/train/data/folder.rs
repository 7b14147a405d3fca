//! The data sets `folder` and `recordings`: any folder of recordings, with `labels.csv` or without.
//!
//! `labels.csv` is in the root folder; its header is `file,label` and, optionally, `split`,
//! `group`, `text`, `start`, `end`:
//!
//! ```text
//! file,label,split,group,text
//! anna/001.mp4,happy,train,anna,"well, that went fine"
//! ben/007.wav,angry|surprised,test,ben,
//! ```
//! * `file`: a path below the root, in any Unicode form. Pictures (`jpg`, `png`) are face crops.
//! * `label`: an empty cell means that the item has no label. The list of labels has all words of
//!   the column, sorted. If any cell has several words (`happy|surprised`), the task is multi-label
//!   and every target is a vector of 0 and 1.
//! * `split`: `train`, `val` or `test`; an empty cell means train. Without this column, the groups
//!   that have a label are assigned whole: 15 % of them to test, 15 % to val, in an order derived
//!   from their names. With fewer than three groups, all items train. A file without a group is a
//!   group of its own.
//! * `start` and `end`: the part of the file that is the item, in seconds.
//!
//! Every recording below the root that `labels.csv` does not name is an unlabelled item for
//! training; without `labels.csv`, this holds for all recordings. If `labels.csv` has no text for a
//! whole recording, its text is read from a file beside it: `<name>.txt` (first line) or
//! `<name>.align` (the GRID corpus's format: start, end, word).
//!
//! The data set `recordings` is for recordings of the daemon, in the same layout. `expressd` has no
//! command that records yet. The events (`.jsonl`) that a replay writes beside a recording are
//! ignored.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::catalogue::Catalogue;
use super::folded_names::{Ambiguous, FoldedNames, folded};
use super::table::{Row, Table};
use super::tree::{self, AUDIO, PICTURE, VIDEO, has_extension, walk};
use super::{DataError, Item, Listing, Media, Options, Picture, Split, Target};

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "recordings at any depth, or labels.csv with the columns file and label";

/// Lists the recordings in the folder `root` as the data set `folder`.
///
/// # Errors
/// The folder or `labels.csv` cannot be read, a required column is missing, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    list_as("folder", root)
}

/// Lists the recordings in the folder `root` as the data set `recordings`; otherwise as [`list`].
pub fn list_recordings(root: &Path, _: &Options) -> Result<Listing, DataError> {
    list_as("recordings", root)
}

/// Lists the recordings in `root` under the data set's name `dataset`.
fn list_as(dataset: &'static str, root: &Path) -> Result<Listing, DataError> {
    let table = root.join("labels.csv");
    if table.is_file() {
        list_labelled(dataset, root, &table)
    } else {
        list_all(dataset, root)
    }
}

/// Lists all recordings of a folder without `labels.csv`.
fn list_all(dataset: &'static str, root: &Path) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    add_unnamed(
        root,
        &HashSet::new(),
        &mut FoldedNames::default(),
        &mut catalogue,
    )?;
    catalogue.finish(dataset, &[], root, LAYOUT)
}

/// Adds the recordings below `root` that `labels.csv` does not name, as unlabelled items. `named`:
/// the canonical paths of the files that `labels.csv` names.
fn add_unnamed(
    root: &Path,
    named: &HashSet<PathBuf>,
    names: &mut FoldedNames,
    catalogue: &mut Catalogue,
) -> Result<(), DataError> {
    let extensions: Vec<&str> = VIDEO.iter().chain(&AUDIO).copied().collect();
    let is_named = |path: &Path| !named.is_empty() && named.contains(&canonical(path));
    // The paths that are not ASCII, by their normal form: another path with the same normal form
    // is a fault.
    let mut forms: HashMap<String, PathBuf> = HashMap::new();
    forms.extend(
        named
            .iter()
            .filter_map(|path| Some((form_of(path)?, path.clone()))),
    );
    let mut found = Catalogue::default();
    for file in walk(root, &extensions, &mut found)?
        .into_iter()
        .filter(|file| !is_named(&file.path))
    {
        let at = file.path.display().to_string();
        let path = canonical(&file.path);
        if let Some(form) = form_of(&path) {
            let first = forms.entry(form).or_insert_with(|| path.clone());
            if *first != path {
                let what =
                    format!("{path:?} differs in its Unicode form only from {first:?}: left out");
                catalogue.fault(at, what);
                continue;
            }
        }
        let text = match words_beside(&file.path, names) {
            Ok(text) => text,
            Err(what) => {
                catalogue.fault(at, format!("{what}: left out"));
                continue;
            }
        };
        let item = Item {
            id: file.relative(),
            split: Split::Train,
            group: String::new(),
            media: Media::Recording(file.path),
            interval: None,
            text,
            target: None,
        };
        catalogue.add(item, at);
    }
    // A fault of a named file is reported with its line of `labels.csv`.
    found.move_faults(catalogue, |fault| !is_named(Path::new(&fault.at)));
    Ok(())
}

/// The absolute path of a file without links and dots; `path` itself if the file does not exist.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The Unicode normal form of a path; `None` if the path is ASCII or not UTF-8, and therefore has
/// one form only.
fn form_of(path: &Path) -> Option<String> {
    path.to_str().filter(|text| !text.is_ascii()).map(folded)
}

/// The words of a recording in the `.txt` or `.align` file beside it; `None` if neither has words.
///
/// # Errors
/// Two files match one of the names in different Unicode forms.
fn words_beside(recording: &Path, names: &mut FoldedNames) -> Result<Option<String>, String> {
    let mut read = |extension| -> Result<Option<String>, String> {
        let folder = recording.parent().unwrap_or(Path::new(""));
        let name = recording.with_extension(extension);
        let name = Path::new(name.file_name().unwrap_or_default());
        let name = names
            .find(folder, name)
            .map_err(|ambiguous| format!("the name of its words {ambiguous}"))?;
        let bytes = std::fs::read(folder.join(name)).ok();
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let (text, aligned) = (read("txt")?, read("align")?);
    let text = text.and_then(|t| {
        t.lines()
            .next()
            .map(|line| line.trim_start_matches('\u{feff}').trim().to_string())
    });
    let aligned = || {
        let words = aligned?;
        let spoken = words
            .lines()
            .filter_map(|l| l.split_whitespace().nth(2))
            .filter(|w| !["sil", "sp"].contains(w));
        Some(spoken.collect::<Vec<_>>().join(" "))
    };
    Ok(text.or_else(aligned).filter(|t| !t.is_empty()))
}

/// The canonical paths of the files that `cell`, a cell of `labels.csv`, may refer to: two if the
/// name is ambiguous, otherwise one.
fn named_by(root: &Path, cell: &str, names: &mut FoldedNames) -> Vec<PathBuf> {
    let found = match names.find(root, Path::new(cell)) {
        Ok(path) => vec![path],
        Err(Ambiguous(one, other)) => vec![one, other],
    };
    found
        .iter()
        .map(|path| canonical(&root.join(path)))
        .collect()
}

/// A row of `labels.csv` as an item whose target is not set yet.
struct Labelled {
    item: Item,
    /// Canonical path of the recording.
    file: PathBuf,
    /// The labels as text, sorted.
    label_names: Vec<String>,
    /// `None`: the row has no split.
    split: Option<Split>,
    /// Path and line of the row in `labels.csv`, for faults.
    at: String,
}

/// Lists the rows of `labels.csv` (at `path`), then the recordings that it does not name.
fn list_labelled(dataset: &'static str, root: &Path, path: &Path) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let mut table = Table::open(path)?;
    let columns = Columns {
        file: table.column("file")?,
        label: table.column("label")?,
        split: table.optional("split"),
        group: table.optional("group"),
        text: table.optional("text"),
        interval: [table.optional("start"), table.optional("end")],
    };
    let (mut rows, mut named, mut line_of) = (Vec::new(), HashSet::new(), HashMap::new());
    let mut names = FoldedNames::default();
    while let Some(row) = table.next(&mut catalogue)? {
        let at = table.at(row.line);
        // Also for a line with a fault: its recording must not be listed as an unlabelled item.
        named.extend(named_by(root, row.get(columns.file), &mut names));
        let labelled =
            read_row(root, &columns, &row, at.clone(), &mut names).and_then(|labelled| {
                let part = (
                    labelled.file.clone(),
                    labelled
                        .item
                        .interval
                        .map(|interval| interval.map(f64::to_bits)),
                );
                match line_of.get(&part) {
                    Some(first) => Err(format!("names the same file as line {first}")),
                    None => {
                        line_of.insert(part, row.line);
                        Ok(labelled)
                    }
                }
            });
        match labelled {
            Ok(labelled) => rows.push(labelled),
            Err(what) => catalogue.fault(at, format!("{what}: left out")),
        }
    }
    for cell in table.left_out() {
        named.extend(named_by(root, cell, &mut names));
    }
    if columns.split.is_none() {
        assign_splits(&mut rows);
    }
    let labels: BTreeSet<String> = rows
        .iter()
        .flat_map(|r| r.label_names.iter().cloned())
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let is_multi = rows.iter().any(|r| r.label_names.len() > 1);
    for Labelled {
        mut item,
        label_names,
        split,
        at,
        ..
    } in rows
    {
        item.split = split.unwrap_or(Split::Train);
        let of = |name: &String| labels.iter().position(|l| l == name);
        item.target = match &label_names[..] {
            [] => None,
            names if is_multi => Some(Target::Values(
                labels
                    .iter()
                    .map(|l| {
                        if names.iter().any(|name| name == l) {
                            1.0
                        } else {
                            0.0
                        }
                    })
                    .collect(),
            )),
            [name, ..] => of(name).map(Target::Class),
        };
        catalogue.add(item, at);
    }
    add_unnamed(root, &named, &mut names, &mut catalogue)?;
    catalogue.finish(dataset, &labels, root, LAYOUT)
}

/// The indices of the columns in the header of `labels.csv`.
struct Columns {
    file: usize,
    label: usize,
    split: Option<usize>,
    group: Option<usize>,
    text: Option<usize>,
    /// The columns `start` and `end`.
    interval: [Option<usize>; 2],
}

/// Converts a row of `labels.csv`. The error is the fault of the row as a sentence. `at`: path and
/// line of the row.
fn read_row(
    root: &Path,
    columns: &Columns,
    row: &Row,
    at: String,
    names: &mut FoldedNames,
) -> Result<Labelled, String> {
    let name = row.get(columns.file);
    let inside = !name.is_empty()
        && Path::new(name)
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(format!("the file {name:?} is not a path below the folder"));
    }
    // Without dots and doubled slashes, and in the Unicode form on disk, so that a file has one
    // id.
    let below: PathBuf = Path::new(name)
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect();
    let below = names
        .find(root, &below)
        .map_err(|ambiguous| format!("the file {name:?} {ambiguous}"))?;
    let path = root.join(&below);
    let media = if has_extension(&path, &PICTURE) {
        Media::Picture(Picture::File(path.clone()))
    } else if has_extension(&path, &VIDEO) || has_extension(&path, &AUDIO) {
        Media::Recording(path.clone())
    } else {
        return Err(format!(
            "the file {name:?} is neither a recording nor a picture"
        ));
    };
    if !tree::is_nonempty_file(&path) {
        return Err(format!("the file {name:?} is missing or empty"));
    }
    let split = match row
        .optional(columns.split)
        .map(str::to_lowercase)
        .as_deref()
    {
        None => None,
        Some("train" | "training") => Some(Split::Train),
        Some("val" | "valid" | "validation" | "dev") => Some(Split::Val),
        Some("test") => Some(Split::Test),
        Some(other) => {
            return Err(format!(
                "the split {other:?} is none of train, val and test"
            ));
        }
    };
    let [start, end] = columns.interval.map(|c| row.optional(c));
    let interval = match (start, end) {
        (None, None) => None,
        (Some(start), Some(end)) => match (start.parse::<f64>(), end.parse::<f64>()) {
            (Ok(start), Ok(end)) if start >= 0.0 && end > start && end.is_finite() => {
                Some([start, end])
            }
            _ => {
                return Err(format!(
                    "{start:?} to {end:?} is not an interval in seconds"
                ));
            }
        },
        _ => return Err("start and end are both given or neither".into()),
    };
    let label_names = row
        .get(columns.label)
        .split('|')
        .map(|w| w.trim().to_lowercase())
        .filter(|w| !w.is_empty())
        .collect::<BTreeSet<_>>();
    let id = match interval {
        None => below.display().to_string(),
        Some([start, end]) => format!("{}@{start}-{end}", below.display()),
    };
    let text = row.optional(columns.text).map(str::to_string);
    let text = match text {
        None if interval.is_none() && matches!(media, Media::Recording(_)) => {
            words_beside(&path, names)?
        }
        text => text,
    };
    let item = Item {
        id,
        split: Split::Train,
        group: row.optional(columns.group).unwrap_or_default().to_string(),
        media,
        interval,
        text,
        target: None,
    };
    Ok(Labelled {
        item,
        file: canonical(&path),
        label_names: label_names.into_iter().collect(),
        split,
        at,
    })
}

/// Assigns whole groups that have a label to splits: 15 % to test and 15 % to val, but at least one
/// group to each. With fewer than three groups, all items train. Unlabelled items get the split of
/// their group, so that no person is in training and test.
fn assign_splits(rows: &mut [Labelled]) {
    // A file without a group is a group: its intervals get the same split.
    let key = |row: &Labelled| {
        if row.item.group.is_empty() {
            row.file.display().to_string()
        } else {
            row.item.group.clone()
        }
    };
    let name = |row: &Labelled| {
        if row.item.group.is_empty() {
            row.item
                .id
                .split('@')
                .next()
                .unwrap_or_default()
                .to_string()
        } else {
            key(row)
        }
    };
    // Sorted by a hash of the names, not of the paths: the splits do not depend on the location
    // of the folder.
    let mut order: Vec<(String, String)> = rows
        .iter()
        .filter(|r| !r.label_names.is_empty())
        .map(|r| (key(r), name(r)))
        .collect::<BTreeMap<_, _>>()
        .into_iter()
        .collect();
    order.sort_by_key(|(_, name)| Sha256::digest(name.as_bytes()).to_vec());
    if order.len() < 3 {
        return;
    }
    let share = (order.len() * 15 / 100).max(1);
    let split_of: BTreeMap<String, Split> = order
        .into_iter()
        .enumerate()
        .map(|(place, (key, _))| {
            (
                key,
                if place < share {
                    Split::Test
                } else if place < 2 * share {
                    Split::Val
                } else {
                    Split::Train
                },
            )
        })
        .collect();
    for row in rows {
        row.split = split_of.get(&key(row)).copied();
    }
}

#[cfg(test)]
mod tests;
