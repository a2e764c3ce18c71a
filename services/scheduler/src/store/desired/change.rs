//! Numbered changes of clusters: rows before they are sent, until the registry has answered.

use std::collections::BTreeMap;

use muster_kit::{Result, Tx};
use serde::Serialize;
use sqlx::types::Json;

use super::{ItemRow, items, put_items};
use crate::domain::desired::Item;
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

/// The pending changes of clusters, of those that have one.
pub async fn pending(tx: &mut Tx, clusters: &[String]) -> Result<Vec<Pending>> {
    let rows = sqlx::query!(
        r#"
        select cluster, base_generation, generation, content_digest, upserts, deletes
        from desired_change
        where cluster = any($1)
        order by cluster
        "#,
        clusters
    )
    .fetch_all(&mut **tx)
    .await?;
    let names: Vec<(String, String)> =
        rows.iter().flat_map(|row| row.upserts.iter().map(|name| (row.cluster.clone(), name.clone()))).collect();
    let mut held = items(tx, &names).await?;
    let pending = rows.into_iter().map(|row| Pending {
        upserts: held.remove(&row.cluster).unwrap_or_default(),
        cluster: row.cluster,
        base_generation: row.base_generation,
        generation: row.generation,
        content_digest: row.content_digest,
        deletes: row.deletes,
    });
    Ok(pending.collect())
}

#[derive(Serialize)]
struct ChangeRow<'a> {
    cluster: &'a str,
    base_generation: i64,
    generation: i64,
    content_digest: &'a str,
    upserts: Vec<&'a str>,
    deletes: &'a [String],
}

/// Numbers changes, one a cluster: from now on they are what the clusters were told, and they are sent until they are answered,
/// by the registry in this incarnation as far as is known.
pub async fn number(tx: &mut Tx, changes: &[Pending], incarnation: Option<u64>) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut put = Vec::new();
    let (mut rows, mut deleted) = (Vec::with_capacity(changes.len()), (Vec::new(), Vec::new()));
    for Pending { cluster, base_generation, generation, content_digest, upserts, deletes } in changes {
        put.extend(upserts.iter().map(|(name, item)| ItemRow::of(cluster, name, *generation, item)));
        for name in deletes {
            deleted.0.push(cluster.clone());
            deleted.1.push(name.clone());
        }
        let upserts = upserts.keys().map(String::as_str).collect();
        rows.push(ChangeRow {
            cluster,
            base_generation: *base_generation,
            generation: *generation,
            content_digest,
            upserts,
            deletes,
        });
    }
    put_items(tx, &put, incarnation).await?;
    if !deleted.0.is_empty() {
        sqlx::query!(
            "delete from desired_item where (cluster, name) in (select * from unnest($1::text[], $2::text[]))",
            &deleted.0,
            &deleted.1
        )
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query!(
        r#"
        with change as (
            insert into desired_change (cluster, base_generation, generation, content_digest, upserts, deletes)
            select cluster, base_generation, generation, content_digest, upserts, deletes
            from jsonb_to_recordset($1) as n (
                cluster text, base_generation bigint, generation bigint, content_digest text, upserts text[], deletes text[]
            )
            returning cluster, generation
        )
        update desired_cluster d
        set generation = change.generation
        from change
        where d.cluster = change.cluster
        "#,
        Json(rows) as _
    )
    .execute(&mut **tx)
    .await?;
    for change in changes {
        removed(tx, &change.cluster, &change.deletes, change.generation).await?;
    }
    Ok(())
}

/// Changes are in the registry, each in the incarnation that goes with it.
pub async fn applied(tx: &mut Tx, changes: &[(&Pending, u64)]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let clusters: Vec<String> = changes.iter().map(|(change, _)| change.cluster.clone()).collect();
    let generations: Vec<i64> = changes.iter().map(|(change, _)| change.generation).collect();
    let incarnations: Vec<i64> = changes.iter().map(|(_, incarnation)| incarnation.cast_signed()).collect();
    sqlx::query!(
        r#"
        delete from desired_change d
        using unnest($1::text[], $2::bigint[]) as done (cluster, generation)
        where d.cluster = done.cluster
        and d.generation = done.generation
        "#,
        &clusters,
        &generations
    )
    .execute(&mut **tx)
    .await?;
    let (mut of, mut names) = (Vec::new(), Vec::new());
    for (change, _) in changes {
        for name in change.upserts.keys() {
            of.push(change.cluster.clone());
            names.push(name.clone());
        }
    }
    sqlx::query!(
        r#"
        update desired_item i
        set incarnation = done.incarnation
        from unnest($1::text[], $2::bigint[], $3::bigint[]) as done (cluster, generation, incarnation)
        join unnest($4::text[], $5::text[]) as item (cluster, name) using (cluster)
        where i.cluster = item.cluster
        and i.name = item.name
        and i.generation = done.generation
        and i.incarnation is distinct from done.incarnation
        "#,
        &clusters,
        &generations,
        &incarnations,
        &of,
        &names
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes the registry's word for what a cluster was told.
pub async fn adopt(tx: &mut Tx, cluster: &str, told: &Told) -> Result<()> {
    sqlx::query!("delete from desired_change where cluster = $1", cluster).execute(&mut **tx).await?;
    sqlx::query!("delete from desired_item where cluster = $1", cluster).execute(&mut **tx).await?;
    let rows = told.items.iter().map(|(name, (generation, item))| ItemRow::of(cluster, name, *generation, item));
    put_items(tx, &rows.collect::<Vec<_>>(), None).await?;
    for (name, generation) in &told.removed {
        removed(tx, cluster, std::slice::from_ref(name), *generation).await?;
    }
    sqlx::query!(
        r#"
        insert into desired_cluster (cluster, generation)
        values ($1, $2)
        on conflict (cluster) do update
        set generation = excluded.generation, dirty = true, whole = true
        "#,
        cluster,
        told.generation
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The end of the runs whose items go counts from the observation of the generation that removed them.
async fn removed(tx: &mut Tx, cluster: &str, names: &[String], generation: i64) -> Result<()> {
    let runs: Vec<(String, String, i32)> = names
        .iter()
        .filter_map(|name| {
            let mut parts = name.strip_prefix("jobs/")?.split('/');
            Some((parts.next()?.to_owned(), parts.next()?.to_owned(), parts.next()?.parse().ok()?))
        })
        .collect();
    if runs.is_empty() {
        return Ok(());
    }
    let namespaces: Vec<String> = runs.iter().map(|(namespace, _, _)| namespace.clone()).collect();
    let jobs: Vec<String> = runs.iter().map(|(_, job, _)| job.clone()).collect();
    let epochs: Vec<i32> = runs.iter().map(|(_, _, epoch)| *epoch).collect();
    sqlx::query!(
        r#"
        update run r
        set removed_generation = $2
        from unnest($3::text[], $4::text[], $5::integer[]) as gone (namespace, job, epoch)
        join job j on j.namespace = gone.namespace and j.name = gone.job
        where r.job_id = j.job_id
        and r.epoch = gone.epoch
        and r.cluster = $1
        "#,
        cluster,
        generation,
        &namespaces,
        &jobs,
        &epochs
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
