//! Who leads, and how a late write of one who no longer does is refused.
//!
//! A lease only saves work. What fences is its epoch: [`check`] reads it `for share` in the transaction of every
//! decision, so that a leader that slept through its successor's election changes nothing.

use crate::{Error, Result, Tx};
use sqlx::PgPool;
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A lease that this process may hold.
#[derive(Debug)]
pub struct Lease {
    pool: PgPool,
    name: &'static str,
    holder: Uuid,
    length: Duration,
    // The epoch and when it was last written: asked more often than that, the answer is the same.
    held: Mutex<Option<(u64, Instant)>>,
}

impl Lease {
    /// A lease of this name for a new holder. Nothing is taken yet.
    pub fn new(pool: PgPool, name: &'static str, length: Duration) -> Self {
        Self { pool, name, holder: Uuid::new_v4(), length, held: Mutex::new(None) }
    }

    /// Takes or renews the lease; the epoch if we hold it now, `None` while another does. Times are the database's. It is
    /// written at most three times a length, however often this is called.
    pub async fn acquire(&self) -> Result<Option<u64>> {
        let asked = Instant::now();
        let held = *self.held.lock().expect("no holder of this lock panics");
        if let Some((epoch, at)) = held
            && asked.duration_since(at) < self.length / 3
        {
            return Ok(Some(epoch));
        }
        let epoch = sqlx::query_scalar!(
            r#"
            insert into lease as held (name, holder, epoch, expires_at)
            values ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
            on conflict (name) do update
            set holder = excluded.holder,
                epoch = held.epoch + case when held.holder = excluded.holder then 0 else 1 end,
                expires_at = excluded.expires_at
            where held.holder = excluded.holder
            or held.expires_at < clock_timestamp()
            returning epoch
            "#,
            self.name,
            self.holder,
            self.length.as_secs_f64()
        )
        .fetch_optional(&self.pool)
        .await?;
        let epoch = epoch.map(i64::cast_unsigned);
        *self.held.lock().expect("no holder of this lock panics") = epoch.map(|epoch| (epoch, asked));
        Ok(epoch)
    }

    /// Gives the lease up, so that another need not wait for it to run out.
    pub async fn release(&self) -> Result<()> {
        *self.held.lock().expect("no holder of this lock panics") = None;
        sqlx::query!("update lease set expires_at = clock_timestamp() where name = $1 and holder = $2", self.name, self.holder)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Holds the epoch for the rest of the transaction; a Conflict if another has been elected since.
pub async fn check(tx: &mut Tx, name: &'static str, epoch: u64) -> Result<()> {
    let current =
        sqlx::query_scalar!("select epoch from lease where name = $1 for share", name).fetch_optional(&mut **tx).await?;
    if current == Some(epoch.cast_signed()) {
        return Ok(());
    }
    Err(Error::conflict("NOT_LEADER", "another replica leads by now"))
}
