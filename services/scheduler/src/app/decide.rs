//! One pass of the leader: look at what changed, decide, write the decisions down, all in one transaction under the lease.
//! A pass that fails throws the engine away; the next one builds it from the tables.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_kit::{Result, Tx, db, lease, telemetry};
use muster_scheduler_engine::{Cause, Decision, Epoch, Event, Interruption, JobId, Part, Placement, Resize, SizeChange, Slot};

use super::App;
use super::batch::Batch;
use super::control::{Item, items_of, stop};
use super::mind::Mind;
use crate::crash;
use crate::domain::cluster::HourOfDay;
use crate::domain::cost::{Egress, Rates};
use crate::domain::job::{JobState, StopReason};
use crate::domain::parts::{Parts, listed};
use crate::domain::record::{GrowthRefused, Job, Run, time};
use crate::store;
use crate::store::run::write::Placed;

/// The leader's lease.
pub const LEASE: &str = "scheduler";
/// Subjects looked at in one transaction: a few milliseconds of work.
const SUBJECTS: i64 = 1_000;
/// Decisions written in one transaction, which has the same number of statements for one and for all of them.
const DECISIONS: usize = 500;

impl App {
    /// Looks, decides and writes until there is nothing left; gives how many gangs were placed.
    ///
    /// # Errors
    /// Another replica leads by now, or the database is away.
    pub async fn decide_all(&self, epoch: u64) -> Result<usize> {
        let mut placed = 0;
        if !self.has_work(epoch).await? {
            return Ok(placed);
        }
        loop {
            let Pass { decided, more } = self.decide_once(epoch).await?;
            placed += decided;
            if decided > 0 {
                self.tell.now();
            }
            if !more {
                return Ok(placed);
            }
        }
    }

    /// Whether a pass would find anything, be it that another leads by now: one statement, where a pass that finds nothing takes a
    /// transaction with several.
    async fn has_work(&self, epoch: u64) -> Result<bool> {
        let now = self.now();
        let waits = |mind: &Mind| mind.epoch == epoch && !mind.is_due(now);
        let waits = self.mind.lock().expect("no holder of this lock panics").as_ref().is_some_and(waits);
        Ok(!waits || !store::inbox::is_quiet(&self.pool, LEASE, epoch).await?)
    }

    async fn decide_once(&self, epoch: u64) -> Result<Pass> {
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
        mind.tell_emissions_when_due(now)?;
        mind.look_at(&mut tx, &subjects, now).await?;
        mind.count_budgets_when_due(&mut tx, now).await?;
        let decisions = mind.engine.plan_at_most(DECISIONS);
        let mut facts = Facts::load(&mut tx, &decisions).await?;
        let mut batch = Batch::default();
        let mut taken_back = false;
        for decision in &decisions {
            match decision {
                Decision::Place(placement) => taken_back |= !place(&mut batch, &mut facts, &mut mind, placement, now)?,
                Decision::Interrupt(interruption) => interrupt(&mut batch, &mut facts, interruption, now),
                Decision::Resize(resize) => resized(&mut batch, &mut facts, resize, now),
            }
        }
        let ended = batch.wakes_the_leader();
        batch.write(&mut tx, &*self.clock).await?;
        let told = mind.tell_spent_budgets(&mut tx, now).await?;
        if subjects.is_empty() && decisions.is_empty() && !told {
            // Nothing was written: the lock of the lease alone is not worth a commit to disk.
            tx.rollback().await?;
        } else {
            if decisions.is_empty() && !told {
                // Only entries of the inbox are gone. Should they come back, they are looked at once more.
                db::commit_lazily(&mut tx).await?;
            }
            tx.commit().await?;
        }
        if !decisions.is_empty() {
            crash::DECIDED.reached();
        }
        *self.mind.lock().expect("no holder of this lock panics") = Some(mind);
        let more = subjects.len() as i64 == SUBJECTS || decisions.len() == DECISIONS || taken_back || ended;
        Ok(Pass { decided: decisions.len(), more })
    }
}

/// What a transaction came to.
struct Pass {
    decided: usize,
    /// Something was left for the next one. What comes later wakes the leader.
    more: bool,
}

/// What is known of the jobs that decisions are about; changed as they are carried out.
struct Facts {
    jobs: BTreeMap<i64, Job>,
    runs: BTreeMap<(i64, u32), Parts>,
    /// Items of runs to be interrupted that their clusters were told of.
    told: BTreeSet<Item>,
}

impl Facts {
    /// Locks the jobs of all decisions in row order, as everybody does.
    async fn load(tx: &mut Tx, decisions: &[Decision]) -> Result<Self> {
        let mut ids = BTreeSet::new();
        let mut changed = BTreeSet::new();
        for decision in decisions {
            match decision {
                Decision::Place(placement) => {
                    ids.insert(placement.job.0.cast_signed());
                }
                Decision::Interrupt(Interruption { job, epoch, in_favour_of, cause: _ }) => {
                    changed.insert((job.0.cast_signed(), epoch.0));
                    ids.extend([job.0.cast_signed(), in_favour_of.0.cast_signed()]);
                }
                Decision::Resize(Resize { job, epoch, change, .. }) => {
                    changed.insert((job.0.cast_signed(), epoch.0));
                    ids.insert(job.0.cast_signed());
                    if let SizeChange::Shrinks { in_favour_of, cause: _ } = change {
                        ids.insert(in_favour_of.0.cast_signed());
                    }
                }
            }
        }
        let jobs = store::job::lock_rows(tx, &ids.into_iter().collect::<Vec<_>>()).await?;
        let runs = store::run::some(tx, &changed.into_iter().collect::<Vec<_>>()).await?;
        let items = runs.iter().filter_map(|((job, _), run)| Some(items_of(jobs.get(job)?, run))).flatten();
        let told = store::desired::told(tx, &items.collect::<Vec<_>>()).await?;
        Ok(Self { jobs, runs, told })
    }

    /// A job in the words of another's history.
    fn called(&self, id: JobId) -> String {
        self.jobs.get(&id.0.cast_signed()).map_or_else(|| "another job".to_owned(), Job::resource)
    }
}

/// The run that a decision is about, with its job, unless it is over or ending already.
fn going_on<'f>(
    jobs: &'f mut BTreeMap<i64, Job>,
    runs: &'f mut BTreeMap<(i64, u32), Parts>,
    id: JobId,
    epoch: Epoch,
) -> Option<(&'f mut Job, &'f mut Parts)> {
    let job = jobs.get_mut(&id.0.cast_signed())?;
    if !job.charged || job.epoch != epoch.0 || !job.state.has_run() {
        return None;
    }
    let run = runs.get_mut(&(job.id, job.epoch)).filter(|run| !run.is_stopping())?;
    Some((job, run))
}

/// Puts a placement into the batch, or takes it back where its job was cancelled or suspended meanwhile: `false` then.
fn place(batch: &mut Batch, facts: &mut Facts, mind: &mut Mind, placement: &Placement, now: Timestamp) -> Result<bool> {
    let Placement {
        job: id,
        epoch,
        cluster,
        flavor,
        price_micros: _,
        egress_micros: _,
        tier: _,
        gpus: _,
        counted_ms,
        slots: _,
        elsewhere: _,
    } = placement;
    let Some(job) = facts.jobs.get_mut(&id.0.cast_signed()) else {
        let ended = Event::Ended { job: *id, epoch: *epoch, end: muster_scheduler_engine::RunEnd::Finished };
        mind.engine.apply(ended).map_err(muster_kit::Error::internal)?;
        return Ok(false);
    };
    if job.state != JobState::Queued {
        mind.tell_job(job, None, now)?;
        return Ok(false);
    }
    let span = tracing::info_span!("place job", job.name = job.resource(), run.epoch = epoch.0, cluster.name = cluster);
    telemetry::continue_trace(&span, &job.traceparent);
    let traceparent = telemetry::traceparent_of(&span);
    let mut parts = Vec::with_capacity(1 + placement.elsewhere.len());
    for (number, share) in (0..).zip(shares(placement)) {
        let Share { cluster, price_micros, egress_micros, gpus, slots } = share;
        let known = mind.clusters.get(cluster).and_then(|facts| facts.prices.get(flavor.as_deref()?));
        let price = price_micros.and_then(|micros| Some((micros, known?.currency.clone())));
        let rates = known.map_or_else(Rates::default, |known| Rates::of(known, HourOfDay::of(now)));
        let run = Run {
            job_id: job.id,
            epoch: epoch.0,
            part: number,
            cluster: cluster.to_owned(),
            flavor: flavor.clone().unwrap_or_default(),
            gpus: u32::try_from(gpus).unwrap_or(u32::MAX),
            slots: slots.to_vec(),
            leaving: Vec::new(),
            sized: None,
            resizing: false,
            grown_from: None,
            refused: None,
            price,
            state: JobState::Placed,
            reason: String::new(),
            stopping: None,
            wanted: true,
            bundle_digest: None,
            removed_generation: None,
            pods: BTreeMap::new(),
            traceparent: traceparent.clone(),
            placed_at: now,
            started_at: None,
            finished_at: None,
        };
        let dataset = job.gang.dataset.as_ref().filter(|_| egress_micros > 0);
        let from = dataset.map(|dataset| dataset.region.as_str());
        let currency = from.and_then(|from| mind.clusters.get(cluster)?.egress_currency(from));
        let egress = currency.map(|currency| Egress { micros: egress_micros, currency: currency.to_owned() });
        let part_permille = job.gang.permille_of(&run.slots);
        batch.place(Placed { run: run.clone(), counted_ms: *counted_ms, rates, egress, part_permille });
        parts.push(run);
    }
    job.epoch = epoch.0;
    job.charged = true;
    job.not_before = None;
    job.started_at = None;
    let run = Parts::of(parts).expect("a placement is somewhere");
    job.go(JobState::Placed, placed_in_words(job, &run), now);
    mind.charge(job, &run);
    span.in_scope(|| batch.job(job, Some(&run)));
    facts.runs.insert((job.id, epoch.0), run);
    Ok(true)
}

/// What of a placement is in one cluster.
struct Share<'p> {
    cluster: &'p str,
    price_micros: Option<i64>,
    egress_micros: i64,
    gpus: i64,
    slots: &'p [Slot],
}

/// A placement cluster by cluster.
fn shares(placement: &Placement) -> impl Iterator<Item = Share<'_>> {
    let Placement { cluster, price_micros, egress_micros, gpus, slots, elsewhere, .. } = placement;
    let first = Share { cluster, price_micros: *price_micros, egress_micros: *egress_micros, gpus: *gpus, slots };
    let further = elsewhere.iter().map(|Part { cluster, price_micros, egress_micros, gpus, slots }| Share {
        cluster,
        price_micros: *price_micros,
        egress_micros: *egress_micros,
        gpus: *gpus,
        slots,
    });
    std::iter::once(first).chain(further)
}

/// Where a run is placed, and how large, where that could be otherwise: `placed on idc`, `placed on idc (8 workers) and cloud (1 worker)`.
fn placed_in_words(job: &Job, run: &Parts) -> String {
    if run.spans() {
        let share = |part: &Run| match part.slots.iter().map(|slot| slot.workers).sum::<u32>() {
            1 => format!("{} (1 worker)", part.cluster),
            workers => format!("{} ({workers} workers)", part.cluster),
        };
        let shares: Vec<String> = run.iter().map(share).collect();
        return format!("placed on {}", listed(&shares));
    }
    let first = run.first();
    match size_in_words(job, first) {
        Some(size) => format!("placed on {} with {size}", first.cluster),
        None => format!("placed on {}", first.cluster),
    }
}

/// The size of a run of an elastic gang: `5 of 8 "worker" workers`.
fn size_in_words(job: &Job, run: &Run) -> Option<String> {
    let group = &job.gang.groups[job.gang.elastic?.group];
    let workers = job.gang.size_of(&run.staying())?;
    Some(format!("{workers} of {} {:?} workers", group.replicas, group.name))
}

/// Gives a run another size, unless it is ending: then it is as large as it was until it has ended.
fn resized(batch: &mut Batch, facts: &mut Facts, resize: &Resize, now: Timestamp) {
    let Resize { job: id, epoch, workers: _, slots, leaving, sized, change } = resize;
    let for_whom = match change {
        SizeChange::Shrinks { in_favour_of, cause } => format!(", for {}, which {}", facts.called(*in_favour_of), cause.words()),
        SizeChange::Grows | SizeChange::Refused | SizeChange::HasShrunk => String::new(),
    };
    let Some((job, parts)) = going_on(&mut facts.jobs, &mut facts.runs, *id, *epoch) else { return };
    // It is in one cluster: a gang that may be smaller is never split.
    let run = parts.first_mut();
    match change {
        SizeChange::Grows => run.grown_from = run.grown_from.or(job.gang.size_of(&run.slots)),
        SizeChange::Refused => {
            run.grown_from = None;
            run.refused = run.refused.map(|refused| GrowthRefused { workers: None, ..refused });
        }
        SizeChange::Shrinks { .. } | SizeChange::HasShrunk => {}
    }
    run.slots = slots.iter().chain(leaving).cloned().collect();
    run.leaving.clone_from(leaving);
    run.sized = sized.and_then(|sized| Some((Timestamp::from_millisecond(sized.at.0).ok()?, sized.done_ms)));
    let gpus = job.gang.as_placed(&run.slots).total().map_or(0, |total| total.gpus_rounded_up());
    run.gpus = u32::try_from(gpus).unwrap_or(u32::MAX);
    let size = size_in_words(job, run).unwrap_or_default();
    let words = match change {
        SizeChange::Grows => format!("grows to {size}"),
        SizeChange::Shrinks { .. } => format!("goes on with {size}{for_whom}"),
        SizeChange::Refused => format!("goes on with {size}: its cluster refused to have it larger"),
        SizeChange::HasShrunk => format!("runs with {size}"),
    };
    // Its cluster is told once its object was allowed at this size; of workers that have left it knows.
    run.resizing |= *change != SizeChange::HasShrunk;
    let part_permille = job.gang.permille_of(&run.slots);
    batch.resize(run, part_permille);
    batch.change_charge(run, now);
    batch.run(run);
    job.go(job.state, words, now);
    batch.job(job, Some(parts));
}

/// Ends a run early, unless it is ending already. Its job is queued again at once, and charged until its cluster confirms.
fn interrupt(batch: &mut Batch, facts: &mut Facts, interruption: &Interruption, now: Timestamp) {
    let Interruption { job: id, epoch, in_favour_of, cause } = interruption;
    let other = facts.called(*in_favour_of);
    let Some((job, run)) = going_on(&mut facts.jobs, &mut facts.runs, *id, *epoch) else { return };
    stop(batch, job, run, StopReason::Interrupt, &facts.told, now);
    let why = match cause {
        Cause::Better => format!("interrupted: it {}", cause.words()),
        Cause::Sooner | Cause::Overdue | Cause::Priority | Cause::Share | Cause::Surplus => {
            format!("interrupted for {other}, which {}", cause.words())
        }
    };
    job.go(JobState::Queued, why, now);
    batch.job(job, Some(run));
}
