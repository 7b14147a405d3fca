//! The trainer's verbs: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser;
use expressd::train::evaluate::EvaluateArgs;
use expressd::train::export::ExportArgs;
use expressd::train::finetune::FinetuneArgs;
use expressd::train::{evaluate, export, finetune};

/// Makes the bundles that expressd serves.
#[derive(Parser)]
#[command(version)]
enum Verb {
    Finetune(FinetuneArgs),
    Evaluate(EvaluateArgs),
    Export(ExportArgs),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Finetune(args) => finetune::run(&args),
        Verb::Evaluate(args) => evaluate::run(&args),
        Verb::Export(args) => export::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.chain().for_each(|cause| eprintln!("{cause}"));
            ExitCode::FAILURE
        }
    }
}
