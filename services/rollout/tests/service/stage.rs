//! The service on a real Postgres and a real git repository, with a registry, a policy service and agents that the test
//! plays. Nothing runs by itself: the test turns the clock and the reconcilers.

use async_trait::async_trait;
use muster_core::{Digest, bundle, name::GitRepositoryName};
use muster_kit::{Caller, Clock as _, Error, FakeClock, Result, Role, health::Health, reconcile::Reconciler, watch::Tail};
use muster_proto::rollout::v1 as wire;
use muster_rollout::app::{App, Wakes, source::Sources};
use muster_rollout::domain::{cluster::Cluster, release::Reading};
use muster_rollout::git::Git;
use muster_rollout::grpc::Server;
use muster_rollout::peers::{Applied, ClusterWish, Held, Judgement, Policy, Registry, Scheduler};
use muster_rollout::reconcile::{
    decide::DecisionReconciler, dispatch::DispatchReconciler, fleets::FleetReconciler, leader::Leader,
    releases::ReleaseReconciler, sources::SourceReconciler, write::WriteReconciler,
};
use muster_rollout::render::{Kustomize, Renderer};
use muster_rollout::store::{self, cluster, desired};
use muster_testkit::TestDb;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::Request;

/// What the played registry and its agents hold and do.
#[derive(Default)]
pub struct World {
    pub bundles: BTreeMap<String, Vec<u8>>,
    pub generations: BTreeMap<String, u64>,
    /// (cluster, item) → (generation, bundle digest).
    pub held: BTreeMap<(String, String), (u64, String)>,
    /// Every bundle that a cluster was ever told, in order.
    pub told: Vec<(String, Vec<Value>)>,
    pub fleets: BTreeMap<String, Vec<String>>,
    /// Images whose pods never become ready.
    pub broken_images: BTreeSet<String>,
    /// (cluster, version) → what the metrics say; nothing is no data.
    pub metrics: BTreeMap<(String, String), f64>,
    /// Agents that do not answer.
    pub offline: BTreeSet<String>,
    pub refusals: Vec<String>,
    pub policy_away: bool,
    /// Counts the changes of policies.
    pub policy_revision: usize,
    pub judged: usize,
    pub epochs: BTreeMap<String, u64>,
    pub registry_away: bool,
}

#[derive(Clone, Default)]
pub struct Played(pub Arc<Mutex<World>>);

impl Played {
    pub fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
}

#[async_trait]
impl Registry for Played {
    async fn put_bundles(&self, bundles: Vec<(String, Vec<u8>)>) -> Result<()> {
        self.with(|world| world.bundles.extend(bundles));
        Ok(())
    }

    async fn apply_desired(&self, _leader_epoch: u64, changes: &[ClusterWish]) -> Result<Vec<Applied>> {
        if self.with(|world| world.registry_away) {
            return Err(Error::unavailable("PEER_AWAY", "the registry is away"));
        }
        Ok(changes.iter().map(|change| self.with(|world| world.apply(change))).collect())
    }

    async fn list_desired(&self) -> Result<Held> {
        Ok(self.with(|world| {
            let items = world.held.iter().map(|(key, (generation, digest))| (key.clone(), (digest.clone(), (1, *generation))));
            Held { items: items.collect(), generations: world.generations.clone() }
        }))
    }

    async fn query_metrics(&self, cluster: &str, query: &str) -> Reading {
        self.with(|world| match world.metrics.get(&(cluster.to_owned(), query.to_owned())) {
            Some(value) => Reading::Values(vec![*value]),
            None => Reading::Values(Vec::new()),
        })
    }

    async fn dry_run(&self, _cluster: &str, manifests: &[Value]) -> Result<Vec<String>> {
        Ok(vec![String::new(); manifests.len()])
    }

    async fn list_fleets(&self) -> Result<BTreeMap<String, Vec<String>>> {
        Ok(self.with(|world| world.fleets.clone()))
    }
}

impl World {
    fn apply(&mut self, change: &ClusterWish) -> Applied {
        let current = self.generations.entry(change.cluster.clone()).or_default();
        if *current != change.base {
            return Applied::Stale { current: *current };
        }
        *current = change.generation;
        for item in &change.items {
            let key = (change.cluster.clone(), item.item.clone());
            if item.wish.tombstone {
                self.held.remove(&key);
                continue;
            }
            let digest: Digest = item.wish.bundle_digest.parse().unwrap();
            let packed = self.bundles.get(digest.as_str()).expect("bundles are put before they are named");
            self.told.push((change.cluster.clone(), bundle::decode(&digest, packed).unwrap()));
            self.held.insert(key, (change.generation, digest.as_str().to_owned()));
        }
        Applied::Taken { incarnation: 1 }
    }

    /// What a cluster holds now.
    pub fn objects(&self, cluster: &str) -> Vec<Value> {
        let Some(((_, _), (_, digest))) = self.held.iter().find(|((held, _), _)| held == cluster) else { return Vec::new() };
        let digest: Digest = digest.parse().unwrap();
        bundle::decode(&digest, &self.bundles[digest.as_str()]).unwrap()
    }
}

#[async_trait]
impl Policy for Played {
    async fn evaluate(&self, _manifests: &[Value], _clusters: &[String]) -> Result<Judgement> {
        self.with(|world| {
            if world.policy_away {
                return Err(Error::unavailable("PEER_AWAY", "the policy service is away"));
            }
            world.judged += 1;
            Ok(Judgement { revision: format!("p{}", world.policy_revision), refusals: world.refusals.clone(), warnings: vec![] })
        })
    }

    async fn revision(&self) -> Result<String> {
        self.with(|world| match world.policy_away {
            true => Err(Error::unavailable("PEER_AWAY", "the policy service is away")),
            false => Ok(format!("p{}", world.policy_revision)),
        })
    }
}

#[async_trait]
impl Scheduler for Played {
    async fn current_epoch(&self, job: &str) -> Result<Option<u64>> {
        Ok(self.with(|world| world.epochs.get(job).copied()))
    }
}

/// The whole stage.
pub struct Stage {
    pub db: TestDb,
    pub clock: FakeClock,
    pub world: Played,
    pub app: App,
    pub leader: Leader,
    pub server: Server,
    folder: TempDir,
    /// Somebody pushed: the repository is looked at with the next tick, as after a webhook.
    pushed: AtomicBool,
    _shutdown: tokio_util::sync::DropGuard,
}

pub const APPLICATION: &str = "namespaces/platform/applications/detector";

impl Stage {
    /// A stage with a repository of a model served online (with routes) and at two edges, all of them live.
    pub async fn new() -> Self {
        Self::with_fast_concurrency(100).await
    }

    /// The same, where so many clusters at once go back from a failed release.
    pub async fn with_fast_concurrency(fast_concurrency: usize) -> Self {
        let db = TestDb::new(&[&muster_kit::db::MIGRATIONS, &muster_rollout::MIGRATIONS]).await;
        muster_kit::incarnation::establish(db.pool()).await.unwrap();
        let folder = TempDir::new().unwrap();
        let clock = FakeClock::at("2026-11-24T00:00:00Z".parse().unwrap());
        let world = Played::default();
        let program = Kustomize::default_program();
        assert!(program.exists(), "kustomize is missing at {}; cargo xtask test builds it", program.display());
        let app = App {
            pool: db.pool().clone(),
            clock: Arc::new(clock.clone()),
            registry: Arc::new(world.clone()),
            policy: Arc::new(world.clone()),
            scheduler: Arc::new(world.clone()),
            sources: Sources::new(Git::default(), folder.path().join("mirrors"), BTreeMap::new()),
            renderer: Renderer::new(Kustomize::new(program, Duration::from_secs(30))),
            fast_concurrency,
            wakes: Wakes::default(),
        };
        let shutdown = CancellationToken::new();
        let (tail, feed) = Tail::new(db.pool().clone(), shutdown.clone());
        tokio::spawn(feed);
        let leader = Leader::new(db.pool().clone());
        let server = Server::new(app.clone(), tail);
        let stage = Self {
            db,
            clock,
            world,
            app,
            leader,
            server,
            folder,
            pushed: AtomicBool::new(false),
            _shutdown: shutdown.drop_guard(),
        };
        stage.git(&["init", "-q", "-b", "main", "work"], "");
        stage.git(&["init", "-q", "--bare", "-b", "main", "bare.git"], "");
        stage.commit("the model and how it is served", &tree());
        for name in ["serve-online", "edge-1", "edge-2"] {
            stage.set_cluster(name, None).await;
        }
        stage.world.with(|world| {
            world.fleets.insert("edge".into(), vec!["edge-1".into(), "edge-2".into()]);
        });
        stage
    }

    pub async fn set_cluster(&self, name: &str, away: Option<&str>) {
        self.world.with(|world| match away {
            Some(_) => drop(world.offline.insert(name.to_owned())),
            None => drop(world.offline.remove(name)),
        });
        let known = Cluster { away: away.map(str::to_owned), ..Cluster::default() };
        cluster::save(self.db.pool(), name, &known, 1).await.unwrap();
    }

    pub fn git(&self, arguments: &[&str], at: &str) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.folder.path().join(at))
            .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@example.com")])
            .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@example.com")])
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("bare.git")
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// Takes in what was pushed, writes files, commits, pushes; gives the commit.
    pub fn commit(&self, message: &str, files: &[(&str, String)]) -> String {
        let url = self.url();
        let work = self.folder.path().join("work");
        if !self.git(&["ls-remote", &url, "main"], "").is_empty() {
            self.git(&["fetch", "-q", &url, "main"], "work");
            self.git(&["reset", "-q", "--hard", "FETCH_HEAD"], "work");
        }
        for (path, content) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "-A", "."], "work");
        self.git(&["commit", "-q", "--allow-empty", "-m", message], "work");
        self.git(&["push", "-q", &url, "HEAD:refs/heads/main"], "work");
        self.pushed.store(true, Ordering::Relaxed);
        self.git(&["rev-parse", "HEAD"], "work")
    }

    /// A commit that brings an image, as a person would write it.
    pub fn ship(&self, version: &str) -> String {
        self.commit(&format!("serve {version}"), &[("models/detector/kustomization.yaml", component(version))])
    }

    pub fn log(&self) -> Vec<String> {
        self.git(&["log", "--format=%s", "main"], "bare.git").lines().map(str::to_owned).collect()
    }

    /// Applies the repository, the application (with a rollout block) and the model.
    pub async fn apply(&self, rollout: &str) {
        self.apply_repository().await;
        self.apply_application(rollout).await;
        let manifest = "apiVersion: muster.dev/v1\nkind: Model\nmetadata: {name: detector}\nspec: {gitRepositoryRef: {name: models, namespace: platform}}\n";
        let model = wire::Model { manifest: manifest.into(), ..wire::Model::default() };
        let request = wire::UpdateModelRequest { model: Some(model), allow_missing: true, ..wire::UpdateModelRequest::default() };
        use wire::model_service_server::ModelService as _;
        self.server.update_model(self.by_operator(request)).await.unwrap();
    }

    pub async fn apply_repository(&self) {
        let manifest = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: models, namespace: platform}}\nspec: {{url: '{}', interval: 1h, ref: {{branch: main}}}}\n",
            self.url()
        );
        let repository = wire::GitRepository { manifest, ..wire::GitRepository::default() };
        let request = wire::UpdateGitRepositoryRequest {
            git_repository: Some(repository),
            allow_missing: true,
            ..wire::UpdateGitRepositoryRequest::default()
        };
        use wire::git_repository_service_server::GitRepositoryService as _;
        self.server.update_git_repository(self.by_operator(request)).await.unwrap();
    }

    pub async fn apply_application(&self, rollout: &str) -> wire::Application {
        self.apply_document(application(rollout)).await
    }

    /// Applies an application as it is written.
    pub async fn apply_document(&self, manifest: String) -> wire::Application {
        let application = wire::Application { manifest, ..wire::Application::default() };
        let request = wire::UpdateApplicationRequest {
            application: Some(application),
            allow_missing: true,
            ..wire::UpdateApplicationRequest::default()
        };
        use wire::application_service_server::ApplicationService as _;
        self.server.update_application(self.by_operator(request)).await.unwrap().into_inner()
    }

    pub fn by_operator<T>(&self, message: T) -> Request<T> {
        by(message, Role::Operator)
    }

    /// One pass of every reconciler, then what the agents say.
    pub async fn tick(&self) {
        if self.pushed.swap(false, Ordering::Relaxed) {
            let name = GitRepositoryName::new("platform", "models").unwrap();
            store::repository::wake(self.db.pool(), &name, self.clock.now()).await.unwrap();
        }
        let (app, leader) = (self.app.clone(), self.leader.clone());
        let passes: Vec<Box<dyn Reconciler>> = vec![
            Box::new(WriteReconciler { app: app.clone(), leader: leader.clone() }),
            Box::new(SourceReconciler { app: app.clone(), leader: leader.clone() }),
            Box::new(FleetReconciler { app: app.clone(), health: Health::default() }),
            Box::new(DecisionReconciler { app: app.clone(), leader: leader.clone() }),
            Box::new(ReleaseReconciler { app: app.clone(), leader: leader.clone() }),
            Box::new(DispatchReconciler { app, leader, incarnation: 1, health: Health::default() }),
        ];
        for pass in passes {
            if let Err(error) = pass.tick().await {
                assert!(self.world.with(|world| world.registry_away), "{}: {error}", pass.name());
            }
        }
        self.agents().await;
    }

    /// Every agent that is there says how what it holds is.
    pub async fn agents(&self) {
        let held = self.world.with(|world| {
            world
                .held
                .iter()
                .filter(|((cluster, _), _)| !world.offline.contains(cluster))
                .map(|((cluster, item), (generation, _))| {
                    let text = serde_json::to_string(&world.objects(cluster)).unwrap();
                    let broken = world.broken_images.iter().any(|image| text.contains(image.as_str()));
                    (cluster.clone(), item.clone(), *generation, broken)
                })
                .collect::<Vec<_>>()
        });
        for (cluster, item, generation, broken) in held {
            let phase = if broken { "degraded" } else { "healthy" };
            let observed = desired::ObservationRow {
                generation: (1, generation),
                phase: phase.into(),
                reason: if broken { "ImagePullBackOff".into() } else { String::new() },
                message: String::new(),
            };
            desired::observe(self.db.pool(), &cluster, &item, &observed).await.unwrap();
        }
    }

    /// Ticks, each a second apart.
    pub async fn seconds(&self, seconds: u32) {
        for _ in 0..seconds {
            self.tick().await;
            self.clock.advance(Duration::from_secs(1));
        }
    }

    /// Ticks until the application's present release is in a state; a minute of ticks is enough for every story.
    pub async fn until(&self, state: wire::release::State) -> wire::Release {
        // What was pushed just now is seen first.
        self.seconds(2).await;
        for _ in 0..120 {
            self.tick().await;
            if let Some(release) = self.releases().await.into_iter().next()
                && release.state() == state
            {
                return release;
            }
            self.clock.advance(Duration::from_secs(1));
        }
        panic!("the release is never {state:?}: {:#?}\n{:#?}", self.releases().await.first(), self.application().await);
    }

    pub async fn releases(&self) -> Vec<wire::Release> {
        use wire::release_service_server::ReleaseService as _;
        let request = wire::ListReleasesRequest { parent: APPLICATION.into(), ..wire::ListReleasesRequest::default() };
        self.server.list_releases(self.by_operator(request)).await.unwrap().into_inner().releases
    }

    pub async fn application(&self) -> wire::Application {
        use wire::application_service_server::ApplicationService as _;
        let request = wire::GetApplicationRequest { name: APPLICATION.into() };
        self.server.get_application(self.by_operator(request)).await.unwrap().into_inner()
    }

    /// Weights by subset of a cluster's routes, as it is told now.
    pub fn weights(&self, cluster: &str) -> BTreeMap<String, i64> {
        let objects = self.world.with(|world| world.objects(cluster));
        let Some(route) = objects.iter().find(|object| object["kind"] == "VirtualService") else { return BTreeMap::new() };
        let routes = route["spec"]["http"][0]["route"].as_array().unwrap();
        let weight = |one: &Value| (one["destination"]["subset"].as_str().unwrap().to_owned(), one["weight"].as_i64().unwrap());
        routes.iter().map(weight).collect()
    }

    /// Images of a cluster's Deployments, as it is told now.
    pub fn images(&self, cluster: &str) -> Vec<String> {
        images(&self.world.with(|world| world.objects(cluster)))
    }

    /// Whether a cluster was ever told an image.
    pub fn was_told(&self, cluster: &str, image: &str) -> bool {
        self.world.with(|world| {
            world.told.iter().any(|(told, objects)| told == cluster && images(objects).iter().any(|known| known.ends_with(image)))
        })
    }

    /// What the metrics of a version are at a cluster.
    pub fn measure(&self, cluster: &str, version: &str, value: f64) {
        let key = (cluster.to_owned(), format!("ok{{version=\"{version}\"}}"));
        self.world.with(|world| world.metrics.insert(key, value));
    }
}

pub fn by<T>(message: T, role: Role) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::Person { subject: "ada".into(), role });
    request
}

pub fn images(objects: &[Value]) -> Vec<String> {
    let mut images: Vec<String> = objects
        .iter()
        .filter(|object| object["kind"] == "Deployment")
        .map(|object| object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned())
        .collect();
    images.sort();
    images
}

pub const GATE: &str = "  rollout:
    waves:
      - clusters: [edge-1]
      - clusters: [serve-online]
        weights: [10, 100]
      - fleet: edge
    minSuccessTime: 2s
    progressDeadline: 20s
    keepStableFor: 5s
    gate: { query: 'ok{version=\"{{version}}\"}', min: 0.99, interval: 1s, count: 2 }
";

pub fn application(rollout: &str) -> String {
    format!(
        "apiVersion: fleet.kurator.dev/v1alpha1
kind: FleetApplication
metadata: {{ name: detector, namespace: platform }}
spec:
  gitRepositoryRef: {{ name: models }}
  targets:
    - cluster: serve-online
      path: ./serving/overlays/online
    - fleet: edge
      path: ./serving/overlays/edge
  syncPolicy:
    automated: {{ prune: true, selfHeal: true }}
{rollout}"
    )
}

pub fn component(version: &str) -> String {
    format!(
        "apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
  - name: detector-model
    files: [version.yaml, artifact-uri.txt]
images:
  - name: registry.example.com/detector
    newTag: {version}
"
    )
}

fn tree() -> Vec<(&'static str, String)> {
    vec![
        ("models/detector/version.yaml", format!("version: v2\ndigest: sha256:{}\n", "2".repeat(64))),
        ("models/detector/artifact-uri.txt", "s3://models/detector/v2\n".into()),
        ("models/detector/kustomization.yaml", component("v2")),
        (
            "serving/base/kustomization.yaml",
            "namespace: vision\nresources: [deployment.yaml, service.yaml]\ncomponents: [../../models/detector]\n".into(),
        ),
        (
            "serving/base/deployment.yaml",
            "apiVersion: apps/v1
kind: Deployment
metadata: { name: detector }
spec:
  replicas: 2
  selector: { matchLabels: { app: detector } }
  template:
    metadata: { labels: { app: detector } }
    spec:
      containers:
        - name: server
          image: registry.example.com/detector
          env:
            - name: MODEL_URI
              valueFrom: { configMapKeyRef: { name: detector-model, key: artifact-uri.txt } }
"
            .into(),
        ),
        (
            "serving/base/service.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: { name: detector }\nspec: { selector: { app: detector }, ports: [{ port: 80 }] }\n".into(),
        ),
        ("serving/overlays/edge/kustomization.yaml", "resources: [../../base]\nreplicas: [{ name: detector, count: 1 }]\n".into()),
        ("serving/overlays/online/kustomization.yaml", "resources: [../../base, routes.yaml]\n".into()),
        (
            "serving/overlays/online/routes.yaml",
            "apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: { name: detector, namespace: vision }
spec:
  host: detector
  subsets: [{ name: v2, labels: { version: v2 } }, { name: v3, labels: { version: v3 } }]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: { name: detector, namespace: vision }
spec:
  hosts: [detector.vision.svc.cluster.local]
  http:
    - route:
        - { destination: { host: detector, subset: v2 }, weight: 90 }
        - { destination: { host: detector, subset: v3 }, weight: 10 }
"
            .into(),
        ),
    ]
}
