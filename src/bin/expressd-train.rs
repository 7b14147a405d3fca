//! The trainer's verbs: parse, call, exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use expressd::train::bench::{self, BenchArgs};
use expressd::train::device::{self, Compute, Precision};
use expressd::train::evaluate::{self, EvaluateArgs};
use expressd::train::export::{self, ExportArgs};
use expressd::train::extract::{self, ExtractArgs};
use expressd::train::finetune::{self, FinetuneArgs};
use expressd::train::import::{self, ImportArgs};
use expressd::train::pretrain::{self, PretrainArgs};
use expressd::train::refused::exit_code;

/// LibTorch allocates and frees large buffers at each step. In glibc's heap they leave gaps that
/// never close (measured: 2 MB more a step, 20 GB in an hour). Mapped separately, they cost a third
/// of the time.
#[cfg(feature = "train-torch")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc keeps freed memory in huge pages, because the next step needs as much. It reads this
/// symbol before `main`.
// SAFETY: the pointer is that of a static text that ends with a zero.
#[cfg(feature = "train-torch")]
#[unsafe(export_name = "malloc_conf")]
pub static ALLOCATION: Option<&'static std::ffi::c_char> =
    Some(unsafe { &*c"dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always".as_ptr() });

/// LibTorch prepares a convolution for each shape, direction and layer, and caches the last
/// thousand. With voices, which have windows of a hundred lengths, that is about 8 GB. An epoch
/// with a few dozen of them is not slower.
#[cfg(feature = "train-torch")]
fn keep_few_convolutions() {
    for name in ["ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"] {
        if std::env::var_os(name).is_none() {
            // SAFETY: called before any other thread starts.
            unsafe { std::env::set_var(name, "64") };
        }
    }
}

#[derive(Parser)]
#[command(version, about = "Makes the bundles that expressd serves")]
struct Arguments {
    /// What to train on: cpu, torch, torch-cuda:N, vulkan:N, cuda:N. Several: `pretrain` gives each
    /// a part of every batch.
    #[arg(long, global = true, value_delimiter = ',', default_value = "cpu")]
    device: Vec<Compute>,
    /// How encoders' convolutions are computed while they train.
    #[arg(long, global = true, value_enum, default_value = "full")]
    precision: Precision,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Third-party weights into graphs with their provenance.
    Import(ImportArgs),
    Extract(ExtractArgs),
    Pretrain(PretrainArgs),
    Finetune(FinetuneArgs),
    Evaluate(EvaluateArgs),
    Export(ExportArgs),
    Bench(BenchArgs),
}

fn main() -> ExitCode {
    if let Some(code) = expressd::capture::decoder_process() {
        return code;
    }
    #[cfg(feature = "train-torch")]
    keep_few_convolutions();
    expressd::output::exit_on_broken_pipe();
    let arguments = Arguments::parse();
    let done = device::choose(&arguments.device)
        .and_then(|()| device::choose_precision(arguments.precision))
        .map_err(anyhow::Error::from)
        .and_then(|()| match arguments.verb {
            Verb::Import(args) => import::run(args),
            Verb::Extract(args) => extract::run(&args),
            Verb::Pretrain(args) => pretrain::run(&args),
            Verb::Finetune(args) => finetune::run(&args),
            Verb::Evaluate(args) => evaluate::run(&args),
            Verb::Export(args) => export::run(&args),
            Verb::Bench(args) => bench::run(&args),
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.chain().for_each(|cause| eprintln!("{cause}"));
            ExitCode::from(exit_code(&error))
        }
    }
}
