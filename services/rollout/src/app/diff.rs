//! What a commit would change at each target, and what is missing there, before anything is released.

use super::{App, release};
use crate::domain::diff::{self, Difference};
use crate::domain::traffic::{Stable, Wanted, compose, steps};
use crate::store::{application, cluster, desired, target};
use muster_core::name::ApplicationName;
use muster_kit::{Caller, Error, Result, Role, error::parse_name};
use serde_json::Value;

/// What would change at one target.
#[derive(Debug, Clone, Default)]
pub struct TargetDiff {
    /// The cluster.
    pub cluster: String,
    /// What would appear, change and go.
    pub difference: Difference,
    /// What is missing there, one line each.
    pub missing: Vec<String>,
    /// Why it cannot be composed; empty if it can.
    pub problem: String,
}

/// What a commit (empty: the current one) would change. Stores nothing.
pub async fn of(app: &App, caller: &Caller, name: &str, commit: &str) -> Result<(String, Vec<TargetDiff>)> {
    caller.require(Role::Viewer)?;
    let parsed: ApplicationName = parse_name("application", name)?;
    application::get(&app.pool, &parsed).await?.ok_or_else(|| Error::not_found(&parsed))?;
    let prepared = release::prepare(app, parsed.clone(), "commit", commit).await?;
    let spec = prepared.spec();
    let clusters = cluster::all(&app.pool).await?;
    let mut connection = app.pool.acquire().await?;
    let rows = target::of(&mut connection, &parsed).await?;
    let items = desired::items(&mut connection, &desired::item_of(&parsed)).await?;
    let mut diffs = Vec::new();
    for (name, rendered) in &prepared.rendering().targets {
        let row = rows.get(name).cloned().unwrap_or_default();
        let before = match items.get(name).filter(|item| !item.wish.tombstone) {
            Some(item) => desired::bundle(&mut connection, &item.wish.bundle_digest).await?,
            None => Vec::new(),
        };
        let stable = match &row.last_good_digest {
            Some(digest) => desired::bundle(&mut connection, digest).await?,
            None => Vec::new(),
        };
        let mut wanted = Wanted {
            rendered: &rendered.objects,
            traffic: spec.rollout.traffic.as_ref(),
            stable: row.last_good_digest.as_ref().map(|_| Stable { rendered: &stable, subsets: &row.last_good_subsets }),
            weight: 100,
        };
        let mut shown = TargetDiff { cluster: name.clone(), ..TargetDiff::default() };
        let composed = steps(wanted, &[]).and_then(|steps| {
            wanted.weight = steps.first().copied().unwrap_or(100);
            compose(wanted)
        });
        match composed {
            Err(error) => shown.problem = error.to_string(),
            Ok(composed) => {
                shown.difference = diff::difference(&before, &composed.objects);
                let added: Vec<&Value> =
                    composed.objects.iter().filter(|object| shown.difference.added.contains(&diff::title(object))).collect();
                shown.missing = clusters.get(name).map(|cluster| cluster.missing(&added)).unwrap_or_default();
                shown.missing.extend(refusals(app, name, &composed.objects).await);
            }
        }
        diffs.push(shown);
    }
    Ok((prepared.commit().to_owned(), diffs))
}

/// What the cluster's own API server says; a cluster that is away says nothing.
async fn refusals(app: &App, cluster: &str, objects: &[Value]) -> Vec<String> {
    let Ok(answers) = app.registry.dry_run(cluster, objects).await else { return Vec::new() };
    let refused = objects.iter().zip(answers).filter(|(_, answer)| !answer.is_empty());
    refused.map(|(object, answer)| format!("{}: {answer}", diff::title(object))).collect()
}
