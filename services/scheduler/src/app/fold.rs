//! A job's rows as the engine is restored from them.

use muster_kit::{Result, Tx};
use muster_scheduler_engine::{Epoch, GrowthRefused, JobRow, JobState, PartRow, Resized, Slot};

use crate::domain::job;
use crate::domain::parts::Parts;
use crate::domain::record::{Job, Run, time};
use crate::store;

/// Earlier runs whose length counts; a job interrupted more often than that has lasted long by any measure.
const RUNS_COUNTED: u32 = 64;

/// The work of the runs before the current one, of a job that goes on from checkpoints: how long each lasted times its speed.
pub(super) async fn attained_ms(tx: &mut Tx, job: &Job) -> Result<i64> {
    if job.gang.restart_ms.is_none() {
        return Ok(0);
    }
    let last = if job.charged { job.epoch.saturating_sub(1) } else { job.epoch };
    let mut attained_ms = 0;
    for epoch in last.saturating_sub(RUNS_COUNTED) + 1..=last {
        if let Some(run) = store::run::get(tx, job.id, epoch).await?
            && let Some((began, ended)) = run.started_at().zip(run.finished_at())
        {
            let Run { flavor, slots, sized, .. } = run.first();
            // At its last size since it got that, and what it had done before.
            let (since, done_ms) = sized.unwrap_or((began, 0));
            let lasted_ms = (ended.as_millisecond() - since.as_millisecond()).max(0);
            let work_ms = job.gang.work_ms(flavor, lasted_ms);
            let part = if job.gang.elastic.is_some() { i64::from(job.gang.permille_of(slots)) } else { 1_000 };
            attained_ms += done_ms + work_ms.saturating_mul(part) / 1_000;
        }
    }
    Ok(attained_ms)
}

/// A job's row as the engine is restored from it.
pub(super) fn row(job: &Job, run: Option<&Parts>, attained_ms: i64) -> JobRow {
    let known = |slots: &[Slot]| slots.iter().filter(|slot| slot.group < job.gang.groups.len()).cloned().collect::<Vec<Slot>>();
    let further = |part: &Run| PartRow { cluster: part.cluster.clone(), slots: known(&part.slots), bound: None };
    let state = match run {
        Some(run) => JobState::Placed {
            cluster: run.first().cluster.clone(),
            slots: known(&run.first().slots),
            bound: None,
            elsewhere: run.iter().skip(1).map(further).collect(),
            started_at: run.started_at().map(time),
            stopping: run.is_stopping(),
            remaining: None,
            leaving: known(&run.first().leaving),
            sized: run.first().sized.map(|(at, done_ms)| Resized { at: time(at), done_ms, scattered_for: None }),
            refused: run.first().refused.map(|refused| GrowthRefused { at: time(refused.at), workers: refused.workers }),
            promised: None,
        },
        None if job.state == job::JobState::Suspended => JobState::Suspended,
        None => JobState::Waiting { not_before: job.not_before.map(time), expected_ms: None, promised: None },
    };
    JobRow { spec: job.spec(), epoch: Epoch(job.epoch), attained_ms, learned_speeds: None, state }
}
