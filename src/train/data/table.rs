//! Annotation tables as they are found: byte-order marks, tabs, spaces around cells, CRLF, quotes, bytes of Windows-1252.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::DataError;
use super::catalogue::Catalogue;

/// A table that is being read.
pub struct Table {
    path: PathBuf,
    header: Vec<String>,
    reader: csv::Reader<BufReader<File>>,
    record: csv::ByteRecord,
}

/// One line of a table, as many cells as the header has.
pub struct Row {
    /// Where the row begins, from 1; the header is line 1. Of a row behind blank lines it is the first of those.
    pub line: u64,
    cells: Vec<String>,
}

impl Row {
    /// The cell, without spaces around it.
    pub fn get(&self, column: usize) -> &str {
        &self.cells[column]
    }

    /// The cell of a column that may be missing or empty.
    pub fn optional(&self, column: Option<usize>) -> Option<&str> {
        column.map(|c| self.get(c)).filter(|cell| !cell.is_empty())
    }
}

impl Table {
    pub fn open(path: &Path) -> Result<Table, DataError> {
        let unreadable = |source| DataError::Unreadable { path: path.to_path_buf(), source };
        let mut bytes = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
        let start = bytes.fill_buf().map_err(unreadable)?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Err(DataError::Malformed { path: path.to_path_buf(), what: "is UTF-16: save it as UTF-8".into() });
        }
        let mark = if start.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 };
        let first = start[mark..].split(|b| *b == b'\n').next().unwrap_or_default();
        let delimiter = [b',', b'\t', b';'].into_iter().find(|d| first.contains(d)).unwrap_or(b',');
        bytes.consume(mark);
        // Lines end in LF alone, so that they are counted right; a CR before it is trimmed from the last cell.
        let mut reader =
            csv::ReaderBuilder::new().terminator(csv::Terminator::Any(b'\n')).delimiter(delimiter).has_headers(true).flexible(true).from_reader(bytes);
        let header: Vec<String> = match reader.byte_headers() {
            Ok(header) => header.iter().map(decode).collect(),
            Err(error) => return Err(malformed(path, error)),
        };
        if header.iter().all(String::is_empty) {
            return Err(DataError::Malformed { path: path.to_path_buf(), what: "is empty: expected a line with the columns' names".into() });
        }
        Ok(Table { path: path.to_path_buf(), header, reader, record: csv::ByteRecord::new() })
    }

    /// The column called `name`, whatever the case, spaces and signs of its name.
    pub fn column(&self, name: &'static str) -> Result<usize, DataError> {
        self.optional(name).ok_or_else(|| DataError::Column { path: self.path.clone(), column: name, found: self.header.clone() })
    }

    pub fn optional(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|h| key(h) == key(name))
    }

    /// The next row; blank lines are passed over, and a row with more or fewer cells than the header is a fault.
    pub fn next(&mut self, catalogue: &mut Catalogue) -> Result<Option<Row>, DataError> {
        loop {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => return Err(malformed(&self.path, error)),
            }
            let line = self.record.position().map_or(0, csv::Position::line);
            if self.record.len() == self.header.len() {
                return Ok(Some(Row { line, cells: self.record.iter().map(decode).collect() }));
            }
            if self.record.iter().all(|cell| cell.trim_ascii().is_empty()) {
                continue;
            }
            let what = format!("has {} cells where the header has {} (a comma in a cell needs quotes): left out", self.record.len(), self.header.len());
            catalogue.fault(self.at(line), what);
        }
    }

    /// How a fault names a line.
    pub fn at(&self, line: u64) -> String {
        format!("{} line {line}", self.path.display())
    }
}

fn malformed(path: &Path, error: csv::Error) -> DataError {
    DataError::Malformed { path: path.to_path_buf(), what: error.to_string() }
}

fn key(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// UTF-8, and where it is not, Windows-1252 as far as annotation files use it: its quotes and dashes, and Latin-1.
fn decode(bytes: &[u8]) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes
            .iter()
            .map(|byte| match byte {
                0x85 => '…',
                0x91 => '‘',
                0x92 => '’',
                0x93 => '“',
                0x94 => '”',
                0x96 => '–',
                0x97 => '—',
                other => char::from(*other),
            })
            .collect(),
    };
    text.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    fn rows(bytes: &[u8], columns: &[&'static str]) -> (Vec<Vec<String>>, usize) {
        let tree = Tree::new(&[]);
        std::fs::write(tree.path().join("t.csv"), bytes).unwrap();
        let mut table = Table::open(&tree.path().join("t.csv")).unwrap();
        let columns: Vec<usize> = columns.iter().map(|c| table.column(c).unwrap()).collect();
        let mut catalogue = Catalogue::default();
        let mut rows = Vec::new();
        while let Some(row) = table.next(&mut catalogue).unwrap() {
            rows.push(columns.iter().map(|c| row.get(*c).to_string()).collect());
        }
        let Err(DataError::Empty { faults, .. }) = catalogue.finish("folder", &[], tree.path(), "") else { panic!() };
        (rows, faults.len())
    }

    #[test]
    fn marks_tabs_quotes_and_line_ends_are_read() {
        let expected = vec![vec!["id1".to_string(), "dev".into()]];
        assert_eq!(rows(b"\xef\xbb\xbfVoxCeleb2ID,VGGFace2ID,Gender,Set\r\nid1,n1,m,dev\r\n", &["VoxCeleb2ID", "Set"]), (expected.clone(), 0));
        assert_eq!(rows(b"VoxCeleb2 ID \tVGGFace2 ID \tGender \tSet \nid1 \tn1 \tm \tdev \n", &["VoxCeleb2ID", "Set"]), (expected, 0));
        let (read, faults) = rows(b"\"A\",\"B\"\n\"one, two\",\"a\n\"\"b\"\"\"\nx,y,z\n\x93caf\xe9\x94,\x92\n", &["a", "b"]);
        assert_eq!((read, faults), (vec![vec!["one, two".into(), "a\n\"b\"".into()], vec!["“café”".into(), "’".into()]], 1));
    }

    #[test]
    fn lines_are_counted_whatever_ends_them() {
        for end in ["\n", "\r\n"] {
            let tree = Tree::new(&[]);
            tree.write("t.csv", &["a,b", "1,2", "\"x", "y\",3", "5,6,7", "8,\"9\"", "", ""].join(end));
            let mut table = Table::open(&tree.path().join("t.csv")).unwrap();
            let (mut catalogue, mut lines) = (Catalogue::default(), Vec::new());
            while let Some(row) = table.next(&mut catalogue).unwrap() {
                lines.push((row.line, row.get(1).to_string()));
            }
            assert_eq!(lines, [(2, "2".into()), (3, "3".into()), (6, "9".into())]);
            let Err(DataError::Empty { faults, .. }) = catalogue.finish("folder", &[], tree.path(), "") else { panic!() };
            assert!(faults.len() == 1 && faults[0].at.ends_with("line 5"), "{faults:?}");
        }
    }

    #[test]
    fn a_missing_column_is_named_with_what_was_found() {
        let tree = Tree::new(&[]);
        tree.write("t.csv", "file,lable\na.wav,happy\n");
        let error = Table::open(&tree.path().join("t.csv")).unwrap().column("label").unwrap_err().to_string();
        assert!(error.ends_with("has no column \"label\": found file, lable"), "{error}");
        std::fs::write(tree.path().join("u.csv"), b"\xff\xfef\0i\0").unwrap();
        assert!(Table::open(&tree.path().join("u.csv")).err().unwrap().to_string().ends_with("save it as UTF-8"));
        tree.write("e.csv", "");
        assert!(matches!(Table::open(&tree.path().join("e.csv")), Err(DataError::Malformed { .. })));
    }
}
