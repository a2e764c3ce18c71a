//! What people do to a binding's ramp, and how it is written.

use super::{App, fleet_policy};
use crate::{convert::FleetPolicyView, domain::Ramp, store};
use jiff::Timestamp;
use muster_core::name::FleetPolicyName;
use muster_kit::{Caller, Error, Result, Role, Tx, audit, error::parse_name, once};
use muster_proto::policy::v1 as wire;

/// Stops a ramp where it is.
pub async fn pause(app: &App, caller: &Caller, request: wire::PauseRampRequest) -> Result<wire::FleetPolicy> {
    let (name, id) = (request.name.clone(), request.request_id.clone());
    let answer = once!(app.pool, caller, "PauseRamp", id, request, tx => {
        change(tx, caller, "PauseRamp", &name, "policy.ramp_paused", |ramp, _| ramp.pause()).await
    })?;
    app.wake();
    Ok(answer)
}

/// Lets a ramp go on.
pub async fn resume(app: &App, caller: &Caller, request: wire::ResumeRampRequest) -> Result<wire::FleetPolicy> {
    let (name, id) = (request.name.clone(), request.request_id.clone());
    let answer = once!(app.pool, caller, "ResumeRamp", id, request, tx => {
        change(tx, caller, "ResumeRamp", &name, "policy.ramp_resumed", Ramp::resume).await
    })?;
    app.wake();
    Ok(answer)
}

/// Takes a ramp back.
pub async fn abort(app: &App, caller: &Caller, request: wire::AbortRampRequest) -> Result<wire::FleetPolicy> {
    let (name, id) = (request.name.clone(), request.request_id.clone());
    let answer = once!(app.pool, caller, "AbortRamp", id, request, tx => {
        change(tx, caller, "AbortRamp", &name, "policy.ramp_aborted", Ramp::abort).await
    })?;
    app.wake();
    Ok(answer)
}

async fn change(
    tx: &mut Tx,
    caller: &Caller,
    method: &'static str,
    name: &str,
    kind: &'static str,
    act: impl FnOnce(&mut Ramp, Timestamp),
) -> Result<wire::FleetPolicy> {
    caller.require(Role::Operator)?;
    let name: FleetPolicyName = parse_name("name", name)?;
    store::catalog::lock(tx).await?;
    let known = store::fleet_policy::lock(tx, name.binding()).await?.ok_or_else(|| Error::not_found(&name))?;
    let none = || Error::precondition("NO_RAMP", format!("{name} has no ramp"));
    let record = store::ramp::lock(tx, name.binding()).await?.ok_or_else(none)?;
    let mut next = record.ramp.clone();
    act(&mut next, store::ramp::now(tx).await?);
    if next == record.ramp {
        let policies = store::bound::of_binding(tx, name.binding()).await?;
        return Ok(FleetPolicyView { record: known, policies, ramp: Some(record), clusters: vec![] }.into());
    }
    audit::record(tx, caller, method, &name.to_string()).await?;
    write(tx, name.binding(), &record.ramp, &next).await?;
    Ok(fleet_policy::tell(tx, name.binding(), kind).await?.into())
}

/// Writes how a ramp stands; with other clusters that enforce, verdicts are others too.
pub async fn write(tx: &mut Tx, binding: &str, before: &Ramp, after: &Ramp) -> Result<()> {
    store::ramp::write(tx, binding, after).await?;
    if (&before.turned, &before.digest) != (&after.turned, &after.digest) {
        store::catalog::raise_revision(tx).await?;
    }
    Ok(())
}
