//! Conversion of data sets' labels to the labels of the event protocol. Labels that the protocol
//! lacks are counted.

use std::collections::BTreeMap;
use std::path::Path;

use super::Target;
use super::catalogue::Catalogue;
use crate::labels::label_index;

/// Converts labels to targets over [`LABELS`](crate::labels::LABELS), and counts the items for each
/// label that the event protocol lacks.
#[derive(Default)]
pub struct WireLabels {
    /// Number of items by the name of their label, for labels that the protocol lacks.
    unmapped: BTreeMap<String, usize>,
}

impl WireLabels {
    /// The target of an item with the label `name`, in any case. `None`, and the item is counted,
    /// if the event protocol has no such label.
    pub fn target(&mut self, name: &str) -> Option<Target> {
        let index = label_index(name);
        if index.is_none() {
            *self.unmapped.entry(name.to_string()).or_default() += 1;
        }
        index.map(Target::Class)
    }

    /// Adds a fault of the folder `root` to `catalogue` for each label that was counted.
    pub fn report(self, root: &Path, catalogue: &mut Catalogue) {
        for (name, count) in self.unmapped {
            catalogue.fault(
                root.display().to_string(),
                format!(
                    "{count} items have the label {name:?}, which the event protocol lacks: \
                     listed without a label"
                ),
            );
        }
    }
}
