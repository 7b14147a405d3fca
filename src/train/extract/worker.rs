//! One worker: an item in, its rows or the reason why there are none out. Owns every graph it runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::Context;
use image::imageops::FilterType;

use super::Refusal;
use super::evidence::{ClipsRule, Evidence, Row};
use super::playback::Playback;
use crate::clip::Crop;
use crate::config::Config;
use crate::encode::{Provider, Runtime};
use crate::model::manifest::FacePreprocessing;
use crate::train::data::{Item, Media, Picture};
use crate::train::encoders::{EncoderSet, SetFiles};

/// What came of one item.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub rows: Result<Vec<Row>, Refusal>,
    /// The recording breaks off; the rows are of what was there.
    pub cut: bool,
    /// How long the stages waited for decoders, in nanoseconds.
    pub waited_nanos: i64,
}

/// Goes through items, one at a time.
pub struct Worker {
    runtime: Runtime,
    files: SetFiles,
    rule: ClipsRule,
    set: EncoderSet,
    playback: Playback,
}

impl Worker {
    /// Opens the encoders; the stages' graphs are opened when they are first needed.
    pub fn new(runtime: &Runtime, files: &SetFiles, provider: Provider, rule: ClipsRule) -> anyhow::Result<Worker> {
        let set = files.open(runtime, provider, 1).context("the encoders cannot be opened")?;
        Ok(Worker { runtime: runtime.clone(), files: files.clone(), rule, set, playback: Playback::new(runtime, Config::default(), files) })
    }

    /// Never fails, whatever the item is.
    pub fn extract(&mut self, item: &Item) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.rows(item))) {
            Ok(outcome) => outcome,
            Err(panic) => {
                // What was in the midst of its work is in no state to go on with.
                self.playback = Playback::new(&self.runtime, Config::default(), &self.files);
                let what = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                Outcome { rows: Err(Refusal::Stage(format!("panicked: {what}"))), cut: false, waited_nanos: 0 }
            }
        }
    }

    fn rows(&mut self, item: &Item) -> Outcome {
        let mut outcome = Outcome { rows: Ok(Vec::new()), cut: false, waited_nanos: 0 };
        let seen = match &item.media {
            Media::Picture(picture) => self.picture(picture).map(Some),
            Media::None => Ok(Vec::new()).map(Some),
            _ => self.recording(item, &mut outcome),
        };
        outcome.rows = seen.and_then(|rows| self.with_words(rows, item));
        outcome
    }

    /// `None`: nothing in it is for these encoders.
    fn recording(&mut self, item: &Item, outcome: &mut Outcome) -> Result<Option<Vec<Row>>, Refusal> {
        let Worker { set, playback, rule, files, .. } = self;
        let mut evidence = Evidence::new(*rule, i64::from(files.rules().window.length_ms) * 1_000_000);
        set.forget_faces();
        let shown = match playback.play(&item.media, item.interval, &mut |clip| evidence.take(clip, set)) {
            Err(Refusal::NothingToEncode) => return Ok(None),
            shown => shown?,
        };
        (outcome.cut, outcome.waited_nanos) = (shown.cut, shown.waited_nanos);
        if shown.seconds == 0.0 && shown.cut {
            return Err(Refusal::Unreadable("it breaks off at its start".into()));
        }
        Ok(Some(evidence.finish(set, shown.seconds)?))
    }

    fn picture(&mut self, picture: &Picture) -> Result<Vec<Row>, Refusal> {
        let Some(face) = &self.files.rules().face else { return Ok(Vec::new()) };
        let embeddings = self.set.encode_picture(Arc::new(crop(picture, face)?))?;
        Ok(if embeddings.is_empty() { Vec::new() } else { vec![Row { start_ms: None, seconds: 0.0, embeddings }] })
    }

    /// Every row of an utterance has its words; words alone are a row, too.
    fn with_words(&mut self, rows: Option<Vec<Row>>, item: &Item) -> Result<Vec<Row>, Refusal> {
        let said = item.text.as_deref().map_or(Ok(Default::default()), |text| self.set.encode_text(text))?;
        let has_media = rows.is_some() && !matches!(item.media, Media::None | Media::Picture(_));
        let mut rows = rows.unwrap_or_default();
        if rows.is_empty() && said.is_empty() {
            return Err(if has_media { Refusal::NobodyThere } else { Refusal::NothingToEncode });
        }
        if rows.is_empty() {
            rows.push(Row { start_ms: None, seconds: 0.0, embeddings: Default::default() });
        }
        for row in &mut rows {
            row.embeddings.extend(said.clone());
        }
        Ok(rows)
    }
}

/// The picture as the face encoders take it: the whole of it, since the data set cut it out. What has the size already is not touched.
fn crop(picture: &Picture, face: &FacePreprocessing) -> Result<Crop, Refusal> {
    let image = match picture {
        Picture::File(path) => {
            let bytes = std::fs::read(path).map_err(|error| Refusal::Unreadable(error.kind().to_string()))?;
            image::load_from_memory(&bytes).map_err(|error| Refusal::Unreadable(error.to_string()))?
        }
        Picture::Grey { size, pixels } => {
            let side = *size as u32;
            let grey = image::GrayImage::from_raw(side, side, pixels.clone()).ok_or_else(|| Refusal::Unreadable("its pixels are not size x size".into()))?;
            image::DynamicImage::ImageLuma8(grey)
        }
    };
    let side = face.size as u32;
    let image = if (image.width(), image.height()) == (side, side) { image } else { image.resize_exact(side, side, FilterType::Triangle) };
    let pixels = if face.channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
    Ok(Crop { size: face.size, channels: face.channels, pixels })
}
