//! The trainer's verbs.

use std::process::ExitCode;

use clap::Parser;
use expressd::train::finetune::{self, FinetuneArgs};
use expressd::train::import::{self, ImportArgs};

#[derive(Parser)]
#[command(version, about = "Makes the bundles that expressd serves")]
enum Verb {
    /// Third-party weights into graphs with their provenance.
    Import(ImportArgs),
    Finetune(FinetuneArgs),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Import(args) => import::run(args),
        Verb::Finetune(args) => finetune::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for cause in error.chain() {
                eprintln!("{cause}");
            }
            ExitCode::from(1)
        }
    }
}
