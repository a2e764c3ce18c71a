//! The agent put together: what is started, in which order, and how it ends.

use crate::{
    cluster::Cluster,
    config::Config,
    control, http,
    inventory::{ClockOffsets, Preflight, follow, preflight},
    lease::{Lease, SystemBootClock},
    ledger::{Identity, Ledger},
    link::{EnrolError, HubAddress, Link, enrol},
    metrics::Prometheus,
    policy,
    reconcile::{Engine, Reconciler, Settings},
};
use anyhow::{Context, bail};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use muster_kit::health::Health;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How long what is under way may take when the process ends.
const DRAIN: Duration = Duration::from_secs(15);
/// Between two attempts at what the agent cannot begin without.
const RETRY: Duration = Duration::from_secs(2);
/// How often the API server is asked whether it is there, and unused bundles are removed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A client for the cluster that a kubeconfig (or the surroundings) names.
pub async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let config = match kubeconfig {
        Some(file) => {
            let text = Kubeconfig::read_from(file).with_context(|| format!("kubeconfig: reading {}", file.display()))?;
            kube::Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await.context("kubeconfig")?
        }
        None => kube::Config::infer().await.context("no kubeconfig is set, and none was found around")?,
    };
    Client::try_from(config).context("a client for the cluster's API server")
}

/// Runs an agent on a cluster until `stop`, or until the cluster has left the fleet.
pub async fn run(config: Config, client: Client, stop: CancellationToken) -> anyhow::Result<()> {
    // However this ends, the watchers end with it.
    let _guard = stop.clone().drop_guard();
    let ca_pem = std::fs::read_to_string(&config.hub.ca_file)
        .with_context(|| format!("hub.ca_file: reading {}", config.hub.ca_file.display()))?;
    let hub = HubAddress { address: config.hub.address.clone(), ca_pem };
    let prometheus = Prometheus::new(config.prometheus_url.as_deref())?;
    let ledger = Ledger::open(&config.state_dir).context("state_dir")?;
    let cluster = Cluster::new(client);
    let health = Health::default();

    // Whatever the ledger holds is looked after from the first moment, with or without the hub.
    let lease = Lease::new(Arc::new(SystemBootClock), ledger.state().lease.as_ref());
    let reconciler = Reconciler::new(cluster.clone(), ledger.clone(), lease, Settings::default(), stop.clone());
    let mut tasks: JoinSet<&'static str> = JoinSet::new();
    let engine = Engine::new(reconciler.clone());
    spawn(&mut tasks, "engine", engine.run(stop.clone()));
    let (feed, inventory) = watch::channel(None);
    spawn(&mut tasks, "inventory", follow(cluster.client().clone(), feed, stop.clone()));
    spawn(&mut tasks, "policy", policy::follow(reconciler.clone(), stop.clone()));
    spawn(&mut tasks, "upkeep", upkeep(cluster.clone(), ledger.clone(), health.clone(), stop.clone()));

    if let Some(address) = config.http_address {
        let serving = http::serve(address, reconciler.clone(), health.clone(), stop.clone());
        spawn(&mut tasks, "http", async move {
            if let Err(error) = serving.await {
                tracing::error!(error = %format!("{error:#}"), "the HTTP server has ended");
            }
        });
    }

    let Some(uid) = until(&stop, "the cluster's UID cannot be read", || cluster_uid(&cluster)).await else {
        return drain(tasks, &stop).await;
    };
    let Some(identity) = identity(&config, &hub, &ledger, &uid, &stop).await? else {
        return drain(tasks, &stop).await;
    };
    if identity.cluster_uid != uid {
        stop.cancel();
        drain(tasks, &stop).await?;
        bail!(
            "state_dir belongs to {} (UID {}), but this cluster's UID is {uid}; use another directory, or enrol anew",
            identity.cluster,
            identity.cluster_uid
        );
    }
    let link = Link::new(hub, reconciler, inventory, prometheus, uid, health);
    spawn(&mut tasks, "control", control::follow(config.state_dir.clone(), link.clone(), stop.clone()));
    let state_dir = config.state_dir.clone();
    let linked = {
        let stop = stop.clone();
        async move {
            if link.run(stop.clone()).await {
                if let Err(error) = control::left(&state_dir) {
                    tracing::warn!(error = %error, "the wish to leave could not be forgotten");
                }
                stop.cancel();
            }
        }
    };
    spawn(&mut tasks, "link", linked);
    let early = tokio::select! {
        () = stop.cancelled() => None,
        Some(ended) = tasks.join_next() => Some(ended),
    };
    let asked = stop.is_cancelled();
    stop.cancel();
    drain(tasks, &stop).await?;
    match early {
        Some(Err(error)) => Err(anyhow::anyhow!(error).context("a task failed")),
        Some(Ok(name)) if !asked => bail!("the task {name} ended before its time"),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn spawn(tasks: &mut JoinSet<&'static str>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

async fn drain(mut tasks: JoinSet<&'static str>, stop: &CancellationToken) -> anyhow::Result<()> {
    stop.cancelled().await;
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(seconds = DRAIN.as_secs(), "what was under way is cut off");
    }
    Ok(())
}

/// Tries until it succeeds; `None` when the process ends before.
async fn until<T, F: Future<Output = anyhow::Result<T>>>(
    stop: &CancellationToken,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Option<T> {
    loop {
        match attempt().await {
            Ok(value) => return Some(value),
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "{what}; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// A cluster is who its `kube-system` namespace is.
async fn cluster_uid(cluster: &Cluster) -> anyhow::Result<String> {
    use crate::domain::object::{ObjectRef, text};
    let object =
        ObjectRef { group: String::new(), kind: "Namespace".into(), namespace: String::new(), name: "kube-system".into() };
    let live = cluster.get("v1", &object).await?.context("the cluster has no namespace kube-system")?;
    Ok(text(&live, "/metadata/uid").to_owned())
}

/// The identity that is held, or a new one for the token; `None` when the process ends before.
async fn identity(
    config: &Config,
    hub: &HubAddress,
    ledger: &Ledger,
    uid: &str,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Identity>> {
    if let Some(identity) = ledger.identity()? {
        return Ok(Some(identity));
    }
    let file = config.hub.token_file.as_ref().context("hub.token_file: is needed until the agent is enrolled")?;
    let token = std::fs::read_to_string(file).with_context(|| format!("hub.token_file: reading {}", file.display()))?;
    loop {
        match enrol(hub, ledger, token.trim(), uid).await {
            Ok(identity) => {
                let expected = config.cluster.as_ref().map(|name| format!("clusters/{name}"));
                if let Some(expected) = expected.filter(|expected| *expected != identity.cluster) {
                    bail!("cluster: the token is for {}, not for {expected}", identity.cluster);
                }
                return Ok(Some(identity));
            }
            Err(EnrolError::Unreachable(error)) => tracing::warn!(error, "the hub is away; the enrolment is tried again"),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn upkeep(cluster: Cluster, ledger: Ledger, health: Health, stop: CancellationToken) {
    loop {
        let problem = cluster.client().apiserver_version().await.err().map(|error| error.to_string());
        health.report(http::CLUSTER_PART, problem);
        match ledger.remove_unused_bundles().await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "bundles that nothing names any more were removed"),
            Err(error) => tracing::warn!(error = %error, "unused bundles could not be removed"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Looks a cluster over without enrolling it.
pub async fn look_over(client: Client) -> anyhow::Result<Preflight> {
    Ok(preflight(&Cluster::new(client), ClockOffsets::default()).await?)
}
