//! The trained networks of ConCluGen after the frozen encoders (`src/train/method.md` b.2 to b.4):
//! representation heads, heads of pre-training (pretext heads), and the classifier.

mod classifier;
mod gated;
mod pretext;
mod representation;

pub use classifier::{ClassificationHead, ClassifierShape};
pub use gated::GatedEmbeddingUnit;
pub use pretext::{PretextHeads, PretextShape, unit_rows};
pub use representation::{HeadsShape, ModalityShape, RepresentationHead, RepresentationHeads};
