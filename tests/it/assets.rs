//! Tests that a program that cargo has not started finds its files, in the project or in an
//! installation.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::harness::{demo, events, project, stderr};

/// Runs `program` on the demonstration recording, from an empty folder and without cargo's
/// environment variables; expects events.
fn check_replay_of_demonstration(program: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(["replay", "--jsonl", "-"])
        .arg(demo())
        .current_dir(elsewhere.path())
        .env_remove("CARGO_MANIFEST_DIR")
        .output()
        .unwrap();
    let printed = stderr(&output);
    assert!(output.status.success(), "{printed}");
    let expressions = events(&output.stdout)
        .iter()
        .filter(|event| event["type"] == "expression")
        .count();
    assert!(expressions > 0, "{printed}");
}

/// Copies the program `expressd` to the path `to`.
fn copy_program(to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_expressd"), to).unwrap();
}

#[test]
fn a_program_in_its_target_folder_finds_the_project() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["Cargo.toml", "config", "models", ".deps"] {
        symlink(project(part), folder.path().join(part)).unwrap();
    }
    let program = folder.path().join("target/release/expressd");
    copy_program(&program);
    check_replay_of_demonstration(&program);
}

/// The folder has the layout of `make install`.
#[test]
fn an_installed_program_finds_its_files() {
    let prefix = tempfile::tempdir().unwrap();
    let program = prefix.path().join("bin/expressd");
    copy_program(&program);
    let [lib, share] = ["lib/expressd", "share/expressd"].map(|part| prefix.path().join(part));
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::create_dir_all(&share).unwrap();
    symlink(project("models"), share.join("models")).unwrap();
    for folder in [".deps/onnxruntime", ".deps/silero_vad"] {
        for file in std::fs::read_dir(project(folder)).unwrap() {
            let file = file.unwrap();
            if file.file_name().to_string_lossy().starts_with(['l', 's']) {
                symlink(file.path(), lib.join(file.file_name())).unwrap();
            }
        }
    }
    check_replay_of_demonstration(&program);
}
