//! One object: its identity, its versions, its generation, its defaults.

use super::{MERGE, Scratch, config_map, deployment, get, list_cases, patch, post, put, version};
use anyhow::{Result, ensure};
use kube::Client;
use serde_json::json;

list_cases![
    a_new_object_gets_an_identity,
    generate_name_makes_different_names,
    a_stale_version_is_a_conflict,
    an_update_without_a_version_wins,
    an_update_that_changes_nothing_keeps_the_version,
    another_uid_is_a_conflict,
    system_metadata_cannot_be_changed,
    generation_counts_changes_of_the_spec_only,
    defaults_are_written,
    quantities_are_stored_in_their_canonical_form,
    a_secret_takes_plain_text_and_stores_it_encoded,
    a_dry_run_changes_nothing,
    scale_is_a_view_of_replicas,
];

async fn a_new_object_gets_an_identity(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let made = scratch.config_map("a", "1").await?;
    let metadata = &made["metadata"];
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        ensure!(metadata[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {metadata}");
    }
    ensure!(metadata["namespace"] == scratch.namespace.as_str() && metadata["generation"].is_null(), "{metadata}");
    ensure!(metadata["creationTimestamp"].as_str().is_some_and(|time| time.len() == 20 && time.ends_with('Z')), "{metadata}");
    ensure!(get(&client, &scratch.path("v1", "configmaps/a")).await?.expect(200)? == made, "what is read is what was made");
    Ok(())
}

async fn generate_name_makes_different_names(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}});
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let made = post(&client, &scratch.path("v1", "configmaps"), &body).await?.expect(201)?;
        let name = made["metadata"]["name"].as_str().unwrap_or("").to_owned();
        ensure!(name.starts_with("run-") && name.len() == "run-".len() + 5, "{name}");
        ensure!(made["metadata"]["generateName"] == "run-", "{made}");
        names.insert(name);
    }
    ensure!(names.len() == 5, "{names:?}");
    Ok(())
}

async fn a_stale_version_is_a_conflict(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let first = scratch.config_map("a", "1").await?;
    let path = scratch.path("v1", "configmaps/a");
    let mut changed = first.clone();
    changed["data"]["key"] = json!("2");
    let second = put(&client, &path, &changed).await?.expect(200)?;
    ensure!(version(&second)? != version(&first)?, "the version moves");
    changed["data"]["key"] = json!("3");
    let refused = put(&client, &path, &changed).await?.refused(409, "Conflict")?;
    ensure!(refused["message"].as_str().is_some_and(|text| text.contains("the object has been modified")), "{refused}");
    ensure!(refused["details"]["name"] == "a" && refused["details"]["kind"] == "configmaps", "{refused}");
    let stale = json!({"metadata": {"resourceVersion": version(&first)?}, "data": {"key": "4"}});
    patch(&client, &path, MERGE, &stale).await?.refused(409, "Conflict")?;
    Ok(())
}

async fn an_update_without_a_version_wins(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    let after = put(&client, &scratch.path("v1", "configmaps/a"), &config_map("a", "2")).await?.expect(200)?;
    ensure!(after["data"]["key"] == "2", "{after}");
    Ok(())
}

async fn an_update_that_changes_nothing_keeps_the_version(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let made = scratch.config_map("a", "1").await?;
    let path = scratch.path("v1", "configmaps/a");
    let put_back = put(&client, &path, &made).await?.expect(200)?;
    let patched = patch(&client, &path, MERGE, &json!({"data": {"key": "1"}})).await?.expect(200)?;
    ensure!(version(&put_back)? == version(&made)? && version(&patched)? == version(&made)?, "{put_back} {patched}");
    Ok(())
}

async fn another_uid_is_a_conflict(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut object = scratch.config_map("a", "1").await?;
    object["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    put(&client, &scratch.path("v1", "configmaps/a"), &object).await?.refused(409, "Conflict")?;
    Ok(())
}

async fn system_metadata_cannot_be_changed(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let made = scratch.config_map("a", "1").await?;
    let mut changed = made.clone();
    changed["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    changed["data"]["key"] = json!("2");
    let path = scratch.path("v1", "configmaps/a");
    let after = put(&client, &path, &changed).await?.expect(200)?;
    ensure!(after["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"], "{after}");
    changed = after;
    changed["metadata"]["deletionTimestamp"] = json!("2001-01-01T00:00:00Z");
    let status = put(&client, &path, &changed).await?.refused(422, "Invalid")?;
    ensure!(status["details"]["causes"][0]["field"] == "metadata.deletionTimestamp", "only a deletion sets it: {status}");
    Ok(())
}

async fn generation_counts_changes_of_the_spec_only(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let made = post(&client, &scratch.path("apps/v1", "deployments"), &deployment("a")).await?.expect(201)?;
    ensure!(made["metadata"]["generation"] == 1, "{made}");
    let path = scratch.path("apps/v1", "deployments/a");
    let labelled = patch(&client, &path, MERGE, &json!({"metadata": {"labels": {"x": "y"}}})).await?.expect(200)?;
    ensure!(labelled["metadata"]["generation"] == 1, "{labelled}");
    let changed = patch(&client, &path, MERGE, &json!({"spec": {"minReadySeconds": 3}})).await?.expect(200)?;
    ensure!(changed["metadata"]["generation"] == 2, "{changed}");
    let status =
        patch(&client, &format!("{path}/status"), MERGE, &json!({"status": {"collisionCount": 1}})).await?.expect(200)?;
    ensure!(status["metadata"]["generation"] == 2 && status["status"]["collisionCount"] == 1, "{status}");
    Ok(())
}

async fn defaults_are_written(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["replicas"] = json!(null);
    body["spec"]["paused"] = json!(true);
    body["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    let spec = post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?["spec"].clone();
    ensure!(spec["replicas"] == 1 && spec["revisionHistoryLimit"] == 10 && spec["progressDeadlineSeconds"] == 600, "{spec}");
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    ensure!(spec["strategy"] == rolling, "{spec}");
    let pod = &spec["template"]["spec"];
    ensure!(pod["restartPolicy"] == "Always" && pod["dnsPolicy"] == "ClusterFirst", "{pod}");
    ensure!(pod["terminationGracePeriodSeconds"] == 30 && pod["schedulerName"] == "default-scheduler", "{pod}");
    let container = &pod["containers"][0];
    ensure!(container["imagePullPolicy"] == "IfNotPresent" && container["terminationMessagePolicy"] == "File", "{container}");
    ensure!(container["ports"][0]["protocol"] == "TCP", "{container}");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]},
    });
    let spec = post(&client, &scratch.path("v1", "services"), &service).await?.expect(201)?["spec"].clone();
    ensure!(spec["type"] == "ClusterIP" && spec["sessionAffinity"] == "None", "{spec}");
    ensure!(spec["ports"][0]["targetPort"] == 80 && spec["ports"][0]["protocol"] == "TCP", "{spec}");
    ensure!(spec["clusterIP"].as_str().is_some_and(|address| !address.is_empty()), "{spec}");
    Ok(())
}

async fn quantities_are_stored_in_their_canonical_form(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "1000m", "memory": "1024Mi", "nvidia.com/gpu": 1}});
    let made = post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?;
    let resources = &made["spec"]["template"]["spec"]["containers"][0]["resources"];
    ensure!(*resources == json!({"limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}}), "{resources}");
    Ok(())
}

async fn a_secret_takes_plain_text_and_stores_it_encoded(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"password": "secret"}});
    let made = post(&client, &scratch.path("v1", "secrets"), &body).await?.expect(201)?;
    ensure!(made["data"]["password"] == "c2VjcmV0" && made["stringData"].is_null() && made["type"] == "Opaque", "{made}");
    Ok(())
}

async fn a_dry_run_changes_nothing(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let collection = scratch.path("v1", "configmaps");
    let path = scratch.path("v1", "configmaps/a");
    let rehearsed = post(&client, &format!("{collection}?dryRun=All"), &config_map("a", "1")).await?.expect(201)?;
    ensure!(rehearsed["metadata"]["uid"].is_string(), "{rehearsed}");
    ensure!(get(&client, &path).await?.code == 404, "a dry run made it");
    let made = scratch.config_map("a", "1").await?;
    post(&client, &format!("{collection}?dryRun=All"), &config_map("a", "1")).await?.refused(409, "AlreadyExists")?;
    let patched = patch(&client, &format!("{path}?dryRun=All"), MERGE, &json!({"data": {"key": "2"}})).await?.expect(200)?;
    ensure!(patched["data"]["key"] == "2" && version(&patched)? == version(&made)?, "{patched}");
    put(&client, &format!("{path}?dryRun=All"), &config_map("a", "3")).await?.expect(200)?;
    super::apply(&client, &path, "rehearsal", "&dryRun=All&force=true", &config_map("a", "4")).await?.expect(200)?;
    ensure!(super::delete(&client, &format!("{path}?dryRun=All"), None).await?.code == 200, "a dry deletion");
    ensure!(get(&client, &path).await?.expect(200)? == made, "a dry run changed it");
    post(&client, &format!("{collection}?dryRun=Some"), &config_map("b", "1")).await?.refused(422, "Invalid")?;
    Ok(())
}

async fn scale_is_a_view_of_replicas(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["paused"] = json!(true);
    post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?;
    let path = scratch.path("apps/v1", "deployments/a/scale");
    let mut scale = get(&client, &path).await?.expect(200)?;
    ensure!(scale["kind"] == "Scale" && scale["spec"]["replicas"].as_i64().unwrap_or(0) == 0, "{scale}");
    ensure!(scale["status"]["selector"] == "app=a", "{scale}");
    scale["spec"] = json!({"replicas": 2});
    scale["metadata"]["resourceVersion"] = json!(null);
    put(&client, &path, &scale).await?.expect(200)?;
    let after = get(&client, &scratch.path("apps/v1", "deployments/a")).await?.expect(200)?;
    ensure!(after["spec"]["replicas"] == 2 && after["metadata"]["generation"] == 2, "{after}");
    Ok(())
}
