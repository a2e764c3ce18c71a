//! Which life of its database a service lives in (consistency.md, "Versions, projections, restores").
//!
//! Raised when the Postgres system identifier or timeline is another one than was recorded, when the log's transaction
//! ids lie in the future (a logical restore), and when a peer shows that it remembers more.

use crate::{Result, Tx, db};
use sqlx::PgPool;

/// Reads the incarnation, raising it first where the database turns out to be another one.
pub async fn establish(pool: &PgPool) -> Result<u64> {
    let mut tx = db::begin(pool).await?;
    let row = sqlx::query!(
        r#"
        select
            (select system_identifier::text from pg_control_system()) as "system!",
            (select timeline_id from pg_control_checkpoint()) as "timeline!",
            exists (select from event where xid > pg_current_xact_id()) as "future!"
        "#
    )
    .fetch_one(&mut *tx)
    .await?;
    let known = sqlx::query!("select incarnation, system_identifier, timeline from incarnation for update")
        .fetch_optional(&mut *tx)
        .await?;
    let incarnation = match known {
        Some(known) if known.system_identifier == row.system && known.timeline == row.timeline && !row.future => {
            known.incarnation
        }
        Some(known) => {
            tracing::warn!(before = known.incarnation, "the database is another one than before: the incarnation is raised");
            sqlx::query!("update incarnation set system_identifier = $1, timeline = $2", row.system, row.timeline)
                .execute(&mut *tx)
                .await?;
            raise_above(&mut tx, known.incarnation).await?
        }
        None => {
            sqlx::query!(
                "insert into incarnation (incarnation, system_identifier, timeline) values (1, $1, $2)",
                row.system,
                row.timeline
            )
            .execute(&mut *tx)
            .await?;
            1
        }
    };
    tx.commit().await?;
    Ok(incarnation.cast_unsigned())
}

/// Raises the incarnation above `seen`, empties the log (its order is void) and gives the new incarnation.
pub async fn raise_above(tx: &mut Tx, seen: i64) -> Result<i64> {
    let incarnation =
        sqlx::query_scalar!("update incarnation set incarnation = greatest(incarnation, $1) + 1 returning incarnation", seen)
            .fetch_one(&mut **tx)
            .await?;
    sqlx::query!("delete from event").execute(&mut **tx).await?;
    sqlx::query!("update event_horizon set xid = pg_current_xact_id(), event_id = 0").execute(&mut **tx).await?;
    sqlx::query!("update relay_cursor set xid = '0', event_id = 0").execute(&mut **tx).await?;
    Ok(incarnation)
}

/// The incarnation as it stands.
pub async fn current(tx: &mut Tx) -> Result<u64> {
    let incarnation = sqlx::query_scalar!("select incarnation from incarnation").fetch_one(&mut **tx).await?;
    Ok(incarnation.cast_unsigned())
}
