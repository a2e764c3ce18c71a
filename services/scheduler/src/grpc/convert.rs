//! Outwards: what is kept as messages. Every field is named, so that a new one cannot be forgotten.

use jiff::Timestamp;
use muster_kit::db::etag;
use muster_kit::time::to_proto;
use muster_proto::scheduler::v1 as wire;
use muster_scheduler_engine::{Budget, BudgetLimit, BudgetUnit, Elastic, ModelVerdict, SizeVerdict, Slot, Smaller, SpeedFrom};

use crate::app::JobView;
use crate::app::budgets::BudgetView;
use crate::app::costs::CostRow;
use crate::app::explain::{Candidate, JobExplanation};
use crate::app::forecast::ForeseenStart;
use crate::app::queues::QueueView;
use crate::app::what_if::{Answer, ChangedStart, Outcome};
use crate::domain::cost::{Charge, Usage};
use crate::domain::job::JobState;
use crate::domain::manifest::totals;
use crate::domain::parts::Parts;
use crate::domain::queue::{BudgetDefinition, shown};
use crate::domain::record::{Job, Run, Transition};

/// A state on the wire.
#[must_use]
pub fn state(state: JobState) -> wire::job::State {
    match state {
        JobState::Queued => wire::job::State::Queued,
        JobState::Placed => wire::job::State::Placed,
        JobState::Running => wire::job::State::Running,
        JobState::Succeeded => wire::job::State::Succeeded,
        JobState::Failed => wire::job::State::Failed,
        JobState::Cancelled => wire::job::State::Cancelled,
        JobState::Refused => wire::job::State::Refused,
        JobState::Lost => wire::job::State::Lost,
        JobState::Suspended => wire::job::State::Suspended,
    }
}

/// A state from the wire; `None` for the unspecified one.
#[must_use]
pub fn state_in(state: wire::job::State) -> Option<JobState> {
    match state {
        wire::job::State::Unspecified => None,
        wire::job::State::Queued => Some(JobState::Queued),
        wire::job::State::Placed => Some(JobState::Placed),
        wire::job::State::Running => Some(JobState::Running),
        wire::job::State::Succeeded => Some(JobState::Succeeded),
        wire::job::State::Failed => Some(JobState::Failed),
        wire::job::State::Cancelled => Some(JobState::Cancelled),
        wire::job::State::Refused => Some(JobState::Refused),
        wire::job::State::Lost => Some(JobState::Lost),
        wire::job::State::Suspended => Some(JobState::Suspended),
    }
}

/// GPU time and money on the wire.
#[must_use]
pub fn usage(usage: &Usage) -> wire::Usage {
    wire::Usage {
        gpu_seconds: usage.gpu_seconds(),
        cost_micros: usage.cost_micros(),
        currency: usage.currency.clone(),
        energy_kwh: usage.energy_kwh(),
        emission_grams: usage.emission_grams(),
        egress_micros: usage.egress_micros(),
    }
}

/// A job with what is shown of it.
#[must_use]
pub fn view(view: &JobView, now: Timestamp) -> wire::Job {
    job(&view.job, view.run.as_ref(), view.charges.iter(), view.manifest.as_deref(), now)
}

/// A job on the wire; without its manifest where none is given, as in events and watches.
pub fn job<'a>(
    job: &Job,
    run: Option<&Parts>,
    charges: impl Iterator<Item = &'a Charge>,
    manifest: Option<&str>,
    now: Timestamp,
) -> wire::Job {
    let Job {
        id: _,
        namespace: _,
        name: _,
        queue,
        manifest_digest: _,
        kind: _,
        gang,
        gpus,
        priority,
        max_retries,
        movable,
        model,
        state: standing,
        reason,
        epoch,
        charged,
        retries: _,
        not_before: _,
        policy_revision: _,
        traceparent: _,
        history,
        version,
        deadline,
        submitted_at,
        started_at,
        finished_at,
    } = job;
    let mut used = Usage::default();
    for charge in charges {
        used.add(charge, (None, None), now);
    }
    wire::Job {
        name: job.resource(),
        etag: etag(*version),
        manifest: manifest.unwrap_or_default().to_owned(),
        queue: format!("queues/{queue}"),
        priority: Some(*priority),
        max_retries: *max_retries,
        movable: *movable,
        model: if model.is_empty() { String::new() } else { format!("models/{model}") },
        state: state(*standing).into(),
        reason: reason.clone(),
        cluster: run.map_or_else(String::new, |run| format!("clusters/{}", run.first().cluster)),
        run_epoch: u64::from(*epoch),
        requests: totals(gang),
        gpus: *gpus,
        usage: Some(usage(&used)),
        history: history.iter().map(transition).collect(),
        create_time: Some(to_proto(*submitted_at)),
        start_time: started_at.map(to_proto),
        finish_time: finished_at.map(to_proto),
        flavor: run.map_or_else(String::new, |run| run.first().flavor.clone()),
        deadline: deadline.map(to_proto),
        size: size(job, run.map(Parts::first).filter(|run| *charged && run.epoch == *epoch)),
        parts: run.map_or_else(Vec::new, parts),
    }
}

/// What each cluster has of a run that is in several; nothing of any other.
fn parts(run: &Parts) -> Vec<wire::RunPart> {
    if run.spans() { run.iter().map(part).collect() } else { Vec::new() }
}

/// How large an elastic job is and may be.
fn size(job: &Job, run: Option<&Run>) -> Option<wire::JobSize> {
    let Elastic { group, least } = job.gang.elastic?;
    let full = job.gang.groups.get(group)?;
    let workers = |slots: &[Slot]| job.gang.size_of(slots).unwrap_or(0);
    Some(wire::JobSize {
        group: full.name.clone(),
        least,
        full: full.replicas,
        workers: run.map_or(0, |run| workers(&run.slots)),
        leaving: run.map_or(0, |run| workers(&run.leaving)),
    })
}

fn transition(transition: &Transition) -> wire::JobTransition {
    let Transition { state: word, at, reason, epoch } = transition;
    wire::JobTransition {
        state: word.parse().map_or(wire::job::State::Unspecified, state).into(),
        time: Some(to_proto(*at)),
        reason: reason.clone(),
        run_epoch: u64::from(*epoch),
    }
}

/// A run on the wire.
#[must_use]
pub fn run(of: &Job, run: &Parts, charges: &[Charge], now: Timestamp) -> wire::Run {
    let first = run.first();
    let mut used = Usage::default();
    for charge in charges {
        used.add(charge, (None, None), now);
    }
    wire::Run {
        name: format!("{}/runs/{}", of.resource(), first.epoch),
        cluster: format!("clusters/{}", first.cluster),
        flavor: first.flavor.clone(),
        gpus: run.gpus(),
        state: state(run.state()).into(),
        reason: run.reason(),
        place_time: Some(to_proto(first.placed_at)),
        start_time: run.started_at().map(to_proto),
        finish_time: run.finished_at().map(to_proto),
        usage: Some(usage(&used)),
        pods: run.pods(),
        size: size(of, Some(first).filter(|run| run.finished_at.is_none())),
        parts: parts(run),
    }
}

fn part(part: &Run) -> wire::RunPart {
    let Run {
        job_id: _,
        epoch: _,
        part: _,
        cluster,
        flavor: _,
        gpus,
        slots,
        leaving: _,
        sized: _,
        resizing: _,
        grown_from: _,
        refused: _,
        price: _,
        state: standing,
        reason,
        stopping: _,
        wanted: _,
        bundle_digest: _,
        removed_generation: _,
        pods,
        traceparent: _,
        placed_at: _,
        started_at,
        finished_at,
    } = part;
    wire::RunPart {
        cluster: format!("clusters/{cluster}"),
        workers: slots.iter().map(|slot| slot.workers).sum(),
        gpus: *gpus,
        state: state(*standing).into(),
        reason: reason.clone(),
        start_time: started_at.map(to_proto),
        finish_time: finished_at.map(to_proto),
        pods: pods.clone(),
    }
}

/// A queue on the wire.
#[must_use]
pub fn queue(view: &QueueView) -> wire::Queue {
    let QueueView { queue, definition, allocated, waiting, active, usage: used, budgets } = view;
    wire::Queue {
        name: format!("queues/{}", queue.name),
        etag: etag(queue.version),
        manifest: queue.manifest.clone(),
        weight: definition.weight,
        capability: shown(definition.capability.iter().map(|(name, limit)| (name.as_str(), *limit))),
        reclaimable: definition.reclaimable,
        allocated: allocated.clone(),
        waiting_jobs: *waiting,
        active_jobs: *active,
        usage: Some(usage(used)),
        create_time: Some(to_proto(queue.created_at)),
        budgets: budgets.iter().map(budget).collect(),
    }
}

/// A budget of a queue on the wire.
#[must_use]
pub fn budget(view: &BudgetView) -> wire::QueueBudget {
    let BudgetView { definition: BudgetDefinition { budget: Budget { unit, amount, limit }, window }, counted, start } = view;
    let (unit, in_unit) = match unit {
        BudgetUnit::GpuMs => (wire::queue_budget::Unit::GpuSeconds, 1_000),
        BudgetUnit::Micros => (wire::queue_budget::Unit::MoneyMicros, 1),
    };
    wire::QueueBudget {
        unit: unit.into(),
        amount: amount / in_unit,
        counted: counted / in_unit,
        hard: *limit == BudgetLimit::Hard,
        window: window.to_string(),
        start_time: Some(to_proto(*start)),
        reached: view.is_reached(),
    }
}

/// A row of a cost report on the wire.
#[must_use]
pub fn cost_row(row: &CostRow) -> wire::CostRow {
    let CostRow { key, usage: used, runs } = row;
    wire::CostRow { key: key.clone(), usage: Some(usage(used)), runs: *runs }
}

/// An explanation on the wire.
#[must_use]
pub fn explanation(job: String, explanation: JobExplanation) -> wire::JobExplanation {
    let JobExplanation {
        summary,
        position,
        waiting,
        queue_limits,
        candidates,
        unblocked_by,
        queue_shares,
        preference,
        size,
        not_larger_because,
        span,
        expected_start,
        late_start,
    } = explanation;
    wire::JobExplanation {
        job,
        summary,
        position,
        waiting_jobs: waiting,
        queue_limits,
        candidates: candidates.into_iter().map(candidate).collect(),
        unblocked_by,
        expected_start: expected_start.map(start),
        late_start: late_start.map(start),
        preference,
        queue_shares,
        size: size.map(size_verdict),
        not_larger_because,
        span,
    }
}

fn size_verdict(size: SizeVerdict) -> wire::JobSize {
    let SizeVerdict { group, least, full, workers, why } = size;
    let leaving = match why {
        Some(Smaller::Leaving { workers }) => workers,
        Some(
            Smaller::NotRunning
            | Smaller::TooSoon { .. }
            | Smaller::Refused { .. }
            | Smaller::Limit(_)
            | Smaller::Elsewhere
            | Smaller::NotLive
            | Smaller::NoRoom,
        )
        | None => 0,
    };
    wire::JobSize { group, least, full, workers, leaving }
}

fn start(start: ForeseenStart) -> wire::ForeseenStart {
    let ForeseenStart {
        time,
        cluster,
        further,
        flavor,
        tier,
        micros_per_gpu_hour,
        lasts_ms,
        learned,
        cost_micros,
        ends_before,
        ends_learned,
    } = start;
    wire::ForeseenStart {
        time: Some(to_proto(time)),
        cluster: format!("clusters/{cluster}"),
        flavor,
        tier,
        micros_per_gpu_hour,
        lasts_seconds: lasts_ms / 1_000,
        learned,
        cost_micros,
        ends_before,
        ends_learned,
        further_clusters: further.iter().map(|cluster| format!("clusters/{cluster}")).collect(),
    }
}

/// An answer to what would be.
#[must_use]
pub fn what_if(answer: Answer) -> wire::WhatIfResponse {
    let Answer { today, then, jobs, changed } = answer;
    let job = |ChangedStart { job, queue, today, then }: ChangedStart| wire::WhatIfJob {
        job,
        queue: format!("queues/{queue}"),
        today: today.map(start),
        then: then.map(start),
    };
    wire::WhatIfResponse {
        today: Some(outcome(&today)),
        then: Some(outcome(&then)),
        jobs: jobs.into_iter().map(job).collect(),
        changed_jobs: u32::try_from(changed).unwrap_or(u32::MAX),
    }
}

fn outcome(outcome: &Outcome) -> wire::WhatIfOutcome {
    let Outcome { waiting, started, mean_wait_seconds, cost_micros, interrupted, until } = outcome;
    wire::WhatIfOutcome {
        waiting: *waiting,
        started: *started,
        mean_wait_seconds: *mean_wait_seconds,
        cost_micros: *cost_micros,
        interrupted: *interrupted,
        until: Some(to_proto(*until)),
    }
}

fn candidate(candidate: Candidate) -> wire::CandidateCluster {
    let Candidate { cluster, fits, reason, flavor, micros_per_gpu_hour, tier, models } = candidate;
    let models = models.into_iter().map(candidate_model).collect();
    wire::CandidateCluster { cluster: format!("clusters/{cluster}"), fits, reason, flavor, micros_per_gpu_hour, tier, models }
}

fn candidate_model(model: ModelVerdict) -> wire::CandidateModel {
    let ModelVerdict { flavor, price_micros, speed, known, work_price_micros, work_emissions } = model;
    let (source, learned_runs) = match known {
        SpeedFrom::Said => (wire::candidate_model::SpeedSource::Said, 0),
        SpeedFrom::Learned { runs } => (wire::candidate_model::SpeedSource::Learned, runs),
        SpeedFrom::Assumed => (wire::candidate_model::SpeedSource::Assumed, 0),
    };
    wire::CandidateModel {
        flavor,
        micros_per_gpu_hour: price_micros.unwrap_or(0),
        speed_permille: u32::try_from(speed).unwrap_or(u32::MAX),
        speed_source: source.into(),
        learned_runs,
        micros_per_work_hour: work_price_micros.unwrap_or(0),
        milligrams_per_work_hour: work_emissions.unwrap_or(0),
    }
}
