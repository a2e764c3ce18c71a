//! A small application that is released from a repository: one Deployment, one image.

use anyhow::{Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::patience::look;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, eventually};
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use serde_json::{Value, json};

/// The application.
pub const APPLICATION: &str = "namespaces/ml/applications/server";
/// Its repository.
pub const REPOSITORY: &str = "namespaces/ml/gitRepositories/models";
/// Its image.
const IMAGE: &str = "registry.example.com/ml/server";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/ml/deployments/server";

/// The repository's files.
pub fn tree(tag: &str) -> Vec<(String, String)> {
    vec![server(tag)]
}

/// The file with the Deployment at an image tag.
pub fn server(tag: &str) -> (String, String) {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "server", "namespace": "ml"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "server"}},
            "template": {
                "metadata": {"labels": {"app": "server"}},
                "spec": {"containers": [{"name": "server", "image": format!("{IMAGE}:{tag}")}]},
            },
        },
    });
    ("serving/deployment.yaml".to_owned(), deployment.to_string())
}

/// Makes fleet `serve` of the clusters, the repository and the application, with this `rollout` block.
pub async fn apply(clients: &Clients, repository: &Repository, clusters: &[&str], rollout_block: Value) -> Result<()> {
    let members: Vec<Value> = clusters.iter().map(|name| json!({ "name": name })).collect();
    let fleet = json!({
        "apiVersion": "muster.dev/v1", "kind": "Fleet", "metadata": {"name": "serve"}, "spec": {"clusters": members},
    });
    let fleet = Some(registry::Fleet { manifest: fleet.to_string(), ..Default::default() });
    clients.fleets().create_fleet(registry::CreateFleetRequest { fleet, ..Default::default() }).await?;
    let source = json!({
        "apiVersion": "muster.dev/v1", "kind": "GitRepository", "metadata": {"name": "models", "namespace": "ml"},
        "spec": {"url": repository.url(), "interval": "1s", "ref": {"branch": "main"}},
    });
    let git_repository = Some(rollout::GitRepository { manifest: source.to_string(), ..Default::default() });
    let request = rollout::CreateGitRepositoryRequest { git_repository, ..Default::default() };
    let made = clients.repositories().create_git_repository(request).await?.into_inner();
    ensure!(made.name == REPOSITORY, "another repository was made: {made:?}");
    let application = json!({
        "apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "FleetApplication",
        "metadata": {"name": "server", "namespace": "ml"},
        "spec": {
            "fleetRef": {"name": "serve"},
            "gitRepositoryRef": {"name": "models"},
            "targets": [{"fleet": "serve", "path": "serving"}],
            "syncPolicy": {"automated": {"prune": true, "selfHeal": true}},
            "rollout": rollout_block,
        },
    });
    let application = Some(rollout::Application { manifest: application.to_string(), ..Default::default() });
    clients.applications().create_application(rollout::CreateApplicationRequest { application, ..Default::default() }).await?;
    Ok(())
}

/// Returns when a cluster's Deployment runs an image tag, ready.
pub async fn runs(platform: &Platform, cluster: &str, tag: &str) -> Result<()> {
    eventually(&format!("{cluster} runs {tag}"), async || {
        let found = platform.cluster(cluster)?.api.find(DEPLOYMENT).await?.unwrap_or_default();
        let image = found["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        let ready = found["status"]["readyReplicas"] == json!(1);
        Ok(look(ready && image == format!("{IMAGE}:{tag}"), (), || format!("{image:?}, {}", found["status"])))
    })
    .await
}
