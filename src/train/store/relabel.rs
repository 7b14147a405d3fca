//! Relabelling of extracted items by a newer listing. Labels, splits and groups are stored apart
//! from the rows, so no recording is played again.

use std::collections::HashMap;
use std::path::Path;

use super::{Line, StoreError};
use crate::train::data::{Item, Target};

/// Differences from the stored items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relabelled {
    /// Items with a changed label, split or group.
    pub items: usize,
    /// Items with changed words. Their rows are still of the old words.
    pub words: usize,
}

/// Targets by the labels `theirs` as targets by `ours`, by name.
struct Renaming {
    places: Vec<Option<usize>>,
    count: usize,
}

impl Renaming {
    fn new(theirs: &[String], ours: &[String]) -> Renaming {
        Renaming {
            places: theirs
                .iter()
                .map(|name| ours.iter().position(|other| other == name))
                .collect(),
            count: ours.len(),
        }
    }

    fn of(&self, target: &Target) -> Option<Target> {
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

/// The index `text` updated from `items`, and the differences; `None` if every line stays as it is.
/// Items that are not listed (any more) keep their metadata.
pub(super) fn relabelled(
    text: &[u8],
    path: &Path,
    theirs: &[String],
    ours: &[String],
    items: &[Item],
) -> Result<(Option<Vec<u8>>, Relabelled), StoreError> {
    let listed: HashMap<&str, &Item> = items.iter().map(|item| (item.id.as_str(), item)).collect();
    let renaming = Renaming::new(theirs, ours);
    let (mut all, mut is_other, mut relabelled) =
        (Vec::with_capacity(text.len()), false, Relabelled::default());
    for (number, bytes) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        let malformed = |e: serde_json::Error| StoreError::Malformed {
            path: path.to_owned(),
            what: format!("line {} is {e}", number + 1),
        };
        let mut line: Line = serde_json::from_slice(bytes).map_err(malformed)?;
        let item = listed.get(line.item.as_str());
        let (mut renamed, mut differs, mut other_words) = (false, false, false);
        for entry in line.rows.iter_mut().map(|row| &mut row.entry) {
            let target = entry.target.as_ref().and_then(|target| renaming.of(target));
            renamed |= target != entry.target;
            entry.target = target;
            if let Some(item) = item {
                differs |= (&entry.target, entry.split, &entry.group)
                    != (&item.target, item.split, &item.group);
                other_words |= entry.text != item.text;
                (entry.target, entry.split, entry.group) =
                    (item.target.clone(), item.split, item.group.clone());
            }
        }
        relabelled.items += usize::from(differs);
        relabelled.words += usize::from(other_words);
        if renamed || differs {
            is_other = true;
            serde_json::to_writer(&mut all, &line).expect("a line serialises");
            all.push(b'\n');
        } else {
            all.extend_from_slice(bytes);
        }
    }
    Ok((is_other.then_some(all), relabelled))
}
