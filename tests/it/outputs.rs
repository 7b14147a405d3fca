//! Tests of the outputs of events: standard output, files on full disks, FIFOs and pipes that
//! nothing reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

use crate::harness::{Daemon, command, demo, events, eventually, expressd, get, stderr, wait};

/// Time limit for an expected condition.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time limit for the end of the daemon while an output stalls.
const STOP: Duration = Duration::from_secs(5);

/// A child process that is killed when dropped, so that a failed test leaves no process.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for the end of the process; returns (exit code, unread part of standard error).
    fn end(&mut self) -> (Option<i32>, String) {
        let code = wait(&mut self.0, STOP).code();
        let mut stderr = String::new();
        if let Some(mut errors) = self.0.stderr.take() {
            errors.read_to_string(&mut stderr).unwrap();
        }
        (code, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> Running {
    Running(command.spawn().unwrap())
}

/// Arguments that play the demonstration in a loop.
fn looped() -> [&'static str; 3] {
    ["--replay", "config/demo/demo.mp4", "--loop"]
}

/// Creates a FIFO in `folder`.
fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("events");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    path
}

/// Opens a FIFO for reading without waiting for a writer, and reduces its capacity to 4096 bytes.
fn reader_of(path: &Path) -> File {
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .unwrap();
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    reader
}

/// Waits until a pipe is full: two checks, one second apart, find the same number of unread bytes.
fn wait_until_full(reader: impl AsFd) {
    let mut before = 0;
    eventually("a full pipe", PATIENCE, || {
        std::thread::sleep(Duration::from_secs(1));
        let waiting = rustix::io::ioctl_fionread(&reader).unwrap();
        let is_full = waiting > 0 && waiting == before;
        before = waiting;
        is_full
    });
}

/// Checks that `seq` has no gap, except those that a `dropped` line accounts for.
fn assert_complete(lines: &[Value]) {
    let mut next = None;
    for line in lines {
        let (from, to) = if line["type"] == "dropped" {
            (&line["from_seq"], &line["to_seq"])
        } else {
            (&line["seq"], &line["seq"])
        };
        let (from, to) = (from.as_u64().unwrap(), to.as_u64().unwrap());
        assert!(next.is_none_or(|next| from == next), "{next:?}: {line}");
        next = Some(to + 1);
    }
}

/// The events in the file, whose last line must be complete.
fn lines_of(path: &Path) -> Vec<Value> {
    assert!(ends_whole(path), "half a line");
    events(&fs::read(path).unwrap())
}

/// Whether the last line of the file is complete.
fn ends_whole(path: &Path) -> bool {
    fs::read(path).unwrap().ends_with(b"\n")
}

/// The events in the complete lines of a file that is being written.
fn lines_so_far(path: &Path) -> Vec<Value> {
    let text = fs::read(path).unwrap();
    let end = text.iter().rposition(|byte| *byte == b'\n');
    events(&text[..end.unwrap_or(0)])
}

/// Number of events for the JSON Lines output that `/metrics` counts as lost.
fn lost(address: &str) -> u64 {
    let (_, metrics) = get(address, "/metrics");
    let counted = metrics
        .lines()
        .find(|line| line.contains("jsonl") && !line.starts_with('#'));
    counted.map_or(0, |line| {
        let number = line.rsplit(' ').next().unwrap();
        number.parse::<f64>().unwrap() as u64
    })
}

#[test]
fn standard_output_holds_events_and_nothing_else() {
    for output in ["-", "/dev/stdout"] {
        let mut daemon = run(
            command(&["run", "--listen", "127.0.0.1:0", "--jsonl", output])
                .args(["--replay", demo().to_str().unwrap()])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        // The daemon must end by the signal and not because its reader is gone.
        let mut lines = BufReader::new(daemon.0.stdout.take().unwrap()).lines();
        let first: Vec<Value> = (0..5)
            .map(|_| serde_json::from_str(&lines.next().unwrap().unwrap()).expect("JSON"))
            .collect();
        assert_complete(&first);
        daemon.signal(Signal::TERM);
        for line in lines {
            serde_json::from_str::<Value>(&line.unwrap()).expect("JSON");
        }
        let (code, stderr) = daemon.end();
        assert_eq!(code, Some(0), "{stderr}");
        for part in ["bundle default", "events at ws://"] {
            assert!(stderr.contains(part), "{stderr}");
        }
    }
}

#[test]
fn a_fifo_without_a_reader_delays_neither_start_nor_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let with = [&looped()[..], &["--jsonl", path.to_str().unwrap()]].concat();
    let mut daemon = Daemon::start(&with);
    eventually("ready", PATIENCE, || {
        get(&daemon.address, "/readyz").0 == 200
    });
    daemon.signal(Signal::TERM);
    let code = daemon.wait(STOP).code();
    assert_eq!(code, Some(1), "events are missing");
    daemon.wait_for_line("events are missing in", STOP);

    // A reader that opens the FIFO later gets complete lines.
    let mut daemon = Daemon::start(&with);
    eventually("ready", PATIENCE, || {
        get(&daemon.address, "/readyz").0 == 200
    });
    let mut reader = BufReader::new(File::open(&path).unwrap());
    let mut lines = Vec::new();
    for _ in 0..5 {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        lines.push(serde_json::from_str(&line).expect("JSON"));
    }
    assert_complete(&lines);
    daemon.signal(Signal::TERM);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    lines.extend(events(&rest));
    assert_complete(&lines);
    assert_eq!(daemon.wait(STOP).code(), Some(0));
}

#[test]
fn a_stalled_reader_does_not_delay_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let mut reader = reader_of(&path);
    let with = [&looped()[..], &["--jsonl", path.to_str().unwrap()]].concat();
    let mut daemon = Daemon::start(&with);
    wait_until_full(&reader);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(STOP).code(), Some(1));
    daemon.wait_for_line("events are missing in", STOP);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    let whole = read.iter().rposition(|byte| *byte == b'\n').unwrap();
    assert_complete(&events(&read[..whole]));
}

#[test]
fn unread_standard_output_and_log_do_not_delay_the_stop() {
    for output in [&["--jsonl", "-"][..], &["--set", "log.level=trace"]] {
        let [(out, stdout), (err, stderr)] = [(); 2].map(|()| {
            let (reader, writer) = io::pipe().unwrap();
            rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
            (reader, writer)
        });
        let port = free_port();
        let mut daemon = run(command(&["run", "--listen", &port])
            .args(looped())
            .args(output)
            .stdout(stdout)
            .stderr(stderr));
        eventually("ready", PATIENCE, || is_ready(&port));
        let is_log = output[0] == "--set";
        wait_until_full(if is_log { &err } else { &out });
        daemon.signal(Signal::TERM);
        let (code, _) = daemon.end();
        drop((out, err));
        // The exit code is 1 if events are lost, and 0 if only lines of the log are.
        let expected = i32::from(!is_log);
        assert_eq!(code, Some(expected), "{output:?}");
    }
}

/// A loopback address with a port that is free at the time of the call.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Whether a daemon at `address` listens and is ready.
fn is_ready(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok() && get(address, "/readyz").0 == 200
}

#[test]
fn a_stopped_terminal_does_not_delay_the_stop() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let screen = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let port = free_port();
    let mut daemon = run(command(&["run", "--listen", &port])
        .args(looped())
        .stdout(screen)
        .stderr(Stdio::null()));
    let mut terminal = File::from(terminal);
    let mut shown = [0; 4096];
    let mut seen = String::new();
    while !seen.contains("happy") {
        let n = terminal.read(&mut shown).unwrap();
        seen += &String::from_utf8_lossy(&shown[..n]);
    }
    // Ctrl-S stops the terminal's output.
    io::Write::write_all(&mut terminal, &[0x13]).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn an_unread_notify_socket_does_not_delay_the_stop() {
    use std::os::unix::net::UnixDatagram;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let _systemd = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"X=1", &path).is_ok() {}
    let mut daemon = Daemon::start_with(&looped(), |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "2000000");
    });
    eventually("ready", PATIENCE, || {
        get(&daemon.address, "/readyz").0 == 200
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(STOP).code(), Some(0));
}

/// Limits the size of the files that the daemon may write; `None` removes the limit.
fn limit_files(daemon: &Running, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(Pid::from_child(&daemon.0)), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_disk_that_fills_and_gets_room_again_has_whole_lines_and_counts_losses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let port = free_port();
    let mut daemon = run(command(&["run", "--listen", &port])
        .args(looped())
        .args(["--jsonl", path.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped()));
    eventually("ready", PATIENCE, || is_ready(&port));
    let size = || fs::metadata(&path).unwrap().len();
    // The limit leaves too little room for a whole line.
    limit_files(&daemon, Some(size() + 100));
    eventually("lost lines", PATIENCE, || lost(&port) >= 3);
    eventually("a whole last line", PATIENCE, || ends_whole(&path));
    assert_complete(&lines_so_far(&path));
    limit_files(&daemon, None);
    let dropped = |lines: &[Value]| lines.iter().position(|line| line["type"] == "dropped");
    eventually("a dropped frame, and more lines", PATIENCE, || {
        let lines = lines_so_far(&path);
        dropped(&lines).is_some_and(|at| at + 2 < lines.len())
    });
    daemon.signal(Signal::TERM);
    let (code, stderr) = daemon.end();
    assert_eq!(code, Some(1), "{stderr}");
    let lines = lines_of(&path);
    assert_complete(&lines);
    let dropped: u64 = lines.iter().filter_map(|line| line["count"].as_u64()).sum();
    let expected = format!("{dropped} events are missing in");
    assert!(stderr.contains(&expected), "{expected}: {stderr}");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "words may be in it");
}

#[test]
fn a_replay_to_a_filling_disk_ends_with_a_whole_line_and_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    // The disk disappears with its mount namespace, so its content is copied first.
    let script = "mount -t tmpfs -o size=8k tmpfs \"$1\"; \"$0\" replay \"$2\" \
        --jsonl \"$1/events.jsonl\"; code=$?; cp \"$1/events.jsonl\" \"$3\"; exit $code";
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_expressd"))
        .args([&disk, &demo(), &path])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let lines = lines_of(&path);
    assert!(!lines.is_empty());
    assert!(stderr(&output).contains("events.jsonl"));
    let all = expressd(&["replay", demo().to_str().unwrap(), "--jsonl", "-"]);
    assert_eq!(lines, events(&all.stdout)[..lines.len()]);
}

/// Whether this process ignores the signal, which its children inherit.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
    ignored & 1 << (signal.as_raw() - 1) != 0
}

#[test]
fn a_replay_into_a_fifo_waits_for_its_reader_and_ends_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let start = || {
        run(command(&["replay", demo().to_str().unwrap()])
            .args(["--jsonl", path.to_str().unwrap()])
            .stderr(Stdio::null()))
    };
    for signal in [Signal::TERM, Signal::INT] {
        // A shell's background jobs ignore SIGINT, and children inherit that.
        if is_ignored(signal) {
            continue;
        }
        let mut replay = start();
        std::thread::sleep(Duration::from_secs(1));
        assert!(replay.0.try_wait().unwrap().is_none(), "it waits");
        replay.signal(signal);
        replay.end();
    }
    let mut replay = start();
    let mut read = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(replay.end().0, Some(0));
    let all = expressd(&["replay", demo().to_str().unwrap(), "--jsonl", "-"]);
    assert!(read == all.stdout, "the same bytes");
}
