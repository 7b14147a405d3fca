//! Metrics of a head's predictions, by unambiguous names.
//!
//! [`Predictions`] (scores against truth) become [`Measurement`] (figures with bootstrap intervals,
//! confusion, reliability) by [`measure`]. `reference_*` are ConCluGen's metrics as its code
//! computes them ([`reference`]); the literature's names (`war`, `uar`, `mosei_wa`, …) have the
//! papers' meaning ([`figure`]). Each name carries its definition in one sentence.

pub mod bootstrap;
pub mod figure;
pub mod measure;
pub mod predictions;
pub mod reference;
pub mod tally;
pub mod weights;
mod wilson;

pub use bootstrap::Bootstrap;
pub use figure::{LabelMetric, Metric};
pub use measure::{Estimate, LabelEstimates, MeasureOptions, Measurement, measure};
pub use predictions::{PredictionError, Predictions, Truth};
pub use wilson::wilson;
