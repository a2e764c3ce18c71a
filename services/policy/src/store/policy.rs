//! Policies by name, and the contents they share.

use crate::domain::{PolicyDocument, RuleInfo};
use jiff::Timestamp;
use muster_kit::{Error, Result, Tx, db};
use serde_json::Value;
use sqlx::PgPool;

/// A policy as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRecord {
    /// The identifier.
    pub id: String,
    /// The namespace its manifest named.
    pub namespace: String,
    /// As it was handed in.
    pub manifest: String,
    /// Digest of the content.
    pub digest: String,
    /// Its rules.
    pub rules: Vec<RuleInfo>,
    /// Counts up with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

struct Row {
    policy_id: String,
    namespace: String,
    manifest: String,
    digest: String,
    rules: Value,
    version: i64,
    created_at: jiff_sqlx::Timestamp,
}

impl TryFrom<Row> for PolicyRecord {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let Row { policy_id, namespace, manifest, digest, rules, version, created_at } = row;
        let rules = serde_json::from_value(rules).map_err(Error::internal)?;
        Ok(Self { id: policy_id, namespace, manifest, digest, rules, version, created_at: created_at.to_jiff() })
    }
}

/// Keeps a content; a repetition is nothing new.
pub async fn keep_document(tx: &mut Tx, document: &PolicyDocument) -> Result<()> {
    sqlx::query!(
        "insert into document (digest, content) values ($1, $2) on conflict do nothing",
        document.digest(),
        document.value()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One policy.
pub async fn get(pool: &PgPool, id: &str) -> Result<Option<PolicyRecord>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select policy_id, namespace, manifest, digest, rules, version, created_at
        from policy
        where policy_id = $1
        "#,
        id
    )
    .fetch_optional(pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// One policy, held until the transaction ends.
pub async fn lock(tx: &mut Tx, id: &str) -> Result<Option<PolicyRecord>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select policy_id, namespace, manifest, digest, rules, version, created_at
        from policy
        where policy_id = $1
        for update
        "#,
        id
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Policies after a key, in name order.
pub async fn list(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<PolicyRecord>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select policy_id, namespace, manifest, digest, rules, version, created_at
        from policy
        where policy_id > $1 collate "C"
        order by policy_id collate "C"
        limit $2
        "#,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Makes a policy; its name must be free.
pub async fn insert(tx: &mut Tx, document: &PolicyDocument, manifest: &str) -> Result<PolicyRecord> {
    let rules = serde_json::to_value(document.rules()).map_err(Error::internal)?;
    let inserted = sqlx::query_as!(
        Row,
        r#"
        insert into policy (policy_id, namespace, manifest, digest, rules, version)
        values ($1, $2, $3, $4, $5, 1)
        returning policy_id, namespace, manifest, digest, rules, version, created_at
        "#,
        document.name(),
        document.namespace(),
        manifest,
        document.digest(),
        rules
    )
    .fetch_one(&mut **tx)
    .await;
    match inserted {
        Ok(row) => row.try_into(),
        // Somebody was faster; the repetition finds the row.
        Err(error) if db::violates(&error, "policy_pkey") => {
            Err(Error::conflict("CONTENTION", "another change came between; try again"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces a policy's content at a version.
pub async fn update(tx: &mut Tx, document: &PolicyDocument, manifest: &str, version: i64) -> Result<PolicyRecord> {
    let rules = serde_json::to_value(document.rules()).map_err(Error::internal)?;
    let row = sqlx::query_as!(
        Row,
        r#"
        update policy
        set manifest = $3, digest = $4, rules = $5, version = version + 1
        where policy_id = $1
        and version = $2
        returning policy_id, namespace, manifest, digest, rules, version, created_at
        "#,
        document.name(),
        version,
        manifest,
        document.digest(),
        rules
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.ok_or_else(|| Error::conflict("CONTENTION", "another change came between; try again"))?.try_into()
}

/// Deletes a policy.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    sqlx::query!("delete from policy where policy_id = $1", id).execute(&mut **tx).await?;
    Ok(())
}
