//! One stalled client among many: the others lose nothing and wait for nothing, and memory stays put.

use expressd::serve::bench::fan_out;

#[test]
fn a_round_to_all_clients_is_not_much_slower_than_a_bare_writer() {
    let report = fan_out(100, 30.0, 4.0).expect("a fan-out on loopback");
    eprintln!("{}", serde_json::to_string(&report).unwrap());
    assert_eq!(report.server.rounds, 120);
    // The bench's goal is 2 on an idle machine (`expressd bench --clients 100`). Medians, side by side, are what a busy one can hold.
    assert!(report.server.p50_ms <= 2.0 * report.bare.p50_ms + 0.2, "{report:?}");
    assert!(report.stalled.p50_ms <= 1.5 * report.server.p50_ms + 0.2, "{report:?}");
    assert!(report.rss_growth_bytes < 1 << 20, "{report:?}");
}
