//! What agents say of their clusters' workloads, and the registry that brings it.

use crate::storage::{CLUSTERS, WORKLOADS};
use anyhow::{Result, ensure};
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use muster_core::{bundle::Digest, version::Version};
use muster_policy::{
    app::App,
    domain::{ReportChange, ReportRow, ReportedViolation, RuleSummary},
    peers::{Applied, ClusterEvent, ObservedEvent, Registry, Said, ToApply, Verdicts},
    reconcile::reports,
    store::report::Observed,
};
use muster_policy_evaluator::{Bound, Outcome, Policy, Surroundings, decide};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One workload in so many changes.
pub const CHANGED: usize = 100;

/// By cluster, what its policies say.
pub type Judged = BTreeMap<String, Vec<(String, ReportRow)>>;

/// The workloads after one in a hundred has become what another is.
pub fn changed(mut workloads: Vec<Value>) -> Vec<Value> {
    for number in (0..workloads.len() - 1).step_by(CHANGED) {
        let other = workloads[number + 1].clone();
        let metadata = workloads[number]["metadata"].clone();
        workloads[number] = other;
        workloads[number]["metadata"]["name"] = metadata["name"].clone();
    }
    workloads
}

/// What the agents of the clusters say of the workloads, which lie one after the other in them.
pub fn judged(policies: &[Policy], workloads: &[Value]) -> Judged {
    let clusters = workloads.chunks(WORKLOADS / CLUSTERS).enumerate();
    clusters.map(|(number, workloads)| (format!("cluster-{number}"), rows(policies, workloads))).collect()
}

fn rows(policies: &[Policy], workloads: &[Value]) -> Vec<(String, ReportRow)> {
    let bound: Vec<Bound<'_>> =
        policies.iter().map(|policy| Bound { policy, action: None, allow_not_evaluated: true, namespaces: &[] }).collect();
    let decision = decide(&bound, workloads, &Surroundings::default());
    let mut counts: BTreeMap<(&str, &str), RuleSummary> = BTreeMap::new();
    for result in &decision.results {
        let new = || RuleSummary { rule: result.rule.clone(), pass: 0, fail: 0, not_evaluated: 0 };
        let count = counts.entry((&result.policy, &result.rule)).or_insert_with(new);
        match &result.outcome {
            Outcome::Pass => count.pass += 1,
            Outcome::Fail { .. } | Outcome::Error { .. } => count.fail += 1,
            Outcome::NotEvaluated { .. } => count.not_evaluated += 1,
            Outcome::Skip { .. } => {}
        }
    }
    let counts = counts.into_iter().map(|((policy, _), count)| (policy.to_owned(), ReportRow::Rule(count)));
    let violations = decision.violations.iter().chain(&decision.audited).map(|found| {
        let text = |pointer: &str| {
            let text = workloads[found.manifest].pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let group = text("/apiVersion").split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default();
        let violation = ReportedViolation {
            rule: found.rule.clone(),
            group,
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            object: text("/metadata/name"),
            path: found.path.clone(),
            message: found.message.clone(),
        };
        (found.policy.clone(), ReportRow::Violation(violation))
    });
    counts.chain(violations).collect()
}

/// Has the service hear of what the agents say, as a change of what they said before or as the whole.
pub async fn told(app: &App, epoch: u64, version: u64, said: &Judged, before: Option<&Judged>) -> Result<()> {
    for (cluster, rows) in said {
        let held = before.map(|before| before[cluster].as_slice());
        let mut changes: BTreeMap<String, ReportChange> = BTreeMap::new();
        for (policy, row) in differing(rows, held.unwrap_or_default()) {
            changes.entry(policy).or_default().added.push(row);
        }
        for (policy, row) in held.map(|held| differing(held, rows)).unwrap_or_default() {
            changes.entry(policy).or_default().removed.push(row);
        }
        let observed = Observed { incarnation: 1, generation: 1, at: Timestamp::now() };
        let version = Version::new(1, version);
        let registry = Bringing(Verdicts { observed, version, whole: held.is_none(), changes });
        let event = ObservedEvent { cluster: cluster.clone(), observed, said: Said::Verdicts(version) };
        let taken = reports::take(app, &registry, epoch, &event).await?;
        ensure!(taken == reports::Taken::Yes, "the report of {cluster} is not taken");
    }
    Ok(())
}

fn differing(rows: &[(String, ReportRow)], others: &[(String, ReportRow)]) -> Vec<(String, ReportRow)> {
    let name = |(policy, row): &(String, ReportRow)| format!("{policy} {row:?}");
    let others: BTreeSet<String> = others.iter().map(name).collect();
    rows.iter().filter(|row| !others.contains(&name(row))).cloned().collect()
}

/// A registry that brings what one agent said.
struct Bringing(Verdicts);

fn unasked<T>() -> muster_kit::Result<T> {
    Err(muster_kit::Error::unavailable("NOT_ASKED", "a report asks for verdicts alone"))
}

#[async_trait]
impl Registry for Bringing {
    async fn members(&self) -> muster_kit::Result<BTreeSet<(String, String)>> {
        unasked()
    }

    async fn watch_clusters(&self) -> muster_kit::Result<BoxStream<'static, muster_kit::Result<ClusterEvent>>> {
        unasked()
    }

    async fn put_bundle(&self, _: &Digest, _: Vec<u8>) -> muster_kit::Result<()> {
        unasked()
    }

    async fn apply(&self, _: u64, _: Vec<ToApply>) -> muster_kit::Result<Vec<Applied>> {
        unasked()
    }

    async fn generations(&self) -> muster_kit::Result<BTreeMap<String, u64>> {
        unasked()
    }

    async fn verdicts(&self, _: &str, _: Option<Version>) -> muster_kit::Result<Verdicts> {
        Ok(self.0.clone())
    }

    async fn watch_reports(&self) -> muster_kit::Result<BoxStream<'static, muster_kit::Result<ObservedEvent>>> {
        unasked()
    }
}
