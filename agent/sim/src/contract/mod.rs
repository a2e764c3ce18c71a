//! What a Kubernetes API does, as a list of cases that run against any API server through an ordinary client: the
//! simulated one in this crate's tests, a real one elsewhere. A case makes what it needs in namespaces of its own.
//!
//! Nothing here may depend on running pods: a real server under test may have no nodes.

mod apply;
mod definitions;
mod discovery;
mod lifecycle;
mod lists;
mod objects;
mod patches;
mod refusals;
mod watches;
mod workloads;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, future::BoxFuture};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// What holds, as a sentence.
    pub name: &'static str,
    /// Checks it; the error says what was found instead.
    pub run: fn(Client) -> BoxFuture<'static, Result<()>>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Names functions as cases.
macro_rules! list_cases {
    ($($function:ident),* $(,)?) => {
        /// The cases of this file.
        pub fn cases() -> Vec<crate::contract::Case> {
            vec![$(crate::contract::Case { name: stringify!($function), run: |client| Box::pin($function(client)) }),*]
        }
    };
}
pub(crate) use list_cases;

/// Every case.
pub fn cases() -> Vec<Case> {
    [
        discovery::cases(),
        objects::cases(),
        lists::cases(),
        watches::cases(),
        refusals::cases(),
        patches::cases(),
        apply::cases(),
        lifecycle::cases(),
        definitions::cases(),
        workloads::cases(),
    ]
    .concat()
}

/// How long a condition may take to come true: a real cluster ends a namespace only after it has looked for objects of every
/// kind in it; on a busy machine that takes minutes.
const PATIENCE: Duration = Duration::from_secs(240);

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Reply {
    /// The body of an answer with this code; otherwise an error that shows it.
    pub fn expect(self, code: u16) -> Result<Value> {
        ensure!(self.code == code, "expected {code}, got {}: {}", self.code, self.body);
        Ok(self.body)
    }

    /// The `Status` of a refusal with this code and reason.
    pub fn refused(self, code: u16, reason: &str) -> Result<Value> {
        let body = self.expect(code)?;
        ensure!(body["kind"] == "Status" && body["status"] == "Failure" && body["code"] == code, "not a Status: {body}");
        ensure!(body["reason"] == reason, "expected the reason {reason}: {body}");
        Ok(body)
    }
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

/// One request.
pub(crate) async fn call(client: &Client, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Reply> {
    let request = Request::builder().method(method).uri(path).header("user-agent", "contract/1");
    let request = match body {
        Some((media_type, body)) => request.header("content-type", media_type).body(body.to_string().into_bytes()),
        None => request.body(Vec::new()),
    }?;
    let response = client.send(request.map(kube::client::Body::from)).await?;
    let code = response.status().as_u16();
    let warnings =
        response.headers().get_all("warning").iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
    let bytes = response.into_body().collect().await?.to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Ok(Reply { code, body, warnings })
}

pub(crate) async fn get(client: &Client, path: &str) -> Result<Reply> {
    call(client, Method::GET, path, None).await
}

pub(crate) async fn post(client: &Client, path: &str, body: &Value) -> Result<Reply> {
    call(client, Method::POST, path, Some((JSON, body))).await
}

pub(crate) async fn put(client: &Client, path: &str, body: &Value) -> Result<Reply> {
    call(client, Method::PUT, path, Some((JSON, body))).await
}

pub(crate) async fn patch(client: &Client, path: &str, media_type: &str, body: &Value) -> Result<Reply> {
    call(client, Method::PATCH, path, Some((media_type, body))).await
}

/// Deletes with options, or with the defaults.
pub(crate) async fn delete(client: &Client, path: &str, options: Option<Value>) -> Result<Reply> {
    call(client, Method::DELETE, path, options.as_ref().map(|options| (JSON, options))).await
}

/// Applies as a manager; `query` may add `&force=true`.
pub(crate) async fn apply(client: &Client, path: &str, manager: &str, query: &str, config: &Value) -> Result<Reply> {
    patch(client, &format!("{path}?fieldManager={manager}{query}"), APPLY, config).await
}

/// Waits until `probe` answers something.
pub(crate) async fn eventually<T, F>(what: &str, mut probe: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await.with_context(|| format!("waiting for {what}"))? {
            return Ok(found);
        }
        if started.elapsed() > PATIENCE {
            bail!("{what} did not come true in {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a path answers 404.
pub(crate) async fn gone(client: &Client, path: &str) -> Result<()> {
    eventually(&format!("the removal of {path}"), || async { Ok((get(client, path).await?.code == 404).then_some(())) }).await
}

/// A namespace of a case's own. It stays, with `contract-` before its name: a real cluster that ended dozens of namespaces, looking for
/// objects of every kind in each, would have no time for the cases.
pub(crate) struct Scratch {
    pub client: Client,
    pub namespace: String,
}

impl Scratch {
    /// Makes one.
    pub async fn new(client: &Client) -> Result<Self> {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "contract-"}});
        let made = post(client, "/api/v1/namespaces", &body).await?.expect(201)?;
        let namespace = made["metadata"]["name"].as_str().context("a namespace without a name")?.to_owned();
        Ok(Self { client: client.clone(), namespace })
    }

    /// A path in it of a built-in group: `path("v1", "configmaps/a")`, `path("apps/v1", "deployments")`.
    pub fn path(&self, api_version: &str, rest: &str) -> String {
        let root = if api_version.contains('/') { "/apis" } else { "/api" };
        format!("{root}/{api_version}/namespaces/{}/{rest}", self.namespace)
    }

    /// A ConfigMap with one datum, created.
    pub async fn config_map(&self, name: &str, value: &str) -> Result<Value> {
        post(&self.client, &self.path("v1", "configmaps"), &config_map(name, value)).await?.expect(201)
    }
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

/// A Deployment of no replicas, so that no pods come of it.
pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "registry.example.com/main:v1"}]},
            },
        },
    })
}

/// The entry of a manager in `managedFields`.
pub(crate) fn owner<'a>(object: &'a Value, manager: &str, operation: &str) -> Result<&'a Value> {
    let entries = object["metadata"]["managedFields"].as_array().context("no managedFields")?;
    entries
        .iter()
        .find(|entry| entry["manager"] == manager && entry["operation"] == operation)
        .with_context(|| format!("no entry of {manager} with {operation} in {}", object["metadata"]["managedFields"]))
}

pub(crate) fn version(object: &Value) -> Result<&str> {
    object["metadata"]["resourceVersion"].as_str().context("no resourceVersion")
}

/// The events of a watch until `enough` holds of them, or the stream ends.
pub(crate) async fn events(client: &Client, path: &str, enough: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let request = Request::get(path).body(kube::client::Body::empty())?;
    let response = client.send(request).await?;
    ensure!(response.status() == 200, "a watch answered {}", response.status());
    let mut stream = response.into_body().into_data_stream();
    let (mut bytes, mut found) = (Vec::new(), Vec::new());
    let read = async {
        while !enough(&found) {
            let Some(piece) = stream.next().await else { break };
            bytes.extend_from_slice(&piece?);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                found.push(serde_json::from_slice(&line)?);
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(PATIENCE, read).await.context("a watch did not say what was expected")??;
    Ok(found)
}
