//! Lists: selectors, pages, views.

use super::{Scratch, config_map, get, list_cases, post};
use anyhow::{Context as _, Result, ensure};
use http::Request;
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};

list_cases![
    labels_select,
    fields_select,
    pages_are_a_snapshot,
    a_list_names_its_kind_and_version,
    metadata_alone_can_be_asked_for,
    a_table_can_be_asked_for,
];

async fn some(scratch: &Scratch) -> Result<()> {
    for (name, labels) in
        [("a", json!({"app": "web", "tier": "front"})), ("b", json!({"app": "web"})), ("c", json!({"app": "job"}))]
    {
        let mut body = config_map(name, "1");
        body["metadata"]["labels"] = labels;
        post(&scratch.client, &scratch.path("v1", "configmaps"), &body).await?.expect(201)?;
    }
    Ok(())
}

/// Names of what the case made: a real cluster adds a root certificate to every namespace.
fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str()).filter(|name| name.len() < 3).collect()
}

async fn labels_select(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    some(&scratch).await?;
    for (selector, expected) in [
        ("app%3Dweb", vec!["a", "b"]),
        ("app%3Dweb,tier%3Dfront", vec!["a"]),
        ("app%20in%20(web,job),!tier", vec!["b", "c"]),
        ("app!%3Dweb,app", vec!["c"]),
        ("app%20notin%20(job),app", vec!["a", "b"]),
    ] {
        let list = get(&client, &scratch.path("v1", &format!("configmaps?labelSelector={selector}"))).await?.expect(200)?;
        ensure!(names(&list) == expected, "{selector}: {:?}", names(&list));
    }
    get(&client, &scratch.path("v1", "configmaps?labelSelector=a%20b")).await?.refused(400, "BadRequest")?;
    Ok(())
}

async fn fields_select(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    some(&scratch).await?;
    let list = get(&client, &scratch.path("v1", "configmaps?fieldSelector=metadata.name%3Db")).await?.expect(200)?;
    ensure!(names(&list) == ["b"], "{list}");
    let everywhere = format!("/api/v1/configmaps?fieldSelector=metadata.name%3Db,metadata.namespace%3D{}", scratch.namespace);
    ensure!(names(&get(&client, &everywhere).await?.expect(200)?) == ["b"], "over all namespaces");
    get(&client, &scratch.path("v1", "configmaps?fieldSelector=data.key%3D1")).await?.refused(400, "BadRequest")?;
    Ok(())
}

async fn pages_are_a_snapshot(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    some(&scratch).await?;
    let first = get(&client, &scratch.path("v1", "configmaps?limit=1&labelSelector=app")).await?.expect(200)?;
    ensure!(names(&first) == ["a"], "{first}");
    let token = first["metadata"]["continue"].as_str().context("no continue token")?.to_owned();
    scratch.config_map("bb", "2").await?;
    let rest = get(&client, &scratch.path("v1", &format!("configmaps?limit=5&labelSelector=app&continue={token}")))
        .await?
        .expect(200)?;
    ensure!(names(&rest) == ["b", "c"], "{rest}");
    ensure!(rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"], "pages of one version");
    ensure!(rest["metadata"]["continue"].as_str().unwrap_or("").is_empty(), "{}", rest["metadata"]);
    get(&client, &scratch.path("v1", "configmaps?limit=1&continue=nonsense")).await?.refused(400, "BadRequest")?;
    Ok(())
}

async fn a_list_names_its_kind_and_version(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let list = get(&client, &scratch.path("apps/v1", "deployments")).await?.expect(200)?;
    ensure!(list["kind"] == "DeploymentList" && list["apiVersion"] == "apps/v1" && list["items"] == json!([]), "{list}");
    ensure!(list["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()), "{list}");
    Ok(())
}

async fn viewed(client: &Client, path: &str, accept: &str) -> Result<Value> {
    let request = Request::get(path).header("accept", accept).body(kube::client::Body::empty())?;
    let bytes = client.send(request).await?.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

async fn metadata_alone_can_be_asked_for(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    some(&scratch).await?;
    let one =
        viewed(&client, &scratch.path("v1", "configmaps/a"), "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
            .await?;
    ensure!(one["kind"] == "PartialObjectMetadata" && one["metadata"]["name"] == "a" && one["data"].is_null(), "{one}");
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = viewed(&client, &scratch.path("v1", "configmaps?labelSelector=app"), accept).await?;
    ensure!(list["kind"] == "PartialObjectMetadataList" && names(&list) == ["a", "b", "c"], "{list}");
    Ok(())
}

async fn a_table_can_be_asked_for(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    some(&scratch).await?;
    let table =
        viewed(&client, &scratch.path("v1", "configmaps?labelSelector=app"), "application/json;as=Table;v=v1;g=meta.k8s.io")
            .await?;
    ensure!(table["kind"] == "Table" && table["columnDefinitions"][0]["name"] == "Name", "{table}");
    let rows = table["rows"].as_array().context("no rows")?;
    ensure!(rows.len() == 3 && rows[0]["cells"][0] == "a" && rows[0]["object"]["kind"] == "PartialObjectMetadata", "{table}");
    Ok(())
}
