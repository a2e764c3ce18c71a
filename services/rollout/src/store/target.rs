//! What each target of an application runs: desired, last good, completed and blocked renderings.

use muster_core::name::ApplicationName;
use muster_kit::{Error, Result, Tx};
use sqlx::{PgConnection, PgPool};
use std::collections::{BTreeMap, BTreeSet};

/// What one target of an application runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetRow {
    /// What it is told to run, before composition.
    pub desired_digest: Option<String>,
    /// What the last completed release rendered for it.
    pub last_good_digest: Option<String>,
    /// Managed workload → subset, of last good.
    pub last_good_subsets: BTreeMap<String, String>,
    /// It may run something else than last good.
    pub touched: bool,
}

/// Every target of an application, by cluster.
pub async fn of(connection: &mut PgConnection, name: &ApplicationName) -> Result<BTreeMap<String, TargetRow>> {
    let rows = sqlx::query!(
        r#"
        select cluster, desired_digest, last_good_digest, last_good_subsets, touched
        from application_target
        where namespace = $1 and application = $2
        "#,
        name.namespace(),
        name.application()
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let last_good_subsets = serde_json::from_value(row.last_good_subsets).map_err(Error::internal)?;
            let target = TargetRow {
                desired_digest: row.desired_digest,
                last_good_digest: row.last_good_digest,
                last_good_subsets,
                touched: row.touched,
            };
            Ok((row.cluster, target))
        })
        .collect()
}

/// Stores one.
pub async fn save(tx: &mut Tx, name: &ApplicationName, cluster: &str, target: &TargetRow) -> Result<()> {
    let subsets = serde_json::to_value(&target.last_good_subsets).map_err(Error::internal)?;
    sqlx::query!(
        r#"
        insert into application_target
            (namespace, application, cluster, desired_digest, last_good_digest, last_good_subsets, touched)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (namespace, application, cluster) do update
        set desired_digest = excluded.desired_digest, last_good_digest = excluded.last_good_digest,
            last_good_subsets = excluded.last_good_subsets, touched = excluded.touched
        "#,
        name.namespace(),
        name.application(),
        cluster,
        target.desired_digest,
        target.last_good_digest,
        subsets,
        target.touched
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// (cluster, rendered digest) of every rendering that was completed.
pub async fn completed(pool: &PgPool, name: &ApplicationName) -> Result<BTreeSet<(String, String)>> {
    let rows = sqlx::query!(
        "select cluster, rendered_digest from completed_rendering where namespace = $1 and application = $2",
        name.namespace(),
        name.application()
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.cluster, row.rendered_digest)).collect())
}

/// (cluster, rendered digest) → release of every rendering that is blocked.
pub async fn blocked(pool: &PgPool, name: &ApplicationName) -> Result<BTreeMap<(String, String), String>> {
    let rows = sqlx::query!(
        "select cluster, rendered_digest, release from blocked_rendering where namespace = $1 and application = $2",
        name.namespace(),
        name.application()
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.cluster, row.rendered_digest), row.release)).collect())
}

/// A rendering was completed at a target; what was blocked of it is free again.
pub async fn complete(tx: &mut Tx, name: &ApplicationName, cluster: &str, digest: &str) -> Result<()> {
    sqlx::query!(
        "insert into completed_rendering (namespace, application, cluster, rendered_digest) values ($1, $2, $3, $4) on conflict do nothing",
        name.namespace(),
        name.application(),
        cluster,
        digest
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A rendering failed with a release.
pub async fn block(tx: &mut Tx, name: &ApplicationName, cluster: &str, digest: &str, release: &str) -> Result<()> {
    sqlx::query!(
        r#"
        insert into blocked_rendering (namespace, application, cluster, rendered_digest, release)
        values ($1, $2, $3, $4, $5)
        on conflict (namespace, application, cluster, rendered_digest) do update set release = excluded.release
        "#,
        name.namespace(),
        name.application(),
        cluster,
        digest,
        release
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes the block off everything that a release rendered.
pub async fn unblock(tx: &mut Tx, name: &ApplicationName, release: &str) -> Result<()> {
    sqlx::query!(
        r#"
        delete from blocked_rendering b
        using release_target t
        where b.namespace = $1 and b.application = $2
        and t.namespace = b.namespace and t.application = b.application and t.release = $3
        and t.cluster = b.cluster and t.rendered_digest = b.rendered_digest
        "#,
        name.namespace(),
        name.application(),
        release
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
