//! The `verdict_set` and `verdict` tables: what agents say of policies, as rows that came and went in numbered versions.

use muster_kit::{Result, Tx};
use uuid::Uuid;

/// What is held of an item's verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its row.
    pub id: i64,
    /// Of the generation that was evaluated.
    pub incarnation: i64,
    /// Of the generation that was evaluated.
    pub generation: i64,
    /// The life of the database that gave the version.
    pub version_incarnation: i64,
    /// The last change.
    pub version: i64,
    /// Since when it is known which rows went.
    pub horizon: i64,
    /// The exclusive or of the keys held.
    pub digest: Vec<u8>,
    /// Rows held.
    pub held: i32,
    /// Rows that went and are remembered.
    pub gone: i32,
    /// By the cluster's clock.
    pub evaluated_at: jiff_sqlx::Timestamp,
}

/// Of which item.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The cluster's row.
    pub cluster_id: i64,
    /// The item's owner.
    pub owner: &'a str,
    /// The item.
    pub name: &'a str,
}

/// Keeps a cluster's stream from being replaced until the transaction ends; whether it is still this one.
pub async fn hold_session(tx: &mut Tx, cluster_id: i64, session: Uuid) -> Result<bool> {
    let held = sqlx::query_scalar!(
        r#"select (session = $2) as "is_ours!" from cluster where cluster_id = $1 and session is not null for share"#,
        cluster_id,
        session
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(held.unwrap_or(false))
}

/// Whether a cluster should hold the item.
pub async fn is_desired(tx: &mut Tx, item: Item<'_>) -> Result<bool> {
    let desired = sqlx::query_scalar!(
        r#"
        select exists (
            select from desired_item where cluster_id = $1 and owner = $2 and name = $3 and not tombstone
        ) as "is_desired!"
        "#,
        item.cluster_id,
        item.owner,
        item.name
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(desired)
}

/// What is held of an item, locked.
pub async fn lock(tx: &mut Tx, item: Item<'_>) -> Result<Option<Set>> {
    let set = sqlx::query_as!(
        Set,
        r#"
        select
            verdict_set_id as id, incarnation, generation, version_incarnation, version, horizon, digest, held, gone, evaluated_at
        from verdict_set
        where cluster_id = $1 and owner = $2 and name = $3
        for update
        "#,
        item.cluster_id,
        item.owner,
        item.name
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(set)
}

/// The number of the next version.
pub async fn next_version(tx: &mut Tx) -> Result<i64> {
    Ok(sqlx::query_scalar!(r#"select nextval('verdict_version') as "version!""#).fetch_one(&mut **tx).await?)
}

/// An empty set. Only the stream that counts makes one, so no two do.
pub async fn create(tx: &mut Tx, item: Item<'_>, set: &Set) -> Result<i64> {
    let id = sqlx::query_scalar!(
        r#"
        insert into verdict_set (
            cluster_id, owner, name, incarnation, generation, version_incarnation, version, horizon, digest, held, gone, evaluated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        returning verdict_set_id
        "#,
        item.cluster_id,
        item.owner,
        item.name,
        set.incarnation,
        set.generation,
        set.version_incarnation,
        set.version,
        set.horizon,
        set.digest,
        set.held,
        set.gone,
        set.evaluated_at as _
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(id)
}

/// Writes what is held now.
pub async fn update(tx: &mut Tx, set: &Set) -> Result<()> {
    sqlx::query!(
        r#"
        update verdict_set
        set incarnation = $2, generation = $3, version_incarnation = $4, version = $5, horizon = $6, digest = $7, held = $8,
            gone = $9, evaluated_at = $10
        where verdict_set_id = $1
        "#,
        set.id,
        set.incarnation,
        set.generation,
        set.version_incarnation,
        set.version,
        set.horizon,
        set.digest,
        set.held,
        set.gone,
        set.evaluated_at as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Rows come; gives the keys of those that were not there, and how many of these had gone before.
pub async fn add(tx: &mut Tx, set: i64, version: i64, keys: &[Vec<u8>], bodies: &[Vec<u8>]) -> Result<(Vec<Vec<u8>>, i32)> {
    let added = sqlx::query!(
        r#"
        insert into verdict as known (verdict_set_id, key, body, version, is_held)
        select distinct on (key) $1, key, body, $2, true
        from unnest($3::bytea[], $4::bytea[]) as came (key, body)
        on conflict (verdict_set_id, key) do update
        set version = excluded.version, is_held = true
        where not known.is_held
        returning key, (xmax <> 0) as "was_gone!"
        "#,
        set,
        version,
        keys,
        bodies
    )
    .fetch_all(&mut **tx)
    .await?;
    let back = added.iter().filter(|row| row.was_gone).count();
    Ok((added.into_iter().map(|row| row.key).collect(), i32::try_from(back).unwrap_or(i32::MAX)))
}

/// Rows go; gives the keys of those that were there.
pub async fn remove(tx: &mut Tx, set: i64, version: i64, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let gone = sqlx::query_scalar!(
        "update verdict set is_held = false, version = $2 where verdict_set_id = $1 and key = any($3) and is_held returning key",
        set,
        version,
        keys
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(gone)
}

/// All rows go but these; gives the keys of those that were there.
pub async fn remove_others(tx: &mut Tx, set: i64, version: i64, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let gone = sqlx::query_scalar!(
        r#"
        update verdict known
        set is_held = false, version = $2
        where verdict_set_id = $1
        and is_held
        and not exists (select from unnest($3::bytea[]) as kept (key) where kept.key = known.key)
        returning key
        "#,
        set,
        version,
        keys
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(gone)
}

/// Forgets the rows that went up to a version.
pub async fn forget_gone(tx: &mut Tx, set: i64, up_to: i64) -> Result<i32> {
    let forgotten = sqlx::query!("delete from verdict where verdict_set_id = $1 and not is_held and version <= $2", set, up_to)
        .execute(&mut **tx)
        .await?;
    Ok(i32::try_from(forgotten.rows_affected()).unwrap_or(i32::MAX))
}

/// Forgets the sets of items that clusters should no longer hold.
pub async fn trim(pool: &sqlx::PgPool) -> Result<u64> {
    let gone = sqlx::query!(
        r#"
        delete from verdict_set
        where verdict_set_id in (
            select s.verdict_set_id
            from verdict_set s
            join desired_item d using (cluster_id, owner, name)
            where d.tombstone
            limit 100
        )
        "#
    )
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}

/// A set with the names it goes by.
#[derive(Debug, Clone)]
pub struct Named {
    /// The cluster's name.
    pub cluster: String,
    /// The item.
    pub name: String,
    /// What is held of it.
    pub set: Set,
}

/// The sets of an owner's items; of one where it is named.
pub async fn of_owner(tx: &mut Tx, owner: &str, only: Option<(&str, &str)>) -> Result<Vec<Named>> {
    let (cluster, name) = only.unzip();
    let rows = sqlx::query!(
        r#"
        select
            c.name as cluster, s.name, s.verdict_set_id, s.incarnation, s.generation, s.version_incarnation, s.version,
            s.horizon, s.digest, s.held, s.gone, s.evaluated_at
        from verdict_set s
        join cluster c using (cluster_id)
        where s.owner = $1
        and ($2::text is null or c.name = $2)
        and ($3::text is null or s.name = $3)
        order by c.name, s.name
        "#,
        owner,
        cluster,
        name
    )
    .fetch_all(&mut **tx)
    .await?;
    let named = rows.into_iter().map(|row| Named {
        cluster: row.cluster,
        name: row.name,
        set: Set {
            id: row.verdict_set_id,
            incarnation: row.incarnation,
            generation: row.generation,
            version_incarnation: row.version_incarnation,
            version: row.version,
            horizon: row.horizon,
            digest: row.digest,
            held: row.held,
            gone: row.gone,
            evaluated_at: row.evaluated_at,
        },
    });
    Ok(named.collect())
}

/// A row as it is held, or as it was.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its key.
    pub key: Vec<u8>,
    /// The rest of the message.
    pub body: Vec<u8>,
    /// Whether it is held.
    pub is_held: bool,
}

/// Rows that changed after a version, those held alone where that is 0, in the order of their keys, after one of them.
pub async fn changed(tx: &mut Tx, set: i64, version: i64, after: &[u8], limit: i64) -> Result<Vec<Row>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select key, body, is_held
        from verdict
        where verdict_set_id = $1
        and version > $2
        and (is_held or $2 > 0)
        and key > $3
        order by key
        limit $4
        "#,
        set,
        version,
        after,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}
