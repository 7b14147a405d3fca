//! Online k-means and its queue.

use super::fixture::{array, arrays, count, each_case, number};
use crate::train::objective::kmeans::{pass, unit_rows};
use crate::train::objective::{Queue, kmeans_cosine};

#[test]
fn kmeans_is_the_authors() {
    each_case("kmeans_cosine.json", |case, comparison| {
        // Which of two nearly equal centroids is nearer is decided in the precision that training has.
        let expected = case.get("f32").or_else(|| case.get("f64")).expect("results");
        let rows = array(&case["inputs"]["X"]);
        let (dim, values) = (rows.shape[1], rows.singles());
        let initial = array(&case["inputs"]["init_indices"]).indices();
        comparison.exact("clusters", initial.len(), count(&case["k"]));
        let found = kmeans_cosine(&values, dim, &initial);
        comparison.exact("labels", found.labels, array(&expected["labels"]).indices());
        comparison.exact("passes", found.passes, count(&expected["assignment_passes"]));
        comparison.within("centroids", &found.centroids, &array(&expected["centroids"]).data, 1e-5, 1e-6);
        // Pass after pass: the fixture has the first few.
        let unit = unit_rows(&values, dim);
        let mut centroids: Vec<f32> = initial.iter().flat_map(|i| values[i * dim..][..dim].to_vec()).collect();
        let mut labels = vec![0; rows.shape[0]];
        for before in arrays(&expected["centroids_before_each_pass"]) {
            comparison.within("centroids before a pass", &centroids, &before.data, 1e-5, 1e-6);
            centroids = pass(&values, &unit, dim, &centroids, &mut labels);
        }
    });
}

#[test]
fn the_queue_is_the_authors() {
    each_case("kmeans_queue.json", |case, comparison| {
        let (batch, clusters) = (count(&case["batch"]), count(&case["K"]));
        let reduction = case["reduction_factor"].as_u64().map(|f| f as usize);
        let mut queue = Queue::new(count(&case["kmeans_queue_size"]), batch, clusters, reduction);
        comparison.exact("rows", queue.rows().len() / clusters, count(&case["queue_rows"]));
        for (number_of_step, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
            let fused = match step.get("fused") {
                Some(fused) => array(fused).singles(),
                None => {
                    assert_eq!(step["fused_rule"], "value[r,c]=r*K+c+1000*(step+1)");
                    (0..batch * clusters).map(|i| (i + 1000 * (number_of_step + 1)) as f32).collect()
                }
            };
            let input = queue.push(&fused);
            comparison.exact("input's rows", input.len() / clusters, count(&step["kmeans_input_rows"]));
            comparison.exact("queue used", input.len() > fused.len(), step["queue_used"].as_bool().unwrap());
            if let Some(expected) = step.get("kmeans_input") {
                comparison.exact("input", input, array(expected).singles());
            }
            if let Some(expected) = step.get("queue_after") {
                comparison.exact("queue", queue.rows().to_vec(), array(expected).singles());
            }
            if let Some(expected) = step.get("queue_after_col0") {
                let column: Vec<f64> = queue.rows().iter().step_by(clusters).map(|v| f64::from(*v)).collect();
                comparison.exact("queue's first column", column, expected.as_array().expect("a list").iter().map(number).collect());
            }
        }
    });
}
