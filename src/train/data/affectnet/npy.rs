//! A reader of NumPy files (`.npy`, versions 1 to 3) that contain one number, either as a number or
//! as text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Upper limit of the bytes that are read of a file. A file with one number has about 130.
const LIMIT: u64 = 4096;

/// The number in the file at `path`. The error is a fault's text.
pub fn read(path: &Path) -> Result<f64, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    parse(&bytes)
}

/// The number in a file with the content `bytes`. The error is a fault's text.
///
/// The content is `\x93NUMPY`, two bytes of version, the header's length (16 bits in version 1,
/// then 32 bits), the header (a Python dictionary with `descr` and `shape`), and the data.
pub(super) fn parse(bytes: &[u8]) -> Result<f64, String> {
    let no_file = || String::from("is no NumPy file");
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(no_file)?;
    let (version, rest) = rest.split_at_checked(2).ok_or_else(no_file)?;
    let (length, rest) = if version[0] == 1 {
        let (length, rest) = rest.split_first_chunk().ok_or_else(no_file)?;
        (u16::from_le_bytes(*length) as usize, rest)
    } else {
        let (length, rest) = rest.split_first_chunk().ok_or_else(no_file)?;
        (u32::from_le_bytes(*length) as usize, rest)
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(no_file)?;
    let header = std::str::from_utf8(header).map_err(|_| no_file())?;
    let shape = value_of(header, "shape", '(', ')').ok_or_else(no_file)?;
    if shape.split(',').any(|n| !matches!(n.trim(), "" | "1")) {
        return Err(format!("has the shape ({shape}) instead of one number"));
    }
    let kind = value_of(header, "descr", '\'', '\'').ok_or_else(no_file)?;
    number(kind, data).ok_or_else(|| format!("has no readable number of the type {kind:?}"))
}

/// The text between `open` and `close` after the key `key` of the dictionary `header`.
fn value_of<'a>(header: &'a str, key: &str, open: char, close: char) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    let rest = rest.trim_start().strip_prefix(open)?;
    Some(rest.split_once(close)?.0)
}

/// The number at the start of `data`, which has NumPy's type `kind`: little-endian integers and
/// floats, or text in ASCII. `None` if the type is another one or the data is too short.
fn number(kind: &str, data: &[u8]) -> Option<f64> {
    let kind = kind.strip_prefix(['<', '|', '='])?;
    let (letter, size) = kind.split_at_checked(1)?;
    let size: usize = size.parse().ok()?;
    let text = |step: usize| {
        let data = data.get(..size.checked_mul(step)?)?;
        let ascii: String = data
            .chunks(step)
            .map(|unit| char::from(unit[0]))
            .take_while(|letter| *letter != '\0')
            .collect();
        ascii.trim().parse::<f64>().ok()
    };
    Some(match (letter, size) {
        ("i", 1) => i8::from_le_bytes(*data.first_chunk()?).into(),
        ("i", 2) => i16::from_le_bytes(*data.first_chunk()?).into(),
        ("i", 4) => i32::from_le_bytes(*data.first_chunk()?).into(),
        ("i", 8) => i64::from_le_bytes(*data.first_chunk()?) as f64,
        ("u", 1) => u8::from_le_bytes(*data.first_chunk()?).into(),
        ("f", 4) => f32::from_le_bytes(*data.first_chunk()?).into(),
        ("f", 8) => f64::from_le_bytes(*data.first_chunk()?),
        ("U", 1..) => text(4)?,
        ("S", 1..) => text(1)?,
        _ => return None,
    })
}

/// Helpers of tests.
#[cfg(test)]
pub(super) mod testing {
    /// A NumPy file of version 1 with this type, shape and data.
    pub fn file(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::file;
    use super::*;

    #[test]
    fn numbers_and_texts_are_read() {
        assert_eq!(parse(&file("<U1", "()", b"5\0\0\0")), Ok(5.0));
        assert_eq!(
            parse(&file("<U3", "()", b"7\0\0\0.\0\0\x000\0\0\0")),
            Ok(7.0)
        );
        assert_eq!(parse(&file("|S2", "(1,)", b"3\0")), Ok(3.0));
        assert_eq!(parse(&file("<i8", "()", &2i64.to_le_bytes())), Ok(2.0));
        assert_eq!(parse(&file("|u1", "(1, 1)", &[6])), Ok(6.0));
        assert_eq!(parse(&file("<f4", "()", &1f32.to_le_bytes())), Ok(1.0));
        // Version 2: the length of the header has 32 bits.
        let mut second = file("|i1", "()", &[4]);
        second[6] = 2;
        second.splice(10..10, [0, 0]);
        assert_eq!(parse(&second), Ok(4.0));
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        let reason = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(reason(b""), "is no NumPy file");
        assert_eq!(reason(&file("<i8", "()", &[])[..40]), "is no NumPy file");
        assert_eq!(
            reason(&file("<i8", "(2,)", &[0; 16])),
            "has the shape (2,) instead of one number"
        );
        for (kind, data) in [
            ("<i8", &[1u8; 4][..]),
            (">i8", &[0; 8]),
            ("|O", b"\x80\x03"),
        ] {
            let expected = format!("has no readable number of the type {kind:?}");
            assert_eq!(reason(&file(kind, "()", data)), expected);
        }
        assert!(reason(&file("<U1", "()", b"x\0\0\0")).contains("no readable"));
    }
}
