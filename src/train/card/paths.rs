//! Paths in a model card.

use std::path::{Path, PathBuf};

use crate::assets::project_above;

/// The path as model cards show it, without folder names of the machine: relative to the project's
/// folder if the path is inside it, otherwise the last component. A project's folder is one that
/// `project_above` recognises.
pub fn shown_path(path: &Path) -> String {
    let full = resolved(path).unwrap_or_else(|| path.to_owned());
    let inside = project_above(&full).and_then(|project| full.strip_prefix(project).ok());
    let shown = inside.or(full.file_name().map(Path::new));
    shown.unwrap_or(Path::new("")).display().to_string()
}

/// The absolute path without symbolic links and `..`; the last component need not exist. `None`:
/// the parent folder does not exist.
fn resolved(path: &Path) -> Option<PathBuf> {
    let full = std::fs::canonicalize(path).ok();
    full.or_else(|| {
        Some(
            std::fs::canonicalize(path.parent()?)
                .ok()?
                .join(path.file_name()?),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_a_project_are_relative_to_it_and_others_are_file_names() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        for inside in ["config/train", "models/default", "src"] {
            std::fs::create_dir_all(project.join(inside)).unwrap();
        }
        for file in [
            "Cargo.toml",
            "config/expressd.toml",
            "config/train/x.toml",
            "../x.toml",
        ] {
            std::fs::write(project.join(file), "").unwrap();
        }
        for (path, expected) in [
            ("config/train/x.toml", "config/train/x.toml"),
            ("src/../models/default", "models/default"),
            ("models/mine", "models/mine"),
            ("src/../../x.toml", "x.toml"),
            ("../no-such.toml", "no-such.toml"),
            ("no/such/y.toml", "no/such/y.toml"),
        ] {
            assert_eq!(shown_path(&project.join(path)), expected);
        }
        assert_eq!(shown_path(Path::new("/no/such/y.toml")), "y.toml");
    }
}
