//! Who changed what, in the transaction of the change.

use crate::{Caller, Result, Tx, telemetry};

/// Writes a row: the caller did `action` (as in `CancelJob`) to `resource`.
pub async fn record(tx: &mut Tx, caller: &Caller, action: &'static str, resource: &str) -> Result<()> {
    sqlx::query!(
        "insert into audit (caller, action, resource, traceparent) values ($1, $2, $3, $4)",
        caller.to_string(),
        action,
        resource,
        telemetry::current_traceparent(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
