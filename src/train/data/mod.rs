//! Data sets, read from where they lie.

pub mod fer;
mod listing;
pub mod ravdess;

pub use listing::{Fault, Item, Listing, Media, Picture, Split, Target};

/// What a part of a data set may be used for. What selects a model never reports on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    Train,
    Select,
    Report,
}
