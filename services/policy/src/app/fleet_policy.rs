//! Bindings of policies to fleets. What they bind may not exist yet: that is a problem shown, no error.

use super::{App, Existing, MAX_MANIFEST_BYTES, check_id, check_namespace, settle};
use crate::{
    convert::FleetPolicyView,
    domain::{FleetPolicySpec, Source},
    error::in_field,
    events,
    store::{self, BoundRecord, FleetPolicyRecord},
};
use muster_core::{name::FleetPolicyName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit, db,
    error::{parse_manifest, parse_name},
    once,
};
use muster_proto::policy::v1 as wire;
use std::collections::BTreeSet;

const MANIFEST: &str = "fleet_policy.manifest";
/// Policies of members that an answer holds.
const MAX_FORMS: usize = 10_000;

/// One binding.
pub async fn get(app: &App, caller: &Caller, request: wire::GetFleetPolicyRequest) -> Result<wire::FleetPolicy> {
    caller.require(Role::Viewer)?;
    let name: FleetPolicyName = parse_name("name", &request.name)?;
    let record = store::fleet_policy::get(&app.pool, name.binding()).await?.ok_or_else(|| Error::not_found(name))?;
    let bound = store::bound::of_bindings(&app.pool, std::slice::from_ref(&record.id)).await?;
    let policies: Vec<BoundRecord> = bound.into_iter().map(|(_, bound)| bound).collect();
    // One that does not hold yet keeps no cluster waiting.
    let held: Vec<String> = policies.iter().filter(|bound| bound.holds).map(|bound| bound.policy.clone()).collect();
    let members = i64::try_from(MAX_FORMS / held.len().max(1)).unwrap_or(i64::MAX);
    let clusters = store::installation::of_fleet(&app.pool, &record.fleet, &held, members).await?;
    let ramp = store::ramp::of_bindings(&app.pool, std::slice::from_ref(&record.id)).await?.pop();
    Ok(FleetPolicyView { record, policies, ramp, clusters }.into())
}

/// A page of bindings.
pub async fn list(
    app: &App,
    caller: &Caller,
    request: wire::ListFleetPoliciesRequest,
) -> Result<wire::ListFleetPoliciesResponse> {
    caller.require(Role::Viewer)?;
    let page = Page::parse(request.page_size, &request.page_token, "")?;
    let mut rows = store::fleet_policy::list(&app.pool, &page.after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |row| row.id.clone());
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut bound = store::bound::of_bindings(&app.pool, &ids).await?.into_iter().peekable();
    let mut ramps = store::ramp::of_bindings(&app.pool, &ids).await?;
    let mut fleet_policies = Vec::with_capacity(rows.len());
    // Both are in name order.
    for record in rows {
        let mut policies = Vec::new();
        while let Some((_, policy)) = bound.next_if(|(binding, _)| *binding == record.id) {
            policies.push(policy);
        }
        let ramp = ramps.iter().position(|ramp| ramp.fleet_policy == record.id).map(|found| ramps.swap_remove(found));
        fleet_policies.push(FleetPolicyView { record, policies, ramp, clusters: vec![] }.into());
    }
    Ok(wire::ListFleetPoliciesResponse { fleet_policies, next_page_token })
}

/// A manifest with what it says.
struct Given {
    manifest: String,
    spec: FleetPolicySpec,
}

fn read(manifest: &str, id_field: &str, id: &str) -> Result<Given> {
    let parsed = parse_manifest(MANIFEST, manifest, MAX_MANIFEST_BYTES)?;
    let spec = FleetPolicySpec::parse(&parsed).map_err(|error| match error.field.as_str() {
        "" => Error::invalid(MANIFEST, error.message),
        _ => in_field(MANIFEST, &error),
    })?;
    check_id(id_field, id, &spec.name)?;
    Ok(Given { manifest: manifest.to_owned(), spec })
}

/// Makes a binding.
pub async fn create(app: &App, caller: &Caller, request: wire::CreateFleetPolicyRequest) -> Result<wire::FleetPolicy> {
    caller.require(Role::Operator)?;
    let binding = request.fleet_policy.as_ref().ok_or_else(|| Error::invalid("fleet_policy", "is missing"))?;
    let given = read(&binding.manifest, "fleet_policy_id", &request.fleet_policy_id)?;
    if request.validate_only {
        // The whole effect, and then as if it had not been.
        let mut tx = db::begin(&app.pool).await?;
        return effect(&mut tx, caller, "CreateFleetPolicy", &given, &Existing::Same).await;
    }
    let answer = once!(app.pool, caller, "CreateFleetPolicy", request.request_id, request, tx => {
        effect(tx, caller, "CreateFleetPolicy", &given, &Existing::Same).await
    })?;
    app.wake();
    Ok(answer)
}

/// Replaces a binding's manifest, or makes it where that is allowed.
pub async fn update(app: &App, caller: &Caller, request: wire::UpdateFleetPolicyRequest) -> Result<wire::FleetPolicy> {
    caller.require(Role::Operator)?;
    db::check_mask(request.update_mask.as_ref(), &["manifest"])?;
    let binding = request.fleet_policy.as_ref().ok_or_else(|| Error::invalid("fleet_policy", "is missing"))?;
    let id = match binding.name.as_str() {
        "" => String::new(),
        name => parse_name::<FleetPolicyName>("fleet_policy.name", name)?.binding().to_owned(),
    };
    let given = read(&binding.manifest, "fleet_policy.name", &id)?;
    let existing = Existing::Replace { etag: binding.etag.clone(), make_missing: request.allow_missing };
    if request.validate_only {
        let mut tx = db::begin(&app.pool).await?;
        return effect(&mut tx, caller, "UpdateFleetPolicy", &given, &existing).await;
    }
    let answer = once!(app.pool, caller, "UpdateFleetPolicy", request.request_id, request, tx => {
        effect(tx, caller, "UpdateFleetPolicy", &given, &existing).await
    })?;
    app.wake();
    Ok(answer)
}

async fn effect(
    tx: &mut Tx,
    caller: &Caller,
    method: &'static str,
    given: &Given,
    existing: &Existing,
) -> Result<wire::FleetPolicy> {
    let spec = &given.spec;
    let name = format!("fleetPolicies/{}", spec.name);
    store::catalog::lock(tx).await?;
    let known = store::fleet_policy::lock(tx, &spec.name).await?;
    if let Some(known) = &known {
        check_namespace(&name, &known.namespace, &spec.namespace)?;
    }
    match (&known, existing) {
        (None, Existing::Replace { etag: _, make_missing: false }) => return Err(Error::not_found(name)),
        (None, Existing::Same | Existing::Replace { .. }) => {}
        (Some(known), Existing::Same) if known.manifest != given.manifest => {
            let hint = format!("{name} exists with other content; update it, or choose another name");
            return Err(Error::already_exists(&name, hint));
        }
        (Some(_), Existing::Same) => {}
        (Some(known), Existing::Replace { etag, make_missing: _ }) => db::check_etag(etag, known.version)?,
    }
    if let Some(known) = known.as_ref().filter(|known| known.manifest == given.manifest) {
        let policies = store::bound::of_binding(tx, &known.id).await?;
        let ramp = store::ramp::lock(tx, &known.id).await?;
        return Ok(FleetPolicyView { record: known.clone(), policies, ramp, clusters: vec![] }.into());
    }
    check_inline(tx, spec).await?;
    let record = match known {
        Some(known) => store::fleet_policy::update(tx, spec, &given.manifest, known.version).await?,
        None => store::fleet_policy::insert(tx, spec, &given.manifest).await?,
    };
    let names = store::bound::replace(tx, spec).await?;
    store::ramp::put(tx, &spec.name, spec.ramp.as_ref()).await?;
    settle(tx, &names, Some(&spec.name)).await?;
    let policies = store::bound::of_binding(tx, &spec.name).await?;
    let view = FleetPolicyView { policies, record, ramp: store::ramp::lock(tx, &spec.name).await?, clusters: vec![] };
    audit::record(tx, caller, method, &name).await?;
    events::fleet_policy(tx, "policy.bound", view.clone(), false).await?;
    Ok(view.into())
}

/// Counts a change of what a binding resolves to, and says so.
pub async fn tell(tx: &mut Tx, binding: &str, kind: &'static str) -> Result<FleetPolicyView> {
    let record = store::fleet_policy::touch(tx, binding).await?;
    let policies = store::bound::of_binding(tx, binding).await?;
    let view = FleetPolicyView { record, policies, ramp: store::ramp::lock(tx, binding).await?, clusters: vec![] };
    events::fleet_policy(tx, kind, view.clone(), false).await?;
    Ok(view)
}

/// An inline policy whose name stands elsewhere with other content is refused by field.
async fn check_inline(tx: &mut Tx, spec: &FleetPolicySpec) -> Result<()> {
    for (index, entry) in spec.entries.iter().enumerate() {
        let Source::Inline(document) = &entry.source else { continue };
        let name = format!("policies/{}", entry.policy);
        let field = format!("{MANIFEST}.spec.policies[{index}].inline");
        let known = store::policy::lock(tx, &entry.policy).await?;
        let elsewhere = match known.filter(|known| known.digest != document.digest()) {
            Some(_) => Some(name.clone()),
            None => store::bound::other_inline(tx, &entry.policy, document.digest(), &spec.name)
                .await?
                .map(|binding| format!("fleetPolicies/{binding}")),
        };
        if let Some(elsewhere) = elsewhere {
            let hint = format!("{field}: {elsewhere} has other content under this name");
            return Err(Error::already_exists(&name, hint.clone()).violating("", field, hint));
        }
    }
    Ok(())
}

/// Deletes a binding: its policies leave the clusters they hold in by no other.
pub async fn delete(
    app: &App,
    caller: &Caller,
    request: wire::DeleteFleetPolicyRequest,
) -> Result<wire::DeleteFleetPolicyResponse> {
    caller.require(Role::Operator)?;
    let name: FleetPolicyName = parse_name("name", &request.name)?;
    let answer = once!(app.pool, caller, "DeleteFleetPolicy", request.request_id, request, tx => {
        store::catalog::lock(tx).await?;
        let record = store::fleet_policy::lock(tx, name.binding()).await?.ok_or_else(|| Error::not_found(&name))?;
        db::check_etag(&request.etag, record.version)?;
        let policies = store::bound::of_binding(tx, name.binding()).await?;
        let names: BTreeSet<String> = policies.iter().map(|bound| bound.policy.clone()).collect();
        store::fleet_policy::delete(tx, name.binding()).await?;
        settle(tx, &names, None).await?;
        audit::record(tx, caller, "DeleteFleetPolicy", &name.to_string()).await?;
        let record = FleetPolicyRecord { version: record.version + 1, ..record };
        events::fleet_policy(tx, "policy.unbound", FleetPolicyView { record, policies, ramp: None, clusters: vec![] }, true).await?;
        Ok(wire::DeleteFleetPolicyResponse {})
    })?;
    app.wake();
    Ok(answer)
}
