//! What a server says it serves.

use super::{get, list_cases};
use anyhow::{Context as _, Result, ensure};
use kube::{Client, Discovery};
use serde_json::json;

list_cases![
    the_version_is_told,
    groups_and_kinds_are_discovered,
    resources_say_their_scope_verbs_and_subresources,
    an_unknown_path_is_404,
    the_server_is_healthy
];

async fn the_version_is_told(client: Client) -> Result<()> {
    let version = client.apiserver_version().await?;
    ensure!(version.major == "1", "major {}", version.major);
    ensure!(version.git_version.starts_with("v1."), "git version {}", version.git_version);
    Ok(())
}

async fn groups_and_kinds_are_discovered(client: Client) -> Result<()> {
    for discovery in [Discovery::new(client.clone()).run().await?, Discovery::new(client).run_aggregated().await?] {
        for (group, version, kind) in [
            ("", "v1", "ConfigMap"),
            ("apps", "v1", "Deployment"),
            ("batch", "v1", "Job"),
            ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        ] {
            let kind = kube::core::GroupVersionKind::gvk(group, version, kind);
            let (resource, _) = discovery.resolve_gvk(&kind).with_context(|| format!("{kind:?} is not served"))?;
            ensure!(resource.version == version, "{kind:?} is served as {resource:?}");
        }
    }
    Ok(())
}

async fn resources_say_their_scope_verbs_and_subresources(client: Client) -> Result<()> {
    let core = get(&client, "/api/v1").await?.expect(200)?;
    let resources = core["resources"].as_array().context("no resources")?;
    let find = |name: &str| resources.iter().find(|resource| resource["name"] == name);
    let pods = find("pods").context("no pods")?;
    ensure!(pods["namespaced"] == true && pods["kind"] == "Pod" && pods["singularName"] == "pod", "{pods}");
    ensure!(pods["shortNames"] == json!(["po"]), "{pods}");
    for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
        ensure!(pods["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!(verb))), "{verb} in {pods}");
    }
    ensure!(find("namespaces").context("no namespaces")?["namespaced"] == false, "namespaces have no namespace");
    ensure!(find("pods/log").is_some() && find("pods/status").is_some(), "subresources of pods");
    let apps = get(&client, "/apis/apps/v1").await?.expect(200)?;
    let scale = apps["resources"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "deployments/scale"))
        .context("no scale")?;
    ensure!(scale["kind"] == "Scale" && scale["group"] == "autoscaling", "{scale}");
    Ok(())
}

async fn an_unknown_path_is_404(client: Client) -> Result<()> {
    for path in ["/apis/nowhere.example.com/v1", "/apis/apps/v1/nothings", "/api/v1/namespaces/default/nothings/a"] {
        ensure!(get(&client, path).await?.code == 404, "{path}");
    }
    Ok(())
}

async fn the_server_is_healthy(client: Client) -> Result<()> {
    for path in ["/readyz", "/livez"] {
        ensure!(get(&client, path).await?.expect(200)? == "ok", "{path}");
    }
    Ok(())
}
