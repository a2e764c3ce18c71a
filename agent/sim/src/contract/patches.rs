//! The patches that are not an apply.

use super::{JSON_PATCH, MERGE, STRATEGIC, Scratch, deployment, list_cases, patch, post};
use anyhow::{Result, ensure};
use kube::Client;
use serde_json::json;

list_cases![
    a_json_patch_is_all_or_nothing,
    a_merge_patch_replaces_lists_and_removes_nulls,
    a_strategic_patch_merges_lists_by_key,
    a_strategic_patch_obeys_its_directives
];

async fn a_json_patch_is_all_or_nothing(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    let path = scratch.path("v1", "configmaps/a");
    let good = json!([
        {"op": "test", "path": "/data/key", "value": "1"},
        {"op": "replace", "path": "/data/key", "value": "2"},
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
    ]);
    let after = patch(&client, &path, JSON_PATCH, &good).await?.expect(200)?;
    ensure!(after["data"]["key"] == "2" && after["metadata"]["labels"]["a"] == "b", "{after}");
    let bad = json!([{"op": "remove", "path": "/data/key"}, {"op": "test", "path": "/metadata/labels/a", "value": "c"}]);
    patch(&client, &path, JSON_PATCH, &bad).await?.refused(422, "Invalid")?;
    let after = super::get(&client, &path).await?.expect(200)?;
    ensure!(after["data"]["key"] == "2", "half a patch was applied: {after}");
    ensure!(patch(&client, &path, JSON_PATCH, &json!({"op": "remove"})).await?.code == 400, "not a list of operations");
    Ok(())
}

async fn a_merge_patch_replaces_lists_and_removes_nulls(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["metadata"]["labels"] = json!({"x": "1", "y": "2"});
    post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?;
    let change = json!({
        "metadata": {"labels": {"x": null}},
        "spec": {"template": {"spec": {"containers": [{"name": "other", "image": "registry.example.com/other:v1"}]}}},
    });
    let after = patch(&client, &scratch.path("apps/v1", "deployments/a"), MERGE, &change).await?.expect(200)?;
    ensure!(after["metadata"]["labels"] == json!({"y": "2"}), "{after}");
    let containers = after["spec"]["template"]["spec"]["containers"].as_array().map_or(0, Vec::len);
    ensure!(containers == 1 && after["spec"]["template"]["spec"]["containers"][0]["name"] == "other", "{after}");
    Ok(())
}

async fn a_strategic_patch_merges_lists_by_key(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
    post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?;
    let change = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "main", "image": "registry.example.com/main:v2", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
        {"name": "side", "image": "registry.example.com/side:v1"},
    ]}}}});
    let after = patch(&client, &scratch.path("apps/v1", "deployments/a"), STRATEGIC, &change).await?.expect(200)?;
    let containers = after["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let named = |name: &str| containers.iter().find(|container| container["name"] == name).cloned().unwrap_or_default();
    ensure!(containers.len() == 2 && named("main")["image"] == "registry.example.com/main:v2", "{containers:?}");
    let mut environment: Vec<String> =
        named("main")["env"].as_array().into_iter().flatten().map(|one| format!("{}={}", one["name"], one["value"])).collect();
    environment.sort();
    ensure!(environment == ["\"A\"=\"1\"", "\"B\"=\"3\"", "\"C\"=\"4\""], "{environment:?}");
    Ok(())
}

async fn a_strategic_patch_obeys_its_directives(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
    post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?;
    let change =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "$patch": "delete"}]}]}}}});
    let after = patch(&client, &scratch.path("apps/v1", "deployments/a"), STRATEGIC, &change).await?.expect(200)?;
    ensure!(after["spec"]["template"]["spec"]["containers"][0]["env"] == json!([{"name": "B", "value": "2"}]), "{after}");
    let change = json!({"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}});
    let after = patch(&client, &scratch.path("apps/v1", "deployments/a"), STRATEGIC, &change).await?.expect(200)?;
    ensure!(after["spec"]["strategy"] == json!({"type": "Recreate"}), "{after}");
    Ok(())
}
