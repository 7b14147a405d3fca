//! The loader of FER2013, whose items are pictures: from the original table, from an archive, or
//! from folders.
//!
//! ```text
//! fer2013.csv                            emotion,pixels,Usage
//!                                        (or fer2013/fer2013.csv, icml_face_data.csv)
//! fer2013*.tar.xz                        an archive of the folders below
//! fer2013/<split>/<class>/<file>.jpg     split: Training, PublicTest, PrivateTest (or train, test)
//! ```
//! The first of these three layouts that exists is read. The root may also be the table or the
//! archive itself. A fixed tenth of Training, chosen by a hash of the pixels, is val; PublicTest
//! and PrivateTest are test (see also [`Options::public_test_selects`]). The persons are unknown,
//! so all groups are empty.

use std::path::{Path, PathBuf};

use super::catalogue::Catalogue;
use super::fer::{for_each_picture, grey_crop, is_held_back};
use super::table::Table;
use super::tree::{PICTURE, file, walk};
use super::{DataError, Item, Listing, Media, Options, Picture, Split, Target};

/// The labels of FER2013; the index is the number in the table's column `emotion`.
pub const LABELS: [&str; 7] = [
    "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral",
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "fer2013.csv (emotion,pixels,Usage), a fer2013*.tar.xz, or \
                      <Training|PublicTest|PrivateTest>/<class>/<file>.jpg";

/// Width and height of the table's pictures, in pixels.
const SIZE: usize = 48;

/// Lists the pictures of FER2013 in the folder, table or archive `root`.
///
/// # Errors
/// The table or the archive is malformed, a folder cannot be read, or there is no picture.
pub fn list(root: &Path, options: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let table = if root.is_file() {
        Some(root.to_path_buf())
    } else {
        file(
            root,
            &["fer2013.csv", "fer2013/fer2013.csv", "icml_face_data.csv"],
        )
    };
    if let Some(path) = table
        .as_ref()
        .filter(|p| p.extension().is_some_and(|e| e == "csv"))
    {
        list_table(path, options, &mut catalogue)?;
    } else if let Some(path) = archive(root)? {
        list_archive(&path, options, &mut catalogue)?;
    } else if root.is_dir() {
        list_folders(root, options, &mut catalogue)?;
    }
    catalogue.finish("fer2013", &LABELS, root, LAYOUT)
}

/// `root` itself if it is an archive of FER2013, or the first archive in the folder `root`; `None`
/// if there is none.
fn archive(root: &Path) -> Result<Option<PathBuf>, DataError> {
    let is_archive = |path: &Path| {
        path.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.starts_with("fer2013") && n.ends_with(".tar.xz"))
    };
    if root.is_file() {
        return Ok(is_archive(root).then(|| root.to_path_buf()));
    }
    let entries = std::fs::read_dir(root).map_err(|source| DataError::Unreadable {
        path: root.to_path_buf(),
        source,
    })?;
    let mut archives: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_file() && is_archive(p))
        .collect();
    archives.sort();
    Ok(archives.into_iter().next())
}

/// Adds the pictures of the original table. A malformed line is a fault.
fn list_table(path: &Path, options: &Options, catalogue: &mut Catalogue) -> Result<(), DataError> {
    let mut table = Table::open(path)?;
    let (emotion, pixels, usage) = (
        table.column("emotion")?,
        table.column("pixels")?,
        table.column("Usage")?,
    );
    while let Some(row) = table.next(catalogue)? {
        let at = table.at(row.line);
        let label = row
            .get(emotion)
            .parse()
            .ok()
            .filter(|l: &usize| *l < LABELS.len());
        let grey: Option<Vec<u8>> = row
            .get(pixels)
            .split_ascii_whitespace()
            .map(|p| p.parse().ok())
            .collect();
        let (Some(label), Some(grey)) = (label, grey.filter(|g| g.len() == SIZE * SIZE)) else {
            catalogue.fault(
                at,
                format!(
                    "is not an emotion of 0 to 6 with {SIZE}x{SIZE} pixels of 0 to 255: left out"
                ),
            );
            continue;
        };
        let Some(split) = split_of(row.get(usage), &grey, options) else {
            catalogue.fault(
                at,
                format!(
                    "the usage {:?} is none of Training, PublicTest and PrivateTest: left out",
                    row.get(usage)
                ),
            );
            continue;
        };
        // Line 1 is the header: picture 0 is in line 2.
        let id = format!("{}_{}", row.get(usage), row.line.saturating_sub(2));
        catalogue.add(
            face(
                id,
                split,
                label,
                Picture::Grey {
                    size: SIZE,
                    pixels: grey,
                },
            ),
            at,
        );
    }
    Ok(())
}

/// Adds the pictures of a tar.xz archive, decoded to grey.
fn list_archive(
    path: &Path,
    options: &Options,
    catalogue: &mut Catalogue,
) -> Result<(), DataError> {
    let archive = std::fs::File::open(path).map_err(|source| DataError::Unreadable {
        path: path.to_path_buf(),
        source,
    })?;
    let tar = liblzma::read::XzDecoder::new(std::io::BufReader::new(archive));
    let read = for_each_picture(tar, |name, bytes| {
        let names: Vec<_> = name
            .components()
            .map(|c| c.as_os_str().to_string_lossy())
            .collect();
        let at = name.display().to_string();
        let [.., split, class, file] = &names[..] else {
            catalogue.fault(at, "is not <split>/<class>/<file>: left out");
            return Ok(());
        };
        let stem = file.rsplit_once('.').map_or(&**file, |(stem, _)| stem);
        let picture = |pixels: Vec<u8>, size| Picture::Grey { size, pixels };
        add(
            at,
            [&**split, &**class, stem],
            bytes,
            options,
            catalogue,
            picture,
        );
        Ok(())
    });
    read.map_err(|error| DataError::Malformed {
        path: path.to_path_buf(),
        what: format!("is not a whole tar.xz: {error:#}"),
    })
}

/// Adds the picture files below `root`.
fn list_folders(
    root: &Path,
    options: &Options,
    catalogue: &mut Catalogue,
) -> Result<(), DataError> {
    for file in walk(root, &PICTURE, catalogue)? {
        let at = file.path.display().to_string();
        let (Some(class), Some(split)) = (file.folder(1), file.folder(2)) else {
            catalogue.fault(at, "is not <split>/<class>/<file>: left out");
            continue;
        };
        match std::fs::read(&file.path) {
            Ok(bytes) => add(
                at,
                [split, class, file.stem()],
                &bytes,
                options,
                catalogue,
                |_, _| Picture::File(file.path.clone()),
            ),
            Err(error) => catalogue.fault(at, format!("cannot be read: {error}")),
        }
    }
    Ok(())
}

/// Adds one picture. `names`: split, class and file name without extension. `picture` makes the
/// item's media from the decoded pixels and the side length. The id has all three names, because
/// the published archive has some file names twice.
fn add(
    at: String,
    names: [&str; 3],
    bytes: &[u8],
    options: &Options,
    catalogue: &mut Catalogue,
    picture: impl FnOnce(Vec<u8>, usize) -> Picture,
) {
    let [folder, class, stem] = names;
    let Some(label) = LABELS.iter().position(|l| l.eq_ignore_ascii_case(class)) else {
        return catalogue.fault(
            at,
            format!(
                "the class {class:?} is none of {}: left out",
                LABELS.join(", ")
            ),
        );
    };
    let crop = match grey_crop(bytes) {
        Ok(crop) => crop,
        Err(error) => {
            return catalogue.fault(at, format!("cannot be decoded: {error:#}: left out"));
        }
    };
    match split_of(folder, &crop.pixels, options) {
        Some(split) => {
            let size = crop.size;
            catalogue.add(
                face(
                    format!("{folder}/{class}/{stem}"),
                    split,
                    label,
                    picture(crop.pixels, size),
                ),
                at,
            );
        }
        None => catalogue.fault(
            at,
            format!(
                "the split {folder:?} is none of Training, PublicTest and PrivateTest: left out"
            ),
        ),
    }
}

/// The split of a picture by `usage`, the name of its split in FER2013; `None` if the name is
/// unknown.
fn split_of(usage: &str, pixels: &[u8], options: &Options) -> Option<Split> {
    Some(match usage.to_lowercase().as_str() {
        "training" | "train" if options.public_test_selects => Split::Train,
        "training" | "train" if is_held_back(pixels) => Split::Val,
        "training" | "train" => Split::Train,
        "publictest" if options.public_test_selects => Split::Val,
        "publictest" | "privatetest" | "test" => Split::Test,
        "val" | "validation" => Split::Val,
        _ => return None,
    })
}

/// An item that is a picture.
fn face(id: String, split: Split, label: usize, picture: Picture) -> Item {
    Item {
        id,
        split,
        group: String::new(),
        media: Media::Picture(picture),
        interval: None,
        text: None,
        target: Some(Target::Class(label)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    /// A JPEG of 48x48 pixels: a gradient whose brightness depends on `shade`.
    fn jpeg(shade: u32) -> Vec<u8> {
        let picture =
            image::GrayImage::from_fn(48, 48, |x, y| image::Luma([(shade * 3 + x * 2 + y) as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut bytes, image::ImageFormat::Jpeg)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn the_table_is_listed_and_malformed_lines_are_faults() {
        let pixels = |shade: u32| {
            (0..2304u32)
                .map(|i| ((i * 7 + shade * 13) % 256).to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mut csv = String::from("emotion,pixels,Usage\r\n");
        for shade in 0..64 {
            csv += &format!("{},{},Training\r\n", shade % 7, pixels(shade));
        }
        csv += &format!(
            "3,{},PublicTest\n6,{},PrivateTest\n9,{},Training\n1,1 2 3,Training\n1,{},Spare\n",
            pixels(1),
            pixels(2),
            pixels(3),
            pixels(4)
        );
        let tree = Tree::new(&[]);
        tree.write("fer2013/fer2013.csv", &csv);
        let listing = tree.list("fer2013").unwrap();
        assert_eq!((listing.items.len(), listing.faults.len()), (66, 3));
        assert_eq!(item(&listing, "Training_10").target, Some(Target::Class(3)));
        assert_eq!(
            [
                item(&listing, "PublicTest_64").split,
                item(&listing, "PrivateTest_65").split
            ],
            [Split::Test; 2]
        );
        let held = |listing: &Listing| {
            listing
                .items
                .iter()
                .filter(|i| i.split == Split::Val)
                .map(|i| i.id.clone())
                .collect::<Vec<_>>()
        };
        assert!(
            (1..40).contains(&held(&listing).len()),
            "{:?}",
            held(&listing)
        );
        assert_eq!(faults(&listing, "line 68", "is not an emotion"), 1);
        assert_eq!(faults(&listing, "line 69", "is not an emotion"), 1);
        assert_eq!(faults(&listing, "line 70", "\"Spare\" is none of"), 1);
        let options = Options {
            public_test_selects: true,
            ..Options::default()
        };
        let listing = super::super::list(
            "fer2013",
            &tree.path().join("fer2013/fer2013.csv"),
            &options,
        )
        .unwrap();
        assert_eq!(held(&listing), ["PublicTest_64"]);
    }

    #[test]
    fn folders_and_archive_have_equal_items_and_faults() {
        let tree = Tree::new(&[
            "fer2013/Training/contempt/a.jpg",
            "fer2013/Training/sad/broken.jpg",
        ]);
        let mut tar = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 1));
        for shade in 0..40 {
            let name = format!("fer2013/Training/fear/Training_{shade}.jpg");
            tree.write(&name, "");
            std::fs::write(tree.path().join(&name), jpeg(shade)).unwrap();
        }
        for name in ["Training/contempt/a.jpg", "Training/sad/broken.jpg"]
            .into_iter()
            .map(String::from)
            .chain((0..40).map(|i| format!("Training/fear/Training_{i}.jpg")))
        {
            tar.append_path_with_name(
                tree.path().join("fer2013").join(&name),
                format!("fer2013/{name}"),
            )
            .unwrap();
        }
        let packed = Tree::new(&[]);
        std::fs::write(
            packed.path().join("fer2013_part.tar.xz"),
            tar.into_inner().unwrap().finish().unwrap(),
        )
        .unwrap();
        let (folders, archive) = (
            tree.list("fer2013").unwrap(),
            packed.list("fer2013").unwrap(),
        );
        assert_eq!(ids(&folders), ids(&archive));
        for (one, other) in folders.items.iter().zip(&archive.items) {
            assert_eq!(
                (one.split, &one.target),
                (other.split, &Some(Target::Class(2)))
            );
            assert!(matches!(&one.media, Media::Picture(Picture::File(_))));
            assert!(matches!(
                &other.media,
                Media::Picture(Picture::Grey { size: 48, pixels }) if pixels.len() == 2304
            ));
        }
        assert!(folders.items.iter().any(|i| i.split == Split::Val));
        for listing in [&folders, &archive] {
            assert_eq!(faults(listing, "contempt/a.jpg", "is none of"), 1);
            assert_eq!(faults(listing, "broken.jpg", "cannot be decoded"), 1);
            assert_eq!((listing.items.len(), listing.faults.len()), (40, 2));
        }
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let tree = Tree::new(&[]);
        std::fs::write(tree.path().join("fer2013.tar.xz"), b"\xfd7zXZ\0not more").unwrap();
        assert!(matches!(
            tree.list("fer2013"),
            Err(DataError::Malformed { .. })
        ));
    }

    #[test]
    fn the_published_archive_has_the_published_counts() {
        let Some(path) = crate::testing::material("faces") else {
            return;
        };
        let listing = super::super::list("fer2013", &path, &Options::default()).unwrap();
        let count = |split| listing.items.iter().filter(|i| i.split == split).count();
        assert_eq!(
            (
                count(Split::Train) + count(Split::Val),
                count(Split::Test),
                &listing.faults
            ),
            (28_709, 3_589, &vec![])
        );
        assert!(
            (2_500..3_300).contains(&count(Split::Val)),
            "{}",
            count(Split::Val)
        );
        // The published counts of Training: angry 3995, disgust 436, fear 4097, happy 7215, sad
        // 4830, surprise 3171, neutral 4965.
        let classes = |label| {
            listing
                .items
                .iter()
                .filter(|i| i.split != Split::Test && i.target == Some(Target::Class(label)))
                .count()
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(classes),
            [3995, 436, 4097, 7215, 4830, 3171, 4965]
        );
    }
}
