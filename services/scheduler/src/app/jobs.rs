//! Jobs and runs, shown.

use std::collections::BTreeMap;

use async_trait::async_trait;
use muster_core::name::{JobName, RunName};
use muster_core::page::Page;
use muster_kit::event::{self, Cursor};
use muster_kit::{Error, Result};

use super::{App, JobView};
use crate::domain::cost::Charge;
use crate::domain::parts::Parts;
use crate::domain::record::Job;
use crate::store::{self, job::Filter};

/// Jobs read at a time.
const BATCH: i64 = 1_000;

impl App {
    /// One job, with its manifest.
    ///
    /// # Errors
    /// A job that isn't there.
    pub async fn get_job(&self, name: &JobName) -> Result<JobView> {
        let job = store::job::get(&self.pool, name.namespace(), name.job()).await?.ok_or_else(|| Error::not_found(name))?;
        self.job_view(job, true).await
    }

    /// Jobs in name order, and the token of the next page.
    ///
    /// # Errors
    /// The database is away.
    pub async fn list_jobs(&self, filter: &Filter, page: &Page) -> Result<(Vec<JobView>, String)> {
        let after = page.after.split_once('/').unwrap_or_default();
        let mut tx = muster_kit::db::begin(&self.pool).await?;
        let mut jobs = store::job::list(&mut tx, filter, after, page.limit()).await?;
        let next = page.finish(&mut jobs, |job| format!("{}/{}", job.namespace, job.name));
        let mut views = views(&mut tx, jobs).await?;
        tx.rollback().await?;
        for view in &mut views {
            view.manifest = Some(store::job::manifest(&self.pool, &view.job.manifest_digest).await?);
        }
        Ok((views, next))
    }

    /// Everything that is shown of a job.
    pub(super) async fn job_view(&self, job: Job, with_manifest: bool) -> Result<JobView> {
        let manifest = if with_manifest { Some(store::job::manifest(&self.pool, &job.manifest_digest).await?) } else { None };
        let mut tx = muster_kit::db::begin(&self.pool).await?;
        let run = if job.epoch > 0 { store::run::get(&mut tx, job.id, job.epoch).await? } else { None };
        tx.rollback().await?;
        let charges = store::cost::of_jobs(&self.pool, &[job.id]).await?.into_iter().map(|(_, _, charge)| charge).collect();
        Ok(JobView { job, run, charges, manifest })
    }

    /// One run, with its job and its charges, one for each part and each size that it has had.
    ///
    /// # Errors
    /// A run that isn't there.
    pub async fn get_run(&self, name: &RunName) -> Result<(Job, Parts, Vec<Charge>)> {
        let missing = || Error::not_found(name);
        let epoch: u32 = name.epoch().parse().map_err(|_| Error::invalid("name", "a run's number is a whole number"))?;
        let job = store::job::get(&self.pool, name.namespace(), name.job()).await?.ok_or_else(missing)?;
        let mut tx = muster_kit::db::begin(&self.pool).await?;
        let run = store::run::get(&mut tx, job.id, epoch).await?.ok_or_else(missing)?;
        tx.rollback().await?;
        let charges = store::cost::of_jobs(&self.pool, &[job.id]).await?;
        let charges = charges.into_iter().filter(|(_, of, _)| *of == epoch).map(|(_, _, charge)| charge).collect();
        Ok((job, run, charges))
    }

    /// A job's runs, oldest first, with their charges, and the token of the next page.
    ///
    /// # Errors
    /// A job that isn't there.
    pub async fn list_runs(&self, name: &JobName, page: &Page) -> Result<(Job, Vec<(Parts, Vec<Charge>)>, String)> {
        let job = store::job::get(&self.pool, name.namespace(), name.job()).await?.ok_or_else(|| Error::not_found(name))?;
        let after = page.after.parse().unwrap_or(0);
        let mut runs = store::run::list(&self.pool, job.id, after, page.limit()).await?;
        let next = page.finish(&mut runs, |run| run.first().epoch.to_string());
        let mut charges: BTreeMap<u32, Vec<Charge>> = BTreeMap::new();
        for (_, epoch, charge) in store::cost::of_jobs(&self.pool, &[job.id]).await? {
            charges.entry(epoch).or_default().push(charge);
        }
        let runs = runs.into_iter().map(|run| (charges.remove(&run.first().epoch).unwrap_or_default(), run));
        let runs = runs.map(|(charges, run)| (run, charges)).collect();
        Ok((job, runs, next))
    }
}

async fn views(tx: &mut muster_kit::Tx, jobs: Vec<Job>) -> Result<Vec<JobView>> {
    let ids: Vec<i64> = jobs.iter().map(|job| job.id).collect();
    let mut charges: BTreeMap<i64, Vec<Charge>> = BTreeMap::new();
    for (id, _, charge) in store::cost::of_jobs(&mut **tx, &ids).await? {
        charges.entry(id).or_default().push(charge);
    }
    let mut views = Vec::with_capacity(jobs.len());
    for job in jobs {
        let run = if job.epoch > 0 { store::run::get(tx, job.id, job.epoch).await? } else { None };
        let charges = charges.remove(&job.id).unwrap_or_default();
        views.push(JobView { job, run, charges, manifest: None });
    }
    Ok(views)
}

/// Everything that exists, for a watch.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The jobs of a filter, and the log's end as of the same instant.
    async fn jobs(&self, filter: &Filter, only: Option<&JobName>) -> Result<(Vec<JobView>, Cursor)>;
}

#[async_trait]
impl Snapshot for App {
    async fn jobs(&self, filter: &Filter, only: Option<&JobName>) -> Result<(Vec<JobView>, Cursor)> {
        let mut tx = muster_kit::db::begin(&self.pool).await?;
        sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
        let cursor = event::end(&mut tx).await?;
        let mut all = Vec::new();
        let mut after = (String::new(), String::new());
        loop {
            let page = store::job::list(&mut tx, filter, (&after.0, &after.1), BATCH).await?;
            let Some(last) = page.last() else { break };
            after = (last.namespace.clone(), last.name.clone());
            let wanted = page
                .into_iter()
                .filter(|job| only.is_none_or(|only| only.namespace() == job.namespace && only.job() == job.name))
                .collect();
            all.extend(views(&mut tx, wanted).await?);
        }
        tx.rollback().await?;
        Ok((all, cursor))
    }
}
