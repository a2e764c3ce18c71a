//! Stands by runs on clusters that are lost, drained or gone. A run on a lost cluster waits for it; only a movable one is
//! started elsewhere, and only when its cluster must have stopped it by itself.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_kit::reconcile::Reconciler;
use muster_kit::{Result, db, lease};

use crate::app::App;
use crate::app::batch::Batch;
use crate::app::control::{end, item_of, stop, stopped_state};
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
            let runs = store::run::charged(&mut tx, &jobs).await?;
            let items: Vec<_> = jobs.iter().filter_map(|job| Some(item_of(job, runs.get(&job.id)?))).collect();
            let held = Held {
                expires: store::cluster::lease(&mut tx, &troubled.cluster).await?,
                told: store::desired::told(&mut tx, &items).await?,
            };
            let mut batch = Batch::default();
            for mut job in jobs {
                let Some(mut run) = runs.get(&job.id).cloned() else { continue };
                if self.consider(&mut batch, &held, &mut job, &mut run, troubled.standing) {
                    batch.job(&job, Some(&run));
                }
            }
            batch.write(&mut tx, &*self.0.clock).await?;
            tx.commit().await?;
            self.0.decide.now();
            self.0.tell.now();
        }
        Ok(())
    }
}

/// What is known of a cluster that is not well.
struct Held {
    /// When its session's lease runs out.
    expires: Option<Timestamp>,
    /// Items it was told of.
    told: BTreeSet<(String, String)>,
}

impl Stand {
    /// What a cluster's standing means to one of its runs; `true` if anything is to be stored.
    fn consider(&self, batch: &mut Batch, held: &Held, job: &mut Job, run: &mut Run, standing: Option<Standing>) -> bool {
        let now = self.0.now();
        let cluster = run.cluster.clone();
        match standing {
            Some(Standing::Live | Standing::Cordoned | Standing::Suspect | Standing::Joining) => back(job, run, now),
            Some(Standing::Draining) => {
                if !job.movable || run.stopping.is_some() || !job.state.has_run() {
                    return back(job, run, now);
                }
                stop(batch, job, run, StopReason::Move, held.told.contains(&item_of(job, run)), now);
                job.go(JobState::Queued, format!("moved away: {cluster} is drained"), now);
                true
            }
            Some(Standing::Lost) => {
                let margin = SignedDuration::from_millis(self.0.settings.move_margin_ms);
                let expired = held.expires.is_some_and(|expires| expires + margin < now);
                if job.movable && expired {
                    // Its cluster has stopped it by itself by now; the tombstone removes what is left when it returns.
                    run.wanted = false;
                    batch.touch(&cluster);
                    let state = run.stopping.map_or(JobState::Failed, stopped_state);
                    end(batch, job, run, state, "its cluster is lost and the lease has run out", now);
                    if job.state.has_run() {
                        job.go(JobState::Queued, format!("{cluster} is lost; it is started elsewhere"), now);
                    }
                    return true;
                }
                lost(job, format!("{cluster} is lost; the job waits for it"), now)
            }
            Some(Standing::Absent) | None => {
                if let Some(why) = run.stopping {
                    end(batch, job, run, stopped_state(why), "its cluster is no member any more", now);
                    return true;
                }
                lost(job, format!("{cluster} is no member any more; cancel the job or submit it anew"), now)
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
