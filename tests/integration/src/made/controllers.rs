//! Workloads given to a real cluster, and what its controllers make of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::text;
use crate::cluster_api::ClusterApi;
use crate::eventually_within;
use crate::patience::look;

/// Requests in flight, fewer than a real API server's limit.
const AT_ONCE: usize = 16;
/// A CronJob makes its Job at the full minute, and two cores need some time for hundreds.
const MADE_WITHIN: Duration = Duration::from_secs(180);
/// What controllers make, and where it is.
const MADE: [(&str, &str); 3] = [("apis/apps/v1", "replicasets"), ("apis/batch/v1", "jobs"), ("api/v1", "pods")];

/// Who makes a CronJob's Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedules {
    /// The CronJob controller, every minute as the schedule says.
    Waited,
    /// Whoever asks, as `kubectl create job --from=cronjob/NAME` does.
    ByHand,
}

/// A workload and everything that came of it.
pub struct Family {
    /// As it was sent.
    pub manifest: Value,
    /// As the cluster has it: itself, then what was made, without status and node.
    pub live: Vec<Value>,
}

/// Makes the workloads in a namespace of their own, and returns when each has its Pods. All the manifests name the namespace.
///
/// # Errors
/// The server refuses one, or its controllers don't make Pods of it.
pub async fn make(api: &ClusterApi, namespace: &str, workloads: Vec<Value>, schedules: Schedules) -> Result<Vec<Family>> {
    prepare(api, namespace).await?;
    let mut families = Vec::new();
    let mut waiting = workloads.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE {
            let Some(manifest) = waiting.next() else { break };
            running.spawn(create(api.clone(), manifest, schedules));
        }
        let Some(created) = running.join_next().await else { break };
        families.push(created??);
    }
    eventually_within(MADE_WITHIN, &format!("every workload in {namespace} has its Pods"), async || {
        let below = descendants(api, namespace).await?;
        let without: Vec<&str> = families
            .iter()
            .filter(|(_, live)| {
                !below.get(text(&live["metadata"]["uid"])).is_some_and(|made| made.iter().any(|object| object["kind"] == "Pod"))
            })
            .map(|(_, live)| text(&live["metadata"]["name"]))
            .collect();
        Ok(look(without.is_empty(), (), || format!("{} have none, among them {:?}", without.len(), without.first())))
    })
    .await?;
    let mut below = descendants(api, namespace).await?;
    let family = |(manifest, live): (Value, Value)| {
        let made = below.remove(text(&live["metadata"]["uid"])).unwrap_or_default();
        Family { manifest, live: std::iter::once(live).chain(made).map(as_admitted).collect() }
    };
    Ok(families.into_iter().map(family).collect())
}

/// The namespace, with the accounts that the workloads run as.
async fn prepare(api: &ClusterApi, namespace: &str) -> Result<()> {
    let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    api.create("/api/v1/namespaces", &object("Namespace", namespace)).await?;
    let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    api.create(&accounts, &object("ServiceAccount", "robot")).await?;
    eventually_within(MADE_WITHIN, &format!("the account of {namespace}"), async || {
        let account = api.find(&format!("{accounts}/default")).await?;
        Ok(look(account.is_some(), (), || "there is none".to_owned()))
    })
    .await
}

/// Sends a workload; answers with the manifest and the object.
async fn create(api: ClusterApi, manifest: Value, schedules: Schedules) -> Result<(Value, Value)> {
    let [version, kind] = ["apiVersion", "kind"].map(|key| text(&manifest[key]).to_owned());
    let name = text(&manifest["metadata"]["name"]).to_owned();
    let namespace = text(&manifest["metadata"]["namespace"]).to_owned();
    let collection = format!("/apis/{version}/namespaces/{namespace}/{}s", kind.to_lowercase());
    let live = api.create(&collection, &manifest).await.with_context(|| format!("{kind} {name}: {manifest}"))?;
    if kind == "CronJob" && schedules == Schedules::ByHand {
        let template = &live["spec"]["jobTemplate"];
        let mut metadata = json!({"name": format!("{name}-by-hand"), "labels": template["metadata"]["labels"]});
        metadata["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
        for (key, value) in template["metadata"]["annotations"].as_object().into_iter().flatten() {
            metadata["annotations"][key] = value.clone();
        }
        metadata["ownerReferences"] =
            json!([{"apiVersion": version, "kind": kind, "name": name, "uid": live["metadata"]["uid"], "controller": true}]);
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]});
        api.create(&format!("/apis/batch/v1/namespaces/{namespace}/jobs"), &job).await?;
    }
    Ok((manifest, live))
}

/// What was made, by the UID of the object that stands above all of it.
async fn descendants(api: &ClusterApi, namespace: &str) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut owners = BTreeMap::new();
    let mut all = Vec::new();
    for (base, plural) in MADE {
        for mut object in api.list(&format!("/{base}/namespaces/{namespace}/{plural}")).await? {
            // Items of a list leave them out.
            let (version, kind) = match plural {
                "replicasets" => ("apps/v1", "ReplicaSet"),
                "jobs" => ("batch/v1", "Job"),
                _ => ("v1", "Pod"),
            };
            object["apiVersion"] = json!(version);
            object["kind"] = json!(kind);
            if let Some(owner) = object.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str) {
                owners.insert(text(&object["metadata"]["uid"]).to_owned(), owner.to_owned());
                all.push(object);
            }
        }
    }
    let mut below = BTreeMap::<String, Vec<Value>>::new();
    for object in all {
        let mut top = text(&object["metadata"]["uid"]);
        while let Some(owner) = owners.get(top) {
            top = owner;
        }
        below.entry(top.to_owned()).or_default().push(object);
    }
    Ok(below)
}

fn as_admitted(mut object: Value) -> Value {
    let is_pod = object["kind"] == "Pod";
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(spec) = object["spec"].as_object_mut().filter(|_| is_pod) {
        spec.remove("nodeName");
    }
    object
}
