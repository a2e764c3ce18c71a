//! Policies: manifests by name.

use super::{App, Existing, MAX_MANIFEST_BYTES, check_id, check_namespace, settle};
use crate::{
    domain::PolicyDocument,
    error::in_field,
    events,
    store::{self, PolicyRecord},
};
use muster_core::{name::PolicyName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit, db,
    error::{parse_manifest, parse_name},
    once,
};
use muster_proto::policy::v1 as wire;
use std::collections::BTreeSet;

const MANIFEST: &str = "policy.manifest";

/// One policy.
pub async fn get(app: &App, caller: &Caller, request: wire::GetPolicyRequest) -> Result<wire::Policy> {
    caller.require(Role::Viewer)?;
    let name: PolicyName = parse_name("name", &request.name)?;
    let record = store::policy::get(&app.pool, name.policy()).await?.ok_or_else(|| Error::not_found(name))?;
    Ok(record.into())
}

/// A page of policies.
pub async fn list(app: &App, caller: &Caller, request: wire::ListPoliciesRequest) -> Result<wire::ListPoliciesResponse> {
    caller.require(Role::Viewer)?;
    let page = Page::parse(request.page_size, &request.page_token, "")?;
    let mut rows = store::policy::list(&app.pool, &page.after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |row| row.id.clone());
    Ok(wire::ListPoliciesResponse { policies: rows.into_iter().map(Into::into).collect(), next_page_token })
}

/// A manifest with what it says.
struct Given {
    manifest: String,
    document: PolicyDocument,
}

fn read(manifest: &str, id_field: &str, id: &str) -> Result<Given> {
    let parsed = parse_manifest(MANIFEST, manifest, MAX_MANIFEST_BYTES)?;
    let document = PolicyDocument::parse(&parsed.value).map_err(|error| in_field(MANIFEST, &error))?;
    check_id(id_field, id, document.name())?;
    Ok(Given { manifest: manifest.to_owned(), document })
}

/// Makes a policy. Equal content under the same name is the same policy; other content is refused.
pub async fn create(app: &App, caller: &Caller, request: wire::CreatePolicyRequest) -> Result<wire::Policy> {
    caller.require(Role::Operator)?;
    let policy = request.policy.as_ref().ok_or_else(|| Error::invalid("policy", "is missing"))?;
    let given = read(&policy.manifest, "policy_id", &request.policy_id)?;
    if request.validate_only {
        // The whole effect, and then as if it had not been.
        let mut tx = db::begin(&app.pool).await?;
        return effect(&mut tx, caller, "CreatePolicy", &given, &Existing::Same).await;
    }
    let answer = once!(app.pool, caller, "CreatePolicy", request.request_id, request, tx => {
        effect(tx, caller, "CreatePolicy", &given, &Existing::Same).await
    })?;
    app.wake();
    Ok(answer)
}

/// Replaces a policy's manifest, or makes it where that is allowed.
pub async fn update(app: &App, caller: &Caller, request: wire::UpdatePolicyRequest) -> Result<wire::Policy> {
    caller.require(Role::Operator)?;
    db::check_mask(request.update_mask.as_ref(), &["manifest"])?;
    let policy = request.policy.as_ref().ok_or_else(|| Error::invalid("policy", "is missing"))?;
    let id = match policy.name.as_str() {
        "" => String::new(),
        name => parse_name::<PolicyName>("policy.name", name)?.policy().to_owned(),
    };
    let given = read(&policy.manifest, "policy.name", &id)?;
    let existing = Existing::Replace { etag: policy.etag.clone(), make_missing: request.allow_missing };
    if request.validate_only {
        let mut tx = db::begin(&app.pool).await?;
        return effect(&mut tx, caller, "UpdatePolicy", &given, &existing).await;
    }
    let answer = once!(app.pool, caller, "UpdatePolicy", request.request_id, request, tx => {
        effect(tx, caller, "UpdatePolicy", &given, &existing).await
    })?;
    app.wake();
    Ok(answer)
}

async fn effect(tx: &mut Tx, caller: &Caller, method: &'static str, given: &Given, existing: &Existing) -> Result<wire::Policy> {
    let document = &given.document;
    let name = format!("policies/{}", document.name());
    store::catalog::lock(tx).await?;
    let known = store::policy::lock(tx, document.name()).await?;
    if let Some(known) = &known {
        check_namespace(&name, &known.namespace, document.namespace())?;
    }
    let kind = match (&known, existing) {
        (Some(known), Existing::Same) if known.digest == document.digest() => return Ok(known.clone().into()),
        (Some(_), Existing::Same) => {
            let hint = format!("{name} exists with other content; update it, or choose another name");
            return Err(Error::already_exists(&name, hint));
        }
        (None, Existing::Replace { etag: _, make_missing: false }) => return Err(Error::not_found(name)),
        (None, Existing::Same | Existing::Replace { .. }) => "policy.created",
        (Some(known), Existing::Replace { etag, make_missing: _ }) => {
            db::check_etag(etag, known.version)?;
            if known.manifest == given.manifest {
                return Ok(known.clone().into());
            }
            "policy.updated"
        }
    };
    check_inline(tx, document).await?;
    store::policy::keep_document(tx, document).await?;
    let record = match known {
        None => store::policy::insert(tx, document, &given.manifest).await?,
        Some(known) => store::policy::update(tx, document, &given.manifest, known.version).await?,
    };
    settle(tx, &BTreeSet::from([record.id.clone()]), None).await?;
    audit::record(tx, caller, method, &name).await?;
    events::policy(tx, kind, record.clone(), false).await?;
    Ok(record.into())
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

/// Deletes a policy that no binding names.
pub async fn delete(app: &App, caller: &Caller, request: wire::DeletePolicyRequest) -> Result<wire::DeletePolicyResponse> {
    caller.require(Role::Operator)?;
    let name: PolicyName = parse_name("name", &request.name)?;
    let answer = once!(app.pool, caller, "DeletePolicy", request.request_id, request, tx => {
        store::catalog::lock(tx).await?;
        let known = store::policy::lock(tx, name.policy()).await?.ok_or_else(|| Error::not_found(&name))?;
        db::check_etag(&request.etag, known.version)?;
        if let Some(binding) = store::bound::named_by(tx, name.policy()).await? {
            let subject = format!("fleetPolicies/{binding}");
            let message = format!("{name} is bound by {subject}; take it out of there first");
            return Err(Error::precondition("POLICY_IN_USE", message.clone()).violating("BINDING", subject, message));
        }
        store::policy::delete(tx, name.policy()).await?;
        settle(tx, &BTreeSet::from([name.policy().to_owned()]), None).await?;
        audit::record(tx, caller, "DeletePolicy", &name.to_string()).await?;
        events::policy(tx, "policy.deleted", PolicyRecord { version: known.version + 1, ..known }, true).await?;
        Ok(wire::DeletePolicyResponse {})
    })?;
    app.wake();
    Ok(answer)
}
