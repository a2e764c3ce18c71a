//! Fleets: manifests by name, and who is in them.

use super::{App, MAX_MANIFEST_BYTES, membership};
use crate::{
    convert,
    domain::fleet::FleetSpec,
    store::{cluster, fleet},
};
use muster_core::{Manifest, name::FleetName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit, db,
    error::{manifest_error, parse_manifest, parse_name},
    once,
    time::to_proto,
};
use muster_proto::registry::v1 as wire;

/// One fleet.
pub async fn get(app: &App, caller: &Caller, request: wire::GetFleetRequest) -> Result<wire::Fleet> {
    caller.require(Role::Viewer)?;
    let name: FleetName = parse_name("name", &request.name)?;
    let stored = fleet::fleet(&app.pool, name.fleet()).await?;
    let mut tx = db::begin(&app.pool).await?;
    let clusters = cluster::every(&mut tx).await?;
    to_wire(stored, &clusters)
}

/// A page of fleets.
pub async fn list(app: &App, caller: &Caller, request: wire::ListFleetsRequest) -> Result<wire::ListFleetsResponse> {
    caller.require(Role::Viewer)?;
    let page = Page::parse(request.page_size, &request.page_token, "")?;
    let mut rows = fleet::fleets(&app.pool, &page.after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |fleet| fleet.name.clone());
    let mut tx = db::begin(&app.pool).await?;
    let clusters = cluster::every(&mut tx).await?;
    let fleets = rows.into_iter().map(|row| to_wire(row, &clusters)).collect::<Result<_>>()?;
    Ok(wire::ListFleetsResponse { fleets, next_page_token })
}

fn to_wire(stored: fleet::Stored, clusters: &[crate::domain::Cluster]) -> Result<wire::Fleet> {
    let manifest = muster_core::manifest::parse_one(&stored.manifest).map_err(Error::internal)?;
    let spec = FleetSpec::read(&manifest).map_err(Error::internal)?;
    let known = clusters.iter().filter(|cluster| spec.has(&cluster.name, &cluster.labels));
    let mut members: Vec<wire::FleetMember> = known
        .map(|cluster| wire::FleetMember { cluster: cluster.resource(), state: convert::state(cluster.state).into() })
        .collect();
    for named in &spec.clusters {
        if !clusters.iter().any(|cluster| cluster.name == *named) {
            let state = wire::cluster::State::NotEnrolled.into();
            members.push(wire::FleetMember { cluster: format!("clusters/{named}"), state });
        }
    }
    members.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Ok(wire::Fleet {
        name: format!("fleets/{}", stored.name),
        etag: db::etag(stored.version),
        manifest: stored.manifest,
        members,
        create_time: Some(to_proto(stored.created_at)),
    })
}

/// A manifest with what it says, and the name it goes by.
struct Given {
    manifest: Manifest,
    spec: FleetSpec,
}

fn read(text: &str, id_field: &str, id: &str) -> Result<Given> {
    let manifest = parse_manifest("fleet.manifest", text, MAX_MANIFEST_BYTES)?;
    let spec = FleetSpec::read(&manifest).map_err(|error| manifest_error("fleet.manifest", &error))?;
    if !id.is_empty() && id != spec.name {
        return Err(Error::invalid(id_field, format!("is {id:?}, and the manifest's metadata.name is {:?}", spec.name)));
    }
    Ok(Given { manifest, spec })
}

/// Makes a fleet.
pub async fn create(app: &App, caller: &Caller, request: wire::CreateFleetRequest) -> Result<wire::Fleet> {
    caller.require(Role::Operator)?;
    let text = request.fleet.as_ref().map(|fleet| fleet.manifest.as_str()).unwrap_or_default();
    let given = read(text, "fleet_id", &request.fleet_id)?;
    write(app, caller, "CreateFleet", &request.request_id, &request, given, Existing::Refuse, request.validate_only).await
}

/// Replaces a fleet's manifest.
pub async fn update(app: &App, caller: &Caller, request: wire::UpdateFleetRequest) -> Result<wire::Fleet> {
    caller.require(Role::Operator)?;
    db::check_mask(request.update_mask.as_ref(), &["manifest"])?;
    let fleet = request.fleet.as_ref().ok_or_else(|| Error::invalid("fleet", "is missing"))?;
    let id = if fleet.name.is_empty() {
        String::new()
    } else {
        parse_name::<FleetName>("fleet.name", &fleet.name)?.fleet().to_owned()
    };
    let given = read(&fleet.manifest, "fleet.name", &id)?;
    let existing = Existing::Replace { etag: fleet.etag.clone(), make_missing: request.allow_missing };
    write(app, caller, "UpdateFleet", &request.request_id, &request, given, existing, request.validate_only).await
}

/// What to do about a fleet of that name.
enum Existing {
    Refuse,
    Replace { etag: String, make_missing: bool },
}

#[expect(clippy::too_many_arguments, reason = "the parts of a mutation, each named once by its caller")]
async fn write(
    app: &App,
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    request: &impl prost::Message,
    given: Given,
    existing: Existing,
    validate_only: bool,
) -> Result<wire::Fleet> {
    if validate_only {
        // The whole effect, and then as if it had not been.
        let mut tx = db::begin(&app.pool).await?;
        return effect(&mut tx, caller, method, &given, &existing).await;
    }
    once!(app.pool, caller, method, request_id, *request, tx => { effect(tx, caller, method, &given, &existing).await })
}

async fn effect(tx: &mut Tx, caller: &Caller, method: &'static str, given: &Given, existing: &Existing) -> Result<wire::Fleet> {
    let name = &given.spec.name;
    let resource = format!("fleets/{name}");
    match (fleet::lock_fleet(tx, name).await?, existing) {
        (Some(_), Existing::Refuse) => {
            return Err(Error::already_exists(&resource, format!("{resource} exists; update it instead")));
        }
        (None, Existing::Replace { etag: _, make_missing: false }) => return Err(Error::not_found(&resource)),
        (None, Existing::Refuse | Existing::Replace { .. }) => {
            fleet::insert_fleet(tx, name, &given.manifest.text, &given.spec.namespace).await?;
        }
        (Some(stored), Existing::Replace { etag, make_missing: _ }) => {
            db::check_etag(etag, stored.version)?;
            if stored.namespace != given.spec.namespace {
                let message =
                    format!("fleet.manifest: {resource} came from namespace {:?}; fleets have none here", stored.namespace);
                return Err(Error::already_exists(&resource, message));
            }
            if stored.manifest != given.manifest.text {
                fleet::update_fleet(tx, name, &given.manifest.text).await?;
            }
        }
    }
    membership::refresh(tx).await?;
    audit::record(tx, caller, method, &resource).await?;
    let stored = fleet::lock_fleet(tx, name).await?.ok_or_else(|| Error::not_found(&resource))?;
    to_wire(stored, &cluster::every(tx).await?)
}

/// Deletes a fleet.
pub async fn delete(app: &App, caller: &Caller, request: wire::DeleteFleetRequest) -> Result<wire::DeleteFleetResponse> {
    caller.require(Role::Operator)?;
    let name: FleetName = parse_name("name", &request.name)?;
    once!(app.pool, caller, "DeleteFleet", request.request_id, request, tx => {
        let stored = fleet::lock_fleet(tx, name.fleet()).await?.ok_or_else(|| Error::not_found(&name))?;
        db::check_etag(&request.etag, stored.version)?;
        fleet::delete_fleet(tx, name.fleet()).await?;
        membership::refresh(tx).await?;
        audit::record(tx, caller, "DeleteFleet", &name.to_string()).await?;
        Ok(wire::DeleteFleetResponse {})
    })
}
