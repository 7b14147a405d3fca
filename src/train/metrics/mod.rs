//! Metrics: what a head's answers are worth, by names that no one confuses.
//!
//! [`Judgements`] (scores against truth) become [`Measured`] (figures with bootstrap intervals, confusion, reliability) by [`measure`].
//! `reference_*` is what ConCluGen's code computes ([`reference`]); the literature's names (`war`, `uar`, `mosei_wa`, …) are what papers
//! mean by them ([`figure`]). Each name carries its definition in one sentence.

pub mod bootstrap;
pub mod figure;
pub mod judgements;
pub mod measure;
pub mod reference;
pub mod tally;
pub mod weights;

pub use bootstrap::Bootstrap;
pub use figure::{LabelMetric, Metric};
pub use judgements::{JudgementError, Judgements, Truth};
pub use measure::{Figure, LabelFigures, MeasureOptions, Measured, measure};
