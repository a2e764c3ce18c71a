//! Clusters behind sockets: each with its own ports, its kubeconfig, and one file that says where everything is.

use crate::{
    cluster::{SimCluster, StartError},
    config::SimConfig,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Map, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};
use tokio::net::TcpListener;

/// Where one cluster listens.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The Kubernetes API.
    pub api: SocketAddr,
    /// The Prometheus API, where the cluster has one.
    pub prometheus: Option<SocketAddr>,
    /// The control API.
    pub control: SocketAddr,
}

/// A cluster and where it listens.
#[derive(Debug)]
pub struct Served {
    /// The cluster.
    pub cluster: SimCluster,
    /// Its addresses.
    pub endpoints: Endpoints,
}

/// Puts a cluster behind sockets of the loopback interface.
pub async fn serve(cluster: SimCluster) -> std::io::Result<Served> {
    let config = cluster.inner().config.clone();
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let api = bind(config.api_port).await?;
    let control = bind(config.control_port).await?;
    let prometheus = if config.prometheus { Some(bind(config.prometheus_port).await?) } else { None };
    let endpoints = Endpoints {
        api: api.local_addr()?,
        control: control.local_addr()?,
        prometheus: prometheus.as_ref().map(TcpListener::local_addr).transpose()?,
    };
    tokio::spawn(accept(api, cluster.clone()));
    spawn_router(control, cluster.control(), &cluster);
    if let Some(listener) = prometheus {
        spawn_router(listener, cluster.prometheus(), &cluster);
    }
    Ok(Served { cluster, endpoints })
}

fn spawn_router(listener: TcpListener, router: axum::Router, cluster: &SimCluster) {
    let stopped = cluster.stopped();
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "a listener has failed");
        }
    });
}

/// Takes connections of the API until the cluster stops. Each ends when connections are cut.
async fn accept(listener: TcpListener, cluster: SimCluster) {
    let stopped = cluster.stopped();
    loop {
        let accepted = tokio::select! {
            () = stopped.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: a pause lets others close.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let service = TowerToHyperService::new(cluster.service());
        let (cut, stopped) = (cluster.inner().connection(), stopped.clone());
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A client that goes away is not an error of ours.
                _ = connection => {}
                () = cut.cancelled() => {}
                () = stopped.cancelled() => {}
            }
        });
    }
}

/// Starts every cluster of a configuration, and writes `<cluster>.kubeconfig` and, last and at once, `endpoints.json`.
pub async fn start_all(config: SimConfig, directory: &Path) -> Result<Vec<Served>, StartError> {
    std::fs::create_dir_all(directory)?;
    let mut all = Vec::new();
    let mut listed = Map::new();
    for cluster in config.clusters {
        let started = SimCluster::start(cluster, config.images.clone(), Some(directory))?;
        let served = serve(started).await?;
        let name = served.cluster.name().to_owned();
        let Endpoints { api, prometheus, control } = &served.endpoints;
        let url = |address: &SocketAddr| format!("http://{address}");
        listed.insert(
            name.clone(),
            json!({
                "api": url(api), "prometheus": prometheus.as_ref().map(url), "control": url(control),
                "uid": served.cluster.uid(), "kubeconfig": directory.join(format!("{name}.kubeconfig")),
            }),
        );
        write_whole(&directory.join(format!("{name}.kubeconfig")), &kubeconfig(&name, &url(api)))?;
        all.push(served);
    }
    let listed = serde_json::to_string_pretty(&listed).map_err(std::io::Error::other)?;
    write_whole(&directory.join("endpoints.json"), &listed)?;
    Ok(all)
}

fn kubeconfig(name: &str, server: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- name: {name}\n  cluster:\n    server: {server}\nusers:\n- name: {name}\n  user: {{}}\ncontexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n    namespace: default\n"
    )
}

/// Whoever waits for the file never sees half of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, path)
}
