//! Evaluates the cluster's workloads by the policies it was told, in the background; the link tells what changes.
//!
//! Every workload counts, not only Muster's own: compliance is a property of the cluster. What another workload made is
//! left out, because the evaluator judges what a workload makes together with the workload. Rules may ask for other objects
//! of the cluster; what they asked for once is listed from then on, but for Secrets, which no policy gets to read here.

mod evaluate;
mod said;

pub use evaluate::evaluate;
pub use said::Said;

use crate::{
    cluster::{Cluster, ClusterError},
    domain::{
        item::{ItemKey, Record},
        object::{list, text},
        verdicts::VerdictSet,
    },
    ledger::LedgerError,
    reconcile::Reconciler,
};
use jiff::Timestamp;
use muster_core::selector::Labels;
use muster_policy_evaluator::{Extent, Inventory, Surroundings};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// What is evaluated: whatever makes pods, and pods that nobody made.
const WORKLOADS: [(&str, &str); 8] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("batch.volcano.sh/v1alpha1", "Job"),
    ("v1", "Pod"),
];
/// Changes are gathered this long: a rollout touches an object many times.
const GATHER: Duration = Duration::from_secs(1);
/// Workloads of others are not watched; they are looked at this often.
const INTERVAL: Duration = Duration::from_secs(30);

/// Resources listed for rules that ask for them, at most.
const MAX_ASKED: usize = 16;
/// Rounds until no rule asks for another resource; the rest is asked for the next time.
const MAX_ROUNDS: usize = 3;

/// A resource such as `("v1", "configmaps")`.
type Resource = (String, String);

/// What rules asked for, of one set of policies.
#[derive(Default)]
struct Asked {
    /// The digests of the policies.
    policies: Vec<String>,
    resources: BTreeSet<Resource>,
}

impl Asked {
    /// Adds what is new; says whether anything is.
    fn add(&mut self, missed: BTreeSet<Resource>) -> bool {
        let before = self.resources.len();
        let room = MAX_ASKED.saturating_sub(before);
        let new: Vec<Resource> =
            missed.into_iter().filter(|asked| asked.1 != "secrets" && !self.resources.contains(asked)).collect();
        self.resources.extend(new.into_iter().take(room));
        self.resources.len() > before
    }
}

/// Evaluates on change and every so often until `stop`.
pub async fn follow(reconciler: Reconciler, stop: CancellationToken) {
    let mut changes = reconciler.watches.changes();
    let mut asked = Asked::default();
    loop {
        if let Err(error) = evaluate_all(&reconciler, &mut asked).await {
            tracing::warn!(error = %error, "the cluster's workloads could not be evaluated");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(INTERVAL) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(GATHER) => {}
        }
        changes.mark_unchanged();
    }
}

async fn evaluate_all(reconciler: &Reconciler, asked: &mut Asked) -> Result<(), EvaluateError> {
    let state = reconciler.ledger.state();
    let told: Vec<(ItemKey, Record)> = state
        .items()
        .filter(|(_, record)| record.options.policy.is_some() && record.bundle.is_some())
        .map(|(key, record)| (key, record.clone()))
        .collect();
    reconciler.said.keep_only(|item| told.iter().any(|(key, _)| key == item));
    if told.is_empty() {
        return Ok(());
    }
    let policies: Vec<String> = told.iter().filter_map(|(_, record)| record.bundle.clone()).collect();
    if asked.policies != policies {
        *asked = Asked { policies, ..Asked::default() };
    }
    let workloads = Arc::new(workloads(&reconciler.cluster).await?);
    let namespaces = namespaces(&reconciler.cluster).await?;
    for round in 1.. {
        let inventory = Arc::new(inventory(&reconciler.cluster, &asked.resources).await);
        let mut found = Vec::new();
        for (key, record) in &told {
            let Some(digest) = record.bundle.as_deref().and_then(|digest| digest.parse().ok()) else { continue };
            let manifests = match reconciler.ledger.bundle(digest).await {
                Ok(manifests) => manifests,
                // The reconciler asks for it; there is nothing to evaluate until it is here.
                Err(LedgerError::NoBundle(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let options = record.options.policy.clone().unwrap_or_default();
            let workloads = Arc::clone(&workloads);
            let surroundings = Surroundings {
                namespaces: namespaces.clone(),
                inventory: Some(Arc::clone(&inventory)),
                now: Some(Timestamp::now()),
                ..Surroundings::default()
            };
            let verdicts = tokio::task::spawn_blocking(move || {
                let bindings: Vec<_> =
                    options.bindings.iter().map(|b| (b.policy.as_str(), b.namespaces.as_slice(), b.enforce)).collect();
                evaluate(&manifests, &bindings, &workloads, surroundings)
            })
            .await
            .map_err(|_| LedgerError::Closed)?;
            found.push((key.clone(), VerdictSet::of(record.generation, Timestamp::now(), verdicts)));
        }
        if asked.add(inventory.missed()) && round < MAX_ROUNDS {
            continue;
        }
        for (key, verdicts) in found {
            reconciler.said.put(key, verdicts);
        }
        break;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum EvaluateError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

async fn workloads(cluster: &Cluster) -> Result<Vec<Value>, ClusterError> {
    let mut found = Vec::new();
    for (api_version, kind) in WORKLOADS {
        let all = cluster.list(api_version, kind, "", "").await?;
        found.extend(all.into_iter().filter(|live| list(live, "/metadata/ownerReferences").is_empty()));
    }
    Ok(found)
}

async fn namespaces(cluster: &Cluster) -> Result<BTreeMap<String, Labels>, ClusterError> {
    let all = cluster.list("v1", "Namespace", "", "").await?;
    let labels = |live: &Value| crate::domain::workload::labels(live, "/metadata/labels");
    Ok(all.iter().map(|live| (text(live, "/metadata/name").to_owned(), labels(live))).collect())
}

/// The objects of the resources that rules ask for. What the agent may not list stays unknown, and the rule not evaluated.
async fn inventory(cluster: &Cluster, resources: &BTreeSet<Resource>) -> Inventory {
    let (mut objects, mut known) = (Vec::new(), BTreeSet::new());
    for (api_version, resource) in resources {
        match cluster.list_resource(api_version, resource).await {
            Ok(listed) => {
                objects.extend(listed);
                known.insert((api_version.clone(), resource.clone()));
            }
            Err(error) => tracing::warn!(resource, error = %error, "what a policy asks for cannot be listed"),
        }
    }
    Inventory::new(objects, Extent::Resources(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_listed_from_then_on_but_no_secrets_and_not_without_bound() {
        let resource = |name: &str| ("v1".to_owned(), name.to_owned());
        let mut asked = Asked::default();
        assert!(asked.add(BTreeSet::from([resource("configmaps"), resource("secrets")])));
        assert!(!asked.add(BTreeSet::from([resource("configmaps"), resource("secrets")])));
        assert_eq!(asked.resources, BTreeSet::from([resource("configmaps")]));
        assert!(asked.add((0..100).map(|number| resource(&number.to_string())).collect()));
        assert_eq!(asked.resources.len(), MAX_ASKED);
    }
}
