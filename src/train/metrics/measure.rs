//! All metrics of one set of predictions, with bootstrap intervals.

use serde::Serialize;

use crate::manifest::Task;
use crate::train::metrics::bootstrap::{Bootstrap, ResamplingUnits};
use crate::train::metrics::figure::{LabelMetric, Metric, TallyCounts};
use crate::train::metrics::predictions::Predictions;
use crate::train::metrics::tally::{BINS, ItemCounts};

/// A metric's value and its bootstrap interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The metric's name.
    pub metric: &'static str,
    /// `None`: the metric is undefined, because items that it needs are missing.
    pub value: Option<f64>,
    /// The percentile bootstrap interval `[low, high]`. `None`: there are fewer than two resampling
    /// units, or the metric is undefined in more than half of the resamples.
    pub interval: Option<[f64; 2]>,
}

/// The metrics of one label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelEstimates {
    pub label: String,
    /// Number of items with the label.
    pub support: u64,
    /// Number of items that are predicted to have the label.
    #[serde(rename = "said")]
    pub predicted: u64,
    /// The metrics, in the order of [`LabelMetric::all`].
    pub figures: Vec<Estimate>,
}

/// One bin of the reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Lower bound of the confidences in the bin, 0..1.
    pub from: f64,
    /// Upper bound of the confidences in the bin, 0..1.
    pub to: f64,
    /// Number of decisions in the bin.
    pub count: u64,
    /// Mean confidence in the bin; `None`: the bin is empty.
    pub confidence: Option<f64>,
    /// Share of the decisions in the bin whose label is true, 0..1; `None`: the bin is empty. A
    /// decision is the top label of an item, or with several labels each label of an item.
    pub right: Option<f64>,
}

/// Coverage and accuracy at one abstention threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Abstention {
    /// Confidence below which a prediction abstains, 0..1.
    pub threshold: f32,
    /// Share of items with a confidence of at least `threshold`, 0..1.
    pub answered: f64,
    /// Accuracy on the items with a confidence of at least `threshold`; `None` without such items.
    pub accuracy: Option<f64>,
}

/// All metrics of one subset of modalities.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// The name of the subset of modalities as in manifests (`face+voice`), or another name.
    pub subset: String,
    /// Number of items.
    pub items: usize,
    /// Number of resampling units of the bootstrap.
    pub units: usize,
    /// Whether resampling units are groups of items (speakers, actors) and not single items.
    pub grouped: bool,
    /// Number of bootstrap resamples.
    pub resamples: usize,
    /// Nominal coverage of the intervals, 0..1.
    pub level: f64,
    /// The metrics over all items, in the order of [`Metric::all`].
    pub figures: Vec<Estimate>,
    /// The metrics of each label, in the order of the labels.
    pub labels: Vec<LabelEstimates>,
    /// Numbers of items. One label per item: the confusion matrix `[truth][predicted]`. Several
    /// labels: `[label][true negatives, false positives, false negatives, true positives]`.
    pub confusion: Vec<Vec<u64>>,
    /// The bins of the reliability diagram, by ascending confidence.
    pub reliability: Vec<ReliabilityBin>,
    /// The abstention threshold in use, 0..1.
    pub abstain_threshold: f32,
    /// Coverage and accuracy at the thresholds 0, 0.05, …, 0.95.
    pub abstention: Vec<Abstention>,
}

/// Settings of [`measure`].
#[derive(Clone, Copy, Debug)]
pub struct MeasureOptions<'a> {
    pub bootstrap: Bootstrap,
    /// The group of each item (speaker, actor), in the order of the items. An empty list: every
    /// item is a group.
    pub groups: &'a [String],
    /// Confidence below which a prediction abstains, 0..1.
    pub abstain_threshold: f32,
}

impl Measurement {
    /// The estimate of the metric with the name `metric`; `None` if the task has no such metric.
    pub fn figure(&self, metric: &str) -> Option<&Estimate> {
        self.figures.iter().find(|figure| figure.metric == metric)
    }
}

/// Computes all metrics of `predictions`. `subset`: the name of the result
/// ([`Measurement::subset`]).
///
/// # Panics
/// `options.groups` is neither empty nor of the length of the predictions.
pub fn measure(
    subset: &str,
    predictions: &Predictions,
    options: &MeasureOptions<'_>,
) -> Measurement {
    let task = predictions.task();
    let units = if options.groups.is_empty() {
        ResamplingUnits::items(predictions.count())
    } else {
        ResamplingUnits::groups(options.groups)
    };
    assert!(
        options.groups.is_empty() || options.groups.len() == predictions.count(),
        "a group per item"
    );
    let counted = ItemCounts::new(predictions, options.abstain_threshold);
    let point = TallyCounts::new(counted.tally(|_| 1));
    let labels = predictions.labels().len();

    // The metrics over all items, then the metrics of each label.
    let compute = |counts: &TallyCounts| -> Vec<Option<f64>> {
        let of_labels = (0..labels).flat_map(|label| {
            LabelMetric::all(task).map(move |metric| metric.compute(counts, label))
        });
        Metric::all(task)
            .map(|metric| metric.compute(counts))
            .chain(of_labels)
            .collect()
    };
    let values = compute(&point);
    let mut resampled = vec![Vec::with_capacity(options.bootstrap.resamples); values.len()];
    // A single unit cannot be resampled.
    if units.count() > 1 {
        options.bootstrap.run(&units, |times| {
            let drawn = compute(&TallyCounts::new(counted.tally(times)));
            resampled
                .iter_mut()
                .zip(drawn)
                .for_each(|(values, value)| values.push(value));
        });
    }
    let names = Metric::all(task)
        .map(|m| m.name)
        .chain((0..labels).flat_map(|_| LabelMetric::all(task).map(|m| m.name)));
    let mut figures: Vec<Estimate> = names
        .zip(values)
        .zip(&resampled)
        .map(|((metric, value), resampled)| Estimate {
            metric,
            value,
            interval: value.and_then(|_| options.bootstrap.interval(resampled)),
        })
        .collect();
    let per_label = figures.split_off(Metric::all(task).count());
    let width = LabelMetric::all(task).count();
    let label_figures = predictions
        .labels()
        .iter()
        .zip(&point.labels)
        .zip(per_label.chunks(width))
        .map(|((label, decisions), figures)| LabelEstimates {
            label: label.clone(),
            support: decisions.support(),
            predicted: decisions.true_positive + decisions.false_positive,
            figures: figures.to_vec(),
        });
    Measurement {
        subset: subset.to_owned(),
        items: predictions.count(),
        units: units.count(),
        grouped: units.is_grouped(),
        resamples: options.bootstrap.resamples,
        level: options.bootstrap.level,
        labels: label_figures.collect(),
        figures,
        confusion: point
            .tally
            .cells
            .chunks(if task == Task::Single { labels } else { 4 })
            .map(<[u64]>::to_vec)
            .collect(),
        reliability: reliability(&point),
        abstain_threshold: options.abstain_threshold,
        abstention: (0..20)
            .map(|step| abstention(predictions, step as f32 * 0.05))
            .collect(),
    }
}

/// The bins of the reliability diagram.
fn reliability(point: &TallyCounts) -> Vec<ReliabilityBin> {
    let bins = point.tally.bins.iter().enumerate();
    bins.map(|(index, bin)| {
        let mean = |sum: f64| (bin.decisions > 0).then(|| sum / bin.decisions as f64);
        let edge = |index: usize| index as f64 / BINS as f64;
        ReliabilityBin {
            from: edge(index),
            to: edge(index + 1),
            count: bin.decisions,
            confidence: mean(bin.confidence),
            right: mean(bin.right as f64),
        }
    })
    .collect()
}

/// Coverage and accuracy of `predictions` if confidences below `threshold` abstain.
fn abstention(predictions: &Predictions, threshold: f32) -> Abstention {
    let answered: Vec<usize> = (0..predictions.count())
        .filter(|item| predictions.top(*item).1 >= threshold)
        .collect();
    let right = answered
        .iter()
        .filter(|item| predictions.is_right(**item))
        .count();
    Abstention {
        threshold,
        answered: answered.len() as f64 / predictions.count().max(1) as f64,
        accuracy: (!answered.is_empty()).then(|| right as f64 / answered.len() as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::Truth;

    /// Predictions for `items` items of class 0, of which 70 % are correct, and the name of each
    /// item's group of `group` items. `together`: a group's items are all correct or all wrong.
    fn predictions(items: usize, group: usize, together: bool) -> (Predictions, Vec<String>) {
        let right = |item: usize| {
            let seed = if together { item / group } else { item };
            // 7 of 10 consecutive seeds.
            (seed * 3) % 10 < 7
        };
        let scores = (0..items)
            .flat_map(|item| if right(item) { [0.8, 0.2] } else { [0.2, 0.8] })
            .collect();
        let predictions = Predictions::new(
            vec!["a".into(), "b".into()],
            scores,
            None,
            Truth::Classes(vec![0; items]),
        )
        .unwrap();
        (
            predictions,
            (0..items)
                .map(|item| format!("speaker {}", item / group))
                .collect(),
        )
    }

    fn options(groups: &[String]) -> MeasureOptions<'_> {
        MeasureOptions {
            bootstrap: Bootstrap::default(),
            groups,
            abstain_threshold: 0.5,
        }
    }

    #[test]
    fn interval_widths_match_the_binomial_distribution() {
        let (predictions, groups) = predictions(1000, 10, true);
        let by_item = measure("face", &predictions, &options(&[]));
        let figure = by_item.figure("war").unwrap();
        let [low, high] = figure.interval.unwrap();
        // 1.96 sqrt(0.7 x 0.3 / 1000) = 0.0284.
        assert!(
            (figure.value.unwrap() - 0.7).abs() < 1e-9
                && ((high - low) / 2.0 - 0.0284).abs() < 0.003,
            "{low} {high}"
        );
        // All items of a speaker are right or wrong together, so there are 100 units, not 1000.
        let by_group = measure("face", &predictions, &options(&groups));
        let [low, high] = by_group.figure("war").unwrap().interval.unwrap();
        assert!(((high - low) / 2.0 - 0.0898).abs() < 0.009, "{low} {high}");
        assert_eq!(
            (
                by_group.units,
                by_group.grouped,
                by_item.units,
                by_item.grouped
            ),
            (100, true, 1000, false)
        );
    }

    #[test]
    fn equal_predictions_give_equal_measurements() {
        let (predictions, groups) = predictions(60, 5, false);
        let json = |m: Measurement| serde_json::to_string(&m).unwrap();
        assert_eq!(
            json(measure("face", &predictions, &options(&groups))),
            json(measure("face", &predictions, &options(&groups)))
        );
    }

    #[test]
    fn confusion_reliability_and_abstention_count_every_item() {
        let (predictions, groups) = predictions(50, 50, false);
        let measured = measure("voice", &predictions, &options(&groups));
        assert_eq!(measured.confusion, [[35, 15], [0, 0]]);
        assert_eq!(
            measured.reliability.iter().map(|b| b.count).sum::<u64>(),
            50
        );
        assert_eq!(measured.reliability[12].right, Some(0.7));
        assert_eq!(
            (measured.labels[0].support, measured.labels[1].predicted),
            (50, 15)
        );
        // One speaker gives no interval.
        assert_eq!(measured.figure("war").unwrap().interval, None);
        // Class b never occurs.
        assert_eq!(measured.labels[1].figures[0].value, None);
        assert_eq!(
            (
                measured.abstention[0].answered,
                measured.abstention[17].accuracy
            ),
            (1.0, None)
        );
    }
}
