//! The scheduler between a registry and a policy service that are played here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use muster_core::bundle;
use muster_kit::clock::{Clock, FakeClock};
use muster_kit::health::Health;
use muster_kit::reconcile::{Reconciler, Wake};
use muster_kit::watch::Tail;
use muster_kit::{Caller, Error, Result, Role, db};
use muster_proto::agent::v1::{ApiGroup, Inventory, Node, Preflight, RunUsage};
use muster_proto::registry::v1::{Cluster, FlavorPrice, cluster};
use muster_proto::scheduler::v1::job_service_client::JobServiceClient;
use muster_proto::scheduler::v1::queue_service_client::QueueServiceClient;
use muster_proto::scheduler::v1::{
    CreateJobRequest, ExplainJobRequest, GetJobRequest, Job, JobExplanation, Queue, UpdateQueueRequest, job,
};
use muster_scheduler::app::admission::Admissions;
use muster_scheduler::app::mind::Mind;
use muster_scheduler::app::observe::{ItemPhase, Observed};
use muster_scheduler::app::writer::Writer;
use muster_scheduler::app::{App, Leadership};
use muster_scheduler::config::Settings;
use muster_scheduler::domain::desired::Item;
use muster_scheduler::domain::job::RunPhase;
use muster_scheduler::peers::{Answer, Policy, Question, Registry, Told, Verdict, Violation};
use muster_scheduler::reconcile::follow;
use muster_scheduler::reconcile::lead::Lead;
use muster_scheduler::reconcile::standing::Stand;
use muster_scheduler::reconcile::tell::Tell;
use muster_scheduler::store::desired::change::Pending;
use muster_scheduler_engine::HistoryRow;
use muster_testkit::TestDb;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::passes::repeated;

pub type Channel = InterceptedService<Routes, fn(Request<()>) -> std::result::Result<Request<()>, Status>>;

/// The registry's side of desired state: generations are checked as the real one does.
#[derive(Default)]
pub struct PlayedRegistry {
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub bundles: BTreeMap<String, Vec<u8>>,
    pub clusters: BTreeMap<String, ToldCluster>,
    pub unknown: BTreeSet<String>,
    pub leader_epoch: u64,
    pub away: bool,
    /// The next change is written, and its answer is lost on the way.
    pub lose_next_answer: bool,
    pub changes: usize,
}

#[derive(Default)]
pub struct ToldCluster {
    pub generation: i64,
    pub digest: String,
    pub items: BTreeMap<String, (i64, Item)>,
    pub removed: BTreeMap<String, i64>,
}

#[async_trait]
impl Registry for PlayedRegistry {
    async fn apply(&self, leader_epoch: u64, bundles: Vec<(String, Vec<u8>)>, changes: &[Pending]) -> Result<Vec<Answer>> {
        let mut state = self.state.lock().unwrap();
        if state.away {
            return Err(Error::unavailable("PEER_AWAY", "the registry is away"));
        }
        if leader_epoch < state.leader_epoch {
            return Err(Error::conflict("NOT_LEADER", "an older leader"));
        }
        state.leader_epoch = leader_epoch;
        state.bundles.extend(bundles);
        let mut answers = Vec::new();
        for change in changes {
            if state.unknown.contains(&change.cluster) {
                answers.push(Answer::UnknownCluster);
                continue;
            }
            for item in change.upserts.values() {
                assert!(state.bundles.contains_key(&item.bundle_digest), "bundles come before the items that name them");
            }
            state.changes += 1;
            let cluster = state.clusters.entry(change.cluster.clone()).or_default();
            if cluster.generation == change.generation && cluster.digest == change.content_digest {
                answers.push(Answer::Applied(1));
                continue;
            }
            if cluster.generation != change.base_generation {
                answers.push(Answer::Stale);
                continue;
            }
            cluster.generation = change.generation;
            cluster.digest.clone_from(&change.content_digest);
            for (name, item) in &change.upserts {
                cluster.items.insert(name.clone(), (change.generation, item.clone()));
            }
            for name in &change.deletes {
                assert!(cluster.items.remove(name).is_some(), "only what is there is removed");
                cluster.removed.insert(name.clone(), change.generation);
            }
            answers.push(Answer::Applied(1));
        }
        if std::mem::take(&mut state.lose_next_answer) {
            return Err(Error::unavailable("PEER_AWAY", "the answer was lost"));
        }
        Ok(answers)
    }

    async fn told(&self, cluster: &str) -> Result<Told> {
        let state = self.state.lock().unwrap();
        Ok(state.clusters.get(cluster).map_or_else(Told::default, |known| Told {
            generation: known.generation,
            items: known.items.clone(),
            removed: known.removed.clone(),
        }))
    }
}

/// A policy service that says what it was told to say.
pub struct PlayedPolicy {
    pub says: Mutex<Says>,
    pub asked: Mutex<Vec<(Value, Vec<String>)>>,
}

#[derive(Clone)]
pub enum Says {
    Yes,
    No(Vec<Violation>),
    /// Of what is to be made in one cluster only.
    NoIn(&'static str, Vec<Violation>),
    Away,
    /// As [`Says::NoIn`].
    AwayIn(&'static str),
}

#[async_trait]
impl Policy for PlayedPolicy {
    async fn evaluate(&self, questions: Vec<Question>) -> Vec<Result<Verdict>> {
        let answer = |question: Question| {
            let manifest = serde_json::from_str(&question.manifest).expect("JSON");
            let says = match self.says.lock().unwrap().clone() {
                Says::NoIn(cluster, violations) if question.clusters == [cluster] => Says::No(violations),
                Says::AwayIn(cluster) if question.clusters == [cluster] => Says::Away,
                says => says,
            };
            self.asked.lock().unwrap().push((manifest, question.clusters));
            match says {
                Says::Yes | Says::NoIn(..) | Says::AwayIn(_) => {
                    Ok(Verdict { revision: "r1".to_owned(), allowed: true, violations: Vec::new() })
                }
                Says::No(violations) => Ok(Verdict { revision: "r2".to_owned(), allowed: false, violations }),
                Says::Away => Err(Error::unavailable("PEER_AWAY", "the policy service is away; try again")),
            }
        };
        questions.into_iter().map(answer).collect()
    }
}

pub fn violation(rule: &str, path: &str) -> Violation {
    Violation {
        policy: "baseline".to_owned(),
        rule: rule.to_owned(),
        subject: "Job ml/train".to_owned(),
        path: path.to_owned(),
        message: format!("{rule} is broken"),
        enforced: true,
    }
}

pub struct World {
    pub db: TestDb,
    pub app: App,
    pub lead: Lead,
    pub tell: Tell,
    pub stand: Stand,
    pub clock: FakeClock,
    pub registry: Arc<PlayedRegistry>,
    pub policy: Arc<PlayedPolicy>,
    pub jobs: JobServiceClient<Channel>,
    pub queues: QueueServiceClient<Channel>,
    _tail: tokio_util::sync::DropGuard,
}

pub fn app(db: &TestDb, clock: &FakeClock, policy: &Arc<PlayedPolicy>) -> App {
    let (writer, writing) = Writer::new(db.pool().clone(), Arc::new(clock.clone()));
    tokio::spawn(writing);
    let (admissions, admitting) = Admissions::new(db.pool().clone(), Arc::new(clock.clone()));
    tokio::spawn(admitting);
    App {
        pool: db.pool().clone(),
        clock: Arc::new(clock.clone()),
        settings: Arc::new(Settings::default()),
        policy: Arc::clone(policy) as Arc<dyn Policy>,
        leadership: Leadership::default(),
        mind: Arc::default(),
        admissions,
        writer,
        decide: Wake::default(),
        tell: Wake::default(),
    }
}

fn operator(mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
    request.extensions_mut().insert(Caller::Person { subject: "ci@example.com".to_owned(), role: Role::Operator });
    Ok(request)
}

impl World {
    /// A scheduler that leads, without clusters and queues.
    pub async fn new() -> Self {
        let db = TestDb::new(&[&db::MIGRATIONS, &muster_scheduler::MIGRATIONS]).await;
        muster_kit::incarnation::establish(db.pool()).await.expect("a fresh database");
        let clock = FakeClock::at("2026-11-23T12:00:00Z".parse().expect("a time"));
        let policy = Arc::new(PlayedPolicy { says: Mutex::new(Says::Yes), asked: Mutex::default() });
        let registry = Arc::new(PlayedRegistry::default());
        let app = app(&db, &clock, &policy);
        let shutdown = CancellationToken::new();
        let (tail, feed) = Tail::new(db.pool().clone(), shutdown.clone());
        tokio::spawn(feed);
        let routes = muster_scheduler::grpc::routes(app.clone(), tail);
        let world = Self {
            lead: Lead::new(app.clone()),
            tell: Tell::new(app.clone(), Arc::clone(&registry) as Arc<dyn Registry>, 1, Health::default()),
            stand: Stand(app.clone()),
            jobs: JobServiceClient::with_interceptor(routes.clone(), operator),
            queues: QueueServiceClient::with_interceptor(routes, operator),
            _tail: shutdown.drop_guard(),
            db,
            app,
            clock,
            registry,
            policy,
        };
        world.lead.tick().await.expect("the lease is free");
        world
    }

    /// Two clusters, cheap and dear, one node of 8 GPUs each, and a queue `train`.
    pub async fn with_clusters() -> Self {
        let mut world = Self::new().await;
        world.join(member("idc", 1, "V100", 1_000_000)).await;
        world.join(member("cloud", 1, "A100", 4_000_000)).await;
        world.queue("train", "").await;
        world
    }

    pub fn epoch(&self) -> u64 {
        self.app.leadership.epoch().expect("this replica leads")
    }

    pub async fn join(&self, cluster: Cluster) {
        follow::put(&self.app, self.epoch(), cluster).await.expect("the projection takes it");
    }

    pub async fn queue(&mut self, name: &str, spec: &str) -> Queue {
        let manifest = format!("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n");
        let queue = Queue { manifest, ..Queue::default() };
        let request = UpdateQueueRequest { queue: Some(queue), allow_missing: true, ..UpdateQueueRequest::default() };
        self.queues.update_queue(request).await.expect("a sound queue").into_inner()
    }

    pub async fn submit(&mut self, name: &str, workers: u32, gpus: u32) -> Job {
        self.create(create(name, &training(name, workers, gpus))).await.expect("a sound job")
    }

    pub async fn create(&mut self, request: CreateJobRequest) -> std::result::Result<Job, Status> {
        self.jobs.create_job(request).await.map(tonic::Response::into_inner)
    }

    pub async fn job(&mut self, name: &str) -> Job {
        self.jobs.get_job(GetJobRequest { name: resource(name) }).await.expect("a job").into_inner()
    }

    pub async fn state(&mut self, name: &str) -> (job::State, String) {
        let job = self.job(name).await;
        (job.state(), job.cluster.trim_start_matches("clusters/").to_owned())
    }

    pub async fn explain(&mut self, name: &str) -> JobExplanation {
        self.jobs.explain_job(ExplainJobRequest { name: resource(name) }).await.expect("a job").into_inner()
    }

    /// What the leader has learned of how long jobs take, and what a new one would know.
    pub async fn learned(&self) -> (Vec<HistoryRow>, Vec<HistoryRow>) {
        let kept = self.app.mind.lock().unwrap().clone().expect("the leader keeps its engine");
        let mut tx = db::begin(self.db.pool()).await.unwrap();
        let folded = Mind::load(&mut tx, 0, self.app.now()).await.unwrap();
        (kept.engine.rows().histories, folded.engine.rows().histories)
    }

    /// Decides and tells until nothing changes any more.
    pub async fn settle(&self) {
        for _ in 0..2 {
            repeated(&self.lead).await.expect("decisions are written");
            repeated(&self.tell).await.expect("clusters are told");
            repeated(&self.stand).await.expect("clusters are looked at");
        }
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Items a cluster holds.
    pub fn items(&self, cluster: &str) -> Vec<String> {
        let state = self.registry.state.lock().unwrap();
        state.clusters.get(cluster).map(|cluster| cluster.items.keys().cloned().collect()).unwrap_or_default()
    }

    /// The one object of an item.
    pub fn object(&self, cluster: &str, item: &str) -> Value {
        let state = self.registry.state.lock().unwrap();
        let digest = &state.clusters[cluster].items[item].1.bundle_digest;
        let mut objects = bundle::decode(&digest.parse().expect("a digest"), &state.bundles[digest]).expect("a bundle");
        assert_eq!(objects.len(), 1);
        objects.remove(0)
    }

    /// What the cluster would say of a run now.
    pub fn seen(&self, cluster: &str, job: &str, epoch: u32, phase: RunPhase) -> Observed {
        let item = format!("jobs/ml/{job}/{epoch}");
        let state = self.registry.state.lock().unwrap();
        let told = &state.clusters[cluster];
        let gone = phase == RunPhase::Stopped;
        let generation = if gone { told.removed[&item] } else { told.items[&item].0 };
        Observed {
            cluster: cluster.to_owned(),
            item,
            generation: (1, generation),
            phase: if gone { ItemPhase::Gone } else { ItemPhase::There },
            run_phase: Some(phase),
            reason: String::new(),
            start: None,
            finish: None,
            at: None,
            pods: BTreeMap::new(),
            exit_code: None,
            traceparent: String::new(),
        }
    }

    pub async fn observe(&self, seen: Observed) {
        self.app.observe(self.epoch(), &seen).await.expect("an observation");
    }

    /// The run began now.
    pub async fn runs(&self, cluster: &str, job: &str, epoch: u32) {
        let mut seen = self.seen(cluster, job, epoch, RunPhase::Running);
        seen.start = Some(self.clock.now());
        self.observe(seen).await;
    }

    /// The run ended now.
    pub async fn ends(&self, cluster: &str, job: &str, epoch: u32, phase: RunPhase) {
        let mut seen = self.seen(cluster, job, epoch, phase);
        seen.finish = Some(self.clock.now());
        self.observe(seen).await;
    }
}

pub fn resource(job: &str) -> String {
    format!("namespaces/ml/jobs/{job}")
}

pub fn create(name: &str, manifest: &str) -> CreateJobRequest {
    let job = Job { manifest: manifest.to_owned(), ..Job::default() };
    CreateJobRequest {
        parent: "namespaces/ml".to_owned(),
        job_id: name.to_owned(),
        job: Some(job),
        ..CreateJobRequest::default()
    }
}

/// A Volcano job in queue `train`.
pub fn training(name: &str, workers: u32, gpus: u32) -> String {
    format!(
        "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  queue: train\n  tasks:\n  - name: worker\n    replicas: {workers}\n    \
         template:\n      spec:\n        containers:\n        - name: main\n          image: example.com/trainer:v1\n          resources: {{limits: {{nvidia.com/gpu: {gpus}, cpu: \
         4}}}}\n"
    )
}

/// A live cluster that takes jobs and has Volcano.
pub fn member(name: &str, nodes: u32, flavor: &str, micros: i64) -> Cluster {
    let amounts = |gpus: &str, cpu: &str| {
        BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus.to_owned()), ("cpu".to_owned(), cpu.to_owned())])
    };
    let nodes = (0..nodes).map(|number| Node {
        name: format!("{name}-{number}"),
        flavor: flavor.to_owned(),
        allocatable: amounts("8", "96"),
        schedulable: true,
        ..Node::default()
    });
    let group = |name: &str, version: &str| ApiGroup { name: name.to_owned(), versions: vec![version.to_owned()] };
    Cluster {
        name: format!("clusters/{name}"),
        state: cluster::State::Live.into(),
        schedulability: cluster::Schedulability::Open.into(),
        takes_jobs: true,
        preflight: Some(Preflight {
            api_groups: vec![
                group("batch", "v1"),
                group("batch.volcano.sh", "v1alpha1"),
                group("scheduling.volcano.sh", "v1beta1"),
            ],
            ..Preflight::default()
        }),
        inventory: Some(Inventory { nodes: nodes.collect(), ..Inventory::default() }),
        prices: vec![FlavorPrice {
            flavor: flavor.to_owned(),
            micros_per_gpu_hour: micros,
            currency: "EUR".to_owned(),
            ..FlavorPrice::default()
        }],
        ..Cluster::default()
    }
}

/// The cluster's inventory shows the pods of a run.
pub fn with_run(mut cluster: Cluster, node: usize, job: &str, epoch: u32, gpus: u32) -> Cluster {
    let requests = BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus.to_string()), ("cpu".to_owned(), "4".to_owned())]);
    let run = format!("{}/runs/{epoch}", resource(job));
    cluster.inventory.as_mut().expect("an inventory").nodes[node].used_by_run.push(RunUsage { run, requests });
    cluster
}
