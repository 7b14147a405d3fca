//! Fuzz tests of parsers with mutated files of the repository.
//!
//! A [`Target`] mutates its valid inputs (seeds) and passes each mutation to a check, which panics
//! if the parser misbehaves. As a unit test, a target runs a fixed number of cases from a fixed
//! random seed: the same cases in every run. `make fuzz` sets these variables:
//!
//! | variable | meaning |
//! |---|---|
//! | `EXPRESSD_FUZZ_SECONDS` | time for each target, with other cases in every run |
//! | `EXPRESSD_FUZZ_INPUTS` | folder for a file with the current input, the cause of an abort |
//! | `EXPRESSD_FUZZ_REPLAY` | a file to check instead, without mutations |
//!
//! A failed case is reduced to the fewest mutations that still fail, and these are printed. The
//! mutations use the parts of each format (words, numbers, lines), but not the coverage of the
//! code.

mod allocations;
mod mutation;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::time::monotonic_nanos;
use mutation::{Dictionary, Mutations};

/// Memory in bytes that a check may use in addition to [`BYTES_PER_INPUT_BYTE`]. An allocation of a
/// length that a damaged file states is usually far larger.
const BASE_BYTES: usize = 32 << 20;
/// Memory in bytes that a check may use for each byte of its input.
const BYTES_PER_INPUT_BYTE: usize = 256;

/// A file with the current input, for a parser that takes a path.
pub struct InputFile {
    file: File,
    path: PathBuf,
}

impl InputFile {
    /// Creates a file in memory, because writing to a disk would take most of the time.
    pub fn in_memory() -> InputFile {
        let file = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.expect("a file in memory"));
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        InputFile { file, path }
    }

    /// Creates a file on disk at `path`.
    fn at(path: PathBuf) -> InputFile {
        let file = File::create(&path).expect("the folder of inputs");
        InputFile { file, path }
    }

    /// Replaces the content of the file; returns its path.
    pub fn write(&self, content: &[u8]) -> &Path {
        // The file is truncated after the write: some file systems synchronise a file with the disk
        // when it is truncated to nothing first.
        self.file.write_all_at(content, 0).expect("room");
        self.file.set_len(content.len() as u64).expect("room");
        &self.path
    }
}

/// A fuzz test of one parser: seeds, dictionary and number of cases.
pub struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    is_text: bool,
    /// Number of cases as a unit test.
    cases: u32,
}

impl Target {
    /// A target for a binary format, with `cases` cases when run as a unit test. `name` is the name
    /// of the file with its current input.
    pub fn bytes(name: &'static str, cases: u32) -> Target {
        Target {
            name,
            seeds: Vec::new(),
            words: Vec::new(),
            is_text: false,
            cases,
        }
    }

    /// A target for a text format, whose mutations change words and lines more often than bytes.
    pub fn text(name: &'static str, cases: u32) -> Target {
        Target {
            is_text: true,
            ..Target::bytes(name, cases)
        }
    }

    /// Adds valid inputs to mutate.
    pub fn seeds(mut self, seeds: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Target {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// Adds words of the format to the dictionary, which already has those of the seeds.
    pub fn words(mut self, words: &[&str]) -> Target {
        self.words.extend(words.iter().map(|word| (*word).into()));
        self
    }

    /// Passes the seeds and then mutations of them to `check`.
    ///
    /// # Panics
    /// `check` panics for an input, or uses more memory than is permitted for an input of its
    /// length.
    pub fn run(self, check: impl Fn(&[u8])) {
        if let Some(file) = std::env::var_os("EXPRESSD_FUZZ_REPLAY") {
            let input = std::fs::read(file).expect("the input");
            measured(&check, &input).expect("memory");
            return;
        }
        let seeds = self.seeds.clone();
        for seed in &seeds {
            measured(&check, seed).expect("memory");
        }
        let words = Dictionary::new(&self.seeds, &self.words);
        let mutations = Mutations::new(self.seeds, words, self.is_text);
        let input_file = std::env::var_os("EXPRESSD_FUZZ_INPUTS")
            .map(|folder| PathBuf::from(folder).join(format!("{}.input", self.name)))
            .map(InputFile::at);
        let Some(seconds) = seconds() else {
            let first = 0x1234_5678_9abc_def1;
            let input_file = input_file.as_ref();
            explore(self.name, &mutations, self.cases, first, input_file, &check);
            return;
        };
        let (start, mut cases) = (monotonic_nanos(), 0u64);
        while monotonic_nanos() - start < seconds.as_nanos() as i64 {
            let number = monotonic_nanos() as u64;
            let input_file = input_file.as_ref();
            explore(
                self.name, &mutations, self.cases, number, input_file, &check,
            );
            cases += u64::from(self.cases);
        }
        if let Some(file) = input_file {
            // No case failed, so the last input is of no interest.
            let _ = std::fs::remove_file(file.path);
        }
        eprintln!("{}: {cases} cases", self.name);
    }
}

/// Value of `EXPRESSD_FUZZ_SECONDS`; `None` if it is not set.
fn seconds() -> Option<Duration> {
    let text = std::env::var("EXPRESSD_FUZZ_SECONDS").ok()?;
    Some(Duration::from_secs(text.parse().expect("whole seconds")))
}

/// Checks `cases` mutations, which are determined by the random seed `number`. Each is written to
/// `input_file` before its check.
fn explore(
    name: &str,
    mutations: &Mutations,
    cases: u32,
    number: u64,
    input_file: Option<&InputFile>,
    check: &impl Fn(&[u8]),
) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 5000,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, random);
    let result = runner.run(&mutations.strategy(), |mutation| {
        let input = mutations.apply(&mutation);
        if let Some(file) = input_file {
            file.write(&input);
        }
        measured(check, &input).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, mutation)) => {
            let input = mutations.apply(&mutation);
            if let Some(file) = input_file {
                file.write(&input);
            }
            panic!(
                "{name}, start {number}: {reason}\n{mutation:?}\n{}",
                String::from_utf8_lossy(&input[..input.len().min(4096)])
            );
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Runs the check on `input` and measures its memory.
///
/// # Errors
/// The check used more memory than is permitted for an input of this length.
fn measured(check: &impl Fn(&[u8]), input: &[u8]) -> Result<(), String> {
    let permitted = BASE_BYTES + BYTES_PER_INPUT_BYTE * input.len();
    let peak = allocations::peak(|| check(input));
    if peak > permitted {
        return Err(format!(
            "{peak} bytes were allocated for an input of {}",
            input.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Runs a target whose check must fail; returns the message.
    fn failure(check: impl Fn(&[u8])) -> String {
        let target = Target::text("itself", 500).seeds(["a = 1\nb = 2\n"]);
        let target = AssertUnwindSafe(|| target.run(check));
        let panic = catch_unwind(target).expect_err("nothing was found");
        *panic.downcast::<String>().expect("a text")
    }

    #[test]
    fn a_panic_is_found_and_reduced_to_few_mutations() {
        let found = failure(|input| assert!(!input.contains(&b'-'), "a sign"));
        assert!(found.contains("a sign"), "{found}");
        let mutation = found.lines().nth(1).expect("the mutation");
        assert!(mutation.matches('(').count() <= 2, "{mutation}");
    }

    #[test]
    fn a_large_allocation_is_found() {
        let found = failure(|input| {
            let stated = if input.contains(&b'9') { 1 << 28 } else { 0 };
            drop(std::hint::black_box(Vec::<u8>::with_capacity(stated)));
        });
        assert!(found.contains("bytes were allocated"), "{found}");
    }
}
