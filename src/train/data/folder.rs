//! Any folder of recordings, with a `labels.csv` or without.
//!
//! `labels.csv` lies at the root; its header is `file,label` and, as wanted, `split`, `group`, `text`, `start`, `end`:
//!
//! ```text
//! file,label,split,group,text
//! anna/001.mp4,happy,train,anna,"well, that went fine"
//! ben/007.wav,angry|surprised,test,ben,
//! ```
//! * `file` is a path below the root; pictures (`jpg`, `png`) are faces cut out already.
//! * `label`: empty means not labelled. Labels are the words found, sorted. Where any cell holds several (`happy|surprised`) the task is
//!   multi-label and every target is a vector of 0 and 1.
//! * `split`: `train`, `val` or `test`; empty means train. Without the column whole groups (whole files, where there is no group) that have
//!   a label are dealt out: 15 % of them to test, 15 % to val, in an order made of their names; with fewer than three all train.
//! * `start` and `end` are in seconds: the item is that part of the file.
//!
//! Every recording below the root that `labels.csv` does not name is an item to train on, without a label; so are all of them where there
//! is no such file. The words beside a whole recording in `<name>.txt` (first line) or `<name>.align` (GRID's: start, end, word) are its
//! text, unless `labels.csv` gives one.
//!
//! The daemon's own recordings (`recordings`) are such a folder, whether there are labels or not: `expressd` has no verb that records yet,
//! and the events (`.jsonl`) that a replay writes beside a recording are passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::catalogue::Catalogue;
use super::table::{Row, Table};
use super::tree::{self, AUDIO, PICTURE, VIDEO, has_extension, walk};
use super::{DataError, Item, Listing, Media, Options, Picture, Split, Target};

const LAYOUT: &str = "recordings at any depth, or labels.csv with the columns file and label";

pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    list_as("folder", root)
}

/// The daemon's own recordings.
pub fn list_recordings(root: &Path, _: &Options) -> Result<Listing, DataError> {
    list_as("recordings", root)
}

fn list_as(dataset: &'static str, root: &Path) -> Result<Listing, DataError> {
    let table = root.join("labels.csv");
    if table.is_file() { list_labelled(dataset, root, &table) } else { list_all(dataset, root) }
}

fn list_all(dataset: &'static str, root: &Path) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    add_unnamed(root, &HashSet::new(), &mut catalogue)?;
    catalogue.finish(dataset, &[], root, LAYOUT)
}

/// The recordings below the root that are not among those `named`, without labels.
fn add_unnamed(root: &Path, named: &HashSet<PathBuf>, catalogue: &mut Catalogue) -> Result<(), DataError> {
    let extensions: Vec<&str> = VIDEO.iter().chain(&AUDIO).copied().collect();
    let is_named = |path: &Path| !named.is_empty() && named.contains(&canonical(path));
    let mut found = Catalogue::default();
    for file in walk(root, &extensions, &mut found)?.into_iter().filter(|file| !is_named(&file.path)) {
        let at = file.path.display().to_string();
        let text = words_beside(&file.path);
        let item =
            Item { id: file.relative(), split: Split::Train, group: String::new(), media: Media::Recording(file.path), interval: None, text, target: None };
        catalogue.add(item, at);
    }
    // What is wrong with a file that is named was said of its line.
    found.hand_faults_to(catalogue, |fault| !is_named(Path::new(&fault.at)));
    Ok(())
}

/// One path for one file, whatever links and dots lead to it.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

fn words_beside(recording: &Path) -> Option<String> {
    let read = |extension| Some(String::from_utf8_lossy(&std::fs::read(recording.with_extension(extension)).ok()?).into_owned());
    let text = read("txt").and_then(|t| t.lines().next().map(|line| line.trim_start_matches('\u{feff}').trim().to_string()));
    let aligned = || {
        let words = read("align")?;
        let spoken = words.lines().filter_map(|l| l.split_whitespace().nth(2)).filter(|w| !["sil", "sp"].contains(w));
        Some(spoken.collect::<Vec<_>>().join(" "))
    };
    text.or_else(aligned).filter(|t| !t.is_empty())
}

/// A row whose labels are words still.
struct Labelled {
    item: Item,
    file: PathBuf,
    words: Vec<String>,
    split: Option<Split>,
    at: String,
}

fn list_labelled(dataset: &'static str, root: &Path, path: &Path) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let mut table = Table::open(path)?;
    let columns = Columns {
        file: table.column("file")?,
        label: table.column("label")?,
        split: table.optional("split"),
        group: table.optional("group"),
        text: table.optional("text"),
        interval: [table.optional("start"), table.optional("end")],
    };
    let (mut rows, mut named, mut line_of) = (Vec::new(), HashSet::new(), HashMap::new());
    while let Some(row) = table.next(&mut catalogue)? {
        let at = table.at(row.line);
        // A line with a fault names its recording all the same: it must not come back as one to train on.
        named.insert(canonical(&root.join(row.get(columns.file))));
        let labelled = read_row(root, &columns, &row, at.clone()).and_then(|labelled| {
            let part = (labelled.file.clone(), labelled.item.interval.map(|interval| interval.map(f64::to_bits)));
            match line_of.get(&part) {
                Some(first) => Err(format!("names the same file as line {first}")),
                None => {
                    line_of.insert(part, row.line);
                    Ok(labelled)
                }
            }
        });
        match labelled {
            Ok(labelled) => rows.push(labelled),
            Err(what) => catalogue.fault(at, format!("{what}: left out")),
        }
    }
    named.extend(table.left_out().iter().map(|cell| canonical(&root.join(cell))));
    if columns.split.is_none() {
        deal_out(&mut rows);
    }
    let labels: BTreeSet<String> = rows.iter().flat_map(|r| r.words.iter().cloned()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let is_multi = rows.iter().any(|r| r.words.len() > 1);
    for Labelled { mut item, words, split, at, .. } in rows {
        item.split = split.unwrap_or(Split::Train);
        let of = |word: &String| labels.iter().position(|l| l == word);
        item.target = match &words[..] {
            [] => None,
            words if is_multi => Some(Target::Values(labels.iter().map(|l| if words.iter().any(|w| w == l) { 1.0 } else { 0.0 }).collect())),
            [word, ..] => of(word).map(Target::Class),
        };
        catalogue.add(item, at);
    }
    add_unnamed(root, &named, &mut catalogue)?;
    catalogue.finish(dataset, &labels, root, LAYOUT)
}

struct Columns {
    file: usize,
    label: usize,
    split: Option<usize>,
    group: Option<usize>,
    text: Option<usize>,
    interval: [Option<usize>; 2],
}

fn read_row(root: &Path, columns: &Columns, row: &Row, at: String) -> Result<Labelled, String> {
    let name = row.get(columns.file);
    let inside = !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(format!("the file {name:?} is not a path below the folder"));
    }
    // Without dots and doubled slashes, so that one file has one id.
    let below: PathBuf = Path::new(name).components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let path = root.join(&below);
    let media = if has_extension(&path, &PICTURE) {
        Media::Picture(Picture::File(path.clone()))
    } else if has_extension(&path, &VIDEO) || has_extension(&path, &AUDIO) {
        Media::Recording(path.clone())
    } else {
        return Err(format!("the file {name:?} is neither a recording nor a picture"));
    };
    if !tree::is_there(&path) {
        return Err(format!("the file {name:?} is missing or empty"));
    }
    let split = match row.optional(columns.split).map(str::to_lowercase).as_deref() {
        None => None,
        Some("train" | "training") => Some(Split::Train),
        Some("val" | "valid" | "validation" | "dev") => Some(Split::Val),
        Some("test") => Some(Split::Test),
        Some(other) => return Err(format!("the split {other:?} is none of train, val and test")),
    };
    let [start, end] = columns.interval.map(|c| row.optional(c));
    let interval = match (start, end) {
        (None, None) => None,
        (Some(start), Some(end)) => match (start.parse::<f64>(), end.parse::<f64>()) {
            (Ok(start), Ok(end)) if start >= 0.0 && end > start && end.is_finite() => Some([start, end]),
            _ => return Err(format!("{start:?} to {end:?} is not an interval in seconds")),
        },
        _ => return Err("start and end are both given or neither".into()),
    };
    let words = row.get(columns.label).split('|').map(|w| w.trim().to_lowercase()).filter(|w| !w.is_empty()).collect::<BTreeSet<_>>();
    let id = match interval {
        None => below.display().to_string(),
        Some([start, end]) => format!("{}@{start}-{end}", below.display()),
    };
    let text = row.optional(columns.text).map(str::to_string);
    let text = text.or_else(|| if interval.is_none() && matches!(media, Media::Recording(_)) { words_beside(&path) } else { None });
    let item = Item { id, split: Split::Train, group: row.optional(columns.group).unwrap_or_default().to_string(), media, interval, text, target: None };
    Ok(Labelled { item, file: canonical(&path), words: words.into_iter().collect(), split, at })
}

/// Deals whole groups that have a label out: of every hundred 15 to test and 15 to val, at least one to each; none where there are fewer
/// than three. What has no label stays with its group, so that nobody is met in training who is tested on.
fn deal_out(rows: &mut [Labelled]) {
    // Intervals of one file stay together.
    let key = |row: &Labelled| if row.item.group.is_empty() { row.file.display().to_string() } else { row.item.group.clone() };
    let name = |row: &Labelled| if row.item.group.is_empty() { row.item.id.split('@').next().unwrap_or_default().to_string() } else { key(row) };
    // The order comes of names alone, so that it is the same wherever the folder lies.
    let mut order: Vec<(String, String)> =
        rows.iter().filter(|r| !r.words.is_empty()).map(|r| (key(r), name(r))).collect::<BTreeMap<_, _>>().into_iter().collect();
    order.sort_by_key(|(_, name)| Sha256::digest(name.as_bytes()).to_vec());
    if order.len() < 3 {
        return;
    }
    let share = (order.len() * 15 / 100).max(1);
    let split_of: BTreeMap<String, Split> = order
        .into_iter()
        .enumerate()
        .map(|(place, (key, _))| {
            (
                key,
                if place < share {
                    Split::Test
                } else if place < 2 * share {
                    Split::Val
                } else {
                    Split::Train
                },
            )
        })
        .collect();
    for row in rows {
        row.split = split_of.get(&key(row)).copied();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn labels_of_every_kind_of_line() {
        let tree = Tree::new(&["anna/001.mp4", "anna/002, too.mp4", "ben/007.wav", "faces/1.png", "notes.pdf"]);
        tree.write("anna/empty.mp4", "");
        let csv = "\u{feff}file,label,split,group,text,start,end\r\n\
            anna/001.mp4,Happy,train,anna,\"well, that \"\"went\"\" fine\",0.5,2\r\n\
            anna/001.mp4,sad,train,anna,,2,3.5\r\n\
            \"anna/002, too.mp4\",,,anna,,,\r\n\
            ben/007.wav,angry,test,ben,,,\r\n\
            faces/1.png,happy,val,,,,\r\n\
            anna/003.mp4,happy,train,anna,,,\r\n\
            anna/empty.mp4,happy,train,anna,,,\r\n\
            anna/001.mp4,happy,later,anna,,,\r\n\
            ../other.mp4,happy,train,anna,,,\r\n\
            notes.pdf,happy,train,anna,,,\r\n\
            ben/007.wav,angry,test,ben,,4,3\r\n\
            ben/007.wav,angry,test,ben,,4,\r\n\
            ben/007.wav,sad,test,ben,,,\r\n\
            ben/007.wav,sad,test\r\n";
        tree.write("labels.csv", csv);
        let listing = tree.list("folder").unwrap();
        assert_eq!(ids(&listing), ["anna/001.mp4@0.5-2", "anna/001.mp4@2-3.5", "anna/002, too.mp4", "ben/007.wav", "faces/1.png"]);
        assert_eq!(listing.labels, ["angry", "happy", "sad"]);
        let first = item(&listing, "anna/001.mp4@0.5-2");
        assert_eq!((first.interval, first.text.as_deref()), (Some([0.5, 2.0]), Some("well, that \"went\" fine")));
        assert_eq!((&first.target, first.group.as_str()), (&Some(Target::Class(1)), "anna"));
        assert_eq!((&listing.items[2].target, listing.items[2].split), (&None, Split::Train));
        assert_eq!([3, 4].map(|i| listing.items[i].split), [Split::Test, Split::Val]);
        assert!(matches!(&listing.items[4].media, Media::Picture(Picture::File(_))));
        for (line, what) in [
            (7, "\"anna/003.mp4\" is missing"),
            (8, "is missing or empty"),
            (9, "\"later\" is none of train"),
            (10, "not a path below"),
            (11, "neither a recording nor a picture"),
            (12, "not an interval"),
            (13, "both given or neither"),
            (14, "names the same file as line 5"),
            (15, "has 3 cells where the header has 7"),
        ] {
            assert_eq!(faults(&listing, &format!("labels.csv line {line}"), what), 1, "line {line}: {:?}", listing.faults);
        }
        assert_eq!(listing.faults.len(), 9);
    }

    #[test]
    fn several_labels_make_vectors() {
        let tree = Tree::new(&["a.wav", "b.wav", "c.wav"]);
        tree.write("labels.csv", "file,label\na.wav,happy | surprised\nb.wav,happy\nc.wav,\n");
        let listing = tree.list("folder").unwrap();
        assert_eq!(listing.labels, ["happy", "surprised"]);
        let targets: Vec<_> = listing.items.iter().map(|i| i.target.clone()).collect();
        assert_eq!(targets, [Some(Target::Values(vec![1.0, 1.0])), Some(Target::Values(vec![1.0, 0.0])), None]);
    }

    #[test]
    fn without_a_split_column_groups_are_dealt_out_whole() {
        let names: Vec<String> = (0..60).map(|i| format!("clips/{i:02}.wav")).collect();
        let tree = Tree::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let csv = |group: fn(usize) -> usize| {
            let line = |(i, name): (usize, &String)| format!("{name},{},g{}\n", ["happy", "sad"][i % 2], group(i));
            format!("file,label,group\n{}", names.iter().enumerate().map(line).collect::<String>())
        };
        tree.write("labels.csv", &csv(|i| i / 3));
        let listing = tree.list("folder").unwrap();
        let count = |split| listing.items.iter().filter(|i| i.split == split).count();
        assert_eq!([Split::Train, Split::Val, Split::Test].map(count), [42, 9, 9]);
        for one in &listing.items {
            assert!(listing.items.iter().all(|other| other.group != one.group || other.split == one.split));
        }
        assert_eq!(tree.list("folder").unwrap(), listing);
        tree.write("labels.csv", &csv(|i| i % 2));
        assert!(tree.list("folder").unwrap().items.iter().all(|i| i.split == Split::Train));
    }

    #[test]
    fn recordings_that_the_table_does_not_name_are_there_without_a_label() {
        let tree = Tree::new(&["a.mp4", "b.wav", "c.wav", "d.wav", "deep/e.mkv", "f.wav", "g.wav", "h.wav", "picture.png"]);
        tree.write("empty.wav", "");
        tree.write("deep/e.txt", "who is there\n");
        let csv = "file,label,start,end\na.mp4,happy,1,2\nb.wav,sad,,\n./c.wav,happy,,\nd.wav,,,\nf.wav,happy,3,2\ng.wav,happy\nempty.wav,sad,,\n";
        tree.write("labels.csv", csv);
        let listing = tree.list("folder").unwrap();
        assert_eq!(ids(&listing), ["a.mp4@1-2", "b.wav", "c.wav", "d.wav", "deep/e.mkv", "h.wav"]);
        let unnamed = item(&listing, "deep/e.mkv");
        assert_eq!((unnamed.split, &unnamed.target, unnamed.text.as_deref()), (Split::Train, &None, Some("who is there")));
        assert_eq!(item(&listing, "h.wav").target, None);
        // Lines with faults name their recordings too, and what is wrong is said once.
        assert_eq!([6, 7, 8].map(|line| faults(&listing, &format!("line {line}"), "left out")), [1; 3]);
        assert_eq!(listing.faults.len(), 3, "{:?}", listing.faults);
        // Val and test are of the three that are labelled; the others train.
        assert_eq!(item(&listing, "d.wav").split, Split::Train);
        let of = |split| listing.items.iter().filter(|i| i.split == split && i.target.is_some()).count();
        assert_eq!([Split::Train, Split::Val, Split::Test].map(of), [1; 3]);
    }

    #[test]
    fn one_recording_under_two_names_is_a_fault_that_names_both_lines() {
        let tree = Tree::new(&["a.mp4", "b.mp4", "deep/c.mp4"]);
        std::os::unix::fs::symlink(tree.path().join("a.mp4"), tree.path().join("link.mp4")).unwrap();
        let csv =
            "file,label,start,end\na.mp4,happy,,\n./a.mp4,happy,,\nlink.mp4,happy,,\nb.mp4,sad,0,1\nb.mp4,sad,0.0,1.0\ndeep//c.mp4,sad,,\ndeep/./c.mp4,sad,,\n";
        tree.write("labels.csv", csv);
        let listing = tree.list("folder").unwrap();
        assert_eq!(ids(&listing), ["a.mp4", "b.mp4@0-1", "deep/c.mp4"]);
        for (line, first) in [(3, 2), (4, 2), (6, 5), (8, 7)] {
            assert_eq!(faults(&listing, &format!("line {line}"), &format!("same file as line {first}: left out")), 1, "{:?}", listing.faults);
        }
        assert_eq!(listing.faults.len(), 4);
    }

    #[test]
    fn words_beside_a_recording_are_its_text_where_its_line_has_none() {
        let tree = Tree::new(&["a.wav", "b.wav", "c.wav", "face.png"]);
        for name in ["a", "b", "c", "face"] {
            tree.write(&format!("{name}.txt"), "from beside\n");
        }
        let texts = |csv: &str| {
            tree.write("labels.csv", csv);
            tree.list("folder").unwrap().items.into_iter().map(|item| item.text).collect::<Vec<_>>()
        };
        let beside = Some("from beside".to_string());
        let rows = "file,label,text,start,end\na.wav,happy,said,,\nb.wav,sad,,,\nc.wav,sad,,0,1\nface.png,sad,,,\n";
        assert_eq!(texts(rows), [Some("said".to_string()), beside.clone(), None, None]);
        assert_eq!(texts("file,label\na.wav,happy\nb.wav,sad\nc.wav,sad\n"), [beside.clone(), beside.clone(), beside]);
    }

    #[test]
    fn a_quote_that_never_closes_costs_one_line() {
        let tree = Tree::new(&["a.wav", "b.wav", "c.wav", "d.wav"]);
        tree.write("labels.csv", "file,label\n\"a.wav,happy\nb.wav,sad\nc.wav,happy\n");
        let listing = tree.list("folder").unwrap();
        assert_eq!(ids(&listing), ["b.wav", "c.wav", "d.wav"]);
        assert_eq!(faults(&listing, "labels.csv line 2", "quote"), 1, "{:?}", listing.faults);
        assert_eq!(item(&listing, "c.wav").target, Some(Target::Class(0)));
    }

    #[test]
    fn a_missing_column_is_named() {
        let tree = Tree::new(&["a.wav"]);
        tree.write("labels.csv", "path,label\na.wav,happy\n");
        let error = tree.list("folder").unwrap_err().to_string();
        assert!(error.ends_with("has no column \"file\": found path, label"), "{error}");
    }

    #[test]
    fn without_labels_every_recording_is_an_item() {
        let tree = Tree::new(&["one.mp4", "deep/er/two.MKV", "three.flac", "events.jsonl", "picture.png"]);
        tree.write("one.txt", "\u{feff}what was said\nand more\n");
        tree.write("three.align", "0 100 sil\n100 200 bin\n200 300 blue\n300 310 sp\n310 400 sil\n");
        for name in ["folder", "recordings"] {
            let listing = tree.list(name).unwrap();
            assert_eq!((listing.dataset.as_str(), ids(&listing)), (name, vec!["deep/er/two.MKV", "one.mp4", "three.flac"]));
            let texts: Vec<_> = listing.items.iter().map(|i| i.text.as_deref()).collect();
            assert_eq!(texts, [None, Some("what was said"), Some("bin blue")]);
            assert!(listing.labels.is_empty() && listing.faults.is_empty() && listing.items.iter().all(|i| i.target.is_none()));
        }
    }

    #[test]
    fn the_real_sentences_are_read_beside_their_recordings() {
        let Some(root) = crate::testing::material("av/grid_s1") else { return };
        let listing = super::super::list("folder", &root, &Options::default()).unwrap();
        assert_eq!(listing.items.len(), 40);
        // GRID's sentences have six words.
        assert!(listing.items.iter().all(|i| i.text.as_ref().is_some_and(|t| t.split(' ').count() == 6)));
    }
}
