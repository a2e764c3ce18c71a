//! Server-side apply: who owns what, who may take it, and what goes when nobody says it any more.

use super::{APPLY, MERGE, Scratch, apply, config_map, deployment, get, list_cases, owner, patch, version};
use anyhow::{Context as _, Result, ensure};
use kube::Client;
use serde_json::{Value, json};

list_cases![
    an_apply_creates_and_owns,
    the_same_apply_twice_changes_nothing,
    another_managers_field_is_a_conflict,
    force_takes_the_field_over,
    equal_values_are_shared,
    what_is_no_longer_said_is_removed,
    what_another_still_says_stays,
    list_elements_are_owned_by_key,
    ports_are_keyed_by_number_and_protocol,
    an_update_takes_the_fields_it_changes,
    an_apply_that_cannot_be_read_is_refused,
    an_unknown_field_is_refused,
    status_is_applied_on_its_own,
    the_applied_order_of_a_list_counts,
    ownership_can_be_reset,
];

async fn an_apply_creates_and_owns(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments/a");
    let made = apply(&client, &path, "one", "", &deployment("a")).await?.expect(201)?;
    let entry = owner(&made, "one", "Apply")?;
    ensure!(entry["apiVersion"] == "apps/v1" && entry["fieldsType"] == "FieldsV1" && entry["time"].is_string(), "{entry}");
    let expected = json!({"f:spec": {
        "f:replicas": {}, "f:selector": {},
        "f:template": {
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}, "f:name": {}}}},
        },
    }});
    ensure!(entry["fieldsV1"] == expected, "{entry}");
    ensure!(made["spec"]["revisionHistoryLimit"] == 10, "defaults are written and owned by nobody: {made}");
    Ok(())
}

async fn the_same_apply_twice_changes_nothing(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    let first = apply(&client, &path, "one", "", &config_map("a", "1")).await?.expect(201)?;
    let second = apply(&client, &path, "one", "", &config_map("a", "1")).await?.expect(200)?;
    ensure!(first == second, "{first} {second}");
    Ok(())
}

async fn another_managers_field_is_a_conflict(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    apply(&client, &path, "one", "", &config_map("a", "1")).await?.expect(201)?;
    let status = apply(&client, &path, "two", "", &config_map("a", "2")).await?.refused(409, "Conflict")?;
    let causes = status["details"]["causes"].as_array().context("no causes")?;
    ensure!(causes.len() == 1, "{status}");
    ensure!(causes[0]["reason"] == "FieldManagerConflict" && causes[0]["field"] == ".data.key", "{status}");
    ensure!(causes[0]["message"] == "conflict with \"one\"", "{status}");
    ensure!(
        status["message"].as_str().is_some_and(|text| text.starts_with("Apply failed with 1 conflict: conflict with \"one\"")),
        "{status}"
    );
    let after = get(&client, &path).await?.expect(200)?;
    ensure!(after["data"]["key"] == "1" && owner(&after, "two", "Apply").is_err(), "{after}");
    Ok(())
}

async fn force_takes_the_field_over(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    let mut both = config_map("a", "1");
    both["data"]["mine"] = json!("1");
    apply(&client, &path, "one", "", &both).await?.expect(201)?;
    let after = apply(&client, &path, "two", "&force=true", &config_map("a", "2")).await?.expect(200)?;
    ensure!(after["data"] == json!({"key": "2", "mine": "1"}), "{after}");
    ensure!(owner(&after, "one", "Apply")?["fieldsV1"] == json!({"f:data": {"f:mine": {}}}), "{after}");
    ensure!(owner(&after, "two", "Apply")?["fieldsV1"] == json!({"f:data": {"f:key": {}}}), "{after}");
    // The first manager meets a conflict now.
    apply(&client, &path, "one", "", &both).await?.refused(409, "Conflict")?;
    Ok(())
}

async fn equal_values_are_shared(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    apply(&client, &path, "one", "", &config_map("a", "1")).await?.expect(201)?;
    let shared = apply(&client, &path, "two", "", &config_map("a", "1")).await?.expect(200)?;
    for manager in ["one", "two"] {
        ensure!(owner(&shared, manager, "Apply")?["fieldsV1"] == json!({"f:data": {"f:key": {}}}), "{shared}");
    }
    apply(&client, &path, "one", "", &config_map("a", "2")).await?.refused(409, "Conflict")?;
    Ok(())
}

async fn what_is_no_longer_said_is_removed(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments/a");
    let mut full = deployment("a");
    full["metadata"]["labels"] = json!({"x": "1", "y": "2"});
    full["spec"]["template"]["spec"]["containers"] = json!([
        {"name": "main", "image": "registry.example.com/main:v1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"name": "side", "image": "registry.example.com/side:v1"},
    ]);
    apply(&client, &path, "one", "", &full).await?.expect(201)?;
    let mut less = deployment("a");
    less["metadata"]["labels"] = json!({"x": "1"});
    less["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "B", "value": "2"}]);
    let after = apply(&client, &path, "one", "", &less).await?.expect(200)?;
    ensure!(after["metadata"]["labels"] == json!({"x": "1"}), "{after}");
    let containers = after["spec"]["template"]["spec"]["containers"].as_array().context("no containers")?;
    ensure!(containers.len() == 1 && containers[0]["env"] == json!([{"name": "B", "value": "2"}]), "{after}");
    // A field that falls back has its default again.
    let mut body = deployment("a");
    json_remove(&mut body, "replicas");
    let after = apply(&client, &path, "one", "", &body).await?.expect(200)?;
    ensure!(after["spec"]["replicas"] == 1 && after["metadata"]["labels"].is_null(), "{after}");
    Ok(())
}

fn json_remove(deployment: &mut Value, field: &str) {
    if let Some(spec) = deployment["spec"].as_object_mut() {
        spec.shift_remove(field);
    }
}

async fn what_another_still_says_stays(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    let mut both = config_map("a", "1");
    both["data"]["own"] = json!("1");
    apply(&client, &path, "one", "", &both).await?.expect(201)?;
    apply(&client, &path, "two", "", &config_map("a", "1")).await?.expect(200)?;
    let empty = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let after = apply(&client, &path, "one", "", &empty).await?.expect(200)?;
    ensure!(after["data"] == json!({"key": "1"}), "{after}");
    let after = apply(&client, &path, "two", "", &empty).await?.expect(200)?;
    ensure!(after["data"].as_object().is_none_or(serde_json::Map::is_empty), "{after}");
    Ok(())
}

async fn list_elements_are_owned_by_key(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments/a");
    apply(&client, &path, "one", "", &deployment("a")).await?.expect(201)?;
    let part = |containers: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": containers}}}});
    let config = part(json!([{"name": "main", "env": [{"name": "A", "value": "1"}]}]));
    let after = apply(&client, &path, "two", "", &config).await?.expect(200)?;
    let main = &after["spec"]["template"]["spec"]["containers"][0];
    ensure!(main["image"] == "registry.example.com/main:v1" && main["env"][0]["value"] == "1", "{after}");
    let fields = &owner(&after, "two", "Apply")?["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"];
    let expected = json!({"k:{\"name\":\"main\"}": {
        ".": {}, "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:name": {},
    }});
    ensure!(*fields == expected, "{fields}");
    // The first manager changes its image and leaves the other's variable alone.
    let mut newer = deployment("a");
    newer["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example.com/main:v2");
    let after = apply(&client, &path, "one", "", &newer).await?.expect(200)?;
    let main = &after["spec"]["template"]["spec"]["containers"][0];
    ensure!(main["image"] == "registry.example.com/main:v2" && main["env"][0]["name"] == "A", "{after}");
    // And the second takes its variable away again without taking the container.
    let after = apply(&client, &path, "two", "", &part(json!([{"name": "main"}]))).await?.expect(200)?;
    let main = &after["spec"]["template"]["spec"]["containers"][0];
    ensure!(main["env"].is_null() && main["image"] == "registry.example.com/main:v2", "{after}");
    Ok(())
}

async fn ports_are_keyed_by_number_and_protocol(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "services/a");
    let service =
        |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": ports}});
    let first = service(json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]));
    let made = apply(&client, &path, "one", "", &first).await?.expect(201)?;
    let ports = &owner(&made, "one", "Apply")?["fieldsV1"]["f:spec"]["f:ports"];
    ensure!(
        ports.get("k:{\"port\":53,\"protocol\":\"UDP\"}").is_some()
            && ports.get("k:{\"port\":53,\"protocol\":\"TCP\"}").is_some(),
        "{ports}"
    );
    let after = apply(&client, &path, "two", "", &service(json!([{"name": "web", "port": 80}]))).await?.expect(200)?;
    ensure!(after["spec"]["ports"].as_array().is_some_and(|ports| ports.len() == 3), "{after}");
    let after = apply(&client, &path, "one", "", &service(json!([{"name": "dns-tcp", "port": 53}]))).await?.expect(200)?;
    let mut names: Vec<&str> =
        after["spec"]["ports"].as_array().into_iter().flatten().filter_map(|port| port["name"].as_str()).collect();
    names.sort_unstable();
    ensure!(names == ["dns-tcp", "web"], "{after}");
    Ok(())
}

async fn an_update_takes_the_fields_it_changes(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    let mut both = config_map("a", "1");
    both["data"]["other"] = json!("1");
    apply(&client, &path, "one", "", &both).await?.expect(201)?;
    let edited =
        patch(&client, &format!("{path}?fieldManager=hand"), MERGE, &json!({"data": {"key": "2"}})).await?.expect(200)?;
    ensure!(owner(&edited, "one", "Apply")?["fieldsV1"] == json!({"f:data": {"f:other": {}}}), "{edited}");
    ensure!(owner(&edited, "hand", "Update")?["fieldsV1"] == json!({"f:data": {"f:key": {}}}), "{edited}");
    let status = apply(&client, &path, "one", "", &both).await?.refused(409, "Conflict")?;
    ensure!(status["details"]["causes"][0]["message"] == "conflict with \"hand\" using v1", "{status}");
    let healed = apply(&client, &path, "one", "&force=true", &both).await?.expect(200)?;
    ensure!(healed["data"]["key"] == "1" && owner(&healed, "hand", "Update").is_err(), "{healed}");
    // The user agent names a manager that did not name itself.
    let edited = patch(&client, &path, MERGE, &json!({"data": {"more": "1"}})).await?.expect(200)?;
    owner(&edited, "contract", "Update")?;
    Ok(())
}

async fn an_apply_that_cannot_be_read_is_refused(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    patch(&client, &path, APPLY, &config_map("a", "1")).await?.refused(422, "Invalid")?;
    let mut owned = config_map("a", "1");
    owned["metadata"]["managedFields"] =
        json!([{"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]);
    apply(&client, &path, "one", "", &owned).await?.refused(400, "BadRequest")?;
    apply(&client, &path, "one", "", &config_map("b", "1")).await?.refused(400, "BadRequest")?;
    ensure!(apply(&client, &path, "one", "", &deployment("a")).await?.code >= 400, "another kind");
    ensure!(get(&client, &path).await?.code == 404, "something was made");
    Ok(())
}

async fn an_unknown_field_is_refused(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments/a");
    let mut body = deployment("a");
    body["spec"]["replica"] = json!(1);
    let reply = apply(&client, &path, "one", "", &body).await?;
    ensure!(reply.code >= 400, "taken: {}", reply.body);
    ensure!(
        reply.body["message"].as_str().is_some_and(|text| text.contains(".spec.replica: field not declared in schema")),
        "{}",
        reply.body
    );
    Ok(())
}

async fn status_is_applied_on_its_own(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments/a");
    let mut body = deployment("a");
    body["status"] = json!({"collisionCount": 7});
    let made = apply(&client, &path, "one", "", &body).await?.expect(201)?;
    ensure!(made["status"]["collisionCount"].is_null(), "{made}");
    ensure!(owner(&made, "one", "Apply")?["fieldsV1"]["f:status"].is_null(), "{made}");
    let config = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "status": {"conditions": [{"type": "Tested", "status": "True"}]},
    });
    let after = apply(&client, &format!("{path}/status"), "reporter", "", &config).await?.expect(200)?;
    let entry = owner(&after, "reporter", "Apply")?;
    ensure!(entry["subresource"] == "status", "{entry}");
    ensure!(entry["fieldsV1"]["f:status"]["f:conditions"].get("k:{\"type\":\"Tested\"}").is_some(), "{entry}");
    Ok(())
}

async fn the_applied_order_of_a_list_counts(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments/a");
    let with = |names: &[&str]| {
        let mut body = deployment("a");
        body["spec"]["template"]["spec"]["containers"] =
            names.iter().map(|name| json!({"name": name, "image": format!("registry.example.com/{name}:v1")})).collect();
        body
    };
    apply(&client, &path, "one", "", &with(&["a", "b"])).await?.expect(201)?;
    let after = apply(&client, &path, "one", "", &with(&["b", "c", "a"])).await?.expect(200)?;
    let containers = after["spec"]["template"]["spec"]["containers"].as_array().context("no containers")?;
    let names: Vec<&str> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
    ensure!(names == ["b", "c", "a"], "{names:?}");
    Ok(())
}

async fn ownership_can_be_reset(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps/a");
    let made = apply(&client, &path, "one", "", &config_map("a", "1")).await?.expect(201)?;
    let reset = json!({"metadata": {"managedFields": [{}], "resourceVersion": version(&made)?}});
    let after = patch(&client, &path, MERGE, &reset).await?.expect(200)?;
    ensure!(owner(&after, "one", "Apply").is_err(), "{after}");
    apply(&client, &path, "two", "", &config_map("a", "2")).await?;
    Ok(())
}
