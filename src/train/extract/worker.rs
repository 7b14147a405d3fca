//! A worker converts items to rows, or states why an item has none. It owns every graph that it
//! runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::picture::{crop, planar, read};
use super::playback::{ClipSink, Ending, Playback, PlaybackStats, part_of};
use super::refusal::{MissingInputs, NoFace, Refusal};
use super::subject_rows::{ClipsRule, Row, SubjectRows};
use super::view::View;
use crate::clip::Clip;
use crate::config::Config;
use crate::encode::{EncodeError, Provider, Runtime};
use crate::recognize::Embeddings;
use crate::time::Span;
use crate::train::data::{Item, Media, Picture};
use crate::train::encoders::{EncoderSet, EncoderSetFiles};
use anyhow::Context;

/// The result of extracting one item.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The item's rows, or why it has none.
    pub rows: Result<Vec<Row>, Refusal>,
    /// Whether the recording is truncated; the rows are then from its readable part.
    pub cut: bool,
    /// Time that the stages waited for decoders, in nanoseconds.
    pub waited_nanos: i64,
}

impl Outcome {
    /// The outcome of an item that was not played, or was played without waiting.
    fn new(rows: Result<Vec<Row>, Refusal>) -> Outcome {
        Outcome {
            rows,
            cut: false,
            waited_nanos: 0,
        }
    }
}

/// Converts items to rows, one after another, on one thread.
pub struct Worker {
    runtime: Runtime,
    files: EncoderSetFiles,
    rule: ClipsRule,
    /// Number of rows of each clip.
    views: u32,
    set: EncoderSet,
    /// The stages' settings.
    config: Config,
    playback: Playback,
}

impl Worker {
    /// Opens the encoders of `files`. The graphs of the stages are opened at first use. `detector`:
    /// folder of the face detector. `views`: number of rows of each clip, 1 for the unchanged clip
    /// alone.
    ///
    /// # Errors
    /// An encoder cannot be opened.
    pub fn new(
        runtime: &Runtime,
        files: &EncoderSetFiles,
        detector: &Path,
        provider: Provider,
        (rule, views): (ClipsRule, u32),
    ) -> anyhow::Result<Worker> {
        let set = files
            .open(runtime, provider, 1)
            .context("the encoders cannot be opened")?;
        let set = if rule == ClipsRule::Recording {
            set.with_equal_face_weights()
        } else {
            set
        };
        let mut config = Config::default();
        config.face.detector = detector.to_owned();
        let playback = Playback::new(runtime, config.clone(), files);
        Ok(Worker {
            runtime: runtime.clone(),
            files: files.clone(),
            rule,
            views,
            set,
            config,
            playback,
        })
    }

    /// CPU time of the calling thread that was spent on opening decoders, in nanoseconds.
    pub fn opening_cpu_nanos(&self) -> i64 {
        self.playback.opening_cpu_nanos()
    }

    /// Extracts one item. Every failure, panics included, is part of the outcome.
    pub fn extract(&mut self, item: &Item) -> Outcome {
        let mut outcome = None;
        self.extract_all(&[item], &|| true, &mut |_, found| outcome = Some(found));
        outcome.expect("every item has an outcome")
    }

    /// Extracts one item, or in one pass several consecutive items of a recording that do not
    /// overlap. Calls `report` with each item and its outcome, in order. Once `goes_on` returns
    /// false, the extraction ends between two items.
    pub fn extract_all<'a>(
        &mut self,
        items: &[&'a Item],
        goes_on: &dyn Fn() -> bool,
        report: &mut dyn FnMut(&'a Item, Outcome),
    ) {
        let mut reported = 0;
        while reported < items.len() && (reported == 0 || goes_on()) {
            let rest = &items[reported..];
            let mut viewing_reported = 0;
            let pass = catch_unwind(AssertUnwindSafe(|| {
                self.pass(rest, goes_on, &mut |item, outcome| {
                    viewing_reported += 1;
                    report(item, outcome);
                })
            }));
            if let Err(panic) = pass {
                // After a panic the playback's state is undefined, so it is replaced.
                self.playback = Playback::new(&self.runtime, self.config.clone(), &self.files);
                let what = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or(panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                let failed = Outcome::new(Err(Refusal::Stage(format!("panicked: {what}"))));
                report(rest[viewing_reported], failed);
                viewing_reported += 1;
            } else if viewing_reported == 0 {
                return;
            }
            reported += viewing_reported;
        }
    }

    /// Plays the recording of the items once, up to the first failure. Reports at least one
    /// outcome, unless it is stopped.
    fn pass<'a>(
        &mut self,
        items: &[&'a Item],
        goes_on: &dyn Fn() -> bool,
        report: &mut dyn FnMut(&'a Item, Outcome),
    ) {
        let item = items[0];
        let rows = match &item.media {
            Media::Picture(picture) => self.picture(picture, &item.id),
            Media::None => Ok(Vec::new()),
            _ => return self.recording(items, goes_on, report),
        };
        let rows =
            rows.and_then(|rows| with_words(&mut self.set, rows, item, Refusal::NothingToEncode));
        report(item, Outcome::new(rows));
    }

    /// Extracts items that are intervals of one recording, or one whole recording.
    fn recording<'a>(
        &mut self,
        items: &[&'a Item],
        goes_on: &dyn Fn() -> bool,
        report: &mut dyn FnMut(&'a Item, Outcome),
    ) {
        let parts: Option<Vec<Span>> = items.iter().map(|item| part_of(item.interval)).collect();
        let Some(parts) = parts else {
            return report(
                items[0],
                Outcome::new(Err(Refusal::Unreadable("its interval is empty".into()))),
            );
        };
        let Worker {
            set,
            playback,
            rule,
            files,
            views,
            ..
        } = self;
        let detects = playback.detects();
        let mut viewing = Viewing {
            items,
            goes_on,
            report: &mut *report,
            set: &mut *set,
            detects,
            rule: *rule,
            views: *views,
            length_nanos: i64::from(files.manifest().window.length_ms) * 1_000_000,
            subjects: None,
            over: 0,
            late: Vec::new(),
        };
        let ending = playback.play(&items[0].media, &parts, &mut viewing);
        let Viewing { over, late, .. } = viewing;
        let reported = over - late.len();
        let cut = ending == Ok(Ending::Cut);
        for (item, (rows, stats)) in items[reported..].iter().zip(late) {
            let rows = match &ending {
                Err(refusal @ Refusal::Unreadable(_)) => Err(refusal.clone()),
                _ if cut && stats.seconds == 0.0 => {
                    Err(Refusal::Unreadable("it breaks off at its start".into()))
                }
                _ => rows,
            };
            report(
                item,
                Outcome {
                    rows,
                    cut,
                    waited_nanos: stats.waited_nanos,
                },
            );
        }
        if let (Some(item), Err(refusal)) = (items.get(over), ending) {
            let rows = match refusal {
                // The item's text is a row of its own if there are no other rows.
                Refusal::NothingToEncode | Refusal::NoSubject(_) => {
                    with_words(set, Vec::new(), item, refusal)
                }
                refusal => Err(refusal),
            };
            report(item, Outcome::new(rows));
        }
    }

    /// The rows of a picture, one for each view; empty without a face encoder. A square picture is
    /// a face crop already; in another picture, the largest face is detected.
    fn picture(&mut self, picture: &Picture, id: &str) -> Result<Vec<Row>, Refusal> {
        let Some(face) = &self.files.manifest().face else {
            return Ok(Vec::new());
        };
        let crop = match read(picture)? {
            image if image.width() == image.height() => crop(image, face),
            // Not square: a whole picture, in which a face is detected.
            image => self
                .playback
                .largest_face(&planar(&image))?
                .ok_or(Refusal::NoSubject(MissingInputs {
                    face: Some(NoFace::Unseen),
                    voice: None,
                }))?,
        };
        let mut rows = Vec::new();
        for view in 0..self.views {
            let shown = if view == 0 {
                crop.clone()
            } else {
                View::draw(id, view).of_crop(&crop, 0)
            };
            let embeddings = self.set.encode_picture(Arc::new(shown))?;
            if !embeddings.is_empty() {
                rows.push(Row {
                    start_ms: None,
                    view,
                    seconds: 0.0,
                    embeddings,
                });
            }
        }
        Ok(rows)
    }
}

/// The items of one recording while it is played.
struct Viewing<'v, 'a> {
    items: &'v [&'a Item],
    goes_on: &'v dyn Fn() -> bool,
    report: &'v mut dyn FnMut(&'a Item, Outcome),
    set: &'v mut EncoderSet,
    /// Whether there are face encoders, and whether there are voice encoders.
    detects: (bool, bool),
    rule: ClipsRule,
    views: u32,
    /// Length of a window.
    length_nanos: i64,
    /// The clips of the current item.
    subjects: Option<SubjectRows>,
    /// Number of items that have been played.
    over: usize,
    /// Items that reach the recording's end. They are reported after playback, when it is known
    /// whether the recording is truncated.
    late: Vec<(Result<Vec<Row>, Refusal>, PlaybackStats)>,
}

impl ClipSink for Viewing<'_, '_> {
    fn begin(&mut self) -> bool {
        if self.over > 0 && !(self.goes_on)() {
            return false;
        }
        self.set.start_session();
        self.subjects = Some(SubjectRows::new(
            self.rule,
            self.length_nanos,
            &self.items[self.over].id,
            self.views,
        ));
        true
    }

    fn take(&mut self, clip: Clip) -> Result<(), EncodeError> {
        self.subjects
            .as_mut()
            .expect("a part has begun")
            .take(clip, self.set)
    }

    fn end(&mut self, stats: PlaybackStats) -> Result<(), EncodeError> {
        let rows = self
            .subjects
            .take()
            .expect("a part has begun")
            .finish(self.set, stats.seconds)?;
        let item = self.items[self.over];
        let missing = if stats.inputs.is_blank() && item.interval.is_some() {
            Refusal::Beyond
        } else {
            Refusal::NoSubject(stats.inputs.missing_inputs(self.detects.0, self.detects.1))
        };
        let rows = with_words(self.set, rows, item, missing);
        self.over += 1;
        if stats.to_the_end || !self.late.is_empty() {
            self.late.push((rows, stats));
        } else {
            (self.report)(
                item,
                Outcome {
                    rows,
                    cut: false,
                    waited_nanos: stats.waited_nanos,
                },
            );
        }
        Ok(())
    }
}

/// Adds the embeddings of the item's text to each of its rows. If there are no rows, the text is a
/// row of its own. `missing`: the refusal for an item without rows and text.
fn with_words(
    set: &mut EncoderSet,
    mut rows: Vec<Row>,
    item: &Item,
    missing: Refusal,
) -> Result<Vec<Row>, Refusal> {
    let text_embeddings = item
        .text
        .as_deref()
        .map_or(Ok(Embeddings::new()), |text| set.encode_text(text))?;
    if rows.is_empty() && text_embeddings.is_empty() {
        return Err(missing);
    }
    if rows.is_empty() {
        rows.push(Row {
            start_ms: None,
            view: 0,
            seconds: 0.0,
            embeddings: Embeddings::new(),
        });
    }
    for row in &mut rows {
        row.embeddings.extend(text_embeddings.clone());
    }
    Ok(rows)
}
