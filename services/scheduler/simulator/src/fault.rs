//! What can be wrong with an input: always a file, and as far as it can be said its line and its field.

use std::fmt;
use std::path::PathBuf;

/// An input that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named.
    pub file: PathBuf,
    /// From 1; `None` where the fault is of the file as a whole.
    pub line: Option<u64>,
    /// The column's title, or the option's name; empty where the fault is of the line as a whole.
    pub field: String,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        if !self.field.is_empty() {
            write!(out, ": {}", self.field)?;
        }
        write!(out, ": {}", self.why)
    }
}

impl std::error::Error for Fault {}
