//! A member cluster's Kubernetes API, as kubectl uses it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Method};
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

    /// The server that a kubeconfig in JSON names, with the rights of the token in it.
    ///
    /// # Errors
    /// The file can't be read, or does not have what is needed.
    pub fn of_kubeconfig(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let config: Value = serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
        let field = |pointer: &str| {
            let value = config.pointer(pointer).and_then(Value::as_str);
            value.with_context(|| format!("{}: no {pointer}", file.display()))
        };
        let authority = field("/clusters/0/cluster/certificate-authority")?;
        let authority = std::fs::read(authority).with_context(|| format!("read {authority}"))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", field("/users/0/user/token")?))?;
        bearer.set_sensitive(true);
        // A second client finds the choice made.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = Client::builder()
            .tls_certs_only([Certificate::from_pem(&authority)?])
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .build()?;
        Ok(Self { http, ..Self::new(field("/clusters/0/cluster/server")?) })
    }

    /// The code that a path is answered with, as in `/readyz`.
    ///
    /// # Errors
    /// The server can't be reached.
    pub async fn code(&self, path: &str) -> Result<u16> {
        Ok(self.call(Method::GET, path, None, None).await?.0)
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
        self.change(Method::POST, path, "application/json", Some(serde_json::to_vec(object)?)).await
    }

    /// Creates an object from its YAML.
    ///
    /// # Errors
    /// The server can't be reached or refuses it.
    pub async fn create_from_yaml(&self, path: &str, yaml: &str) -> Result<Value> {
        self.change(Method::POST, path, "application/yaml", Some(yaml.as_bytes().to_vec())).await
    }

    /// Changes an object by a JSON merge patch, as somebody with `kubectl edit` would.
    ///
    /// # Errors
    /// The server can't be reached or refuses it.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.change(Method::PATCH, path, "application/merge-patch+json", Some(serde_json::to_vec(patch)?)).await
    }

    /// Applies an object's fields as a manager of its own, as a controller does (server-side apply, without force).
    ///
    /// # Errors
    /// The server can't be reached or refuses it.
    pub async fn apply(&self, path: &str, manager: &str, fields: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager={manager}");
        self.change(Method::PATCH, &path, "application/apply-patch+yaml", Some(serde_json::to_vec(fields)?)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The server can't be reached or refuses it.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.change(Method::DELETE, path, "application/json", None).await
    }

    async fn change(&self, method: Method, path: &str, content_type: &'static str, body: Option<Vec<u8>>) -> Result<Value> {
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
        body: Option<Vec<u8>>,
    ) -> Result<(u16, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).header("user-agent", "kubectl");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(body) = body {
            request = request.body(body);
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
