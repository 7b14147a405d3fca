//! Metrics of a head's predictions.
//!
//! [`measure`] computes a [`Measurement`] from [`Predictions`], which are scores with true labels.
//! It contains every metric with its bootstrap interval, the confusion matrix and the reliability
//! diagram. The metrics `reference_*` are computed as by ConCluGen's code ([`reference`]). Metrics
//! with names of the literature (`war`, `uar`, `mosei_wa`, …) are defined as in the papers
//! ([`figure`]). Each metric has a definition of one sentence.

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
