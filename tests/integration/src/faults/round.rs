//! The main job, with something broken for some seconds in the middle of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use tokio::time::{Instant, timeout};

use super::invariants::{self, PODS};
use super::{Fault, Ground, staleness};
use crate::main_job::releases::{self, EVENTS, PIPELINE, RELEASE_WITHIN, TRAINING_COMPLETE};
use crate::main_job::scene::{Scene, request_id};
use crate::main_job::{documents, train};
use crate::patience::{Look, look};
use crate::{eventually, eventually_within};

/// How long a thing stays broken.
pub const BROKEN_FOR: Duration = Duration::from_secs(20);

/// How long a caller waits for an answer before it tries again.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Between two tries of a caller.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How long a job may take once nothing is broken any more.
const ENDS_WITHIN: Duration = Duration::from_secs(180);

/// What one fault did.
#[derive(Debug)]
pub struct Recovery {
    /// When it was broken.
    pub at: Timestamp,
    /// Whether a job was acknowledged meanwhile.
    pub job: bool,
    /// Whether an event was.
    pub event: bool,
    /// From the mending until every process was ready and every cluster live.
    pub well_after: Duration,
    /// From the mending until the jobs had succeeded and the newest version served everywhere.
    pub complete_after: Duration,
    /// From a job's end in its cluster until Muster said so, the longer one of the round's two jobs.
    pub unknown_for: Duration,
    /// From the decision of a candidate's weight until the routes had it, the longest one of the round's releases.
    pub weights_stale_for: Duration,
    /// The largest resident size of one of Muster's processes so far, MiB.
    pub memory: u64,
}

impl Recovery {
    /// One line about a round.
    pub fn line(&self, number: usize, plan: &Plan) -> String {
        format!(
            "{} round {number}: {plan} for {:.1} s; all well after {:.1} s, main job done after {:.1} s, a job's end unknown for \
             {:.1} s, a weight stale for {:.1} s, at most {} MiB",
            self.at.strftime("%H:%M:%S"),
            plan.lasts.as_secs_f64(),
            self.well_after.as_secs_f64(),
            self.complete_after.as_secs_f64(),
            self.unknown_for.as_secs_f64(),
            self.weights_stale_for.as_secs_f64(),
            self.memory,
        )
    }
}

/// What callers were promised.
#[derive(Debug, Default)]
pub struct Promised {
    /// Names of jobs.
    pub jobs: BTreeSet<String>,
    /// Versions of the model.
    pub versions: BTreeSet<String>,
}

/// When and what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What breaks, at once.
    pub faults: Vec<Fault>,
    /// After which of the round's own moments it breaks.
    pub breaks: Breaks,
    /// How long it stays so.
    pub lasts: Duration,
}

/// When a fault begins.
#[derive(Debug, Clone, Copy)]
pub enum Breaks {
    /// In the middle: a job was started and a release is on its way.
    Midway,
    /// So long after a job was submitted and a training reported.
    After(Duration),
}

impl Plan {
    /// One fault, in the middle, for twenty seconds.
    pub fn of(fault: Fault) -> Self {
        Self { faults: vec![fault], breaks: Breaks::Midway, lasts: BROKEN_FOR }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            write!(formatter, "{}{fault}", if index == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

/// Plays it. `number` makes the names of the round.
///
/// # Errors
/// The main job does not complete, or something that must hold does not.
pub async fn play(ground: &mut Ground, plan: &Plan, number: usize, promised: &mut Promised) -> Result<Recovery> {
    play_it(ground, plan, number, promised).await.with_context(|| format!("round {number}: {plan}"))
}

async fn play_it(ground: &mut Ground, plan: &Plan, number: usize, promised: &mut Promised) -> Result<Recovery> {
    let (before, meanwhile) = (format!("before-{number}"), format!("meanwhile-{number}"));
    let (first, second) = (format!("r{number}"), format!("e{number}"));
    let (early, late) = (job(&before), job(&meanwhile));
    heard(&format!("{before} is submitted"), async || submit(&ground.scene, &early).await).await?;
    promised.jobs.insert(before.clone());
    let trained = releases::training(&first);
    heard(&format!("{first} is reported"), async || releases::report(&ground.scene, trained.clone()).await.map(drop)).await?;
    promised.versions.insert(first.clone());
    match plan.breaks {
        Breaks::Midway => on_its_way(&ground.scene, &before, &first).await?,
        Breaks::After(time) => tokio::time::sleep(time).await,
    }

    let at = Timestamp::now();
    let until = Instant::now() + plan.lasts;
    for fault in &plan.faults {
        ground.break_it(*fault).await?;
    }
    let scene = &ground.scene;
    let (job, event) =
        tokio::join!(insist(until, async || submit(scene, &late).await), insist(until, async || publish(scene, &second).await));
    tokio::time::sleep_until(until).await;
    invariants::always(ground)?;

    let mended = Instant::now();
    ground.mend(&plan.faults).await?;
    let well_after = mended.elapsed();
    // Whoever was not heard says it again.
    if !job {
        heard(&format!("{meanwhile} is submitted"), async || submit(&ground.scene, &late).await).await?;
    }
    if !event {
        heard(&format!("{second} is published"), async || publish(&ground.scene, &second).await).await?;
    }
    promised.jobs.insert(meanwhile.clone());
    promised.versions.insert(second.clone());
    for name in [&before, &meanwhile] {
        ends_well(&ground.scene, name).await?;
    }
    serves(&mut ground.scene, &second).await?;
    let complete_after = mended.elapsed();
    let unknown_for = staleness::end_unknown_for(&ground.scene, &[&before, &meanwhile]).await?;
    let weights_stale_for = staleness::weights_stale_for(&ground.scene, &[&first, &second]).await?;
    let memory = invariants::at_rest(ground, &promised.jobs, &promised.versions).await?;
    Ok(Recovery { at, job, event, well_after, complete_after, unknown_for, weights_stale_for, memory })
}

/// Tries until it is acknowledged, while the fault lasts.
async fn insist(until: Instant, mut attempt: impl AsyncFnMut() -> Result<()>) -> bool {
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now()).min(ANSWER_WITHIN);
        if matches!(timeout(left, attempt()).await, Ok(Ok(()))) {
            return true;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    false
}

/// Asks until it is answered: a busy machine, too, says that it is busy.
async fn heard(what: &str, mut ask: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    eventually(what, async || ask().await.map(Look::Is)).await
}

/// A job of some seconds, under an id with which it may be asked for again.
fn job(name: &str) -> scheduler::CreateJobRequest {
    let manifest = documents::job(name, "train-queue", "v3", PODS, 8);
    let job = scheduler::Job { manifest, ..Default::default() };
    scheduler::CreateJobRequest { job: Some(job), request_id: request_id(), ..Default::default() }
}

async fn submit(scene: &Scene, job: &scheduler::CreateJobRequest) -> Result<()> {
    scene.clients()?.jobs().create_job(job.clone()).await?;
    Ok(())
}

/// Publishes the event of a training as a pipeline does; the broker has it then.
async fn publish(scene: &Scene, version: &str) -> Result<()> {
    let data = serde_json::to_value(releases::training(version))?;
    scene.topics.publish(EVENTS, "resnet50", version, PIPELINE, TRAINING_COMPLETE, &data).await
}

/// The job runs, and the release of the version has told a cluster.
async fn on_its_way(scene: &Scene, job: &str, version: &str) -> Result<()> {
    eventually(&format!("{job} runs and {version} is on its way"), async || {
        let job = train::get(scene, job).await?;
        let release = releases::of_version(scene, version).await?.into_iter().next();
        let moves = release.as_ref().is_some_and(|release| release.state() == rollout::release::State::Progressing);
        let started = !matches!(job.state(), scheduler::job::State::Queued | scheduler::job::State::Unspecified);
        Ok(look(moves && started, (), || format!("{:?}; {:?}", job.state(), release.map(|release| releases::describe(&release)))))
    })
    .await
}

/// Waits until a job has succeeded, in its first run.
async fn ends_well(scene: &Scene, name: &str) -> Result<()> {
    let job = eventually_within(ENDS_WITHIN, &format!("{name} ends well"), async || {
        let job = train::get(scene, name).await?;
        let said = || format!("{:?}: {}", job.state(), job.reason);
        Ok(match job.state() {
            scheduler::job::State::Succeeded => Look::Is(job.clone()),
            scheduler::job::State::Failed | scheduler::job::State::Cancelled => Look::Never(said()),
            _ => Look::NotYet(said()),
        })
    })
    .await?;
    ensure!(job.run_epoch == 1, "{name} was run {} times", job.run_epoch);
    Ok(())
}

/// Waits until the release of a version is complete, and it serves everywhere, alone.
async fn serves(scene: &mut Scene, version: &str) -> Result<()> {
    eventually_within(RELEASE_WITHIN, &format!("a release brings {version}"), async || {
        let found = releases::of_version(scene, version).await?.len();
        Ok(look(found == 1, (), || format!("{found} do")))
    })
    .await?;
    releases::reaches(scene, version, rollout::release::State::Completed).await?;
    for cluster in scene.serving() {
        releases::serves_only(scene, cluster, version).await?;
    }
    scene.serving = version.to_owned();
    Ok(())
}
