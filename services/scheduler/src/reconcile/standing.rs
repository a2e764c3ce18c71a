//! Stands by runs on clusters that are lost, drained or gone. A run on a lost cluster waits for it; only a movable one is
//! started elsewhere, and only when its cluster must have stopped it by itself.

use async_trait::async_trait;
use jiff::SignedDuration;
use muster_kit::reconcile::Reconciler;
use muster_kit::{Result, Tx, db, lease};

use crate::app::App;
use crate::app::control::{end, stop, stopped_state};
use crate::app::decide::LEASE;
use crate::domain::cluster::Standing;
use crate::domain::job::{JobState, StopReason};
use crate::domain::record::{Job, Run};
use crate::store;

/// Looks after runs whose cluster is not well.
pub struct Stand(pub App);

#[async_trait]
impl Reconciler for Stand {
    fn name(&self) -> &'static str {
        "standing"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.0.leadership.epoch() else { return Ok(()) };
        for troubled in store::run::troubled(&self.0.pool).await? {
            let mut tx = db::begin(&self.0.pool).await?;
            lease::check(&mut tx, LEASE, epoch).await?;
            let jobs = store::job::charged_in(&mut tx, &troubled.cluster).await?;
            for mut job in jobs {
                let Some(mut run) = store::run::get(&mut tx, job.id, job.epoch).await? else { continue };
                if self.consider(&mut tx, &mut job, &mut run, troubled.standing).await? {
                    store::job::update(&mut tx, &mut job).await?;
                    crate::events::job_changed(&mut tx, &*self.0.clock, &job, Some(&run)).await?;
                }
            }
            tx.commit().await?;
            self.0.decide.now();
            self.0.tell.now();
        }
        Ok(())
    }
}

impl Stand {
    /// What a cluster's standing means to one of its runs; `true` if anything is to be stored.
    async fn consider(&self, tx: &mut Tx, job: &mut Job, run: &mut Run, standing: Option<Standing>) -> Result<bool> {
        let now = self.0.now();
        let cluster = run.cluster.clone();
        match standing {
            Some(Standing::Live | Standing::Cordoned | Standing::Suspect | Standing::Joining) => Ok(back(job, run, now)),
            Some(Standing::Draining) => {
                if !job.movable || run.stopping.is_some() || !job.state.has_run() {
                    return Ok(back(job, run, now));
                }
                stop(tx, job, run, StopReason::Move, now).await?;
                job.go(JobState::Queued, format!("moved away: {cluster} is drained"), now);
                Ok(true)
            }
            Some(Standing::Lost) => {
                let expired = store::cluster::lease(tx, &cluster)
                    .await?
                    .is_some_and(|expires| expires + SignedDuration::from_millis(self.0.settings.move_margin_ms) < now);
                if job.movable && expired {
                    // Its cluster has stopped it by itself by now; the tombstone removes what is left when it returns.
                    run.wanted = false;
                    store::desired::touch(tx, &cluster).await?;
                    let state = run.stopping.map_or(JobState::Failed, stopped_state);
                    end(tx, job, run, state, "its cluster is lost and the lease has run out", now).await?;
                    if job.state.has_run() {
                        job.go(JobState::Queued, format!("{cluster} is lost; it is started elsewhere"), now);
                    }
                    return Ok(true);
                }
                Ok(lost(job, format!("{cluster} is lost; the job waits for it"), now))
            }
            Some(Standing::Absent) | None => {
                if let Some(why) = run.stopping {
                    end(tx, job, run, stopped_state(why), "its cluster is no member any more", now).await?;
                    return Ok(true);
                }
                Ok(lost(job, format!("{cluster} is no member any more; cancel the job or submit it anew"), now))
            }
        }
    }
}

fn lost(job: &mut Job, reason: String, now: jiff::Timestamp) -> bool {
    if !matches!(job.state, JobState::Placed | JobState::Running) {
        return false;
    }
    job.go(JobState::Lost, reason, now);
    true
}

fn back(job: &mut Job, run: &Run, now: jiff::Timestamp) -> bool {
    if job.state != JobState::Lost {
        return false;
    }
    let state = if run.state == JobState::Running { JobState::Running } else { JobState::Placed };
    job.go(state, format!("{} is heard of again", run.cluster), now);
    true
}
