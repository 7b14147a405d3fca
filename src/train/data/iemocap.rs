//! IEMOCAP (Busso et al. 2008): dialogues of two actors in five sessions.
//!
//! ```text
//! Session1/dialog/EmoEvaluation/Ses01F_impro01.txt             the turns, their times and labels
//! Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav    a file a turn
//! Session1/dialog/wav/Ses01F_impro01.wav                       instead: an interval a turn
//! Session1/dialog/transcriptions/Ses01F_impro01.txt            optional: the transcripts
//! ```
//! All at the root or in `IEMOCAP_full_release/`. The videos (`dialog/avi`) are not used: both
//! actors are side by side in one picture.
//!
//! The labels are the raters' majority (`ang`, `hap`, …). `exc` (excited) is happy, as is usual.
//! `fru` (frustrated), `oth` (other) and `xxx` (no majority) are not in the event protocol: these
//! items have no label. The publication defines no splits. Here they are by session, so that
//! speakers are apart: 1 to 3 are train, 4 is val, 5 test. A group is a speaker (`Ses01_F`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::catalogue::Catalogue;
use super::tree::{self, is_nonempty_file};
use super::wire_labels::WireLabels;
use super::{DataError, Item, Listing, Media, Options, Split};
use crate::labels::LABELS;

/// The codes of the labels, and their names.
const CODES: [(&str, &str); 11] = [
    ("ang", "angry"),
    ("hap", "happy"),
    ("exc", "happy"),
    ("sad", "sad"),
    ("neu", "neutral"),
    ("fea", "fearful"),
    ("sur", "surprised"),
    ("dis", "disgusted"),
    ("fru", "frustrated"),
    ("oth", "other"),
    ("xxx", "no majority"),
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "Session1 to Session5, each with dialog/EmoEvaluation/Ses01F_impro01.txt and \
                      sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav";

/// Lists the turns of IEMOCAP in the folder `root`. A missing session is a fault.
///
/// # Errors
/// A file of annotations cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let mut labels = WireLabels::default();
    for session in 1..=5 {
        let split = match session {
            ..=3 => Split::Train,
            4 => Split::Val,
            _ => Split::Test,
        };
        let name = format!("Session{session}");
        let nested = format!("IEMOCAP_full_release/{name}");
        let Some(folder) = tree::folder(root, &[&name, &nested]) else {
            catalogue.fault(name, "is not there: it has no items");
            continue;
        };
        for path in text_files(&folder.join("dialog/EmoEvaluation"), &mut catalogue) {
            list_dialogue(&folder, &path, split, &mut labels, &mut catalogue)?;
        }
    }
    labels.report(root, &mut catalogue);
    catalogue.finish("iemocap", &LABELS, root, LAYOUT)
}

/// The files `*.txt` directly in `folder`, sorted. Names that begin with a dot, which the published
/// archive has beside the files, are skipped. A folder that cannot be read is a fault.
fn text_files(folder: &Path, catalogue: &mut Catalogue) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            catalogue.fault(
                folder.display().to_string(),
                format!("cannot be read: {error}"),
            );
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| tree::has_extension(path, &["txt"]) && path.is_file())
        .filter(|path| !file_stem(path).starts_with('.'))
        .collect();
    files.sort();
    files
}

/// The file's name without extension; empty if it is not UTF-8.
fn file_stem(path: &Path) -> &str {
    path.file_stem().and_then(|s| s.to_str()).unwrap_or("")
}

/// The text of a file; bytes that are not UTF-8 are replaced.
fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Unreadable {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A turn of a dialogue, from a line of `EmoEvaluation`.
pub(super) struct Turn<'a> {
    pub name: &'a str,
    /// Start and end in the dialogue, in seconds.
    pub interval: [f64; 2],
    pub label: &'static str,
}

/// Parses `[6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5, 2.5, 2.5]`. `None` if the
/// line has another form, the interval is empty, or the label is unknown.
pub(super) fn parse_turn(line: &str) -> Option<Turn<'_>> {
    let mut cells = line.split('\t').map(str::trim);
    let times = cells.next()?.strip_prefix('[')?.strip_suffix(']')?;
    let (name, code) = (cells.next()?, cells.next()?);
    let (start, end) = times.split_once('-')?;
    let interval = [start.trim().parse().ok()?, end.trim().parse().ok()?];
    let [start, end]: [f64; 2] = interval;
    let is_interval = start.is_finite() && end.is_finite() && 0.0 <= start && start < end;
    let (_, label) = CODES.into_iter().find(|(known, _)| *known == code)?;
    is_interval.then_some(Turn {
        name,
        interval,
        label,
    })
}

/// The speaker of a turn: the session and, from the last part of the name, the sex. The sex in the
/// dialogue's name is that of the actor with markers on the face. `None` if the name has another
/// form.
pub(super) fn speaker_of(turn: &str, dialogue: &str) -> Option<String> {
    let session = dialogue.get(..5).filter(|s| s.starts_with("Ses"))?;
    let sex = turn.strip_prefix(dialogue)?.strip_prefix('_')?.get(..1)?;
    matches!(sex, "F" | "M").then(|| format!("{session}_{sex}"))
}

/// Adds the turns of the dialogue with the annotations `path`, of the session in `folder`.
fn list_dialogue(
    folder: &Path,
    path: &Path,
    split: Split,
    labels: &mut WireLabels,
    catalogue: &mut Catalogue,
) -> Result<(), DataError> {
    let dialogue = file_stem(path);
    let transcripts = folder.join(format!("dialog/transcriptions/{dialogue}.txt"));
    let texts = if transcripts.is_file() {
        read_transcripts(&read_text(&transcripts)?)
    } else {
        HashMap::new()
    };
    let whole = folder.join(format!("dialog/wav/{dialogue}.wav"));
    for (number, line) in read_text(path)?.lines().enumerate() {
        // Only the turns' lines begin with a bracket; those of single raters do not.
        if !line.starts_with('[') {
            continue;
        }
        let at = format!("{} line {}", path.display(), number + 1);
        let parsed = parse_turn(line).and_then(|turn| {
            let speaker = speaker_of(turn.name, dialogue)?;
            Some((turn, speaker))
        });
        let Some((turn, group)) = parsed else {
            catalogue.fault(
                at,
                "is not [start - end], the turn's name and a known label, divided by tabs: left \
                 out",
            );
            continue;
        };
        let sentence = folder.join(format!("sentences/wav/{dialogue}/{}.wav", turn.name));
        let (media, interval) = if is_nonempty_file(&sentence) {
            (sentence, None)
        } else if is_nonempty_file(&whole) {
            (whole.clone(), Some(turn.interval))
        } else {
            catalogue.fault(
                turn.name,
                format!("{} is missing or empty: left out", sentence.display()),
            );
            continue;
        };
        let item = Item {
            id: turn.name.to_string(),
            split,
            group,
            media: Media::Recording(media),
            interval,
            text: texts.get(turn.name).cloned(),
            target: labels.target(turn.label),
        };
        catalogue.add(item, at);
    }
    Ok(())
}

/// The transcripts by turn, from lines such as
/// `Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.` Other lines have no turn of their own.
pub(super) fn read_transcripts(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(" [")?;
            let (_, words) = rest.split_once("]:")?;
            Some((name.trim().to_string(), words.trim().to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    const TURNS: &str = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n\
        [6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n\
        C-E2:\tNeutral;\t()\n\
        A-E3:\tval 3; act 2; dom  2;\t()\n\n\
        [10.0100 - 11.3925]\tSes01F_impro01_M000\texc\t[4.0, 4.0, 3.0]\r\n\
        [14.8872 - 18.0175]\tSes01F_impro01_F001\tfru\t[2.0, 3.0, 3.0]\n\
        [19.2900 - 20.7875]\tSes01F_impro01_F002\txxx\t[2.5, 3.0, 3.0]\n\
        [21.3257 - 24.7400]\tSes01F_impro01_F003\tbored\t[2.5, 3.0, 3.0]\n\
        [27.4600 - 27.4600]\tSes01F_impro01_F004\tang\t[2.5, 3.0, 3.0]\n\
        [28.0000 - 29.0000]\tSes02F_impro01_F004\tang\t[2.5, 3.0, 3.0]\n";

    #[test]
    fn turns_are_joined_with_recordings_and_transcripts() {
        let tree = Tree::new(&[
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav",
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav",
            "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt",
            "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt",
        ]);
        tree.write("Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", TURNS);
        tree.write(
            "Session1/dialog/transcriptions/Ses01F_impro01.txt",
            "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nM: Yeah.\n\
             Ses01F_impro01_M000 [010.0100-011.3925]: [LAUGHTER] Do: that.\n",
        );
        let listing = tree.list("iemocap").unwrap();
        assert_eq!(
            ids(&listing),
            [
                "Ses01F_impro01_F000",
                "Ses01F_impro01_F001",
                "Ses01F_impro01_M000"
            ]
        );
        let turn = item(&listing, "Ses01F_impro01_M000");
        assert_eq!(
            (turn.group.as_str(), turn.text.as_deref(), &turn.target),
            (
                "Ses01_M",
                Some("[LAUGHTER] Do: that."),
                &Some(Target::Class(1))
            )
        );
        assert_eq!((turn.split, turn.interval), (Split::Train, None));
        let frustrated = item(&listing, "Ses01F_impro01_F001");
        assert_eq!((&frustrated.target, &frustrated.text), (&None, &None));
        assert_eq!(
            faults(&listing, "Ses01F_impro01_F002", "F002.wav is missing"),
            1
        );
        for line in [10, 11, 12] {
            let at = format!("Ses01F_impro01.txt line {line}");
            assert_eq!(faults(&listing, &at, "a known label"), 1, "{line}");
        }
        assert_eq!(
            faults(&listing, "", "1 items have the label \"frustrated\""),
            1
        );
        assert_eq!(faults(&listing, "Session", "it has no items"), 4);
        assert_eq!(listing.faults.len(), 9);
    }

    #[test]
    fn sessions_are_the_splits_and_dialogues_stand_in_for_sentences() {
        let tree = Tree::new(&[]);
        for session in 1..=5 {
            let folder = format!("IEMOCAP_full_release/Session{session}/dialog");
            let name = format!("Ses0{session}M_script01_1");
            tree.write(&format!("{folder}/wav/{name}.wav"), "x");
            tree.write(
                &format!("{folder}/EmoEvaluation/{name}.txt"),
                &format!("[1.5 - 3.25]\t{name}_F007\tsad\t[2, 2, 2]\n"),
            );
        }
        let listing = tree.list("iemocap").unwrap();
        use Split::{Test, Train, Val};
        let splits: Vec<_> = listing.items.iter().map(|i| i.split).collect();
        assert_eq!(splits, [Train, Train, Train, Val, Test]);
        let first = item(&listing, "Ses01M_script01_1_F007");
        assert_eq!(
            (first.group.as_str(), first.interval),
            ("Ses01_F", Some([1.5, 3.25]))
        );
        assert_eq!(
            first.media,
            Media::Recording(
                tree.path()
                    .join("IEMOCAP_full_release/Session1/dialog/wav/Ses01M_script01_1.wav")
            )
        );
        assert_eq!(listing.faults, []);
    }
}
