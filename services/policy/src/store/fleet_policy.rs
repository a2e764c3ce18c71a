//! Bindings of policies to fleets.

use crate::domain::FleetPolicySpec;
use jiff::Timestamp;
use muster_kit::{Error, Result, Tx, db};
use sqlx::PgPool;

/// A binding as it is stored, without what it binds.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetPolicyRecord {
    /// The identifier.
    pub id: String,
    /// The namespace its manifest named.
    pub namespace: String,
    /// As it was handed in.
    pub manifest: String,
    /// The fleet's identifier.
    pub fleet: String,
    /// Counts up with each change, also of what it resolves to.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

struct Row {
    fleet_policy_id: String,
    namespace: String,
    manifest: String,
    fleet_id: String,
    version: i64,
    created_at: jiff_sqlx::Timestamp,
}

impl From<Row> for FleetPolicyRecord {
    fn from(row: Row) -> Self {
        let Row { fleet_policy_id, namespace, manifest, fleet_id, version, created_at } = row;
        Self { id: fleet_policy_id, namespace, manifest, fleet: fleet_id, version, created_at: created_at.to_jiff() }
    }
}

/// One binding.
pub async fn get(pool: &PgPool, id: &str) -> Result<Option<FleetPolicyRecord>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select fleet_policy_id, namespace, manifest, fleet_id, version, created_at
        from fleet_policy
        where fleet_policy_id = $1
        "#,
        id
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

/// One binding, held until the transaction ends.
pub async fn lock(tx: &mut Tx, id: &str) -> Result<Option<FleetPolicyRecord>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select fleet_policy_id, namespace, manifest, fleet_id, version, created_at
        from fleet_policy
        where fleet_policy_id = $1
        for update
        "#,
        id
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(Into::into))
}

/// Bindings after a key, in name order.
pub async fn list(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<FleetPolicyRecord>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select fleet_policy_id, namespace, manifest, fleet_id, version, created_at
        from fleet_policy
        where fleet_policy_id > $1 collate "C"
        order by fleet_policy_id collate "C"
        limit $2
        "#,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Makes a binding; its name must be free.
pub async fn insert(tx: &mut Tx, spec: &FleetPolicySpec, manifest: &str) -> Result<FleetPolicyRecord> {
    let inserted = sqlx::query_as!(
        Row,
        r#"
        insert into fleet_policy (fleet_policy_id, namespace, manifest, fleet_id, version)
        values ($1, $2, $3, $4, 1)
        returning fleet_policy_id, namespace, manifest, fleet_id, version, created_at
        "#,
        spec.name,
        spec.namespace,
        manifest,
        spec.fleet
    )
    .fetch_one(&mut **tx)
    .await;
    match inserted {
        Ok(row) => Ok(row.into()),
        Err(error) if db::violates(&error, "fleet_policy_pkey") => {
            Err(Error::conflict("CONTENTION", "another change came between; try again"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces a binding's manifest.
pub async fn update(tx: &mut Tx, spec: &FleetPolicySpec, manifest: &str, version: i64) -> Result<FleetPolicyRecord> {
    let row = sqlx::query_as!(
        Row,
        r#"
        update fleet_policy
        set manifest = $3, fleet_id = $4, version = version + 1
        where fleet_policy_id = $1
        and version = $2
        returning fleet_policy_id, namespace, manifest, fleet_id, version, created_at
        "#,
        spec.name,
        version,
        manifest,
        spec.fleet
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Into::into).ok_or_else(|| Error::conflict("CONTENTION", "another change came between; try again"))
}

/// Counts a change of what a binding resolves to.
pub async fn touch(tx: &mut Tx, id: &str) -> Result<FleetPolicyRecord> {
    let row = sqlx::query_as!(
        Row,
        r#"
        update fleet_policy
        set version = version + 1
        where fleet_policy_id = $1
        returning fleet_policy_id, namespace, manifest, fleet_id, version, created_at
        "#,
        id
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(row.into())
}

/// Deletes a binding with what it binds.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    sqlx::query!("delete from fleet_policy where fleet_policy_id = $1", id).execute(&mut **tx).await?;
    Ok(())
}
