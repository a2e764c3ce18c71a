//! What the simulated cluster is held to is what Kubernetes does: the same cases, unchanged, against a real API server.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use muster_simcluster::contract;

use crate::parts;

/// Cases at once; a real API server limits the requests in flight.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_against_a_real_api_server() -> Result<()> {
    // A second client finds the choice made.
    rustls::crypto::ring::default_provider().install_default().ok();
    let clusters = parts::clusters()?;
    let folder = clusters.last().context("no cluster was started")?;
    let kubeconfig = Kubeconfig::read_from(folder.join("kubeconfig"))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let results: Vec<(&str, Result<()>)> = futures::stream::iter(contract::cases())
        .map(|case| {
            let client = client.clone();
            async move { (case.name, (case.run)(client).await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let failed: Vec<String> =
        results.iter().filter_map(|(name, result)| result.as_ref().err().map(|error| format!("{name}: {error:#}"))).collect();
    ensure!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), results.len(), failed.join("\n"));
    Ok(())
}
