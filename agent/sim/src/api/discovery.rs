//! What a cluster serves: versions, groups, resources, in the old form and in the aggregated one.

use crate::{resource::ResourceType, state::State, status::ApiError};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// `/version`.
pub fn version(state: &State) -> Value {
    let version = &state.config.version;
    let mut parts = version.split('.');
    json!({
        "major": parts.next().unwrap_or(""), "minor": parts.next().unwrap_or(""), "gitVersion": format!("v{version}"),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "",
        "platform": "linux/amd64",
    })
}

/// `/api`.
pub fn core_versions() -> Value {
    let server = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]);
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": server})
}

/// The kinds of each group, groups and kinds in order.
fn by_group(state: &State) -> BTreeMap<&str, Vec<&Arc<ResourceType>>> {
    let mut groups: BTreeMap<&str, Vec<&Arc<ResourceType>>> = BTreeMap::new();
    for kind in state.types.all() {
        groups.entry(&kind.group).or_default().push(kind);
    }
    groups
}

/// The served versions of a group, the preferred one first: stable before beta before alpha, then the higher number.
fn versions<'a>(kinds: &[&'a Arc<ResourceType>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = kinds
        .iter()
        .flat_map(|kind| &kind.versions)
        .filter(|version| version.served)
        .map(|version| version.name.as_str())
        .collect();
    names.sort_by_key(|name| std::cmp::Reverse(rank(name)));
    names.dedup();
    names
}

fn rank(version: &str) -> (u8, u32, u32) {
    let rest = version.trim_start_matches('v');
    let number = |text: &str| text.parse().unwrap_or(0);
    match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((major, minor)), _) => (1, number(major), number(minor)),
        (None, Some((major, minor))) => (0, number(major), number(minor)),
        (None, None) => (2, number(rest), 0),
    }
}

fn group_object(name: &str, kinds: &[&Arc<ResourceType>]) -> Value {
    let versions: Vec<Value> = versions(kinds)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis`.
pub fn groups(state: &State) -> Value {
    let groups: Vec<Value> =
        by_group(state).iter().filter(|(name, _)| !name.is_empty()).map(|(name, kinds)| group_object(name, kinds)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub fn group(state: &State, name: &str) -> Result<Value, ApiError> {
    let groups = by_group(state);
    let kinds = groups.get(name).filter(|_| !name.is_empty()).ok_or_else(ApiError::no_such_path)?;
    let mut group = group_object(name, kinds);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Ok(group)
}

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Subresources of a kind in a version: name, kind, group, version and verbs.
fn subresources(kind: &ResourceType, version: usize) -> Vec<(String, String, String, String, Vec<&'static str>)> {
    let mut found = Vec::new();
    let described = &kind.versions[version];
    let own = |name: &str, verbs: Vec<&'static str>| {
        (name.to_owned(), kind.kind.clone(), kind.group.clone(), described.name.clone(), verbs)
    };
    if described.status {
        found.push(own("status", vec!["get", "patch", "update"]));
    }
    if described.scale.is_some() {
        found.push((
            "scale".to_owned(),
            "Scale".to_owned(),
            "autoscaling".to_owned(),
            "v1".to_owned(),
            vec!["get", "patch", "update"],
        ));
    }
    if kind.kind == "Pod" && kind.group.is_empty() {
        found.push(own("log", vec!["get"]));
        found.push(("eviction".to_owned(), "Eviction".to_owned(), "policy".to_owned(), "v1".to_owned(), vec!["create"]));
        found.push(("binding".to_owned(), "Binding".to_owned(), String::new(), "v1".to_owned(), vec!["create"]));
    }
    found
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub fn resources(state: &State, group: &str, version: &str) -> Result<Value, ApiError> {
    let mut resources = Vec::new();
    for kind in state.types.all().filter(|kind| kind.group == group) {
        let Some(index) = kind.served(version) else { continue };
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": VERBS,
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        resources.push(entry);
        for (name, sub_kind, sub_group, sub_version, verbs) in subresources(kind, index) {
            let mut entry = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": sub_kind, "verbs": verbs,
            });
            if sub_group != kind.group {
                entry["group"] = json!(sub_group);
                entry["version"] = json!(sub_version);
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}))
}

/// Everything at once, as `apidiscovery.k8s.io/v2`: the core group, or all the others.
pub fn aggregated(state: &State, core: bool) -> Value {
    let groups = by_group(state);
    let items: Vec<Value> = groups
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, kinds)| {
            let versions: Vec<Value> = versions(kinds).into_iter().map(|version| aggregated_version(kinds, version)).collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_version(kinds: &[&Arc<ResourceType>], version: &str) -> Value {
    let resources: Vec<Value> = kinds
        .iter()
        .filter_map(|kind| Some((kind, kind.served(version)?)))
        .map(|(kind, index)| {
            let subresources: Vec<Value> = subresources(kind, index)
                .into_iter()
                .map(|(name, sub_kind, sub_group, sub_version, verbs)| {
                    let kind = json!({"group": sub_group, "version": sub_version, "kind": sub_kind});
                    json!({"subresource": name, "responseKind": kind, "verbs": verbs})
                })
                .collect();
            json!({
                "resource": kind.plural,
                "responseKind": {"group": kind.group, "version": version, "kind": kind.kind},
                "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": kind.singular, "verbs": VERBS, "shortNames": kind.short_names,
                "categories": kind.categories, "subresources": subresources,
            })
        })
        .collect();
    json!({"version": version, "resources": resources, "freshness": "Current"})
}
