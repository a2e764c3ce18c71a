//! What we keep of the registry: clusters, and who is in which fleet.

use crate::domain::Served;
use muster_core::selector::Labels;
use muster_kit::{Error, Result, Tx};
use sqlx::PgPool;
use std::collections::BTreeSet;

/// What we keep of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The identifier.
    pub cluster: String,
    /// Whether it has an agent that can be given something.
    pub is_enrolled: bool,
    /// How it is labelled.
    pub labels: Labels,
    /// What it can enforce policies by; `None` while its agent has not said.
    pub served: Option<Served>,
}

/// Keeps a cluster; gives whether it is new or another than before.
pub async fn keep(tx: &mut Tx, member: &Member) -> Result<bool> {
    let written = sqlx::query!(
        r#"
        insert into cluster as c (cluster_id, is_enrolled, served, labels)
        values ($1, $2, $3, $4)
        on conflict (cluster_id) do update
        set is_enrolled = excluded.is_enrolled, served = excluded.served, labels = excluded.labels
        where (c.is_enrolled, c.served, c.labels) is distinct from (excluded.is_enrolled, excluded.served, excluded.labels)
        "#,
        member.cluster,
        member.is_enrolled,
        member.served.as_ref().map(serde_json::to_value).transpose().map_err(Error::internal)?,
        serde_json::to_value(&member.labels).map_err(Error::internal)?
    )
    .execute(&mut **tx)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// Forgets a cluster with what it was told and what it said; one that comes back under its name starts afresh.
pub async fn forget(tx: &mut Tx, cluster: &str) -> Result<()> {
    sqlx::query!("delete from cluster where cluster_id = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!("delete from distribution where cluster_id = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!("delete from observation where cluster_id = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!("delete from installation where cluster_id = $1", cluster).execute(&mut **tx).await?;
    Ok(())
}

/// Clusters we know that are not among those listed.
pub async fn known_besides(tx: &mut Tx, listed: &[String]) -> Result<Vec<String>> {
    let gone =
        sqlx::query_scalar!("select cluster_id from cluster where cluster_id <> all($1)", listed).fetch_all(&mut **tx).await?;
    Ok(gone)
}

/// All clusters.
pub async fn all(pool: &PgPool) -> Result<Vec<Member>> {
    let rows =
        sqlx::query!("select cluster_id, is_enrolled, served, labels from cluster order by cluster_id").fetch_all(pool).await?;
    let member = |cluster, is_enrolled, served: Option<serde_json::Value>, labels| {
        let served = served.map(serde_json::from_value).transpose().map_err(Error::internal)?;
        let labels = serde_json::from_value(labels).map_err(Error::internal)?;
        Ok(Member { cluster, is_enrolled, labels, served })
    };
    rows.into_iter().map(|row| member(row.cluster_id, row.is_enrolled, row.served, row.labels)).collect()
}

/// Replaces all memberships, `(fleet, cluster)`; gives whether anything is new.
pub async fn replace_members(tx: &mut Tx, members: &BTreeSet<(String, String)>) -> Result<bool> {
    let (fleets, clusters): (Vec<String>, Vec<String>) = members.iter().cloned().unzip();
    let gone = sqlx::query!(
        r#"
        delete from fleet_member
        where (fleet_id, cluster_id) not in (select * from unnest($1::text[], $2::text[]))
        "#,
        &fleets,
        &clusters
    )
    .execute(&mut **tx)
    .await?;
    let new = sqlx::query!(
        r#"
        insert into fleet_member (fleet_id, cluster_id)
        select * from unnest($1::text[], $2::text[])
        on conflict do nothing
        "#,
        &fleets,
        &clusters
    )
    .execute(&mut **tx)
    .await?;
    Ok(gone.rows_affected() + new.rows_affected() > 0)
}
