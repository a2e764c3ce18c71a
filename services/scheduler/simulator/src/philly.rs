//! The Philly-style CSV (`timestamp,duration,num_gpus,cluster`; further columns are ignored): a job a line, submitted at a
//! civil time, for so many seconds. A second file may name the queues that count; jobs of others are left out.

use std::collections::HashMap;
use std::path::Path;

use jiff::civil::DateTime;

use crate::fault::Fault;
use crate::table::{Row, Table};
use crate::workload::{Job, Workload};

/// Which lines of the trace count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Submitted then or later.
    pub from: Option<DateTime>,
    /// Submitted before then.
    pub to: Option<DateTime>,
}

/// Reads a trace, and the list of queues if there is one (column `vc`).
///
/// # Errors
/// The file, line and field at fault: a file that can't be read or is empty, a missing column, a time, duration or number of
/// GPUs that isn't one, no job in the window.
pub fn read(trace: &Path, queues: Option<&Path>, window: Window) -> Result<Workload, Fault> {
    let mut names = queues.map(queue_names).transpose()?.unwrap_or_default();
    let mut index: HashMap<String, usize> = names.iter().cloned().zip(0..).collect();
    let mut table = Table::open(trace, ["timestamp", "duration", "num_gpus", "cluster"])?;
    let mut jobs = Vec::new();
    while let Some(row) = table.next()? {
        let [time, _, gpus, name] = row.texts;
        let submitted: DateTime =
            time.parse().map_err(|_| row.fault("timestamp", format!("{time:?} is no time such as 2017-10-01 00:00:00")))?;
        let duration_ms = duration_ms(&row)?;
        let gpus: u32 = gpus
            .parse()
            .ok()
            .filter(|gpus| *gpus > 0)
            .ok_or_else(|| row.fault("num_gpus", format!("{gpus:?} is no number of GPUs from 1")))?;
        if window.from.is_some_and(|from| submitted < from) || window.to.is_some_and(|to| submitted >= to) {
            continue;
        }
        let queue = match index.get(name) {
            Some(queue) => *queue,
            None if queues.is_some() => continue,
            None => {
                names.push(name.to_owned());
                index.insert(name.to_owned(), names.len() - 1);
                names.len() - 1
            }
        };
        jobs.push(Job { line: row.line, queue, submitted_ms: since_epoch(submitted), duration_ms, gpus });
    }
    jobs.sort_by_key(|job| (job.submitted_ms, job.line));
    let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else {
        return Err(table.fault("", "has no job in the window and the queues that were asked for"));
    };
    let from = window.from.map_or(first.submitted_ms, since_epoch);
    let to = window.to.map_or(last.submitted_ms, since_epoch);
    Ok(Workload { file: trace.to_owned(), queues: names, window_ms: (to - from).max(1), jobs })
}

fn queue_names(file: &Path) -> Result<Vec<String>, Fault> {
    let mut table = Table::open(file, ["vc"])?;
    let mut names = Vec::new();
    while let Some(row) = table.next()? {
        let [name] = row.texts;
        if names.iter().any(|known| known == name) {
            return Err(row.fault("vc", format!("{name:?} is there twice")));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(table.fault("", "names no queue"));
    }
    Ok(names)
}

/// Seconds, perhaps with a fraction, as whole milliseconds.
fn duration_ms<const COLUMNS: usize>(row: &Row<'_, COLUMNS>) -> Result<i64, Fault> {
    let text = row.texts[1];
    let seconds: f64 = text.parse().map_err(|_| row.fault("duration", format!("{text:?} is no number of seconds")))?;
    if seconds < 0.0 {
        return Err(row.fault("duration", format!("{text} s is negative")));
    }
    // A century: beyond it sums of durations times GPUs would no longer be exact.
    if seconds.is_nan() || seconds > 3.2e9 {
        return Err(row.fault("duration", format!("{text} s is longer than a century")));
    }
    Ok((seconds * 1_000.0).round() as i64)
}

/// The trace's clock has no zone; it is taken as UTC.
fn since_epoch(time: DateTime) -> i64 {
    time.to_zoned(jiff::tz::TimeZone::UTC).map_or(0, |zoned| zoned.timestamp().as_millisecond())
}
