//! Tests that links, commands, keys and figures in the README and its guides are right, and that
//! its client runs as printed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use expressd::config::KEYS;
use expressd::hub::Ring;
use expressd::serve::{ServeSettings, start};
use expressd::testing::project;
use expressd::testing::server::{BareState, sample_expression};

/// The README and the guides that it links.
const GUIDES: [&str; 4] = [
    "README.md",
    "config/README.md",
    "src/train/guide.md",
    "tests/bench/README.md",
];

/// Reads a text file of the project.
fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap()
}

fn readme() -> String {
    read("README.md")
}

/// Each part of `text` between `open` and the next `close`.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open)
        .skip(1)
        .filter_map(|rest| rest.split_once(close))
        .map(|(inner, _)| inner)
        .collect()
}

#[test]
fn links_commands_and_keys_of_the_guides_exist() {
    for guide in GUIDES {
        check_guide(guide);
    }
    let text = readme();
    assert!(text.lines().count() <= 150, "a guide, no reference");
    for path in [
        "src/lib.rs",
        "src/event.rs",
        "models/README.md",
        "config/setup/packages.txt",
        "config/setup/wheels.txt",
        "systemd/expressd.service",
    ] {
        assert!(text.contains(path) && project(path).exists(), "{path}");
    }
}

/// The first word of the cell in the model card's row `name` and the column whose heading begins
/// with `column`.
fn card_value(card: &str, name: &str, column: &str) -> String {
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let lines: Vec<&str> = card.lines().collect();
    let row = (lines
        .iter()
        .position(|line| line.starts_with(&format!("| {name} |"))))
    .unwrap_or_else(|| panic!("no row {name:?} in the card"));
    let heading = (lines[..row].iter().rev())
        .find(|line| line.starts_with("| model"))
        .expect("a table has a heading");
    let at = (cells(heading).iter())
        .position(|found| found.starts_with(column))
        .unwrap_or_else(|| panic!("no column {column:?} in {heading}"));
    let value = cells(lines[row])[at].clone();
    value.split(' ').next().unwrap().to_owned()
}

#[test]
fn figures_in_the_guides_equal_those_of_the_model_card() {
    let card = read("models/default/MODEL_CARD.md");
    let faces = "face encoder: FER2013 PublicTest (deduplicated), majority label";
    let figures = [
        ("faces", faces, "accuracy"),
        (
            "voices",
            "voice encoder: RAVDESS actors 18-21, per clip",
            "accuracy",
        ),
        (
            "words",
            "head, text alone: MELD development utterances",
            "weighted F1",
        ),
    ];
    for guide in ["README.md", "tests/bench/README.md"] {
        let text = read(guide);
        for (what, row, column) in figures {
            let stated = format!("{what} {}", card_value(&card, row, column));
            assert!(text.contains(&stated), "{guide} lacks {stated:?}");
        }
    }
}

#[test]
fn the_comparison_with_other_packages_is_the_same_everywhere() {
    let section = read("src/train/card_peers.md");
    assert!(read("models/default/MODEL_CARD.md").contains(&format!("\n\n{section}\n## ")));
    let bench = read("tests/bench/README.md");
    let rows: Vec<&str> = section.lines().filter(|l| l.starts_with('|')).collect();
    assert!(rows.len() > 2, "a table");
    for row in rows {
        assert!(bench.contains(row), "tests/bench/README.md lacks {row}");
    }
}

/// Checks that the links, make targets and configuration keys in a guide exist.
fn check_guide(guide: &str) {
    let text = read(guide);
    let folder = Path::new(guide).parent().unwrap();
    for link in between(&text, "](", ")")
        .into_iter()
        .filter(|link| !link.contains("://"))
    {
        let target = project(folder.join(link).to_str().unwrap());
        assert!(target.exists(), "{guide} links {link}");
    }
    let makefile = read("Makefile");
    let commands = text
        .match_indices("make ")
        .map(|(at, _)| &text[at + 5..])
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    for rest in commands.filter(|rest| !rest.starts_with("and ")) {
        let target: String = rest
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        assert!(
            makefile.contains(&format!("\n{target}:")),
            "{guide} types make {target}"
        );
    }
    for set in between(&text, "--set ", "=") {
        assert!(KEYS.iter().any(|key| key.name == set), "{guide} sets {set}");
    }
}

#[test]
fn the_client_of_the_readme_runs_as_printed() {
    let text = readme();
    let client = between(&text, "```python\n", "```")[0];
    assert!(client.lines().count() <= 20, "twenty lines");

    let settings = ServeSettings {
        listen: vec![([127, 0, 0, 1], 0).into()],
        ..ServeSettings::default()
    };
    let ring = Arc::new(Ring::default());
    let server =
        start(settings, ring.clone(), Arc::new(BareState::default())).expect("a free port");
    let client = client.replace("127.0.0.1:8765", &server.addr().to_string());
    let mut child = Command::new("python3")
        .args(["-u", "-c", &client])
        .env("PYTHONPATH", project(".deps/python"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let reader = BufReader::new(child.stdout.take().unwrap());
    let listening = std::thread::Builder::new()
        .name("client".into())
        .spawn(move || {
            reader
                .lines()
                .take(4)
                .collect::<Result<Vec<_>, _>>()
                .unwrap()
        })
        .unwrap();
    for number in 0..3000 {
        if listening.is_finished() {
            break;
        }
        ring.publish(sample_expression(number));
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let ended = child.wait_with_output().unwrap();
    let lines = listening.join().unwrap();
    assert_eq!(
        lines.len(),
        4,
        "{lines:?}\n{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(
        lines[0].starts_with("session ") && lines[0].contains("'neutral', 'happy'"),
        "{lines:?}"
    );
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.contains(" s  ") && line.ends_with("0.81")),
        "{lines:?}"
    );
}
