//! A reader of published annotation tables. They may have byte-order marks, tabs, spaces around
//! cells, CRLF line ends, quotes, and text in Windows-1252.

use std::fs::File;
use std::io::{BufRead, BufReader, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::DataError;
use super::catalogue::Catalogue;

/// A reader of an annotation table: a text file with a header and one record a line. Its delimiter
/// (comma, tab or semicolon) is taken from the first line.
pub struct Table {
    path: PathBuf,
    header: Vec<String>,
    delimiter: u8,
    /// Length of the byte-order mark in bytes. Positions of the CSV reader count from its end.
    mark: u64,
    reader: csv::Reader<BufReader<File>>,
    record: csv::ByteRecord,
    /// The cells of all malformed rows so far; see [`Table::left_out`].
    left_out: Vec<String>,
}

/// A row of an annotation table. It has as many cells as the header.
pub struct Row {
    /// Number of the row's first line in the file; the header is line 1. If blank lines precede the
    /// row, this is the first blank line.
    pub line: u64,
    cells: Vec<String>,
}

impl Row {
    /// The text of the cell in this column (an index from [`Table::column`]), without surrounding
    /// spaces.
    pub fn get(&self, column: usize) -> &str {
        &self.cells[column]
    }

    /// The text of the cell in this column. `None` if the table lacks the column (`column` is
    /// `None`) or the cell is empty.
    pub fn optional(&self, column: Option<usize>) -> Option<&str> {
        column.map(|c| self.get(c)).filter(|cell| !cell.is_empty())
    }
}

impl Table {
    /// Opens the table at `path` and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, is UTF-16, or has no header.
    pub fn open(path: &Path) -> Result<Table, DataError> {
        let unreadable = |source| DataError::Unreadable {
            path: path.to_path_buf(),
            source,
        };
        let mut bytes = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
        let start = bytes.fill_buf().map_err(unreadable)?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Err(DataError::Malformed {
                path: path.to_path_buf(),
                what: "is UTF-16: save it as UTF-8".into(),
            });
        }
        let mark = if start.starts_with(&[0xef, 0xbb, 0xbf]) {
            3
        } else {
            0
        };
        let first = start[mark..]
            .split(|b| *b == b'\n')
            .next()
            .unwrap_or_default();
        let delimiter = [b',', b'\t', b';']
            .into_iter()
            .find(|d| first.contains(d))
            .unwrap_or(b',');
        bytes.consume(mark);
        let mark = mark as u64;
        // Only LF ends a line, so that the CSV reader counts lines correctly. A CR before it is
        // trimmed from the last cell.
        let mut reader = csv::ReaderBuilder::new()
            .terminator(csv::Terminator::Any(b'\n'))
            .delimiter(delimiter)
            .has_headers(true)
            .flexible(true)
            .from_reader(bytes);
        let header: Vec<String> = match reader.byte_headers() {
            Ok(header) => header.iter().map(decode).collect(),
            Err(error) => return Err(malformed(path, error)),
        };
        if header.iter().all(String::is_empty) {
            return Err(DataError::Malformed {
                path: path.to_path_buf(),
                what: "is empty: expected a line with the columns' names".into(),
            });
        }
        Ok(Table {
            path: path.to_path_buf(),
            header,
            delimiter,
            mark,
            reader,
            record: csv::ByteRecord::new(),
            left_out: Vec::new(),
        })
    }

    /// Index of the column `name` in the header. Case, spaces and punctuation are ignored.
    ///
    /// # Errors
    /// [`DataError::Column`]: the table has no such column.
    pub fn column(&self, name: &'static str) -> Result<usize, DataError> {
        self.optional(name).ok_or_else(|| DataError::Column {
            path: self.path.clone(),
            column: name,
            found: self.header.clone(),
        })
    }

    /// Index of the column `name` in the header; case, spaces and punctuation are ignored. `None`
    /// if the table has no such column.
    pub fn optional(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|h| key(h) == key(name))
    }

    /// The next row; `None` at the end of the table. Blank lines are skipped. A line with an
    /// unclosed quote, and a row with more or fewer cells than the header, are left out and added
    /// to `catalogue` as faults.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self, catalogue: &mut Catalogue) -> Result<Option<Row>, DataError> {
        loop {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => return Err(malformed(&self.path, error)),
            }
            let line = self.record.position().map_or(0, csv::Position::line);
            if self.record.as_slice().contains(&b'\n')
                && let Some(line) = self.leave_open_quote()?
            {
                catalogue.fault(
                    self.at(line),
                    "a quote is opened and not closed (one within a \
                    cell is written twice): left out",
                );
                continue;
            }
            if self.record.len() == self.header.len() {
                return Ok(Some(Row {
                    line,
                    cells: self.record.iter().map(decode).collect(),
                }));
            }
            if self.record.iter().all(|cell| cell.trim_ascii().is_empty()) {
                continue;
            }
            let what = format!(
                "has {} cells where the header has {} (a comma in a cell needs quotes): left out",
                self.record.len(),
                self.header.len()
            );
            catalogue.fault(self.at(line), what);
            self.left_out.extend(self.record.iter().map(decode));
        }
    }

    /// The cells of all malformed rows that [`Table::next`] has left out so far, in one list. The
    /// columns of these cells are unknown.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Skips a line with an unclosed quote, which made the CSV reader join it with the lines that
    /// follow. Only this line is left out: the reader is set back to the next one. Returns the
    /// number of the line; `None` if the record's line breaks are correctly quoted.
    fn leave_open_quote(&mut self) -> Result<Option<u64>, DataError> {
        let unreadable = |source| DataError::Unreadable {
            path: self.path.clone(),
            source,
        };
        let start = self
            .record
            .position()
            .cloned()
            .unwrap_or_else(csv::Position::new);
        let file = self.reader.get_ref().get_ref();
        let mut raw = vec![0; (self.reader.position().byte() - start.byte()) as usize];
        file.read_exact_at(&mut raw, self.mark + start.byte())
            .map_err(unreadable)?;
        let is_last =
            self.mark + self.reader.position().byte() >= file.metadata().map_err(unreadable)?.len();
        let blank = raw.iter().take_while(|b| **b == b'\n').count();
        let row = &raw[blank..];
        if !(has_open_quote(row, self.delimiter)
            || is_last && holds_rows(row, self.delimiter, self.header.len()))
        {
            return Ok(None);
        }
        let first = row.split(|b| *b == b'\n').next().unwrap_or_default();
        self.left_out.extend(
            first
                .split(|b| *b == self.delimiter)
                .map(|cell| decode(cell).trim_matches('"').to_string()),
        );
        let (line, next) = (
            start.line() + blank as u64,
            start.byte() + (blank + first.len()) as u64 + 1,
        );
        let mut position = csv::Position::new();
        position.set_byte(next).set_line(line + 1);
        self.reader
            .seek_raw(SeekFrom::Start(self.mark + next), position)
            .map_err(|error| malformed(&self.path, error))?;
        Ok(Some(line))
    }

    /// The table's path and a line number as text, for the position of a fault.
    pub fn at(&self, line: u64) -> String {
        format!("{} line {line}", self.path.display())
    }
}

fn malformed(path: &Path, error: csv::Error) -> DataError {
    DataError::Malformed {
        path: path.to_path_buf(),
        what: error.to_string(),
    }
}

/// Whether a quoted cell of the row is not closed at the row's end, or its closing quote is
/// followed by text instead of a delimiter.
fn has_open_quote(row: &[u8], delimiter: u8) -> bool {
    let (mut is_quoted, mut begins) = (false, true);
    let mut bytes = row.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if is_quoted => match bytes.peek() {
                Some(b'"') => {
                    bytes.next();
                }
                Some(next) if *next != delimiter && !next.is_ascii_whitespace() => return true,
                _ => is_quoted = false,
            },
            b'"' if begins => is_quoted = true,
            _ => {}
        }
        begins = !is_quoted && byte == delimiter;
    }
    is_quoted
}

/// Whether each line of `row` has the delimiters of a complete row. At the end of a file this means
/// that an unclosed quote has joined several rows.
fn holds_rows(row: &[u8], delimiter: u8, columns: usize) -> bool {
    columns > 1
        && row
            .trim_ascii_end()
            .split(|b| *b == b'\n')
            .all(|line| line.iter().filter(|b| **b == delimiter).count() == columns - 1)
}

/// The letters and digits of a column's name in lower case. Two names with the same key are the
/// same column.
fn key(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Decodes a cell as UTF-8, or as Windows-1252 if it is not UTF-8, and trims it. Of Windows-1252
/// only Latin-1, quotes, dashes and the ellipsis are supported.
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

    /// The cells of these columns in each row of the table `bytes`, and the number of faults.
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
        let Err(DataError::Empty { faults, .. }) = catalogue.finish("folder", &[], tree.path(), "")
        else {
            panic!()
        };
        (rows, faults.len())
    }

    #[test]
    fn byte_order_marks_tabs_quotes_and_windows_1252_are_read() {
        let expected = vec![vec!["id1".to_string(), "dev".into()]];
        assert_eq!(
            rows(
                b"\xef\xbb\xbfVoxCeleb2ID,VGGFace2ID,Gender,Set\r\nid1,n1,m,dev\r\n",
                &["VoxCeleb2ID", "Set"]
            ),
            (expected.clone(), 0)
        );
        assert_eq!(
            rows(
                b"VoxCeleb2 ID \tVGGFace2 ID \tGender \tSet \nid1 \tn1 \tm \tdev \n",
                &["VoxCeleb2ID", "Set"]
            ),
            (expected, 0)
        );
        let (read, faults) = rows(
            b"\"A\",\"B\"\n\"one, two\",\"a\n\"\"b\"\"\"\nx,y,z\n\x93caf\xe9\x94,\x92\n",
            &["a", "b"],
        );
        assert_eq!(
            (read, faults),
            (
                vec![
                    vec!["one, two".into(), "a\n\"b\"".into()],
                    vec!["“café”".into(), "’".into()]
                ],
                1
            )
        );
    }

    #[test]
    fn line_numbers_are_right_with_lf_and_crlf() {
        for end in ["\n", "\r\n"] {
            let tree = Tree::new(&[]);
            tree.write(
                "t.csv",
                &["a,b", "1,2", "\"x", "y\",3", "5,6,7", "8,\"9\"", "", ""].join(end),
            );
            let mut table = Table::open(&tree.path().join("t.csv")).unwrap();
            let (mut catalogue, mut lines) = (Catalogue::default(), Vec::new());
            while let Some(row) = table.next(&mut catalogue).unwrap() {
                lines.push((row.line, row.get(1).to_string()));
            }
            assert_eq!(lines, [(2, "2".into()), (3, "3".into()), (6, "9".into())]);
            let Err(DataError::Empty { faults, .. }) =
                catalogue.finish("folder", &[], tree.path(), "")
            else {
                panic!()
            };
            assert!(
                faults.len() == 1 && faults[0].at.ends_with("line 5"),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn only_the_line_of_an_unclosed_quote_is_left_out() {
        let whole = |text: &str| rows(text.as_bytes(), &["a", "b"]);
        let row = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        for end in ["\n", "\r\n"] {
            let table =
                |lines: &[&str]| whole(&[&["\u{feff}a,b"], lines, &[""]].concat().join(end));
            // An unclosed quote joins lines: up to the next quote, up to the end of the file, or up
            // to a quote at the end of the file.
            assert_eq!(
                table(&["1,\"x", "2,y", "3,z"]),
                (vec![row("2", "y"), row("3", "z")], 1)
            );
            assert_eq!(
                table(&["", "\"1,x", "2,\"y, too\"", "3,z"]),
                (vec![row("2", "y, too"), row("3", "z")], 1)
            );
            assert_eq!(table(&["1,\"x", "2,y", "3,\"z"]), (vec![row("2", "y")], 2));
            assert_eq!(table(&["1,\"x", "2,y\""]), (vec![row("2", "y\"")], 1));
            // A quoted cell may span several lines.
            let cell = format!("x,{end}\"y\"{end}z");
            assert_eq!(
                table(&["1,\"x,", "\"\"y\"\"", "z\"", "2,y"]),
                (vec![row("1", &cell), row("2", "y")], 0)
            );
            assert_eq!(
                table(&["2,y", "1,\"x,", "\"\"y\"\"", "z\""]),
                (vec![row("2", "y"), row("1", &cell)], 0)
            );
        }
    }

    #[test]
    fn missing_columns_utf_16_and_empty_tables_are_errors() {
        let tree = Tree::new(&[]);
        tree.write("t.csv", "file,lable\na.wav,happy\n");
        let error = Table::open(&tree.path().join("t.csv"))
            .unwrap()
            .column("label")
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("has no column \"label\": found file, lable"),
            "{error}"
        );
        std::fs::write(tree.path().join("u.csv"), b"\xff\xfef\0i\0").unwrap();
        assert!(
            Table::open(&tree.path().join("u.csv"))
                .err()
                .unwrap()
                .to_string()
                .ends_with("save it as UTF-8")
        );
        tree.write("e.csv", "");
        assert!(matches!(
            Table::open(&tree.path().join("e.csv")),
            Err(DataError::Malformed { .. })
        ));
    }
}
