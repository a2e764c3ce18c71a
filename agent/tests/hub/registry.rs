//! The registry's use cases and its side of the link behind a TLS server of their own, on a fresh Postgres database.

use jiff::Timestamp;
use muster_core::bundle;
use muster_fleet_registry::{
    MIGRATIONS,
    app::{self, App, access_token::Verifier},
    config::Settings,
    link::{
        Sessions, beats,
        send::Sender,
        session::{Hub, Outgoing},
    },
    pki::{self, Authority},
};
use muster_kit::{
    Caller, Role, SystemClock,
    config::ServerConfig,
    health::Health,
    incarnation,
    reconcile::{self, Wake},
    server,
    watch::Tail,
};
use muster_proto::{
    agent::v1::{
        self as wire, DesiredItem, Observation, PolicyBinding, PolicyOptions,
        agent_link_service_server::{AgentLinkService, AgentLinkServiceServer},
        enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
        verdict_row::Row,
    },
    registry::v1::{self as api, cluster_change_result::Outcome},
};
use muster_testkit::{TestDb, eventually, free_port};
use prost::Message as _;
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

/// What stays while replicas of the registry come and go.
pub struct Registry {
    pub app: App,
    pub database: TestDb,
    pki: tempfile::TempDir,
    address: SocketAddr,
    replica: Option<(CancellationToken, Vec<JoinHandle<()>>)>,
    fetched: Arc<AtomicU64>,
}

/// The registry's own gRPC adaptors are private to it; these do the same.
#[derive(Clone)]
struct Link(Hub, Arc<AtomicU64>);

#[tonic::async_trait]
impl AgentLinkService for Link {
    type ConnectStream = Outgoing;

    async fn connect(&self, request: Request<Streaming<wire::AgentMessage>>) -> Result<Response<Outgoing>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.0.connect(&caller, request.into_inner()).await?))
    }

    async fn fetch_bundle(&self, request: Request<wire::FetchBundleRequest>) -> Result<Response<wire::Bundle>, Status> {
        let caller = Caller::of(&request);
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(app::desired::fetch_bundle(&self.0.app, &caller, request.into_inner().digest).await?))
    }
}

#[tonic::async_trait]
impl EnrolmentService for Link {
    async fn enrol(&self, request: Request<wire::EnrolRequest>) -> Result<Response<wire::EnrolResponse>, Status> {
        Ok(Response::new(app::enrolment::enrol(&self.0.app, request.into_inner()).await?))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::RenewResponse>, Status> {
        Ok(Response::new(app::enrolment::renew(&self.0.app, request.into_inner()).await?))
    }
}

impl Registry {
    pub async fn start() -> Self {
        let database = TestDb::new(&[&muster_kit::db::MIGRATIONS, &MIGRATIONS]).await;
        let incarnation = incarnation::establish(database.pool()).await.expect("an incarnation");
        let pki = tempfile::tempdir().expect("a folder");
        pki::bootstrap(pki.path()).expect("an authority");
        pki::issue_service_certificate(pki.path(), "fleet-registry", &[]).expect("a certificate");
        let (ca_certificate_file, ca_key_file) = (pki.path().join("ca.crt"), pki.path().join("ca.key"));
        let authority = Authority::load(&ca_certificate_file, &ca_key_file).expect("it loads");
        let settings = Settings {
            ca_key_file,
            ca_certificate_file,
            heartbeat_interval_ms: 200,
            suspect_after_ms: 2_000,
            lost_after_ms: 60_000,
            steady_after_ms: 500,
            lease_ms: 10_000,
            certificate_hours: 24,
            renewal_grace_hours: 24,
        };
        let (tail, _feed) = Tail::new(database.pool().clone(), CancellationToken::new());
        let app = App {
            pool: database.pool().clone(),
            clock: Arc::new(SystemClock),
            settings,
            authority: Arc::new(authority),
            tail,
            send: Wake::default(),
            incarnation: Arc::new(AtomicU64::new(incarnation)),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().expect("a free port")));
        let mut registry = Self { app, database, pki, address, replica: None, fetched: Arc::default() };
        registry.up();
        registry
    }

    /// Starts a replica on the registry's address.
    pub fn up(&mut self) {
        let stop = CancellationToken::new();
        let sessions = Sessions::default();
        let (beats, write_beats) = beats::start(self.app.clone(), stop.clone());
        let sender = Arc::new(Sender { app: self.app.clone(), sessions: sessions.clone() });
        let sending = reconcile::run(sender, Duration::from_millis(50), self.app.send.clone(), stop.clone());
        let link = Link(Hub { app: self.app.clone(), sessions, beats }, Arc::clone(&self.fetched));
        let routes = Routes::new(AgentLinkServiceServer::new(link.clone())).add_service(EnrolmentServiceServer::new(link));
        let server = ServerConfig {
            address: self.address,
            http_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificate_file: self.file("fleet-registry.crt"),
            key_file: self.file("fleet-registry.key"),
            ca_file: self.file("ca.crt"),
        };
        let verifier = Arc::new(Verifier(self.app.clone()));
        let stopped = stop.clone();
        let serving = async move {
            let services = ["muster.agent.v1.AgentLinkService", "muster.agent.v1.EnrolmentService"];
            server::serve(&server, routes, &services, verifier, Health::default(), stopped).await.expect("served");
        };
        self.replica = Some((stop, vec![tokio::spawn(write_beats), tokio::spawn(sending), tokio::spawn(serving)]));
    }

    /// Ends the replica as a crash would: its streams break.
    pub async fn down(&mut self) {
        let (stop, tasks) = self.replica.take().expect("it is up");
        stop.cancel();
        for task in tasks {
            task.abort();
            // Aborted or ended: either way it is gone, and its port is free.
            _ = task.await;
        }
    }

    /// Bundles that an agent had to ask for.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.pki.path().join(name)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.file("ca.crt")
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub async fn token_for(&self, cluster: &str) -> String {
        let enrolment_token = api::EnrolmentToken { cluster: format!("clusters/{cluster}"), ..api::EnrolmentToken::default() };
        let request = api::CreateEnrolmentTokenRequest { enrolment_token: Some(enrolment_token), ..Default::default() };
        app::enrolment_token::create(&self.app, &admin(), request).await.expect("a token").secret
    }

    pub async fn cluster(&self, name: &str) -> api::Cluster {
        let request = api::GetClusterRequest { name: format!("clusters/{name}") };
        app::cluster::get(&self.app, &admin(), request).await.expect("a cluster")
    }

    /// Desires a bundle as the rollout service does; no manifests remove the item.
    pub async fn desire(&self, cluster: &str, n: u64, manifests: &[Value]) {
        let item = DesiredItem { name: ITEM.to_owned(), self_heal: true, prune: true, ..DesiredItem::default() };
        self.desire_as("rollout", cluster, n, manifests, item).await;
    }

    /// Desires policies as the policy service does, each to be reported everywhere.
    pub async fn desire_policies(&self, cluster: &str, n: u64, policies: &[Value]) {
        let name = |policy: &Value| policy["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let bindings = policies.iter().map(|policy| PolicyBinding { policy: name(policy), ..PolicyBinding::default() });
        let options = PolicyOptions { bindings: bindings.collect(), ..PolicyOptions::default() };
        let item = DesiredItem { name: "policies".to_owned(), policy: Some(options), ..DesiredItem::default() };
        self.desire_as("policy", cluster, n, policies, item).await;
    }

    async fn desire_as(&self, owner: &str, cluster: &str, n: u64, manifests: &[Value], item: DesiredItem) {
        let caller = Caller::Service { name: owner.to_owned() };
        let (digest, content) = bundle::encode(manifests).expect("small");
        let bundles = vec![wire::Bundle { digest: digest.to_string(), content }];
        app::desired::put_bundles(&self.app, &caller, api::PutBundlesRequest { bundles }).await.expect("stored");
        let name = item.name.clone();
        let item = DesiredItem { bundle_digest: digest.to_string(), ..item };
        let change = api::ClusterChange {
            cluster: format!("clusters/{cluster}"),
            base_generation: n - 1,
            generation: n,
            content_digest: digest.to_string(),
            upserts: if manifests.is_empty() { Vec::new() } else { vec![item] },
            deletes: if manifests.is_empty() { vec![name] } else { Vec::new() },
            full: false,
        };
        let request =
            api::ApplyDesiredRequest { owner: owner.to_owned(), leader_epoch: 1, changes: vec![change], ..Default::default() };
        let results = app::desired::apply(&self.app, &caller, request).await.expect("answered").results;
        assert_eq!(results[0].outcome(), Outcome::Applied);
    }

    /// What was last observed of the item.
    pub async fn observed(&self) -> Option<Observation> {
        let body: Option<Value> = sqlx::query_scalar("select body from observation where owner = 'rollout' and name = $1")
            .bind(ITEM)
            .fetch_optional(self.database.pool())
            .await
            .expect("read");
        body.map(|body| serde_json::from_value(body).expect("an observation"))
    }

    /// The names of what breaks a policy in the cluster, as the hub holds it, in order.
    pub async fn violating(&self) -> Vec<String> {
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("select body from verdict where is_held").fetch_all(self.database.pool()).await.expect("read");
        let name = |body: Vec<u8>| match wire::VerdictRow::decode(body.as_slice()).expect("a row").row {
            Some(Row::Violation(violation)) => Some(violation.name),
            Some(Row::Count(_)) | None => None,
        };
        let mut names: Vec<String> = bodies.into_iter().filter_map(name).collect();
        names.sort();
        names
    }

    /// Waits until just these break a policy.
    pub async fn until_violating(&self, names: &[&str]) {
        eventually(&format!("{names:?} break a policy"), async || (self.violating().await == names).then_some(())).await;
    }

    /// How often the verdicts changed.
    pub async fn verdict_changes(&self) -> i64 {
        let query = sqlx::query_scalar("select count(*) from event where type = 'cluster.item.verdicts_changed'");
        query.fetch_one(self.database.pool()).await.expect("counted")
    }

    /// Waits until the item was observed in a phase at a generation.
    pub async fn until(&self, n: u64, phase: wire::observation::Phase) -> Observation {
        eventually(&format!("the item is {phase:?} at {n}"), async || {
            let seen = self.observed().await?;
            (seen.phase() == phase && seen.generation.is_some_and(|at| at.n == n)).then_some(seen)
        })
        .await
    }

    pub async fn until_live(&self, cluster: &str) -> api::Cluster {
        eventually(&format!("{cluster} is live"), async || {
            let cluster = self.cluster(cluster).await;
            (cluster.state() == api::cluster::State::Live).then_some(cluster)
        })
        .await
    }
}

/// The one item of these stories.
pub const ITEM: &str = "applications/ml/app";

pub fn admin() -> Caller {
    Caller::Person { subject: "admin".to_owned(), role: Role::Admin }
}

pub fn rollout() -> Caller {
    Caller::Service { name: "rollout".to_owned() }
}

/// Moves what an identity file says of its beginning to long ago.
pub fn aged(identity: &mut muster_agent::ledger::Identity) {
    identity.issued_at = Timestamp::UNIX_EPOCH;
}
