//! One pass of the leader: look at what changed, decide, write the decisions down, all in one transaction under the lease.
//! A pass that fails throws the engine away; the next one builds it from the tables.

use jiff::Timestamp;
use muster_kit::{Result, Tx, db, lease, telemetry};
use muster_scheduler_engine::{Decision, Event, Interruption, Placement};
use tracing::Instrument;

use super::App;
use super::control::stop;
use super::mind::Mind;
use crate::crash;
use crate::domain::job::{JobState, StopReason};
use crate::domain::record::{Run, time};
use crate::store;

/// The leader's lease.
pub const LEASE: &str = "scheduler";
/// Subjects looked at in one transaction: a few milliseconds of work.
const SUBJECTS: i64 = 500;
/// Decisions written in one transaction.
const DECISIONS: usize = 100;

impl App {
    /// Looks, decides and writes until there is nothing left; gives how many gangs were placed.
    ///
    /// # Errors
    /// Another replica leads by now, or the database is away.
    pub async fn decide_all(&self, epoch: u64) -> Result<usize> {
        let mut placed = 0;
        loop {
            let (looked, decided) = self.decide_once(epoch).await?;
            placed += decided;
            if decided > 0 {
                self.tell.now();
            }
            if !looked && decided == 0 {
                return Ok(placed);
            }
        }
    }

    async fn decide_once(&self, epoch: u64) -> Result<(bool, usize)> {
        let now = self.now();
        // Taken out for the time of the transaction: if that fails, the engine is gone with it.
        let kept = self.mind.lock().expect("no holder of this lock panics").take().filter(|mind| mind.epoch == epoch);
        let mut tx = db::begin(&self.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        let mut mind = match kept {
            Some(mind) => mind,
            None => Mind::load(&mut tx, epoch, now).await?,
        };
        let mut subjects = store::inbox::take(&mut tx, SUBJECTS).await?;
        // Clusters and queues before the jobs that need them; jobs in row order, as everybody locks them.
        subjects.sort();
        // First the time: how long an ended run lasted is counted from it.
        mind.engine.apply(Event::Time(time(now))).map_err(muster_kit::Error::internal)?;
        for subject in &subjects {
            mind.look(&mut tx, subject, now).await?;
        }
        mind.count_budgets_when_due(&mut tx, now).await?;
        let decisions = mind.engine.plan_at_most(DECISIONS);
        for decision in &decisions {
            match decision {
                Decision::Place(placement) => self.place(&mut tx, &mut mind, placement, now).await?,
                Decision::Interrupt(interruption) => self.interrupt(&mut tx, interruption, now).await?,
            }
        }
        tx.commit().await?;
        if !decisions.is_empty() {
            crash::DECIDED.reached();
        }
        *self.mind.lock().expect("no holder of this lock panics") = Some(mind);
        Ok((!subjects.is_empty(), decisions.len()))
    }

    /// Writes a placement down, or takes it back where its job was cancelled or suspended meanwhile.
    async fn place(&self, tx: &mut Tx, mind: &mut Mind, placement: &Placement, now: Timestamp) -> Result<()> {
        let Placement { job: id, epoch, cluster, flavor, price_micros, tier: _, counted_ms, slots } = placement;
        let Some(mut job) = store::job::lock_row(tx, id.0.cast_signed()).await? else {
            return mind
                .engine
                .apply(Event::Ended { job: *id, epoch: *epoch, end: muster_scheduler_engine::RunEnd::Finished })
                .map_err(muster_kit::Error::internal);
        };
        if job.state != JobState::Queued {
            return mind.tell_job(&job, None, now);
        }
        let span = tracing::info_span!("place job", job.name = job.resource(), run.epoch = epoch.0, cluster.name = cluster);
        telemetry::continue_trace(&span, &job.traceparent);
        let price = price_micros.and_then(|micros| {
            let currency = mind.clusters.get(cluster)?.prices.get(flavor.as_deref()?)?.currency.clone();
            Some((micros, currency))
        });
        let run = Run {
            job_id: job.id,
            epoch: epoch.0,
            cluster: cluster.clone(),
            flavor: flavor.clone().unwrap_or_default(),
            gpus: job.gpus,
            slots: slots.clone(),
            price,
            state: JobState::Placed,
            reason: String::new(),
            stopping: None,
            wanted: true,
            bundle_digest: None,
            removed_generation: None,
            pods: std::collections::BTreeMap::new(),
            traceparent: telemetry::traceparent_of(&span),
            placed_at: now,
            started_at: None,
            finished_at: None,
        };
        job.epoch = epoch.0;
        job.charged = true;
        job.not_before = None;
        job.started_at = None;
        job.go(JobState::Placed, format!("placed on {cluster}"), now);
        mind.charge(&job, &run);
        async {
            store::run::insert(tx, &run, *counted_ms).await?;
            store::job::update(tx, &mut job).await?;
            crate::events::job_changed(tx, &*self.clock, &job, Some(&run)).await
        }
        .instrument(span)
        .await
    }

    /// Ends a run early, unless it is ending already. Its job is queued again at once, and charged until its cluster confirms.
    async fn interrupt(&self, tx: &mut Tx, interruption: &Interruption, now: Timestamp) -> Result<()> {
        let Interruption { job: id, epoch, in_favour_of, cause } = interruption;
        let Some(mut job) = store::job::lock_row(tx, id.0.cast_signed()).await? else { return Ok(()) };
        if !job.charged || job.epoch != epoch.0 || !job.state.has_run() {
            return Ok(());
        }
        let Some(mut run) = store::run::get(tx, job.id, job.epoch).await? else { return Ok(()) };
        if run.stopping.is_some() {
            return Ok(());
        }
        stop(tx, &mut job, &mut run, StopReason::Interrupt, now).await?;
        let other = store::job::lock_row(tx, in_favour_of.0.cast_signed()).await?.map(|other| other.resource());
        let other = other.unwrap_or_else(|| "another job".to_owned());
        job.go(JobState::Queued, format!("interrupted for {other}, which {}", cause.words()), now);
        store::job::update(tx, &mut job).await?;
        crate::events::job_changed(tx, &*self.clock, &job, Some(&run)).await
    }
}
