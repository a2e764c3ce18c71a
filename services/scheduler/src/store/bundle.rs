//! Bundles: composed objects by their content.

use muster_kit::{Result, Tx};
use sqlx::PgPool;

/// Keeps bundles by their content: (digest, content).
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

/// Bundles by digest.
pub async fn some(pool: &PgPool, digests: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!("select digest, content from bundle where digest = any($1)", digests).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.digest, row.content)).collect())
}

/// Looks at some bundles after a digest, in their order, and drops those that nothing names; gives the last one that was looked at,
/// empty where there are no more.
pub async fn sweep(tx: &mut Tx, after: &str, limit: i64) -> Result<String> {
    let last = sqlx::query_scalar!(
        r#"
        with looked as (
            select digest from bundle where digest > $1 order by digest limit $2
        ), gone as (
            delete from bundle
            where digest in (
                select digest
                from looked
                where not exists (select 1 from desired_item i where i.bundle_digest = looked.digest)
                and not exists (select 1 from run r where r.bundle_digest = looked.digest and r.wanted)
            )
        )
        select digest as "digest!" from looked order by digest offset $2 - 1
        "#,
        after,
        limit
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(last.unwrap_or_default())
}

/// As [`sweep`], of manifests that no job has.
pub async fn sweep_manifests(tx: &mut Tx, after: &str, limit: i64) -> Result<String> {
    let last = sqlx::query_scalar!(
        r#"
        with looked as (
            select digest from manifest where digest > $1 order by digest limit $2
        ), gone as (
            delete from manifest
            where digest in (
                select digest from looked where not exists (select 1 from job j where j.manifest_digest = looked.digest)
            )
        )
        select digest as "digest!" from looked order by digest offset $2 - 1
        "#,
        after,
        limit
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(last.unwrap_or_default())
}
