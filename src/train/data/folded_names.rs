//! Comparison of file names that differ only in their Unicode form: macOS writes `é` as two code
//! points, most tables as one.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

/// The name in normal form C. Names are compared in this form.
pub fn folded(name: &str) -> String {
    name.nfc().collect()
}

/// The error for a name that matches two files equally. The message shows their code points.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stands for two files that differ in their Unicode form only, {0:?} and {1:?}")]
pub struct Ambiguous(pub PathBuf, pub PathBuf);

/// The files of folders by the normal form of their names. A folder is read once, when a name is
/// not found as written.
#[derive(Debug, Default)]
pub struct FoldedNames {
    folders: HashMap<PathBuf, HashMap<String, Vec<String>>>,
}

impl FoldedNames {
    /// The existing path below `root` that `below` refers to: the path as written, or else the one
    /// with the same normal form. Returns `below` unchanged if there is none.
    ///
    /// # Errors
    /// Several files have this normal form, and none is written like `below`.
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

    const C: &str = "\u{e9}";
    const D: &str = "e\u{301}";

    #[test]
    fn names_are_found_as_written_first_and_by_their_normal_form_then() {
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
