//! Evaluates the cluster's workloads by the policies it was told, and says the whole verdict when it changes.
//!
//! Every workload counts, not only Muster's own: compliance is a property of the cluster. What another workload made is
//! left out, because the evaluator judges what a workload makes together with the workload.

use crate::{
    cluster::{Cluster, ClusterError},
    domain::{
        item::{ItemKey, Record},
        object::{ObjectRef, list, text},
        observation::{MAX_VIOLATIONS, RuleCount, Verdicts, Violation, cut},
    },
    ledger::LedgerError,
    reconcile::Reconciler,
};
use muster_policy_evaluator::{Bound, FailureAction, Outcome, Policy, Surroundings, decide};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
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

/// Evaluates on change and every so often until `stop`.
pub async fn follow(reconciler: Reconciler, stop: CancellationToken) {
    let mut changes = reconciler.watches.changes();
    loop {
        if let Err(error) = evaluate_all(&reconciler).await {
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

async fn evaluate_all(reconciler: &Reconciler) -> Result<(), EvaluateError> {
    let state = reconciler.ledger.state();
    let told: Vec<(ItemKey, Record)> = state
        .items()
        .filter(|(_, record)| record.options.policy.is_some() && record.bundle.is_some())
        .map(|(key, record)| (key, record.clone()))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    let workloads = workloads(&reconciler.cluster).await?;
    let namespaces = namespaces(&reconciler.cluster).await?;
    for (key, record) in told {
        let Some(digest) = record.bundle.as_deref().and_then(|digest| digest.parse().ok()) else { continue };
        let manifests = match reconciler.ledger.bundle(digest).await {
            Ok(manifests) => manifests,
            // The reconciler asks for it; there is nothing to evaluate until it is here.
            Err(LedgerError::NoBundle(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let (workloads, namespaces, options) = (workloads.clone(), namespaces.clone(), record.options.policy.unwrap_or_default());
        let verdicts = tokio::task::spawn_blocking(move || {
            let bindings: Vec<_> =
                options.bindings.iter().map(|b| (b.policy.as_str(), b.namespaces.as_slice(), b.enforce)).collect();
            evaluate(&manifests, &bindings, &workloads, namespaces)
        })
        .await
        .map_err(|_| LedgerError::Closed)?;
        reconciler.set_verdicts(&key, verdicts);
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

async fn namespaces(cluster: &Cluster) -> Result<BTreeMap<String, muster_core::selector::Labels>, ClusterError> {
    let all = cluster.list("v1", "Namespace", "", "").await?;
    let labels = |live: &Value| crate::domain::workload::labels(live, "/metadata/labels");
    Ok(all.iter().map(|live| (text(live, "/metadata/name").to_owned(), labels(live))).collect())
}

/// The verdict of policies, with their bindings `(policy, namespaces, enforce)`, over workloads. Pure.
pub fn evaluate(
    documents: &[Value],
    bindings: &[(&str, &[String], bool)],
    workloads: &[Value],
    namespaces: BTreeMap<String, muster_core::selector::Labels>,
) -> Verdicts {
    // The service refuses what cannot be read before it sends it; an agent of an older version may still not know it.
    let policies: Vec<Policy> = documents
        .iter()
        .filter_map(|document| {
            Policy::parse(document)
                .inspect_err(|error| tracing::warn!(policy = text(document, "/metadata/name"), error = %error, "a policy cannot be read here"))
                .ok()
        })
        .collect();
    let bound: Vec<Bound<'_>> = policies
        .iter()
        .flat_map(|policy| {
            bindings.iter().filter(|(name, _, _)| *name == policy.name()).map(|(_, namespaces, enforce)| Bound {
                policy,
                action: Some(if *enforce { FailureAction::Enforce } else { FailureAction::Audit }),
                allow_not_evaluated: true,
                namespaces,
            })
        })
        .collect();
    let surroundings = Surroundings { namespaces, ..Surroundings::default() };
    let decision = decide(&bound, workloads, &surroundings);
    let mut counts: BTreeMap<(String, String), RuleCount> = BTreeMap::new();
    for result in &decision.results {
        let rule = result.rule.clone();
        let count = counts.entry((result.policy.clone(), rule.clone())).or_insert_with(|| RuleCount {
            policy: result.policy.clone(),
            rule,
            pass: 0,
            fail: 0,
            not_evaluated: 0,
        });
        match &result.outcome {
            Outcome::Pass => count.pass += 1,
            Outcome::Fail { .. } | Outcome::Error { .. } => count.fail += 1,
            Outcome::NotEvaluated { .. } => count.not_evaluated += 1,
            Outcome::Skip { .. } => {}
        }
    }
    let mut violations: Vec<Violation> = decision
        .violations
        .iter()
        .chain(&decision.audited)
        .map(|found| Violation {
            policy: found.policy.clone(),
            rule: found.rule.clone(),
            object: ObjectRef::of(&workloads[found.manifest]),
            path: found.path.clone(),
            message: cut(found.message.clone()),
        })
        .collect();
    violations.sort_by(|a, b| (&a.policy, &a.rule, &a.object, &a.path).cmp(&(&b.policy, &b.rule, &b.object, &b.path)));
    violations.dedup();
    violations.truncate(MAX_VIOLATIONS);
    Verdicts { counts: counts.into_values().collect(), violations }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workloads_are_judged_where_the_policy_is_bound() {
        let policy = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "require-team"},
            "spec": {"rules": [{
                "name": "team", "match": {"any": [{"resources": {"kinds": ["Deployment"]}}]},
                "validate": {"message": "say whose it is", "pattern": {"metadata": {"labels": {"team": "?*"}}}},
            }]},
        });
        let deployment = |namespace: &str, team: Option<&str>| {
            let mut live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": namespace, "labels": {}},
                "spec": {"template": {"spec": {"containers": []}}}});
            if let Some(team) = team {
                live["metadata"]["labels"]["team"] = json!(team);
            }
            live
        };
        let workloads = [deployment("ml", Some("vision")), deployment("web", None), deployment("kube-system", None)];
        let bound = ["ml".to_owned(), "web".to_owned()];
        let verdicts = evaluate(&[policy], &[("require-team", &bound, false)], &workloads, BTreeMap::new());
        let counts: Vec<_> = verdicts.counts.iter().map(|c| (c.rule.as_str(), c.pass, c.fail)).collect();
        assert_eq!(counts, [("team", 1, 1)]);
        let violations: Vec<_> = verdicts.violations.iter().map(|v| (v.object.namespace.as_str(), v.rule.as_str())).collect();
        assert_eq!(violations, [("web", "team")]);
    }
}
