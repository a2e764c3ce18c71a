//! The Philly-style CSV (`timestamp,duration,num_gpus,cluster`; further columns are ignored): a job a line, submitted at a
//! civil time, for so many seconds. A second file may name the queues that count; jobs of others are left out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use jiff::civil::DateTime;
use muster_scheduler_engine::Gang;

use crate::fault::Fault;
use crate::play::{gang, group};
use crate::table::{Row, Table};
use crate::workload::{GPUS_PER_NODE, Job, Shape, Unit, Workload};

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
    let (mut jobs, mut shapes, mut by_gpus) = (Vec::new(), Vec::new(), HashMap::new());
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
        let shape = *by_gpus.entry(gpus).or_insert_with(|| {
            shapes.push(shape(gpus));
            shapes.len() - 1
        });
        let submitted_ms = since_epoch(submitted);
        jobs.push(Job { line: row.line, queue, shape, submitted_ms, duration_ms, gpus, each: GPUS_PER_NODE });
    }
    jobs.sort_by_key(|job| (job.submitted_ms, job.line));
    let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else {
        return Err(table.fault("", "has no job in the window and the queues that were asked for"));
    };
    let from = window.from.map_or(first.submitted_ms, since_epoch);
    let to = window.to.map_or(last.submitted_ms, since_epoch);
    Ok(Workload { file: trace.to_owned(), queues: names, shapes, unit: Unit::Gpus, window_ms: (to - from).max(1), jobs })
}

/// A job of so many GPUs: whole nodes, and what is left on one more.
fn shape(gpus: u32) -> Shape {
    let (whole, rest) = (gpus / GPUS_PER_NODE, gpus % GPUS_PER_NODE);
    let whole = (whole > 0).then(|| group("whole", whole, GPUS_PER_NODE));
    let rest = (rest > 0).then(|| group("rest", 1, rest));
    let gang: Gang = gang(whole.into_iter().chain(rest).collect(), Some(restart_ms(gpus)));
    Shape { class: format!("{gpus} GPUs"), kind: String::new(), priority: 0, gang, speeds: BTreeMap::new(), deadline_ms: None }
}

/// What a run pays when it goes on after it was preempted: 7 s with one GPU, 30 s up to a node, 60 s beyond. These are the
/// costs of the Helios simulator (Hu et al., *Characterization and Prediction of Deep Learning Workloads*, SC 2021).
fn restart_ms(gpus: u32) -> i64 {
    match gpus {
        0 | 1 => 7_000,
        2..=GPUS_PER_NODE => 30_000,
        _ => 60_000,
    }
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
