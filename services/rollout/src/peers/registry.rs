//! The fleet registry: desired state in, observations and clusters out, and questions to a cluster.

use super::{Applied, ClusterWish, Held, Registry};
use crate::domain::{cluster::Cluster, release::Reading};
use crate::store::{cluster as clusters, desired};
use async_trait::async_trait;
use muster_core::Digest;
use muster_kit::{
    Error, Result, db,
    health::Health,
    peer::{self, PeerChannel},
    reconcile::{Wake, backoff},
};
use muster_proto::agent::v1::{Bundle, DesiredItem, observation::Phase};
use muster_proto::registry::v1::{
    self as wire, ApplyDesiredRequest, ClusterChange, DryRunRequest, ListDesiredRequest, ListFleetsRequest, PutBundlesRequest,
    QueryMetricsRequest, WatchClustersRequest, WatchObservedRequest, cluster::Schedulability, cluster::State,
    cluster_access_service_client::ClusterAccessServiceClient, cluster_change_result::Outcome,
    cluster_service_client::ClusterServiceClient, desired_service_client::DesiredServiceClient,
    fleet_service_client::FleetServiceClient, watch_clusters_response::Type,
};
use serde_json::Value;
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// Bytes of bundles in one call; the registry takes 16 MiB.
const MAX_PUT: usize = 12 * 1024 * 1024;
/// The deadline of a call that changes something.
const DEADLINE: Duration = Duration::from_secs(10);

/// The registry over the wire.
#[derive(Clone)]
pub struct RemoteRegistry {
    desired: DesiredServiceClient<PeerChannel>,
    access: ClusterAccessServiceClient<PeerChannel>,
    fleets: FleetServiceClient<PeerChannel>,
    clusters: ClusterServiceClient<PeerChannel>,
}

impl RemoteRegistry {
    /// Clients over one channel.
    pub fn new(channel: PeerChannel) -> Self {
        let limit = peer::MAX_MESSAGE_BYTES;
        Self {
            desired: DesiredServiceClient::new(channel.clone()).max_decoding_message_size(limit),
            access: ClusterAccessServiceClient::new(channel.clone()).max_decoding_message_size(limit),
            fleets: FleetServiceClient::new(channel.clone()).max_decoding_message_size(limit),
            clusters: ClusterServiceClient::new(channel).max_decoding_message_size(limit),
        }
    }
}

/// The identifier in `clusters/{cluster}`.
fn id(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

#[async_trait]
impl Registry for RemoteRegistry {
    async fn put_bundles(&self, bundles: Vec<(String, Vec<u8>)>) -> Result<()> {
        let mut batch: Vec<Bundle> = Vec::new();
        let mut size = 0;
        for (digest, content) in bundles {
            if size + content.len() > MAX_PUT && !batch.is_empty() {
                self.put(std::mem::take(&mut batch)).await?;
                size = 0;
            }
            size += content.len();
            batch.push(Bundle { digest, content });
        }
        if batch.is_empty() { Ok(()) } else { self.put(batch).await }
    }

    async fn apply_desired(&self, leader_epoch: u64, changes: &[ClusterWish]) -> Result<Vec<Applied>> {
        let request = ApplyDesiredRequest {
            owner: "rollout".to_owned(),
            leader_epoch,
            changes: changes.iter().map(change).collect(),
            bundles: Vec::new(),
        };
        let answer = self.desired.clone().apply_desired(peer::request(request, DEADLINE)).await;
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::Aborted => {
                return Err(Error::conflict("NOT_LEADER", status.message().to_owned()));
            }
            // A restored registry may have lost bundles that it had.
            Err(status) if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound) => {
                return Err(Error::precondition("BUNDLE_MISSING", status.message().to_owned()));
            }
            Err(status) => return Err(peer::failed("fleet-registry", status)),
        };
        if answer.results.len() != changes.len() {
            return Err(Error::internal(anyhow::anyhow!(
                "fleet-registry answered {} of {} changes",
                answer.results.len(),
                changes.len()
            )));
        }
        answer
            .results
            .iter()
            .map(|result| match result.outcome() {
                Outcome::Applied | Outcome::Repeated => Ok(Applied::Taken { incarnation: result.incarnation }),
                Outcome::Stale => Ok(Applied::Stale { current: result.current_generation }),
                Outcome::UnknownCluster => Ok(Applied::UnknownCluster),
                Outcome::Unspecified => Err(Error::internal(anyhow::anyhow!("fleet-registry answered without an outcome"))),
            })
            .collect()
    }

    async fn list_desired(&self) -> Result<Held> {
        let mut held = Held::default();
        let mut page_token = String::new();
        loop {
            let request = ListDesiredRequest { owner: "rollout".to_owned(), page_size: 1_000, page_token };
            let page = self
                .desired
                .clone()
                .list_desired(peer::request(request, DEADLINE))
                .await
                .map_err(|status| peer::failed("fleet-registry", status))?
                .into_inner();
            for row in page.items {
                let Some(item) = row.item.filter(|item| !item.tombstone) else { continue };
                let generation = item.generation.unwrap_or_default();
                held.items.insert((id(&row.cluster), item.name), (item.bundle_digest, (generation.incarnation, generation.n)));
            }
            held.generations.extend(page.generations.iter().map(|(cluster, generation)| (id(cluster), *generation)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(held);
            }
        }
    }

    async fn query_metrics(&self, cluster: &str, query: &str) -> Reading {
        let request = QueryMetricsRequest { cluster: format!("clusters/{cluster}"), query: query.to_owned(), time: None };
        match self.access.clone().query_metrics(peer::request(request, Duration::from_secs(10))).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                if answer.error.is_empty() {
                    Reading::Values(answer.samples.iter().map(|sample| sample.value).collect())
                } else {
                    Reading::Unreachable(answer.error)
                }
            }
            Err(status) => Reading::Unreachable(format!("{:?}: {}", status.code(), status.message())),
        }
    }

    async fn dry_run(&self, cluster: &str, manifests: &[Value]) -> Result<Vec<String>> {
        let request =
            DryRunRequest { cluster: format!("clusters/{cluster}"), manifests: manifests.iter().map(Value::to_string).collect() };
        let answer = self.access.clone().dry_run(peer::request(request, DEADLINE)).await;
        Ok(answer.map_err(|status| peer::failed("fleet-registry", status))?.into_inner().refusals)
    }

    async fn list_fleets(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut found = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let request = ListFleetsRequest { page_size: 1_000, page_token };
            let page = self
                .fleets
                .clone()
                .list_fleets(peer::request(request, DEADLINE))
                .await
                .map_err(|status| peer::failed("fleet-registry", status))?
                .into_inner();
            for fleet in page.fleets {
                found.insert(id(&fleet.name), fleet.members.iter().map(|member| id(&member.cluster)).collect());
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }
}

impl RemoteRegistry {
    async fn put(&self, bundles: Vec<Bundle>) -> Result<()> {
        let request = peer::request(PutBundlesRequest { bundles }, DEADLINE);
        self.desired.clone().put_bundles(request).await.map_err(|status| peer::failed("fleet-registry", status))?;
        Ok(())
    }

    /// Keeps the projection of clusters, until `shutdown`.
    pub async fn follow_clusters(self, pool: PgPool, wake: Vec<Wake>, health: Health, shutdown: CancellationToken) {
        let mut token = String::new();
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.watch_clusters(&pool, &wake, &mut token, &health) => outcome,
            };
            if let Err(error) = outcome {
                failures = if token.is_empty() { failures + 1 } else { 1 };
                health.report("registry-clusters", Some(error.to_string()));
            }
            pause(failures, &shutdown).await;
        }
    }

    async fn watch_clusters(&self, pool: &PgPool, wake: &[Wake], token: &mut String, health: &Health) -> Result<()> {
        let request = tonic::Request::new(WatchClustersRequest { resume_token: token.clone() });
        let opened = self.clusters.clone().watch_clusters(request).await;
        let mut stream = restart(opened, token)?.into_inner();
        let mut listed: Option<Vec<(String, Cluster, i64)>> = token.is_empty().then(Vec::new);
        loop {
            let Some(message) = restart(stream.message().await, token)? else { return Ok(()) };
            match (message.r#type(), message.cluster) {
                (Type::Existing | Type::Changed, Some(cluster)) => {
                    let (name, version) = (id(&cluster.name), version(&cluster.etag));
                    let cluster = project(cluster);
                    match &mut listed {
                        Some(list) => list.push((name, cluster, version)),
                        None => clusters::save(pool, &name, &cluster, version).await?,
                    }
                }
                (Type::Deleted, Some(cluster)) => clusters::delete(pool, &id(&cluster.name)).await?,
                (Type::Synced, _) => {
                    if let Some(list) = listed.take() {
                        let mut tx = db::begin(pool).await?;
                        clusters::replace(&mut tx, &list).await?;
                        tx.commit().await?;
                    }
                    health.report("registry-clusters", None);
                }
                (Type::Unspecified, _) | (Type::Existing | Type::Changed | Type::Deleted, None) => {}
            }
            if listed.is_none() {
                *token = message.resume_token;
                wake.iter().for_each(Wake::now);
            }
        }
    }

    /// Keeps the latest observation of every item of ours, until `shutdown`.
    pub async fn follow_observations(self, pool: PgPool, wake: Wake, health: Health, shutdown: CancellationToken) {
        let mut token = String::new();
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.watch_observed(&pool, &wake, &mut token, &health) => outcome,
            };
            if let Err(error) = outcome {
                failures = if token.is_empty() { failures + 1 } else { 1 };
                health.report("registry-observations", Some(error.to_string()));
            }
            pause(failures, &shutdown).await;
        }
    }

    async fn watch_observed(&self, pool: &PgPool, wake: &Wake, token: &mut String, health: &Health) -> Result<()> {
        let request = WatchObservedRequest { owner: "rollout".to_owned(), resume_token: token.clone() };
        let opened = self.desired.clone().watch_observed(tonic::Request::new(request)).await;
        let mut stream = restart(opened, token)?.into_inner();
        loop {
            let Some(message) = restart(stream.message().await, token)? else { return Ok(()) };
            if message.synced {
                health.report("registry-observations", None);
            }
            if let Some(observation) = message.observation {
                let generation = observation.generation.unwrap_or_default();
                let observed = desired::ObservationRow {
                    generation: (generation.incarnation, generation.n),
                    phase: phase(observation.phase()).to_owned(),
                    reason: observation.reason,
                    message: observation.message,
                };
                desired::observe(pool, &id(&message.cluster), &observation.name, &observed).await?;
                wake.now();
            }
            *token = message.resume_token;
        }
    }
}

/// A stream's failure; a token that is too old begins the next watch anew.
fn restart<T>(outcome: std::result::Result<T, tonic::Status>, token: &mut String) -> Result<T> {
    outcome.map_err(|status| {
        if matches!(status.code(), Code::OutOfRange | Code::InvalidArgument) {
            token.clear();
        }
        Error::unavailable("PEER_AWAY", format!("fleet-registry: {:?}: {}", status.code(), status.message()))
    })
}

async fn pause(failures: u32, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(backoff(failures).min(Duration::from_secs(5))) => {}
    }
}

/// The number in an etag, `v7`; 0 where there is none.
fn version(etag: &str) -> i64 {
    etag.trim_start_matches('v').parse().unwrap_or(0)
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Unspecified => "unspecified",
        Phase::Pending => "pending",
        Phase::Applying => "applying",
        Phase::Applied => "applied",
        Phase::Healthy => "healthy",
        Phase::Degraded => "degraded",
        Phase::Drifted => "drifted",
        Phase::Failed => "failed",
        Phase::Deleted => "deleted",
    }
}

/// What a release needs to know of a cluster.
fn project(cluster: wire::Cluster) -> Cluster {
    let away = match (cluster.state(), cluster.schedulability()) {
        (State::Live, Schedulability::Cordoned) => Some("cordoned"),
        (State::Live, Schedulability::Draining) => Some("draining"),
        (State::Live, Schedulability::Open | Schedulability::Unspecified) => None,
        (State::NotEnrolled | State::Unspecified, _) => Some("not enrolled"),
        (State::Joining, _) => Some("joining"),
        (State::Suspect | State::Lost, _) => Some("offline"),
        (State::Leaving | State::Left, _) => Some("leaving"),
    };
    let groups = cluster.preflight.iter().flat_map(|preflight| &preflight.api_groups).map(|group| group.name.clone());
    let free_gpus = cluster.inventory.as_ref().map(|inventory| {
        let amount = |map: &BTreeMap<String, String>| {
            map.get(muster_core::labels::GPU_RESOURCE).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0)
        };
        let free = |node: &muster_proto::agent::v1::Node| {
            let runs: i64 = node.used_by_run.iter().map(|run| amount(&run.requests)).sum();
            (amount(&node.allocatable) - amount(&node.used_by_others) - runs).max(0)
        };
        inventory.nodes.iter().filter(|node| node.schedulable).map(free).sum()
    });
    Cluster { away: away.map(str::to_owned), groups: groups.collect(), free_gpus, labels: cluster.labels.into_iter().collect() }
}

fn change(wish: &ClusterWish) -> ClusterChange {
    let mut upserts = Vec::new();
    let mut deletes = Vec::new();
    for item in &wish.items {
        if item.wish.tombstone {
            deletes.push(item.item.clone());
            continue;
        }
        upserts.push(DesiredItem {
            owner: "rollout".to_owned(),
            name: item.item.clone(),
            generation: None,
            bundle_digest: item.wish.bundle_digest.clone(),
            tombstone: false,
            self_heal: item.wish.self_heal,
            prune: item.wish.prune,
            traceparent: item.wish.traceparent.clone(),
            run: None,
            policy: None,
            after: Vec::new(),
            allow_empty: false,
        });
    }
    let content: Vec<String> =
        wish.items.iter().map(|item| format!("{}\0{}\0{:?}", item.item, item.revision, item.wish)).collect();
    ClusterChange {
        cluster: format!("clusters/{}", wish.cluster),
        base_generation: wish.base,
        generation: wish.generation,
        content_digest: Digest::of(content.join("\n").as_bytes()).as_str().to_owned(),
        upserts,
        deletes,
        full: false,
    }
}
