//! The command line of the trainer: parses the arguments, calls the library and returns the exit
//! code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use expressd::train::bench::{self, BenchArgs};
use expressd::train::device::{self, Compute, Precision};
use expressd::train::evaluate::{self, EvaluateArgs};
use expressd::train::export::{self, ExportArgs};
use expressd::train::extract::{self, ExtractArgs};
use expressd::train::finetune::{self, FinetuneArgs};
use expressd::train::import::{self, ImportArgs};
use expressd::train::inspect::{self, InspectArgs};
use expressd::train::pretrain::{self, PretrainArgs};
use expressd::train::refused::exit_code;

/// LibTorch allocates and frees large buffers at each step. In glibc's heap they leave gaps that
/// are never reused (measured: 2 MB more a step, 20 GB in an hour). If glibc maps each buffer
/// separately, a third of the time is lost. jemalloc avoids both.
#[cfg(feature = "train-torch")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's options, which it reads from this symbol before `main`: freed memory is kept, in huge
/// pages, because the next step needs as much.
// SAFETY: the pointer refers to a static text that ends with a zero byte.
#[cfg(feature = "train-torch")]
#[unsafe(export_name = "malloc_conf")]
pub static ALLOCATION: Option<&'static std::ffi::c_char> =
    Some(unsafe { &*c"dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always".as_ptr() });

/// Limits LibTorch's caches of prepared convolutions to 64 entries. LibTorch prepares a convolution
/// for each shape, direction and layer, and by default caches the last thousand: about 8 GB for
/// voices, whose windows have a hundred lengths. With a few dozen entries an epoch takes no longer.
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
    /// Device to train on: cpu, torch, torch-cuda:N, vulkan:N, cuda:N. Several: `pretrain` gives
    /// each a part of every batch.
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
    /// Converts third-party weights into graphs with their provenance.
    Import(ImportArgs),
    Extract(ExtractArgs),
    Inspect(InspectArgs),
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
            Verb::Inspect(args) => inspect::run(&args),
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
