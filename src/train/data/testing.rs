//! Small folders with the layouts of data sets.

use std::path::Path;

use super::{DataError, Item, Listing, Options};

/// A temporary folder.
pub struct Tree(tempfile::TempDir);

impl Tree {
    /// A folder with these files, each a byte long.
    pub fn new(files: &[&str]) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for file in files {
            tree.write(file, "x");
        }
        tree
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, and its parent folders.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Copies a file of the test material to `file`; false if it is not installed.
    pub fn copy(&self, material: &str, file: &str) -> bool {
        let Some(from) = crate::testing::material(material) else {
            return false;
        };
        let to = self.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
        true
    }

    /// The listing of the folder as the data set `name`.
    pub fn list(&self, name: &str) -> Result<Listing, DataError> {
        super::list(name, self.path(), &Options::default())
    }
}

/// The ids of the items, in order.
pub fn ids(listing: &Listing) -> Vec<&str> {
    listing.items.iter().map(|i| i.id.as_str()).collect()
}

/// The item with this id.
pub fn item<'a>(listing: &'a Listing, id: &str) -> &'a Item {
    listing
        .items
        .iter()
        .find(|i| i.id == id)
        .unwrap_or_else(|| panic!("no {id} in {:?}", ids(listing)))
}

/// Number of faults whose position contains `at` and whose text contains `what`.
pub fn faults(listing: &Listing, at: &str, what: &str) -> usize {
    listing
        .faults
        .iter()
        .filter(|f| f.at.contains(at) && f.what.contains(what))
        .count()
}
