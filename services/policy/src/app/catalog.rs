//! The catalog as of now, read once for all who ask at the same time.
//!
//! An answer counts for whoever asked before its reading began, and for nobody else: who asks in the middle of a reading
//! waits for the next one. So a verdict follows every change that was committed before it was asked for, and thousands of
//! requests a second cost the database as many questions as it answers one after another.

use crate::{domain::Catalog, store};
use muster_kit::{Error, Result, db};
use sqlx::PgPool;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::Mutex;

/// The catalog read last.
#[derive(Default)]
pub struct Latest {
    /// Readings begun.
    begun: AtomicU64,
    last: Mutex<Reading>,
}

/// A reading that has ended.
#[derive(Default)]
struct Reading {
    number: u64,
    /// Whether it failed; the catalog is of an earlier one then.
    failed: bool,
    catalog: Option<Arc<Catalog>>,
}

impl Latest {
    /// The catalog as it is after this was called.
    pub async fn of(&self, pool: &PgPool) -> Result<Arc<Catalog>> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number > begun {
            return match &last.catalog {
                Some(catalog) if !last.failed => Ok(Arc::clone(catalog)),
                // The one who asked the database has its answer, and logged it.
                _ => Err(Error::unavailable("POLICIES_UNREAD", "the policies could not be read; try again")),
            };
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let read = read(pool, last.catalog.clone()).await;
        last.number = number;
        last.failed = read.is_err();
        let catalog = read?;
        last.catalog = Some(Arc::clone(&catalog));
        Ok(catalog)
    }
}

/// The known catalog where its revision is the database's, else another.
async fn read(pool: &PgPool, known: Option<Arc<Catalog>>) -> Result<Arc<Catalog>> {
    let (revision, now) = store::catalog::revision(pool).await?;
    if let Some(known) = known.filter(|known| known.revision == revision && !known.is_outlived_by(now)) {
        return Ok(known);
    }
    let mut catalog = store::catalog::read(pool).await?;
    if catalog.is_outlived_by(now) {
        // An exception has ended: from the next revision on it excuses nothing, and equal revisions stay equal verdicts.
        let mut tx = db::begin(pool).await?;
        store::catalog::raise_revision(&mut tx).await?;
        tx.commit().await?;
        catalog = store::catalog::read(pool).await?;
    }
    Ok(Arc::new(catalog))
}
