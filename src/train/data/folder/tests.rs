use super::super::testing::{Tree, faults, ids, item};
use super::*;

#[test]
fn each_row_of_the_table_is_an_item_or_a_fault_at_its_line() {
    let tree = Tree::new(&[
        "anna/001.mp4",
        "anna/002, too.mp4",
        "ben/007.wav",
        "faces/1.png",
        "notes.pdf",
    ]);
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
    assert_eq!(
        ids(&listing),
        [
            "anna/001.mp4@0.5-2",
            "anna/001.mp4@2-3.5",
            "anna/002, too.mp4",
            "ben/007.wav",
            "faces/1.png"
        ]
    );
    assert_eq!(listing.labels, ["angry", "happy", "sad"]);
    let first = item(&listing, "anna/001.mp4@0.5-2");
    assert_eq!(
        (first.interval, first.text.as_deref()),
        (Some([0.5, 2.0]), Some("well, that \"went\" fine"))
    );
    assert_eq!(
        (&first.target, first.group.as_str()),
        (&Some(Target::Class(1)), "anna")
    );
    assert_eq!(
        (&listing.items[2].target, listing.items[2].split),
        (&None, Split::Train)
    );
    assert_eq!(
        [3, 4].map(|i| listing.items[i].split),
        [Split::Test, Split::Val]
    );
    assert!(matches!(
        &listing.items[4].media,
        Media::Picture(Picture::File(_))
    ));
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
        assert_eq!(
            faults(&listing, &format!("labels.csv line {line}"), what),
            1,
            "line {line}: {:?}",
            listing.faults
        );
    }
    assert_eq!(listing.faults.len(), 9);
}

#[test]
fn several_labels_in_a_cell_make_all_targets_vectors() {
    let tree = Tree::new(&["a.wav", "b.wav", "c.wav"]);
    tree.write(
        "labels.csv",
        "file,label\na.wav,happy | surprised\nb.wav,happy\nc.wav,\n",
    );
    let listing = tree.list("folder").unwrap();
    assert_eq!(listing.labels, ["happy", "surprised"]);
    let targets: Vec<_> = listing.items.iter().map(|i| i.target.clone()).collect();
    assert_eq!(
        targets,
        [
            Some(Target::Values(vec![1.0, 1.0])),
            Some(Target::Values(vec![1.0, 0.0])),
            None
        ]
    );
}

#[test]
fn without_a_split_column_whole_groups_are_assigned() {
    let names: Vec<String> = (0..60).map(|i| format!("clips/{i:02}.wav")).collect();
    let tree = Tree::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let csv = |group: fn(usize) -> usize| {
        let line = |(i, name): (usize, &String)| {
            format!("{name},{},g{}\n", ["happy", "sad"][i % 2], group(i))
        };
        format!(
            "file,label,group\n{}",
            names.iter().enumerate().map(line).collect::<String>()
        )
    };
    tree.write("labels.csv", &csv(|i| i / 3));
    let listing = tree.list("folder").unwrap();
    let count = |split| listing.items.iter().filter(|i| i.split == split).count();
    assert_eq!(
        [Split::Train, Split::Val, Split::Test].map(count),
        [42, 9, 9]
    );
    for one in &listing.items {
        assert!(
            listing
                .items
                .iter()
                .all(|other| other.group != one.group || other.split == one.split)
        );
    }
    assert_eq!(tree.list("folder").unwrap(), listing);
    tree.write("labels.csv", &csv(|i| i % 2));
    assert!(
        tree.list("folder")
            .unwrap()
            .items
            .iter()
            .all(|i| i.split == Split::Train)
    );
}

#[test]
fn recordings_that_the_table_does_not_name_are_unlabelled_items() {
    let tree = Tree::new(&[
        "a.mp4",
        "b.wav",
        "c.wav",
        "d.wav",
        "deep/e.mkv",
        "f.wav",
        "g.wav",
        "h.wav",
        "picture.png",
    ]);
    tree.write("empty.wav", "");
    tree.write("deep/e.txt", "who is there\n");
    let csv = "file,label,start,end\na.mp4,happy,1,2\nb.wav,sad,,\n./c.wav,happy,,\nd.wav,,,\n\
               f.wav,happy,3,2\ng.wav,happy\nempty.wav,sad,,\n";
    tree.write("labels.csv", csv);
    let listing = tree.list("folder").unwrap();
    assert_eq!(
        ids(&listing),
        [
            "a.mp4@1-2",
            "b.wav",
            "c.wav",
            "d.wav",
            "deep/e.mkv",
            "h.wav"
        ]
    );
    let unnamed = item(&listing, "deep/e.mkv");
    assert_eq!(
        (unnamed.split, &unnamed.target, unnamed.text.as_deref()),
        (Split::Train, &None, Some("who is there"))
    );
    assert_eq!(item(&listing, "h.wav").target, None);
    // A recording that a line with a fault names is not an unlabelled item, and each fault is
    // reported once.
    assert_eq!(
        [6, 7, 8].map(|line| faults(&listing, &format!("line {line}"), "left out")),
        [1; 3]
    );
    assert_eq!(listing.faults.len(), 3, "{:?}", listing.faults);
    // Of the three labelled recordings one is in each split; the unlabelled ones are in train.
    assert_eq!(item(&listing, "d.wav").split, Split::Train);
    let of = |split| {
        listing
            .items
            .iter()
            .filter(|i| i.split == split && i.target.is_some())
            .count()
    };
    assert_eq!([Split::Train, Split::Val, Split::Test].map(of), [1; 3]);
}

#[test]
fn one_recording_under_two_names_is_a_fault_that_names_both_lines() {
    let tree = Tree::new(&["a.mp4", "b.mp4", "deep/c.mp4"]);
    std::os::unix::fs::symlink(tree.path().join("a.mp4"), tree.path().join("link.mp4")).unwrap();
    let csv = "file,label,start,end\na.mp4,happy,,\n./a.mp4,happy,,\nlink.mp4,happy,,\n\
               b.mp4,sad,0,1\nb.mp4,sad,0.0,1.0\ndeep//c.mp4,sad,,\ndeep/./c.mp4,sad,,\n";
    tree.write("labels.csv", csv);
    let listing = tree.list("folder").unwrap();
    assert_eq!(ids(&listing), ["a.mp4", "b.mp4@0-1", "deep/c.mp4"]);
    for (line, first) in [(3, 2), (4, 2), (6, 5), (8, 7)] {
        assert_eq!(
            faults(
                &listing,
                &format!("line {line}"),
                &format!("same file as line {first}: left out")
            ),
            1,
            "{:?}",
            listing.faults
        );
    }
    assert_eq!(listing.faults.len(), 4);
}

#[test]
fn a_text_file_beside_a_recording_is_used_if_the_table_has_no_text() {
    let tree = Tree::new(&["a.wav", "b.wav", "c.wav", "face.png"]);
    for name in ["a", "b", "c", "face"] {
        tree.write(&format!("{name}.txt"), "from beside\n");
    }
    let texts = |csv: &str| {
        tree.write("labels.csv", csv);
        tree.list("folder")
            .unwrap()
            .items
            .into_iter()
            .map(|item| item.text)
            .collect::<Vec<_>>()
    };
    let beside = Some("from beside".to_string());
    let rows = "file,label,text,start,end\na.wav,happy,said,,\nb.wav,sad,,,\nc.wav,sad,,0,1\n\
                face.png,sad,,,\n";
    assert_eq!(
        texts(rows),
        [Some("said".to_string()), beside.clone(), None, None]
    );
    assert_eq!(
        texts("file,label\na.wav,happy\nb.wav,sad\nc.wav,sad\n"),
        [beside.clone(), beside.clone(), beside]
    );
}

#[test]
fn only_the_line_of_an_unclosed_quote_is_left_out() {
    let tree = Tree::new(&["a.wav", "b.wav", "c.wav", "d.wav"]);
    tree.write(
        "labels.csv",
        "file,label\n\"a.wav,happy\nb.wav,sad\nc.wav,happy\n",
    );
    let listing = tree.list("folder").unwrap();
    assert_eq!(ids(&listing), ["b.wav", "c.wav", "d.wav"]);
    assert_eq!(
        faults(&listing, "labels.csv line 2", "quote"),
        1,
        "{:?}",
        listing.faults
    );
    assert_eq!(item(&listing, "c.wav").target, Some(Target::Class(0)));
}

#[test]
fn the_error_for_a_missing_column_names_it() {
    let tree = Tree::new(&["a.wav"]);
    tree.write("labels.csv", "path,label\na.wav,happy\n");
    let error = tree.list("folder").unwrap_err().to_string();
    assert!(
        error.ends_with("has no column \"file\": found path, label"),
        "{error}"
    );
}

#[test]
fn without_labels_every_recording_is_an_item() {
    let tree = Tree::new(&[
        "one.mp4",
        "deep/er/two.MKV",
        "three.flac",
        "events.jsonl",
        "picture.png",
    ]);
    tree.write("one.txt", "\u{feff}what was said\nand more\n");
    tree.write(
        "three.align",
        "0 100 sil\n100 200 bin\n200 300 blue\n300 310 sp\n310 400 sil\n",
    );
    for name in ["folder", "recordings"] {
        let listing = tree.list(name).unwrap();
        assert_eq!(
            (listing.dataset.as_str(), ids(&listing)),
            (name, vec!["deep/er/two.MKV", "one.mp4", "three.flac"])
        );
        let texts: Vec<_> = listing.items.iter().map(|i| i.text.as_deref()).collect();
        assert_eq!(texts, [None, Some("what was said"), Some("bin blue")]);
        assert!(
            listing.labels.is_empty()
                && listing.faults.is_empty()
                && listing.items.iter().all(|i| i.target.is_none())
        );
    }
}

#[test]
fn recordings_of_grid_are_listed_with_their_sentences() {
    let Some(root) = crate::testing::material("av/grid_s1") else {
        return;
    };
    let listing = super::super::list("folder", &root, &Options::default()).unwrap();
    assert_eq!(listing.items.len(), 40);
    // GRID's sentences have six words.
    assert!(
        listing
            .items
            .iter()
            .all(|i| i.text.as_ref().is_some_and(|t| t.split(' ').count() == 6))
    );
}

const COMPOSED: &str = "caf\u{e9}";
const DECOMPOSED: &str = "cafe\u{301}";

#[test]
fn file_names_match_in_any_unicode_form() {
    for (table, disk) in [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)] {
        let names = [format!("{disk}/{disk}.wav"), format!("{disk}/{disk}.txt")];
        let tree = Tree::new(&[&names[0]]);
        tree.write(&names[1], "a coffee\n");
        tree.write(
            "labels.csv",
            &format!("file,label\n{table}/{table}.wav,happy\n"),
        );
        let listing = tree.list("folder").unwrap();
        assert_eq!(listing.faults, []);
        // The id is the name on disk, as without a table.
        assert_eq!(ids(&listing), [names[0].as_str()]);
        let found = &listing.items[0];
        assert_eq!(
            (&found.target, found.text.as_deref()),
            (&Some(Target::Class(0)), Some("a coffee"))
        );
        assert_eq!(found.media, Media::Recording(tree.path().join(&names[0])));
        // The recording of a line with a fault is not an unlabelled item either.
        tree.write(
            "labels.csv",
            &format!("file,label,split\n{table}/{table}.wav,happy,never\n"),
        );
        assert!(tree.list("folder").is_err(), "no item is left");
    }
}

#[test]
fn of_two_unicode_forms_of_a_name_the_exact_one_is_an_item_and_the_other_a_fault() {
    let names = [COMPOSED, DECOMPOSED].map(|name| format!("{name}.wav"));
    let tree = Tree::new(&[&names[0], &names[1]]);
    let both = |what: &str| what.contains("café.wav") && what.contains("cafe\\u{301}.wav");
    let fault = |expected: &[&str]| {
        let listing = tree.list("folder").unwrap();
        assert_eq!(ids(&listing), expected);
        assert!(
            listing.faults.len() == 1 && both(&listing.faults[0].what),
            "{:?}",
            listing.faults
        );
    };
    // Without a table the first file is taken.
    fault(&[&names[1]]);
    for name in &names {
        tree.write("labels.csv", &format!("file,label\n{name},happy\n"));
        fault(&[name]);
    }
    // The table names both files exactly.
    tree.write(
        "labels.csv",
        &format!("file,label\n{},happy\n{},sad\n", names[0], names[1]),
    );
    let listing = tree.list("folder").unwrap();
    assert!(listing.items.len() == 2 && listing.faults.is_empty());

    // The table's form of the name is that of neither file.
    let [one, other] = [
        format!("{COMPOSED}{DECOMPOSED}.wav"),
        format!("{DECOMPOSED}{COMPOSED}.wav"),
    ];
    let tree = Tree::new(&[&one, &other, "a.wav"]);
    let written = format!("{COMPOSED}{COMPOSED}.wav");
    tree.write(
        "labels.csv",
        &format!("file,label\n{written},happy\na.wav,sad\n"),
    );
    let listing = tree.list("folder").unwrap();
    assert_eq!(ids(&listing), ["a.wav"]);
    assert_eq!(
        faults(&listing, "labels.csv line 2", "stands for two files"),
        1,
        "{:?}",
        listing.faults
    );
    assert_eq!(listing.faults.len(), 1);
}
