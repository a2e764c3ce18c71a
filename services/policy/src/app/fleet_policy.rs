//! Bindings: get, list, create, update, delete. What they bind may not exist yet: that is a problem shown, no error.

use super::{App, Change, MAX_MANIFEST_BYTES, check_id, check_namespace, settle};
use crate::{
    domain::{FleetPolicySpec, Source},
    error::in_field,
    events, store,
    store::{BoundRecord, FleetPolicyRecord},
};
use muster_core::{name::FleetPolicyName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit, db,
    error::parse_manifest,
    idempotency::{self, Begun},
};
use prost::Message;

const MANIFEST: &str = "fleet_policy.manifest";

/// A binding with what it binds.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetPolicyView {
    /// The binding.
    pub record: FleetPolicyRecord,
    /// What it binds, in its order.
    pub policies: Vec<BoundRecord>,
}

impl App {
    /// One binding.
    pub async fn get_fleet_policy(&self, caller: &Caller, name: &FleetPolicyName) -> Result<FleetPolicyView> {
        caller.require(Role::Viewer)?;
        let record = store::fleet_policy::get(self.pool(), name.binding()).await?.ok_or_else(|| Error::not_found(name))?;
        let mut views = self.with_policies(vec![record]).await?;
        Ok(views.remove(0))
    }

    /// A page of bindings, and the token of the next.
    pub async fn list_fleet_policies(&self, caller: &Caller, page: &Page) -> Result<(Vec<FleetPolicyView>, String)> {
        caller.require(Role::Viewer)?;
        let mut rows = store::fleet_policy::list(self.pool(), &page.after, page.limit()).await?;
        let next = page.finish(&mut rows, |row| row.id.clone());
        Ok((self.with_policies(rows).await?, next))
    }

    async fn with_policies(&self, records: Vec<FleetPolicyRecord>) -> Result<Vec<FleetPolicyView>> {
        let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
        let mut views: Vec<_> = records.into_iter().map(|record| FleetPolicyView { record, policies: vec![] }).collect();
        for (binding, bound) in store::bound::of_bindings(self.pool(), &ids).await? {
            if let Some(view) = views.iter_mut().find(|view| view.record.id == binding) {
                view.policies.push(bound);
            }
        }
        Ok(views)
    }

    /// Makes a binding.
    pub async fn create_fleet_policy<Q, R>(&self, caller: &Caller, request: &Q, change: &Change) -> Result<R>
    where
        Q: Message,
        R: Message + Default + From<FleetPolicyView>,
    {
        caller.require(Role::Operator)?;
        let spec = read(change, "fleet_policy_id")?;
        let mut tx = db::begin(self.pool()).await?;
        let pending = match idempotency::begin(&mut tx, caller, "CreateFleetPolicy", &change.request_id, request).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        let view = match store::fleet_policy::lock(&mut tx, &spec.name).await? {
            Some(known) => same(&mut tx, known, &spec, change).await?,
            None => write(&mut tx, caller, None, &spec, change).await?,
        };
        self.finish(tx, pending, change.validate_only, view.into()).await
    }

    /// Replaces a binding's manifest, or makes it where that is allowed.
    pub async fn update_fleet_policy<Q, R>(&self, caller: &Caller, request: &Q, change: &Change) -> Result<R>
    where
        Q: Message,
        R: Message + Default + From<FleetPolicyView>,
    {
        caller.require(Role::Operator)?;
        let spec = read(change, "fleet_policy.name")?;
        let mut tx = db::begin(self.pool()).await?;
        let pending = match idempotency::begin(&mut tx, caller, "UpdateFleetPolicy", &change.request_id, request).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        let view = match store::fleet_policy::lock(&mut tx, &spec.name).await? {
            Some(known) => {
                db::check_etag(&change.etag, known.version)?;
                check_namespace(&format!("fleetPolicies/{}", known.id), &known.namespace, &spec.namespace)?;
                if known.manifest == change.manifest {
                    let policies = store::bound::of_binding(&mut tx, &known.id).await?;
                    FleetPolicyView { record: known, policies }
                } else {
                    write(&mut tx, caller, Some(known), &spec, change).await?
                }
            }
            None if change.allow_missing && change.etag.is_empty() => write(&mut tx, caller, None, &spec, change).await?,
            None => return Err(Error::not_found(format!("fleetPolicies/{}", spec.name))),
        };
        self.finish(tx, pending, change.validate_only, view.into()).await
    }

    /// Deletes a binding: its policies leave the clusters they hold in by no other.
    pub async fn delete_fleet_policy<Q, R>(
        &self,
        caller: &Caller,
        request: &Q,
        name: &FleetPolicyName,
        change: &Change,
    ) -> Result<R>
    where
        Q: Message,
        R: Message + Default,
    {
        caller.require(Role::Operator)?;
        let mut tx = db::begin(self.pool()).await?;
        let pending = match idempotency::begin(&mut tx, caller, "DeleteFleetPolicy", &change.request_id, request).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        let record = store::fleet_policy::lock(&mut tx, name.binding()).await?.ok_or_else(|| Error::not_found(name))?;
        db::check_etag(&change.etag, record.version)?;
        let policies = store::bound::of_binding(&mut tx, name.binding()).await?;
        for bound in &policies {
            store::bound::lock_name(&mut tx, &bound.policy).await?;
        }
        store::fleet_policy::delete(&mut tx, name.binding()).await?;
        settle(&mut tx, &policies.iter().map(|bound| bound.policy.clone()).collect(), None).await?;
        audit::record(&mut tx, caller, "DeleteFleetPolicy", &name.to_string()).await?;
        let record = FleetPolicyRecord { version: record.version + 1, ..record };
        events::fleet_policy(&mut tx, "policy.unbound", &FleetPolicyView { record, policies }, true).await?;
        self.finish(tx, pending, false, R::default()).await
    }
}

fn read(change: &Change, id_field: &str) -> Result<FleetPolicySpec> {
    let manifest = parse_manifest(MANIFEST, &change.manifest, MAX_MANIFEST_BYTES)?;
    let spec = FleetPolicySpec::parse(&manifest).map_err(|error| match error.field.as_str() {
        "" => Error::invalid(MANIFEST, error.message),
        _ => in_field(MANIFEST, &error),
    })?;
    check_id(id_field, &change.id, &spec.name)?;
    Ok(spec)
}

/// The same binding again: equal text is one, anything else is taken.
async fn same(tx: &mut Tx, known: FleetPolicyRecord, spec: &FleetPolicySpec, change: &Change) -> Result<FleetPolicyView> {
    let name = format!("fleetPolicies/{}", known.id);
    check_namespace(&name, &known.namespace, &spec.namespace)?;
    if known.manifest != change.manifest {
        return Err(Error::already_exists(&name, format!("{name} exists with other content; update it, or choose another name")));
    }
    let policies = store::bound::of_binding(tx, &known.id).await?;
    Ok(FleetPolicyView { record: known, policies })
}

async fn write(
    tx: &mut Tx,
    caller: &Caller,
    known: Option<FleetPolicyRecord>,
    spec: &FleetPolicySpec,
    change: &Change,
) -> Result<FleetPolicyView> {
    check_inline(tx, spec).await?;
    let action = if known.is_some() { "UpdateFleetPolicy" } else { "CreateFleetPolicy" };
    let record = match known {
        Some(known) => store::fleet_policy::update(tx, spec, &change.manifest, known.version).await?,
        None => store::fleet_policy::insert(tx, spec, &change.manifest).await?,
    };
    let names = store::bound::replace(tx, spec).await?;
    for name in &names {
        store::bound::lock_name(tx, name).await?;
    }
    settle(tx, &names, Some(&spec.name)).await?;
    let view = FleetPolicyView { policies: store::bound::of_binding(tx, &spec.name).await?, record };
    audit::record(tx, caller, action, &format!("fleetPolicies/{}", spec.name)).await?;
    events::fleet_policy(tx, "policy.bound", &view, false).await?;
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
