//! The registry knows clusters and fleets, carries what clusters should hold, and brings back what they say.

mod verdicts;

use crate::{
    domain::{Composed, Installation, PolicyBinding, ReportChange, Served},
    store::{projection::Member, report::Observed},
};
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use muster_core::{
    bundle::Digest,
    name::{ClusterName, FleetName},
    version::Version,
};
use muster_kit::{
    Error, Result,
    peer::{self, PeerChannel},
    telemetry,
};
use muster_proto::{
    agent::v1::{self as wire, ApiGroup, Bundle, DesiredItem, PolicyOptions},
    registry::v1::{
        ApplyDesiredRequest, Cluster, ClusterChange, ListDesiredRequest, ListFleetsRequest, PutBundlesRequest,
        WatchClustersRequest, WatchClustersResponse, WatchObservedRequest, cluster::State,
        cluster_change_result::Outcome as WireOutcome, cluster_service_client::ClusterServiceClient,
        desired_service_client::DesiredServiceClient, fleet_service_client::FleetServiceClient, watch_clusters_response::Type,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tonic::Status;

const PEER: &str = "fleet-registry";
/// We are the owner `policy`, and have one item in each cluster.
const OWNER: &str = "policy";
const ITEM: &str = "policies";
const DEADLINE: Duration = Duration::from_secs(10);

/// What a watch of clusters says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEvent {
    /// A cluster exists or changed.
    Known(Member),
    /// A cluster is gone.
    Gone(String),
    /// Everything that existed has been said.
    Synced,
}

/// What a watch of observations says of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedEvent {
    /// The cluster.
    pub cluster: String,
    /// Which generation it is about, and when it was made.
    pub observed: Observed,
    /// What is said.
    pub said: Said,
}

/// What is said of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// How far the agent came with applying what it was told.
    Installation(Installation),
    /// There are verdicts of this version.
    Verdicts(Version),
}

/// Verdicts of a cluster as of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    /// Which generation was evaluated, and when.
    pub observed: Observed,
    /// The version.
    pub version: Version,
    /// The changes are from nothing.
    pub whole: bool,
    /// By policy.
    pub changes: BTreeMap<String, ReportChange>,
}

/// What a cluster is to be told.
#[derive(Debug, Clone)]
pub struct ToApply {
    /// The cluster.
    pub cluster: String,
    /// The number it was told under last.
    pub base_generation: u64,
    /// The number it is told under now.
    pub generation: u64,
    /// What.
    pub content: Arc<Composed>,
    /// The bundle it is in; `None` where there is nothing to hold.
    pub bundle: Option<Digest>,
}

/// How telling a cluster ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written, now or before.
    Written,
    /// It was told something else under this or a later number.
    Stale,
    /// There is no such cluster.
    Unknown,
}

/// What became of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The cluster.
    pub cluster: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The number as the registry has it.
    pub current_generation: u64,
    /// The registry's incarnation.
    pub incarnation: u64,
}

/// What we ask of the registry.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Members of all fleets, as `(fleet, cluster)`.
    async fn members(&self) -> Result<BTreeSet<(String, String)>>;
    /// Clusters that exist, then every change.
    async fn watch_clusters(&self) -> Result<BoxStream<'static, Result<ClusterEvent>>>;
    /// Keeps a bundle.
    async fn put_bundle(&self, digest: &Digest, content: Vec<u8>) -> Result<()>;
    /// Tells clusters what to hold, at most 1,000.
    async fn apply(&self, leader_epoch: u64, changes: Vec<ToApply>) -> Result<Vec<Applied>>;
    /// The number each cluster was told under last, as the registry has it; clusters never told may be missing.
    async fn generations(&self) -> Result<BTreeMap<String, u64>>;
    /// The verdicts of a cluster that are newer than a version, or all of them.
    async fn verdicts(&self, cluster: &str, after: Option<Version>) -> Result<Verdicts>;
    /// What is said of every cluster, then everything newer.
    async fn watch_reports(&self) -> Result<BoxStream<'static, Result<ObservedEvent>>>;
}

/// Asks the registry over gRPC.
pub struct RegistryClient {
    clusters: ClusterServiceClient<PeerChannel>,
    fleets: FleetServiceClient<PeerChannel>,
    desired: DesiredServiceClient<PeerChannel>,
}

impl RegistryClient {
    /// A client over `channel`.
    pub fn new(channel: PeerChannel) -> Self {
        Self {
            clusters: ClusterServiceClient::new(channel.clone()).max_decoding_message_size(peer::MAX_MESSAGE_BYTES),
            fleets: FleetServiceClient::new(channel.clone()).max_decoding_message_size(peer::MAX_MESSAGE_BYTES),
            desired: DesiredServiceClient::new(channel).max_decoding_message_size(peer::MAX_MESSAGE_BYTES),
        }
    }
}

fn failed(status: Status) -> Error {
    peer::failed(PEER, status)
}

fn malformed(what: &str) -> Error {
    Error::internal(anyhow::anyhow!("{PEER} sent {what}"))
}

fn cluster_id(name: &str) -> Result<String> {
    let name: ClusterName = name.parse().map_err(|_| malformed("a name that is no cluster's"))?;
    Ok(name.cluster().to_owned())
}

#[async_trait]
impl Registry for RegistryClient {
    async fn members(&self) -> Result<BTreeSet<(String, String)>> {
        let mut members = BTreeSet::new();
        let mut page_token = String::new();
        loop {
            let request = peer::request(ListFleetsRequest { page_size: 1_000, page_token }, DEADLINE);
            let response = self.fleets.clone().list_fleets(request).await.map_err(failed)?.into_inner();
            for fleet in response.fleets {
                let name: FleetName = fleet.name.parse().map_err(|_| malformed("a name that is no fleet's"))?;
                for member in fleet.members {
                    members.insert((name.fleet().to_owned(), cluster_id(&member.cluster)?));
                }
            }
            page_token = response.next_page_token;
            if page_token.is_empty() {
                return Ok(members);
            }
        }
    }

    async fn watch_clusters(&self) -> Result<BoxStream<'static, Result<ClusterEvent>>> {
        let stream = self.clusters.clone().watch_clusters(WatchClustersRequest::default()).await.map_err(failed)?;
        Ok(stream.into_inner().map(|message| cluster_event(message.map_err(failed)?)).boxed())
    }

    async fn put_bundle(&self, digest: &Digest, content: Vec<u8>) -> Result<()> {
        let bundle = Bundle { digest: digest.to_string(), content };
        let request = peer::request(PutBundlesRequest { bundles: vec![bundle] }, DEADLINE);
        self.desired.clone().put_bundles(request).await.map_err(failed)?;
        Ok(())
    }

    async fn apply(&self, leader_epoch: u64, changes: Vec<ToApply>) -> Result<Vec<Applied>> {
        let changes = changes.into_iter().map(change).collect();
        let request = ApplyDesiredRequest { owner: OWNER.to_owned(), leader_epoch, changes, bundles: Vec::new() };
        let response = self.desired.clone().apply_desired(peer::request(request, DEADLINE)).await.map_err(failed)?;
        let mut applied = Vec::new();
        for result in response.into_inner().results {
            let outcome = match result.outcome() {
                WireOutcome::Applied | WireOutcome::Repeated => Outcome::Written,
                WireOutcome::Stale => Outcome::Stale,
                WireOutcome::UnknownCluster => Outcome::Unknown,
                WireOutcome::Unspecified => return Err(malformed("an outcome without a value")),
            };
            applied.push(Applied {
                cluster: cluster_id(&result.cluster)?,
                outcome,
                current_generation: result.current_generation,
                incarnation: result.incarnation,
            });
        }
        Ok(applied)
    }

    async fn generations(&self) -> Result<BTreeMap<String, u64>> {
        // The numbers are complete on every page; the items are not asked for.
        let request = ListDesiredRequest { owner: OWNER.to_owned(), page_size: 1, page_token: String::new() };
        let response = self.desired.clone().list_desired(peer::request(request, DEADLINE)).await.map_err(failed)?;
        let generations = response.into_inner().generations.into_iter();
        generations.map(|(cluster, generation)| Ok((cluster_id(&cluster)?, generation))).collect()
    }

    async fn verdicts(&self, cluster: &str, after: Option<Version>) -> Result<Verdicts> {
        verdicts::read(self.desired.clone(), cluster, after).await
    }

    async fn watch_reports(&self) -> Result<BoxStream<'static, Result<ObservedEvent>>> {
        let request = WatchObservedRequest { owner: OWNER.to_owned(), resume_token: String::new() };
        let stream = self.desired.clone().watch_observed(request).await.map_err(failed)?;
        let events = stream.into_inner().filter_map(|message| async {
            match message.map_err(failed) {
                Ok(message) => verdicts::event(message).transpose(),
                Err(error) => Some(Err(error)),
            }
        });
        Ok(events.boxed())
    }
}

fn cluster_event(message: WatchClustersResponse) -> Result<ClusterEvent> {
    let kind = message.r#type();
    if kind == Type::Synced {
        return Ok(ClusterEvent::Synced);
    }
    let cluster = message.cluster.ok_or_else(|| malformed("a change without a cluster"))?;
    match kind {
        Type::Existing | Type::Changed => Ok(ClusterEvent::Known(member(&cluster)?)),
        Type::Deleted => Ok(ClusterEvent::Gone(cluster_id(&cluster.name)?)),
        Type::Synced | Type::Unspecified => Err(malformed("a change without a type")),
    }
}

fn member(cluster: &Cluster) -> Result<Member> {
    let is_enrolled = match cluster.state() {
        State::Joining | State::Live | State::Suspect | State::Lost => true,
        State::NotEnrolled | State::Leaving | State::Left | State::Unspecified => false,
    };
    let kinds = |all: &[ApiGroup]| all.iter().map(|kind| (kind.name.clone(), kind.versions.clone())).collect::<Served>();
    let served = cluster.inventory.as_ref().map(|inventory| match inventory.policy_kinds.as_slice() {
        // An agent that does not know of these kinds: its preflight has the definitions at least.
        [] => cluster.preflight.as_ref().map(|found| kinds(&found.crds)).unwrap_or_default(),
        all => kinds(all),
    });
    Ok(Member { cluster: cluster_id(&cluster.name)?, is_enrolled, labels: cluster.labels.clone(), served })
}

fn change(to_apply: ToApply) -> ClusterChange {
    let ToApply { cluster, base_generation, generation, content, bundle } = to_apply;
    let Composed { content, digest, .. } = &*content;
    let item = bundle.map(|digest| DesiredItem {
        owner: OWNER.to_owned(),
        name: ITEM.to_owned(),
        bundle_digest: digest.to_string(),
        self_heal: true,
        prune: true,
        traceparent: telemetry::current_traceparent(),
        policy: Some(PolicyOptions {
            install: content.installs(),
            only_evaluated: u32::try_from(content.only_evaluated).unwrap_or(u32::MAX),
            bindings: content
                .bindings
                .iter()
                .cloned()
                .map(|PolicyBinding { policy, namespaces, enforce }| wire::PolicyBinding { policy, namespaces, enforce })
                .collect(),
        }),
        ..DesiredItem::default()
    });
    ClusterChange {
        cluster: format!("clusters/{cluster}"),
        base_generation,
        generation,
        content_digest: digest.clone(),
        upserts: item.into_iter().collect(),
        deletes: vec![],
        full: true,
    }
}
