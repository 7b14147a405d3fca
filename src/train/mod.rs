//! The trainer: from folders of recordings to a bundle that the daemon serves.
//!
//! A data set's loader lists its items (`data`); `extract` sends them through the daemon's own
//! stages into a feature `store`; `pretrain` learns representation `heads` from stores with the
//! `objective`s of ConCluGen (arXiv 2404.10904); `finetune` learns a classifier on them; `evaluate`
//! measures (`metrics`) and writes a `report`; `export` makes the bundle with its `card`. `import`
//! converts third-party weights. `reference` has the preprocessing rules of the ConCluGen authors'
//! code. Preprocessing is the daemon's own ([`crate::preprocess`]).
//!
//! Modules that do not need Burn are under the feature `corpus` alone.

#[doc = include_str!("guide.md")]
pub mod guide {}

#[doc = include_str!("method.md")]
pub mod method {}

pub mod augment;
pub mod calibrate;
pub mod data;
pub mod encoders;
#[cfg(feature = "capture")]
pub mod extract;
pub mod import;
pub mod import_encoder;
pub mod inspect;
pub mod metrics;
pub mod reference;
pub mod report;
pub mod schedule;
pub mod store;

#[cfg(feature = "train")]
pub mod adamw;
#[cfg(feature = "train")]
pub mod annotators;
#[cfg(feature = "train")]
pub mod assess;
#[cfg(feature = "train")]
pub mod average;
#[cfg(feature = "train")]
pub mod bench;
#[cfg(feature = "train")]
pub mod bundle;
#[cfg(feature = "train")]
pub mod card;
#[cfg(feature = "train")]
pub mod checkpoint;
#[cfg(feature = "train")]
pub mod classify;
#[cfg(feature = "train")]
pub mod conflict;
#[cfg(feature = "train")]
pub mod confusion;
#[cfg(feature = "train")]
pub mod davenet;
#[cfg(feature = "train")]
pub mod device;
#[cfg(feature = "train")]
pub mod embeddings;
#[cfg(feature = "train")]
pub mod encoder_runs;
#[cfg(feature = "train")]
pub mod evaluate;
#[cfg(feature = "train")]
pub mod export;
#[cfg(feature = "train")]
pub mod features;
#[cfg(feature = "train")]
pub mod figure;
#[cfg(feature = "train")]
pub mod finetune;
#[cfg(feature = "train")]
pub mod fit;
#[cfg(feature = "train")]
pub mod fusion;
#[cfg(feature = "train")]
pub mod heads;
#[cfg(feature = "train")]
pub mod int8;
#[cfg(feature = "train")]
pub mod labelled;
#[cfg(feature = "train")]
pub mod net;
#[cfg(feature = "train")]
pub mod objective;
#[cfg(feature = "train")]
pub mod opened_bundle;
#[cfg(all(feature = "train", feature = "capture"))]
pub mod pairs;
#[cfg(all(test, feature = "train"))]
mod parity;
#[cfg(feature = "train")]
pub mod pretrain;
#[cfg(feature = "train")]
pub mod prior;
#[cfg(feature = "train")]
pub mod recipe;
#[cfg(feature = "train")]
pub mod refused;
#[cfg(feature = "train")]
pub mod samples;
#[cfg(feature = "train")]
pub mod sentences;
#[cfg(feature = "train")]
pub mod staged_bundle;
#[cfg(feature = "train")]
pub mod subgroups;
#[cfg(feature = "train")]
pub mod synthetic;
#[cfg(feature = "train")]
pub mod windows;
#[cfg(feature = "train")]
pub mod wire_labels;
