//! Nodes for the baselines, with best fit, and without anything but what the workload counts (GPUs or cores).

use crate::workload::Job;

/// (node, GPUs) of every worker.
pub(crate) type Slots = Vec<(usize, u32)>;

/// What is free per node.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    free: Vec<u32>,
}

impl Pool {
    /// Nodes of these sizes.
    pub(crate) fn new(nodes: &[u32]) -> Self {
        Self { free: nodes.to_vec() }
    }

    /// Takes the fullest nodes with room for each worker, for the whole gang or not at all.
    pub(crate) fn place(&mut self, job: &Job) -> Option<Slots> {
        self.place_where(job, |_, _| true)
    }

    /// Like [`Pool::place`], on nodes that may be used for this many GPUs.
    pub(crate) fn place_where(&mut self, job: &Job, may: impl Fn(usize, u32) -> bool) -> Option<Slots> {
        let mut slots = Slots::new();
        for gpus in job.workers() {
            let fits = self.free.iter().enumerate().filter(|(node, free)| **free >= gpus && may(*node, gpus));
            let Some((node, _)) = fits.min_by_key(|(node, free)| (**free, *node)) else {
                self.give(&slots);
                return None;
            };
            self.free[node] -= gpus;
            slots.push((node, gpus));
        }
        Some(slots)
    }

    pub(crate) fn give(&mut self, slots: &Slots) {
        for (node, gpus) in slots {
            self.free[*node] += gpus;
        }
    }

    pub(crate) fn take(&mut self, slots: &Slots) {
        for (node, gpus) in slots {
            self.free[*node] -= gpus;
        }
    }

    pub(crate) fn free(&self, node: usize) -> u32 {
        self.free[node]
    }

    /// The most GPUs that are free on one node.
    pub(crate) fn most_free(&self) -> u32 {
        self.free.iter().copied().max().unwrap_or(0)
    }
}
