//! A member cluster's Kubernetes API, as kubectl uses it.

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method};
use serde_json::Value;

/// One cluster's API server.
#[derive(Debug, Clone)]
pub struct ClusterApi {
    base: String,
    http: Client,
}

impl ClusterApi {
    /// `base` is the server's URL, as in a kubeconfig.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into().trim_end_matches('/').to_owned(), http: Client::new() }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// The object at a path such as `/apis/apps/v1/namespaces/ml/deployments/resnet50`; `None` where there is none.
    ///
    /// # Errors
    /// The server can't be reached or answers with an error.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.call(Method::GET, path, None, None).await? {
            (404, _) => Ok(None),
            (200, value) => Ok(Some(value)),
            (code, value) => bail!("GET {path}: {code} {}", message(&value)),
        }
    }

    /// The items of a collection; a kind that isn't served has none.
    ///
    /// # Errors
    /// The server can't be reached or answers with an error.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        Ok(match self.find(path).await? {
            Some(mut list) => match list.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => bail!("GET {path}: no items"),
            },
            None => Vec::new(),
        })
    }

    /// Creates an object in a collection.
    ///
    /// # Errors
    /// The server can't be reached or refuses it.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.change(Method::POST, path, "application/json", Some(object)).await
    }

    /// Changes an object by a JSON merge patch, as somebody with `kubectl edit` would.
    ///
    /// # Errors
    /// The server can't be reached or refuses it.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.change(Method::PATCH, path, "application/merge-patch+json", Some(patch)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The server can't be reached or refuses it.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.change(Method::DELETE, path, "application/json", None).await
    }

    async fn change(&self, method: Method, path: &str, content_type: &'static str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        match self.call(method, path, Some(content_type), body).await? {
            (200..=299, value) => Ok(value),
            (code, value) => bail!("{what}: {code} {}", message(&value)),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).header("user-agent", "kubectl");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(body) = body {
            request = request.body(serde_json::to_vec(body)?);
        }
        let response = request.send().await.with_context(|| format!("{}{path}", self.base))?;
        let code = response.status().as_u16();
        let bytes = response.bytes().await?;
        Ok((code, serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}

fn message(value: &Value) -> &str {
    value.get("message").and_then(Value::as_str).unwrap_or("")
}

/// Whether a Deployment has rolled out: all replicas of its newest template, ready.
pub fn is_rolled_out(deployment: &Value) -> bool {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    number("/status/observedGeneration") >= number("/metadata/generation")
        && number("/status/updatedReplicas").unwrap_or(0) == wanted
        && number("/status/readyReplicas").unwrap_or(0) == wanted
}
