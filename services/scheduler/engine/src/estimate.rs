//! How much longer a gang will run, learned from finished runs of its like: same queue, same kind (owner and name pattern, as
//! the caller sees it), same number of GPUs. True durations are never known beforehand.
//!
//! The estimate is the Gittins index of the observed durations for a gang that has run that long already: the least, over all
//! horizons, of the expected time spent per gang that ends within the horizon (Gittins, *Bandit Processes and Dynamic Allocation
//! Indices*, 1979; for unknown sizes and means of completion it is the best order there is). Where nothing has finished it is
//! the service attained so far, i.e. the order is least attained service.

use std::collections::BTreeMap;

use crate::event::Refused;
use crate::rows::HistoryRow;

/// Durations are counted by level, two per doubling from a second on; the last one begins after 97 years.
const LEVELS: usize = 64;
/// Kinds remembered. A kind beyond them is taken as one of which nothing has finished.
const MAX_KINDS: usize = 100_000;
/// Weight of what is assumed beyond the longest run that has finished, in finished runs: a tail of exponent ½, which is heavy
/// enough that a gang that has run longer than any before is expected to run long.
const TAIL_RUNS: f64 = 1.0;

/// The level of a duration, from 0.
pub(crate) fn level_of(duration_ms: i64) -> u8 {
    let seconds = (duration_ms.max(0) / 1_000).cast_unsigned().max(1);
    let doublings = seconds.ilog2();
    // The bit below the highest: whether the upper half of the doubling is reached.
    let half = if doublings == 0 { 0 } else { (seconds >> (doublings - 1)) & 1 };
    let level = 2 * u64::from(doublings) + half;
    level.min(LEVELS as u64 - 1) as u8
}

/// Where a level begins, in milliseconds.
pub(crate) fn begin_ms(level: u8) -> i64 {
    let doubled = 1_000_i64 << (level / 2);
    if level.is_multiple_of(2) { doubled } else { doubled + doubled / 2 }
}

/// What jobs have in common that are expected to run equally long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Likeness {
    pub(crate) queue: String,
    pub(crate) kind: String,
    pub(crate) gpus: i64,
}

#[derive(Clone, Debug)]
struct History {
    finished: [u32; LEVELS],
    /// Expected remaining time by the level attained.
    remaining_ms: [i64; LEVELS],
}

/// Finished runs by likeness.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimates {
    histories: BTreeMap<Likeness, History>,
}

impl Estimates {
    /// A run is done that took this long, over all interruptions.
    pub(crate) fn finished(&mut self, likeness: Likeness, duration_ms: i64) {
        if self.histories.len() >= MAX_KINDS && !self.histories.contains_key(&likeness) {
            return;
        }
        let history =
            self.histories.entry(likeness).or_insert_with(|| History { finished: [0; LEVELS], remaining_ms: [0; LEVELS] });
        let count = &mut history.finished[usize::from(level_of(duration_ms))];
        *count = count.saturating_add(1);
        history.remaining_ms = indices(&history.finished);
    }

    /// Expected remaining time of a gang that has run this long, in steps: what is nearly equal is equal, so that such gangs
    /// keep the order in which they came.
    pub(crate) fn remaining_ms(&self, likeness: &Likeness, attained_ms: i64) -> i64 {
        let level = level_of(attained_ms);
        match self.histories.get(likeness) {
            Some(history) => begin_ms(level_of(history.remaining_ms[usize::from(level)])),
            None if attained_ms < 1_000 => 0,
            None => begin_ms(level),
        }
    }

    pub(crate) fn rows(&self) -> Vec<HistoryRow> {
        let levels =
            |history: &History| (0_u8..).zip(history.finished).filter(|(_, count)| *count > 0).collect::<BTreeMap<u8, u32>>();
        self.histories
            .iter()
            .map(|(likeness, history)| HistoryRow {
                queue: likeness.queue.clone(),
                kind: likeness.kind.clone(),
                gpus: likeness.gpus,
                finished: levels(history),
            })
            .collect()
    }

    pub(crate) fn restore(&mut self, row: HistoryRow) -> Result<(), Refused> {
        let mut finished = [0; LEVELS];
        for (level, count) in row.finished {
            let place = finished.get_mut(usize::from(level)).ok_or_else(|| Refused::new("finished", "no such level"))?;
            *place = count;
        }
        let likeness = Likeness { queue: row.queue, kind: row.kind, gpus: row.gpus };
        self.histories.insert(likeness, History { remaining_ms: indices(&finished), finished });
        Ok(())
    }
}

/// The index of every level. Only sums, products and square roots, which are the same on every machine.
fn indices(finished: &[u32; LEVELS]) -> [i64; LEVELS] {
    let mut weights = [0.0_f64; LEVELS];
    let mut begins = [0.0_f64; LEVELS + 1];
    for (begin, level) in begins.iter_mut().zip(0_u8..) {
        *begin = begin_ms(level) as f64;
    }
    let seen = finished.iter().rposition(|count| *count > 0).map_or(0, |level| level + 1);
    let tail = |at: f64| (begins[seen] / at).sqrt();
    for level in 0..LEVELS {
        let beyond = if level >= seen { tail(begins[level]) - tail(begins[level + 1]) } else { 0.0 };
        weights[level] = f64::from(finished[level]) + TAIL_RUNS * beyond;
    }
    let mut indices = [0; LEVELS];
    let mut alive = 0.0;
    for from in (0..LEVELS).rev() {
        alive += weights[from];
        let (mut ended, mut spent, mut best) = (0.0, 0.0, f64::INFINITY);
        for until in from..LEVELS {
            ended += weights[until];
            spent += weights[until] * (begins[until].midpoint(begins[until + 1]) - begins[from]);
            best = f64::min(best, (spent + (alive - ended) * (begins[until + 1] - begins[from])) / ended);
        }
        indices[from] = best as i64;
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness() -> Likeness {
        Likeness { queue: "q".to_owned(), kind: String::new(), gpus: 1 }
    }

    #[test]
    fn levels_double_in_two_steps_and_begin_where_they_say() {
        assert_eq!([0, 1_000, 2_000, 3_000, 4_000, 6_000, 7_999].map(level_of), [0, 0, 2, 3, 4, 5, 5]);
        for level in 3..60 {
            assert_eq!(level_of(begin_ms(level)), level);
            assert_eq!(level_of(begin_ms(level) - 1), level - 1);
        }
        assert_eq!(level_of(i64::MAX), 63);
    }

    #[test]
    fn without_history_who_has_run_least_is_first() {
        let estimates = Estimates::default();
        let at = |attained_ms| estimates.remaining_ms(&likeness(), attained_ms);
        assert_eq!([at(0), at(4_000), at(64_000)], [0, 4_000, 64_000]);
    }

    #[test]
    fn short_runs_teach_that_a_new_one_is_short_and_an_old_one_is_long() {
        let mut estimates = Estimates::default();
        for _ in 0..100 {
            estimates.finished(likeness(), 60_000);
        }
        let new = estimates.remaining_ms(&likeness(), 0);
        assert!((30_000..=96_000).contains(&new), "{new}");
        assert!(estimates.remaining_ms(&likeness(), 3_600_000) > 600_000);
    }

    #[test]
    fn what_was_learned_survives_as_rows() {
        let mut estimates = Estimates::default();
        for minute in 1..50 {
            estimates.finished(likeness(), minute * 60_000);
        }
        let mut restored = Estimates::default();
        for row in estimates.rows() {
            restored.restore(row).unwrap();
        }
        for attained in [0, 60_000, 900_000, 9_000_000] {
            assert_eq!(restored.remaining_ms(&likeness(), attained), estimates.remaining_ms(&likeness(), attained));
        }
    }
}
