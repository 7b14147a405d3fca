//! The trained heads of ConCluGen (`src/train/method.md` b.2 to b.4): embeddings of frozen encoders
//! to representations, pretext outputs, labels.

mod classifier;
mod gated;
mod pretext;
mod representation;

pub use classifier::{ClassificationHead, ClassifierShape};
pub use gated::GatedEmbeddingUnit;
pub use pretext::{PretextHeads, PretextShape, unit_rows};
pub use representation::{HeadsShape, ModalityShape, RepresentationHead, RepresentationHeads};
