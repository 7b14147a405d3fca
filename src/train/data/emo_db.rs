//! EMO-DB (Burkhardt et al. 2005): ten German sentences in seven emotions by ten actors.
//!
//! ```text
//! wav/03a01Wa.wav    actor 03, sentence a01, emotion W, version a
//! ```
//! The emotions' letters are W anger, L boredom, E disgust, A fear and anxiety, F happiness,
//! T sadness, N neutral. The event protocol has no boredom: these items have no label. The
//! publication defines no splits. Here they are by actor, each of val and test with a man and a
//! woman: 12 and 14 are val, 15 and 16 test, the others train.

use std::path::Path;

use super::catalogue::Catalogue;
use super::tree::{AUDIO, walk};
use super::wire_labels::WireLabels;
use super::{DataError, Item, Listing, Media, Options, Split};
use crate::labels::LABELS;

/// The actors' numbers in file names.
const ACTORS: [&str; 10] = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"];

/// The codes of the sentences in file names, and the sentences.
const SENTENCES: [(&str, &str); 10] = [
    ("a01", "Der Lappen liegt auf dem Eisschrank."),
    ("a02", "Das will sie am Mittwoch abgeben."),
    ("a04", "Heute abend könnte ich es ihm sagen."),
    (
        "a05",
        "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    ),
    ("a07", "In sieben Stunden wird es soweit sein."),
    (
        "b01",
        "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    ),
    (
        "b02",
        "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    ),
    (
        "b03",
        "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    ),
    (
        "b09",
        "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    ),
    (
        "b10",
        "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
    ),
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "wav/<actor><sentence><emotion><version>.wav, as in wav/03a01Wa.wav";

/// Lists the recordings of EMO-DB in the folder `root`.
///
/// # Errors
/// The folder cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let mut labels = WireLabels::default();
    for file in walk(root, &AUDIO, &mut catalogue)? {
        let at = file.path.display().to_string();
        let Some((actor, text, emotion)) = parse(file.stem()) else {
            catalogue.fault(
                at,
                "is not named as EMO-DB names its files (03a01Wa.wav): left out",
            );
            continue;
        };
        let item = Item {
            id: file.stem().to_string(),
            split: split_of(actor),
            group: actor.to_string(),
            media: Media::Recording(file.path.clone()),
            interval: None,
            text: Some(text.to_string()),
            target: labels.target(emotion),
        };
        catalogue.add(item, at);
    }
    labels.report(root, &mut catalogue);
    catalogue.finish("emo-db", &LABELS, root, LAYOUT)
}

/// The split of an actor, one of [`ACTORS`].
fn split_of(actor: &str) -> Split {
    match actor {
        "12" | "14" => Split::Val,
        "15" | "16" => Split::Test,
        _ => Split::Train,
    }
}

/// The actor's number, the sentence and the emotion, from a file name without extension. `None` if
/// the name has another form.
pub(super) fn parse(stem: &str) -> Option<(&'static str, &'static str, &'static str)> {
    if stem.len() != 7 || !stem.is_ascii() {
        return None;
    }
    let actor = ACTORS.into_iter().find(|actor| *actor == &stem[..2])?;
    let (_, text) = SENTENCES
        .into_iter()
        .find(|(code, _)| *code == &stem[2..5])?;
    let emotion = match &stem[5..6] {
        "W" => "anger",
        "L" => "boredom",
        "E" => "disgust",
        "A" => "anxiety",
        "F" => "happiness",
        "T" => "sadness",
        "N" => "neutral",
        _ => return None,
    };
    let is_version = stem.as_bytes()[6].is_ascii_lowercase();
    is_version.then_some((actor, text, emotion))
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn names_give_actor_sentence_emotion_and_split() {
        let tree = Tree::new(&[
            "wav/03a01Wa.wav",
            "wav/08a02Lb.wav",
            "wav/08b10Lc.wav",
            "wav/12a04Ea.wav",
            "wav/14a05Ac.wav",
            "wav/15b01Fa.wav",
            "wav/16b02Td.wav",
            "wav/16b03Nb.wav",
            "wav/04a01Wa.wav",
            "wav/03a03Wa.wav",
            "wav/03a01Xa.wav",
            "wav/notes.wav",
            "lablaut/03a01Wa.lablaut",
        ]);
        let listing = tree.list("emo-db").unwrap();
        assert_eq!(
            ids(&listing),
            [
                "03a01Wa", "08a02Lb", "08b10Lc", "12a04Ea", "14a05Ac", "15b01Fa", "16b02Td",
                "16b03Nb"
            ]
        );
        let targets: Vec<_> = listing.items.iter().map(|i| i.target.clone()).collect();
        let class = |name| {
            LABELS
                .iter()
                .position(|label| *label == name)
                .map(Target::Class)
        };
        let emotions = [
            "angry",
            "",
            "",
            "disgusted",
            "fearful",
            "happy",
            "sad",
            "neutral",
        ];
        assert_eq!(targets, emotions.map(class));
        use Split::{Test, Train, Val};
        let splits: Vec<_> = listing.items.iter().map(|i| i.split).collect();
        assert_eq!(splits, [Train, Train, Train, Val, Val, Test, Test, Test]);
        let first = item(&listing, "03a01Wa");
        assert_eq!(
            (first.group.as_str(), first.text.as_deref()),
            ("03", Some("Der Lappen liegt auf dem Eisschrank."))
        );
        assert_eq!(faults(&listing, "", "is not named"), 4);
        assert_eq!(
            faults(&listing, "", "2 items have the label \"boredom\""),
            1
        );
        assert_eq!(listing.faults.len(), 5);
    }

    #[test]
    fn every_actor_is_in_one_split_and_val_and_test_have_two() {
        let of = |split| ACTORS.iter().filter(|a| split_of(a) == split).count();
        assert_eq!([Split::Train, Split::Val, Split::Test].map(of), [6, 2, 2]);
    }
}
