//! A cluster may refuse to have a run as large as it was to become, by a quota of its own or at admission. What did not come is given
//! back, as if those workers had been told to leave, and for an hour the run is not made larger.

use crate::engine::{Engine, Run, State};
use crate::event::{Decision, Epoch, JobId, Refused, SizeChange, Time};
use crate::rows::GrowthRefused;
use crate::spec::Elastic;

/// How long a run is left at its size after its cluster refused a larger one.
const LEFT_ALONE_MS: i64 = 60 * 60 * 1_000;

impl Run {
    /// Until when it is left at its size because its cluster refused a larger one.
    pub(crate) fn refused_until(&self) -> Option<Time> {
        self.refused.map(|refused| Time(refused.at.0.saturating_add(LEFT_ALONE_MS)))
    }
}

impl Engine {
    /// Notes that a cluster refuses workers of the elastic group of a run.
    pub(crate) fn note_refusal(&mut self, id: JobId, epoch: Epoch, refused: GrowthRefused) -> Result<(), Refused> {
        self.run_mut(id, epoch)?;
        if !self.jobs.held(id).is_elastic() {
            return Err(Refused::new("job", format!("job {} has one size", id.0)));
        }
        self.run_mut(id, epoch)?.refused = Some(refused);
        self.refusals.insert(id);
        Ok(())
    }

    /// Tells runs to give back what their clusters refused.
    pub(crate) fn give_back_refused(&mut self, decisions: &mut Vec<Decision>) {
        while let Some(id) = self.refusals.pop_first() {
            self.stats.entries_visited += 1;
            let State::Placed(run) = &mut self.jobs.held_mut(id).state else { continue };
            let Some(workers) = run.refused.as_mut().and_then(|refused| refused.workers.take()) else { continue };
            let job = self.jobs.held(id);
            let (Some(Elastic { least, .. }), State::Placed(run)) = (self.elastic(job), &job.state) else { continue };
            let beyond = self.workers_of(job, run.class).saturating_sub(workers.max(least));
            let leaving: Vec<_> = self.surplus_of(id).into_iter().take(beyond as usize).collect();
            if !leaving.is_empty() {
                self.stats.resized += 1;
                decisions.push(self.tell_to_shrink(id, leaving, SizeChange::Refused));
            }
        }
    }
}
