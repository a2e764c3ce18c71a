//! What clusters were told, and the change that is on its way to each.

use std::collections::BTreeMap;

use muster_kit::{Result, Tx};
use sqlx::PgPool;

use crate::domain::desired::{Change, Item};
use crate::peers::Told;

/// A numbered change that is not known to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which cluster.
    pub cluster: String,
    /// The generation it builds on.
    pub base_generation: i64,
    /// Its own.
    pub generation: i64,
    /// Of its content.
    pub content_digest: String,
    /// Items to add or replace.
    pub upserts: BTreeMap<String, Item>,
    /// Items to remove.
    pub deletes: Vec<String>,
}

/// There may be something to tell a cluster.
pub async fn touch(tx: &mut Tx, cluster: &str) -> Result<()> {
    sqlx::query!(
        r#"
        insert into desired_cluster (cluster)
        values ($1)
        on conflict (cluster) do update
        set dirty = true
        "#,
        cluster
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// There may be something to tell every cluster that holds an item of this name.
pub async fn touch_holders(tx: &mut Tx, item: &str) -> Result<()> {
    sqlx::query!(
        "update desired_cluster set dirty = true where cluster in (select cluster from desired_item where name = $1)",
        item
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Clusters with something to tell, those with a pending change included.
pub async fn to_tell(pool: &PgPool, limit: i64) -> Result<Vec<String>> {
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
    .fetch_all(pool)
    .await?;
    Ok(clusters)
}

/// Takes a cluster's generation and lock; clears the mark that there is something to tell.
pub async fn lock(tx: &mut Tx, cluster: &str) -> Result<i64> {
    let generation = sqlx::query_scalar!(
        r#"
        insert into desired_cluster (cluster, dirty)
        values ($1, false)
        on conflict (cluster) do update
        set dirty = false
        returning generation
        "#,
        cluster
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(generation)
}

/// What a cluster was told.
pub async fn items(tx: &mut Tx, cluster: &str) -> Result<BTreeMap<String, Item>> {
    let rows = sqlx::query!(
        "select name, bundle_digest, traceparent, run, movable, after from desired_item where cluster = $1",
        cluster
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let item = Item {
                bundle_digest: row.bundle_digest,
                traceparent: row.traceparent,
                run: row.run.map(|run| (run, row.movable)),
                after: row.after,
            };
            (row.name, item)
        })
        .collect())
}

/// The pending change of a cluster.
pub async fn pending(tx: &mut Tx, cluster: &str) -> Result<Option<Pending>> {
    let Some(row) = sqlx::query!(
        "select base_generation, generation, content_digest, upserts, deletes from desired_change where cluster = $1",
        cluster
    )
    .fetch_optional(&mut **tx)
    .await?
    else {
        return Ok(None);
    };
    let mut items = items(tx, cluster).await?;
    items.retain(|name, _| row.upserts.contains(name));
    Ok(Some(Pending {
        cluster: cluster.to_owned(),
        base_generation: row.base_generation,
        generation: row.generation,
        content_digest: row.content_digest,
        upserts: items,
        deletes: row.deletes,
    }))
}

/// Numbers a change: from now on it is what the cluster was told, and it is sent until it is answered.
pub async fn number(tx: &mut Tx, cluster: &str, base: i64, content_digest: &str, change: &Change) -> Result<Pending> {
    let generation = base + 1;
    for (name, item) in &change.upserts {
        put_item(tx, cluster, name, generation, item).await?;
    }
    sqlx::query!("delete from desired_item where cluster = $1 and name = any($2)", cluster, &change.deletes)
        .execute(&mut **tx)
        .await?;
    let upserts: Vec<String> = change.upserts.keys().cloned().collect();
    sqlx::query!(
        r#"
        insert into desired_change (cluster, base_generation, generation, content_digest, upserts, deletes)
        values ($1, $2, $3, $4, $5, $6)
        "#,
        cluster,
        base,
        generation,
        content_digest,
        &upserts,
        &change.deletes
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("update desired_cluster set generation = $2 where cluster = $1", cluster, generation).execute(&mut **tx).await?;
    removed(tx, cluster, &change.deletes, generation).await?;
    Ok(Pending {
        cluster: cluster.to_owned(),
        base_generation: base,
        generation,
        content_digest: content_digest.to_owned(),
        upserts: change.upserts.clone(),
        deletes: change.deletes.clone(),
    })
}

/// Writes down that a cluster holds an item.
pub async fn put_item(tx: &mut Tx, cluster: &str, name: &str, generation: i64, item: &Item) -> Result<()> {
    let movable = item.run.as_ref().is_some_and(|(_, movable)| *movable);
    sqlx::query!(
        r#"
        insert into desired_item (cluster, name, generation, bundle_digest, traceparent, run, movable, after)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (cluster, name) do update
        set generation = excluded.generation,
            incarnation = null,
            bundle_digest = excluded.bundle_digest,
            traceparent = excluded.traceparent,
            run = excluded.run,
            movable = excluded.movable,
            after = excluded.after
        "#,
        cluster,
        name,
        generation,
        item.bundle_digest,
        item.traceparent,
        item.run.as_ref().map(|(run, _)| run.as_str()),
        movable,
        &item.after
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The change is in the registry.
pub async fn applied(tx: &mut Tx, cluster: &str, generation: i64, incarnation: u64) -> Result<()> {
    sqlx::query!("delete from desired_change where cluster = $1 and generation = $2", cluster, generation)
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "update desired_item set incarnation = $3 where cluster = $1 and generation = $2",
        cluster,
        generation,
        incarnation.cast_signed()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes the registry's word for what a cluster was told.
pub async fn adopt(tx: &mut Tx, cluster: &str, told: &Told) -> Result<()> {
    sqlx::query!("delete from desired_change where cluster = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!("delete from desired_item where cluster = $1", cluster).execute(&mut **tx).await?;
    for (name, (generation, item)) in &told.items {
        put_item(tx, cluster, name, *generation, item).await?;
    }
    for (name, generation) in &told.removed {
        removed(tx, cluster, std::slice::from_ref(name), *generation).await?;
    }
    sqlx::query!(
        r#"
        insert into desired_cluster (cluster, generation)
        values ($1, $2)
        on conflict (cluster) do update
        set generation = excluded.generation, dirty = true
        "#,
        cluster,
        told.generation
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

/// The end of the runs whose items go counts from the observation of the generation that removed them.
async fn removed(tx: &mut Tx, cluster: &str, names: &[String], generation: i64) -> Result<()> {
    sqlx::query!(
        r#"
        update run r
        set removed_generation = $3
        from job j
        where j.job_id = r.job_id
        and r.cluster = $1
        and 'jobs/' || j.namespace || '/' || j.name || '/' || r.epoch = any($2)
        "#,
        cluster,
        names,
        generation
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

/// The incarnation (`None` until the registry has answered) and generation in which a cluster was last told of an item;
/// `None` if it was not, or no more.
pub async fn generation(tx: &mut Tx, cluster: &str, name: &str) -> Result<Option<(Option<i64>, i64)>> {
    let row = sqlx::query!("select incarnation, generation from desired_item where cluster = $1 and name = $2", cluster, name)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| (row.incarnation, row.generation)))
}

/// Keeps a bundle by its content.
pub async fn put_bundle(tx: &mut Tx, digest: &str, content: &[u8]) -> Result<()> {
    sqlx::query!("insert into bundle (digest, content) values ($1, $2) on conflict do nothing", digest, content)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Bundles by digest.
pub async fn bundles(pool: &PgPool, digests: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let rows = sqlx::query!("select digest, content from bundle where digest = any($1)", digests).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.digest, row.content)).collect())
}

/// Drops bundles and manifests that nothing names, at most `limit` of each.
pub async fn sweep(tx: &mut Tx, limit: i64) -> Result<()> {
    sqlx::query!(
        r#"
        delete from bundle
        where digest in (
            select digest
            from bundle b
            where not exists (select 1 from desired_item i where i.bundle_digest = b.digest)
            and not exists (select 1 from run r where r.bundle_digest = b.digest and r.wanted)
            limit $1
        )
        "#,
        limit
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"
        delete from manifest
        where digest in (
            select digest from manifest m where not exists (select 1 from job j where j.manifest_digest = m.digest) limit $1
        )
        "#,
        limit
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
