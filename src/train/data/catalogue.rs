//! Construction of a listing: keeps ids unique, and collects faults beside the items.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use super::{DataError, Fault, Item, Listing, Media, Picture};

/// A listing under construction.
#[derive(Default)]
pub struct Catalogue {
    items: BTreeMap<String, Item>,
    faults: Vec<Fault>,
}

impl Catalogue {
    /// Adds an item; `at` is the file or the line of a file in which it was found. A second item
    /// with the same id becomes a fault, and the first item stays.
    pub fn add(&mut self, item: Item, at: impl Into<String>) {
        match self.items.entry(item.id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(item);
            }
            Entry::Occupied(entry) => {
                let first = place(&entry.get().media).unwrap_or_else(|| "an earlier line".into());
                let what = format!("its id {} is taken by {first}: left out", item.id);
                self.fault(at, what);
            }
        }
    }

    /// Adds a fault: `at` is its file, line or item, `what` the fault in one sentence.
    pub fn fault(&mut self, at: impl Into<String>, what: impl Into<String>) {
        self.faults.push(Fault {
            at: at.into(),
            what: what.into(),
        });
    }

    /// The fault that was added first; `None` if there is no fault.
    pub fn first_fault(&self) -> Option<&Fault> {
        self.faults.first()
    }

    /// The positions ([`Fault::at`]) of all faults so far.
    pub fn fault_places(&self) -> impl Iterator<Item = &str> {
        self.faults.iter().map(|fault| fault.at.as_str())
    }

    /// Moves the faults for which `is_wanted` is true to `other`. Drops the other faults and all
    /// items.
    pub fn move_faults(self, other: &mut Catalogue, is_wanted: impl Fn(&Fault) -> bool) {
        other
            .faults
            .extend(self.faults.into_iter().filter(is_wanted));
    }

    /// The listing of the data set `dataset` in the folder `root`.
    ///
    /// # Errors
    /// [`DataError::Empty`]: there is no item. Its message states `layout`, the expected files.
    pub fn finish(
        self,
        dataset: &'static str,
        labels: &[&str],
        root: &Path,
        layout: &'static str,
    ) -> Result<Listing, DataError> {
        if self.items.is_empty() {
            return Err(DataError::Empty {
                dataset,
                root: root.to_path_buf(),
                layout,
                faults: self.faults,
            });
        }
        Ok(Listing {
            dataset: dataset.to_string(),
            labels: labels.iter().map(|l| l.to_string()).collect(),
            items: self.items.into_values().collect(),
            faults: self.faults,
        })
    }
}

/// The path of an item's media, for a message; `None` if it has no file.
fn place(media: &Media) -> Option<String> {
    match media {
        Media::Recording(path)
        | Media::Picture(Picture::File(path))
        | Media::Separate { video: path, .. } => Some(path.display().to_string()),
        Media::Picture(Picture::Grey { .. }) | Media::None => None,
    }
}
