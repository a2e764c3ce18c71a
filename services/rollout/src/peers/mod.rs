//! What this service asks of others, behind the few calls that are needed; tests bring their own.

pub mod policy;
pub mod registry;
pub mod scheduler;

use crate::domain::release::Reading;
use async_trait::async_trait;
use muster_kit::Result;
use serde_json::Value;
use std::collections::BTreeMap;

/// A change of one cluster's desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterWish {
    /// The cluster.
    pub cluster: String,
    /// The number of our change before.
    pub base: u64,
    /// The number of this one.
    pub generation: u64,
    /// Items with the bundle's digest, or to be removed.
    pub items: Vec<crate::store::desired::Item>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The registry has it, under this incarnation.
    Taken {
        /// Makes the generation complete.
        incarnation: u64,
    },
    /// Our base is not the current number, which is this.
    Stale {
        /// The current number.
        current: u64,
    },
    /// No such cluster, or it has left.
    UnknownCluster,
}

/// What the registry holds for us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// (cluster, item) → the bundle's digest and (incarnation, number) of its generation.
    pub items: BTreeMap<(String, String), (String, (u64, u64))>,
    /// The number of our last change, by cluster.
    pub generations: BTreeMap<String, u64>,
}

/// The fleet registry.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Stores bundles by digest.
    async fn put_bundles(&self, bundles: Vec<(String, Vec<u8>)>) -> Result<()>;
    /// Changes desired state; one answer a change, in order.
    async fn apply_desired(&self, leader_epoch: u64, changes: &[ClusterWish]) -> Result<Vec<Applied>>;
    /// What the registry holds for us.
    async fn list_desired(&self) -> Result<Held>;
    /// An instant query to a cluster's own Prometheus.
    async fn query_metrics(&self, cluster: &str, query: &str) -> Reading;
    /// What a cluster's API server says of manifests: empty where accepted, else its words.
    async fn dry_run(&self, cluster: &str, manifests: &[Value]) -> Result<Vec<String>>;
    /// Every fleet with the identifiers of its members.
    async fn list_fleets(&self) -> Result<BTreeMap<String, Vec<String>>>;
}

/// What policy says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Equal revisions mean equal verdicts.
    pub revision: String,
    /// What is enforced and broken, one line each; empty: allowed.
    pub refusals: Vec<String>,
    /// What is only reported.
    pub warnings: Vec<String>,
}

/// The policy service.
#[async_trait]
pub trait Policy: Send + Sync + 'static {
    /// What the policies of some clusters say of manifests.
    async fn evaluate(&self, manifests: &[Value], clusters: &[String]) -> Result<Judgement>;
    /// The present [`Judgement::revision`]: whether a verdict taken before still stands.
    async fn revision(&self) -> Result<String>;
}

/// The scheduler.
#[async_trait]
pub trait Scheduler: Send + Sync + 'static {
    /// The epoch of a job's run that counts; none if there is no such job.
    async fn current_epoch(&self, job: &str) -> Result<Option<u64>>;
}
