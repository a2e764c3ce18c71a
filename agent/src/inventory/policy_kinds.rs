//! Which kinds policies are enforced by here. They come and go with Kyverno, so they are asked for again and again.

use futures::{Stream, stream};
use kube::Client;
use std::time::Duration;

/// Groups whose kinds count.
const GROUPS: [&str; 3] = ["admissionregistration.k8s.io", "kyverno.io", "policies.kyverno.io"];
/// Between two questions. Kyverno is installed once in a cluster's life.
const INTERVAL: Duration = Duration::from_secs(30);
/// After a question that was not answered.
const RETRY: Duration = Duration::from_secs(2);

/// Kinds as in `clusterpolicies.kyverno.io` with the versions served, the preferred first; in name order.
pub type PolicyKinds = Vec<(String, Vec<String>)>;

/// What the API server serves of them.
pub async fn policy_kinds(client: &Client) -> Result<PolicyKinds, kube::Error> {
    let mut kinds = PolicyKinds::new();
    for group in client.list_api_groups().await?.groups.into_iter().filter(|group| GROUPS.contains(&group.name.as_str())) {
        let preferred = group.preferred_version.map(|version| version.version);
        let mut versions: Vec<String> = group.versions.into_iter().map(|version| version.version).collect();
        versions.sort_by_key(|version| Some(version) != preferred.as_ref());
        for version in versions {
            let served = client.list_api_group_resources(&format!("{}/{version}", group.name)).await?;
            // A name with a slash is a subresource.
            for resource in served.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
                let name = format!("{}.{}", resource.name, group.name);
                match kinds.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, versions)) => versions.push(version.clone()),
                    None => kinds.push((name, vec![version.clone()])),
                }
            }
        }
    }
    kinds.sort();
    Ok(kinds)
}

/// What is served now, and again every so often.
pub fn served(client: Client) -> impl Stream<Item = PolicyKinds> {
    stream::unfold((client, Duration::ZERO), async |(client, mut wait)| {
        loop {
            tokio::time::sleep(wait).await;
            match policy_kinds(&client).await {
                Ok(kinds) => return Some((kinds, (client, INTERVAL))),
                Err(error) => tracing::debug!(error = %error, "the kinds of policies could not be listed"),
            }
            wait = RETRY;
        }
    })
}
