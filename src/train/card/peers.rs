//! The section of the model card that compares the bundle with other packages. Its figures are
//! measured by `tests/bench/beside_peers.py`.

use crate::manifest::Manifest;

/// First digits of [`Manifest::score_fingerprint`] of the bundle that was compared.
const COMPARED: &str = "14daa1286394";

/// The section as Markdown.
const SECTION: &str = include_str!("../card_peers.md");

/// The section on other packages as Markdown; empty for any bundle other than the compared one.
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
    fn only_the_card_of_the_compared_bundle_contains_the_comparison() {
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
