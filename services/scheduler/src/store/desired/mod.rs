//! What clusters were told of each item, and which of them there may be something to tell. Changes are in [`change`].

pub mod change;

use std::collections::{BTreeMap, BTreeSet};

use muster_kit::{Result, Tx};
use serde::Serialize;
use sqlx::PgExecutor;
use sqlx::types::Json;

use super::column;
use crate::domain::desired::Item;

/// There may be something to tell some clusters. Locks the writer of desired state out of them.
pub async fn touch(tx: &mut Tx, clusters: &[String]) -> Result<()> {
    if clusters.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into desired_cluster (cluster, whole)
        select distinct cluster, false from unnest($1::text[]) as touched (cluster) order by cluster
        on conflict (cluster) do update
        set dirty = true
        "#,
        clusters
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// All that clusters should hold may differ from what they were told.
pub async fn touch_whole(tx: &mut Tx, clusters: &[String]) -> Result<()> {
    sqlx::query!(
        r#"
        insert into desired_cluster (cluster)
        select distinct cluster from unnest($1::text[]) as touched (cluster) order by cluster
        on conflict (cluster) do update
        set dirty = true, whole = true
        "#,
        clusters
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// All that every cluster which holds an item of this name should hold may differ from what it was told.
pub async fn touch_holders(tx: &mut Tx, item: &str) -> Result<()> {
    sqlx::query!(
        r#"
        update desired_cluster
        set dirty = true, whole = true
        where cluster in (select cluster from desired_item where name = $1)
        "#,
        item
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Which of some (cluster, item) their clusters were told of. Locks the writer of desired state out, so that it stays so until the
/// transaction ends, and leaves the clusters to be told anew.
pub async fn told(tx: &mut Tx, items: &[(String, String)]) -> Result<BTreeSet<(String, String)>> {
    if items.is_empty() {
        return Ok(BTreeSet::new());
    }
    touch(tx, &items.iter().map(|(cluster, _)| cluster.clone()).collect::<Vec<_>>()).await?;
    Ok(generations(tx, items).await?.into_keys().collect())
}

/// Clusters with something to tell, those with a pending change included.
pub async fn to_tell(executor: impl PgExecutor<'_>, limit: i64) -> Result<Vec<String>> {
    let clusters = sqlx::query_scalar!(
        r#"
        select cluster as "cluster!"
        from (
            select cluster from desired_cluster where dirty
            union
            select cluster from desired_change
        ) waiting
        order by cluster
        limit $1
        "#,
        limit
    )
    .fetch_all(executor)
    .await?;
    Ok(clusters)
}

/// A cluster, locked.
pub struct Locked {
    /// The last generation that was numbered.
    pub generation: i64,
    /// Whether everything is to be held against what it was told.
    pub whole: bool,
}

/// Takes the locks of clusters; clears the marks that there is something to tell them.
pub async fn lock(tx: &mut Tx, clusters: &[String]) -> Result<BTreeMap<String, Locked>> {
    if clusters.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query!(
        r#"
        insert into desired_cluster (cluster, dirty)
        select distinct cluster, false from unnest($1::text[]) as asked (cluster) order by cluster
        on conflict (cluster) do update
        set dirty = false
        returning cluster, generation, whole
        "#,
        clusters
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.cluster, Locked { generation: row.generation, whole: row.whole })).collect())
}

struct HeldRow {
    cluster: String,
    name: String,
    bundle_digest: String,
    traceparent: String,
    run: Option<String>,
    movable: bool,
    after: Vec<String>,
}

/// What clusters were told of items, by cluster and item.
pub type Held = BTreeMap<String, BTreeMap<String, Item>>;

fn held(rows: Vec<HeldRow>) -> Held {
    let mut held = Held::new();
    for HeldRow { cluster, name, bundle_digest, traceparent, run, movable, after } in rows {
        let item = Item { bundle_digest, traceparent, run: run.map(|run| (run, movable)), after };
        held.entry(cluster).or_default().insert(name, item);
    }
    held
}

/// What a cluster was told of all items.
pub async fn all_items(tx: &mut Tx, cluster: &str) -> Result<BTreeMap<String, Item>> {
    let rows = sqlx::query_as!(
        HeldRow,
        "select cluster, name, bundle_digest, traceparent, run, movable, after from desired_item where cluster = $1",
        cluster
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(held(rows).remove(cluster).unwrap_or_default())
}

/// What was told of some (cluster, item).
pub async fn items(tx: &mut Tx, items: &[(String, String)]) -> Result<Held> {
    if items.is_empty() {
        return Ok(Held::new());
    }
    let (clusters, names): (Vec<String>, Vec<String>) = items.iter().cloned().unzip();
    let rows = sqlx::query_as!(
        HeldRow,
        r#"
        select cluster, name, bundle_digest, traceparent, run, movable, after
        from desired_item
        where (cluster, name) in (select * from unnest($1::text[], $2::text[]))
        "#,
        &clusters,
        &names
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(held(rows))
}

#[derive(Serialize)]
struct ItemRow<'a> {
    cluster: &'a str,
    name: &'a str,
    generation: i64,
    bundle_digest: &'a str,
    traceparent: &'a str,
    run: Option<&'a str>,
    movable: bool,
    after: &'a [String],
}

impl<'a> ItemRow<'a> {
    fn of(cluster: &'a str, name: &'a str, generation: i64, item: &'a Item) -> Self {
        let Item { bundle_digest, traceparent, run, after } = item;
        let movable = run.as_ref().is_some_and(|(_, movable)| *movable);
        let run = run.as_ref().map(|(run, _)| run.as_str());
        Self { cluster, name, generation, bundle_digest, traceparent, run, movable, after }
    }
}

/// Writes down that clusters hold items, as the registry will say in this incarnation, if that is known.
async fn put_items(tx: &mut Tx, items: &[ItemRow<'_>], incarnation: Option<u64>) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into desired_item (cluster, name, generation, incarnation, bundle_digest, traceparent, run, movable, after)
        select cluster, name, generation, $2, bundle_digest, traceparent, run, movable, after
        from jsonb_to_recordset($1) as n (
            cluster text, name text, generation bigint, bundle_digest text, traceparent text, run text, movable boolean, after text[]
        )
        on conflict (cluster, name) do update
        set generation = excluded.generation,
            incarnation = excluded.incarnation,
            bundle_digest = excluded.bundle_digest,
            traceparent = excluded.traceparent,
            run = excluded.run,
            movable = excluded.movable,
            after = excluded.after
        "#,
        Json(items) as _,
        incarnation.map(u64::cast_signed)
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Clears the marks of runs, by (job, epoch, part), that were held against what their cluster was told.
pub async fn mark_told(tx: &mut Tx, runs: &[(i64, u32, u32)]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let jobs: Vec<i64> = runs.iter().map(|(job, _, _)| *job).collect();
    let epochs: Vec<i32> = runs.iter().map(|(_, epoch, _)| column(*epoch)).collect();
    let parts: Vec<i32> = runs.iter().map(|(_, _, part)| column(*part)).collect();
    sqlx::query!(
        r#"
        update run
        set untold = false
        where (job_id, epoch, part) in (select * from unnest($1::bigint[], $2::integer[], $3::integer[]))
        "#,
        &jobs,
        &epochs,
        &parts
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Everything of a cluster was held against what it was told.
pub async fn mark_whole(tx: &mut Tx, cluster: &str) -> Result<()> {
    sqlx::query!("update desired_cluster set whole = false where cluster = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!(
        "update run set untold = false where cluster = $1 and untold and (bundle_digest is not null or not wanted)",
        cluster
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A cluster that was forgotten is a member again: it is told what it should hold.
pub async fn remember(tx: &mut Tx, cluster: &str) -> Result<()> {
    sqlx::query!(
        r#"
        insert into desired_cluster (cluster)
        select $1
        where exists (select 1 from run where cluster = $1 and wanted)
        on conflict (cluster) do nothing
        "#,
        cluster
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets what a cluster that is no more was told.
pub async fn forget(tx: &mut Tx, cluster: &str) -> Result<()> {
    sqlx::query!("delete from desired_change where cluster = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!("delete from desired_item where cluster = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!("delete from desired_cluster where cluster = $1", cluster).execute(&mut **tx).await?;
    Ok(())
}

/// The incarnation (`None` until the registry has answered) and generation in which clusters were last told of some (cluster,
/// item); those that are missing they were not told of, or no more.
pub async fn generations(tx: &mut Tx, items: &[(String, String)]) -> Result<BTreeMap<(String, String), (Option<i64>, i64)>> {
    let (clusters, names): (Vec<String>, Vec<String>) = items.iter().cloned().unzip();
    let rows = sqlx::query!(
        r#"
        select cluster, name, incarnation, generation
        from desired_item
        where (cluster, name) in (select * from unnest($1::text[], $2::text[]))
        "#,
        &clusters,
        &names
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.cluster, row.name), (row.incarnation, row.generation))).collect())
}
