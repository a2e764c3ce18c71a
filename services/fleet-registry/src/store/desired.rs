//! The `owner_epoch`, `desired_owner` and `desired_item` tables.

use muster_kit::{Error, Result, Tx, db::violates};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgPool, postgres::PgDatabaseError, types::Json};
use std::collections::HashMap;

/// Takes note of an owner's leader epoch; a Conflict where a greater one was seen.
pub async fn check_epoch(tx: &mut Tx, owner: &str, epoch: i64) -> Result<()> {
    let current = sqlx::query_scalar!(
        r#"
        insert into owner_epoch as known (owner, epoch)
        values ($1, $2)
        on conflict (owner) do update set epoch = greatest(known.epoch, excluded.epoch)
        returning epoch
        "#,
        owner,
        epoch
    )
    .fetch_one(&mut **tx)
    .await?;
    if current > epoch {
        return Err(Error::conflict(
            "OLD_LEADER",
            format!("leader_epoch: {epoch} is older than {current}, which was seen before"),
        ));
    }
    Ok(())
}

/// A cluster that takes desired state, locked.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The row.
    pub cluster_id: i64,
    /// The owner's last generation there; 0 before the first.
    pub generation: i64,
    /// Of the last change.
    pub content_digest: String,
}

/// Locks clusters for changes by an owner, in name order: two callers never wait for each other. Those that are not there or have
/// left are missing.
pub async fn lock_receivers(tx: &mut Tx, clusters: &[String], owner: &str) -> Result<HashMap<String, Receiver>> {
    let rows = sqlx::query!(
        r#"
        select c.name, c.cluster_id, o.generation as "generation?", o.content_digest as "content_digest?"
        from cluster c
        left join desired_owner o on o.cluster_id = c.cluster_id and o.owner = $2
        where c.name = any($1)
        and c.state <> 'left'
        order by c.name
        for update of c
        "#,
        clusters,
        owner
    )
    .fetch_all(&mut **tx)
    .await?;
    let receivers = rows.into_iter().map(|row| {
        let receiver = Receiver {
            cluster_id: row.cluster_id,
            generation: row.generation.unwrap_or(0),
            content_digest: row.content_digest.unwrap_or_default(),
        };
        (row.name, receiver)
    });
    Ok(receivers.collect())
}

/// The next numbers of clusters' sequences of desired changes, by row.
pub async fn next_sequences(tx: &mut Tx, clusters: &[i64]) -> Result<HashMap<i64, i64>> {
    let rows = sqlx::query!(
        r#"
        update cluster
        set desired_sequence = desired_sequence + 1
        where cluster_id = any($1)
        returning cluster_id, desired_sequence
        "#,
        clusters
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.cluster_id, row.desired_sequence)).collect())
}

/// A desired item as it is stored.
#[derive(Debug, Clone)]
pub struct Item {
    /// The owner.
    pub owner: String,
    /// The name.
    pub name: String,
    /// The life of the database in which it was written.
    pub incarnation: i64,
    /// The owner's generation in which it was written.
    pub generation: i64,
    /// The cluster's sequence number of that write.
    pub sequence: i64,
    /// Absent for a tombstone.
    pub bundle_digest: Option<String>,
    /// Whether it is to go.
    pub tombstone: bool,
    /// The rest of the item, as proto3 JSON.
    pub options: Value,
}

/// Which change of a cluster writes an item.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stamp {
    /// The cluster's row.
    pub cluster_id: i64,
    /// The owner's generation.
    pub generation: i64,
    /// The cluster's sequence number of the change.
    pub sequence: i64,
}

/// An item to be written.
#[derive(Debug, Serialize)]
pub struct NewItem<'a> {
    /// By which change.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The name.
    pub name: &'a str,
    /// Its bundle.
    pub bundle_digest: &'a str,
    /// The rest of it, as proto3 JSON.
    pub options: Value,
}

/// Writes an owner's items, each of a cluster once, in one statement.
pub async fn put_items(tx: &mut Tx, owner: &str, incarnation: i64, items: &[NewItem<'_>]) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into desired_item
            (cluster_id, owner, name, incarnation, generation, sequence, bundle_digest, tombstone, options)
        select cluster_id, $1, name, $2, generation, sequence, bundle_digest, false, options
        from jsonb_to_recordset($3) as new (
            cluster_id bigint, name text, generation bigint, sequence bigint, bundle_digest text, options jsonb
        )
        on conflict (cluster_id, owner, name) do update
        set incarnation = excluded.incarnation, generation = excluded.generation, sequence = excluded.sequence,
            bundle_digest = excluded.bundle_digest, tombstone = excluded.tombstone, options = excluded.options, updated_at = now()
        "#,
        owner,
        incarnation,
        Json(items) as _
    )
    .execute(&mut **tx)
    .await
    .map_err(|error| {
        if violates(&error, "desired_item_has_its_bundle") {
            let digest = missing_key(&error).unwrap_or("one of them");
            Error::invalid("changes.upserts.bundle_digest", format!("{digest} was never stored; PutBundles comes first"))
        } else {
            error.into()
        }
    })?;
    Ok(())
}

/// The value that a foreign key did not find, by Postgres' `Key (column)=(value) is not present in …`.
fn missing_key(error: &sqlx::Error) -> Option<&str> {
    let detail = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.detail()?;
    Some(detail.split_once(")=(")?.1.split_once(')')?.0)
}

/// Turns those of an owner's named items that are there into tombstones, in one statement.
pub async fn bury(tx: &mut Tx, owner: &str, incarnation: i64, gone: &[(Stamp, String)]) -> Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let clusters: Vec<i64> = gone.iter().map(|(stamp, _)| stamp.cluster_id).collect();
    let generations: Vec<i64> = gone.iter().map(|(stamp, _)| stamp.generation).collect();
    let sequences: Vec<i64> = gone.iter().map(|(stamp, _)| stamp.sequence).collect();
    let names: Vec<String> = gone.iter().map(|(_, name)| name.clone()).collect();
    sqlx::query!(
        r#"
        update desired_item d
        set tombstone = true, bundle_digest = null, incarnation = $2, generation = gone.generation, sequence = gone.sequence,
            updated_at = now()
        from unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::text[]) as gone (cluster_id, generation, sequence, name)
        where d.cluster_id = gone.cluster_id
        and d.owner = $1
        and d.name = gone.name
        and not d.tombstone
        "#,
        owner,
        incarnation,
        &clusters,
        &generations,
        &sequences,
        &names
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Names of an owner's living items in a cluster.
pub async fn names(tx: &mut Tx, cluster_id: i64, owner: &str) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!(
        "select name from desired_item where cluster_id = $1 and owner = $2 and not tombstone order by name",
        cluster_id,
        owner
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// Remembers an owner's changes: (cluster, generation, digest of the content), each of another cluster.
pub async fn set_owners(tx: &mut Tx, owner: &str, changes: &[(i64, i64, &str)]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let clusters: Vec<i64> = changes.iter().map(|(cluster, _, _)| *cluster).collect();
    let generations: Vec<i64> = changes.iter().map(|(_, generation, _)| *generation).collect();
    let digests: Vec<String> = changes.iter().map(|(_, _, digest)| (*digest).to_owned()).collect();
    sqlx::query!(
        r#"
        insert into desired_owner (cluster_id, owner, generation, content_digest)
        select cluster_id, $1, generation, content_digest
        from unnest($2::bigint[], $3::bigint[], $4::text[]) as new (cluster_id, generation, content_digest)
        on conflict (cluster_id, owner) do update set generation = excluded.generation, content_digest = excluded.content_digest
        "#,
        owner,
        &clusters,
        &generations,
        &digests
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Items written after the sequence numbers of some clusters, (row, sequence), each with its cluster's row: oldest first, and each
/// change whole, since what was sent is remembered by its number. About 2,000 of a cluster, and the next time the rest.
pub async fn after(pool: &PgPool, clusters: &[(i64, i64)]) -> Result<Vec<(i64, Item)>> {
    let (ids, sequences): (Vec<i64>, Vec<i64>) = clusters.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        select
            asked.cluster_id as "cluster_id!", d.owner, d.name, d.incarnation, d.generation, d.sequence, d.bundle_digest, d.tombstone,
            d.options
        from unnest($1::bigint[], $2::bigint[]) as asked (cluster_id, sequence)
        cross join lateral (
            select *
            from desired_item i
            where i.cluster_id = asked.cluster_id
            and i.sequence > asked.sequence
            order by i.sequence
            fetch first 2000 rows with ties
        ) d
        order by d.cluster_id, d.sequence, d.owner, d.name
        "#,
        &ids,
        &sequences
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let item = Item {
                owner: row.owner,
                name: row.name,
                incarnation: row.incarnation,
                generation: row.generation,
                sequence: row.sequence,
                bundle_digest: row.bundle_digest,
                tombstone: row.tombstone,
                options: row.options,
            };
            (row.cluster_id, item)
        })
        .collect())
}

/// All of a cluster's items and its sequence, as of one snapshot.
pub async fn snapshot(tx: &mut Tx, cluster_id: i64) -> Result<(Vec<Item>, i64)> {
    let sequence = sqlx::query_scalar!("select desired_sequence from cluster where cluster_id = $1 for share", cluster_id)
        .fetch_one(&mut **tx)
        .await?;
    let items = sqlx::query_as!(
        Item,
        r#"
        select owner, name, incarnation, generation, sequence, bundle_digest, tombstone, options
        from desired_item
        where cluster_id = $1
        order by sequence, owner, name
        "#,
        cluster_id
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok((items, sequence))
}

/// A page of an owner's living items over all clusters, after `(cluster, name)`.
pub async fn page(pool: &PgPool, owner: &str, after: (&str, &str), limit: i64) -> Result<Vec<(String, Item)>> {
    let rows = sqlx::query!(
        r#"
        select
            c.name as cluster, d.owner, d.name, d.incarnation, d.generation, d.sequence, d.bundle_digest, d.tombstone, d.options
        from desired_item d
        join cluster c using (cluster_id)
        where d.owner = $1
        and not d.tombstone
        and (c.name, d.name) > ($2, $3)
        order by c.name, d.name
        limit $4
        "#,
        owner,
        after.0,
        after.1,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let item = Item {
                owner: row.owner,
                name: row.name,
                incarnation: row.incarnation,
                generation: row.generation,
                sequence: row.sequence,
                bundle_digest: row.bundle_digest,
                tombstone: row.tombstone,
                options: row.options,
            };
            (row.cluster, item)
        })
        .collect())
}

/// An owner's last generation in every cluster it has written to.
pub async fn generations(pool: &PgPool, owner: &str) -> Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        "select c.name, o.generation from desired_owner o join cluster c using (cluster_id) where o.owner = $1 order by c.name",
        owner
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.generation)).collect())
}

/// Writes every item and owner of a cluster anew in the present incarnation, so that an agent that remembers other
/// content takes ours.
pub async fn renew(tx: &mut Tx, cluster_id: i64, incarnation: i64) -> Result<()> {
    let sequences = next_sequences(tx, &[cluster_id]).await?;
    let sequence = sequences.get(&cluster_id).ok_or_else(|| Error::not_found("the cluster"))?;
    sqlx::query!(
        "update desired_item set incarnation = $2, sequence = $3 where cluster_id = $1",
        cluster_id,
        incarnation,
        sequence
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
