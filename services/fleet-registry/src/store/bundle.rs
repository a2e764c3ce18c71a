//! The `bundle` table: lists of manifests by their digest.

use muster_kit::{Error, Result, Tx};
use sqlx::PgPool;
use std::collections::HashMap;

/// Stores bundles, (digest, content); those that are there stay.
pub async fn put(tx: &mut Tx, bundles: &[(String, Vec<u8>)]) -> Result<()> {
    if bundles.is_empty() {
        return Ok(());
    }
    let (digests, contents): (Vec<String>, Vec<Vec<u8>>) = bundles.iter().cloned().unzip();
    sqlx::query!(
        r#"
        insert into bundle (digest, content)
        select digest, content from unnest($1::text[], $2::bytea[]) as new (digest, content) order by digest
        on conflict do nothing
        "#,
        &digests,
        &contents
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A bundle's bytes.
pub async fn content(pool: &PgPool, digest: &str) -> Result<Vec<u8>> {
    sqlx::query_scalar!("select content from bundle where digest = $1", digest)
        .fetch_optional(pool)
        .await?
        .ok_or_else(|| Error::not_found(format_args!("the bundle {digest}")))
}

/// Those of some bundles that have at most so many bytes, by digest.
pub async fn small(pool: &PgPool, digests: &[String], bytes: i32) -> Result<HashMap<String, Vec<u8>>> {
    if digests.is_empty() {
        return Ok(HashMap::new());
    }
    let rows =
        sqlx::query!("select digest, content from bundle where digest = any($1) and octet_length(content) <= $2", digests, bytes)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(|row| (row.digest, row.content)).collect())
}

/// Whether a desired item of a cluster names a bundle.
pub async fn is_named(pool: &PgPool, cluster: &str, digest: &str) -> Result<bool> {
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

/// Drops bundles that no item names and that are older than a day, at most 1,000.
pub async fn trim(pool: &PgPool) -> Result<u64> {
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
