//! Tests that the daemon opens no unrequested connection or file, and logs no spoken word and no
//! password.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{command, eventually, wait};

mod addresses;
mod log;
mod traffic;

/// Time limit for the start of the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that writes its complete output to one file, at the lowest log level.
struct LoggedDaemon {
    child: Child,
    output: PathBuf,
    address: String,
    _folder: tempfile::TempDir,
}

impl LoggedDaemon {
    /// Starts the daemon; `rust_log` is the value of RUST_LOG, `None`: not set.
    fn start(args: &[&str], rust_log: Option<&str>) -> LoggedDaemon {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let file = fs::File::create(&output).unwrap();
        let mut command = command(&["run", "--listen", "127.0.0.1:0", "--set", "log.level=trace"]);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .env_remove("RUST_LOG");
        if let Some(filter) = rust_log {
            command.env("RUST_LOG", filter);
        }
        let child = command.spawn().unwrap();
        let mut daemon = LoggedDaemon {
            child,
            output,
            address: String::new(),
            _folder: folder,
        };
        eventually("the daemon listens", PATIENCE, || {
            let text = daemon.text();
            let address = text
                .split("ws://")
                .nth(1)
                .and_then(|rest| rest.split('/').next());
            daemon.address = address.unwrap_or_default().to_owned();
            !daemon.address.is_empty()
        });
        daemon
    }

    /// The output so far.
    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }

    /// Stops the daemon and returns its complete output.
    fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        wait(&mut self.child, Duration::from_secs(10));
        self.text()
    }
}

impl Drop for LoggedDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
