//! The pool, transactions and what every query shares.
//!
//! Transactions have a timeout: one long write transaction in any database holds every reader of the event log back.

use crate::{Error, Result, config::DatabaseConfig};
use anyhow::Context;
use sqlx::{
    ConnectOptions, Connection, Executor, PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};

/// A transaction of a use case.
pub type Tx = Transaction<'static, Postgres>;

/// The chassis' own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// A connection that answered so recently is used without being asked whether it still lives.
const FRESH: Duration = Duration::from_secs(1);

/// A pool that connects when it is first needed, so that a service starts, and says so, while its database is away.
pub fn pool(config: &DatabaseConfig, service: &str) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(&config.url)
        .context("database.url")?
        .application_name(&format!("muster-{service}"))
        .log_statements(log::LevelFilter::Trace)
        .log_slow_statements(log::LevelFilter::Warn, Duration::from_millis(500));
    Ok(PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(Duration::from_secs(3))
        // A question before each use would double the round trips of a single query.
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move { Ok(about.idle_for < FRESH || connection.ping().await.is_ok()) })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                // Longest transaction that can be right: a full ApplyDesired of 1,000 clusters.
                connection.execute("set transaction_timeout = '10s'; set lock_timeout = '5s'").await?;
                // Whoever prepares a statement while its table is empty is given a plan that reads all of it, and keeps that plan while
                // the table grows, until statistics are taken. Every query here has its index.
                connection.execute("set enable_seqscan = off").await?;
                Ok(())
            })
        })
        .connect_lazy_with(options))
}

/// How long a busy database may take until it answers who migrates it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Brings the chassis' and the service's own tables up to date. The timeouts of a use case do not hold here: the migration of a
/// large table takes its time, and whoever else migrates waits until that is done.
pub async fn migrate(pool: &PgPool, service: &Migrator) -> anyhow::Result<()> {
    let options = PgConnectOptions::clone(&pool.connect_options());
    let own = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWERS_WITHIN).connect_lazy_with(options);
    MIGRATIONS.run(&own).await.context("the chassis' migrations")?;
    service.run(&own).await.context("the service's migrations")?;
    own.close().await;
    Ok(())
}

/// Begins a transaction.
pub async fn begin(pool: &PgPool) -> Result<Tx> {
    Ok(pool.begin().await?)
}

/// Lets the transaction's commit be answered before it is on disk. A crash may undo it, but never it alone: whatever is committed
/// after it is undone with it. For what nobody sees before a later commit names it.
pub async fn commit_lazily(tx: &mut Tx) -> Result<()> {
    tx.execute("set local synchronous_commit = off").await?;
    Ok(())
}

/// Whether an error is a violation of the named constraint; how a service tells a taken name from a fault.
pub fn violates(error: &sqlx::Error, constraint: &str) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.constraint() == Some(constraint))
}

/// The etag of a row's version.
pub fn etag(version: i64) -> String {
    format!("v{version}")
}

/// Checks an etag that came with a mutation; empty means the caller does not mind.
pub fn check_etag(etag: &str, version: i64) -> Result<()> {
    if etag.is_empty() || etag == self::etag(version) {
        return Ok(());
    }
    Err(Error::conflict("STALE_ETAG", "etag: somebody changed it since; read it again"))
}

/// Checks an update mask against the fields that may be changed; empty means all of them.
pub fn check_mask(mask: Option<&muster_proto::FieldMask>, known: &[&str]) -> Result<Vec<String>> {
    let all = || known.iter().map(|field| (*field).to_owned()).collect();
    let Some(mask) = mask else { return Ok(all()) };
    if mask.paths.is_empty() || mask.paths == ["*"] {
        return Ok(all());
    }
    match mask.paths.iter().find(|path| !known.contains(&path.as_str())) {
        Some(path) => Err(Error::invalid("update_mask", format!("{path:?} is not one of {}", known.join(", ")))),
        None => Ok(mask.paths.clone()),
    }
}
