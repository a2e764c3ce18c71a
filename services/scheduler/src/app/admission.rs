//! What can be decided at submit: an engine of queues and clusters alone, read anew where they have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use muster_kit::clock::SharedClock;
use muster_kit::error::Kind;
use muster_kit::gather::Gather;
use muster_kit::{Error, Result, db};
use muster_scheduler_engine::{Engine, Rows};
use sqlx::PgPool;

use super::mind::fold_queues;
use super::queues::read;
use crate::domain::cluster::{ClusterFacts, HourOfDay, Standing};
use crate::domain::queue::{QueueDefinition, upwards};
use crate::domain::record::time;
use crate::store;

/// Submits that are answered by one look at the tables.
const BATCH: usize = 1_000;

/// Queues and clusters as of a revision of the two.
pub struct Admission {
    revision: i64,
    /// Of these queues and clusters, without jobs.
    pub engine: Engine,
    /// Queues by name.
    pub definitions: BTreeMap<String, QueueDefinition>,
    clusters: Vec<ClusterFacts>,
}

impl Admission {
    /// A cluster of the projection.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&ClusterFacts> {
        self.clusters.iter().find(|facts| facts.name == name)
    }

    /// Members that the queue may use, by name; empty where none is known, which means every one.
    #[must_use]
    pub fn usable(&self, queue: &str) -> Vec<String> {
        let owner = upwards(queue, &self.definitions).find(|definition| !definition.tiers.is_empty());
        let members = self.clusters.iter().filter(|facts| facts.standing != Standing::Absent);
        let usable = members.filter(|facts| owner.map_or(facts.takes_jobs, |definition| definition.selects(facts)));
        usable.map(|facts| facts.name.clone()).collect()
    }
}

/// Where submits get the present [`Admission`]: those that come at one time by one look at the tables.
#[derive(Clone)]
pub struct Admissions(Gather<(), Result<Arc<Admission>>>);

impl Admissions {
    /// The place, and the loop that looks until nobody holds the place any more.
    pub fn new(pool: PgPool, clock: SharedClock) -> (Self, impl Future<Output = ()> + Send) {
        let known = Arc::new(Mutex::new(None));
        let (gather, looking) = Gather::new(BATCH, 1, move |asked: Vec<()>| {
            let (pool, clock, known) = (pool.clone(), Arc::clone(&clock), Arc::clone(&known));
            async move {
                let present = present(&pool, &clock, &known).await;
                asked.iter().map(|()| present.as_ref().map(Arc::clone).map_err(same)).collect()
            }
        });
        (Self(gather), looking)
    }

    /// Queues and clusters as they are now.
    ///
    /// # Errors
    /// The database is away.
    pub async fn now(&self) -> Result<Arc<Admission>> {
        self.0.ask(()).await?
    }
}

/// One error for all who asked together.
fn same(error: &Error) -> Error {
    match error.kind() {
        Kind::Unavailable => Error::unavailable(error.reason(), error.to_string()),
        _ => Error::internal(anyhow::anyhow!("{error}")),
    }
}

async fn present(pool: &PgPool, clock: &SharedClock, known: &Mutex<Option<Arc<Admission>>>) -> Result<Arc<Admission>> {
    let revision = store::queue::revision(pool).await?;
    let kept = known.lock().expect("no holder of this lock panics").clone();
    if let Some(kept) = kept.filter(|kept| kept.revision == revision) {
        return Ok(kept);
    }
    let mut tx = db::begin(pool).await?;
    let clusters = store::cluster::all(&mut tx).await?;
    let manifests = store::queue::manifests(&mut tx).await?;
    tx.rollback().await?;
    let definitions: BTreeMap<String, QueueDefinition> =
        manifests.into_iter().map(|(name, manifest)| Ok((name, read(&manifest)?))).collect::<Result<_>>()?;
    let charged = BTreeSet::new();
    let now = clock.now();
    let specs = clusters.iter().map(|facts| facts.spec(&charged, HourOfDay::of(now)));
    let rows = Rows { clusters: specs.collect(), ..Rows::default() };
    let mut engine = Engine::restore(rows, time(now)).map_err(Error::internal)?;
    fold_queues(&mut engine, &definitions, &clusters);
    let new = Arc::new(Admission { revision, engine, definitions, clusters });
    *known.lock().expect("no holder of this lock panics") = Some(Arc::clone(&new));
    Ok(new)
}
