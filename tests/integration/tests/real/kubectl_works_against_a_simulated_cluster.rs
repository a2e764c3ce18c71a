//! The simulated cluster answers the real kubectl as a cluster does: what its people type, with validation off.

use anyhow::{Result, ensure};
use muster_integration_tests::eventually;
use muster_integration_tests::main_job::scene::{Scene, path};
use muster_integration_tests::main_job::simulation::EDGES;
use muster_integration_tests::patience::look;
use serde_json::json;
use tokio::process::Command;

use crate::{clients, parts, world};

#[test]
fn kubectl_works_against_a_simulated_cluster() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        let version = kubectl(scene, &["version", "-o", "json"]).await?;
        ensure!(version.contains("serverVersion"), "{version}");
        let resources = kubectl(scene, &["api-resources", "-o", "name"]).await?;
        for resource in ["deployments.apps", "jobs.batch", "customresourcedefinitions.apiextensions.k8s.io"] {
            ensure!(resources.lines().any(|line| line == resource), "{resource} is not listed: {resources}");
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "by-hand"}});
        let file = scene.write("by-hand-namespace.json", &namespace.to_string())?;
        kubectl(scene, &["apply", "--validate=false", "-f", path(&file)?]).await?;
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "by-hand"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example.com/lab/web:v1"}]}}},
        });
        let file = scene.write("by-hand.json", &deployment.to_string())?;
        for (arguments, said) in [
            (vec!["apply", "--validate=false", "-f", path(&file)?], "deployment.apps/web created"),
            (vec!["apply", "--validate=false", "-f", path(&file)?], "deployment.apps/web unchanged"),
            (vec!["rollout", "status", "deployment/web", "-n", "by-hand"], "successfully rolled out"),
            (vec!["scale", "deployment/web", "--replicas=1", "-n", "by-hand"], "scaled"),
            (vec!["label", "deployment/web", "team=vision", "-n", "by-hand"], "labeled"),
            (vec!["apply", "--server-side", "--force-conflicts", "--validate=false", "-f", path(&file)?], "serverside-applied"),
            (vec!["get", "nodes", "-o", "wide"], "Ready"),
            (vec!["get", "deployment", "web", "-n", "by-hand"], "UP-TO-DATE"),
            (vec!["describe", "deployment", "web", "-n", "by-hand"], "team=vision"),
        ] {
            let answer = kubectl(scene, &arguments).await?;
            ensure!(answer.contains(said), "kubectl {arguments:?} says nothing of {said:?}: {answer}");
        }
        let pods = kubectl(scene, &["get", "pods", "-n", "by-hand", "-l", "app=web"]).await?;
        ensure!(pods.contains("RESTARTS") && pods.contains("Running"), "{pods}");
        kubectl(scene, &["delete", "namespace", "by-hand"]).await?;
        eventually("the namespace and all in it is gone", async || {
            let left = kubectl(scene, &["get", "deployments,pods", "-n", "by-hand", "-o", "name"]).await?;
            Ok(look(left.trim().is_empty(), (), || left.clone()))
        })
        .await
    })
}

async fn kubectl(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(parts::variable("MUSTER_TEST_KUBECTL")?);
    command.arg("--kubeconfig").arg(&scene.platform.cluster(EDGES[2])?.kubeconfig).args(arguments);
    // Its cache of discovery goes with the platform.
    command.env("KUBECACHEDIR", scene.platform.folder().join("kubectl"));
    clients::run(command, "").await
}
