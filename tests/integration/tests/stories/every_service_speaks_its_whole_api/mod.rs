//! Every service speaks its whole API: the walk knows of the RPCs only what server reflection shows of them.
//!
//! Every resource and verb is exercised on the running services; in the end what was found and what was walked is compared,
//! so that an RPC that answers UNIMPLEMENTED, or that nobody thought of here, fails by its name.

mod made_by_muster;
mod offered;
mod reflection;
mod samples;
mod verbs;
mod watches;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::refusal::names_field;
use prost_reflect::MethodDescriptor;
use serde_json::{Value, json};

use self::made_by_muster::Scene;
use self::reflection::{Api, Shown};
use self::samples::SAMPLES;
use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn every_service_speaks_its_whole_api() -> Result<()> {
    let platform = common::training_platform().await?;
    let clients = platform.clients()?;
    let api = Api::discover(&clients).await?;
    let resources = offered::resources(&api);
    offered::agree_with_the_document(&resources)?;
    offered::follow_the_conventions(&resources)?;
    for sample in SAMPLES {
        let resource = resources.iter().find(|resource| resource.name() == sample.resource);
        let resource = resource.with_context(|| format!("{} is no resource", sample.resource))?;
        verbs::walk(&api, &clients, resource, sample).await.with_context(|| sample.resource.to_owned())?;
    }
    Scene { api: &api, clients: &clients, platform: &platform, resources: &resources }.walk().await?;
    names_are_bounded(&api, &clients).await?;
    everything_was_walked(&api)
}

/// What was found and what was walked is the same.
fn everything_was_walked(api: &Api) -> Result<()> {
    let has = |method: &MethodDescriptor, field: &str| method.input().get_field_by_name(field).is_some();
    let takes_etag = |method: &MethodDescriptor| {
        let held = |verb: &str| {
            let resource = method.name().strip_prefix(verb).is_some();
            resource && method.output().get_field_by_name("etag").is_some()
        };
        has(method, "etag") || held("Update")
    };
    let mut missing = Vec::new();
    for method in api.methods() {
        let wanted = [
            (Shown::Called, true),
            (Shown::Repeated, has(method, "request_id")),
            (Shown::Paged, has(method, "page_token")),
            (Shown::Staled, takes_etag(method)),
        ];
        let not = wanted.into_iter().filter(|(shown, needed)| *needed && !api.has_shown(method, *shown));
        missing.extend(not.map(|(shown, _)| format!("{} {shown:?}", method.full_name())));
    }
    ensure!(missing.is_empty(), "reflection shows RPCs that were not walked, or answer UNIMPLEMENTED: {missing:#?}");
    Ok(())
}

/// An identifier of 64 characters, or outside the grammar, is refused by its field, wherever a request that was answered
/// holds a name.
async fn names_are_bounded(api: &Api, clients: &Clients) -> Result<()> {
    let answered = api.answered();
    let mut tried = 0;
    for method in api.methods() {
        let Some(request) = answered.get(method.full_name()) else { continue };
        // Of the resource in an update its name is read, and what the mask says: other names change nothing.
        let is_read = |field: &str| !method.name().starts_with("Update") || field.ends_with(".name");
        for (field, mut request) in with_bad_names(request).into_iter().filter(|(field, _)| is_read(field)) {
            if request.get("request_id").is_some() {
                request["request_id"] = json!("");
            }
            let what = format!("{} {request}", method.full_name());
            names_field(&api.refusal(clients, method, &request).await?, &field, &what)?;
            tried += 1;
        }
    }
    // Every resource can at least be got and listed by a name of its own or its parent's.
    ensure!(tried > api.methods().count() / 2, "only {tried} names were tried");
    Ok(())
}

/// For each name in a request, in its own fields and those of the resource it holds: the field, and the request with a name
/// that is none there.
fn with_bad_names(request: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let fields =
        |value: &Value| -> Vec<String> { value.as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default() };
    for field in fields(request) {
        for name in bad_names(&request[&field]) {
            let mut changed = request.clone();
            changed[&field] = json!(name);
            found.push((field.clone(), changed));
        }
        for inner in fields(&request[&field]) {
            for name in bad_names(&request[&field][&inner]) {
                let mut changed = request.clone();
                changed[&field][&inner] = json!(name);
                found.push((format!("{field}.{inner}"), changed));
            }
        }
    }
    found
}

/// The same resource name with identifiers that are too long or outside the grammar, and in another collection; none where
/// the value is no resource name.
fn bad_names(value: &Value) -> Vec<String> {
    const COLLECTIONS: [&str; 10] = [
        "clusters",
        "fleets",
        "enrolmentTokens",
        "accessTokens",
        "priceBooks",
        "queues",
        "namespaces",
        "models",
        "policies",
        "fleetPolicies",
    ];
    let Some(name) = value.as_str() else { return Vec::new() };
    let (Some((collection, _)), Some((parent, _))) = (name.split_once('/'), name.rsplit_once('/')) else { return Vec::new() };
    if !COLLECTIONS.contains(&collection) {
        return Vec::new();
    }
    let mut bad: Vec<String> = vec![format!("nobodys{name}"), format!("{name}/more/parts")];
    let overlong = "a".repeat(64);
    bad.extend(["", "Not A Name", "-edge", "edge.", "\u{e4}", &overlong].map(|id| format!("{parent}/{id}")));
    bad
}
