//! Tests of the daemon's connections, name look-ups and files, with `strace`.
//!
//! Behaviour of the loaded libraries, from one run under `strace` with a recording, a test picture,
//! the default microphone (ALSA, PulseAudio) and a network camera (GLib, libsoup):
//! * ONNX Runtime sends telemetry unless `ORT_DISABLE_TELEMETRY=1` is set before; sherpa-onnx's own
//!   copy is 1.28 and has none on Linux.
//! * GStreamer writes its list of plug-ins to `$XDG_CACHE_HOME/gstreamer-1.0/`. The list is kept:
//!   without it each start opens every plug-in again. Its compiler ORC maps its code from a file
//!   `orcexec.*`, which it deletes at once.
//! * PulseAudio's client creates a cookie in `$XDG_CONFIG_HOME/pulse/` if it finds a server.
//! * ALSA, cpal, tokenizers, PocketSphinx, GLib and libsoup connect only to the configured source
//!   and create no files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{demo, project};

/// Files that a look-up of a host name reads.
const LOOKUP_FILES: [&str; 4] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
];

/// Empty home and XDG folders, as for a user who has never started the daemon.
struct FreshUser {
    folder: tempfile::TempDir,
}

impl FreshUser {
    fn new() -> FreshUser {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "home", "cache", "config", "data", "state", "run", "tmp", "work", "traces",
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        FreshUser { folder }
    }

    /// Path of a file or folder in the user's folder.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that runs `program` under `strace`, which writes a file for each thread.
    fn traced(&self, program: &str) -> Command {
        let mut command = Command::new("strace");
        command
            .args([
                "-f",
                "-ff",
                "-q",
                "--seccomp-bpf",
                "-s",
                "256",
                "-e",
                "trace=%network,%file",
                "-o",
            ])
            .arg(self.path("traces/of"))
            .arg(program)
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        for (variable, name) in [
            ("HOME", "home"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ] {
            command.env(variable, self.path(name));
        }
        for variable in [
            "ORT_DISABLE_TELEMETRY",
            "GST_REGISTRY",
            "NOTIFY_SOCKET",
            "RUST_LOG",
        ] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs a command of [`FreshUser::traced`] to its end.
    fn run(&self, mut command: Command) -> Output {
        let output = command
            .output()
            .expect("strace starts (`make test` installs it)");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !printed.contains("PTRACE") && !printed.contains("strace:"),
            "{printed}"
        );
        output
    }

    /// The traced system calls that connect to another machine, look up a name, or write a file
    /// that is not in `requested`.
    fn deviations(&self, requested: &[&Path]) -> Vec<String> {
        let mut found = Vec::new();
        for trace in fs::read_dir(self.path("traces")).unwrap() {
            let text = fs::read(trace.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            found.extend(
                text.lines()
                    .filter(|line| self.deviates(line, requested))
                    .map(str::to_owned),
            );
        }
        found
    }

    /// Whether a line of the trace is such a system call; see [`FreshUser::deviations`].
    fn deviates(&self, line: &str, requested: &[&Path]) -> bool {
        let call = line.split('(').next().unwrap_or_default();
        let of_internet = line.contains("AF_INET");
        if call == "socket" {
            return of_internet && !line.contains("SOCK_STREAM") || line.contains("AF_PACKET");
        }
        if ["connect", "bind", "sendto", "sendmsg", "sendmmsg"].contains(&call) {
            let is_here = line.contains("inet_addr(\"127.") || line.contains("\"::1\"");
            return of_internet && (!is_here || line.contains("htons(53)"))
                || line.contains("io.systemd.Resolve");
        }
        let names: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        if names.iter().any(|name| LOOKUP_FILES.contains(name)) {
            return true;
        }
        let makes = [
            "creat", "mkdir", "rename", "link", "symlink", "mknod", "truncate",
        ];
        let writes = makes.iter().any(|make| call.starts_with(make))
            || ["O_CREAT", "O_WRONLY", "O_RDWR"]
                .iter()
                .any(|flag| line.contains(flag));
        let registry = self.path("cache/gstreamer-1.0");
        writes
            && !line.contains(" = -1 ")
            && !names.iter().all(|name| {
                let path = Path::new(name);
                let of_system = ["/dev", "/proc", "/sys"]
                    .iter()
                    .any(|root| path.starts_with(root));
                let of_orc = path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("orcexec."));
                of_system || of_orc || path.starts_with(&registry) || requested.contains(&path)
            })
    }

    /// Paths of all files in the user's folder except the traces, relative to it.
    fn files(&self) -> Vec<PathBuf> {
        let mut waiting = vec![self.folder.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if !path.is_dir() {
                    files.push(path.strip_prefix(self.folder.path()).unwrap().to_owned());
                } else if path != self.path("traces") {
                    waiting.push(path);
                }
            }
        }
        files.sort();
        files
    }
}

/// The live demonstration takes 20 s, so that ONNX Runtime's telemetry, which is sent after 10 s,
/// would be found.
#[test]
fn the_daemon_opens_no_connection_and_writes_no_unrequested_file() {
    let user = FreshUser::new();
    let requested = user.path("requested.jsonl");
    let mut command = user.traced(env!("CARGO_BIN_EXE_expressd"));
    command
        .args(["run", "--listen", "127.0.0.1:0", "--jsonl"])
        .arg(&requested)
        .arg("--replay")
        .arg(demo());
    let output = user.run(command);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {printed}", output.status);
    let deviations = user.deviations(&[&requested]);
    assert!(deviations.is_empty(), "{deviations:#?}");
    let files = user.files();
    let (registry, others): (Vec<_>, Vec<_>) = files
        .iter()
        .partition(|file| file.starts_with("cache/gstreamer-1.0"));
    assert_eq!(others, [Path::new("requested.jsonl")]);
    assert_eq!(registry.len(), 1, "{registry:?}");
    assert!(
        fs::metadata(&requested).unwrap().len() > 10_000,
        "the recording was played"
    );
}

/// Checks that the test above can fail: the same trace finds look-ups and files of other programs.
#[test]
fn the_trace_finds_lookups_and_files() {
    for (program, argument) in [
        ("getent", "ahosts expressd.invalid"),
        ("touch", "unasked"),
        ("mkdir", "unasked"),
    ] {
        let user = FreshUser::new();
        let mut command = user.traced(program);
        command.args(argument.split(' '));
        user.run(command);
        assert!(!user.deviations(&[]).is_empty(), "{program} {argument}");
    }
}

#[test]
fn python_scripts_switch_telemetry_off_before_they_load_onnx_runtime() {
    let mut waiting = vec![project("tests"), project("config")];
    let mut scripts = 0;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "py") {
                let text = fs::read_to_string(&path).unwrap();
                let load = text.lines().position(|line| {
                    line.trim_start().starts_with("import ") && line.contains("onnxruntime")
                        || line.trim_start().starts_with("from onnxruntime")
                });
                let Some(load) = load else { continue };
                let off = text.lines().position(|line| {
                    line.starts_with("os.environ[\"ORT_DISABLE_TELEMETRY\"] = \"1\"")
                });
                assert!(off.is_some_and(|off| off < load), "{}", path.display());
                scripts += 1;
            }
        }
    }
    assert!(scripts > 0);
}
