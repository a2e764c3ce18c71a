//! What the policies say of manifests. Stores nothing.

use super::App;
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
    let wire::EvaluateRequest { manifests, clusters, namespace } = request;
    let (values, origins) = read(&manifests)?;
    if clusters.len() > MAX_CLUSTERS {
        return Err(Error::invalid("clusters", format!("more than {MAX_CLUSTERS}")));
    }
    let mut names = Vec::with_capacity(clusters.len());
    for (index, cluster) in clusters.iter().enumerate() {
        let name: ClusterName = parse_name(&format!("clusters[{index}]"), cluster)?;
        names.push(name.cluster().to_owned());
    }
    if !namespace.is_empty() {
        muster_core::name::check_id(&namespace).map_err(|error| Error::invalid("namespace", error.to_string()))?;
    }
    let catalog = app.catalog().await?;
    let revision = catalog.revision;
    // Judging a large bundle takes longer than an answer to others may wait.
    let judged = tokio::task::spawn_blocking(move || catalog.evaluate(&values, &names, &namespace)).await;
    let mut verdict = judged.map_err(Error::internal)?;
    for broken in &mut verdict.broken {
        broken.manifest = origins.get(broken.manifest).copied().unwrap_or_default();
    }
    Ok(wire::EvaluateResponse {
        policy_revision: revision.to_string(),
        allowed: verdict.is_allowed(),
        violations: verdict.broken.into_iter().map(Into::into).collect(),
        warnings: verdict.warnings,
    })
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
