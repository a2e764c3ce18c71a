//! Kinds that are added while the server runs.

use super::{MERGE, STRATEGIC, Scratch, apply, delete, eventually, get, gone, list_cases, owner, patch, post, put, version};
use anyhow::{Context as _, Result, ensure};
use kube::Client;
use serde_json::{Value, json};

list_cases![
    a_defined_kind_is_served_until_it_is_deleted,
    a_kind_may_be_cluster_scoped,
    unknown_fields_are_pruned_and_defaults_written,
    a_schema_is_enforced,
    status_is_apart_where_the_kind_says_so,
    an_update_has_to_name_its_version,
    list_types_of_the_schema_count,
    a_definition_has_to_be_whole,
    a_kind_has_several_versions,
];

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A kind of a case's own; it is deleted when the case ends.
pub(super) struct Defined {
    client: Client,
    group: String,
    namespaced: bool,
}

impl Defined {
    /// Defines a kind `Thing` with versions v1 (stored) and v1beta1 and this schema, and waits until it is served.
    pub async fn new(client: &Client, namespaced: bool, schema: Value) -> Result<Self> {
        let group = unique_group(client).await?;
        let version = |name: &str, stored: bool| {
            json!({
                "name": name, "served": true, "storage": stored, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
            })
        };
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("things.{group}")},
            "spec": {
                "group": group, "scope": if namespaced { "Namespaced" } else { "Cluster" },
                "names": {"kind": "Thing", "plural": "things", "shortNames": ["tg"]},
                "versions": [version("v1", true), version("v1beta1", false)],
            },
        });
        post(client, DEFINITIONS, &definition).await?.expect(201)?;
        let defined = Self { client: client.clone(), group, namespaced };
        let path = format!("{DEFINITIONS}/things.{}", defined.group);
        eventually("the kind to be established", || async {
            let definition = get(client, &path).await?.expect(200)?;
            let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True").then_some(()))
        })
        .await?;
        // Established comes a moment before every path is there.
        let list = defined.path("default", "");
        eventually("the kind to be served", || async { Ok((get(client, &list).await?.code == 200).then_some(())) }).await?;
        Ok(defined)
    }

    /// The path of its objects, with what follows.
    pub fn path(&self, namespace: &str, rest: &str) -> String {
        self.path_in("v1", namespace, rest)
    }

    fn path_in(&self, version: &str, namespace: &str, rest: &str) -> String {
        let place = if self.namespaced { format!("namespaces/{namespace}/") } else { String::new() };
        format!("/apis/{}/{version}/{place}things{rest}", self.group)
    }

    /// An object of it.
    pub fn object(&self, name: &str, spec: Value) -> Value {
        json!({"apiVersion": format!("{}/v1", self.group), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
    }
}

impl Drop for Defined {
    fn drop(&mut self) {
        let (client, path) = (self.client.clone(), format!("{DEFINITIONS}/things.{}", self.group));
        tokio::spawn(async move { delete(&client, &path, None).await.map(drop) });
    }
}

/// A group nobody else has: the server's own suffixes are as good as any.
async fn unique_group(client: &Client) -> Result<String> {
    let scratch = Scratch::new(client).await?;
    Ok(format!("{}.example.com", scratch.namespace))
}

fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn structural() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 9},
            "mode": {"type": "string", "enum": ["slow", "fast"], "default": "slow"},
            "parts": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "value": {"type": "string"}}},
            },
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "order": {"type": "array", "items": {"type": "string"}},
        }},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    }})
}

async fn a_defined_kind_is_served_until_it_is_deleted(client: Client) -> Result<()> {
    let kind = Defined::new(&client, true, anything()).await?;
    let scratch = Scratch::new(&client).await?;
    let groups = get(&client, "/apis").await?.expect(200)?;
    ensure!(
        groups["groups"].as_array().is_some_and(|all| all.iter().any(|group| group["name"] == kind.group.as_str())),
        "{}",
        kind.group
    );
    let made = post(&client, &kind.path(&scratch.namespace, ""), &kind.object("a", json!({"any": {"thing": [1]}})))
        .await?
        .expect(201)?;
    ensure!(made["spec"]["any"]["thing"] == json!([1]) && made["metadata"]["generation"] == 1, "{made}");
    let list = get(&client, &kind.path(&scratch.namespace, "")).await?.expect(200)?;
    ensure!(list["kind"] == "ThingList" && list["items"][0]["kind"] == "Thing", "{list}");
    let definition = format!("{DEFINITIONS}/things.{}", kind.group);
    delete(&client, &definition, None).await?.expect(200)?;
    gone(&client, &definition).await?;
    gone(&client, &kind.path(&scratch.namespace, "")).await
}

async fn a_kind_may_be_cluster_scoped(client: Client) -> Result<()> {
    let kind = Defined::new(&client, false, anything()).await?;
    let made = post(&client, &kind.path("", ""), &kind.object("a", json!({}))).await?.expect(201)?;
    ensure!(made["metadata"]["namespace"].is_null(), "{made}");
    let misplaced = format!("/apis/{}/v1/namespaces/default/things", kind.group);
    ensure!(get(&client, &misplaced).await?.code == 404, "it has no namespaces");
    Ok(())
}

async fn unknown_fields_are_pruned_and_defaults_written(client: Client) -> Result<()> {
    let kind = Defined::new(&client, true, structural()).await?;
    let scratch = Scratch::new(&client).await?;
    let path = kind.path(&scratch.namespace, "");
    let made = post(&client, &path, &kind.object("a", json!({"size": 3, "unknown": 1}))).await?.expect(201)?;
    ensure!(made["spec"] == json!({"size": 3, "mode": "slow"}), "{made}");
    let strict = kind.path(&scratch.namespace, "?fieldValidation=Strict");
    let status = post(&client, &strict, &kind.object("b", json!({"size": 3, "unknown": 1}))).await?.refused(400, "BadRequest")?;
    ensure!(status["message"].as_str().is_some_and(|text| text.contains("unknown field \"spec.unknown\"")), "{status}");
    Ok(())
}

async fn a_schema_is_enforced(client: Client) -> Result<()> {
    let kind = Defined::new(&client, true, structural()).await?;
    let scratch = Scratch::new(&client).await?;
    let path = kind.path(&scratch.namespace, "");
    for (spec, field) in [
        (json!({}), "spec.size"),
        (json!({"size": "three"}), "spec.size"),
        (json!({"size": 0}), "spec.size"),
        (json!({"size": 10}), "spec.size"),
        (json!({"size": 3, "mode": "medium"}), "spec.mode"),
        (json!({"size": 3, "parts": [{"value": "x"}]}), "spec.parts[0].name"),
    ] {
        let status = post(&client, &path, &kind.object("a", spec.clone())).await?.refused(422, "Invalid")?;
        let causes = status["details"]["causes"].as_array().context("no causes")?;
        ensure!(causes.iter().any(|cause| cause["field"] == field), "{spec}: {status}");
    }
    Ok(())
}

async fn status_is_apart_where_the_kind_says_so(client: Client) -> Result<()> {
    let kind = Defined::new(&client, true, structural()).await?;
    let scratch = Scratch::new(&client).await?;
    let mut body = kind.object("a", json!({"size": 1}));
    body["status"] = json!({"phase": "Ready"});
    let made = post(&client, &kind.path(&scratch.namespace, ""), &body).await?.expect(201)?;
    ensure!(made["status"].is_null(), "{made}");
    let path = kind.path(&scratch.namespace, "/a");
    let mut report = made.clone();
    report["status"] = json!({"phase": "Ready"});
    report["spec"]["size"] = json!(9);
    let after = put(&client, &format!("{path}/status"), &report).await?.expect(200)?;
    ensure!(after["status"]["phase"] == "Ready" && after["spec"]["size"] == 1, "{after}");
    ensure!(after["metadata"]["generation"] == 1, "a report is no change of the spec: {after}");
    let after = patch(&client, &path, MERGE, &json!({"spec": {"size": 2}, "status": {"phase": "Lost"}})).await?.expect(200)?;
    ensure!(after["status"]["phase"] == "Ready" && after["metadata"]["generation"] == 2, "{after}");
    Ok(())
}

async fn an_update_has_to_name_its_version(client: Client) -> Result<()> {
    let kind = Defined::new(&client, true, anything()).await?;
    let scratch = Scratch::new(&client).await?;
    let made = post(&client, &kind.path(&scratch.namespace, ""), &kind.object("a", json!({"x": 1}))).await?.expect(201)?;
    let path = kind.path(&scratch.namespace, "/a");
    let mut next = kind.object("a", json!({"x": 2}));
    put(&client, &path, &next).await?.refused(422, "Invalid")?;
    next["metadata"]["resourceVersion"] = json!(version(&made)?);
    put(&client, &path, &next).await?.expect(200)?;
    put(&client, &path, &next).await?.refused(409, "Conflict")?;
    patch(&client, &path, STRATEGIC, &json!({"spec": {"x": 3}})).await?.refused(415, "UnsupportedMediaType")?;
    Ok(())
}

async fn list_types_of_the_schema_count(client: Client) -> Result<()> {
    let kind = Defined::new(&client, true, structural()).await?;
    let scratch = Scratch::new(&client).await?;
    let path = kind.path(&scratch.namespace, "/a");
    let one = kind.object("a", json!({"size": 1, "parts": [{"name": "p", "value": "1"}], "tags": ["x"], "order": ["1"]}));
    apply(&client, &path, "one", "", &one).await?.expect(201)?;
    let two = json!({
        "apiVersion": one["apiVersion"], "kind": "Thing", "metadata": {"name": "a"},
        "spec": {"parts": [{"name": "q", "value": "2"}], "tags": ["y"]},
    });
    let after = apply(&client, &path, "two", "", &two).await?.expect(200)?;
    ensure!(after["spec"]["parts"].as_array().is_some_and(|parts| parts.len() == 2), "{after}");
    ensure!(after["spec"]["tags"] == json!(["x", "y"]), "{after}");
    let fields = &owner(&after, "two", "Apply")?["fieldsV1"]["f:spec"];
    ensure!(fields["f:parts"].get("k:{\"name\":\"q\"}").is_some() && fields["f:tags"].get("v:\"y\"").is_some(), "{fields}");
    // A plain list is one value.
    let mut whole = two.clone();
    whole["spec"]["order"] = json!(["2"]);
    let status = apply(&client, &path, "two", "", &whole).await?.refused(409, "Conflict")?;
    ensure!(status["details"]["causes"][0]["field"] == ".spec.order", "{status}");
    let less = kind.object("a", json!({"size": 1}));
    let after = apply(&client, &path, "one", "", &less).await?.expect(200)?;
    ensure!(after["spec"]["parts"] == json!([{"name": "q", "value": "2"}]) && after["spec"]["tags"] == json!(["y"]), "{after}");
    ensure!(after["spec"]["order"].is_null(), "{after}");
    Ok(())
}

async fn a_definition_has_to_be_whole(client: Client) -> Result<()> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "wrong.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let status = post(&client, DEFINITIONS, &definition).await?.refused(422, "Invalid")?;
    let causes = status["details"]["causes"].as_array().context("no causes")?;
    ensure!(causes.iter().any(|cause| cause["field"] == "metadata.name"), "{status}");
    Ok(())
}

async fn a_kind_has_several_versions(client: Client) -> Result<()> {
    let kind = Defined::new(&client, true, anything()).await?;
    let scratch = Scratch::new(&client).await?;
    let old = format!("{}/v1beta1", kind.group);
    let mut body = kind.object("a", json!({"x": 1}));
    body["apiVersion"] = json!(old);
    let made = post(&client, &kind.path_in("v1beta1", &scratch.namespace, ""), &body).await?.expect(201)?;
    ensure!(made["apiVersion"] == old.as_str(), "{made}");
    let new = get(&client, &kind.path(&scratch.namespace, "/a")).await?.expect(200)?;
    ensure!(new["apiVersion"] == format!("{}/v1", kind.group) && new["spec"] == made["spec"], "{new}");
    Ok(())
}
