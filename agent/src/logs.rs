//! Log lines of the pods of a job or of one pod, within limits, until the end or as they come.

use crate::{
    cluster::{Cluster, ClusterError},
    domain::{
        manifest::label,
        object::{list, text},
    },
    reconcile::{run_label, run_of_label},
};
use futures::{AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use muster_core::labels::RUN;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

/// Lines of a chunk, at most.
const MAX_LINES: usize = 1_000;
/// Bytes of a line, at most; longer ones are cut.
const MAX_LINE: usize = 16 * 1024;
/// Lines from the end of each pod, at most.
const MAX_TAIL: u32 = 10_000;
/// Pods read at once, at most; a larger gang shows its first ones.
const MAX_PODS: usize = 64;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The namespace.
    pub namespace: String,
    /// A job's or a pod's name.
    pub name: String,
    /// The name is a pod's.
    pub pod: bool,
    /// The container; empty means the first.
    pub container: String,
    /// From the end of each pod; 0 means 100.
    pub tail_lines: u32,
    /// Go on with new lines.
    pub follow: bool,
    /// The run whose pods are meant; empty means by name.
    pub run: String,
}

/// Lines of one container in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// At most 1,000.
    pub lines: Vec<String>,
}

/// Sends the lines of all pods meant; returns when they end, or when nobody receives any more.
pub async fn read(cluster: &Cluster, request: &Request, chunks: mpsc::Sender<Chunk>) -> Result<(), ClusterError> {
    let pods = pods(cluster, request).await?;
    if pods.is_empty() {
        let message = format!("no pods of {}/{} are there", request.namespace, request.name);
        return Err(ClusterError::Refused { code: 404, reason: "NotFound".to_owned(), message });
    }
    let mut reading = JoinSet::new();
    for pod in pods.iter().take(MAX_PODS) {
        let name = text(pod, "/metadata/name").to_owned();
        let container = match request.container.as_str() {
            "" => list(pod, "/spec/containers").first().map_or("", |container| text(container, "/name")).to_owned(),
            container => container.to_owned(),
        };
        let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &request.namespace);
        let (follow, tail) = (request.follow, if request.tail_lines == 0 { 100 } else { request.tail_lines.min(MAX_TAIL) });
        let chunks = chunks.clone();
        reading.spawn(async move { one(api, name, container, follow, tail, chunks).await });
    }
    let mut outcome = Ok(());
    while let Some(read) = reading.join_next().await {
        // One pod without logs must not hide those of the others; the last error is told where all is said.
        match read {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome = Err(error),
            Err(error) => outcome = Err(ClusterError::Unreachable(error.to_string())),
        }
    }
    if pods.len() == 1 { outcome } else { Ok(()) }
}

async fn pods(cluster: &Cluster, request: &Request) -> Result<Vec<Value>, ClusterError> {
    if !request.run.is_empty()
        && let Some(label) = run_label(&request.run)
    {
        return cluster.list("v1", "Pod", &request.namespace, &format!("{RUN}={label}")).await;
    }
    let all = cluster.list("v1", "Pod", &request.namespace, "").await?;
    let of_job = |pod: &Value| {
        let by_label = ["job-name", "batch.kubernetes.io/job-name", "volcano.sh/job-name"];
        let run = run_of_label(label(pod, RUN)).unwrap_or_default();
        by_label.iter().any(|name| label(pod, name) == request.name)
            || run.starts_with(&format!("namespaces/{}/jobs/{}/", request.namespace, request.name))
    };
    let meant = |pod: &Value| if request.pod { text(pod, "/metadata/name") == request.name } else { of_job(pod) };
    Ok(all.into_iter().filter(meant).collect())
}

async fn one(
    api: Api<Pod>,
    pod: String,
    container: String,
    follow: bool,
    tail: u32,
    chunks: mpsc::Sender<Chunk>,
) -> Result<(), ClusterError> {
    let parameters = LogParams {
        container: Some(container.clone()).filter(|container| !container.is_empty()),
        follow,
        tail_lines: Some(i64::from(tail)),
        ..LogParams::default()
    };
    let mut stream = api.log_stream(&pod, &parameters).await?;
    let mut pending = Vec::new();
    loop {
        let mut line = Vec::new();
        // Bounded also where a container writes without ever ending a line.
        let read = {
            let mut limited = (&mut stream).take(MAX_LINE as u64);
            limited.read_until(b'\n', &mut line).await.map_err(|error| ClusterError::Unreachable(error.to_string()))?
        };
        let ended = read == 0;
        if !ended {
            while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                line.pop();
            }
            pending.push(String::from_utf8_lossy(&line).into_owned());
        }
        // Someone who follows wants each line at once; the rest is sent in large pieces.
        if !pending.is_empty() && (ended || follow || pending.len() >= MAX_LINES) {
            let lines = std::mem::take(&mut pending);
            let chunk = Chunk { pod: pod.clone(), container: container.clone(), lines };
            if chunks.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
    }
}
