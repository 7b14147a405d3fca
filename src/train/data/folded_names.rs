//! Lookup of files whose names may differ in their Unicode form from the name in a table: macOS
//! writes `é` as two code points, most tables as one.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

/// The name in Unicode normal form C. Names are equal if their normal forms are equal.
pub fn folded(name: &str) -> String {
    name.nfc().collect()
}

/// The error for a name that two files match in different Unicode forms. The fields are these
/// files; the message shows their code points.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stands for two files that differ in their Unicode form only, {0:?} and {1:?}")]
pub struct Ambiguous(pub PathBuf, pub PathBuf);

/// A cache of the file names in folders, by their Unicode normal form. A folder is read once, when
/// a name is first not found as written.
#[derive(Debug, Default)]
pub struct FoldedNames {
    /// For each folder: the names on disk by their normal form.
    folders: HashMap<PathBuf, HashMap<String, Vec<String>>>,
}

impl FoldedNames {
    /// The path, relative to `root`, of the file that `below` names: `below` itself if this file
    /// exists, or else a path with the same normal form. If there is none, `below` is returned
    /// unchanged.
    ///
    /// # Errors
    /// Two files have the normal form of `below`, and neither is written like `below`.
    pub fn find(&mut self, root: &Path, below: &Path) -> Result<PathBuf, Ambiguous> {
        let as_written = below.to_path_buf();
        let (Some(text), false) = (below.to_str(), root.join(below).exists()) else {
            return Ok(as_written);
        };
        let is_inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
        if text.is_ascii() || !below.components().all(is_inside) {
            return Ok(as_written);
        }
        let mut found = vec![PathBuf::new()];
        for component in below.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let name = folded(&name.to_string_lossy());
            let mut deeper = Vec::new();
            for path in &found {
                let names = self.folder(root.join(path)).get(&name);
                deeper.extend(names.into_iter().flatten().map(|name| path.join(name)));
            }
            found = deeper;
        }
        found.sort();
        match &found[..] {
            [] => Ok(as_written),
            [one] => Ok(one.clone()),
            [one, other, ..] => Err(Ambiguous(one.clone(), other.clone())),
        }
    }

    /// The names in the folder `path` by their normal form; empty if it cannot be read.
    fn folder(&mut self, path: PathBuf) -> &HashMap<String, Vec<String>> {
        self.folders.entry(path).or_insert_with_key(|path| {
            let mut names: HashMap<String, Vec<String>> = HashMap::new();
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
                names.entry(folded(&name)).or_default().push(name);
            }
            names
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    // The letter é in normal forms C (one code point) and D (two).
    const C: &str = "\u{e9}";
    const D: &str = "e\u{301}";

    #[test]
    fn names_are_found_as_written_or_else_by_their_normal_form() {
        let tree = Tree::new(&[
            &format!("{D}/{C}1.mp4"),
            &format!("{C}2.mp4"),
            &format!("{D}2.mp4"),
            &format!("{C}{D}3.mp4"),
            &format!("{D}{C}3.mp4"),
        ]);
        let mut names = FoldedNames::default();
        let mut find = |name: String| names.find(tree.path(), Path::new(&name));
        let path = |name: String| Ok(PathBuf::from(name));
        assert_eq!(find(format!("{C}/{D}1.mp4")), path(format!("{D}/{C}1.mp4")));
        for form in [C, D] {
            assert_eq!(find(format!("{form}2.mp4")), path(format!("{form}2.mp4")));
        }
        let error = find(format!("{C}{C}3.mp4")).unwrap_err();
        let expected = Ambiguous(format!("{D}{C}3.mp4").into(), format!("{C}{D}3.mp4").into());
        assert_eq!(error, expected);
        assert!(error.to_string().contains("\"e\\u{301}é3.mp4\""), "{error}");
        assert_eq!(find(format!("{C}4.mp4")), path(format!("{C}4.mp4")));
        assert_eq!(find(format!("../{C}2.mp4")), path(format!("../{C}2.mp4")));
    }
}
