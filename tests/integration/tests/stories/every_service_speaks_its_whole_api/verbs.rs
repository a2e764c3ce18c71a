//! The standard verbs of every resource, by the conventions and by nothing else.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::eventually;
use muster_integration_tests::patience::Look;
use muster_integration_tests::refusal::{has_reason, names_field, names_field_of};
use prost_reflect::MethodDescriptor;
use serde_json::{Value, json};
use tonic::Code;

use super::offered::Resource;
use super::reflection::{Api, Shown};
use super::samples::Sample;
use super::watches::Watch;

/// An etag that no row has.
const STALE: &str = "v999999999";

/// The pages asked for: three of one row.
const PAGES: usize = 3;

/// Makes three, reads, changes and deletes them.
pub async fn walk(api: &Api, clients: &Clients, resource: &Resource, sample: &Sample) -> Result<()> {
    let [first, second, third] = ["walk-a", "walk-b", "walk-c"].map(|id| format!("{}{id}", sample.collection));
    let watch = match resource.verbs.get("Watch") {
        Some(method) => Some(Watch::begin(api, clients, method, sample.parent).await?),
        None => None,
    };
    create(api, clients, resource, sample).await?;
    for name in [&first, &second, &third] {
        get(api, clients, resource, name).await?;
    }
    pages(api, clients, resource.verb("List")?, sample.parent).await?;
    let before = names(api, clients, resource, sample).await?;
    ensure!([&first, &second, &third].into_iter().all(|name| before.contains(name)), "made, and not listed: {before:?}");

    update(api, clients, resource, sample, "walk-b").await?;
    delete(api, clients, resource, sample, &third).await?;
    let after = names(api, clients, resource, sample).await?;
    ensure!(!after.contains(&third) && after.contains(&first) && after.contains(&second), "after the deletion: {after:?}");
    if let Some(watch) = watch {
        let changed = [&first, &second, &third, &second].map(|name| (name.as_str(), "CHANGED"));
        watch.saw(api, clients, &[&changed[..], &[(third.as_str(), "DELETED")]].concat()).await?;
    }
    Ok(())
}

/// The resources there are, and what they are called.
async fn names(api: &Api, clients: &Clients, resource: &Resource, sample: &Sample) -> Result<BTreeSet<String>> {
    let method = resource.verb("List")?;
    let mut request = json!({"page_size": 1_000});
    if !sample.parent.is_empty() {
        request["parent"] = json!(sample.parent);
    }
    let answer = api.call(clients, method, &request).await?;
    let rows = rows(method, &answer)?;
    Ok(rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect())
}

fn rows<'a>(method: &MethodDescriptor, answer: &'a Value) -> Result<&'a [Value]> {
    let repeated = method.output().fields().find(|field| field.is_list()).context("a page without rows")?;
    Ok(answer[repeated.name()].as_array().map(Vec::as_slice).unwrap_or_default())
}

async fn create(api: &Api, clients: &Clients, resource: &Resource, sample: &Sample) -> Result<()> {
    let method = resource.verb("Create")?;
    let field = resource.field_in(&method.input())?;
    let id_field = format!("{field}_id");
    let request = |id: &str| {
        let mut request = json!({&id_field: id, &field: (sample.body)(id, "first")});
        if !sample.parent.is_empty() {
            request["parent"] = json!(sample.parent);
        }
        request
    };
    let before = names(api, clients, resource, sample).await?;
    let made = api.twice(clients, method, &request("walk-a")).await?;
    let name = format!("{}walk-a", sample.collection);
    ensure!(made["name"] == json!(name), "{} answers {made}", method.full_name());
    let mut expected = before;
    expected.insert(name);
    ensure!(names(api, clients, resource, sample).await? == expected, "{}: one effect", method.full_name());

    let mut other = request("walk-b");
    other["request_id"] = json!(uuid::Uuid::new_v4().to_string());
    api.call(clients, method, &other).await?;
    let mut misused = request("walk-c");
    misused["request_id"] = other["request_id"].clone();
    let refusal = api.refusal(clients, method, &misused).await?;
    names_field(&refusal, "request_id", &format!("{}: one request_id for two requests", method.full_name()))?;
    misused["request_id"] = json!("no-uuid");
    names_field(&api.refusal(clients, method, &misused).await?, "request_id", method.full_name())?;
    if method.input().get_field_by_name("validate_only").is_some() {
        let mut checked = request("walk-c");
        checked["validate_only"] = json!(true);
        let answer = api.call(clients, method, &checked).await?;
        ensure!(answer["name"] == json!(format!("{}walk-c", sample.collection)), "{}: {answer}", method.full_name());
        let get = json!({"name": format!("{}walk-c", sample.collection)});
        let missing = api.refusal(clients, resource.verb("Get")?, &get).await?;
        has_reason(&missing, Code::NotFound, "NOT_FOUND", &format!("{}: only checked, and stored", method.full_name()))?;
    }
    api.call(clients, method, &request("walk-c")).await?;

    // The identifier, and the same in the document.
    let overlong = "a".repeat(64);
    let mut named = request("walk-d");
    named[&id_field] = json!(overlong);
    names_field(&api.refusal(clients, method, &named).await?, &id_field, method.full_name())?;
    let document = (sample.body)(&overlong, "first");
    if document.get("manifest").is_some() {
        let mut written = request("walk-d");
        written[&field] = document;
        written[&id_field] = json!("");
        let refusal = api.refusal(clients, method, &written).await?;
        names_field_of(&refusal, &format!("{field}.manifest"), method.full_name())?;
        ensure!(refusal.message().contains("metadata.name"), "{}: {refusal}", method.full_name());
    }
    Ok(())
}

/// One resource; and nothing under another name.
pub async fn get(api: &Api, clients: &Clients, resource: &Resource, name: &str) -> Result<Value> {
    let method = resource.verb("Get")?;
    let found = api.call(clients, method, &json!({"name": name})).await.with_context(|| name.to_owned())?;
    ensure!(found["name"] == json!(name), "{} of {name} answers {found}", method.full_name());
    let (parent, _) = name.rsplit_once('/').context("a name has a collection")?;
    let missing = if parent.ends_with("/runs") { "999".to_owned() } else { "not-there".to_owned() };
    let refusal = api.refusal(clients, method, &json!({"name": format!("{parent}/{missing}")})).await?;
    has_reason(&refusal, Code::NotFound, "NOT_FOUND", method.full_name())?;
    Ok(found)
}

/// Three pages of one row, all different; and tokens and sizes that are none.
pub async fn pages(api: &Api, clients: &Clients, method: &MethodDescriptor, parent: &str) -> Result<()> {
    let mut request = json!({"page_size": 1});
    if !parent.is_empty() {
        request["parent"] = json!(parent);
    }
    pages_of(api, clients, method, request).await
}

/// As [`pages`], of a request that is more than a parent.
pub async fn pages_of(api: &Api, clients: &Clients, method: &MethodDescriptor, mut request: Value) -> Result<()> {
    let what = method.full_name();
    let mut seen = BTreeSet::new();
    for page in 1..=PAGES {
        let answer = api.call(clients, method, &request).await?;
        let rows = rows(method, &answer)?;
        ensure!(rows.len() == 1, "{what}: page {page} of one row has {}: {answer}", rows.len());
        ensure!(seen.insert(rows[0].to_string()), "{what}: page {page} has a row that was there before");
        request["page_token"] = answer["next_page_token"].clone();
        let more = answer["next_page_token"].as_str().is_some_and(|token| !token.is_empty());
        ensure!(more || page == PAGES, "{what}: page {page} is the last: {answer}");
    }
    request["page_token"] = json!("no-token");
    names_field(&api.refusal(clients, method, &request).await?, "page_token", what)?;
    request["page_token"] = json!("");
    request["page_size"] = json!(-1);
    names_field(&api.refusal(clients, method, &request).await?, "page_size", what)?;
    // More than there may be is as much as there may be.
    request["page_size"] = json!(i32::MAX);
    api.call(clients, method, &request).await?;
    api.note(method, Shown::Paged);
    Ok(())
}

async fn update(api: &Api, clients: &Clients, resource: &Resource, sample: &Sample, id: &str) -> Result<()> {
    let method = resource.verb("Update")?;
    let field = resource.field_in(&method.input())?;
    let name = format!("{}{id}", sample.collection);
    let request = |etag: &Value| {
        let mut body = (sample.body)(id, "second");
        // What an update does not change is not sent.
        if resource.name() == "Job" {
            body = json!({"priority": body["priority"]});
        }
        body["name"] = json!(name);
        body["etag"] = etag.clone();
        json!({ &field: body })
    };
    let before = get(api, clients, resource, &name).await?;
    let stale = api.refusal(clients, method, &request(&json!(STALE))).await?;
    has_reason(&stale, Code::Aborted, "STALE_ETAG", method.full_name())?;
    api.note(method, Shown::Staled);
    // A reconciler may come between reading and writing: then it is read again, as people do.
    let changed = eventually(&format!("{} with a current etag", method.full_name()), async || {
        let current = get(api, clients, resource, &name).await?;
        Ok(Look::Is(api.twice(clients, method, &request(&current["etag"])).await?))
    })
    .await?;
    ensure!(changed["etag"] != before["etag"], "{} leaves the etag: {changed}", method.full_name());
    let mut unknown = request(&json!(""));
    unknown["update_mask"] = json!("noSuchField");
    names_field(&api.refusal(clients, method, &unknown).await?, "update_mask", method.full_name())?;
    Ok(())
}

async fn delete(api: &Api, clients: &Clients, resource: &Resource, sample: &Sample, name: &str) -> Result<()> {
    let method = resource.verb("Delete")?;
    if let Some(end) = sample.end {
        api.twice(clients, api.method(end)?, &json!({"name": name})).await?;
    }
    let stale = api.refusal(clients, method, &json!({"name": name, "etag": STALE})).await?;
    has_reason(&stale, Code::Aborted, "STALE_ETAG", method.full_name())?;
    api.note(method, Shown::Staled);
    eventually(&format!("{} with a current etag", method.full_name()), async || {
        let current = get(api, clients, resource, name).await?;
        Ok(Look::Is(api.twice(clients, method, &json!({"name": name, "etag": current["etag"]})).await?))
    })
    .await?;
    for method in [method, resource.verb("Get")?] {
        let gone = api.refusal(clients, method, &json!({"name": name})).await?;
        has_reason(&gone, Code::NotFound, "NOT_FOUND", method.full_name())?;
    }
    Ok(())
}
