//! A CSV file whose columns are found by their titles, and whose faults name file, line and field.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use crate::fault::Fault;

/// An open file, of which the named columns are read.
pub(crate) struct Table<const COLUMNS: usize> {
    file: PathBuf,
    titles: [&'static str; COLUMNS],
    places: [usize; COLUMNS],
    /// A column that may be missing, and its texts empty.
    extra: Option<usize>,
    reader: csv::Reader<File>,
    record: StringRecord,
}

/// One line, with the texts of the named columns in their order.
pub(crate) struct Row<'a, const COLUMNS: usize> {
    file: &'a Path,
    pub(crate) line: u64,
    pub(crate) texts: [&'a str; COLUMNS],
    /// Of the column that may be missing.
    pub(crate) extra: &'a str,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Opens a file and finds its columns.
    pub(crate) fn open(file: &Path, titles: [&'static str; COLUMNS]) -> Result<Self, Fault> {
        let whole = |why: String| Fault { file: file.to_owned(), line: None, field: String::new(), why };
        let opened = File::open(file).map_err(|error| whole(error.to_string()))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(opened);
        let header = reader.headers().map_err(|error| whole(error.to_string()))?;
        if header.is_empty() {
            return Err(whole("is empty".to_owned()));
        }
        let mut places = [0; COLUMNS];
        for (place, title) in places.iter_mut().zip(titles) {
            *place = header.iter().position(|have| have == title).ok_or_else(|| Fault {
                file: file.to_owned(),
                line: Some(1),
                field: title.to_owned(),
                why: format!("the column is missing; there are {}", header.iter().collect::<Vec<_>>().join(", ")),
            })?;
        }
        Ok(Self { file: file.to_owned(), titles, places, extra: None, reader, record: StringRecord::new() })
    }

    /// Reads one more column, which may be missing.
    pub(crate) fn with_extra(mut self, title: &str) -> Self {
        self.extra = self.reader.headers().ok().and_then(|header| header.iter().position(|have| have == title));
        self
    }

    /// A fault of the file as a whole.
    pub(crate) fn fault(&self, field: &str, why: &str) -> Fault {
        Fault { file: self.file.clone(), line: None, field: field.to_owned(), why: why.to_owned() }
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_, COLUMNS>>, Fault> {
        let more = self.reader.read_record(&mut self.record).map_err(|error| Fault {
            file: self.file.clone(),
            line: error.position().map(csv::Position::line),
            field: String::new(),
            why: match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("has {len} fields, and the first line {expected_len}")
                }
                _ => error.to_string(),
            },
        })?;
        if !more {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let mut texts = [""; COLUMNS];
        for (index, text) in texts.iter_mut().enumerate() {
            *text = self.record.get(self.places[index]).unwrap_or_default();
            if text.is_empty() {
                let field = self.titles[index].to_owned();
                return Err(Fault { file: self.file.clone(), line: Some(line), field, why: "is empty".to_owned() });
            }
        }
        let extra = self.extra.and_then(|place| self.record.get(place)).unwrap_or_default();
        Ok(Some(Row { file: &self.file, line, texts, extra }))
    }
}

impl<const COLUMNS: usize> Row<'_, COLUMNS> {
    /// A whole number that is not negative.
    pub(crate) fn count(&self, column: usize, title: &str) -> Result<i64, Fault> {
        let text = self.texts[column];
        let count = text.parse().ok().filter(|count| *count >= 0);
        count.ok_or_else(|| self.fault(title, format!("{text:?} is no whole number from 0 up")))
    }

    /// A fault of one field of this line.
    pub(crate) fn fault(&self, field: &str, why: String) -> Fault {
        Fault { file: self.file.to_owned(), line: Some(self.line), field: field.to_owned(), why }
    }
}
