//! Releases of plain manifests to a real cluster, from a folder of the scene's repository.

use anyhow::Result;
use muster_integration_tests::eventually_within;
use muster_integration_tests::main_job::scene::Scene;
use muster_integration_tests::patience::look;
use muster_proto::rollout::v1 as rollout;
use serde_json::Value;

use crate::jobs::WITHIN;

/// Commits a folder's manifests; the folder is the application's name.
pub async fn commit(scene: &Scene, application: &str, manifests: &[Value]) -> Result<String> {
    let text = manifests.iter().map(|manifest| format!("{manifest}\n")).collect::<Vec<_>>().join("---\n");
    scene.repository.commit(&format!("{application}: what runs"), &[(format!("lab/{application}/all.yaml"), text)]).await
}

/// An application of that folder on one cluster.
pub async fn application(scene: &Scene, name: &str, cluster: &str, more: &str) -> Result<()> {
    let document = format!(
        "apiVersion: fleet.kurator.dev/v1alpha1
kind: FleetApplication
metadata:
  name: {name}
  namespace: kurator-system
spec:
  fleetRef:
    name: fleet-train
  gitRepositoryRef:
    name: mlops-gitops
  targets:
    - cluster: {cluster}
      path: ./lab/{name}
  syncPolicy:
    automated:
      prune: true
      selfHeal: true
{more}"
    );
    scene.apply(&format!("{name}.yaml"), &document).await?;
    Ok(())
}

/// Returns when a commit's release has completed and the application is healthy.
pub async fn healthy_at(scene: &Scene, name: &str, commit: &str) -> Result<()> {
    let completed =
        |release: &rollout::Release| release.commit == commit && release.state() == rollout::release::State::Completed;
    until(scene, name, "is healthy", |application, release| {
        application.state() == rollout::application::State::Healthy && release.is_some_and(completed)
    })
    .await
}

/// Returns when an application and its newest release are as they should be.
pub async fn until(
    scene: &Scene,
    name: &str,
    what: &str,
    is: impl Fn(&rollout::Application, Option<&rollout::Release>) -> bool,
) -> Result<()> {
    let full = format!("namespaces/kurator-system/applications/{name}");
    eventually_within(WITHIN, &format!("{name} {what}"), async || {
        let request = rollout::GetApplicationRequest { name: full.clone() };
        let application = scene.clients()?.applications().get_application(request).await?.into_inner();
        let request = rollout::ListReleasesRequest { parent: full.clone(), page_size: 1, ..Default::default() };
        let releases = scene.clients()?.releases().list_releases(request).await?.into_inner().releases;
        Ok(look(is(&application, releases.first()), (), || {
            format!("{:?}: {}; {:?}", application.state(), application.reason, releases.first())
        }))
    })
    .await
}
