//! The command line of the daemon: parses the arguments, calls the library and returns the exit
//! code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::{Args, Parser, Subcommand};
use expressd::capture::{CaptureError, is_named_as_recording, is_recording};
use expressd::config::{CliOverrides, Config};
use expressd::daemon::{DaemonError, Lines, RunOptions, doctor};
use expressd::hub::out_file::{OpenMode, OutFile};

mod bench;

/// A real-time expression sensor: faces and voices in, expression events out.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the daemon: camera and microphone (or a recording as if live) to events on a socket.
    Run(Run),
    /// Runs a recording, or a folder of recordings, through the same stages offline: blocking,
    /// deterministic.
    Replay(Replay),
    /// Reports all faults of the configuration at once.
    Check(Check),
    /// Lists cameras and microphones with the strings for the configuration.
    Devices {
        /// Print one JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Generates the files that a bundle names and does not contain: the sentence encoder's graph
    /// and tokenizer, from the published weights.
    #[cfg(feature = "sentence")]
    Prepare(expressd::onnx::prepare::PrepareArgs),
    /// Checks the installation. Exit code 0: no fault; 5: warnings; 1: failures.
    Doctor(Settings),
    /// Measures latency, drops, overhead and fan-out.
    Bench(Bench),
}

#[derive(Args)]
struct Settings {
    /// A configuration file beside /etc/expressd/expressd.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The bundle to serve (inference.bundle).
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Any key of the configuration, for example face.max_subjects=2.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    settings: Settings,
    /// Lists every effective value as TOML, with its origin as a comment; passwords are shown as
    /// ***.
    #[arg(long)]
    effective: bool,
    /// Prints config/expressd.toml: every key with its meaning, permitted values and default.
    #[arg(long, conflicts_with = "effective")]
    defaults: bool,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    settings: Settings,
    /// Play this recording as if live, instead of camera and microphone.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Begin the recording again at its end.
    #[arg(long = "loop", requires = "replay")]
    looped: bool,
    /// Run without a device that `auto` or `default` does not find, instead of waiting for it.
    /// Without any device, play the demonstration recording in a loop.
    #[arg(long)]
    demonstration: bool,
    /// Address of the socket (serve.listen).
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Write every frame as a line (publish.jsonl); - is standard output.
    #[arg(long, value_name = "FILE")]
    jsonl: Option<String>,
}

#[derive(Args)]
struct Replay {
    /// A media file, or a folder of them.
    file: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// Write each event as a line to this file; - is standard output.
    #[arg(long, value_name = "FILE")]
    jsonl: PathBuf,
    /// Play at live pace; the events are the same.
    #[arg(long)]
    realtime: bool,
}

#[derive(Args)]
struct Bench {
    #[command(flatten)]
    settings: Settings,
    /// The recording to measure with; by default the demonstration.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Copies of the recording in one picture; by default 1, 2, 4 and 8, one after another.
    #[arg(long)]
    subjects: Option<usize>,
    /// Clients of the fan-out measurement; 0 leaves it out.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Duration of each live measurement in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

impl Settings {
    /// Loads the configuration and starts the log. `flags` are (key, value) of the verb's own
    /// flags.
    fn load(self, mut flags: Vec<(&'static str, String)>) -> Result<Config, DaemonError> {
        flags.extend(
            self.bundle
                .map(|dir| ("inference.bundle", dir.display().to_string())),
        );
        let config = Config::load(&CliOverrides {
            file: self.config,
            set: self.set,
            flags,
        })?;
        expressd::daemon::start_log(&config.log.level);
        Ok(config)
    }
}

fn main() -> ExitCode {
    if let Some(code) = expressd::capture::decoder_process() {
        return code;
    }
    expressd::runtime::install_panic_hook();
    expressd::output::exit_on_broken_pipe();
    let verb = match Cli::try_parse() {
        Ok(cli) => cli.verb,
        Err(error) => return refuse(&error),
    };
    #[cfg(feature = "sentence")]
    if let Verb::Prepare(args) = &verb {
        return match expressd::onnx::prepare::prepare(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error.chain().for_each(|cause| eprintln!("{cause}"));
                ExitCode::FAILURE
            }
        };
    }
    match act(verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            expressd::output::print_error(&error.report());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints help, the version, or the error of the command line without passwords of addresses.
/// Returns the exit code.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let redacted = expressd::address::redact(&text);
    if redacted == text {
        let _ = error.print();
    } else {
        eprint!("{redacted}");
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Executes a verb of the command line.
fn act(verb: Verb) -> Result<(), DaemonError> {
    match verb {
        Verb::Run(Run {
            settings,
            replay,
            looped,
            demonstration,
            listen,
            jsonl,
        }) => {
            let flags = listen
                .map(|a| ("serve.listen", a))
                .into_iter()
                .chain(jsonl.map(|f| ("publish.jsonl", f)))
                .collect();
            expressd::daemon::run(
                &settings.load(flags)?,
                &RunOptions {
                    replay,
                    looped,
                    demonstration,
                },
            )
        }
        Verb::Replay(Replay {
            file,
            settings,
            jsonl,
            realtime,
        }) => replay(&settings.load(Vec::new())?, &file, &jsonl, realtime),
        Verb::Check(options) => check(options),
        Verb::Devices { json } => {
            expressd::daemon::print_devices(json);
            Ok(())
        }
        #[cfg(feature = "sentence")]
        Verb::Prepare(_) => unreachable!("done before"),
        Verb::Doctor(settings) => doctor::examine(&settings.load(Vec::new())?),
        Verb::Bench(Bench {
            settings,
            replay,
            subjects,
            clients,
            seconds,
            json,
        }) => bench::run(
            &settings.load(Vec::new())?,
            &bench::Options {
                replay,
                subjects,
                clients,
                seconds,
                json,
            },
        ),
    }
}

/// Prints the effective settings, or the documented defaults.
fn check(options: Check) -> Result<(), DaemonError> {
    if options.defaults {
        print!("{}", expressd::config::document());
        return Ok(());
    }
    let config = options.settings.load(Vec::new())?;
    expressd::daemon::check(&config)?;
    for setting in config.settings() {
        if options.effective {
            println!("{}", setting.to_toml());
        } else {
            println!("{setting}");
        }
    }
    Ok(())
}

/// Replays `file`, or every recording in the folder `file`, and writes the events to `jsonl`. The
/// other recordings are still played after one has failed. The error is that of a single recording,
/// or the number of failed ones.
fn replay(config: &Config, file: &Path, jsonl: &Path, realtime: bool) -> Result<(), DaemonError> {
    let files = recordings(file)?;
    let out = OutFile::open(jsonl, OpenMode::Truncate, &files)?;
    let lines = Arc::new(Mutex::new(Lines::new(Box::new(out))));
    let mut failures = Vec::new();
    for recording in &files {
        let name = (file.is_dir()).then(|| {
            recording
                .strip_prefix(file)
                .unwrap_or(recording)
                .display()
                .to_string()
        });
        lines.lock().expect("lines lock").begin(name);
        if let Err(error) = expressd::daemon::replay(config, recording, realtime, &lines) {
            if files.len() > 1 {
                eprintln!("{}", error.report());
            }
            failures.push(error);
        }
    }
    if let Some(source) = lines.lock().expect("lines lock").take_failure() {
        return Err(DaemonError::Jsonl {
            path: jsonl.to_owned(),
            source,
        });
    }
    match (failures.len(), files.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(failures.remove(0)),
        (failed, all) => Err(DaemonError::SomeRecordings { failed, all }),
    }
}

/// Returns `path` itself, or the recordings in the folder `path` in the order of their names.
/// Recordings are recognised by their content; hidden files are left out.
fn recordings(path: &Path) -> Result<Vec<PathBuf>, DaemonError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|_| CaptureError::NoSuchFile(path.to_owned()))?;
    let is_hidden = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with('.')
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && !is_hidden(path))
        .collect();
    files.sort();
    let all = files.len();
    let (files, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_recording(path));
    if files.is_empty() {
        return Err(DaemonError::Usage(format!(
            "{} contains no recording",
            path.display()
        )));
    }
    if !others.is_empty() {
        let named: Vec<_> = (others.iter())
            .filter(|path| is_named_as_recording(path))
            .map(|path| path.file_name().unwrap_or_default().to_string_lossy())
            .collect();
        let named = match named.len() {
            0 => String::new(),
            _ => format!(", among them {}", named.join(", ")),
        };
        eprintln!(
            "expressd: {} of {all} files are not recordings by their content and are \
             skipped{named}",
            others.len()
        );
    }
    Ok(files)
}
