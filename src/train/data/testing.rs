//! Helpers of the loaders' tests: temporary folders in the layouts of data sets.

use std::path::Path;

use super::{DataError, Item, Listing, Options};

/// A temporary folder with files in the layout of a data set, deleted on drop.
pub struct Tree(tempfile::TempDir);

impl Tree {
    /// A folder with these files; each contains one byte.
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

    /// Writes `text` to `file` (a path below the folder) and creates its parent folders.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Copies the file `material` of the test material to `file`, a path below the folder. Returns
    /// false if the material is not installed.
    pub fn copy(&self, material: &str, file: &str) -> bool {
        let Some(from) = crate::testing::material(material) else {
            return false;
        };
        let to = self.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
        true
    }

    /// Lists the folder as the data set `name` with default options.
    pub fn list(&self, name: &str) -> Result<Listing, DataError> {
        super::list(name, self.path(), &Options::default())
    }
}

/// The ids of the items, in the listing's order.
pub fn ids(listing: &Listing) -> Vec<&str> {
    listing.items.iter().map(|i| i.id.as_str()).collect()
}

/// The item with this id; panics if there is none.
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
