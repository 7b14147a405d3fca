use std::os::unix::fs::PermissionsExt;

use super::*;

/// For `goes_on`: do not wait for a reader.
const NOW: &dyn Fn() -> bool = &|| false;

#[test]
fn truncate_removes_old_content_at_the_first_write_and_append_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.jsonl");
    std::fs::write(&path, "precious\n").unwrap();
    let read = || std::fs::read_to_string(&path).unwrap();
    drop(OutFile::open(&path, OpenMode::Truncate, []).unwrap());
    assert_eq!(read(), "precious\n");
    OutFile::open(&path, OpenMode::Append, [])
        .unwrap()
        .write_all(b"still")
        .unwrap();
    assert_eq!(read(), "precious\nstill");
    let mut out = OutFile::open(&path, OpenMode::Truncate, []).unwrap();
    out.write_all(b"new").unwrap();
    out.write_all(b"er").unwrap();
    assert_eq!(read(), "newer");
    OutFile::open(&path, OpenMode::Truncate, [])
        .unwrap()
        .flush()
        .unwrap();
    assert_eq!(read(), "");
    OutFile::open(Path::new("/dev/null"), OpenMode::Truncate, [])
        .unwrap()
        .write_all(b"x")
        .unwrap();
}

#[test]
fn the_recording_is_refused_as_an_output_by_each_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let [recording, link, other] =
        ["a.mp4", "link.jsonl", "events.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&recording, "pictures").unwrap();
    std::os::unix::fs::symlink(&recording, &link).unwrap();
    for path in [&recording, &link] {
        assert!(matches!(
            OutFile::open(path, OpenMode::Truncate, [&recording]),
            Err(OutFileError::IsInput(_))
        ));
    }
    assert_eq!(std::fs::read_to_string(&recording).unwrap(), "pictures");
    drop(OutFile::open(&other, OpenMode::Truncate, [&recording]).unwrap());
    assert!(!other.exists(), "nothing came of it");
    OutFile::open(&other, OpenMode::Append, [&recording])
        .unwrap()
        .flush()
        .unwrap();
    assert!(other.exists(), "nothing was to be written");
    let nowhere = folder.path().join("no/where.jsonl");
    let nowhere = OutFile::open(&nowhere, OpenMode::Truncate, []).unwrap_err();
    assert!(
        matches!(
            &nowhere,
            OutFileError::Unwritable { source, .. } if source.kind() == io::ErrorKind::NotFound
        ),
        "{nowhere}"
    );
}

#[test]
fn a_new_file_has_mode_600_and_an_existing_one_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [OpenMode::Truncate, OpenMode::Append] {
        let path = folder.path().join(format!("{mode:?}.jsonl"));
        let bits = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let write = || {
            let mut out = OutFile::open(&path, mode, []).unwrap();
            out.write_all(b"{}\n").unwrap();
        };
        write();
        assert_eq!(bits(), 0o600, "{mode:?}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        write();
        assert_eq!(bits(), 0o640, "{mode:?}");
    }
}

#[test]
fn an_unfinished_last_line_is_ended_or_removed_before_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    for (before, after) in [
        ("", "{\"b\":2}\n"),
        ("{\"a\":1}\n", "{\"a\":1}\n{\"b\":2}\n"),
        ("{\"a\":1}", "{\"a\":1}\n{\"b\":2}\n"),
        ("{\"a\":1}\n{\"a\":", "{\"a\":1}\n{\"b\":2}\n"),
        ("{\"a\":\"é", "{\"b\":2}\n"),
        ("{\"a\":1}\n\0\0\0", "{\"a\":1}\n{\"b\":2}\n"),
        // Not written by us: it is kept.
        ("notes", "notes\n{\"b\":2}\n"),
    ] {
        std::fs::write(&path, before).unwrap();
        let mut out = OutFile::open(&path, OpenMode::Append, []).unwrap();
        out.write_line(b"{\"b\":2}\n", NOW).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before:?}");
    }
}

#[test]
fn undoing_a_write_does_not_remove_a_line_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let append = || OpenOptions::new().create(true).append(true).open(&path);
    let (mut ours, mut theirs) = (append().unwrap(), append().unwrap());
    ours.write_all(b"{\"a\":").unwrap();
    let mut stream = Stream::new(ours.try_clone().unwrap()).unwrap();
    theirs.write_all(b"x\n").unwrap();
    assert!(!stream.undo_write(5));
    ours.write_all(b"{\"b\":").unwrap();
    assert!(stream.undo_write(5));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"a\":x\n");
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

fn reader(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    options.open(path).unwrap()
}

#[test]
fn a_fifo_is_opened_once_it_has_a_reader_and_again_for_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    fifo(&path);
    let mut out = OutFile::open(&path, OpenMode::Append, []).unwrap();
    let refused = out.write_line(b"{\"a\":1}\n", NOW).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
    let open = || reader(&path);
    let mut read = [0; 100];
    let first = open();
    out.write_line(b"{\"a\":2}\n", NOW).unwrap();
    drop(first);
    let refused = out.write_line(b"{\"a\":3}\n", NOW).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
    let mut second = open();
    out.write_line(b"{\"a\":4}\n", NOW).unwrap();
    let n = io::Read::read(&mut second, &mut read).unwrap();
    // The line that the first reader did not read is there too.
    assert_eq!(&read[..n], b"{\"a\":2}\n{\"a\":4}\n");
}

/// The first reader reads 0 to 59 bytes of four lines and leaves. The next reader gets each line
/// that was not read completely.
#[test]
fn the_next_reader_of_a_fifo_gets_the_lines_that_the_last_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    fifo(&path);
    let open = || reader(&path);
    let line = |number: usize| format!("{{\"number\":{number}}}\n");
    for taken in 0..60 {
        let mut out = OutFile::open(&path, OpenMode::Append, []).unwrap();
        let mut first = open();
        (0..4).for_each(|number| out.write_line(line(number).as_bytes(), NOW).unwrap());
        let mut read = vec![0; taken];
        let n = io::Read::read(&mut first, &mut read).unwrap();
        drop(first);
        assert!(
            out.write_line(line(4).as_bytes(), NOW).is_err(),
            "no reader"
        );
        let wholly_taken = n / line(0).len();
        let mut second = open();
        out.write_line(line(5).as_bytes(), NOW).unwrap();
        let mut read = vec![0; 1000];
        let n = io::Read::read(&mut second, &mut read).unwrap();
        let expected: String = (wholly_taken..4).chain([5]).map(line).collect();
        assert_eq!(String::from_utf8_lossy(&read[..n]), expected, "{taken}");
        assert_eq!(out.unread_lines(), 0, "there is a reader");
        out.write_line(line(6).as_bytes(), NOW).unwrap();
        drop(second);
        assert_eq!(out.unread_lines(), 1, "taken {taken}");
    }
}

#[test]
fn a_stalled_fifo_reader_is_not_waited_for_and_gets_complete_lines_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    fifo(&path);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    let mut reader = options.open(&path).unwrap();
    rustix::pipe::fcntl_setpipe_size(&reader, 8192).unwrap();
    let mut out = OutFile::open(&path, OpenMode::Append, []).unwrap();
    // The pipe is made larger for a line; no part of the next one goes into it.
    let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(12_000));
    out.write_line(long.as_bytes(), NOW).unwrap();
    let stalled = out.write_line(long.as_bytes(), NOW).unwrap_err();
    assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
    let mut read = vec![0; 4096];
    let mut all = Vec::new();
    let mut drain = || {
        while let Ok(n) = io::Read::read(&mut reader, &mut read) {
            all.extend_from_slice(&read[..n]);
        }
        all.clone()
    };
    assert_eq!(drain(), long.as_bytes(), "a whole line and nothing else");
    out.write_line(b"{\"b\":2}\n", NOW).unwrap();
    assert_eq!(drain(), [long.as_bytes(), b"{\"b\":2}\n"].concat());
}
