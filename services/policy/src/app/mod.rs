//! The use cases: authorise, begin, decide, store, log, commit.

mod fleet_policy;
mod policy;
mod report;
mod verdict;

pub use fleet_policy::FleetPolicyView;

use crate::{domain::Catalog, events, store};
use muster_kit::{Error, Result, Tx, idempotency::Pending, reconcile::Wake};
use prost::Message;
use sqlx::PgPool;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// A manifest in a request, at most.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// How a change comes in.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The identifier asked for; empty: that of the manifest.
    pub id: String,
    /// The manifest.
    pub manifest: String,
    /// If set must be current.
    pub etag: String,
    /// Answers repetitions.
    pub request_id: String,
    /// Makes what is not there.
    pub allow_missing: bool,
    /// Checks and stores nothing.
    pub validate_only: bool,
}

/// What the use cases need.
pub struct App {
    pool: PgPool,
    /// The catalog read last; another revision in the database makes it void.
    catalog: Mutex<Option<Arc<Catalog>>>,
    /// Wakes the reading of git sources.
    pub sources: Wake,
    /// Wakes the distribution to clusters.
    pub distribute: Wake,
    /// Wakes the relay.
    pub relay: Wake,
}

impl App {
    /// The use cases over a database.
    pub fn new(pool: PgPool, relay: Wake) -> Self {
        Self { pool, catalog: Mutex::new(None), sources: Wake::default(), distribute: Wake::default(), relay }
    }

    /// The database.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Everything that decides verdicts, as of now.
    pub async fn catalog(&self) -> Result<Arc<Catalog>> {
        let revision = store::catalog::revision(&self.pool).await?;
        let known = self.catalog.lock().expect("no holder of this lock panics").clone();
        if let Some(known) = known.filter(|known| known.revision == revision) {
            return Ok(known);
        }
        let catalog = Arc::new(store::catalog::read(&self.pool).await?);
        *self.catalog.lock().expect("no holder of this lock panics") = Some(Arc::clone(&catalog));
        Ok(catalog)
    }

    /// Stores the answer and commits, or takes everything back where only a check was asked for.
    async fn finish<R: Message>(&self, mut tx: Tx, pending: Pending, validate_only: bool, response: R) -> Result<R> {
        if validate_only {
            tx.rollback().await?;
            return Ok(response);
        }
        pending.finish(&mut tx, &response).await?;
        tx.commit().await?;
        self.sources.now();
        self.distribute.now();
        self.relay.now();
        Ok(response)
    }
}

/// Decides anew what holds under some names, and logs the bindings it changed for, besides `written`, which is logged
/// by its own use case.
pub async fn settle(tx: &mut Tx, names: &BTreeSet<String>, written: Option<&str>) -> Result<()> {
    let mut changed = BTreeSet::new();
    for name in names {
        changed.extend(store::bound::settle(tx, name).await?);
    }
    store::catalog::raise_revision(tx).await?;
    for binding in changed.iter().filter(|binding| Some(binding.as_str()) != written) {
        let record = store::fleet_policy::touch(tx, binding).await?;
        let policies = store::bound::of_binding(tx, binding).await?;
        events::fleet_policy(tx, "policy.bound", &FleetPolicyView { record, policies }, false).await?;
    }
    Ok(())
}

/// A name that is taken from another namespace is a collision: these kinds have no namespace here.
fn check_namespace(name: &str, known: &str, given: &str) -> Result<()> {
    if known == given {
        return Ok(());
    }
    let shown = |namespace: &str| if namespace.is_empty() { "no namespace".to_owned() } else { format!("namespace {namespace}") };
    let hint =
        format!("{name} exists from {}, and a name is one here over all namespaces (given: {})", shown(known), shown(given));
    Err(Error::already_exists(name, hint))
}

/// The identifier of a resource that may be given beside its manifest.
fn check_id(field: &str, given: &str, of_manifest: &str) -> Result<()> {
    if given.is_empty() || given == of_manifest {
        return Ok(());
    }
    Err(Error::invalid(field, format!("is {given:?}, and the manifest's metadata.name is {of_manifest:?}")))
}
