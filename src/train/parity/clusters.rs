//! Parity of cosine k-means and its queue with the reference.

use super::fixture::{array, arrays, count, each_case, number};
use crate::train::objective::kmeans::{pass, unit_rows};
use crate::train::objective::{ClusterMode, Objective, kmeans_cosine, queue};

#[test]
fn kmeans_passes_equal_the_authors_passes() {
    each_case("kmeans_cosine.json", |case, comparison| {
        // The f32 results are preferred: which of two nearly equal centroids is nearer depends on
        // the precision.
        let expected = case
            .get("f32")
            .or_else(|| case.get("f64"))
            .expect("results");
        let rows = array(&case["inputs"]["X"]);
        let (dim, values) = (rows.shape[1], rows.singles());
        let initial = array(&case["inputs"]["init_indices"]).indices();
        comparison.exact("clusters", initial.len(), count(&case["k"]));
        let passes = count(&expected["assignment_passes"]);
        // The fixture has the centroids before each of the first passes. The authors draw initial
        // rows with replacement, so two centroids may be equal. Which of them is nearer then
        // depends on rounding: after such a pass, the authors' centroids are used.
        let unit = unit_rows(&values, dim);
        let known = arrays(&expected["centroids_before_each_pass"]);
        let mut centroids: Vec<f32> = initial
            .iter()
            .flat_map(|i| values[i * dim..][..dim].to_vec())
            .collect();
        let (mut labels, mut tied, mut was_tied) = (vec![0; rows.shape[0]], false, false);
        for number in 0..passes {
            match known.get(number) {
                Some(before) if tied => centroids = before.singles(),
                Some(before) => comparison.within(
                    "centroids before a pass",
                    &centroids,
                    &before.data,
                    1e-5,
                    1e-6,
                ),
                None if tied => {
                    return println!(
                        "{}: equal centroids in a pass after which the fixture has none",
                        case["case"]
                    );
                }
                None => {}
            }
            tied = is_tied(&unit, dim, &centroids);
            was_tied |= tied;
            centroids = pass(&values, &unit, dim, &centroids, &mut labels);
        }
        if !tied {
            comparison.exact(
                "labels, pass after pass",
                labels,
                array(&expected["labels"]).indices(),
            );
            comparison.within(
                "centroids, pass after pass",
                &centroids,
                &array(&expected["centroids"]).data,
                1e-5,
                1e-6,
            );
        }
        if !was_tied {
            let found = kmeans_cosine(&values, dim, &initial);
            comparison.exact("labels", found.labels, array(&expected["labels"]).indices());
            comparison.exact("passes", found.passes, passes);
            comparison.within(
                "centroids",
                &found.centroids,
                &array(&expected["centroids"]).data,
                1e-5,
                1e-6,
            );
        }
    });
}

/// Whether the two nearest centroids of a row are equally near up to rounding. A row orthogonal to
/// all centroids (such as zeros) does not count: its cosines are exactly 0, and the first centroid
/// is always chosen.
fn is_tied(unit: &[f32], dim: usize, centroids: &[f32]) -> bool {
    let centroids = unit_rows(centroids, dim);
    unit.chunks_exact(dim).any(|row| {
        let mut cosines: Vec<f32> = centroids
            .chunks_exact(dim)
            .map(|c| row.iter().zip(c).map(|(a, b)| a * b).sum())
            .collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        cosines.len() > 1 && cosines[0] != 0.0 && cosines[0] - cosines[1] < 1e-6
    })
}

#[test]
fn queue_contents_equal_the_authors_queue() {
    each_case("kmeans_queue.json", |case, comparison| {
        let (batch, clusters) = (count(&case["batch"]), count(&case["K"]));
        let objective = Objective::Clustering {
            weight: 1.0,
            mode: ClusterMode::Joint,
            clusters,
            queue: count(&case["kmeans_queue_size"]),
            queue_reduction: case["reduction_factor"].as_u64().unwrap_or(1) as usize,
            start_epoch: 0,
        };
        let mut queue = queue(&[objective], batch).unwrap();
        comparison.exact(
            "rows",
            queue.rows().len() / clusters,
            count(&case["queue_rows"]),
        );
        for (number_of_step, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
            let fused = match step.get("fused") {
                Some(fused) => array(fused).singles(),
                None => {
                    assert_eq!(step["fused_rule"], "value[r,c]=r*K+c+1000*(step+1)");
                    (0..batch * clusters)
                        .map(|i| (i + 1000 * (number_of_step + 1)) as f32)
                        .collect()
                }
            };
            let input = queue.push(&fused);
            comparison.exact(
                "input's rows",
                input.len() / clusters,
                count(&step["kmeans_input_rows"]),
            );
            comparison.exact(
                "queue used",
                input.len() > fused.len(),
                step["queue_used"].as_bool().unwrap(),
            );
            if let Some(expected) = step.get("kmeans_input") {
                comparison.exact("input", input, array(expected).singles());
            }
            if let Some(expected) = step.get("queue_after") {
                comparison.exact("queue", queue.rows().to_vec(), array(expected).singles());
            }
            if let Some(expected) = step.get("queue_after_col0") {
                let column: Vec<f64> = queue
                    .rows()
                    .iter()
                    .step_by(clusters)
                    .map(|v| f64::from(*v))
                    .collect();
                comparison.exact(
                    "queue's first column",
                    column,
                    expected
                        .as_array()
                        .expect("a list")
                        .iter()
                        .map(number)
                        .collect(),
                );
            }
        }
    });
}
