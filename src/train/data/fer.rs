//! FER2013 (Goodfellow et al. 2013) for training the face encoder: grey faces of 48x48 pixels, in a
//! tar.xz as `fer2013/<split>/<class>/<file>.jpg`.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::clip::Crop;
use crate::labels::label_index;
use crate::train::data::Part;
use crate::train::data::votes::{VoteExclusion, Votes, VotesTable};

/// A face picture of FER2013 with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledCrop {
    pub crop: Crop,
    /// FER2013's own label, as an index in [`crate::labels::LABELS`].
    pub label: usize,
    /// The votes of FER+'s annotators, or why they are not used. Without a table of votes: a single
    /// vote for `label`.
    pub votes: Result<Votes, VoteExclusion>,
    pub part: Part,
    /// True for a picture of [`Part::Report`] if Training has a picture with the same pixels: the
    /// picture is not held out.
    pub is_copy: bool,
}

/// A face picture with its annotators' votes.
#[derive(Clone, Debug, PartialEq)]
pub struct VotedCrop {
    pub crop: Crop,
    pub votes: Votes,
}

/// The pictures of one part that have votes, and the number of its pictures without votes by
/// reason.
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

/// Of 256 values of a hash byte, the number for which a picture of Training is for selection: about
/// a tenth of Training.
const HELD_BACK: u8 = 26;

/// Reads all pictures of the archive `path`, in its order. `votes`: path of the table of FER+'s
/// votes ([`VotesTable`]).
///
/// Training is divided into train and selection by a hash of the pixels, so that all copies of a
/// picture (there are many) are in one part. PublicTest is for the report; its pictures that are
/// also in Training (280 of 3,589) are marked as copies.
///
/// # Errors
/// A file cannot be read, or a picture has an unknown split or class or cannot be decoded.
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

/// As [`read`], from the decompressed archive.
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

/// Calls `visit` with the path and the bytes of every `.jpg` file of the archive, in its order. An
/// error of `visit` ends the loop.
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

/// Whether a picture of Training with these pixels is for selection. This follows from the pixels
/// alone, so that copies of a picture are in one part.
pub(super) fn is_held_back(pixels: &[u8]) -> bool {
    Sha256::digest(pixels)[0] < HELD_BACK
}

/// Decodes a picture file (JPEG or PNG) to a grey crop. Fails if the picture is not square.
pub(crate) fn grey_crop(picture: &[u8]) -> anyhow::Result<Crop> {
    let grey = image::load_from_memory(picture)?.into_luma8();
    ensure!(grey.width() == grey.height(), "the picture is not square");
    Ok(Crop {
        size: grey.width() as usize,
        channels: 1,
        pixels: grey.into_raw(),
    })
}

/// Decodes the picture at `path` in the archive. Split, class and file are the last three parts of
/// the path.
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

    /// A JPEG of 48x48 pixels: a gradient whose brightness depends on `shade`.
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
    fn folders_give_label_and_part_and_copies_are_in_one_part() {
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
    fn votes_are_joined_by_split_and_file_and_missing_votes_are_counted() {
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
        // Without a table, each picture has one vote for its label.
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
