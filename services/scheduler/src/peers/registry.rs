//! The registry: clusters in, desired state out, observations in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use muster_core::{Quantity, labels};
use muster_kit::peer::{self, PeerChannel};
use muster_kit::{Error, Result, time};
use muster_proto::agent::v1::{Bundle, DesiredItem, Node, Observation, RunOptions, observation, run_status};
use muster_proto::registry::v1::{
    self as wire, ApplyDesiredRequest, Cluster, ClusterChange, FlavorPrice, ListDesiredRequest, PutBundlesRequest,
    WatchClustersRequest, WatchClustersResponse, WatchObservedRequest, WatchObservedResponse, cluster,
    cluster_change_result::Outcome, cluster_service_client::ClusterServiceClient, desired_service_client::DesiredServiceClient,
};
use tonic::Streaming;

use super::{Answer, Registry, Told};
use crate::app::observe::{ItemPhase, Observed};
use crate::domain::cluster::{ClusterFacts, EgressPrice, NodeFacts, Price, Standing};
use crate::domain::desired::Item;
use crate::domain::job::RunPhase;
use crate::store::desired::change::Pending;

/// The owner we are.
pub const OWNER: &str = "scheduler";
/// How long a write may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bundles of one call, by their number and size: the registry takes 1,000, and 16 MiB with the changes that name them.
const BUNDLES: usize = 500;
const BUNDLE_BYTES: usize = 12 * 1024 * 1024;

/// The registry over a channel.
#[derive(Clone)]
pub struct RegistryClient {
    clusters: ClusterServiceClient<PeerChannel>,
    desired: DesiredServiceClient<PeerChannel>,
}

impl RegistryClient {
    /// A client over the channel to the registry.
    #[must_use]
    pub fn new(channel: PeerChannel) -> Self {
        Self {
            clusters: ClusterServiceClient::new(channel.clone()).max_decoding_message_size(peer::MAX_MESSAGE_BYTES),
            desired: DesiredServiceClient::new(channel)
                .max_decoding_message_size(peer::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(peer::MAX_MESSAGE_BYTES),
        }
    }

    /// Every cluster, then every change.
    ///
    /// # Errors
    /// The registry is away.
    pub async fn watch_clusters(&self) -> Result<Streaming<WatchClustersResponse>> {
        let request = WatchClustersRequest { resume_token: String::new() };
        Ok(self
            .clusters
            .clone()
            .watch_clusters(request)
            .await
            .map_err(|status| peer::failed("fleet-registry", status))?
            .into_inner())
    }

    /// The latest observation of each of our items, then every newer one.
    ///
    /// # Errors
    /// The registry is away.
    pub async fn watch_observed(&self) -> Result<Streaming<WatchObservedResponse>> {
        let request = WatchObservedRequest { owner: OWNER.to_owned(), resume_token: String::new() };
        Ok(self
            .desired
            .clone()
            .watch_observed(request)
            .await
            .map_err(|status| peer::failed("fleet-registry", status))?
            .into_inner())
    }
}

#[async_trait]
impl Registry for RegistryClient {
    async fn apply(&self, leader_epoch: u64, bundles: Vec<(String, Vec<u8>)>, changes: &[Pending]) -> Result<Vec<Answer>> {
        let mut with = Vec::new();
        let mut bytes = 0;
        for (digest, content) in bundles {
            if with.len() >= BUNDLES || (bytes + content.len() > BUNDLE_BYTES && !with.is_empty()) {
                self.send_bundles(std::mem::take(&mut with)).await?;
                bytes = 0;
            }
            bytes += content.len();
            with.push(Bundle { digest, content });
        }
        let changes_wire = changes.iter().map(change).collect();
        let request = ApplyDesiredRequest { owner: OWNER.to_owned(), leader_epoch, changes: changes_wire, bundles: with };
        let answer =
            self.desired.clone().apply_desired(peer::request(request, DEADLINE)).await.map_err(|status| match status.code() {
                tonic::Code::Aborted => Error::conflict("NOT_LEADER", status.message().to_owned()),
                _ => peer::failed("fleet-registry", status),
            })?;
        let results = answer.into_inner().results;
        if results.len() != changes.len() {
            return Err(Error::internal(anyhow::anyhow!("the registry answered {} changes of {}", results.len(), changes.len())));
        }
        results
            .into_iter()
            .map(|result| match result.outcome() {
                Outcome::Applied | Outcome::Repeated => Ok(Answer::Applied(result.incarnation)),
                Outcome::Stale => Ok(Answer::Stale),
                Outcome::UnknownCluster => Ok(Answer::UnknownCluster),
                Outcome::Unspecified => Err(Error::internal(anyhow::anyhow!("the registry answered without an outcome"))),
            })
            .collect()
    }

    async fn told(&self, cluster: &str) -> Result<Told> {
        let full = format!("clusters/{cluster}");
        let mut told = Told::default();
        let mut page_token = String::new();
        loop {
            let request = ListDesiredRequest { owner: OWNER.to_owned(), page_size: 1_000, page_token };
            let answer = self.desired.clone().list_desired(peer::request(request, DEADLINE)).await;
            let answer = answer.map_err(|status| peer::failed("fleet-registry", status))?.into_inner();
            for item in answer.items.into_iter().filter(|listed| listed.cluster == full).filter_map(|listed| listed.item) {
                let generation = item.generation.as_ref().map_or(0, |generation| generation.n.cast_signed());
                if item.tombstone {
                    told.removed.insert(item.name, generation);
                    continue;
                }
                let known = Item {
                    bundle_digest: item.bundle_digest,
                    traceparent: item.traceparent,
                    run: item.run.map(|run| (run.run, run.movable)),
                    after: item.after,
                };
                told.items.insert(item.name, (generation, known));
            }
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                told.generation = answer.generations.get(&full).copied().unwrap_or(0).cast_signed();
                return Ok(told);
            }
        }
    }
}

impl RegistryClient {
    async fn send_bundles(&self, bundles: Vec<Bundle>) -> Result<()> {
        let request = peer::request(PutBundlesRequest { bundles }, DEADLINE);
        self.desired.clone().put_bundles(request).await.map_err(|status| peer::failed("fleet-registry", status))?;
        Ok(())
    }
}

fn change(pending: &Pending) -> ClusterChange {
    let Pending { cluster, base_generation, generation, content_digest, upserts, deletes } = pending;
    ClusterChange {
        cluster: format!("clusters/{cluster}"),
        base_generation: base_generation.cast_unsigned(),
        generation: generation.cast_unsigned(),
        content_digest: content_digest.clone(),
        upserts: upserts.iter().map(|(name, item)| desired_item(name, item)).collect(),
        deletes: deletes.clone(),
        full: false,
    }
}

fn desired_item(name: &str, item: &Item) -> DesiredItem {
    let Item { bundle_digest, traceparent, run, after } = item;
    DesiredItem {
        owner: OWNER.to_owned(),
        name: name.to_owned(),
        generation: None,
        bundle_digest: bundle_digest.clone(),
        tombstone: false,
        // A run's object that somebody deletes is not made again under the same epoch: it is started anew, as another.
        self_heal: run.is_none(),
        prune: true,
        traceparent: traceparent.clone(),
        run: run.as_ref().map(|(run, movable)| RunOptions { run: run.clone(), movable: *movable }),
        policy: None,
        after: after.clone(),
        allow_empty: true,
    }
}

fn id<'a>(name: &'a str, collection: &str) -> &'a str {
    name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}

/// A cluster as scheduling needs it, and when its session lease runs out.
#[must_use]
pub fn facts(cluster: Cluster) -> (ClusterFacts, Option<Timestamp>) {
    let standing = match (cluster.state(), cluster.schedulability()) {
        (cluster::State::Live, cluster::Schedulability::Cordoned) => Standing::Cordoned,
        (cluster::State::Live, cluster::Schedulability::Draining) => Standing::Draining,
        (cluster::State::Live, cluster::Schedulability::Open | cluster::Schedulability::Unspecified) => Standing::Live,
        (cluster::State::Suspect, _) => Standing::Suspect,
        (cluster::State::Lost, _) => Standing::Lost,
        (cluster::State::Joining, _) => Standing::Joining,
        // What runs there goes on until it has left.
        (cluster::State::Leaving, _) => Standing::Cordoned,
        (cluster::State::Unspecified | cluster::State::NotEnrolled | cluster::State::Left, _) => Standing::Absent,
    };
    let lease = cluster.lease_expire_time.as_ref().and_then(time::from_proto);
    let groups = cluster.preflight.into_iter().flat_map(|preflight| preflight.api_groups);
    let apis = groups.flat_map(|group| {
        group
            .versions
            .into_iter()
            .map(move |version| if group.name.is_empty() { version } else { format!("{}/{version}", group.name) })
    });
    let facts = ClusterFacts {
        name: id(&cluster.name, "clusters").to_owned(),
        labels: cluster.labels.into_iter().collect(),
        region: cluster.region,
        takes_jobs: cluster.takes_jobs,
        standing,
        fleets: cluster.fleets.iter().map(|fleet| id(fleet, "fleets").to_owned()).collect(),
        apis: apis.collect::<BTreeSet<String>>(),
        nodes: cluster.inventory.into_iter().flat_map(|inventory| inventory.nodes).map(node).collect(),
        prices: cluster
            .prices
            .into_iter()
            .map(|price| {
                let FlavorPrice { flavor, micros_per_gpu_hour, currency, watts, grams_per_kwh } = price;
                (flavor, Price { micros_per_gpu_hour, currency, watts, grams_per_kwh })
            })
            .collect(),
        egress: cluster
            .egress
            .into_iter()
            .map(|price| {
                let wire::EgressPrice { from, micros_per_gib, currency } = price;
                (from, EgressPrice { micros_per_gib, currency })
            })
            .collect(),
    };
    (facts, lease)
}

fn quantities(amounts: BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
    // An amount that is no quantity is not known: it counts as nothing, so that nothing is placed by it.
    amounts.into_iter().filter_map(|(name, text)| Some((name, text.parse().ok()?))).collect()
}

fn node(node: Node) -> NodeFacts {
    let labelled_by_model = !node.flavor.is_empty() && node.labels.get(labels::GPU_PRODUCT) == Some(&node.flavor);
    let says_where =
        |(key, value): &(&String, &String)| labels::says_where(key) || (*key == labels::HOSTNAME && **value != node.name);
    let domains = node.labels.iter().filter(says_where).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut used_by_run: BTreeMap<String, BTreeMap<String, Quantity>> = BTreeMap::new();
    for usage in node.used_by_run {
        used_by_run.insert(usage.run, quantities(usage.requests));
    }
    NodeFacts {
        name: node.name,
        flavor: node.flavor,
        allocatable: quantities(node.allocatable),
        used_by_others: quantities(node.used_by_others),
        used_by_run,
        schedulable: node.schedulable,
        labelled_by_model,
        domains,
    }
}

/// An observation of one of our items; `None` where it says nothing that can be used.
#[must_use]
pub fn observed(cluster: &str, observation: Observation) -> Option<Observed> {
    let phase = match observation.phase() {
        observation::Phase::Unspecified => return None,
        observation::Phase::Pending | observation::Phase::Applying => ItemPhase::Pending,
        observation::Phase::Applied
        | observation::Phase::Healthy
        | observation::Phase::Degraded
        | observation::Phase::Drifted => ItemPhase::There,
        observation::Phase::Failed => ItemPhase::Refused,
        observation::Phase::Deleted => ItemPhase::Gone,
    };
    let generation = observation.generation.as_ref()?;
    let status = observation.run.as_ref();
    let run_phase = status.and_then(|status| match status.phase() {
        run_status::Phase::Unspecified => None,
        run_status::Phase::Pending => Some(RunPhase::Pending),
        run_status::Phase::Running => Some(RunPhase::Running),
        run_status::Phase::Succeeded => Some(RunPhase::Succeeded),
        run_status::Phase::Failed => Some(RunPhase::Failed),
        run_status::Phase::Stopped => Some(RunPhase::Stopped),
    });
    let words = [observation.reason.as_str(), observation.message.as_str()];
    Some(Observed {
        cluster: id(cluster, "clusters").to_owned(),
        item: observation.name.clone(),
        generation: (generation.incarnation, generation.n.cast_signed()),
        phase,
        run_phase,
        reason: words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": "),
        start: status.and_then(|status| status.start_time.as_ref()).and_then(time::from_proto),
        finish: status.and_then(|status| status.finish_time.as_ref()).and_then(time::from_proto),
        at: observation.observe_time.as_ref().and_then(time::from_proto),
        pods: status.map(|status| status.pods.clone().into_iter().collect()).unwrap_or_default(),
        exit_code: status.and_then(|status| status.exit_code),
        traceparent: observation.traceparent,
    })
}
