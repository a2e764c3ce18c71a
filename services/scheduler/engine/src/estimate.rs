//! How much longer a gang will run, learned from finished runs of its like: same queue, same kind (owner and name pattern, as
//! the caller sees it), same number of GPUs. True durations are never known beforehand.
//!
//! The estimate is the Gittins index of the observed durations for a gang that has run that long already: the least, over all
//! horizons, of the expected time spent per gang that ends within the horizon (Gittins, *Bandit Processes and Dynamic Allocation
//! Indices*, 1979; for unknown sizes and means of completion it is the best order there is). Where nothing has finished it is
//! the service attained so far, i.e. the order is least attained service.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use crate::event::Refused;
use crate::jobs::Hashing;
use crate::learned::{self, ModelRuns};
use crate::rows::HistoryRow;
use crate::spec::TierOpens;

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

/// Number of a likeness: what jobs have in common that are expected to run equally long.
pub(crate) type LikenessId = usize;

#[derive(Clone, Debug)]
struct Likeness {
    queue: String,
    kind: String,
    gpus: i64,
    /// Unfinished jobs of it.
    jobs: u64,
    history: Option<Box<History>>,
}

impl Likeness {
    fn is_of(&self, queue: &str, kind: &str, gpus: i64) -> bool {
        self.gpus == gpus && self.queue == queue && self.kind == kind
    }
}

#[derive(Clone, Debug)]
struct History {
    finished: [u32; LEVELS],
    /// Expected remaining time by the level attained; [`UNKNOWN`] while it has to be computed anew.
    remaining_ms: [i64; LEVELS],
    /// Runs on each GPU model, of jobs that don't say how fast they are.
    models: BTreeMap<String, ModelRuns>,
    /// What these say of speeds, in thousandths.
    speeds: BTreeMap<String, u32>,
}

impl History {
    fn new(finished: [u32; LEVELS], models: BTreeMap<String, ModelRuns>) -> Box<Self> {
        let speeds = learned::speeds(&models);
        Box::new(Self { finished, remaining_ms: [UNKNOWN; LEVELS], models, speeds })
    }
}

/// An expectation that nobody has asked for since a run finished.
const UNKNOWN: i64 = -1;

/// Finished runs by likeness.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimates {
    all: Vec<Option<Likeness>>,
    unused: Vec<LikenessId>,
    /// By queue, kind and GPUs.
    by_key: HashMap<String, HashMap<String, BTreeMap<i64, LikenessId>, Hashing>, Hashing>,
    histories: usize,
    /// The likeness of the latest job: jobs often come in rows of equals.
    latest: Option<LikenessId>,
}

impl Estimates {
    /// The likeness of one more job.
    pub(crate) fn acquire(&mut self, queue: &str, kind: &str, gpus: i64) -> LikenessId {
        let same = |id: &LikenessId| self.all[*id].as_ref().is_some_and(|known| known.is_of(queue, kind, gpus));
        let id = self.latest.filter(same).unwrap_or_else(|| self.find_or_make(queue, kind, gpus));
        self.latest = Some(id);
        self.get_mut(id).jobs += 1;
        id
    }

    fn find_or_make(&mut self, queue: &str, kind: &str, gpus: i64) -> LikenessId {
        let known = self.by_key.get(queue).and_then(|kinds| kinds.get(kind)).and_then(|sizes| sizes.get(&gpus));
        if let Some(id) = known {
            return *id;
        }
        let likeness = Some(Likeness { queue: queue.to_owned(), kind: kind.to_owned(), gpus, jobs: 0, history: None });
        let id = match self.unused.pop() {
            Some(id) => {
                self.all[id] = likeness;
                id
            }
            None => {
                self.all.push(likeness);
                self.all.len() - 1
            }
        };
        self.by_key.entry(queue.to_owned()).or_default().entry(kind.to_owned()).or_default().insert(gpus, id);
        id
    }

    /// A job of the likeness is gone. What no job has and nothing was learned of is forgotten.
    pub(crate) fn release(&mut self, id: LikenessId) {
        let likeness = self.get_mut(id);
        likeness.jobs -= 1;
        if likeness.jobs > 0 || likeness.history.is_some() {
            return;
        }
        if let Some(Likeness { queue, kind, gpus, .. }) = self.all[id].take()
            && let Some(kinds) = self.by_key.get_mut(&queue)
        {
            if let Some(sizes) = kinds.get_mut(&kind) {
                sizes.remove(&gpus);
                if sizes.is_empty() {
                    kinds.remove(&kind);
                }
            }
            if kinds.is_empty() {
                self.by_key.remove(&queue);
            }
        }
        self.unused.push(id);
    }

    pub(crate) fn kind(&self, id: LikenessId) -> &str {
        &self.all[id].as_ref().expect("a job holds its likeness").kind
    }

    fn get_mut(&mut self, id: LikenessId) -> &mut Likeness {
        self.all[id].as_mut().expect("a job holds its likeness")
    }

    /// A run is done that took this long, over all interruptions; all of it on one GPU model, if that is named.
    pub(crate) fn finished(&mut self, id: LikenessId, duration_ms: i64, model: Option<&str>) {
        let room = self.histories < MAX_KINDS;
        let likeness = self.get_mut(id);
        if likeness.history.is_none() && !room {
            return;
        }
        let new = likeness.history.is_none();
        let history = likeness.history.get_or_insert_with(|| History::new([0; LEVELS], BTreeMap::new()));
        let count = &mut history.finished[usize::from(level_of(duration_ms))];
        *count = count.saturating_add(1);
        history.remaining_ms = [UNKNOWN; LEVELS];
        if let Some(model) = model {
            learned::add(&mut history.models, model, duration_ms);
            history.speeds = learned::speeds(&history.models);
        }
        self.histories += usize::from(new);
    }

    /// How fast jobs of the likeness are on GPU models, in thousandths, as far as that was learned.
    pub(crate) fn speeds(&self, id: LikenessId) -> Option<&BTreeMap<String, u32>> {
        let history = self.all[id].as_ref()?.history.as_ref()?;
        Some(&history.speeds).filter(|speeds| !speeds.is_empty())
    }

    /// How many runs have finished on a model.
    pub(crate) fn runs_on(&self, id: LikenessId, model: &str) -> u32 {
        let history = self.all[id].as_ref().and_then(|likeness| likeness.history.as_ref());
        history.and_then(|history| history.models.get(model)).map_or(0, |runs| runs.runs)
    }

    /// Expected remaining time of a gang that has run this long, in steps: what is nearly equal is equal, so that such gangs
    /// keep the order in which they came.
    pub(crate) fn remaining_ms(&mut self, id: LikenessId, attained_ms: i64) -> i64 {
        let level = level_of(attained_ms);
        match &mut self.get_mut(id).history {
            Some(history) => {
                let known = &mut history.remaining_ms[usize::from(level)];
                if *known == UNKNOWN {
                    *known = index(&history.finished, usize::from(level));
                }
                begin_ms(level_of(*known))
            }
            None if attained_ms < 1_000 => 0,
            None => begin_ms(level),
        }
    }

    /// How long a gang that has run so long goes on at most, in so many of a thousand cases; and whether that was learned from runs
    /// that lasted as long. Otherwise as long again is assumed, and an hour at least where nothing like it has finished.
    pub(crate) fn remaining_quantile_ms(&self, id: LikenessId, attained_ms: i64, permille: u16) -> (i64, bool) {
        let history = self.all[id].as_ref().and_then(|likeness| likeness.history.as_ref());
        let Some(history) = history else { return (TierOpens::UNKNOWN_MS.max(attained_ms), false) };
        let from = level_of(attained_ms);
        let runs = || (from..).zip(&history.finished[usize::from(from)..]);
        let all: u64 = runs().map(|(_, count)| u64::from(*count)).sum();
        let wanted = (all * u64::from(permille)).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (level, count) in runs() {
            seen += u64::from(*count);
            if seen >= wanted {
                let middle_ms = (begin_ms(level) + begin_ms(level + 1)) / 2;
                return ((middle_ms - attained_ms).max(1_000), true);
            }
        }
        (attained_ms.max(1_000), false)
    }

    pub(crate) fn rows(&self) -> Vec<HistoryRow> {
        let levels =
            |history: &History| (0_u8..).zip(history.finished).filter(|(_, count)| *count > 0).collect::<BTreeMap<u8, u32>>();
        let mut known: Vec<&Likeness> = self.all.iter().flatten().collect();
        known.sort_unstable_by_key(|likeness| (&likeness.queue, &likeness.kind, likeness.gpus));
        known
            .into_iter()
            .filter_map(|likeness| {
                Some(HistoryRow {
                    queue: likeness.queue.clone(),
                    kind: likeness.kind.clone(),
                    gpus: likeness.gpus,
                    finished: levels(likeness.history.as_ref()?),
                    models: likeness.history.as_ref()?.models.clone(),
                })
            })
            .collect()
    }

    pub(crate) fn restore(&mut self, row: HistoryRow) -> Result<(), Refused> {
        let mut finished = [0; LEVELS];
        for (level, count) in row.finished {
            let place = finished.get_mut(usize::from(level)).ok_or_else(|| Refused::new("finished", "no such level"))?;
            *place = count;
        }
        let id = self.find_or_make(&row.queue, &row.kind, row.gpus);
        let new = self.get_mut(id).history.replace(History::new(finished, row.models)).is_none();
        self.histories += usize::from(new);
        Ok(())
    }
}

/// A job that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its queue.
    pub queue: String,
    /// Its kind, as in its [`JobSpec`](crate::JobSpec).
    pub kind: String,
    /// GPUs of all its workers.
    pub gpus: i64,
    /// How long it ran over all interruptions, in milliseconds.
    pub lasted_ms: i64,
    /// The GPU model that it ran on, if all of it was on one and it does not say how fast it is.
    pub model: Option<String>,
}

/// What finished jobs teach: the rows to restore an engine with. What never ran teaches nothing.
pub fn histories(finished: impl IntoIterator<Item = Finished>) -> Vec<HistoryRow> {
    let mut estimates = Estimates::default();
    for job in finished.into_iter().filter(|job| job.lasted_ms > 0) {
        let id = estimates.acquire(&job.queue, &job.kind, job.gpus);
        estimates.finished(id, job.lasted_ms, job.model.as_deref());
        estimates.release(id);
    }
    estimates.rows()
}

/// What an index is computed from, whatever has finished.
struct Tables {
    /// Where each level begins, and the last one ends, in milliseconds.
    begins: [f64; LEVELS + 1],
    /// By number of levels up to the longest run that has finished: the part of what is assumed beyond it on each level.
    beyond: [[f64; LEVELS]; LEVELS + 1],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut begins = [0.0_f64; LEVELS + 1];
    for (begin, level) in begins.iter_mut().zip(0_u8..) {
        *begin = begin_ms(level) as f64;
    }
    let mut beyond = [[0.0_f64; LEVELS]; LEVELS + 1];
    for (seen, parts) in beyond.iter_mut().enumerate() {
        let tail = |at: f64| (begins[seen] / at).sqrt();
        for level in seen..LEVELS {
            parts[level] = tail(begins[level]) - tail(begins[level + 1]);
        }
    }
    Tables { begins, beyond }
});

/// The index of a level. Only sums, products and square roots, which are the same on every machine.
fn index(finished: &[u32; LEVELS], from: usize) -> i64 {
    let begins = &TABLES.begins;
    let seen = finished.iter().rposition(|count| *count > 0).map_or(0, |level| level + 1);
    let beyond = &TABLES.beyond[seen];
    let weight = |level: usize| f64::from(finished[level]) + TAIL_RUNS * beyond[level];
    let mut weights = [0.0_f64; LEVELS];
    let mut alive = 0.0;
    for level in (from..LEVELS).rev() {
        weights[level] = weight(level);
        alive += weights[level];
    }
    let (mut ended, mut spent, mut best) = (0.0, 0.0, f64::INFINITY);
    for until in from..LEVELS {
        ended += weights[until];
        spent += weights[until] * (begins[until].midpoint(begins[until + 1]) - begins[from]);
        best = f64::min(best, (spent + (alive - ended) * (begins[until + 1] - begins[from])) / ended);
    }
    best as i64
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut estimates = Estimates::default();
        let id = estimates.acquire("q", "", 1);
        assert_eq!([0, 4_000, 64_000].map(|attained_ms| estimates.remaining_ms(id, attained_ms)), [0, 4_000, 64_000]);
    }

    #[test]
    fn short_runs_teach_that_a_new_one_is_short_and_an_old_one_is_long() {
        let mut estimates = Estimates::default();
        let id = estimates.acquire("q", "", 1);
        for _ in 0..100 {
            estimates.finished(id, 60_000, None);
        }
        let new = estimates.remaining_ms(id, 0);
        assert!((30_000..=96_000).contains(&new), "{new}");
        assert!(estimates.remaining_ms(id, 3_600_000) > 600_000);
    }

    #[test]
    fn what_was_learned_survives_as_rows() {
        let mut estimates = Estimates::default();
        let id = estimates.acquire("q", "", 1);
        for minute in 1..50 {
            estimates.finished(id, minute * 60_000, None);
        }
        let mut restored = Estimates::default();
        for row in estimates.rows() {
            restored.restore(row).unwrap();
        }
        let other = restored.acquire("q", "", 1);
        for attained in [0, 60_000, 900_000, 9_000_000] {
            assert_eq!(restored.remaining_ms(other, attained), estimates.remaining_ms(id, attained));
        }
    }

    #[test]
    fn a_kind_is_forgotten_with_its_last_job_unless_something_was_learned() {
        let mut estimates = Estimates::default();
        let (learned, other) = (estimates.acquire("q", "learned", 1), estimates.acquire("q", "other", 1));
        estimates.finished(learned, 60_000, None);
        estimates.release(learned);
        estimates.release(other);
        assert_eq!(estimates.all.iter().flatten().map(|likeness| likeness.kind.as_str()).collect::<Vec<_>>(), ["learned"]);
    }
}
