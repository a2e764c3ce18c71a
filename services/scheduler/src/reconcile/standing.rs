//! Stands by runs on clusters that are lost, drained or gone. A run on a lost cluster waits for it; only a movable one is
//! started elsewhere, and only when its cluster must have stopped it by itself.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_kit::reconcile::Reconciler;
use muster_kit::{Result, db, lease};

use crate::app::App;
use crate::app::batch::Batch;
use crate::app::control::{Item, end, items_of, stop, stopped_state};
use crate::app::decide::LEASE;
use crate::domain::cluster::Standing;
use crate::domain::job::{JobState, StopReason};
use crate::domain::parts::Parts;
use crate::domain::record::Job;
use crate::store;
use crate::store::run::Troubled;

/// Looks after runs whose cluster is not well.
pub struct Stand(pub App);

#[async_trait]
impl Reconciler for Stand {
    fn name(&self) -> &'static str {
        "standing"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.0.leadership.epoch() else { return Ok(()) };
        let troubled = store::run::troubled(&self.0.pool).await?;
        let away: BTreeSet<&str> =
            troubled.iter().filter(|troubled| is_away(troubled)).map(|away| away.cluster.as_str()).collect();
        for Troubled { cluster, standing } in &troubled {
            let mut tx = db::begin(&self.0.pool).await?;
            lease::check(&mut tx, LEASE, epoch).await?;
            let jobs = store::job::charged_in(&mut tx, cluster).await?;
            let mut runs = store::run::charged(&mut tx, &jobs).await?;
            let items = jobs.iter().filter_map(|job| Some(items_of(job, runs.get(&job.id)?))).flatten();
            let items: Vec<Item> = items.collect();
            let held = Held {
                cluster,
                standing: *standing,
                expires: store::cluster::lease(&mut tx, cluster).await?,
                told: store::desired::told(&mut tx, &items).await?,
                away: &away,
            };
            let mut batch = Batch::default();
            for mut job in jobs {
                let Some(mut run) = runs.remove(&job.id) else { continue };
                if self.consider(&mut batch, &held, &mut job, &mut run) {
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
struct Held<'a> {
    /// Its name.
    cluster: &'a str,
    /// Its standing; `None` where the registry knows it no more.
    standing: Option<Standing>,
    /// When its session's lease runs out.
    expires: Option<Timestamp>,
    /// Items that it, and the other clusters of its runs, were told of.
    told: BTreeSet<Item>,
    /// All clusters that are not heard of.
    away: &'a BTreeSet<&'a str>,
}

/// Whether jobs wait for a cluster to be heard of again.
fn is_away(troubled: &Troubled) -> bool {
    match troubled.standing {
        Some(Standing::Lost | Standing::Absent) | None => true,
        Some(Standing::Live | Standing::Cordoned | Standing::Draining | Standing::Suspect | Standing::Joining) => false,
    }
}

impl Stand {
    /// What a cluster's standing means to a run that is there, all of it or a part; `true` if anything is to be stored.
    fn consider(&self, batch: &mut Batch, held: &Held<'_>, job: &mut Job, run: &mut Parts) -> bool {
        let now = self.0.now();
        let cluster = held.cluster;
        let Some(number) = run.number_in(cluster) else { return false };
        match held.standing {
            Some(Standing::Live | Standing::Cordoned | Standing::Suspect | Standing::Joining) => back(job, run, held, now),
            Some(Standing::Draining) => {
                if !job.movable || run.is_stopping() || !job.state.has_run() {
                    return back(job, run, held, now);
                }
                stop(batch, job, run, StopReason::Move, &held.told, now);
                job.go(JobState::Queued, format!("moved away: {cluster} is drained"), now);
                true
            }
            Some(Standing::Lost) => {
                let margin = SignedDuration::from_millis(self.0.settings.move_margin_ms);
                let expired = held.expires.is_some_and(|expires| expires + margin < now);
                if job.movable && expired {
                    // Its cluster has stopped it by itself by now; the tombstone removes what is left when it returns.
                    let stopping = run.is_stopping();
                    let part = run.part_mut(number);
                    part.wanted = false;
                    batch.touch(cluster);
                    let state = part.stopping.map_or(JobState::Failed, stopped_state);
                    end(batch, job, run, number, state, "its cluster is lost and the lease has run out", now);
                    if !stopping {
                        stop(batch, job, run, StopReason::Move, &held.told, now);
                    }
                    if job.state.has_run() {
                        job.go(JobState::Queued, format!("{cluster} is lost; it is started elsewhere"), now);
                    }
                    return true;
                }
                lost(job, format!("{cluster} is lost; the job waits for it"), now)
            }
            Some(Standing::Absent) | None => {
                if let Some(why) = run.part(number).stopping {
                    end(batch, job, run, number, stopped_state(why), "its cluster is no member any more", now);
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

/// A lost job is heard of again, once no cluster of its run is away any more.
fn back(job: &mut Job, run: &Parts, held: &Held<'_>, now: jiff::Timestamp) -> bool {
    let waits = run.iter().any(|part| part.finished_at.is_none() && held.away.contains(part.cluster.as_str()));
    if job.state != JobState::Lost || waits {
        return false;
    }
    let state = if run.all_run() { JobState::Running } else { JobState::Placed };
    job.go(state, format!("{} is heard of again", held.cluster), now);
    true
}
