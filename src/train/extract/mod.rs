//! `expressd-train extract`: a data set's recordings become rows of a feature store, by the daemon's own stages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, ensure};

mod crew;
mod evidence;
mod playback;
#[cfg(test)]
mod tests;
mod worker;

pub use evidence::{ClipsRule, Row};
pub use worker::{Outcome, Worker};

use crate::encode::{EncodeError, Provider, Runtime};
use crate::model::manifest::EncoderEntry;
use crate::train::data::{self, Item, Listing};
use crate::train::encoders::SetFiles;
use crate::train::store::{Entry, SCHEMA, Shard, ShardWriter, StoreSpec, StoredEncoder};

/// Why an item gives no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file is broken, is not there, or is nothing that can be decoded.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// It was played, and nobody is seen or heard well enough.
    #[error("no face and no voice")]
    NobodyThere,
    /// It has nothing that these encoders take.
    #[error("nothing to encode")]
    NothingToEncode,
    /// A fault of ours.
    #[error("failed: {0}")]
    Stage(String),
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Refusal {
        Refusal::Stage(playback::one_line(&error))
    }
}

/// Reads a data set through the daemon's own stages into a feature store. Goes on where it was stopped.
///
/// Example: expressd-train extract --dataset crema-d --root CREMA-D --encoders models/default --store stores/crema-d
#[derive(Debug, clap::Args)]
pub struct ExtractArgs {
    /// What the data set is called.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(data::names()))]
    pub dataset: String,
    /// The folder in which it lies.
    #[arg(long)]
    pub root: PathBuf,
    /// Encoder sets or bundles; several are joined.
    #[arg(long, required = true, num_args = 1..)]
    pub encoders: Vec<PathBuf>,
    /// The store's folder. One that was begun with the same settings is gone on with.
    #[arg(long)]
    pub store: PathBuf,
    /// This process's part, such as 0/4: the items are dealt out one by one.
    #[arg(long)]
    pub shard: Option<Shard>,
    /// Threads, each with graphs of its own. By default as many as there are processors.
    #[arg(long)]
    pub workers: Option<usize>,
    /// What becomes a row.
    #[arg(long, value_enum, default_value = "recording")]
    pub clips: ClipsRule,
    /// Only the first so many items of the data set.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Who computes the encoders: cpu, cuda, tensorrt, auto.
    #[arg(long, default_value = "cpu", value_parser = provider)]
    pub provider: Provider,
    /// meld: utterances without media are listed with their words.
    #[arg(long)]
    pub text_only: bool,
    /// ravdess: one of the reference's ten folds, 0 to 9.
    #[arg(long)]
    pub fold: Option<usize>,
    /// fer2013: PublicTest selects and does not report.
    #[arg(long)]
    pub public_test_selects: bool,
}

fn provider(name: &str) -> Result<Provider, String> {
    let all = [Provider::Auto, Provider::Tensorrt, Provider::Cuda, Provider::Cpu];
    all.into_iter().find(|p| p.name() == name).ok_or_else(|| format!("must be one of {}", all.map(Provider::name).join(", ")))
}

/// What a run came to. Counts are of this run alone, except for `done_before`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    pub done_before: usize,
    pub items: usize,
    pub rows: usize,
    pub refused: BTreeMap<String, usize>,
    /// Recordings that break off, whose rows are of what was there.
    pub cut: usize,
    pub seconds: f64,
    /// Of the workers' time: within graphs, and waiting for decoders.
    pub graph_share: f64,
    pub waiting_share: f64,
}

/// The verb.
pub fn run(args: &ExtractArgs) -> anyhow::Result<()> {
    let options = data::Options { text_only: args.text_only, fold: args.fold, public_test_selects: args.public_test_selects };
    let listing = data::list(&args.dataset, &args.root, &options)?;
    println!("{}: {} items, {} faults in this copy", listing.dataset, listing.items.len(), listing.faults.len());
    for fault in listing.faults.iter().take(5) {
        println!("  {}: {}", fault.at, fault.what);
    }
    let extracted = extract(&listing, args)?;
    print(&extracted);
    Ok(())
}

/// Extracts what of `listing` is not in the store yet.
pub fn extract(listing: &Listing, args: &ExtractArgs) -> anyhow::Result<Extracted> {
    let files = SetFiles::read(&args.encoders)?;
    let rules = files.rules();
    let spec = StoreSpec {
        schema: SCHEMA,
        fingerprint: files.fingerprint().to_owned(),
        dataset: listing.dataset.clone(),
        labels: listing.labels.clone(),
        clips: args.clips.name().to_owned(),
        encoders: rules.encoders.iter().map(|e| StoredEncoder { name: e.name.clone(), modality: e.modality, dim: e.dim }).collect(),
    };
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let mut writer = ShardWriter::open(&args.store, &spec, shard)?;
    let listed = listing.items.iter().take(args.limit.unwrap_or(usize::MAX)).enumerate();
    let ours: Vec<&Item> = listed.filter(|(i, _)| i % shard.count == shard.index).map(|(_, item)| item).collect();
    let items: Vec<&Item> = ours.iter().copied().filter(|item| !writer.is_done(&item.id)).collect();
    let mut extracted = Extracted { done_before: ours.len() - items.len(), ..Extracted::default() };
    if items.is_empty() {
        return Ok(extracted);
    }
    let runtime = Runtime::load()?;
    let count = args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    ensure!(count > 0, "--workers must be at least 1");
    let workers = (0..count.min(items.len())).map(|_| Worker::new(&runtime, &files, args.provider, args.clips)).collect::<anyhow::Result<Vec<_>>>()?;
    let (count, mut waited_nanos, before) = (workers.len(), 0, graph_nanos(&runtime));
    extracted.seconds = crew::work(&items, workers, |item, outcome| {
        extracted.items += 1;
        extracted.cut += usize::from(outcome.cut && outcome.rows.is_ok());
        waited_nanos += outcome.waited_nanos;
        match outcome.rows {
            Ok(rows) => {
                extracted.rows += rows.len();
                let rows: Vec<_> = rows.iter().map(|row| stored(item, row, &rules.encoders)).collect();
                writer.push(&item.id, &rows)
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                let written = writer.skip(&item.id, &reason);
                *extracted.refused.entry(reason).or_default() += 1;
                written
            }
        }
        .with_context(|| format!("{}: what was finished is kept; make room and run the same command again", item.id))
    })?;
    let worker_nanos = extracted.seconds * 1e9 * count as f64;
    extracted.graph_share = (graph_nanos(&runtime) - before) as f64 / worker_nanos;
    extracted.waiting_share = waited_nanos as f64 / worker_nanos;
    Ok(extracted)
}

/// What a store holds of `row`: zeros where there was no evidence.
fn stored(item: &Item, row: &Row, encoders: &[EncoderEntry]) -> (Entry, Vec<f32>) {
    let present: Vec<bool> = encoders.iter().map(|e| row.embeddings.contains_key(&e.name)).collect();
    let values = encoders.iter().flat_map(|e| row.embeddings.get(&e.name).cloned().unwrap_or_else(|| vec![0.0; e.dim])).collect();
    let id = row.start_ms.map_or_else(|| item.id.clone(), |start| format!("{}#{start}", item.id));
    let (group, target, text) = (item.group.clone(), item.target.clone(), item.text.clone());
    (Entry { id, split: item.split, group, target, present, seconds: row.seconds, text, view: 0 }, values)
}

fn graph_nanos(runtime: &Runtime) -> i64 {
    runtime.tallies().iter().flat_map(|tally| tally.runs().into_values()).map(|runs| runs.nanos).sum()
}

fn print(extracted: &Extracted) {
    let Extracted { done_before, items, rows, refused, cut, seconds, graph_share, waiting_share } = extracted;
    if *done_before > 0 {
        println!("{done_before} items were done before");
    }
    println!("{items} items, {rows} rows");
    for (reason, count) in refused {
        println!("  {count} without a row: {reason}");
    }
    if *cut > 0 {
        println!("  {cut} recordings break off; their rows are of what was there");
    }
    if *items > 0 {
        let rate = *items as f64 / seconds;
        println!("{rate:.2} items/s; of the workers' time {:.0} % in graphs, {:.0} % waiting for decoders", 100.0 * graph_share, 100.0 * waiting_share);
    }
}
