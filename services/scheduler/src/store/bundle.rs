//! Bundles: composed objects by their content.

use muster_kit::{Result, Tx};
use sqlx::PgPool;

/// Keeps bundles by their content: (digest, content).
pub async fn put(tx: &mut Tx, bundles: Vec<(String, Vec<u8>)>) -> Result<()> {
    let (digests, contents): (Vec<String>, Vec<Vec<u8>>) = bundles.into_iter().unzip();
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
