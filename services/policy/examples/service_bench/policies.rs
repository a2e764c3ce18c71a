//! Policies from files, and what binds them.

use anyhow::{Context, Result, ensure};
use muster_core::manifest::parse_documents;
use muster_proto::policy::v1::{
    self as wire, fleet_policy_service_client::FleetPolicyServiceClient, policy_service_client::PolicyServiceClient,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tonic::transport::Channel;

/// A binding holds no more.
const BOUND_TOGETHER: usize = 200;

/// Every policy below some places; tests that lie beside them are passed over.
pub fn read(places: &[PathBuf]) -> Result<Vec<Value>> {
    let mut policies = Vec::new();
    for place in places {
        below(place, &mut policies)?;
    }
    ensure!(!policies.is_empty(), "there is no policy");
    Ok(policies)
}

fn below(place: &Path, policies: &mut Vec<Value>) -> Result<()> {
    if place.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        entries.sort();
        entries.retain(|entry| entry.file_name().is_none_or(|name| !name.to_string_lossy().starts_with('.')));
        return entries.iter().try_for_each(|entry| below(entry, policies));
    }
    if place.extension().is_some_and(|extension| extension == "yaml") {
        let documents = parse_documents(&fs::read_to_string(place)?).with_context(|| place.display().to_string())?;
        policies.extend(documents.into_iter().map(|document| document.value).filter(|value| value["kind"] == "ClusterPolicy"));
    }
    Ok(())
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
