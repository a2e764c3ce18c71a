//! Shows who complies as metrics, and forgets old history.
//!
//! The labels are names here, as nowhere else: a fleet and a policy is what alerts and dashboards are about. The number of
//! series is bounded, and what is no longer bound is no longer shown.

use super::Leader;
use crate::{
    app::App,
    domain::{ComplianceKey, ComplianceRow, GroupBy},
    store::{self, compliance::Wanted},
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_kit::{Result, db, reconcile::Reconciler};
use prometheus::{IntGaugeVec, Opts};
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex},
};

/// Pairs of a fleet and a policy that are shown, at most.
const MAX_SHOWN: i64 = 5_000;
/// How long history is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The standings of a cluster.
const STANDINGS: [&str; 3] = ["compliant", "violating", "silent"];

/// Objects that break a policy, by fleet and policy.
static VIOLATIONS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let options =
        Opts::new("muster_policy_violations", "Objects that fail a rule of a policy, once a rule, over a fleet's clusters");
    register(IntGaugeVec::new(options, &["fleet", "policy"]).expect("a legal metric"))
});

/// Clusters of a fleet by how they stand to a policy.
static CLUSTERS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let options = Opts::new("muster_policy_clusters", "Clusters of a fleet by how they stand to a policy");
    register(IntGaugeVec::new(options, &["fleet", "policy", "standing"]).expect("a legal metric"))
});

fn register(metric: IntGaugeVec) -> IntGaugeVec {
    prometheus::default_registry().register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

/// Shows and forgets.
pub struct Compliance {
    /// The use cases.
    pub app: App,
    /// Who leads; the others show nothing, so that nothing is counted twice.
    pub leader: Arc<Leader>,
    shown: Mutex<BTreeSet<(String, String)>>,
}

impl Compliance {
    /// Shows nothing yet.
    pub fn new(app: App, leader: Arc<Leader>) -> Self {
        Self { app, leader, shown: Mutex::default() }
    }

    fn show(&self, rows: Vec<ComplianceRow>) {
        let mut now = BTreeSet::new();
        for ComplianceRow { key: ComplianceKey { fleet, policy, .. }, compliant, violating, silent, violations } in rows {
            VIOLATIONS.with_label_values(&[&fleet, &policy]).set(i64::from(violations));
            for (standing, count) in STANDINGS.into_iter().zip([compliant, violating, silent]) {
                CLUSTERS.with_label_values(&[fleet.as_str(), policy.as_str(), standing]).set(i64::from(count));
            }
            now.insert((fleet, policy));
        }
        let mut shown = self.shown.lock().expect("no holder of this lock panics");
        for (fleet, policy) in shown.difference(&now) {
            // Whatever was shown is there to be taken away.
            let _ = VIOLATIONS.remove_label_values(&[fleet, policy]);
            for standing in STANDINGS {
                let _ = CLUSTERS.remove_label_values(&[fleet.as_str(), policy.as_str(), standing]);
            }
        }
        *shown = now;
    }
}

#[async_trait]
impl Reconciler for Compliance {
    fn name(&self) -> &'static str {
        "compliance"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch() else {
            self.show(vec![]);
            return Ok(());
        };
        let all = Wanted { fleet: None, policy: None, after: &ComplianceKey::default(), limit: MAX_SHOWN };
        self.show(store::compliance::summary(&self.app.pool, GroupBy::Policy, all).await?);
        let mut tx = db::begin(&self.app.pool).await?;
        Leader::check(&mut tx, epoch).await?;
        store::compliance::forget(&mut tx, Timestamp::now() - KEPT).await?;
        tx.commit().await?;
        Ok(())
    }
}
