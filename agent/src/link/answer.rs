//! Questions of the hub: metrics, logs, a dry run. Each is answered by a task of its own that can be called off.

use super::Link;
use crate::{
    cluster::Write,
    domain::object::{ObjectRef, text},
    logs,
    metrics::Sample,
};
use muster_core::manifest::parse_documents;
use muster_kit::time::from_proto;
use muster_proto::agent::v1::{
    self as wire, AgentMessage, DryRunResult, HubAnswer, LogChunk, MetricsResult, agent_message::Message, hub_answer::Answer,
    hub_request::Request,
};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use tokio::{sync::mpsc, task::AbortHandle};

/// Questions answered at once, at most; further ones are refused at once.
const AT_ONCE: usize = 64;
/// Log chunks between a pod and the link; a slow line slows the reading, not the link.
const CHUNKS: usize = 16;
/// Following logs ends by itself after this long; whoever still reads asks again.
const LONGEST_FOLLOW: Duration = Duration::from_secs(3600);

/// The answers under way in one connection.
#[derive(Default)]
pub(super) struct Answers {
    running: HashMap<String, AbortHandle>,
}

impl Answers {
    /// Begins to answer, or calls an answer off.
    pub fn take(&mut self, link: &Link, request: wire::HubRequest, send: &mpsc::Sender<AgentMessage>) {
        self.running.retain(|_, handle| !handle.is_finished());
        let wire::HubRequest { request_id, request } = request;
        let Some(request) = request else { return };
        if matches!(request, Request::Cancelled(_)) {
            if let Some(handle) = self.running.remove(&request_id) {
                handle.abort();
            }
            return;
        }
        let reply = Reply { id: request_id.clone(), send: send.clone() };
        let (link, refuse) = (link.clone(), self.running.len() >= AT_ONCE);
        let task = tokio::spawn(async move {
            if refuse {
                return reply.error("the agent answers too many questions at once").await;
            }
            match request {
                Request::Metrics(query) => metrics(&link, query, reply).await,
                Request::Logs(query) => read_logs(&link, query, reply).await,
                Request::DryRun(dry_run) => try_out(&link, dry_run, reply).await,
                Request::Cancelled(_) => {}
            }
        });
        self.running.insert(request_id, task.abort_handle());
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for handle in self.running.values() {
            handle.abort();
        }
    }
}

struct Reply {
    id: String,
    send: mpsc::Sender<AgentMessage>,
}

impl Reply {
    async fn say(&self, answer: Answer) -> bool {
        let message = Message::Answer(HubAnswer { request_id: self.id.clone(), answer: Some(answer) });
        self.send.send(AgentMessage { message: Some(message) }).await.is_ok()
    }

    async fn error(&self, message: impl Into<String>) {
        // A connection that is gone needs no answer.
        _ = self.say(Answer::Error(message.into())).await;
    }
}

async fn metrics(link: &Link, query: wire::MetricsQuery, reply: Reply) {
    let time = query.time.as_ref().and_then(from_proto);
    let result = match link.prometheus.query(&query.query, time).await {
        Ok(samples) => MetricsResult {
            samples: samples
                .into_iter()
                .map(|Sample { labels, value }| wire::Sample { labels: labels.into_iter().collect(), value })
                .collect(),
            error: String::new(),
        },
        Err(error) => MetricsResult { samples: Vec::new(), error: error.to_string() },
    };
    _ = reply.say(Answer::Metrics(result)).await;
}

async fn read_logs(link: &Link, query: wire::LogsQuery, reply: Reply) {
    let wire::LogsQuery { namespace, name, kind, container, tail_lines, follow, run } = query;
    let pod = match kind.as_str() {
        "Pod" => true,
        "Job" | "" => false,
        other => return reply.error(format!("kind: {other:?} has no logs; Job or Pod is expected")).await,
    };
    let request = logs::Request { namespace, name, pod, container, tail_lines, follow, run };
    let (chunks, mut received) = mpsc::channel(CHUNKS);
    let cluster = link.reconciler.cluster.clone();
    let reading = tokio::time::timeout(LONGEST_FOLLOW, logs::read(&cluster, &request, chunks));
    let sending = async {
        while let Some(logs::Chunk { pod, container, lines }) = received.recv().await {
            if !reply.say(Answer::Logs(LogChunk { pod, container, lines, end: false })).await {
                return;
            }
        }
    };
    let (outcome, ()) = tokio::join!(reading, sending);
    match outcome {
        Ok(Err(error)) => reply.error(error.to_string()).await,
        Ok(Ok(())) | Err(_) => _ = reply.say(Answer::Logs(LogChunk { end: true, ..LogChunk::default() })).await,
    }
}

async fn try_out(link: &Link, dry_run: wire::DryRun, reply: Reply) {
    let mut refusals = Vec::with_capacity(dry_run.manifests.len());
    for manifest in &dry_run.manifests {
        refusals.push(try_one(link, manifest).await.err().unwrap_or_default());
    }
    _ = reply.say(Answer::DryRun(DryRunResult { refusals })).await;
}

async fn try_one(link: &Link, manifest: &str) -> Result<(), String> {
    let cluster = &link.reconciler.cluster;
    for document in parse_documents(manifest).map_err(|error| error.to_string())? {
        let mut value: Value = document.value;
        let info = cluster.kind(text(&value, "/apiVersion"), text(&value, "/kind")).await.map_err(|error| error.to_string())?;
        if info.namespaced {
            let namespace = text(&value, "/metadata/namespace").to_owned();
            let known =
                ObjectRef { group: String::new(), kind: "Namespace".into(), namespace: String::new(), name: namespace.clone() };
            // A namespace that the agent would make itself must not be the reason: its objects are tried in another.
            let there = !namespace.is_empty() && matches!(cluster.get("v1", &known).await, Ok(Some(_)));
            value["metadata"]["namespace"] = json!(if there { namespace.as_str() } else { "default" });
        }
        let write = Write { manager: "muster-rollout", force: true, dry_run: true };
        cluster.apply(&value, write).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
