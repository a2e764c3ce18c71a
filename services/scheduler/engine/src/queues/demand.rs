//! What waits in a queue whose tiers open while more than so much does. Only such queues and those below them are counted, so that
//! a job costs a step per level and nothing where there are none.

use super::{Queue, QueueIndex, Queues, ROOT};
use crate::event::Refused;
use crate::reason::Threshold;
use crate::spec::{QueueSpec, TierOpens};

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// GPUs that waiting jobs ask for.
    pub(crate) gpus: i64,
    /// Waiting jobs.
    pub(crate) jobs: u64,
}

impl Demand {
    fn add(&mut self, other: Self) {
        self.gpus = self.gpus.saturating_add(other.gpus);
        self.jobs = self.jobs.saturating_add(other.jobs);
    }

    fn sub(&mut self, other: Self) {
        self.gpus = self.gpus.saturating_sub(other.gpus);
        self.jobs = self.jobs.saturating_sub(other.jobs);
    }

    /// Whether a tier is open as far as that depends on what waits.
    fn opens(self, tier: TierOpens) -> bool {
        match tier {
            TierOpens::WhenFull | TierOpens::AfterWaitingMs(_) | TierOpens::AfterWaitingForWork { .. } => true,
            TierOpens::WhileWaiting { gpus, jobs } => {
                gpus.is_some_and(|gpus| self.gpus > gpus) || jobs.is_some_and(|jobs| self.jobs > jobs)
            }
        }
    }
}

/// What is counted for a queue that has such tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// What waits in it and below it.
    pub(crate) demand: Demand,
    /// The first of its tiers for which too little waits; as many as it has if there is none.
    pub(crate) shut: usize,
    /// The same when runs were last looked at that may have to make room.
    seen: usize,
}

/// Which way what waits changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiting {
    Comes,
    Goes,
}

impl Queue {
    fn is_gated(&self) -> bool {
        self.spec.tiers.iter().any(|tier| matches!(tier.opens, TierOpens::WhileWaiting { .. }))
    }

    fn shut(&self, demand: Demand) -> usize {
        // The first tier is always open.
        let tiers = self.spec.tiers.iter().enumerate().skip(1);
        tiers.filter(|(_, tier)| !demand.opens(tier.opens)).map(|(index, _)| index).next().unwrap_or(self.spec.tiers.len())
    }
}

impl Queues {
    /// A job of a queue begins to wait, or waits no more. Calls `changed` for each queue whose tiers open or close by that.
    pub(crate) fn waits(&mut self, queue: QueueIndex, job: Demand, way: Waiting, changed: &mut Vec<QueueIndex>) {
        let change = |demand: &mut Demand| match way {
            Waiting::Comes => demand.add(job),
            Waiting::Goes => demand.sub(job),
        };
        change(&mut self.get_mut(queue).demand);
        if self.gated == 0 {
            return;
        }
        let mut at = queue;
        while at != ROOT {
            let entry = self.get_mut(at);
            if let Some(gate) = &mut entry.gate {
                change(&mut gate.demand);
                let (demand, was) = (gate.demand, gate.shut);
                let shut = entry.shut(demand);
                if shut != was {
                    entry.gate = entry.gate.map(|gate| Gate { shut, ..gate });
                    changed.push(at);
                    self.moved.insert(at);
                }
            }
            at = self.get(at).parent;
        }
    }

    /// Counts anew what waits, after a change of tiers or of what is above what.
    pub(super) fn count_waiting(&mut self) {
        let all: Vec<QueueIndex> = self.by_name.values().copied().collect();
        let had = self.gated;
        self.gated = 0;
        for index in &all {
            let gated = self.get(*index).is_gated();
            self.get_mut(*index).gate = gated.then(Gate::default);
            self.gated += usize::from(gated);
        }
        if self.gated == 0 && had == 0 {
            return;
        }
        for index in &all {
            let own = self.get(*index).demand;
            let chain: Vec<QueueIndex> = self.chain(*index).collect();
            for above in chain {
                if let Some(gate) = &mut self.get_mut(above).gate {
                    gate.demand.add(own);
                }
            }
        }
        for index in all {
            let entry = self.get_mut(index);
            if let Some(Gate { demand, .. }) = entry.gate {
                entry.gate = Some(Gate { demand, shut: entry.shut(demand), seen: usize::MAX });
                self.moved.insert(index);
            }
        }
    }

    /// Marks the queues in which something waits to which other tiers are open than when this was last asked. What opened and closed
    /// again meanwhile is no change.
    pub(crate) fn mark_moved(&mut self) {
        for says in std::mem::take(&mut self.moved) {
            let Some(gate) = self.all[says].as_mut().and_then(|entry| entry.gate.as_mut()) else { continue };
            if gate.seen == gate.shut {
                continue;
            }
            gate.seen = gate.shut;
            for below in self.subtree(says) {
                if self.get(below).demand.jobs > 0 {
                    self.mark(below);
                }
            }
        }
    }

    /// The first tier of a queue for which too little waits. `says` is the queue that has the tiers.
    pub(crate) fn shut(&self, says: QueueIndex) -> usize {
        self.get(says).gate.map_or(usize::MAX, |gate| gate.shut)
    }

    /// What the tier of a queue waits for, and what there is of it.
    pub(crate) fn threshold(&self, says: QueueIndex, tier: usize) -> Option<Threshold> {
        let entry = self.get(says);
        let (gate, tier) = (entry.gate?, entry.spec.tiers.get(tier)?);
        match tier.opens {
            TierOpens::WhenFull | TierOpens::AfterWaitingMs(_) | TierOpens::AfterWaitingForWork { .. } => None,
            TierOpens::WhileWaiting { gpus, jobs } => Some(Threshold {
                queue: entry.spec.name.clone(),
                gpus: gpus.map(|least| (least, gate.demand.gpus)),
                jobs: jobs.map(|least| (least, gate.demand.jobs)),
            }),
        }
    }
}

/// Refuses a tier that waits for nothing, or for less than nothing.
pub(super) fn check(spec: &QueueSpec) -> Result<(), Refused> {
    for (index, tier) in spec.tiers.iter().enumerate() {
        let TierOpens::WhileWaiting { gpus, jobs } = tier.opens else { continue };
        let field = || format!("tiers[{index}].opens");
        if gpus.is_none() && jobs.is_none() {
            return Err(Refused::new(field(), "must say how many GPUs or jobs are to wait"));
        }
        if gpus.is_some_and(|gpus| gpus < 0) {
            return Err(Refused::new(field(), "must not be negative"));
        }
    }
    Ok(())
}
