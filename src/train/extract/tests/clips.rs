//! Tests of rows of windows and of whole recordings.

use clap::Parser;

use super::*;
use crate::manifest::WindowRule;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ExtractArgs,
}

#[test]
fn rows_are_windows_as_served_by_default_and_the_store_states_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    std::fs::copy(demo(), root.join("demo.mp4")).unwrap();
    let listing = data::list("folder", &root, &Options::default()).unwrap();
    let encoders = project("models/default");
    let extracted = |name: &str, more: &[&str]| {
        let store = folder.path().join(name);
        let mut line = vec![
            "extract",
            "--dataset",
            "folder",
            "--root",
            ".",
            "--limit",
            "1",
        ];
        let paths = [encoders.to_str().unwrap(), store.to_str().unwrap()];
        line.extend(["--encoders", paths[0], "--store", paths[1]]);
        let args = Command::try_parse_from(line.iter().chain(more))
            .unwrap()
            .args;
        extract(&listing, &args, &AtomicBool::new(false)).unwrap();
        Store::open(&store).unwrap()
    };
    let served = EncoderSetFiles::read(std::slice::from_ref(&encoders))
        .unwrap()
        .manifest()
        .window;
    assert!(served.half_life_ms.is_some());

    let windows = extracted("windows", &[]);
    assert_eq!(windows.spec().window, Some(served));
    assert!(windows.spec().has_windows() && windows.entries().len() > 1);
    assert!(
        windows
            .entries()
            .iter()
            .all(|e| e.item() == "demo.mp4" && e.start_ms().is_some())
    );

    let whole = extracted("whole", &["--clips", "recording"]);
    let alike = WindowRule {
        hop_ms: served.length_ms,
        half_life_ms: None,
        ..served
    };
    assert_eq!(whole.spec().window, Some(alike));
    assert_eq!(whole.entries().len(), 1);
}
