//! Tests of the report: the page is parsed and its numbers are compared with the metrics.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::train::metrics::figure::TallyCounts;
use crate::train::metrics::tally::ItemCounts;
use crate::train::metrics::{Bootstrap, MeasureOptions, Predictions, Truth, measure};

/// A label name that ends a table cell and loads a script, if the page does not escape it.
const NASTY: &str = "</td><script src='http://x.test/a.js'>&\"";

/// Three label names, one of which must be escaped.
fn labels() -> Vec<String> {
    ["neutral", "joy", NASTY].map(String::from).to_vec()
}

/// Random predictions for 90 items and three labels; true labels have higher logits on average.
fn predictions(task: Task, seed: u64) -> Predictions {
    let mut generator = StdRng::seed_from_u64(seed);
    let holds: Vec<bool> = (0..90)
        .flat_map(|item| (0..3).map(move |label| item % 3 == label))
        .collect();
    let logits = holds
        .iter()
        .map(|h| generator.random_range(-2.0f32..2.0) + if *h { 1.5 } else { 0.0 })
        .collect();
    let truth = match task {
        Task::Single => Truth::Classes((0..90).map(|item| item % 3).collect()),
        Task::Multi => Truth::Labels(holds),
    };
    Predictions::from_logits(labels(), logits, 1.3, truth).unwrap()
}

/// A report with every section: three subsets of modalities, curves, a projection, examples.
fn report(task: Task) -> Report {
    let groups: Vec<String> = (0..90)
        .map(|item| format!("speaker {}", item % 9))
        .collect();
    let options = MeasureOptions {
        bootstrap: Bootstrap {
            resamples: 50,
            ..Bootstrap::default()
        },
        groups: &groups,
        abstain_threshold: 0.4,
    };
    let subsets = ["face+voice+text", "face", "voice"];
    let all = predictions(task, 0);
    let ids: Vec<String> = (0..90).map(|item| format!("{NASTY}_{item}")).collect();
    let texts: Vec<Option<String>> = (0..90)
        .map(|item| (item % 2 == 0).then(|| format!("a < b && {NASTY}")))
        .collect();
    let values: Vec<f32> = (0..90).flat_map(|item| all.scores(item).to_vec()).collect();
    let (names, category) = categories(&all);
    let rows = Rows {
        title: "fused representation",
        values: &values,
        dim: 3,
        ids: &ids,
        categories: &names,
        category: &category,
    };
    Report {
        title: format!("Run {NASTY}"),
        origin: Origin {
            measured: "run <1>".into(),
            command: "expressd-train evaluate --run r".into(),
            items: 90,
            skipped: BTreeMap::from([("no face".into(), 3)]),
            ..Origin::default()
        },
        task,
        labels: labels(),
        measured: subsets
            .iter()
            .enumerate()
            .map(|(seed, name)| measure(name, &predictions(task, seed as u64), &options))
            .collect(),
        training: Some(Training {
            axis: "epoch".into(),
            charts: vec![LineChart {
                title: "loss".into(),
                unit: "nats".into(),
                lines: vec![Line {
                    name: NASTY.into(),
                    points: vec![[0.0, 1.5], [1.0, f64::NAN], [2.0, 0.5]],
                }],
            }],
            chosen: Some(2.0),
        }),
        projections: vec![Projection::pca(&rows)],
        examples: Some(Examples::pick("face+voice+text", &all, &ids, &texts, 5)),
    }
}

/// Checks that `page` is well-formed, and returns it as XML. HTML closes `meta` elements
/// implicitly; an XML parser needs an explicit end.
fn parse(page: &str) -> String {
    let closed = page
        .replace("<meta charset=\"utf-8\">", "<meta charset=\"utf-8\"/>")
        .replace("initial-scale=1\">", "initial-scale=1\"/>");
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    roxmltree::Document::parse_with_options(&closed, options)
        .unwrap_or_else(|error| panic!("{error}"));
    closed
}

#[test]
fn every_number_of_the_summary_equals_its_metric() {
    for task in [Task::Single, Task::Multi] {
        let text = parse(&render(&report(task)));
        let document = roxmltree::Document::parse_with_options(
            &text,
            roxmltree::ParsingOptions {
                allow_dtd: true,
                ..Default::default()
            },
        )
        .unwrap();
        let mut seen = 0;
        for (seed, subset) in ["face+voice+text", "face", "voice"].into_iter().enumerate() {
            let counts = TallyCounts::new(
                ItemCounts::new(&predictions(task, seed as u64), 0.4).tally(|_| 1),
            );
            for metric in Metric::all(task).filter(|m| m.headline) {
                let of = |n: &roxmltree::Node<'_, '_>| {
                    n.attribute("data-metric") == Some(metric.name)
                        && n.attribute("data-subset") == Some(subset)
                };
                let cells: Vec<_> = document.descendants().filter(of).collect();
                assert_eq!(cells.len(), 1, "{} of {subset}", metric.name);
                let value = metric.compute(&counts).unwrap();
                assert_eq!(
                    cells[0]
                        .attribute("data-value")
                        .unwrap()
                        .parse::<f64>()
                        .unwrap(),
                    value,
                    "{} of {subset}",
                    metric.name
                );
                assert_eq!(cells[0].text().unwrap().trim(), format!("{value:.3}"));
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
    }
}

#[test]
fn the_page_loads_nothing_and_escapes_all_names() {
    for task in [Task::Single, Task::Multi] {
        let text = parse(&render(&report(task)));
        let document = roxmltree::Document::parse_with_options(
            &text,
            roxmltree::ParsingOptions {
                allow_dtd: true,
                ..Default::default()
            },
        )
        .unwrap();
        for node in document.descendants().filter(|n| n.is_element()) {
            let name = node.tag_name().name();
            assert!(
                ![
                    "script", "link", "img", "iframe", "image", "use", "object", "base", "form"
                ]
                .contains(&name),
                "a {name} in the page"
            );
            for attribute in node.attributes() {
                assert!(
                    !["src", "href", "srcset", "action"].contains(&attribute.name())
                        && !attribute.name().starts_with("on"),
                    "{}",
                    attribute.name()
                );
            }
        }
        let style: String = document
            .descendants()
            .filter(|n| n.has_tag_name("style"))
            .filter_map(|n| n.text())
            .collect();
        assert!(style.contains("prefers-color-scheme: dark") && style.contains("@media print"));
        assert!(!style.contains("url(") && !style.contains("@import"));
        // The escaped name is shown unchanged.
        assert!(
            document
                .descendants()
                .any(|n| n.has_tag_name("th") && n.text() == Some(NASTY))
        );
        // All drawn numbers are finite.
        assert!(!text.contains("NaN") && !text.contains("inf\""));
    }
}

#[test]
fn equal_reports_give_equal_files_and_json_contains_all_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let report = report(Task::Single);
    let json = write(&path, &report).unwrap();
    let first = [&path, &json].map(|p| std::fs::read(p).unwrap());
    write(&path, &super::tests::report(Task::Single)).unwrap();
    assert!(first == [&path, &json].map(|p| std::fs::read(p).unwrap()));
    let numbers: serde_json::Value = serde_json::from_slice(&first[1]).unwrap();
    let war = report.measured[1].figure("war").unwrap();
    let figures = numbers["measured"][1]["figures"].as_array().unwrap();
    let written = figures.iter().find(|f| f["metric"] == "war").unwrap();
    assert_eq!(
        (written["value"].as_f64(), written["interval"][0].as_f64()),
        (war.value, war.interval.map(|i| i[0]))
    );
    assert_eq!(
        numbers["measured"][0]["confusion"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert!(
        numbers["definitions"]["uar"]
            .as_str()
            .unwrap()
            .contains("recall")
    );
    assert_eq!(numbers["origin"]["skipped"]["no face"], 3);
    // A missing folder is created. A file in the place of the folder is an error.
    write(&folder.path().join("new/report.html"), &report).unwrap();
    assert!(matches!(
        write(&path.join("report.html"), &report),
        Err(ReportError::Write { .. })
    ));
}
