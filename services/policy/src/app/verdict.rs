//! What the policies say of manifests. Stores nothing.

use super::App;
use crate::domain::Catalog;
use muster_core::{manifest::parse_documents, name::ClusterName};
use muster_kit::{
    Caller, Error, Result, Role,
    error::{manifest_error, parse_name},
};
use muster_proto::policy::v1 as wire;
use serde_json::Value;

/// Manifests of a request together.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Manifests of a request.
const MAX_MANIFESTS: usize = 2_000;
/// Clusters of a request.
const MAX_CLUSTERS: usize = 10_000;

/// Judges manifests that may go to some clusters.
pub async fn evaluate(app: &App, caller: &Caller, request: wire::EvaluateRequest) -> Result<wire::EvaluateResponse> {
    caller.require(Role::Viewer)?;
    let question = Question::read(&request)?;
    let catalog = app.catalog().await?;
    // Judging a large bundle takes longer than an answer to others may wait.
    tokio::task::spawn_blocking(move || question.answer(&catalog)).await.map_err(Error::internal)
}

/// A request, read and checked.
#[derive(Debug)]
pub struct Question {
    manifests: Vec<Value>,
    /// Of each manifest the index of the text it stands in.
    origins: Vec<usize>,
    clusters: Vec<String>,
    namespace: String,
}

impl Question {
    /// Reads a request; what is wrong is named by its field.
    pub fn read(request: &wire::EvaluateRequest) -> Result<Self> {
        let wire::EvaluateRequest { manifests, clusters, namespace } = request;
        let (manifests, origins) = read(manifests)?;
        if clusters.len() > MAX_CLUSTERS {
            return Err(Error::invalid("clusters", format!("more than {MAX_CLUSTERS}")));
        }
        let mut names = Vec::with_capacity(clusters.len());
        for (index, cluster) in clusters.iter().enumerate() {
            let name: ClusterName = parse_name(&format!("clusters[{index}]"), cluster)?;
            names.push(name.cluster().to_owned());
        }
        if !namespace.is_empty() {
            muster_core::name::check_id(namespace).map_err(|error| Error::invalid("namespace", error.to_string()))?;
        }
        Ok(Self { manifests, origins, clusters: names, namespace: namespace.clone() })
    }

    /// What the catalog says. Takes as long as its policies and the manifests do.
    pub fn answer(self, catalog: &Catalog) -> wire::EvaluateResponse {
        let Self { manifests, origins, clusters, namespace } = self;
        let mut verdict = catalog.evaluate(manifests, &clusters, &namespace);
        for broken in &mut verdict.broken {
            broken.manifest = origins.get(broken.manifest).copied().unwrap_or_default();
        }
        wire::EvaluateResponse {
            policy_revision: catalog.revision.to_string(),
            allowed: verdict.is_allowed(),
            violations: verdict.broken.into_iter().map(Into::into).collect(),
            warnings: verdict.warnings,
        }
    }
}

/// The documents, and of each the index of the text it stands in.
fn read(manifests: &[String]) -> Result<(Vec<Value>, Vec<usize>)> {
    if manifests.len() > MAX_MANIFESTS {
        return Err(Error::invalid("manifests", format!("more than {MAX_MANIFESTS}")));
    }
    if manifests.iter().map(String::len).sum::<usize>() > MAX_BYTES {
        return Err(Error::invalid("manifests", format!("larger than {MAX_BYTES} bytes together")));
    }
    let (mut values, mut origins) = (Vec::new(), Vec::new());
    for (index, text) in manifests.iter().enumerate() {
        let documents = parse_documents(text).map_err(|error| manifest_error(&format!("manifests[{index}]"), &error))?;
        for document in documents {
            values.push(document.value);
            origins.push(index);
        }
    }
    Ok((values, origins))
}
