//! The three modalities, and a container with a value for each.

use serde::{Deserialize, Serialize};

/// A modality: the kind of data that an encoder reads. Face, voice and text are V, A and T in
/// `src/train/method.md` section g.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    Face,
    Voice,
    Text,
}

impl Modality {
    /// All modalities, in the order of events.
    pub const ALL: [Modality; 3] = [Modality::Face, Modality::Voice, Modality::Text];

    /// The modality's name in events, manifests and stores.
    pub fn name(self) -> &'static str {
        match self {
            Modality::Face => "face",
            Modality::Voice => "voice",
            Modality::Text => "text",
        }
    }
}

/// One value for each modality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerModality<T> {
    pub face: T,
    pub voice: T,
    pub text: T,
}

impl<T> PerModality<T> {
    /// The value of `modality`.
    pub fn get(&self, modality: Modality) -> &T {
        match modality {
            Modality::Face => &self.face,
            Modality::Voice => &self.voice,
            Modality::Text => &self.text,
        }
    }
    /// Mutable access to the value of `modality`.
    pub fn get_mut(&mut self, modality: Modality) -> &mut T {
        match modality {
            Modality::Face => &mut self.face,
            Modality::Voice => &mut self.voice,
            Modality::Text => &mut self.text,
        }
    }
    /// Converts each value with `f`, which receives the modality and its value.
    pub fn map<U>(self, mut f: impl FnMut(Modality, T) -> U) -> PerModality<U> {
        PerModality {
            face: f(Modality::Face, self.face),
            voice: f(Modality::Voice, self.voice),
            text: f(Modality::Text, self.text),
        }
    }
}

/// A subset of the modalities: true for those with evidence.
pub type Presence = PerModality<bool>;

impl Presence {
    /// Whether the subset is empty.
    pub fn is_none(&self) -> bool {
        !(self.face || self.voice || self.text)
    }
    /// The subset's name in manifests: the names of its modalities in the order of
    /// [`Modality::ALL`], such as `face+voice`; `none` for the empty subset.
    pub fn name(&self) -> String {
        let names: Vec<_> = Modality::ALL
            .into_iter()
            .filter(|m| *self.get(*m))
            .map(Modality::name)
            .collect();
        if names.is_empty() {
            "none".into()
        } else {
            names.join("+")
        }
    }
    /// The seven subsets with at least one modality.
    pub fn subsets() -> impl Iterator<Item = Presence> {
        (1u8..8).map(|bits| Presence {
            face: bits & 1 != 0,
            voice: bits & 2 != 0,
            text: bits & 4 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seven_subsets_have_different_names() {
        let names: std::collections::BTreeSet<_> = Presence::subsets().map(|p| p.name()).collect();
        assert_eq!(names.len(), 7);
        assert!(names.contains("face+voice") && names.contains("face+voice+text"));
    }
}
