//! What people were told of budgets.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use muster_kit::{Result, Tx};

use super::column;

/// Notes that it is told now that a budget is spent, unless that was told since the beginning of its window: `false` then, or where the
/// queue is no more.
pub async fn tell(tx: &mut Tx, queue: &str, number: u32, window_start: Timestamp, now: Timestamp) -> Result<bool> {
    let told = sqlx::query!(
        r#"
        insert into budget_notice (queue, number, told_at)
        select name, $2, $3
        from queue
        where name = $1
        on conflict (queue, number) do update
        set told_at = excluded.told_at
        where budget_notice.told_at < $4
        "#,
        queue,
        column(number),
        now.to_sqlx() as _,
        window_start.to_sqlx() as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(told.rows_affected() > 0)
}

/// Forgets what was told of a queue's budgets: they are others.
pub async fn forget(tx: &mut Tx, queue: &str) -> Result<()> {
    sqlx::query!("delete from budget_notice where queue = $1", queue).execute(&mut **tx).await?;
    Ok(())
}
