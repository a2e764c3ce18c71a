//! The projection of the registry's clusters.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use muster_kit::{Error, Result, Tx};

use super::corrupt;
use crate::domain::cluster::ClusterFacts;

/// Every known cluster, by name.
pub async fn all(tx: &mut Tx) -> Result<Vec<ClusterFacts>> {
    let rows = sqlx::query_scalar!("select facts from cluster order by name").fetch_all(&mut **tx).await?;
    rows.into_iter().map(|facts| serde_json::from_value(facts).map_err(|error| corrupt("a cluster", error))).collect()
}

/// One cluster.
pub async fn get(tx: &mut Tx, name: &str) -> Result<Option<ClusterFacts>> {
    let facts = sqlx::query_scalar!("select facts from cluster where name = $1", name).fetch_optional(&mut **tx).await?;
    facts.map(|facts| serde_json::from_value(facts).map_err(|error| corrupt("a cluster", error))).transpose()
}

/// Whether a cluster serves an API, as in `batch.volcano.sh/v1alpha1`; false where the cluster is not known.
pub async fn has_api(tx: &mut Tx, name: &str, api: &str) -> Result<bool> {
    let has = sqlx::query_scalar!(r#"select facts -> 'apis' ? $2 as "has!" from cluster where name = $1"#, name, api)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(has.unwrap_or(false))
}

/// Keeps a cluster; true if anything but its lease is new.
pub async fn put(tx: &mut Tx, facts: &ClusterFacts, lease_expires: Option<Timestamp>) -> Result<bool> {
    let json = serde_json::to_value(facts).map_err(Error::internal)?;
    let changed = sqlx::query!(
        r#"
        insert into cluster as known (name, facts)
        values ($1, $2)
        on conflict (name) do update
        set facts = excluded.facts, revision = nextval('scheduling_revision')
        where known.facts <> excluded.facts
        "#,
        facts.name,
        json
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update cluster set lease_expires_at = $2 where name = $1 and lease_expires_at is distinct from $2",
        facts.name,
        lease_expires.map(|at| at.to_sqlx()) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// When the session lease of a cluster runs out; `None` if none is known.
pub async fn lease(tx: &mut Tx, name: &str) -> Result<Option<Timestamp>> {
    let lease =
        sqlx::query_scalar!("select lease_expires_at from cluster where name = $1", name).fetch_optional(&mut **tx).await?;
    Ok(lease.flatten().map(jiff_sqlx::Timestamp::to_jiff))
}

/// Forgets clusters that are not among the given; gives their names.
pub async fn retain(tx: &mut Tx, names: &[String]) -> Result<Vec<String>> {
    let gone =
        sqlx::query_scalar!("delete from cluster where name <> all($1) returning name", names).fetch_all(&mut **tx).await?;
    if !gone.is_empty() {
        sqlx::query_scalar!("select nextval('scheduling_revision')").fetch_one(&mut **tx).await?;
    }
    Ok(gone)
}

/// Forgets one cluster; true if it was known.
pub async fn remove(tx: &mut Tx, name: &str) -> Result<bool> {
    let gone = sqlx::query!("delete from cluster where name = $1", name).execute(&mut **tx).await?;
    sqlx::query_scalar!("select nextval('scheduling_revision')").fetch_one(&mut **tx).await?;
    Ok(gone.rows_affected() == 1)
}
