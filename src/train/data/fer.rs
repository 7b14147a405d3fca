//! FER2013 (Goodfellow et al. 2013): 48x48 grey faces as `fer2013/<split>/<class>/<file>.jpg` in a
//! tar.xz.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::clip::Crop;
use crate::labels::label_index;
use crate::train::data::Part;
use crate::train::data::votes::{VoteExclusion, Votes, VotesTable};

/// A labelled face picture.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledCrop {
    pub crop: Crop,
    /// FER2013's own label, as an index in [`crate::labels::LABELS`].
    pub label: usize,
    /// The annotators' votes; without a table of votes, a single vote for the label.
    pub votes: Result<Votes, VoteExclusion>,
    pub part: Part,
    /// Report pictures only: Training has a picture with the same pixels, so this picture is not
    /// held out.
    pub is_copy: bool,
}

/// A face picture with its annotators' votes.
#[derive(Clone, Debug, PartialEq)]
pub struct VotedCrop {
    pub crop: Crop,
    pub votes: Votes,
}

/// The pictures of one part that have votes, and the number of those without, by reason.
pub fn with_votes(
    crops: &[LabelledCrop],
    part: Part,
) -> (Vec<VotedCrop>, BTreeMap<VoteExclusion, usize>) {
    let (mut found, mut left_out) = (Vec::new(), BTreeMap::new());
    for sample in crops.iter().filter(|sample| sample.part == part) {
        match sample.votes {
            Ok(votes) => found.push(VotedCrop {
                crop: sample.crop.clone(),
                votes,
            }),
            Err(reason) => *left_out.entry(reason).or_default() += 1,
        }
    }
    (found, left_out)
}

/// Number of 256 pictures of Training that are held back for selection.
const HELD_BACK: u8 = 26;

/// Reads the whole archive, in its order.
///
/// The official Training split is divided by the hash of the pixels, so that all copies of a
/// picture (there are many) are on one side. PublicTest is for the report; its pictures that are
/// also in Training (280 of 3,589) are marked. `votes` is the table of votes ([`VotesTable`]).
pub fn read(path: &Path, votes: Option<&Path>) -> anyhow::Result<Vec<LabelledCrop>> {
    let votes = votes.map(VotesTable::read).transpose()?;
    let file = std::fs::File::open(path).with_context(|| {
        format!(
            "FER2013 is not at {}: set $EXPRESSD_MATERIAL or the recipe's material",
            path.display()
        )
    })?;
    let tar = liblzma::read::XzDecoder::new(std::io::BufReader::new(file));
    read_tar(tar, votes.as_ref()).with_context(|| format!("{} cannot be read", path.display()))
}

fn read_tar(tar: impl Read, votes: Option<&VotesTable>) -> anyhow::Result<Vec<LabelledCrop>> {
    let mut crops = Vec::new();
    for_each_picture(tar, |path, jpeg| {
        crops.push(labelled(path, jpeg, votes).with_context(|| format!("{}", path.display()))?);
        Ok(())
    })?;
    ensure!(!crops.is_empty(), "no pictures in it");
    let digest = |sample: &LabelledCrop| <[u8; 32]>::from(Sha256::digest(&sample.crop.pixels));
    let training_digests: HashSet<[u8; 32]> = crops
        .iter()
        .filter(|c| c.part != Part::Report)
        .map(digest)
        .collect();
    for sample in crops.iter_mut().filter(|c| c.part == Part::Report) {
        sample.is_copy = training_digests.contains(&digest(sample));
    }
    Ok(crops)
}

/// Calls `visit` with the path and the bytes of every JPEG, in the archive's order.
pub(crate) fn for_each_picture(
    tar: impl Read,
    mut visit: impl FnMut(&Path, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut jpeg = Vec::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.extension().is_none_or(|e| e != "jpg") {
            continue;
        }
        jpeg.clear();
        entry.read_to_end(&mut jpeg)?;
        visit(&path, &jpeg)?;
    }
    Ok(())
}

/// Whether a picture of Training is held back for selection. This follows from its pixels, so that
/// copies stay together.
pub(super) fn is_held_back(pixels: &[u8]) -> bool {
    Sha256::digest(pixels)[0] < HELD_BACK
}

/// Decodes a square picture to grey.
pub(crate) fn grey_crop(picture: &[u8]) -> anyhow::Result<Crop> {
    let grey = image::load_from_memory(picture)?.into_luma8();
    ensure!(grey.width() == grey.height(), "the picture is not square");
    Ok(Crop {
        size: grey.width() as usize,
        channels: 1,
        pixels: grey.into_raw(),
    })
}

fn labelled(path: &Path, jpeg: &[u8], votes: Option<&VotesTable>) -> anyhow::Result<LabelledCrop> {
    let mut names = path
        .components()
        .rev()
        .map(|c| c.as_os_str().to_string_lossy());
    let (Some(file), Some(class), Some(split)) = (names.next(), names.next(), names.next()) else {
        bail!("expected <split>/<class>/<file>")
    };
    let label = label_index(&class).with_context(|| format!("unknown class {class}"))?;
    let crop = grey_crop(jpeg)?;
    let part = match &*split {
        "Training" if is_held_back(&crop.pixels) => Part::Select,
        "Training" => Part::Train,
        "PublicTest" => Part::Report,
        other => bail!("unknown split {other}"),
    };
    Ok(LabelledCrop {
        crop,
        label,
        votes: votes.map_or(Ok(Votes::single(label)), |table| table.votes(&split, &file)),
        part,
        is_copy: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG of 48x48 pixels with the brightness `shade`.
    fn jpeg(shade: u8) -> Vec<u8> {
        let picture = image::GrayImage::from_fn(48, 48, |x, y| {
            image::Luma([(shade as u32 * 3 + x * 2 + y) as u8])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut bytes, image::ImageFormat::Jpeg)
            .unwrap();
        bytes.into_inner()
    }

    fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, &bytes[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn folders_give_label_and_part_and_copies_stay_together() {
        let mut files: Vec<_> = (0..64)
            .map(|i| (format!("fer2013/Training/fear/Training_{i}.jpg"), jpeg(i)))
            .collect();
        files.extend((0..64).map(|i| {
            (
                format!("fer2013/Training/fear/Training_{}.jpg", 1000 + u32::from(i)),
                jpeg(i),
            )
        }));
        files.push(("fer2013/PublicTest/happy/PublicTest_1.jpg".into(), jpeg(1)));
        files.push((
            "fer2013/PublicTest/happy/PublicTest_2.jpg".into(),
            jpeg(200),
        ));
        files.push(("fer2013/README.txt".into(), b"not a picture".to_vec()));
        let crops = read_tar(&tar_of(&files)[..], None).unwrap();
        assert_eq!(crops.len(), 130);
        for (one, copy) in crops[..64].iter().zip(&crops[64..128]) {
            assert_eq!(one, copy);
            assert_eq!((one.label, one.crop.size), (4, 48));
        }
        let selected = crops.iter().filter(|c| c.part == Part::Select).count();
        assert!((1..64).contains(&selected), "{selected} of 128 held back");
        assert_eq!((crops[128].label, crops[128].part), (1, Part::Report));
        // One report picture is also a training picture.
        assert_eq!(
            crops.iter().map(|c| c.is_copy).collect::<Vec<_>>(),
            [vec![false; 128], vec![true, false]].concat()
        );
    }

    #[test]
    fn votes_are_joined_by_split_and_file_and_missing_ones_are_counted() {
        let names = ["Training_1", "Training_2", "Training_3"];
        let mut files: Vec<_> = (1..)
            .zip(names)
            .map(|(i, name)| (format!("fer2013/Training/sad/{name}.jpg"), jpeg(i)))
            .collect();
        // The same name in another split is another picture.
        files.push(("fer2013/PublicTest/sad/Training_1.jpg".into(), jpeg(9)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes.csv");
        let rows = [
            "split,file,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF",
            "Training,Training_1.jpg,8,0,0,2,0,0,0,0,0,0",
            "Training,Training_2.jpg,1,0,0,2,0,0,0,7,0,0",
        ];
        std::fs::write(&path, rows.join("\n")).unwrap();
        let table = VotesTable::read(&path).unwrap();
        let crops = read_tar(&tar_of(&files)[..], Some(&table)).unwrap();
        let of = |i: usize| crops[i].votes;
        // FER2013's label is sad; eight of ten annotators chose neutral.
        assert_eq!((crops[0].label, of(0).unwrap().first()), (2, Some(0)));
        assert_eq!(
            [of(1), of(2), of(3)],
            [
                Err(VoteExclusion::Contempt),
                Err(VoteExclusion::NoRow),
                Err(VoteExclusion::NoRow)
            ]
        );
        let (mut found, mut missing) = (0, 0);
        for part in [Part::Train, Part::Select] {
            let (voted, left_out) = with_votes(&crops, part);
            found += voted.len();
            missing += left_out.values().sum::<usize>();
        }
        assert_eq!((found, missing), (1, 2));
        assert_eq!(
            with_votes(&crops, Part::Report).1,
            BTreeMap::from([(VoteExclusion::NoRow, 1)])
        );
        // Without a table only the label counts.
        let crops = read_tar(&tar_of(&files)[..], None).unwrap();
        assert!(crops.iter().all(|c| c.votes == Ok(Votes::single(2))));
    }

    #[test]
    fn an_unknown_class_is_an_error_with_its_path() {
        let tar = tar_of(&[("fer2013/Training/contempt/a.jpg".into(), jpeg(1))]);
        let error = read_tar(&tar[..], None).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("contempt/a.jpg") && text.contains("unknown class"),
            "{text}"
        );
    }
}
