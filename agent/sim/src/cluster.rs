//! One simulated cluster: its state, its controllers, and what is done to it from outside.

use crate::{
    amend,
    api::ApiService,
    config::{ClusterConfig, ConfigError, NodeGroup},
    controllers,
    faults::Faults,
    images::ImageRule,
    json, prometheus, seed,
    state::{Actor, State},
    status::ApiError,
};
use serde_json::Value;
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// What the parts of a cluster share.
#[derive(Debug)]
pub struct Inner {
    /// What the cluster was told.
    pub config: Arc<ClusterConfig>,
    /// What is done to it.
    pub faults: Faults,
    state: Mutex<State>,
}

impl Inner {
    /// The state. The lock is held for one step and never across an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when connections are cut.
    pub fn connection(&self) -> CancellationToken {
        self.faults.connection()
    }

    /// The `Date` header: the true time and the offset of the clock.
    pub fn http_date(&self) -> String {
        let now = jiff::Timestamp::now();
        let offset = jiff::SignedDuration::from_millis(self.faults.clock_offset_ms());
        let shown = now.checked_add(offset).unwrap_or(now);
        shown.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

/// Why a cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its audit log or its sockets cannot be opened.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Its first objects were refused, which a bad name or quantity in the configuration does.
    #[error("the first objects of the cluster were refused: {0}")]
    Seed(#[from] ApiError),
}

/// A running cluster. Clones are handles to the same one; it ends with the last of them, or with [`SimCluster::stop`].
#[derive(Debug, Clone)]
pub struct SimCluster {
    inner: Arc<Inner>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    _guard: Arc<DropGuard>,
}

impl SimCluster {
    /// Starts a cluster on the current runtime. Its audit log goes to `directory`, or to a temporary folder.
    pub fn start(config: ClusterConfig, images: Vec<ImageRule>, directory: Option<&Path>) -> Result<Self, StartError> {
        config.check()?;
        let config = Arc::new(config);
        let mut state = State::new(Arc::clone(&config), images, directory)?;
        seed::first_objects(&mut state)?;
        let inner = Arc::new(Inner { config, faults: Faults::default(), state: Mutex::new(state) });
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(controllers::run(Arc::clone(&inner), shutdown.clone()));
        if inner.config.prometheus {
            tasks.spawn(crate::traffic::run(Arc::clone(&inner), shutdown.clone()));
        }
        let guard = Arc::new(shutdown.clone().drop_guard());
        Ok(Self { inner, shutdown, tasks, _guard: guard })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// Its API, for `kube::Client::new(cluster.service(), "default")`.
    pub fn service(&self) -> ApiService {
        ApiService::new(Arc::clone(&self.inner))
    }

    /// Its Prometheus API, as an axum router.
    pub fn prometheus(&self) -> axum::Router {
        prometheus::router(Arc::clone(&self.inner))
    }

    /// Its control API, as an axum router.
    pub fn control(&self) -> axum::Router {
        crate::control::router(self.clone())
    }

    /// Its faults.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Cancelled when the cluster stops.
    pub fn stopped(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// What images do, from now on. Containers that wait for an image try again.
    pub fn set_images(&self, images: Vec<ImageRule>) -> Result<(), ConfigError> {
        crate::config::check_images(&images)?;
        let mut state = self.inner.lock();
        state.images = Arc::new(images);
        state.runs.images_changed();
        state.store.wake();
        Ok(())
    }

    /// What images do.
    pub fn images(&self) -> Vec<ImageRule> {
        self.inner.lock().images.to_vec()
    }

    /// Simulated requests to each Service, per second.
    pub fn set_requests_per_second(&self, rate: f64) {
        self.inner.lock().traffic.set_requests_per_second(rate);
    }

    /// Adds nodes; they are named on from the last of their prefix.
    pub fn add_nodes(&self, group: &NodeGroup) -> Result<Vec<String>, ApiError> {
        seed::add_nodes(&mut self.inner.lock(), group)
    }

    /// Takes a node away; its pods go with it.
    pub fn remove_node(&self, name: &str) -> Result<(), ApiError> {
        let actor = Actor::controller("control", "control");
        amend::remove(&mut self.inner.lock(), &actor, "nodes", "", name)
    }

    /// Kills a pod at once, as when its node loses it.
    pub fn kill_pod(&self, namespace: &str, name: &str) -> Result<(), ApiError> {
        let actor = Actor::controller("control", "control");
        amend::remove(&mut self.inner.lock(), &actor, "pods", namespace, name)
    }

    /// Forgets the history of all changes: every watch that starts from an older version gets 410.
    pub fn compact(&self) {
        self.inner.lock().store.compact();
    }

    /// The object at a place, without a request.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.inner.lock().store.find(resource, namespace, name).cloned()
    }

    /// The objects of a kind in a namespace, or in all (""), without a request.
    pub fn objects(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.inner.lock().store.list(resource, namespace).cloned().collect()
    }

    /// The lines of the audit log after number `after`, at most `limit`: one JSON object each. Blocks on a file.
    pub fn audit_lines(&self, after: u64, limit: usize) -> std::io::Result<Vec<String>> {
        let position = self.inner.lock().audit.position(after);
        crate::audit::lines_after(position, after, limit)
    }

    /// The UID of `kube-system`: who this cluster is.
    pub fn uid(&self) -> String {
        self.object("namespaces", "", "kube-system").map(|object| json::uid(&object).to_owned()).unwrap_or_default()
    }

    /// Ends the cluster: its tasks, its watches, its connections.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.inner.faults.cut_connections();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
