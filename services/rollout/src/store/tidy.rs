//! What is forgotten: old releases, and object lists that nothing names any more.

use muster_kit::Result;
use sqlx::PgPool;

/// Releases kept of each application.
pub const KEPT_RELEASES: i32 = 200;

/// Forgets finished releases beyond the newest; gives how many, at most a thousand a call.
pub async fn releases(pool: &PgPool) -> Result<u64> {
    let gone = sqlx::query!(
        r#"
        delete from release
        where (namespace, application, release) in (
            select r.namespace, r.application, r.release from release r
            join application a on a.namespace = r.namespace and a.application = r.application
            where r.number <= a.releases - $1
            and r.state in ('completed', 'failed', 'superseded', 'refused')
            and r.revert <> 'pending'
            and r.release is distinct from a.current_release
            limit 1000
        )
        "#,
        KEPT_RELEASES
    )
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}

/// Forgets bundles a day old that nothing names; gives how many, at most a thousand a call.
///
/// A bundle that somebody puts again at this moment is young again, and its row's lock makes this look twice.
pub async fn bundles(pool: &PgPool) -> Result<u64> {
    let gone = sqlx::query!(
        r#"
        delete from bundle b
        where b.created_at < now() - interval '1 day'
        and b.digest in (
            select o.digest from bundle o
            where o.created_at < now() - interval '1 day'
            and not exists (select from desired_item i where i.bundle_digest = o.digest)
            and not exists (select from release_target t where o.digest in (t.rendered_digest, t.last_good_digest))
            and not exists (select from application_target t where o.digest in (t.desired_digest, t.last_good_digest))
            limit 1000
        )
        "#
    )
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}
