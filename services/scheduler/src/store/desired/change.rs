//! Numbered changes of clusters: rows before they are sent, until the registry has answered.

use std::collections::BTreeMap;

use muster_kit::{Result, Tx};

use super::{items, put_items};
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
    Ok(Some(Pending {
        cluster: cluster.to_owned(),
        base_generation: row.base_generation,
        generation: row.generation,
        content_digest: row.content_digest,
        upserts: items(tx, cluster, Some(&row.upserts)).await?,
        deletes: row.deletes,
    }))
}

/// Numbers a change: from now on it is what the cluster was told, and it is sent until it is answered.
pub async fn number(tx: &mut Tx, cluster: &str, base: i64, content_digest: &str, change: &Change) -> Result<Pending> {
    let generation = base + 1;
    let items: Vec<_> = change.upserts.iter().map(|(name, item)| (name.as_str(), generation, item)).collect();
    put_items(tx, cluster, &items).await?;
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

/// A change is in the registry, in this incarnation of its.
pub async fn applied(tx: &mut Tx, change: &Pending, incarnation: u64) -> Result<()> {
    let Pending { cluster, base_generation: _, generation, content_digest: _, upserts, deletes: _ } = change;
    sqlx::query!("delete from desired_change where cluster = $1 and generation = $2", cluster, generation)
        .execute(&mut **tx)
        .await?;
    let names: Vec<String> = upserts.keys().cloned().collect();
    sqlx::query!(
        "update desired_item set incarnation = $3 where cluster = $1 and generation = $2 and name = any($4)",
        cluster,
        generation,
        incarnation.cast_signed(),
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
    let items: Vec<_> = told.items.iter().map(|(name, (generation, item))| (name.as_str(), *generation, item)).collect();
    put_items(tx, cluster, &items).await?;
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
