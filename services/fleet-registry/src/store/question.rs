//! The `link_request` and `link_answer` tables: questions to agents, from whichever replica, answered by the one that
//! holds the stream.

use muster_kit::Result;
use sqlx::PgPool;
use uuid::Uuid;

/// Puts a question.
pub async fn ask(pool: &PgPool, id: Uuid, cluster_id: i64, request: &[u8]) -> Result<()> {
    sqlx::query!("insert into link_request (request_id, cluster_id, request) values ($1, $2, $3)", id, cluster_id, request)
        .execute(pool)
        .await?;
    Ok(())
}

/// Takes the questions of some clusters that have not been sent, marking them: `(cluster_id, request_id, request)`.
pub async fn take(pool: &PgPool, clusters: &[i64]) -> Result<Vec<(i64, Uuid, Vec<u8>)>> {
    let rows = sqlx::query!(
        "update link_request set sent = true where cluster_id = any($1) and not sent returning cluster_id, request_id, request",
        clusters
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.cluster_id, row.request_id, row.request)).collect())
}

/// Stores a part of an answer; whether anybody still waits for it.
pub async fn answer(pool: &PgPool, id: Uuid, cluster_id: i64, answer: &[u8]) -> Result<bool> {
    let stored = sqlx::query!(
        r#"
        insert into link_answer (request_id, answer)
        select request_id, $3 from link_request where request_id = $1 and cluster_id = $2
        "#,
        id,
        cluster_id,
        answer
    )
    .execute(pool)
    .await?;
    Ok(stored.rows_affected() > 0)
}

/// Parts of an answer after a sequence number.
pub async fn answers(pool: &PgPool, id: Uuid, after: i64) -> Result<Vec<(i64, Vec<u8>)>> {
    let rows = sqlx::query!(
        "select sequence, answer from link_answer where request_id = $1 and sequence > $2 order by sequence limit 100",
        id,
        after
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.sequence, row.answer)).collect())
}

/// Forgets a question and its answers.
pub async fn forget(pool: &PgPool, id: Uuid) -> Result<()> {
    sqlx::query!("delete from link_request where request_id = $1", id).execute(pool).await?;
    Ok(())
}

/// Forgets questions whose asker is gone.
pub async fn trim(pool: &PgPool) -> Result<u64> {
    let gone = sqlx::query!("delete from link_request where created_at < now() - interval '1 hour'").execute(pool).await?;
    Ok(gone.rows_affected())
}
