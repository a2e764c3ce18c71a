//! The `bundle`, `owner_epoch`, `desired_owner` and `desired_item` tables.

use muster_kit::{
    Error, Result, Tx,
    db::{self, violates},
};
use serde_json::Value;
use sqlx::{PgPool, postgres::PgDatabaseError};

/// Stores bundles; those that are there stay. The commit of the item that names one makes it durable.
pub async fn put_bundles(pool: &PgPool, digests: &[String], contents: &[Vec<u8>]) -> Result<()> {
    let mut tx = db::begin(pool).await?;
    db::commit_lazily(&mut tx).await?;
    sqlx::query!(
        "insert into bundle (digest, content) select * from unnest($1::text[], $2::bytea[]) on conflict do nothing",
        digests,
        contents
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// A bundle's bytes.
pub async fn bundle(pool: &PgPool, digest: &str) -> Result<Vec<u8>> {
    sqlx::query_scalar!("select content from bundle where digest = $1", digest)
        .fetch_optional(pool)
        .await?
        .ok_or_else(|| Error::not_found(format_args!("the bundle {digest}")))
}

/// Whether a desired item of a cluster names a bundle.
pub async fn names_bundle(pool: &PgPool, cluster: &str, digest: &str) -> Result<bool> {
    let named = sqlx::query_scalar!(
        r#"
        select exists (
            select from desired_item d join cluster c using (cluster_id) where c.name = $1 and d.bundle_digest = $2
        ) as "named!"
        "#,
        cluster,
        digest
    )
    .fetch_one(pool)
    .await?;
    Ok(named)
}

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

/// Locks a cluster for a change by an owner; `None` where there is none or it has left.
pub async fn lock_receiver(tx: &mut Tx, cluster: &str, owner: &str) -> Result<Option<Receiver>> {
    let row = sqlx::query!(
        r#"
        select c.cluster_id, o.generation as "generation?", o.content_digest as "content_digest?"
        from cluster c
        left join desired_owner o on o.cluster_id = c.cluster_id and o.owner = $2
        where c.name = $1
        and c.state <> 'left'
        for update of c
        "#,
        cluster,
        owner
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Receiver {
        cluster_id: row.cluster_id,
        generation: row.generation.unwrap_or(0),
        content_digest: row.content_digest.unwrap_or_default(),
    }))
}

/// The next number of a cluster's sequence of desired changes.
pub async fn next_sequence(tx: &mut Tx, cluster_id: i64) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        "update cluster set desired_sequence = desired_sequence + 1 where cluster_id = $1 returning desired_sequence",
        cluster_id
    )
    .fetch_one(&mut **tx)
    .await?)
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

/// What one change of an owner writes into a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The cluster's row.
    pub cluster_id: i64,
    /// The owner.
    pub owner: &'a str,
    /// The life of the database.
    pub incarnation: i64,
    /// The owner's generation.
    pub generation: i64,
    /// The cluster's sequence number of the change.
    pub sequence: i64,
}

/// Writes items, each name once, in one statement: names, bundle digests, and the rest of each as proto3 JSON.
pub async fn put_items(tx: &mut Tx, stamp: Stamp<'_>, names: &[String], digests: &[String], options: &[Value]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into desired_item
            (cluster_id, owner, name, incarnation, generation, sequence, bundle_digest, tombstone, options)
        select $1, $2, name, $3, $4, $5, bundle_digest, false, options
        from unnest($6::text[], $7::text[], $8::jsonb[]) as new (name, bundle_digest, options)
        on conflict (cluster_id, owner, name) do update
        set incarnation = excluded.incarnation, generation = excluded.generation, sequence = excluded.sequence,
            bundle_digest = excluded.bundle_digest, tombstone = excluded.tombstone, options = excluded.options, updated_at = now()
        "#,
        stamp.cluster_id,
        stamp.owner,
        stamp.incarnation,
        stamp.generation,
        stamp.sequence,
        names,
        digests,
        options
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

/// Turns those of the named items that are there into tombstones, in one statement.
pub async fn bury(tx: &mut Tx, stamp: Stamp<'_>, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        update desired_item
        set tombstone = true, bundle_digest = null, incarnation = $4, generation = $5, sequence = $6, updated_at = now()
        where cluster_id = $1
        and owner = $2
        and name = any($3)
        and not tombstone
        "#,
        stamp.cluster_id,
        stamp.owner,
        names,
        stamp.incarnation,
        stamp.generation,
        stamp.sequence
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

/// Remembers an owner's change.
pub async fn set_owner(tx: &mut Tx, cluster_id: i64, owner: &str, generation: i64, content_digest: &str) -> Result<()> {
    sqlx::query!(
        r#"
        insert into desired_owner (cluster_id, owner, generation, content_digest)
        values ($1, $2, $3, $4)
        on conflict (cluster_id, owner) do update set generation = excluded.generation, content_digest = excluded.content_digest
        "#,
        cluster_id,
        owner,
        generation,
        content_digest
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
    let sequence = next_sequence(tx, cluster_id).await?;
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

/// Drops bundles that no item names and that are older than a day, at most 1,000.
pub async fn trim_bundles(pool: &PgPool) -> Result<u64> {
    let gone = sqlx::query!(
        r#"
        delete from bundle
        where digest in (
            select b.digest
            from bundle b
            where b.created_at < now() - interval '1 day'
            and not exists (select from desired_item d where d.bundle_digest = b.digest)
            limit 1000
        )
        "#
    )
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}
