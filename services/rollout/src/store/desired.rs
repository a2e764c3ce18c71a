//! Bundles, what the registry is to be told, and what agents say about it.

use jiff::Timestamp;
use muster_core::bundle::{self, Digest};
use muster_kit::{Error, Result, Tx, time::to_db};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeMap;

/// The rollout's item of an application: the same name in every cluster.
pub fn item_of(application: &muster_core::name::ApplicationName) -> String {
    format!("applications/{}/{}", application.namespace(), application.application())
}

/// Stores an object list; gives its digest.
pub async fn put_bundle(tx: &mut Tx, objects: &[Value]) -> Result<String> {
    let (digest, content) =
        bundle::encode(objects).map_err(|error| Error::precondition("BUNDLE_TOO_LARGE", error.to_string()))?;
    sqlx::query!(
        "insert into bundle (digest, content) values ($1, $2) on conflict (digest) do update set created_at = now()",
        digest.as_str(),
        content
    )
    .execute(&mut **tx)
    .await?;
    Ok(digest.as_str().to_owned())
}

/// The objects of a digest.
pub async fn bundle(connection: &mut PgConnection, digest: &str) -> Result<Vec<Value>> {
    let content = sqlx::query_scalar!("select content from bundle where digest = $1", digest)
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| Error::internal(anyhow::anyhow!("the bundle {digest} is not stored")))?;
    let digest: Digest = digest.parse().map_err(|error: bundle::BundleError| Error::internal(error))?;
    bundle::decode(&digest, &content).map_err(Error::internal)
}

/// What a cluster is to hold under an item's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The composed bundle.
    pub bundle_digest: String,
    /// Whether drift is repaired.
    pub self_heal: bool,
    /// Whether objects that left the bundle are removed.
    pub prune: bool,
    /// The item is to be removed.
    pub tombstone: bool,
    /// What caused it.
    pub traceparent: String,
}

/// Wishes something of a cluster; gives the item's revision, which counts up also where nothing else changes.
pub async fn wish(tx: &mut Tx, cluster: &str, item: &str, wish: &Wish) -> Result<i64> {
    let revision = sqlx::query_scalar!(
        r#"
        insert into desired_item as known (cluster, item, bundle_digest, self_heal, prune, tombstone, traceparent)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (cluster, item) do update
        set bundle_digest = excluded.bundle_digest, self_heal = excluded.self_heal, prune = excluded.prune,
            tombstone = excluded.tombstone, traceparent = excluded.traceparent, revision = known.revision + 1
        returning revision
        "#,
        cluster,
        item,
        wish.bundle_digest,
        wish.self_heal,
        wish.prune,
        wish.tombstone,
        wish.traceparent
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(revision)
}

/// An item as it is wished for and as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The cluster.
    pub cluster: String,
    /// The item's name.
    pub item: String,
    /// What is wished for.
    pub wish: Wish,
    /// Counts wishes.
    pub revision: i64,
    /// The revision that the registry has.
    pub pushed_revision: i64,
    /// (incarnation, number) under which it has that.
    pub generation: (u64, u64),
    /// When it took it.
    pub pushed_at: Option<Timestamp>,
}

macro_rules! item {
    ($row:expr) => {
        Item {
            cluster: $row.cluster,
            item: $row.item,
            wish: Wish {
                bundle_digest: $row.bundle_digest,
                self_heal: $row.self_heal,
                prune: $row.prune,
                tombstone: $row.tombstone,
                traceparent: $row.traceparent,
            },
            revision: $row.revision,
            pushed_revision: $row.pushed_revision,
            generation: ($row.incarnation.cast_unsigned(), $row.generation.cast_unsigned()),
            pushed_at: super::time($row.pushed_at),
        }
    };
}

/// Every item that the registry should have by now.
pub async fn settled(pool: &PgPool) -> Result<Vec<Item>> {
    let rows = sqlx::query!("select * from desired_item where pushed_revision = revision order by cluster, item")
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|row| item!(row)).collect())
}

/// A cluster that is no more has nothing to be told.
pub async fn forget(tx: &mut Tx, cluster: &str, item: &str) -> Result<()> {
    sqlx::query!("delete from desired_item where cluster = $1 and item = $2", cluster, item).execute(&mut **tx).await?;
    Ok(())
}

/// The registry does not have an item as we believed: it is told again, unless somebody told it something meanwhile.
pub async fn tell_again(tx: &mut Tx, item: &Item) -> Result<()> {
    sqlx::query!(
        "update desired_item set pushed_revision = 0 where cluster = $1 and item = $2 and revision = $3 and pushed_revision = $3",
        item.cluster,
        item.item,
        item.revision
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The registry has the item under another generation than we believed.
pub async fn renumber(tx: &mut Tx, item: &Item, generation: (u64, u64)) -> Result<()> {
    sqlx::query!(
        r#"
        update desired_item set incarnation = $4, generation = $5
        where cluster = $1 and item = $2 and revision = $3 and pushed_revision = $3
        "#,
        item.cluster,
        item.item,
        item.revision,
        generation.0.cast_signed(),
        generation.1.cast_signed()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Items that the registry does not have yet, in cluster order; of at most a thousand clusters.
pub async fn open(pool: &PgPool) -> Result<Vec<Item>> {
    let rows = sqlx::query!(
        r#"
        select * from desired_item
        where pushed_revision < revision
        and cluster in (select distinct cluster from desired_item where pushed_revision < revision order by cluster limit 1000)
        order by cluster, item
        "#
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| item!(row)).collect())
}

/// An item at every cluster that has it.
pub async fn items(connection: &mut PgConnection, item: &str) -> Result<BTreeMap<String, Item>> {
    let rows = sqlx::query!("select * from desired_item where item = $1", item).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.cluster.clone(), item!(row))).collect())
}

/// The registry has taken revisions of a cluster's items under one generation.
pub async fn pushed(
    tx: &mut Tx,
    cluster: &str,
    taken: &[(String, i64)],
    incarnation: u64,
    generation: u64,
    now: Timestamp,
) -> Result<()> {
    for (item, revision) in taken {
        sqlx::query!(
            r#"
            update desired_item
            set pushed_revision = $3, incarnation = $4, generation = $5, pushed_at = $6
            where cluster = $1 and item = $2 and pushed_revision < $3
            "#,
            cluster,
            item,
            revision,
            incarnation.cast_signed(),
            generation.cast_signed(),
            to_db(now) as _
        )
        .execute(&mut **tx)
        .await?;
    }
    remember_generation(tx, cluster, generation).await
}

/// The number of our last change of a cluster, as the registry has it.
pub async fn remember_generation(tx: &mut Tx, cluster: &str, generation: u64) -> Result<()> {
    sqlx::query!(
        r#"
        insert into cluster_generation (cluster, generation) values ($1, $2)
        on conflict (cluster) do update set generation = excluded.generation
        "#,
        cluster,
        generation.cast_signed()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The number of our last change, by cluster.
pub async fn generations(pool: &PgPool) -> Result<BTreeMap<String, u64>> {
    let rows = sqlx::query!("select cluster, generation from cluster_generation").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.cluster, row.generation.cast_unsigned())).collect())
}

/// Bundles of the digests that the registry does not have yet.
pub async fn not_uploaded(pool: &PgPool, digests: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let rows = sqlx::query!("select digest, content from bundle where digest = any($1) and not uploaded", digests)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|row| (row.digest, row.content)).collect())
}

/// Whether the registry has bundles; false after it has lost them.
pub async fn mark_uploaded(pool: &PgPool, digests: &[String], uploaded: bool) -> Result<()> {
    sqlx::query!("update bundle set uploaded = $2 where digest = any($1)", digests, uploaded).execute(pool).await?;
    Ok(())
}

/// The latest word of an agent about an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservationRow {
    /// (incarnation, number) that it is about.
    pub generation: (u64, u64),
    /// The proto's name of the phase, as in `HEALTHY`.
    pub phase: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Takes an observation, unless a newer generation was observed already.
pub async fn observe(pool: &PgPool, cluster: &str, item: &str, observed: &ObservationRow) -> Result<()> {
    sqlx::query!(
        r#"
        insert into observation as known (cluster, item, incarnation, generation, phase, reason, message)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (cluster, item) do update
        set incarnation = excluded.incarnation, generation = excluded.generation, phase = excluded.phase,
            reason = excluded.reason, message = excluded.message, observed_at = now()
        where (known.incarnation, known.generation) <= (excluded.incarnation, excluded.generation)
        "#,
        cluster,
        item,
        observed.generation.0.cast_signed(),
        observed.generation.1.cast_signed(),
        observed.phase,
        observed.reason,
        observed.message
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The observations of an item, by cluster.
pub async fn observations(connection: &mut PgConnection, item: &str) -> Result<BTreeMap<String, ObservationRow>> {
    let rows = sqlx::query!("select * from observation where item = $1", item).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let observed = ObservationRow {
                generation: (row.incarnation.cast_unsigned(), row.generation.cast_unsigned()),
                phase: row.phase,
                reason: row.reason,
                message: row.message,
            };
            (row.cluster, observed)
        })
        .collect())
}
