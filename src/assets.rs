//! Finds the files that the programs need but do not contain: models, shared libraries, the
//! demonstration recording.
//!
//! The files are installed beside the program or lie in the project's folder. The project's folder
//! is searched at run time, because the path on the machine that built the program may not exist.

use std::path::{Path, PathBuf};

/// Paths that the project's folder, and no other, contains.
const MARKERS: [&str; 3] = ["Cargo.toml", "config/expressd.toml", "models/default"];

/// Paths where a file or folder may be, in the order of the search: `installed`, relative to the
/// prefix of the installation (of `<prefix>/bin/expressd`); each of `in_project` in the working
/// directory; each of `in_project` in the project's folder.
pub fn candidates(installed: &Path, in_project: &[PathBuf]) -> Vec<PathBuf> {
    candidates_in(
        prefix().as_deref(),
        project().as_deref(),
        installed,
        in_project,
    )
}

/// Finds a file or folder that is installed in `share/expressd`. An absolute path is returned
/// unchanged. A relative path is looked up in the working directory, then beside the program
/// (`../share/expressd/`), then in the project's folder. A path that exists in none of them is
/// returned unchanged.
pub fn locate(path: &Path) -> PathBuf {
    locate_in(path, prefix().as_deref(), project().as_deref())
}

/// The project's folder; `None` for an installed program.
///
/// The folder is that of the package that cargo runs (`cargo run`, `cargo test`), else the nearest
/// folder above the program that contains [`MARKERS`], as for `target/release/expressd`. A program
/// in another target folder that is started by hand finds the files if the project is the working
/// directory.
pub(crate) fn project() -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    // Cargo sets this variable for the processes that it starts. With CARGO_TARGET_DIR the program
    // is not below the project's folder.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let parents = program.ancestors().skip(1).map(Path::to_owned);
    let mut folders = package.into_iter().chain(parents);
    folders.find(|folder| is_project(folder))
}

/// The nearest folder above `path` that is a project's folder; `None` if there is none.
#[cfg(feature = "train")]
pub(crate) fn project_above(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|folder| is_project(folder))
}

/// Whether the folder contains all of [`MARKERS`].
fn is_project(folder: &Path) -> bool {
    MARKERS.iter().all(|marker| folder.join(marker).exists())
}

/// The prefix of the installation, the folder above the program's own: `/usr/local` for
/// `/usr/local/bin/expressd`.
fn prefix() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.to_owned())
}

/// As [`candidates`], with the prefix of the installation and the project's folder as arguments.
fn candidates_in(
    prefix: Option<&Path>,
    project: Option<&Path>,
    installed: &Path,
    in_project: &[PathBuf],
) -> Vec<PathBuf> {
    let beside = prefix.map(|prefix| prefix.join(installed));
    let in_folder = |folder: &Path| in_project.iter().map(|path| folder.join(path)).collect();
    let here = in_project.to_vec();
    let there: Vec<PathBuf> = project.map(in_folder).unwrap_or_default();
    beside.into_iter().chain(here).chain(there).collect()
}

/// As [`locate`], with the prefix of the installation and the project's folder as arguments.
fn locate_in(path: &Path, prefix: Option<&Path>, project: Option<&Path>) -> PathBuf {
    if path.is_absolute() || path.exists() {
        return path.to_owned();
    }
    let installed = Path::new("share/expressd").join(path);
    candidates_in(prefix, project, &installed, &[path.to_owned()])
        .into_iter()
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_searched_beside_the_program_before_the_project() {
        let [prefix, project] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let share = prefix.path().join("share/expressd");
        let find =
            |path: &str| locate_in(Path::new(path), Some(prefix.path()), Some(project.path()));
        std::fs::create_dir_all(project.path().join("models/no-such-one")).unwrap();
        assert_eq!(
            find("models/no-such-one"),
            project.path().join("models/no-such-one")
        );
        std::fs::create_dir_all(share.join("models/no-such-one")).unwrap();
        assert_eq!(find("models/no-such-one"), share.join("models/no-such-one"));
        assert_eq!(find("no/such/file"), Path::new("no/such/file"));
        assert_eq!(find("/no/such/file"), Path::new("/no/such/file"));
        assert_eq!(find("Cargo.toml"), Path::new("Cargo.toml"));
    }

    #[test]
    fn candidates_are_installed_then_in_the_working_directory_then_in_the_project() {
        let paths = [".deps/gpu/x.so", ".deps/cpu/x.so"].map(PathBuf::from);
        let installed = Path::new("lib/expressd/x.so");
        let found = |prefix: Option<&str>, project: Option<&str>| {
            candidates_in(
                prefix.map(Path::new),
                project.map(Path::new),
                installed,
                &paths,
            )
        };
        let expected = [
            "/usr/lib/expressd/x.so",
            ".deps/gpu/x.so",
            ".deps/cpu/x.so",
            "/src/.deps/gpu/x.so",
            "/src/.deps/cpu/x.so",
        ]
        .map(PathBuf::from);
        assert_eq!(found(Some("/usr"), Some("/src")), expected);
        assert_eq!(found(Some("/usr"), None), expected[..3]);
    }

    #[test]
    fn the_project_folder_of_a_test_is_this_package() {
        let project = project().expect("tests run in the project");
        assert!(project.join("src/assets.rs").is_file());
    }
}
