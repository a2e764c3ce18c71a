//! Who changed what, in the transaction of the change.

use crate::{Caller, Result, Tx, telemetry};

/// The caller did `action` (as in `CancelJob`) to `resource`.
#[derive(Debug)]
pub struct Deed {
    /// Who.
    pub caller: String,
    /// What, as in `CancelJob`.
    pub action: &'static str,
    /// To which resource.
    pub resource: String,
    /// In which trace; empty if in none.
    pub traceparent: String,
}

/// Writes a row: the caller did `action` (as in `CancelJob`) to `resource`, in the present span.
pub async fn record(tx: &mut Tx, caller: &Caller, action: &'static str, resource: &str) -> Result<()> {
    let traceparent = telemetry::current_traceparent();
    record_all(tx, &[Deed { caller: caller.to_string(), action, resource: resource.to_owned(), traceparent }]).await
}

/// Writes a row for each, in one statement.
pub async fn record_all(tx: &mut Tx, deeds: &[Deed]) -> Result<()> {
    let callers: Vec<String> = deeds.iter().map(|deed| deed.caller.clone()).collect();
    let actions: Vec<String> = deeds.iter().map(|deed| deed.action.to_owned()).collect();
    let resources: Vec<String> = deeds.iter().map(|deed| deed.resource.clone()).collect();
    let traceparents: Vec<String> = deeds.iter().map(|deed| deed.traceparent.clone()).collect();
    sqlx::query!(
        r#"
        insert into audit (caller, action, resource, traceparent)
        select * from unnest($1::text[], $2::text[], $3::text[], $4::text[])
        "#,
        &callers,
        &actions,
        &resources,
        &traceparents
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
