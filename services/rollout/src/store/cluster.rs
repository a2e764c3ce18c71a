//! Projections of the registry's clusters and fleets.

use crate::domain::cluster::Cluster;
use muster_kit::{Error, Result, Tx};
use sqlx::PgPool;
use std::collections::BTreeMap;

/// Every cluster known, by identifier.
pub async fn all(pool: &PgPool) -> Result<BTreeMap<String, Cluster>> {
    let rows = sqlx::query!("select cluster, state from cluster").fetch_all(pool).await?;
    rows.into_iter().map(|row| Ok((row.cluster, serde_json::from_value(row.state).map_err(Error::internal)?))).collect()
}

/// Takes a change where it is newer than what is known.
pub async fn save(pool: &PgPool, id: &str, cluster: &Cluster, version: i64) -> Result<()> {
    let state = serde_json::to_value(cluster).map_err(Error::internal)?;
    sqlx::query!(
        r#"
        insert into cluster as known (cluster, state, version) values ($1, $2, $3)
        on conflict (cluster) do update set state = excluded.state, version = excluded.version
        where known.version <= excluded.version
        "#,
        id,
        state,
        version
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// A list replaces the projection, also with something older.
pub async fn replace(tx: &mut Tx, clusters: &[(String, Cluster, i64)]) -> Result<()> {
    sqlx::query!("delete from cluster").execute(&mut **tx).await?;
    for (id, cluster, version) in clusters {
        let state = serde_json::to_value(cluster).map_err(Error::internal)?;
        sqlx::query!("insert into cluster (cluster, state, version) values ($1, $2, $3)", id, state, version)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// A cluster is gone.
pub async fn delete(pool: &PgPool, id: &str) -> Result<()> {
    sqlx::query!("delete from cluster where cluster = $1", id).execute(pool).await?;
    Ok(())
}

/// Every fleet known, with the identifiers of its members.
pub async fn fleets(pool: &PgPool) -> Result<BTreeMap<String, Vec<String>>> {
    let rows = sqlx::query!("select fleet, members from fleet").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.fleet, row.members)).collect())
}

/// A list replaces the projection.
pub async fn replace_fleets(tx: &mut Tx, fleets: &BTreeMap<String, Vec<String>>) -> Result<()> {
    sqlx::query!("delete from fleet").execute(&mut **tx).await?;
    for (fleet, members) in fleets {
        sqlx::query!("insert into fleet (fleet, members) values ($1, $2)", fleet, members).execute(&mut **tx).await?;
    }
    Ok(())
}
