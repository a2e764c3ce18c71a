//! A cluster may refuse to have a run as large as it was to become, by a quota of its own or at admission. What did not come is given
//! back, as if those workers had been told to leave, and for an hour the run is not made larger.

use crate::engine::{Engine, State};
use crate::event::{Decision, Epoch, JobId, Refused, SizeChange, Time};
use crate::spec::Elastic;

/// How long a run is left at its size after its cluster refused a larger one.
const LEFT_ALONE_MS: i64 = 60 * 60 * 1_000;

/// That a run may not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// When that was told.
    at: Time,
    /// Workers of its elastic group that are there, until the others are given back.
    workers: Option<u32>,
}

impl Engine {
    /// Notes that a cluster has so many workers of the elastic group of a run, and refuses the others.
    pub(crate) fn note_refusal(&mut self, id: JobId, epoch: Epoch, workers: u32) -> Result<(), Refused> {
        self.run_mut(id, epoch)?;
        if !self.jobs.held(id).is_elastic() {
            return Err(Refused::new("job", format!("job {} has one size", id.0)));
        }
        self.refusals.insert(id, Refusal { at: self.now, workers: Some(workers) });
        Ok(())
    }

    /// Tells runs to give back what their clusters refused.
    pub(crate) fn give_back_refused(&mut self, decisions: &mut Vec<Decision>) {
        if self.refusals.is_empty() {
            return;
        }
        let told = self.refusals.iter_mut().filter_map(|(id, refusal)| Some((*id, refusal.workers.take()?)));
        for (id, workers) in told.collect::<Vec<_>>() {
            self.stats.entries_visited += 1;
            let job = self.jobs.held(id);
            let (Some(Elastic { least, .. }), State::Placed(run)) = (self.elastic(job), &job.state) else { continue };
            let beyond = self.workers_of(job, run.class).saturating_sub(workers.max(least));
            let leaving = self.surplus_of(id).into_iter().take(beyond as usize).collect::<Vec<_>>();
            if !leaving.is_empty() {
                self.stats.resized += 1;
                decisions.push(self.tell_to_shrink(id, leaving, SizeChange::Refused));
            }
        }
    }

    /// Until when a run is left at its size because its cluster refused a larger one.
    pub(crate) fn refused_until(&self, id: JobId) -> Option<Time> {
        self.refusals.get(&id).map(|refusal| Time(refusal.at.0.saturating_add(LEFT_ALONE_MS)))
    }
}
