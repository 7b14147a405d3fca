//! Updates labels, splits and groups of extracted items from a newer listing. They are stored in
//! the index, apart from the values of the rows, so no recording is extracted again. Recordings
//! that have changed since are detected.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::StoreError;
use super::index::{Header, Line};
use super::stamp::{Comparison, FileStamp};
use crate::train::data::{Item, Target};

/// What to do if recordings have changed since the extraction of their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenChanged {
    /// Fail with an error that names the recordings.
    #[default]
    Refuse,
    /// Extract the recordings again. Their old rows stay on disk and are not used.
    Extract,
    /// Keep the rows of the old recordings.
    Keep,
}

/// Numbers of finished items whose metadata differ in a newer listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relabelled {
    /// Number of items with a changed label, split or group.
    pub items: usize,
    /// Number of items with changed text. Their rows stay those of the old text.
    pub words: usize,
}

/// Converts targets from one list of labels to another, by the labels' names.
#[derive(Debug)]
pub(super) struct Renaming {
    /// For each label of the old list: its index in the new list; `None` if it is not in it.
    places: Vec<Option<usize>>,
    /// Number of labels in the new list.
    count: usize,
}

impl Renaming {
    /// The conversion from the list of labels `theirs` to the list `ours`.
    pub fn new(theirs: &[String], ours: &[String]) -> Renaming {
        Renaming {
            places: theirs
                .iter()
                .map(|name| ours.iter().position(|other| other == name))
                .collect(),
            count: ours.len(),
        }
    }

    /// The target with indices in the new list. `None` if its class is not in the new list; values
    /// of labels that are not in it are dropped.
    pub fn target(&self, target: &Target) -> Option<Target> {
        let place = |own: usize| self.places.get(own).copied().flatten();
        match target {
            Target::Class(class) => place(*class).map(Target::Class),
            Target::Values(values) => {
                let mut all = vec![0.0; self.count];
                values
                    .iter()
                    .enumerate()
                    .filter_map(|(own, value)| Some((place(own)?, value)))
                    .for_each(|(place, value)| all[place] = *value);
                Some(Target::Values(all))
            }
        }
    }
}

/// The indices of the labels that the target has: its class, or the labels with a value above 0.
pub(super) fn held(target: &Target) -> BTreeSet<usize> {
    match target {
        Target::Class(class) => [*class].into(),
        Target::Values(values) => (0..values.len()).filter(|i| values[*i] > 0.0).collect(),
    }
}

/// The result of updating an index from a newer listing.
#[derive(Debug, Default)]
pub(super) struct Renewed {
    /// The whole new index; `None` if it does not change.
    pub text: Option<Vec<u8>>,
    /// Numbers of items with changed metadata.
    pub relabelled: Relabelled,
    /// Ids of the items whose recordings have changed since the extraction.
    pub changed: Vec<String>,
}

/// The lists of labels before and after the update of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelLists<'a> {
    /// The labels that the targets of the index use now.
    pub theirs: &'a [String],
    /// The labels of the newer listing.
    pub ours: &'a [String],
    /// Whether an index that uses `ours` needs a header, because `ours` is not the store's first
    /// list.
    pub needs_header: bool,
}

/// Updates the index `text` from the listed `items`. Items that are no longer listed keep their
/// metadata. With [`WhenChanged::Extract`], the lines of changed recordings become stale.
///
/// # Errors
/// A line cannot be parsed. `path`: the index, for this error.
pub(super) fn renew(
    text: &[u8],
    path: &Path,
    labels: LabelLists<'_>,
    items: &[Item],
    when_changed: WhenChanged,
) -> Result<Renewed, StoreError> {
    let listed: HashMap<&str, &Item> = items.iter().map(|item| (item.id.as_str(), item)).collect();
    let renaming = Renaming::new(labels.theirs, labels.ours);
    let (old_header, start) = Header::parse_start(text).unzip();
    let header = labels.needs_header.then(|| Header {
        labels: labels.ours.to_vec(),
    });
    let mut is_other = header != old_header;
    let mut all = Vec::with_capacity(text.len());
    all.extend(header.iter().flat_map(Header::line));
    let mut renewed = Renewed::default();
    let lines = &text[start.unwrap_or(0)..];
    for (number, bytes) in lines.split_inclusive(|b| *b == b'\n').enumerate() {
        let malformed = |e: serde_json::Error| StoreError::Malformed {
            path: path.to_owned(),
            what: format!("line {} is {e}", number + 1 + usize::from(start.is_some())),
        };
        let mut line: Line = serde_json::from_slice(bytes).map_err(malformed)?;
        let item = listed.get(line.item.as_str()).filter(|_| !line.stale);
        let mut differs_on_disk = false;
        match item.map_or(Comparison::Same, |item| {
            FileStamp::compare(&line.media, &item.media)
        }) {
            Comparison::Same => {}
            Comparison::Touched(media) => (line.media, differs_on_disk) = (media, true),
            Comparison::Changed => {
                renewed.changed.push(line.item.clone());
                if when_changed == WhenChanged::Extract {
                    (line.stale, differs_on_disk) = (true, true);
                }
            }
        }
        let (mut renamed, mut differs, mut other_words) = (false, false, false);
        for entry in line.rows.iter_mut().map(|row| &mut row.entry) {
            let target = entry
                .target
                .as_ref()
                .and_then(|target| renaming.target(target));
            renamed |= target != entry.target;
            entry.target = target;
            if let Some(item) = item.filter(|_| !line.stale) {
                differs |= (&entry.target, entry.split, &entry.group)
                    != (&item.target, item.split, &item.group);
                other_words |= entry.text != item.text;
                (entry.target, entry.split, entry.group) =
                    (item.target.clone(), item.split, item.group.clone());
            }
        }
        renewed.relabelled.items += usize::from(differs);
        renewed.relabelled.words += usize::from(other_words);
        if renamed || differs || differs_on_disk {
            is_other = true;
            all.extend(line.text());
        } else {
            all.extend_from_slice(bytes);
        }
    }
    renewed.text = is_other.then_some(all);
    Ok(renewed)
}
