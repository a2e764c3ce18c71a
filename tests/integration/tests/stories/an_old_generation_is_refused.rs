//! Whoever holds an older generation is refused, and what it wanted reaches no cluster.

use anyhow::Result;
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Service;
use muster_integration_tests::{Platform, eventually};
use muster_proto::agent::v1 as agent;
use muster_proto::registry::v1 as registry;
use registry::cluster_change_result::Outcome;
use serde_json::json;

use crate::common;

/// A change that makes one ConfigMap say `text`.
async fn change(platform: &Platform, base: u64, generation: u64, leader: u64, text: &str) -> Result<Outcome, tonic::Status> {
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "told", "namespace": "ml"},
        "data": {"text": text},
    });
    let (digest, content) = muster_core::bundle::encode(&[manifest]).expect("a small bundle");
    let digest = digest.to_string();
    let clients = platform.clients_as_service(Service::Rollout).expect("the rollout service's certificate");
    let bundle = agent::Bundle { digest: digest.clone(), content };
    clients.desired().put_bundles(registry::PutBundlesRequest { bundles: vec![bundle] }).await?;
    let item = agent::DesiredItem {
        owner: "rollout".to_owned(),
        name: "applications/ml/told".to_owned(),
        bundle_digest: digest.clone(),
        self_heal: true,
        prune: true,
        ..Default::default()
    };
    let request = registry::ApplyDesiredRequest {
        owner: "rollout".to_owned(),
        leader_epoch: leader,
        changes: vec![registry::ClusterChange {
            cluster: "clusters/train".to_owned(),
            base_generation: base,
            generation,
            content_digest: digest,
            upserts: vec![item],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = clients.desired().apply_desired(request).await?.into_inner();
    Ok(response.results[0].outcome())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_generation_is_refused() -> Result<()> {
    let platform = common::training_platform().await?;
    // Far above whatever the service itself numbers or leads with here.
    assert_eq!(change(&platform, 0, 5, 1_000, "five").await?, Outcome::Applied);
    assert_eq!(change(&platform, 0, 5, 1_000, "five").await?, Outcome::Repeated);
    assert_eq!(change(&platform, 0, 5, 1_000, "another five").await?, Outcome::Stale);
    assert_eq!(change(&platform, 0, 3, 1_000, "three").await?, Outcome::Stale);
    let deposed = change(&platform, 5, 6, 999, "six").await;
    assert_eq!(deposed.expect_err("a deposed leader").code(), tonic::Code::Aborted);

    eventually("the cluster holds generation five", async || {
        let found = platform.cluster("train")?.api.find("/api/v1/namespaces/ml/configmaps/told").await?;
        let text = found.map(|found| found["data"]["text"].clone());
        Ok(look(text == Some(json!("five")), (), || format!("{text:?}")))
    })
    .await?;
    let audit = &platform.cluster("train")?.audit;
    for refused in ["another five", "three", "six"] {
        assert!(!audit.mentions(refused)?, "{refused:?} reached the cluster");
    }
    Ok(())
}
