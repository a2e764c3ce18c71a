//! Watches: order, selectors, bookmarks, the end, and what is too old.

use super::{MERGE, Scratch, delete, events, get, list_cases, patch, post, version};
use anyhow::{Result, ensure};
use kube::Client;
use serde_json::{Value, json};

list_cases![
    a_watch_continues_a_list,
    a_watch_without_a_version_starts_with_what_is_there,
    an_object_enters_and_leaves_a_selected_watch,
    a_watch_ends_when_it_said_and_sends_a_bookmark_before,
    a_list_can_be_streamed,
    a_version_that_is_too_old_is_expired,
];

fn kinds(events: &[Value]) -> Vec<(&str, &str)> {
    events
        .iter()
        .map(|event| (event["type"].as_str().unwrap_or(""), event["object"]["metadata"]["name"].as_str().unwrap_or("")))
        .collect()
}

async fn a_watch_continues_a_list(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("before", "1").await?;
    let list = get(&client, &scratch.path("v1", "configmaps")).await?.expect(200)?;
    let since = version(&list)?;
    scratch.config_map("a", "1").await?;
    let path = scratch.path("v1", "configmaps/a");
    patch(&client, &path, MERGE, &json!({"data": {"key": "2"}})).await?.expect(200)?;
    delete(&client, &path, None).await?.expect(200)?;
    let watch = scratch
        .path("v1", &format!("configmaps?watch=true&fieldSelector=metadata.name%3Da&resourceVersion={since}&timeoutSeconds=60"));
    let seen = events(&client, &watch, |seen| seen.len() >= 3).await?;
    ensure!(kinds(&seen) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")], "{seen:?}");
    ensure!(seen[1]["object"]["data"]["key"] == "2" && seen[2]["object"]["data"]["key"] == "2", "{seen:?}");
    let versions: Vec<u64> = seen.iter().filter_map(|event| version(&event["object"]).ok()?.parse().ok()).collect();
    ensure!(
        versions.len() == 3 && versions.is_sorted() && versions[1] < versions[2],
        "a removal has a version of its own: {versions:?}"
    );
    Ok(())
}

async fn a_watch_without_a_version_starts_with_what_is_there(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    let watch = scratch.path("v1", "configmaps?watch=true&fieldSelector=metadata.name%3Da&timeoutSeconds=60");
    let seen = events(&client, &watch, |seen| !seen.is_empty()).await?;
    ensure!(kinds(&seen) == [("ADDED", "a")], "{seen:?}");
    Ok(())
}

async fn an_object_enters_and_leaves_a_selected_watch(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let made = scratch.config_map("a", "1").await?;
    let path = scratch.path("v1", "configmaps/a");
    for labels in [json!({"on": "yes"}), json!({"on": "yes", "more": "1"}), json!({"on": null})] {
        patch(&client, &path, MERGE, &json!({"metadata": {"labels": labels}})).await?.expect(200)?;
    }
    let since = version(&made)?;
    let watch =
        scratch.path("v1", &format!("configmaps?watch=true&labelSelector=on%3Dyes&resourceVersion={since}&timeoutSeconds=60"));
    let seen = events(&client, &watch, |seen| seen.len() >= 3).await?;
    ensure!(kinds(&seen) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")], "{seen:?}");
    Ok(())
}

async fn a_watch_ends_when_it_said_and_sends_a_bookmark_before(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let made = scratch.config_map("a", "1").await?;
    let since = version(&made)?;
    let watch =
        scratch.path("v1", &format!("configmaps?watch=true&allowWatchBookmarks=true&resourceVersion={since}&timeoutSeconds=8"));
    let seen = events(&client, &watch, |_| false).await?;
    let bookmark = seen.iter().rev().find(|event| event["type"] == "BOOKMARK");
    let Some(bookmark) = bookmark else { anyhow::bail!("no bookmark in {seen:?}") };
    ensure!(
        bookmark["object"]["kind"] == "ConfigMap" && bookmark["object"]["metadata"]["name"].as_str().unwrap_or("").is_empty(),
        "{bookmark}"
    );
    let (then, now): (u64, u64) = (since.parse()?, version(&bookmark["object"])?.parse()?);
    ensure!(now >= then, "{then} {now}");
    Ok(())
}

async fn a_list_can_be_streamed(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    scratch.config_map("b", "1").await?;
    let watch = scratch.path(
        "v1",
        "configmaps?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=60",
    );
    let ends = |event: &Value| event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
    let seen = events(&client, &watch, |seen| seen.iter().any(ends)).await?;
    let added: Vec<_> = kinds(&seen).into_iter().filter(|(_, name)| name.len() == 1).collect();
    ensure!(added == [("ADDED", "a"), ("ADDED", "b")], "{seen:?}");
    ensure!(seen.last().is_some_and(|last| last["type"] == "BOOKMARK"), "{seen:?}");
    let wrong = scratch.path("v1", "configmaps?watch=true&sendInitialEvents=true&timeoutSeconds=1");
    get(&client, &wrong).await?.refused(422, "Invalid")?;
    Ok(())
}

async fn a_version_that_is_too_old_is_expired(client: Client) -> Result<()> {
    let kind =
        super::definitions::Defined::new(&client, true, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
            .await?;
    let scratch = Scratch::new(&client).await?;
    post(&client, &kind.path(&scratch.namespace, ""), &kind.object("a", json!({}))).await?.expect(201)?;
    // The kind is younger than the first version of the store.
    let seen = events(&client, &kind.path(&scratch.namespace, "?watch=true&resourceVersion=1&timeoutSeconds=60"), |seen| {
        !seen.is_empty()
    })
    .await?;
    ensure!(seen[0]["type"] == "ERROR" && seen[0]["object"]["code"] == 410, "{seen:?}");
    ensure!(seen[0]["object"]["reason"] == "Expired" && seen[0]["object"]["kind"] == "Status", "{seen:?}");
    Ok(())
}
