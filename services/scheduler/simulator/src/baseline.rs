//! What the engine is compared with: first come first served, EASY backfill and greedy backfill on one cluster, with gangs
//! placed whole by best fit and nothing preempted. EASY is told true durations, which nobody has; the engine isn't.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::figures::Outcome;
use crate::pool::{Pool, Slots};
use crate::workload::{GPUS_PER_NODE, Workload};

/// Who may go before the oldest job that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backfill {
    /// Nobody.
    None,
    /// Whoever does not delay it, as far as true durations tell (Lifka, *The ANL/IBM SP Scheduling System*, 1995).
    Easy,
    /// Whoever fits.
    Greedy,
}

/// Plays a workload on one cluster of nodes with eight GPUs.
#[must_use]
pub fn play(workload: &Workload, nodes: u32, backfill: Backfill) -> Outcome {
    play_on(workload, &vec![GPUS_PER_NODE; nodes as usize], backfill)
}

/// Plays a workload on one cluster of nodes of these sizes.
#[must_use]
pub fn play_on(workload: &Workload, nodes: &[u32], backfill: Backfill) -> Outcome {
    let mut line = Line {
        workload,
        backfill,
        pool: Pool::new(nodes),
        running: BinaryHeap::new(),
        slots: vec![Slots::new(); workload.jobs.len()],
        waiting: BTreeSet::new(),
        outcome: Outcome::new(workload, nodes.iter().map(|size| u64::from(*size)).sum()),
    };
    let mut next = 0;
    loop {
        let arrival = workload.jobs.get(next).map(|job| job.submitted_ms);
        let end = line.running.peek().map(|Reverse((at, _))| *at);
        let Some(now) = [arrival, end].into_iter().flatten().min() else { break };
        line.end_until(now);
        while let Some(job) = workload.jobs.get(next).filter(|job| job.submitted_ms <= now) {
            debug_assert!(Pool::new(nodes).place(job).is_some(), "callers check that every gang fits");
            line.waiting.insert(next);
            next += 1;
        }
        line.schedule(now);
    }
    line.outcome
}

struct Line<'a> {
    workload: &'a Workload,
    backfill: Backfill,
    pool: Pool,
    /// (end, job), earliest first.
    running: BinaryHeap<Reverse<(i64, usize)>>,
    slots: Vec<Slots>,
    waiting: BTreeSet<usize>,
    outcome: Outcome,
}

impl Line<'_> {
    fn end_until(&mut self, now: i64) {
        while let Some(Reverse((at, job))) = self.running.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.running.pop();
            let slots = std::mem::take(&mut self.slots[job]);
            self.pool.give(&slots);
            self.outcome.finished(job, at);
        }
    }

    fn start(&mut self, job: usize, slots: Slots, now: i64) {
        self.waiting.remove(&job);
        self.slots[job] = slots;
        self.running.push(Reverse((now + self.workload.jobs[job].duration_ms, job)));
        self.outcome.decisions += 1;
    }

    fn schedule(&mut self, now: i64) {
        let mut blocked = None;
        while let Some(job) = self.waiting.first().copied() {
            let Some(slots) = self.pool.place(&self.workload.jobs[job]) else {
                blocked = Some(job);
                break;
            };
            self.start(job, slots, now);
        }
        let Some(blocked) = blocked.filter(|_| self.pool.most_free() > 0) else { return };
        match self.backfill {
            Backfill::None => {}
            Backfill::Greedy => self.backfill_greedily(now, blocked),
            Backfill::Easy => self.backfill_around(now, blocked),
        }
    }

    fn backfill_greedily(&mut self, now: i64, blocked: usize) {
        let mut least_refused = u32::MAX;
        let behind: Vec<usize> = self.waiting.range(blocked..).copied().collect();
        for job in behind {
            let asked = self.workload.jobs[job];
            // Whatever needs at least as much as one that was refused is refused too.
            if asked.gpus >= least_refused {
                continue;
            }
            match self.pool.place(&asked) {
                Some(slots) => {
                    self.start(job, slots, now);
                    if self.pool.most_free() == 0 {
                        return;
                    }
                }
                None => least_refused = asked.gpus,
            }
        }
    }

    fn backfill_around(&mut self, now: i64, blocked: usize) {
        let (reserved_at, spare) = self.reserve(blocked);
        let mut spare = spare;
        // (GPUs, whether it ends before the reservation) that were refused: nothing gets freer within this pass.
        let mut refused: Vec<(u32, bool)> = Vec::new();
        let behind: Vec<usize> = self.waiting.range(blocked + 1..).copied().collect();
        for job in behind {
            let asked = self.workload.jobs[job];
            let in_time = now + asked.duration_ms <= reserved_at;
            if refused.iter().any(|(gpus, before)| asked.gpus >= *gpus && (!in_time || *before)) {
                continue;
            }
            let placed = if in_time {
                self.pool.place(&asked)
            } else {
                self.pool.place_where(&asked, |node, gpus| spare.free(node) >= gpus)
            };
            match placed {
                Some(slots) => {
                    if !in_time {
                        spare.take(&slots);
                    }
                    self.start(job, slots, now);
                    if self.pool.most_free() == 0 {
                        return;
                    }
                }
                None => refused.push((asked.gpus, in_time)),
            }
        }
    }

    /// When the blocked job will fit by the true ends of what runs, and what is free on each node then besides.
    fn reserve(&self, blocked: usize) -> (i64, Pool) {
        let mut later = self.pool.clone();
        let mut ends: Vec<(i64, usize)> = self.running.iter().map(|Reverse(run)| *run).collect();
        ends.sort_unstable();
        for (at, job) in ends {
            later.give(&self.slots[job]);
            if later.place(&self.workload.jobs[blocked]).is_some() {
                return (at, later);
            }
        }
        unreachable!("callers check that every gang fits when nothing runs")
    }
}
