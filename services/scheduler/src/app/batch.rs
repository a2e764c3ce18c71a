//! What one transaction changes of jobs and runs: gathered while it is decided, then written in a fixed number of statements,
//! however many jobs there are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_kit::{Clock, Result, Tx, event, telemetry};

use crate::domain::cost::Charge;
use crate::domain::parts::Parts;
use crate::domain::record::{Job, Run};
use crate::events;
use crate::store::cost::{self, Begun, Ended};
use crate::store::inbox::{self, Subject};
use crate::store::run::write::{Placed, Resized};
use crate::store::{self, job, run};

/// Changes that are written together or not at all. What is put in twice is written as it was put in last.
#[derive(Default)]
pub struct Batch {
    jobs: BTreeMap<i64, Changed>,
    placed: Vec<Placed>,
    resized: BTreeMap<(i64, u32), Resized>,
    sizes: BTreeMap<(i64, u32), cost::Resized>,
    /// By job, epoch and part.
    runs: BTreeMap<(i64, u32, u32), Run>,
    begun: Vec<Begun>,
    ended: Vec<Ended>,
    subjects: BTreeSet<Subject>,
    touched: BTreeSet<String>,
}

struct Changed {
    job: Job,
    run: Option<Parts>,
    traceparent: String,
    told: bool,
}

impl Batch {
    /// A job has changed, and everybody is told; `run` is its latest one. The present span is the cause.
    pub fn job(&mut self, job: &Job, run: Option<&Parts>) {
        let traceparent = telemetry::current_traceparent();
        self.jobs.insert(job.id, Changed { job: job.clone(), run: run.cloned(), traceparent, told: true });
    }

    /// Something of a job has changed that nobody waits for.
    pub fn quietly(&mut self, job: &Job) {
        let known = self.jobs.remove(&job.id);
        let (run, traceparent, told) = known.map_or_else(Default::default, |known| (known.run, known.traceparent, known.told));
        self.jobs.insert(job.id, Changed { job: job.clone(), run, traceparent, told });
    }

    /// A new run, or a part of one.
    pub fn place(&mut self, placed: Placed) {
        self.placed.push(placed);
    }

    /// A run has another size, or is to have one.
    pub fn resize(&mut self, run: &Run, part_permille: u32) {
        self.resized.insert((run.job_id, run.epoch), Resized { run: run.clone(), part_permille });
    }

    /// A run is charged for other GPUs from `at` on.
    pub fn change_charge(&mut self, run: &Run, at: Timestamp) {
        let Run { job_id, epoch, gpus, .. } = *run;
        self.sizes.insert((job_id, epoch), cost::Resized { job_id, epoch, at, gpus });
    }

    /// A run, or a part of one, has changed.
    pub fn run(&mut self, run: &Run) {
        self.runs.insert((run.job_id, run.epoch, run.part), run.clone());
    }

    /// A run is charged from `start` on.
    pub fn begin_charge(&mut self, job: &Job, run: &Run, start: Timestamp) {
        self.begun.push(Begun::of(job, run, start));
    }

    /// A run's charge is final.
    pub fn end_charge(&mut self, run: &Run, start: Timestamp, finish: Timestamp) {
        let Run { job_id, epoch, part, .. } = *run;
        self.ended.retain(|ended| (ended.job_id, ended.epoch, ended.part) != (job_id, epoch, part));
        self.ended.push(Ended { job_id, epoch, part, started_at: start, finished_at: finish });
    }

    /// The leader is to look at something.
    pub fn look_at(&mut self, subject: Subject) {
        self.subjects.insert(subject);
    }

    /// There may be something to tell a cluster.
    pub fn touch(&mut self, cluster: &str) {
        self.touched.insert(cluster.to_owned());
    }

    /// True if the leader is to look at something.
    #[must_use]
    pub fn wakes_the_leader(&self) -> bool {
        !self.subjects.is_empty()
    }

    /// True if there may be something to tell a cluster.
    #[must_use]
    pub fn touches_clusters(&self) -> bool {
        !self.touched.is_empty()
    }

    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { jobs, placed, resized, sizes, runs, begun, ended, subjects, touched } = self;
        jobs.is_empty()
            && placed.is_empty()
            && resized.is_empty()
            && sizes.is_empty()
            && runs.is_empty()
            && begun.is_empty()
            && ended.is_empty()
            && subjects.is_empty()
            && touched.is_empty()
    }

    /// Writes everything, events last. The jobs' rows are locked by the caller, or their versions are checked here.
    ///
    /// # Errors
    /// Somebody changed a job since it was read, or the database is away: the transaction is to be given up.
    pub async fn write(self, tx: &mut Tx, clock: &dyn Clock) -> Result<()> {
        let touched: Vec<String> = self.touched.into_iter().collect();
        store::desired::touch(tx, &touched).await?;
        run::write::insert(tx, &self.placed).await?;
        run::write::resize(tx, &self.resized.into_values().collect::<Vec<_>>()).await?;
        run::write::update(tx, self.runs.values()).await?;
        store::cost::begin(tx, &self.begun).await?;
        cost::resize(tx, &self.sizes.into_values().collect::<Vec<_>>()).await?;
        store::cost::finish(tx, &self.ended).await?;
        inbox::put_all(tx, self.subjects.iter()).await?;
        let jobs: Vec<&Job> = self.jobs.values().map(|changed| &changed.job).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        job::write::update(tx, &jobs).await?;
        let mut charges = charges(tx, &jobs).await?;
        let told = self.jobs.into_values().filter(|changed| changed.told);
        let events = told.map(|Changed { mut job, run, traceparent, told: _ }| {
            job.version += 1;
            let charges = charges.remove(&job.id).unwrap_or_default();
            events::job_changed(&job, run.as_ref(), &charges, clock.now()).caused_by(traceparent)
        });
        event::append_all(tx, &events.collect::<Result<Vec<_>>>()?).await
    }
}

/// What the runs of some jobs are charged for, by job. One whose first run was only just placed is charged for nothing.
async fn charges(tx: &mut Tx, jobs: &[&Job]) -> Result<BTreeMap<i64, Vec<Charge>>> {
    let ran: Vec<i64> = jobs.iter().filter(|job| job.epoch > 1 || job.started_at.is_some()).map(|job| job.id).collect();
    let mut charges: BTreeMap<i64, Vec<Charge>> = BTreeMap::new();
    if !ran.is_empty() {
        for (id, _, charge) in store::cost::of_jobs(&mut **tx, &ran).await? {
            charges.entry(id).or_default().push(charge);
        }
    }
    Ok(charges)
}
