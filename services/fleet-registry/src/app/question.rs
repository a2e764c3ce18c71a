//! Questions to a cluster through its agent's link: metrics, logs, dry runs.
//!
//! The question is a row; the replica that holds the agent's stream sends it and stores the answer's parts.

use super::App;
use crate::{
    domain::State,
    store::{cluster, question},
};
use muster_core::name::ClusterName;
use muster_kit::{Caller, Error, Result, Role, error::parse_name};
use muster_proto::{
    agent::v1::{self as link, HubAnswer, HubRequest, hub_answer::Answer, hub_request::Request},
    registry::v1 as wire,
};
use prost::Message;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

/// How often an answer is looked for.
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for the first part of an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A PromQL text, at most.
const MAX_QUERY_BYTES: usize = 16 * 1024;
/// Manifests of a dry run, at most.
const MAX_DRY_RUN_BYTES: usize = 1024 * 1024;

/// A question that was put; forgotten when it is dropped.
struct Asked {
    app: App,
    id: Uuid,
    cluster: String,
    seen: i64,
}

async fn ask(app: &App, cluster: &str, request: Request) -> Result<Asked> {
    let name: ClusterName = parse_name("cluster", cluster)?;
    let asked = cluster::get(&app.pool, name.cluster()).await?;
    match asked.state {
        State::Live | State::Joining | State::Suspect => {}
        State::NotEnrolled | State::Lost | State::Leaving | State::Left => {
            return Err(Error::unavailable("CLUSTER_AWAY", format!("{} is away: {}", asked.resource(), asked.reason)));
        }
    }
    let id = Uuid::new_v4();
    let request = HubRequest { request_id: id.to_string(), request: Some(request) };
    question::ask(&app.pool, id, asked.id, &request.encode_to_vec()).await?;
    app.send.now();
    Ok(Asked { app: app.clone(), id, cluster: asked.resource(), seen: 0 })
}

impl Asked {
    /// The next parts; empty when `patience` is over.
    async fn next(&mut self, patience: Duration) -> Result<Vec<Answer>> {
        let began = Instant::now();
        while began.elapsed() < patience {
            let parts = question::answers(&self.app.pool, self.id, self.seen).await?;
            if parts.is_empty() {
                tokio::time::sleep(POLL).await;
                continue;
            }
            let mut answers = Vec::new();
            for (sequence, part) in parts {
                self.seen = sequence;
                let part = HubAnswer::decode(part.as_slice()).map_err(Error::internal)?;
                match part.answer {
                    Some(Answer::Error(error)) => {
                        return Err(Error::precondition("AGENT_FAILED", format!("{}: {error}", self.cluster)));
                    }
                    Some(answer) => answers.push(answer),
                    None => {}
                }
            }
            return Ok(answers);
        }
        Ok(vec![])
    }

    async fn first(&mut self) -> Result<Answer> {
        let silent = || Error::unavailable("AGENT_SILENT", format!("{}: its agent does not answer", self.cluster));
        let silent = silent();
        self.next(PATIENCE).await?.into_iter().next().ok_or(silent)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let (pool, id) = (self.app.pool.clone(), self.id);
        tokio::spawn(async move {
            if let Err(error) = question::forget(&pool, id).await {
                tracing::debug!(error = %error, "a question was not forgotten; the hourly sweep does it");
            }
        });
    }
}

fn unexpected() -> Error {
    Error::internal(anyhow::anyhow!("an agent answered something else than was asked"))
}

/// A PromQL instant query.
pub async fn query_metrics(app: &App, caller: &Caller, request: wire::QueryMetricsRequest) -> Result<link::MetricsResult> {
    caller.require(Role::Viewer)?;
    if request.query.is_empty() || request.query.len() > MAX_QUERY_BYTES {
        return Err(Error::invalid("query", format!("must be 1 to {MAX_QUERY_BYTES} bytes of PromQL")));
    }
    let query = link::MetricsQuery { query: request.query, time: request.time };
    match ask(app, &request.cluster, Request::Metrics(query)).await?.first().await? {
        Answer::Metrics(result) => Ok(result),
        Answer::Logs(_) | Answer::DryRun(_) | Answer::Error(_) => Err(unexpected()),
    }
}

/// A server-side dry run.
pub async fn dry_run(app: &App, caller: &Caller, request: wire::DryRunRequest) -> Result<link::DryRunResult> {
    caller.require(Role::Operator)?;
    if request.manifests.iter().map(String::len).sum::<usize>() > MAX_DRY_RUN_BYTES {
        return Err(Error::invalid("manifests", format!("more than {MAX_DRY_RUN_BYTES} bytes")));
    }
    let question = link::DryRun { manifests: request.manifests };
    match ask(app, &request.cluster, Request::DryRun(question)).await?.first().await? {
        Answer::DryRun(result) => Ok(result),
        Answer::Logs(_) | Answer::Metrics(_) | Answer::Error(_) => Err(unexpected()),
    }
}

/// Log lines; with `follow` until the caller hangs up.
pub async fn read_logs(
    app: &App,
    caller: &Caller,
    request: wire::ReadLogsRequest,
) -> Result<ReceiverStream<std::result::Result<link::LogChunk, tonic::Status>>> {
    caller.require(Role::Viewer)?;
    let query = request.query.ok_or_else(|| Error::invalid("query", "is missing"))?;
    if query.name.is_empty() && query.run.is_empty() {
        return Err(Error::invalid("query.name", "must not be empty"));
    }
    let follow = query.follow;
    let mut asked = ask(app, &request.cluster, Request::Logs(query)).await?;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let parts = tokio::select! {
                () = sender.closed() => return,
                parts = asked.next(PATIENCE) => parts,
            };
            let parts = match parts {
                Ok(parts) if parts.is_empty() && !follow => {
                    Err(Error::unavailable("AGENT_SILENT", format!("{}: its agent does not answer", asked.cluster)))
                }
                other => other,
            };
            let parts = match parts {
                Ok(parts) => parts,
                Err(error) => {
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
            };
            for part in parts {
                let Answer::Logs(chunk) = part else { continue };
                let end = chunk.end;
                if sender.send(Ok(chunk)).await.is_err() || end {
                    return;
                }
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}
