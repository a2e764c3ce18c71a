//! Policies from files, and what binds them.

use anyhow::{Result, ensure};
use muster_policy_evaluator::conformance::manifests_below;
use muster_proto::policy::v1::{
    self as wire, fleet_policy_service_client::FleetPolicyServiceClient, policy_service_client::PolicyServiceClient,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use tonic::transport::Channel;

/// A binding holds no more.
const BOUND_TOGETHER: usize = 200;

/// Every policy below some places; tests that lie beside them are passed over.
pub fn read(places: &[PathBuf]) -> Result<Vec<Value>> {
    let manifests = manifests_below(places)?.into_iter().map(|(_, manifest)| manifest.value);
    let policies: Vec<Value> = manifests.filter(|manifest| manifest["kind"] == "ClusterPolicy").collect();
    ensure!(!policies.is_empty(), "there is no policy");
    Ok(policies)
}

/// Makes the policies and binds them all to one fleet.
pub async fn bind(channel: &Channel, policies: &[Value]) -> Result<()> {
    let mut client = PolicyServiceClient::new(channel.clone());
    for policy in policies {
        let policy = Some(wire::Policy { manifest: policy.to_string(), ..Default::default() });
        client.create_policy(wire::CreatePolicyRequest { policy, ..Default::default() }).await?;
    }
    let mut client = FleetPolicyServiceClient::new(channel.clone());
    for (number, policies) in policies.chunks(BOUND_TOGETHER).enumerate() {
        let entries: Vec<Value> = policies.iter().map(|policy| json!({"name": policy["metadata"]["name"]})).collect();
        let manifest = json!({
            "apiVersion": "muster.dev/v1", "kind": "FleetPolicy", "metadata": {"name": format!("bound-{number}")},
            "spec": {"fleetRef": {"name": "all"}, "policies": entries},
        });
        let fleet_policy = Some(wire::FleetPolicy { manifest: manifest.to_string(), ..Default::default() });
        client.create_fleet_policy(wire::CreateFleetPolicyRequest { fleet_policy, ..Default::default() }).await?;
    }
    Ok(())
}
