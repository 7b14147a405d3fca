//! The model card's section on other packages, which `tests/bench/beside_peers.py` measures.

use crate::manifest::Manifest;

/// [`Manifest::score_fingerprint`] of the bundle that the section was measured with.
const COMPARED: &str = "14daa1286394";

const SECTION: &str = include_str!("../card_peers.md");

/// The section; empty for any other bundle.
pub fn section(manifest: &Manifest) -> String {
    if manifest.score_fingerprint().starts_with(COMPARED) {
        format!("{SECTION}\n")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::figures_section;
    use super::*;

    #[test]
    fn the_compared_bundles_figures_alone_end_with_the_section() {
        assert!(SECTION.starts_with("## Comparison with other packages\n"));
        let manifest = crate::testing::project("models/default/manifest.toml");
        let mut manifest: Manifest =
            toml::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
        let figures = |manifest: &Manifest| figures_section(Path::new("x"), manifest, &[]).unwrap();
        assert!(figures(&manifest).ends_with(&format!("\n\n{SECTION}\n")));
        manifest.head.abstain_threshold += 0.01;
        assert!(!figures(&manifest).contains(SECTION));
    }
}
