//! Use cases: authorise, begin, decide, store, say so, commit. One file a noun.

mod catalog;
pub mod fleet_policy;
pub mod policy;
pub mod ramp;
pub mod report;
pub mod verdict;
pub mod verdict_stream;

use crate::{domain::Catalog, store};
use catalog::Latest;
use muster_kit::{Error, Result, Tx, reconcile::Wake};
use sqlx::PgPool;
use std::{collections::BTreeSet, sync::Arc};
use tokio_util::sync::CancellationToken;

/// A manifest in a request, at most.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// What every use case works with.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub pool: PgPool,
    /// The catalog read last.
    catalog: Arc<Latest>,
    /// Files in git are to be read.
    pub sources: Wake,
    /// Clusters are to be told something.
    pub distribute: Wake,
    /// The service stops: streams end.
    pub stopping: CancellationToken,
}

impl App {
    /// The use cases over a database, until `stopping`.
    pub fn new(pool: PgPool, stopping: CancellationToken) -> Self {
        Self { pool, catalog: Arc::default(), sources: Wake::default(), distribute: Wake::default(), stopping }
    }

    /// Everything that decides verdicts, as of now.
    pub async fn catalog(&self) -> Result<Arc<Catalog>> {
        self.catalog.of(&self.pool).await
    }

    /// What people wrote has changed.
    fn wake(&self) {
        self.sources.now();
        self.distribute.now();
    }
}

/// What to do about a resource of that name.
enum Existing {
    /// The same again is one, another is refused.
    Same,
    /// It is replaced.
    Replace { etag: String, make_missing: bool },
}

/// Decides anew what holds under some names, and says so of the bindings it changed for, but for `written`, of which its
/// own use case does.
pub async fn settle(tx: &mut Tx, names: &BTreeSet<String>, written: Option<&str>) -> Result<()> {
    let mut changed = BTreeSet::new();
    for name in names {
        changed.extend(store::bound::settle(tx, name).await?);
    }
    store::catalog::raise_revision(tx).await?;
    for binding in changed.iter().filter(|binding| Some(binding.as_str()) != written) {
        fleet_policy::tell(tx, binding, "policy.bound").await?;
    }
    Ok(())
}

/// A name that is taken from another namespace is a collision: these kinds have no namespace here.
fn check_namespace(name: &str, known: &str, given: &str) -> Result<()> {
    if known == given {
        return Ok(());
    }
    let shown = |namespace: &str| if namespace.is_empty() { "no namespace".to_owned() } else { format!("namespace {namespace}") };
    let hint = format!("{name} came from {}, and has no namespace here (given: {})", shown(known), shown(given));
    Err(Error::already_exists(name, hint))
}

/// The identifier of a resource that may be given beside its manifest.
fn check_id(field: &str, given: &str, of_manifest: &str) -> Result<()> {
    if given.is_empty() || given == of_manifest {
        return Ok(());
    }
    Err(Error::invalid(field, format!("is {given:?}, and the manifest's metadata.name is {of_manifest:?}")))
}
