//! Helpers that run the program `expressd` and talk to it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use expressd::testing::{material, project};

/// Path of the project's demonstration recording.
pub fn demo() -> PathBuf {
    let path = project("config/demo/demo.mp4");
    assert!(path.is_file(), "{} is part of the project", path.display());
    path
}

/// Runs `expressd ARGS` to its end.
pub fn expressd(args: &[&str]) -> Output {
    command(args).output().expect("the daemon's binary runs")
}

/// The command `expressd ARGS`, in the project's folder.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_expressd"));
    command
        .args(args)
        .current_dir(project("."))
        .env_remove("NOTIFY_SOCKET")
        .env("NO_COLOR", "1");
    command
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `expressd replay FILE --jsonl - MORE`; returns (exit code, events, standard error).
pub fn replay(file: &Path, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let mut args = vec![
        "replay",
        file.to_str().expect("a plain path"),
        "--jsonl",
        "-",
    ];
    args.extend(more);
    let output = expressd(&args);
    (
        output.status.code(),
        events(&output.stdout),
        stderr(&output),
    )
}

/// Parses JSON Lines to one value a line; panics at a line that is not JSON.
pub fn events(lines: &[u8]) -> Vec<Value> {
    lines
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| {
            serde_json::from_slice(l)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(l)))
        })
        .collect()
}

/// The events whose `type` is `kind`.
pub fn of_type<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |e| e["type"] == kind)
}

/// A running daemon process, which is killed when dropped.
pub struct Daemon {
    child: Child,
    /// Address of its socket, `127.0.0.1:port`.
    pub address: String,
    /// Lines of its standard output and standard error.
    lines: Receiver<String>,
}

impl Daemon {
    /// Starts `expressd run ARGS --listen 127.0.0.1:0` and waits for its socket's address.
    pub fn start(args: &[&str]) -> Daemon {
        Daemon::start_with(args, |_| {})
    }

    /// As [`Daemon::start`], with changes to the command by `adjust`.
    pub fn start_with(args: &[&str], adjust: impl FnOnce(&mut Command)) -> Daemon {
        let mut all = vec!["run", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let mut command = command(&all);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        adjust(&mut command);
        let mut child = command.spawn().expect("the daemon's binary runs");
        let (sender, lines) = sync_channel(10_000);
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let sender = sender.clone();
            let read = move || {
                BufReader::new(stream)
                    .lines()
                    .map_while(Result::ok)
                    .for_each(|line| drop(sender.try_send(line)))
            };
            std::thread::Builder::new()
                .name("daemon output".into())
                .spawn(read)
                .unwrap();
        }
        let mut daemon = Daemon {
            child,
            address: String::new(),
            lines,
        };
        let line = daemon.wait_for_line("ws://", Duration::from_secs(60));
        let address = line
            .split("ws://")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .expect("an address");
        daemon.address = address.to_owned();
        daemon
    }

    /// Waits for a line of output that contains `part`, and returns it; panics after `timeout`.
    pub fn wait_for_line(&mut self, part: &str, timeout: Duration) -> String {
        let (until, mut seen) = (Instant::now() + timeout, Vec::new());
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {part:?} in {timeout:?}; saw {seen:#?}")
                }
                Err(RecvTimeoutError::Disconnected) => panic!(
                    "the daemon ended ({:?}) without a line with {part:?}; saw {seen:#?}",
                    self.child.try_wait()
                ),
            }
        }
    }

    /// The lines of output since the last call of this function or of [`Daemon::wait_for_line`].
    pub fn lines_so_far(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the daemon is there");
    }

    /// Waits for the end of the process; panics after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        wait(&mut self.child, timeout)
    }
}

/// Waits for the end of a child process; panics after `timeout`.
pub fn wait(child: &mut Child, timeout: Duration) -> ExitStatus {
    let until = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait().expect("the child process is running") {
            return status;
        }
        assert!(Instant::now() < until, "still running after {timeout:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls `probe` repeatedly until it returns true; returns the elapsed time. Panics after `timeout`
/// with the text `what`. The condition must not become false again.
pub fn eventually(what: &str, timeout: Duration, mut probe: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !probe() {
        assert!(
            started.elapsed() < timeout,
            "{what}: not within {timeout:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    started.elapsed()
}

/// Sends `GET path` to `address`; returns (status code, body).
pub fn get(address: &str, path: &str) -> (u16, String) {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(address).expect("the daemon listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|c| c.parse().ok())
        .expect("a status code");
    (code, body.to_owned())
}
