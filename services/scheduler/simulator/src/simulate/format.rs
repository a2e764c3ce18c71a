//! How a workload is written, and how that is told from its content.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::fault::Fault;

/// How a workload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CSV with a job a line: `timestamp,duration,num_gpus,cluster`.
    Philly,
    /// CSV with a pod a line: `name,cpu_milli,memory_mib,num_gpu,gpu_milli`.
    Openb,
    /// YAML of Kueue's performance test: `cohorts`.
    Kueue,
    /// JSON of measured throughputs by GPU model and type of job.
    Gavel,
    /// YAML of `muster.dev/v1`.
    Muster,
}

/// So much of a file tells how it is written.
const HEAD_BYTES: u64 = 64 * 1024;

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Philly, Self::Openb, Self::Kueue, Self::Gavel, Self::Muster];

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Philly => "philly",
            Self::Openb => "openb",
            Self::Kueue => "kueue",
            Self::Gavel => "gavel",
            Self::Muster => "muster",
        }
    }

    /// How a file is written, by its first lines.
    ///
    /// # Errors
    /// A file that can't be read, is empty, or is of no known format.
    pub fn of(file: &Path) -> Result<Self, Fault> {
        let whole = |why: String| Fault { file: file.to_owned(), line: None, field: String::new(), why };
        let mut head = Vec::new();
        File::open(file)
            .and_then(|opened| opened.take(HEAD_BYTES).read_to_end(&mut head))
            .map_err(|error| whole(error.to_string()))?;
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#') && *line != "---");
        let Some(first) = lines.next() else { return Err(whole("is empty".to_owned())) };
        let titles: Vec<&str> = first.split(',').map(str::trim).collect();
        if titles.contains(&"timestamp") || titles.contains(&"num_gpus") {
            return Ok(Self::Philly);
        }
        if titles.contains(&"cpu_milli") {
            return Ok(Self::Openb);
        }
        if first.starts_with('{') && head.contains("\"null\"") {
            return Ok(Self::Gavel);
        }
        if head.contains("muster.dev/") {
            return Ok(Self::Muster);
        }
        if std::iter::once(first).chain(lines).any(|line| line.starts_with("cohorts:")) {
            return Ok(Self::Kueue);
        }
        let names: Vec<&str> = Self::ALL.iter().map(|format| format.name()).collect();
        Err(whole(format!(
            "is none of the formats {}, as far as its first lines tell; say which with --format",
            names.join(", ")
        )))
    }
}
