//! Policies: get, list, create, update, delete.

use super::{App, Change, MAX_MANIFEST_BYTES, check_id, check_namespace, settle};
use crate::{domain::PolicyDocument, error::in_field, events, store, store::PolicyRecord};
use muster_core::{name::PolicyName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit, db,
    error::parse_manifest,
    idempotency::{self, Begun},
};
use prost::Message;
use std::collections::BTreeSet;

const MANIFEST: &str = "policy.manifest";

impl App {
    /// One policy.
    pub async fn get_policy(&self, caller: &Caller, name: &PolicyName) -> Result<PolicyRecord> {
        caller.require(Role::Viewer)?;
        store::policy::get(self.pool(), name.policy()).await?.ok_or_else(|| Error::not_found(name))
    }

    /// A page of policies, and the token of the next.
    pub async fn list_policies(&self, caller: &Caller, page: &Page) -> Result<(Vec<PolicyRecord>, String)> {
        caller.require(Role::Viewer)?;
        let mut rows = store::policy::list(self.pool(), &page.after, page.limit()).await?;
        let next = page.finish(&mut rows, |row| row.id.clone());
        Ok((rows, next))
    }

    /// Makes a policy. Equal content under the same name is the same policy; other content is refused.
    pub async fn create_policy<Q, R>(&self, caller: &Caller, request: &Q, change: &Change) -> Result<R>
    where
        Q: Message,
        R: Message + Default + From<PolicyRecord>,
    {
        caller.require(Role::Operator)?;
        let document = read(change, "policy_id")?;
        let mut tx = db::begin(self.pool()).await?;
        let pending = match idempotency::begin(&mut tx, caller, "CreatePolicy", &change.request_id, request).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        store::bound::lock_name(&mut tx, document.name()).await?;
        let record = match store::policy::lock(&mut tx, document.name()).await? {
            Some(known) => same(known, &document)?,
            None => make(&mut tx, caller, &document, change).await?,
        };
        self.finish(tx, pending, change.validate_only, record.into()).await
    }

    /// Replaces a policy's manifest, or makes it where that is allowed.
    pub async fn update_policy<Q, R>(&self, caller: &Caller, request: &Q, change: &Change) -> Result<R>
    where
        Q: Message,
        R: Message + Default + From<PolicyRecord>,
    {
        caller.require(Role::Operator)?;
        let document = read(change, "policy.name")?;
        let mut tx = db::begin(self.pool()).await?;
        let pending = match idempotency::begin(&mut tx, caller, "UpdatePolicy", &change.request_id, request).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        store::bound::lock_name(&mut tx, document.name()).await?;
        let record = match store::policy::lock(&mut tx, document.name()).await? {
            Some(known) => replace(&mut tx, caller, known, &document, change).await?,
            None if change.allow_missing && change.etag.is_empty() => make(&mut tx, caller, &document, change).await?,
            None => return Err(Error::not_found(format!("policies/{}", document.name()))),
        };
        self.finish(tx, pending, change.validate_only, record.into()).await
    }

    /// Deletes a policy that no binding names.
    pub async fn delete_policy<Q, R>(&self, caller: &Caller, request: &Q, name: &PolicyName, change: &Change) -> Result<R>
    where
        Q: Message,
        R: Message + Default,
    {
        caller.require(Role::Operator)?;
        let mut tx = db::begin(self.pool()).await?;
        let pending = match idempotency::begin(&mut tx, caller, "DeletePolicy", &change.request_id, request).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        store::bound::lock_name(&mut tx, name.policy()).await?;
        let known = store::policy::lock(&mut tx, name.policy()).await?.ok_or_else(|| Error::not_found(name))?;
        db::check_etag(&change.etag, known.version)?;
        if let Some(binding) = store::bound::named_by(&mut tx, name.policy()).await? {
            let subject = format!("fleetPolicies/{binding}");
            let message = format!("{name} is bound by {subject}; take it out of there first");
            return Err(Error::precondition("POLICY_IN_USE", message.clone()).violating("BINDING", subject, message));
        }
        store::policy::delete(&mut tx, name.policy()).await?;
        settle(&mut tx, &BTreeSet::from([name.policy().to_owned()]), None).await?;
        audit::record(&mut tx, caller, "DeletePolicy", &name.to_string()).await?;
        events::policy(&mut tx, "policy.deleted", PolicyRecord { version: known.version + 1, ..known }, true).await?;
        self.finish(tx, pending, false, R::default()).await
    }
}

fn read(change: &Change, id_field: &str) -> Result<PolicyDocument> {
    let manifest = parse_manifest(MANIFEST, &change.manifest, MAX_MANIFEST_BYTES)?;
    let document = PolicyDocument::parse(&manifest.value).map_err(|error| in_field(MANIFEST, &error))?;
    check_id(id_field, &change.id, document.name())?;
    Ok(document)
}

fn same(known: PolicyRecord, document: &PolicyDocument) -> Result<PolicyRecord> {
    let name = format!("policies/{}", known.id);
    check_namespace(&name, &known.namespace, document.namespace())?;
    if known.digest == document.digest() {
        return Ok(known);
    }
    Err(Error::already_exists(&name, format!("{name} exists with other content; update it, or choose another name")))
}

async fn make(tx: &mut Tx, caller: &Caller, document: &PolicyDocument, change: &Change) -> Result<PolicyRecord> {
    check_inline(tx, document).await?;
    store::policy::keep_document(tx, document).await?;
    let record = store::policy::insert(tx, document, &change.manifest).await?;
    settle(tx, &BTreeSet::from([record.id.clone()]), None).await?;
    audit::record(tx, caller, "CreatePolicy", &format!("policies/{}", record.id)).await?;
    events::policy(tx, "policy.created", record.clone(), false).await?;
    Ok(record)
}

async fn replace(
    tx: &mut Tx,
    caller: &Caller,
    known: PolicyRecord,
    document: &PolicyDocument,
    change: &Change,
) -> Result<PolicyRecord> {
    db::check_etag(&change.etag, known.version)?;
    check_namespace(&format!("policies/{}", known.id), &known.namespace, document.namespace())?;
    if known.digest == document.digest() && known.manifest == change.manifest {
        return Ok(known);
    }
    check_inline(tx, document).await?;
    store::policy::keep_document(tx, document).await?;
    let record = store::policy::update(tx, document, &change.manifest, known.version).await?;
    settle(tx, &BTreeSet::from([record.id.clone()]), None).await?;
    audit::record(tx, caller, "UpdatePolicy", &format!("policies/{}", record.id)).await?;
    events::policy(tx, "policy.updated", record.clone(), false).await?;
    Ok(record)
}

/// A binding that holds other content of this name inline would silently lose it.
async fn check_inline(tx: &mut Tx, document: &PolicyDocument) -> Result<()> {
    match store::bound::other_inline(tx, document.name(), document.digest(), "").await? {
        None => Ok(()),
        Some(binding) => {
            let name = format!("policies/{}", document.name());
            Err(Error::already_exists(&name, format!("{name} stands with other content inline in fleetPolicies/{binding}")))
        }
    }
}
