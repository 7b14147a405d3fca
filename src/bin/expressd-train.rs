use clap::{Parser, Subcommand};
use expressd::train::import;

#[derive(Parser)]
#[command(version, about = "The trainer")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Import(import::ImportArgs),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().verb {
        Verb::Import(args) => import::run(args),
    }
}
