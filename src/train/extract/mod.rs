//! `expressd-train extract`: converts the recordings of a data set to the rows of a feature store,
//! with the daemon's own stages.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail, ensure};

mod faults;
mod names;
mod open;
mod picture;
mod playback;
mod progress;
mod refusal;
mod streams;
mod subject_rows;
mod worker_pool;

/// CPU time of this process and its decoder processes, in nanoseconds.
fn cpu_nanos() -> i64 {
    process_cpu_nanos() + decoder_cpu_nanos()
}

#[cfg(test)]
mod tests;
mod view;
mod worker;

pub use playback::{ClipSink, Playback, PlaybackStats, part_of};
pub use refusal::{MissingInputs, NoFace, NoVoice, Refusal};
pub use subject_rows::{ClipsRule, Row};
pub use worker::{Outcome, Worker};

use crate::capture::decoder_cpu_nanos;
use crate::encode::{Provider, Runtime};
use crate::manifest::EncoderEntry;
use crate::time::process_cpu_nanos;
use crate::train::data::{self, Item, Listing, Media};
use crate::train::encoders::EncoderSetFiles;
use crate::train::store::{
    Entry, FileStamp, Relabelled, SCHEMA, Shard, ShardWriter, StoreError, StoreSpec, StoredEncoder,
    WhenChanged,
};
use names::SkippedItems;
use progress::Progress;

/// Extracts the features of a data set into a feature store, with the daemon's own stages. The
/// same command resumes a stopped extraction.
///
/// Example: expressd-train extract --dataset crema-d --root CREMA-D --encoders models/default
/// --store stores/crema-d
#[derive(Clone, Debug, clap::Args)]
pub struct ExtractArgs {
    /// Name of the data set.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(data::names()))]
    pub dataset: String,
    /// The data set's folder.
    #[arg(long)]
    pub root: PathBuf,
    /// Folders of encoder sets or bundles; the encoders of several are joined.
    #[arg(long, required = true, num_args = 1..)]
    pub encoders: Vec<PathBuf>,
    /// The store's folder. A store that was begun with the same settings is continued.
    #[arg(long)]
    pub store: PathBuf,
    /// The shard of this process, such as 0/4; without it, the whole data set. Items are assigned
    /// to shards by their ids, intervals by the names of their recordings.
    #[arg(long)]
    pub shard: Option<Shard>,
    /// Number of threads; each opens its own graphs. By default as many as there are processors.
    #[arg(long)]
    pub workers: Option<usize>,
    /// What a row covers. A head for live use is trained on windows, because it is served windows.
    #[arg(long, value_enum, default_value = "window")]
    pub clips: ClipsRule,
    /// Number of rows of each clip: 1 for the unchanged clip alone, more for additional augmented
    /// views. SimCLR needs augmented views (its recipe uses 3).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub views: u32,
    /// What to do if recordings have changed since the extraction of their rows.
    #[arg(long, value_enum, default_value = "refuse")]
    pub changed: WhenChanged,
    /// Extract only the first LIMIT items of the data set.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Folder of the face detector. The reference's recipes use faces found by MTCNN: models/mtcnn.
    /// Resume a store with the same detector.
    #[arg(long, default_value = "models/yunet")]
    pub detector: PathBuf,
    /// Execution provider of the encoders: cpu, cuda, tensorrt, auto.
    #[arg(long, default_value = "cpu", value_parser = provider)]
    pub provider: Provider,
    /// meld: list utterances without recordings too, with their words alone.
    #[arg(long)]
    pub text_only: bool,
    /// ravdess: split by this fold of the reference's ten, 0 to 9.
    #[arg(long)]
    pub fold: Option<usize>,
    /// fer2013: use PublicTest for validation instead of test.
    #[arg(long)]
    pub public_test_selects: bool,
}

/// Parses the name of an execution provider on the command line.
fn provider(name: &str) -> Result<Provider, String> {
    let all = [
        Provider::Auto,
        Provider::Tensorrt,
        Provider::Cuda,
        Provider::Cpu,
    ];
    all.into_iter()
        .find(|p| p.name() == name)
        .ok_or_else(|| format!("must be one of {}", all.map(Provider::name).join(", ")))
}

/// Result of an extraction. The counts are those of this run, except for `done_before`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// Number of items of this shard that earlier runs extracted.
    pub done_before: usize,
    /// Number of items of earlier runs that this run extracts again, because a kill or a power cut
    /// damaged the end of the store's files.
    pub repaired: usize,
    /// Number of items of earlier runs whose metadata the listing changed.
    pub relabelled: Relabelled,
    /// Number of recordings that have changed since their extraction.
    pub changed: usize,
    /// Number of items that this run finished, with or without rows.
    pub items: usize,
    /// Number of rows that this run wrote.
    pub rows: usize,
    /// Number of items without rows, by reason.
    pub refused: BTreeMap<String, usize>,
    /// Number of truncated recordings with rows, which are from the readable part.
    pub cut: usize,
    /// Duration of the work in seconds.
    pub seconds: f64,
    /// Share of the CPU time that was spent in graphs, in [0, 1].
    pub graph_share: f64,
    /// Share of the CPU time that was spent on decoding, in [0, 1].
    pub decoding_share: f64,
    /// Share of the workers' time that was spent waiting for decoders, in [0, 1].
    pub waiting_share: f64,
    /// Number of items that were not extracted because a signal stopped the run; otherwise 0.
    pub left: usize,
}

/// Runs `expressd-train extract`, and prints its result.
///
/// # Errors
/// The data set, the encoders or the store cannot be used, the store cannot be written, or a signal
/// stopped the run before its end.
pub fn run(args: &ExtractArgs) -> anyhow::Result<()> {
    let options = data::Options {
        text_only: args.text_only,
        fold: args.fold,
        public_test_selects: args.public_test_selects,
    };
    let listing = data::list(&args.dataset, &args.root, &options)?;
    println!(
        "{}: {} items, {} faults in this copy",
        listing.dataset,
        listing.items.len(),
        listing.faults.len()
    );
    for (label, [train, val, test]) in listing.label_counts() {
        println!("  {label}: {train} train, {val} val, {test} test");
    }
    let extracted = extract(&listing, args, &stop_on_signals())?;
    print(&extracted);
    if extracted.left > 0 {
        bail!(
            "stopped: {} items are done, {} are left; the same command continues",
            extracted.done_before + extracted.items,
            extracted.left
        );
    }
    Ok(())
}

/// A flag that SIGINT (Ctrl-C) and SIGTERM set. A second signal ends the process at once.
fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone());
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    stop
}

/// Extracts the items of `listing` that are not in the store yet. Once `stop` is set, the
/// extraction ends after the current items.
///
/// # Errors
/// The encoders or the store cannot be used, or the store cannot be written. An item without rows
/// is not an error.
pub fn extract(
    listing: &Listing,
    args: &ExtractArgs,
    stop: &AtomicBool,
) -> anyhow::Result<Extracted> {
    let files = EncoderSetFiles::read(&args.encoders)?;
    let rules = files.manifest();
    for encoder in rules
        .encoders
        .iter()
        .filter(|e| e.source.to_lowercase().contains(&listing.dataset))
    {
        println!(
            "note: the encoder {} was {}: on its training data metrics are too favourable, and \
             confidence is calibrated too high",
            encoder.name, encoder.source
        );
    }
    let spec = StoreSpec {
        schema: SCHEMA,
        fingerprint: files.fingerprint().to_owned(),
        dataset: listing.dataset.clone(),
        labels: listing.labels.clone(),
        clips: args.clips.name().to_owned(),
        window: Some(args.clips.window(rules.window)),
        views: args.views,
        encoders: rules
            .encoders
            .iter()
            .map(|e| StoredEncoder {
                name: e.name.clone(),
                modality: e.modality,
                dim: e.dim,
            })
            .collect(),
    };
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let changed_path = args.store.join(format!("changed-{shard}.txt"));
    let opened = ShardWriter::open_when(&args.store, &spec, shard, &listing.items, args.changed);
    if let Err(StoreError::Changed { items, .. }) = &opened {
        names::replace(&changed_path, items)?;
    }
    let writer = opened?;
    names::replace(&changed_path, writer.changed())?;
    faults::report(
        &listing.faults,
        &args.store.join(format!("faults-{shard}.txt")),
    )?;
    let listed = listing.items.iter().take(args.limit.unwrap_or(usize::MAX));
    let ours: Vec<&Item> = listed
        .filter(|item| shard.holds(&shard_key(item)))
        .collect();
    let items: Vec<&Item> = ours
        .iter()
        .copied()
        .filter(|item| !writer.is_done(&item.id))
        .collect();
    let before = Extracted {
        done_before: ours.len() - items.len(),
        repaired: writer.dropped(),
        relabelled: writer.relabelled(),
        changed: writer.changed().len(),
        ..Extracted::default()
    };
    if items.is_empty() {
        return Ok(before);
    }
    let runtime = Runtime::load()?;
    let count = args
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    ensure!(count > 0, "--workers must be at least 1");
    let jobs = worker_pool::jobs(&items);
    let worker = |_| {
        let rule = (args.clips, args.views);
        Worker::new(&runtime, &files, &args.detector, args.provider, rule)
    };
    let workers = (0..count.min(jobs.len()))
        .map(worker)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (count, cpu_before, graphs_before) =
        (workers.len(), cpu_nanos(), runtime.total().cpu_nanos);
    let mut sink = StoreSink {
        encoders: &rules.encoders,
        writer,
        runtime: &runtime,
        cpu_before,
        graphs_before,
        extracted: before,
        waited_nanos: 0,
        progress: Progress::new(items.len()),
        names: SkippedItems::default(),
    };
    let stats = worker_pool::work(&jobs, workers, stop, &mut sink);
    sink.progress.finish();
    let stats = stats?;
    sink.writer.sync()?;
    sink.names
        .append(&args.store.join(format!("refused-{shard}.txt")))?;
    let spent = (cpu_nanos() - cpu_before) as f64;
    Ok(Extracted {
        seconds: stats.seconds,
        graph_share: sink.graph_share(),
        decoding_share: 1.0 - stats.cpu_nanos as f64 / spent,
        waiting_share: sink.waited_nanos as f64 / (stats.seconds * 1e9 * count as f64),
        left: if stats.stopped {
            items.len() - sink.extracted.items
        } else {
            0
        },
        ..sink.extracted
    })
}

/// The name whose hash determines the shard of an item. All intervals of a recording have the
/// recording's name, so that one process plays the recording once.
fn shard_key(item: &Item) -> String {
    let recording = match &item.media {
        Media::Recording(path) | Media::Separate { video: path, .. } => path.file_stem(),
        Media::Picture(_) | Media::None => None,
    };
    match (item.interval, recording) {
        (Some(_), Some(name)) => name.to_string_lossy().into_owned(),
        _ => item.id.clone(),
    }
}

/// Writes the outcomes of items to the store and counts them.
struct StoreSink<'a> {
    encoders: &'a [EncoderEntry],
    writer: ShardWriter,
    runtime: &'a Runtime,
    /// [`cpu_nanos`] at the start of the work.
    cpu_before: i64,
    /// CPU time of the graphs at the start of the work, in nanoseconds.
    graphs_before: i64,
    extracted: Extracted,
    /// Time that all workers waited for decoders, in nanoseconds.
    waited_nanos: i64,
    progress: Progress,
    names: SkippedItems,
}

impl StoreSink<'_> {
    /// Share of the CPU time since the start of the work that was spent in graphs, in [0, 1].
    fn graph_share(&self) -> f64 {
        (self.runtime.total().cpu_nanos - self.graphs_before) as f64
            / (cpu_nanos() - self.cpu_before).max(1) as f64
    }
}

impl worker_pool::OutcomeSink for StoreSink<'_> {
    fn write(&mut self, item: &Item, media: &[FileStamp], outcome: Outcome) -> anyhow::Result<()> {
        let extracted = &mut self.extracted;
        extracted.items += 1;
        extracted.cut += usize::from(outcome.cut && outcome.rows.is_ok());
        self.waited_nanos += outcome.waited_nanos;
        match outcome.rows {
            Ok(rows) => {
                extracted.rows += rows.len();
                let rows: Vec<_> = rows
                    .iter()
                    .map(|row| stored(item, row, self.encoders))
                    .collect();
                self.writer.push_from(&item.id, media, &rows)
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                let written = self.writer.skip_from(&item.id, media, &reason);
                self.names.push(&item.id, &reason);
                *extracted.refused.entry(reason).or_default() += 1;
                written
            }
        }
        .with_context(|| {
            format!(
                "{}: what was finished is kept; make room and run the same command again",
                item.id
            )
        })
    }

    fn report_progress(&mut self, seconds: f64) {
        let (runtime, cpu_before, graphs_before) =
            (self.runtime, self.cpu_before, self.graphs_before);
        let share = || {
            (runtime.total().cpu_nanos - graphs_before) as f64
                / (cpu_nanos() - cpu_before).max(1) as f64
        };
        self.progress.report(
            self.extracted.items,
            seconds,
            share,
            &self.extracted.refused,
        );
    }
}

/// The metadata and the values of `row` for the store. The values are the embeddings in the order
/// of `encoders`, with zeros for a missing embedding.
fn stored(item: &Item, row: &Row, encoders: &[EncoderEntry]) -> (Entry, Vec<f32>) {
    let present: Vec<bool> = encoders
        .iter()
        .map(|e| row.embeddings.contains_key(&e.name))
        .collect();
    let values = encoders
        .iter()
        .flat_map(|e| {
            row.embeddings
                .get(&e.name)
                .cloned()
                .unwrap_or_else(|| vec![0.0; e.dim])
        })
        .collect();
    let id = subject_rows::row_id(&item.id, row.start_ms);
    let (group, target, text) = (item.group.clone(), item.target.clone(), item.text.clone());
    (
        Entry {
            id,
            split: item.split,
            group,
            target,
            present,
            seconds: row.seconds,
            text,
            view: row.view,
        },
        values,
    )
}

/// Prints the result of an extraction on standard output.
fn print(extracted: &Extracted) {
    let Extracted {
        done_before,
        repaired,
        relabelled,
        changed,
        items,
        rows,
        refused,
        cut,
        seconds,
        graph_share,
        decoding_share,
        waiting_share,
        ..
    } = extracted;
    if *done_before > 0 {
        println!("{done_before} items were done before");
    }
    if *repaired > 0 {
        println!(
            "{repaired} items are extracted again: the end of the store's files was lost, as after \
             a power cut"
        );
    }
    if relabelled.items > 0 {
        println!(
            "  {} of them have another label, split or group now: taken over",
            relabelled.items
        );
    }
    if relabelled.words > 0 {
        println!(
            "  {} of them have other words now, but rows of the old words: extract into another \
             folder if words matter",
            relabelled.words
        );
    }
    if *changed > 0 {
        println!("{changed} recordings have changed since they were extracted: changed-*.txt");
    }
    println!("{items} items, {rows} rows");
    for (reason, count) in refused {
        println!("  {count} without a row: {reason}");
    }
    if !refused.is_empty() {
        println!("  by name: refused-*.txt in the store");
    }
    if *cut > 0 {
        println!("  {cut} recordings are truncated; their rows cover the part that could be read");
    }
    if *items > 0 {
        let rate = *items as f64 / seconds;
        let [graphs, decoders, rest] = [
            *graph_share,
            *decoding_share,
            1.0 - graph_share - decoding_share,
        ]
        .map(|share| 100.0 * share);
        println!(
            "{rate:.2} items/s; of the CPU time {graphs:.0} % in graphs, {decoders:.0} % in \
             decoders, {rest:.0} % in the rest; workers waited {:.0} % for decoders",
            100.0 * waiting_share
        );
    }
}
