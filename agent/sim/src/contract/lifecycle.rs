//! The end of objects: finalizers, owners, namespaces, collections.

use super::{MERGE, Scratch, config_map, delete, eventually, get, gone, list_cases, patch, post, version};
use anyhow::{Result, ensure};
use kube::Client;
use serde_json::{Value, json};

list_cases![
    a_finalizer_holds_a_deletion,
    no_finalizer_is_added_to_what_is_being_deleted,
    dependents_go_after_their_owner,
    a_foreground_deletion_waits_for_dependents,
    orphans_stay,
    what_has_another_owner_stays,
    a_dependent_of_nobody_goes,
    a_deletion_can_name_what_it_means,
    a_collection_is_deleted_by_labels,
    a_namespace_goes_with_all_it_holds,
    a_terminating_namespace_takes_nothing_new,
    a_bad_policy_is_refused,
];

async fn a_finalizer_holds_a_deletion(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = config_map("a", "1");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&client, &scratch.path("v1", "configmaps"), &body).await?.expect(201)?;
    let path = scratch.path("v1", "configmaps/a");
    let deleting = delete(&client, &path, None).await?.expect(200)?;
    ensure!(deleting["kind"] == "ConfigMap" && deleting["metadata"]["deletionTimestamp"].is_string(), "{deleting}");
    let again = delete(&client, &path, None).await?.expect(200)?;
    ensure!(again["metadata"]["deletionTimestamp"] == deleting["metadata"]["deletionTimestamp"], "{again}");
    // It can still be changed.
    patch(&client, &path, MERGE, &json!({"data": {"key": "2"}})).await?.expect(200)?;
    post(&client, &scratch.path("v1", "configmaps"), &config_map("a", "1")).await?.refused(409, "AlreadyExists")?;
    patch(&client, &path, MERGE, &json!({"metadata": {"finalizers": null}})).await?.expect(200)?;
    ensure!(get(&client, &path).await?.code == 404, "it outlived its last finalizer");
    Ok(())
}

async fn no_finalizer_is_added_to_what_is_being_deleted(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = config_map("a", "1");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&client, &scratch.path("v1", "configmaps"), &body).await?.expect(201)?;
    let path = scratch.path("v1", "configmaps/a");
    delete(&client, &path, None).await?.expect(200)?;
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    let status = patch(&client, &path, MERGE, &more).await?.refused(422, "Invalid")?;
    ensure!(status["message"].as_str().is_some_and(|text| text.contains("no new finalizers can be added")), "{status}");
    patch(&client, &path, MERGE, &json!({"metadata": {"finalizers": []}})).await?.expect(200)?;
    Ok(())
}

fn owned_by(name: &str, owners: &[&Value], blocks: bool) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|owner| {
            let metadata = &owner["metadata"];
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"], "blockOwnerDeletion": blocks})
        })
        .collect();
    let mut body = config_map(name, "1");
    body["metadata"]["ownerReferences"] = Value::Array(references);
    body
}

async fn dependents_go_after_their_owner(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let owner = scratch.config_map("owner", "1").await?;
    let all = scratch.path("v1", "configmaps");
    let child = post(&client, &all, &owned_by("child", &[&owner], false)).await?.expect(201)?;
    post(&client, &all, &owned_by("grandchild", &[&child], false)).await?.expect(201)?;
    let status = delete(&client, &scratch.path("v1", "configmaps/owner"), Some(json!({"propagationPolicy": "Background"})))
        .await?
        .expect(200)?;
    ensure!(status["kind"] == "Status" && status["status"] == "Success", "{status}");
    ensure!(status["details"]["uid"] == owner["metadata"]["uid"], "{status}");
    gone(&client, &scratch.path("v1", "configmaps/child")).await?;
    gone(&client, &scratch.path("v1", "configmaps/grandchild")).await
}

async fn a_foreground_deletion_waits_for_dependents(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let owner = scratch.config_map("owner", "1").await?;
    let mut child = owned_by("child", &[&owner], true);
    child["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&client, &scratch.path("v1", "configmaps"), &child).await?.expect(201)?;
    let (owner_path, child_path) = (scratch.path("v1", "configmaps/owner"), scratch.path("v1", "configmaps/child"));
    // The collector has to have seen the child before its owner goes.
    let deleting = delete(&client, &owner_path, Some(json!({"propagationPolicy": "Foreground"}))).await?.expect(200)?;
    ensure!(deleting["metadata"]["finalizers"] == json!(["foregroundDeletion"]), "{deleting}");
    eventually("the deletion of the child", || async {
        let child = get(&client, &child_path).await?.expect(200)?;
        Ok(child["metadata"]["deletionTimestamp"].is_string().then_some(()))
    })
    .await?;
    ensure!(get(&client, &owner_path).await?.code == 200, "the owner went before its dependent");
    patch(&client, &child_path, MERGE, &json!({"metadata": {"finalizers": null}})).await?.expect(200)?;
    gone(&client, &child_path).await?;
    gone(&client, &owner_path).await
}

async fn orphans_stay(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let owner = scratch.config_map("owner", "1").await?;
    post(&client, &scratch.path("v1", "configmaps"), &owned_by("child", &[&owner], false)).await?.expect(201)?;
    delete(&client, &scratch.path("v1", "configmaps/owner"), Some(json!({"propagationPolicy": "Orphan"}))).await?.expect(200)?;
    gone(&client, &scratch.path("v1", "configmaps/owner")).await?;
    let child = get(&client, &scratch.path("v1", "configmaps/child")).await?.expect(200)?;
    ensure!(child["metadata"]["ownerReferences"].is_null() && child["metadata"]["deletionTimestamp"].is_null(), "{child}");
    Ok(())
}

async fn what_has_another_owner_stays(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let (one, two) = (scratch.config_map("one", "1").await?, scratch.config_map("two", "1").await?);
    let all = scratch.path("v1", "configmaps");
    post(&client, &all, &owned_by("shared", &[&one, &two], false)).await?.expect(201)?;
    post(&client, &all, &owned_by("own", &[&one], false)).await?.expect(201)?;
    delete(&client, &scratch.path("v1", "configmaps/one"), None).await?.expect(200)?;
    gone(&client, &scratch.path("v1", "configmaps/own")).await?;
    ensure!(get(&client, &scratch.path("v1", "configmaps/shared")).await?.code == 200, "it went with one of its two owners");
    delete(&client, &scratch.path("v1", "configmaps/two"), None).await?.expect(200)?;
    gone(&client, &scratch.path("v1", "configmaps/shared")).await
}

async fn a_dependent_of_nobody_goes(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let never = json!({"metadata": {"name": "never", "uid": "00000000-0000-4000-8000-000000000001"}});
    post(&client, &scratch.path("v1", "configmaps"), &owned_by("child", &[&never], false)).await?.expect(201)?;
    gone(&client, &scratch.path("v1", "configmaps/child")).await
}

async fn a_deletion_can_name_what_it_means(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let made = scratch.config_map("a", "1").await?;
    let path = scratch.path("v1", "configmaps/a");
    let other = json!({"preconditions": {"uid": "00000000-0000-4000-8000-000000000001"}});
    delete(&client, &path, Some(other)).await?.refused(409, "Conflict")?;
    let stale = version(&made)?.to_owned();
    patch(&client, &path, MERGE, &json!({"data": {"key": "2"}})).await?.expect(200)?;
    delete(&client, &path, Some(json!({"preconditions": {"resourceVersion": stale}}))).await?.refused(409, "Conflict")?;
    delete(&client, &path, Some(json!({"preconditions": {"uid": made["metadata"]["uid"]}}))).await?.expect(200)?;
    ensure!(get(&client, &path).await?.code == 404, "it is still there");
    Ok(())
}

async fn a_collection_is_deleted_by_labels(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    for (name, label) in [("a", "yes"), ("b", "yes"), ("c", "no")] {
        let mut body = config_map(name, "1");
        body["metadata"]["labels"] = json!({"go": label});
        post(&client, &scratch.path("v1", "configmaps"), &body).await?.expect(201)?;
    }
    delete(&client, &scratch.path("v1", "configmaps?labelSelector=go%3Dyes"), None).await?.expect(200)?;
    gone(&client, &scratch.path("v1", "configmaps/a")).await?;
    gone(&client, &scratch.path("v1", "configmaps/b")).await?;
    ensure!(get(&client, &scratch.path("v1", "configmaps/c")).await?.code == 200, "too much went");
    Ok(())
}

async fn a_namespace_goes_with_all_it_holds(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    post(&client, &scratch.path("apps/v1", "deployments"), &super::deployment("a")).await?.expect(201)?;
    let path = format!("/api/v1/namespaces/{}", scratch.namespace);
    let deleting = delete(&client, &path, None).await?.expect(200)?;
    ensure!(
        deleting["status"]["phase"] == "Terminating" && deleting["spec"]["finalizers"] == json!(["kubernetes"]),
        "{deleting}"
    );
    gone(&client, &path).await?;
    ensure!(get(&client, &scratch.path("v1", "configmaps/a")).await?.code == 404, "its content outlived it");
    Ok(())
}

async fn a_terminating_namespace_takes_nothing_new(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut held = config_map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&client, &scratch.path("v1", "configmaps"), &held).await?.expect(201)?;
    delete(&client, &format!("/api/v1/namespaces/{}", scratch.namespace), None).await?.expect(200)?;
    let status = post(&client, &scratch.path("v1", "configmaps"), &config_map("new", "1")).await?.refused(403, "Forbidden")?;
    ensure!(status["details"]["causes"][0]["reason"] == "NamespaceTerminating", "{status}");
    ensure!(status["message"].as_str().is_some_and(|text| text.contains("because it is being terminated")), "{status}");
    patch(&client, &scratch.path("v1", "configmaps/held"), MERGE, &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect(200)?;
    gone(&client, &format!("/api/v1/namespaces/{}", scratch.namespace)).await
}

async fn a_bad_policy_is_refused(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    let path = scratch.path("v1", "configmaps/a");
    delete(&client, &path, Some(json!({"propagationPolicy": "Sideways"}))).await?.refused(422, "Invalid")?;
    Ok(())
}
