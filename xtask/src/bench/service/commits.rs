//! One fsynced commit, again and again: what every wait is to be compared with.

use std::time::{Duration, Instant};

use anyhow::Result;
use muster_integration_tests::parts::postgres::Postgres;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::bench::percentile;

/// Between two commits while other work is measured: enough to count, too few to disturb.
const PAUSE: Duration = Duration::from_millis(50);
const ALONE: usize = 300;

/// The median of a commit by one connection while nothing else runs, in seconds.
///
/// # Errors
/// Postgres is away.
pub async fn alone(postgres: &Postgres) -> Result<f64> {
    let mut connection = open(postgres).await?;
    let mut took = Vec::new();
    for _ in 0..ALONE {
        took.push(commit(&mut connection).await?);
    }
    connection.close().await?;
    Ok(median(took))
}

/// The median of a commit by one connection beside other work, until `done`.
///
/// # Errors
/// Postgres is away.
pub async fn meanwhile(postgres: &Postgres, done: CancellationToken) -> Result<impl Future<Output = Result<f64>> + use<>> {
    let mut connection = open(postgres).await?;
    Ok(async move {
        let mut took = Vec::new();
        while !done.is_cancelled() {
            took.push(commit(&mut connection).await?);
            tokio::select! {
                () = done.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        connection.close().await?;
        Ok(median(took))
    })
}

async fn open(postgres: &Postgres) -> Result<PgConnection> {
    let mut connection = postgres.server().options("postgres").connect().await?;
    connection.execute("create table if not exists commit_cost (n bigint)").await?;
    Ok(connection)
}

async fn commit(connection: &mut PgConnection) -> Result<f64> {
    let began = Instant::now();
    connection.execute("insert into commit_cost values (1)").await?;
    Ok(began.elapsed().as_secs_f64())
}

fn median(mut took: Vec<f64>) -> f64 {
    took.sort_by(f64::total_cmp);
    percentile(&took, 0.5)
}
