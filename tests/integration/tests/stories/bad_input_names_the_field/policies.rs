//! Policies whose patterns would take a careless matcher for ever: a verdict comes, and it is the right one.

use anyhow::{Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::refusal::names_field;
use muster_proto::policy::v1 as policy;
use muster_proto::registry::v1 as registry;
use serde_json::{Value, json};

/// The wildcards a matcher that tries every split would need 2^40 steps for.
const STARS: usize = 40;

fn cluster_policy(name: &str, pattern: &str) -> Value {
    json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": name},
        "spec": {"validationFailureAction": "Audit", "rules": [{
            "name": "wild",
            "match": {"any": [{"resources": {"kinds": ["ConfigMap"]}}]},
            "validate": {"message": "it does not match", "pattern": {"data": {"text": pattern}}},
        }]},
    })
}

async fn create(clients: &Clients, manifest: &Value) -> Result<policy::Policy, tonic::Status> {
    let request = policy::CreatePolicyRequest {
        policy: Some(policy::Policy { manifest: manifest.to_string(), ..Default::default() }),
        ..Default::default()
    };
    clients.policies().create_policy(request).await.map(tonic::Response::into_inner)
}

/// Binds two policies with pathological wildcards to the cluster.
pub async fn prepare(clients: &Clients) -> Result<()> {
    create(clients, &cluster_policy("wild-no", &format!("{}b", "*a".repeat(STARS)))).await?;
    create(clients, &cluster_policy("wild-yes", &format!("{}*", "*a?".repeat(STARS)))).await?;
    let fleet = "apiVersion: muster.dev/v1\nkind: Fleet\nmetadata: {name: all}\nspec: {clusters: [{name: train}]}\n";
    let fleet = Some(registry::Fleet { manifest: fleet.to_owned(), ..Default::default() });
    clients.fleets().create_fleet(registry::CreateFleetRequest { fleet, ..Default::default() }).await?;
    let binding = json!({
        "apiVersion": "policy.kurator.dev/v1alpha1", "kind": "FleetPolicy", "metadata": {"name": "wild"},
        "spec": {"fleetRef": {"name": "all"}, "policies": [{"name": "wild-no"}, {"name": "wild-yes"}]},
    });
    let fleet_policy = Some(policy::FleetPolicy { manifest: binding.to_string(), ..Default::default() });
    clients.fleet_policies().create_fleet_policy(policy::CreateFleetPolicyRequest { fleet_policy, ..Default::default() }).await?;
    Ok(())
}

pub async fn are_bounded(clients: &Clients) -> Result<()> {
    let text = "a".repeat(100_000);
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "long"}, "data": {"text": text}});
    let verdict = muster_integration_tests::eventually("the cluster's policies are known", async || {
        let request = policy::EvaluateRequest {
            manifests: vec![manifest.to_string()],
            clusters: vec!["clusters/train".to_owned()],
            ..Default::default()
        };
        // The client's deadline bounds it.
        let verdict = clients.verdicts().evaluate(request).await?.into_inner();
        let broken: Vec<String> = verdict.violations.iter().map(|violation| violation.policy.clone()).collect();
        Ok(muster_integration_tests::patience::look(!broken.is_empty(), broken, || format!("{verdict:?}")))
    })
    .await?;
    ensure!(verdict == ["policies/wild-no"], "a hundred thousand a match {STARS} wildcards and no b: {verdict:?}");

    let refusal = create(clients, &cluster_policy("too-wild", &"*a".repeat(600))).await.expect_err("six hundred wildcards");
    names_field(&refusal, "policy.manifest.spec.rules[0].validate.pattern", "six hundred wildcards")
}
