//! A service in the test's own process: its database, its handlers behind a given caller, and stand-ins for its peers.

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use muster_core::{
    bundle::{self, Digest},
    version::Version,
};
use muster_kit::{Caller, Result, Role, health::Health, incarnation, reconcile::Reconciler};
use muster_policy::{
    MIGRATIONS,
    app::App,
    domain::{ReportChange, ReportRow},
    grpc,
    peers::{Applied, ClusterEvent, File, ObservedEvent, Outcome, Registry, Repositories, ToApply, Verdicts},
    reconcile::{Clusters, Compliance, Distribute, Fleets, Leader, Sources, Verify},
    store::{projection::Member, report::Observed},
};
use muster_proto::policy::v1::{
    fleet_policy_service_client::FleetPolicyServiceClient, policy_service_client::PolicyServiceClient,
    verdict_service_client::VerdictServiceClient,
};
use muster_testkit::TestDb;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};
use tower::util::{BoxCloneSyncService, ServiceExt};

pub type Handlers = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, std::convert::Infallible>;

pub struct Service {
    pub app: App,
    pub leader: Arc<Leader>,
    pub registry: Arc<FakeRegistry>,
    pub repositories: Arc<FakeRepositories>,
    pub db: TestDb,
}

impl Service {
    pub async fn start() -> Self {
        let db = TestDb::new(&[&muster_kit::db::MIGRATIONS, &MIGRATIONS]).await;
        incarnation::establish(db.pool()).await.expect("the database has an incarnation");
        let app = App::new(db.pool().clone(), CancellationToken::new());
        let leader = Arc::new(Leader::new(db.pool().clone(), Duration::from_secs(60)));
        leader.tick().await.expect("the first candidate leads");
        Self { app, leader, registry: Arc::default(), repositories: Arc::default(), db }
    }

    pub fn epoch(&self) -> u64 {
        self.leader.epoch().expect("we lead")
    }

    fn handlers(&self, caller: Caller) -> Handlers {
        let routes: Routes = grpc::routes(&self.app);
        let with_caller = routes.map_request(move |mut request: http::Request<Body>| {
            request.extensions_mut().insert(caller.clone());
            request
        });
        BoxCloneSyncService::new(with_caller)
    }

    pub fn policies(&self) -> PolicyServiceClient<Handlers> {
        PolicyServiceClient::new(self.handlers(person(Role::Operator)))
    }

    pub fn policies_as(&self, caller: Caller) -> PolicyServiceClient<Handlers> {
        PolicyServiceClient::new(self.handlers(caller))
    }

    pub fn bindings(&self) -> FleetPolicyServiceClient<Handlers> {
        FleetPolicyServiceClient::new(self.handlers(person(Role::Operator)))
    }

    pub fn bindings_as(&self, caller: Caller) -> FleetPolicyServiceClient<Handlers> {
        FleetPolicyServiceClient::new(self.handlers(caller))
    }

    pub fn verdicts(&self) -> VerdictServiceClient<Handlers> {
        VerdictServiceClient::new(self.handlers(person(Role::Viewer)))
    }

    /// The registry's clusters and fleets, as the service's loops take them over.
    pub async fn project(&self, clusters: &[(&str, bool)], fleets: &[(&str, &[&str])]) {
        let kinds = |kyverno| if kyverno { KYVERNO } else { &[] };
        let clusters: Vec<_> = clusters.iter().map(|(cluster, kyverno)| (*cluster, kinds(*kyverno))).collect();
        self.project_served(&clusters, fleets).await;
    }

    /// As `project`, with the kinds that the clusters serve.
    pub async fn project_served(&self, clusters: &[(&str, &[&str])], fleets: &[(&str, &[&str])]) {
        let served = |kinds: &[&str]| kinds.iter().map(|kind| ((*kind).to_owned(), vec!["v1".to_owned()])).collect();
        let member = |cluster: &str, kinds| Member {
            cluster: cluster.to_owned(),
            is_enrolled: true,
            labels: BTreeMap::from([("site".to_owned(), cluster.to_owned())]),
            served: Some(served(kinds)),
        };
        let events = clusters.iter().map(|(cluster, kinds)| ClusterEvent::Known(member(cluster, kinds)));
        *self.registry.clusters.lock().expect("unpoisoned") = events.chain([ClusterEvent::Synced]).collect();
        let pairs =
            fleets.iter().flat_map(|(fleet, members)| members.iter().map(|cluster| ((*fleet).to_owned(), (*cluster).to_owned())));
        *self.registry.members.lock().expect("unpoisoned") = pairs.collect();
        let watch = Clusters { app: self.app.clone(), leader: Arc::clone(&self.leader), registry: self.registry.clone() };
        watch.follow(self.epoch()).await.expect_err("the stand-in's watch ends");
        self.tick_fleets().await.expect("the fleets are listed");
    }

    pub async fn tick_fleets(&self) -> Result<()> {
        let (app, leader) = (self.app.clone(), Arc::clone(&self.leader));
        Fleets { app, leader, registry: self.registry.clone(), health: Health::default() }.tick().await
    }

    pub async fn tick_sources(&self) {
        let (app, leader) = (self.app.clone(), Arc::clone(&self.leader));
        let sources = Sources { app, leader, repositories: self.repositories.clone() };
        sources.tick().await.expect("sources are read");
    }

    pub async fn tick_distribute(&self) -> Result<()> {
        let (app, leader) = (self.app.clone(), Arc::clone(&self.leader));
        Distribute { app, leader, registry: self.registry.clone() }.tick().await
    }

    pub async fn tick_verify(&self) {
        let (app, leader) = (self.app.clone(), Arc::clone(&self.leader));
        Verify { app, leader, registry: self.registry.clone() }.tick().await.expect("compared");
    }

    pub async fn tick_compliance(&self) {
        Compliance::new(self.app.clone(), Arc::clone(&self.leader)).tick().await.expect("counted");
    }

    /// Kinds of events in the log, in order.
    pub async fn events(&self) -> Vec<String> {
        sqlx::query_scalar("select type from event order by event_id").fetch_all(self.db.pool()).await.expect("the log is read")
    }
}

/// What a cluster with Kyverno serves.
pub const KYVERNO: &[&str] = &["clusterpolicies.kyverno.io", "policyexceptions.kyverno.io"];
/// What a cluster serves whose API server has admission policies of its own.
pub const ADMISSION: &[&str] = &[
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
];

pub fn person(role: Role) -> Caller {
    Caller::Person { subject: "ada".to_owned(), role }
}

/// What a cluster was told, as the registry keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub generation: u64,
    pub digest: String,
    pub manifests: Vec<Value>,
    pub install: bool,
    pub only_evaluated: usize,
}

/// Of one cluster at one time.
type Said = (Observed, Version, Rows);

#[derive(Default)]
pub struct FakeRegistry {
    pub clusters: Mutex<Vec<ClusterEvent>>,
    pub members: Mutex<BTreeSet<(String, String)>>,
    pub bundles: Mutex<BTreeMap<Digest, Vec<u8>>>,
    pub kept: Mutex<BTreeMap<String, Kept>>,
    pub calls: Mutex<usize>,
    pub unknown: Mutex<BTreeSet<String>>,
    /// Verdicts by cluster, version after version.
    pub said: Mutex<BTreeMap<String, Vec<Said>>>,
    /// Rows that were read of them.
    pub rows_read: Mutex<usize>,
}

/// What a cluster's agent says, by policy.
pub type Rows = Vec<(String, ReportRow)>;

impl FakeRegistry {
    pub fn kept(&self, cluster: &str) -> Option<Kept> {
        self.kept.lock().expect("unpoisoned").get(cluster).cloned()
    }

    pub fn calls(&self) -> usize {
        *self.calls.lock().expect("unpoisoned")
    }

    fn apply_one(&self, change: ToApply) -> Applied {
        let mut kept = self.kept.lock().expect("unpoisoned");
        let current = kept.get(&change.cluster).cloned();
        let generation = current.as_ref().map_or(0, |kept| kept.generation);
        let digest = change.content.digest.clone();
        let applied = |outcome, current_generation| Applied {
            cluster: change.cluster.clone(),
            outcome,
            current_generation,
            incarnation: 1,
        };
        if self.unknown.lock().expect("unpoisoned").contains(&change.cluster) {
            return applied(Outcome::Unknown, 0);
        }
        if change.generation == generation && current.is_some_and(|kept| kept.digest == digest) {
            return applied(Outcome::Written, generation);
        }
        if change.base_generation != generation {
            return applied(Outcome::Stale, generation);
        }
        let manifests = change.bundle.as_ref().map_or_else(Vec::new, |name| {
            let bundles = self.bundles.lock().expect("unpoisoned");
            bundle::decode(name, bundles.get(name).expect("a bundle is kept before it is named")).expect("a bundle")
        });
        let (install, only_evaluated) = (change.content.content.installs(), change.content.content.only_evaluated);
        let now = Kept { generation: change.generation, digest, manifests, install, only_evaluated };
        kept.insert(change.cluster.clone(), now);
        applied(Outcome::Written, change.generation)
    }
}

#[async_trait]
impl Registry for FakeRegistry {
    async fn members(&self) -> Result<BTreeSet<(String, String)>> {
        Ok(self.members.lock().expect("unpoisoned").clone())
    }

    async fn watch_clusters(&self) -> Result<BoxStream<'static, Result<ClusterEvent>>> {
        let events: Vec<_> = self.clusters.lock().expect("unpoisoned").iter().cloned().map(Ok).collect();
        Ok(stream::iter(events).boxed())
    }

    async fn put_bundle(&self, digest: &Digest, content: Vec<u8>) -> Result<()> {
        self.bundles.lock().expect("unpoisoned").insert(digest.clone(), content);
        Ok(())
    }

    async fn apply(&self, _leader_epoch: u64, changes: Vec<ToApply>) -> Result<Vec<Applied>> {
        *self.calls.lock().expect("unpoisoned") += 1;
        Ok(changes.into_iter().map(|change| self.apply_one(change)).collect())
    }

    async fn generations(&self) -> Result<BTreeMap<String, u64>> {
        let kept = self.kept.lock().expect("unpoisoned");
        Ok(kept.iter().map(|(cluster, kept)| (cluster.clone(), kept.generation)).collect())
    }

    async fn verdicts(&self, cluster: &str, after: Option<Version>) -> Result<Verdicts> {
        let said = self.said.lock().expect("unpoisoned");
        let (observed, version, rows) = said[cluster].last().expect("something is said");
        let held =
            after.and_then(|after| said[cluster].iter().find(|(_, version, _)| *version == after)).map(|(_, _, rows)| rows);
        let (whole, held) = (held.is_none(), held.cloned().unwrap_or_default());
        let mut changes: BTreeMap<String, ReportChange> = BTreeMap::new();
        for (policy, row) in rows.iter().filter(|row| !held.contains(row)) {
            changes.entry(policy.clone()).or_default().added.push(row.clone());
        }
        for (policy, row) in held.iter().filter(|row| !rows.contains(row)) {
            changes.entry(policy.clone()).or_default().removed.push(row.clone());
        }
        let read: usize = changes.values().map(|change| change.added.len() + change.removed.len()).sum();
        *self.rows_read.lock().expect("unpoisoned") += read;
        Ok(Verdicts { observed: *observed, version: *version, whole, changes })
    }

    async fn watch_reports(&self) -> Result<BoxStream<'static, Result<ObservedEvent>>> {
        Ok(stream::pending().boxed())
    }
}

#[derive(Default)]
pub struct FakeRepositories(Mutex<BTreeMap<(String, String), Result<File, String>>>);

impl FakeRepositories {
    pub fn put(&self, repository: &str, path: &str, file: Result<(&str, &str), &str>) {
        let file = file.map(|(commit, content)| File { commit: commit.to_owned(), content: content.to_owned() });
        let key = (repository.to_owned(), path.to_owned());
        self.0.lock().expect("unpoisoned").insert(key, file.map_err(str::to_owned));
    }
}

#[async_trait]
impl Repositories for FakeRepositories {
    async fn read_file(&self, repository: &str, path: &str) -> Result<File, String> {
        let files = self.0.lock().expect("unpoisoned");
        files.get(&(repository.to_owned(), path.to_owned())).cloned().unwrap_or_else(|| Err("no such repository".to_owned()))
    }
}

/// A policy about Services: they need the label named.
pub fn policy(name: &str, label: &str) -> String {
    format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: {name}}}\nspec:\n  validationFailureAction: enforce\n  \
         rules:\n  - name: has-{label}\n    match: {{any: [{{resources: {{kinds: [Service]}}}}]}}\n    \
         validate: {{message: \"needs {label}\", pattern: {{metadata: {{labels: {{{label}: \"?*\"}}}}}}}}\n"
    )
}

/// A binding of some entries, as written under `spec.policies`.
pub fn binding(name: &str, fleet: &str, entries: &[&str]) -> String {
    let entries: String = entries.iter().map(|entry| format!("  - {entry}\n")).collect();
    format!(
        "apiVersion: policy.kurator.dev/v1alpha1\nkind: FleetPolicy\nmetadata: {{name: {name}, namespace: ops}}\nspec:\n  \
         fleetRef: {{name: {fleet}}}\n  policies:\n{entries}"
    )
}

pub const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {}\n";
