//! Desired state in, observed state out.

use super::App;
use crate::{
    convert,
    domain::owner,
    events,
    store::{
        bundle,
        desired::{self, NewItem, Stamp},
        observation, verdict,
    },
};
use async_trait::async_trait;
use muster_core::{Digest, name::ClusterName, page::Page};
use muster_kit::{
    Caller, Error, Result, Tx, db,
    error::parse_name,
    event::{self, Cursor, Event},
    incarnation,
    watch::{self, Change, WatchStream, Watched},
};
use muster_proto::{
    agent::v1::{Bundle, DesiredItem},
    registry::v1::{self as wire, cluster_change_result::Outcome},
};
use serde_json::Value;
use sqlx::PgPool;
use std::collections::BTreeSet;

/// Clusters of one call, items of one cluster, bundles of one call: at most.
const MAX_CHANGES: usize = 1_000;
/// Of an item's name.
const MAX_NAME: usize = 253;
/// Items an item may wait for.
const MAX_AFTER: usize = 16;

pub(super) fn owned_by(caller: &Caller, owner: &str) -> Result<()> {
    let service = caller.service()?;
    if owner::of_service(service) == Some(owner) {
        return Ok(());
    }
    Err(Error::denied(format!("owner: {service} is not {owner:?}")))
}

/// Stores bundles by digest.
pub async fn put_bundles(app: &App, caller: &Caller, request: wire::PutBundlesRequest) -> Result<wire::PutBundlesResponse> {
    caller.service()?;
    let bundles = checked(request.bundles)?;
    let mut tx = db::begin(&app.pool).await?;
    // The commit of the item that names one makes it durable.
    db::commit_lazily(&mut tx).await?;
    bundle::put(&mut tx, &bundles).await?;
    tx.commit().await?;
    Ok(wire::PutBundlesResponse {})
}

/// Bundles as (digest, content). Checked once here, so that no agent is ever told to fetch what it must refuse.
fn checked(bundles: Vec<Bundle>) -> Result<Vec<(String, Vec<u8>)>> {
    if bundles.len() > MAX_CHANGES {
        return Err(Error::invalid("bundles", format!("more than {MAX_CHANGES}")));
    }
    let check = |(index, bundle): (usize, Bundle)| {
        let field = format!("bundles[{index}].digest");
        let digest: Digest = bundle.digest.parse().map_err(|error| Error::invalid(&field, format!("{error}")))?;
        muster_core::bundle::check(&digest, &bundle.content).map_err(|error| Error::invalid(&field, error.to_string()))?;
        Ok((bundle.digest, bundle.content))
    };
    bundles.into_iter().enumerate().map(check).collect()
}

/// One bundle.
pub async fn get_bundle(app: &App, caller: &Caller, request: wire::GetBundleRequest) -> Result<Bundle> {
    caller.service()?;
    let content = bundle::content(&app.pool, &request.digest).await?;
    Ok(Bundle { digest: request.digest, content })
}

/// A bundle for an agent: only one that its own desired state names.
pub async fn fetch_bundle(app: &App, caller: &Caller, digest: String) -> Result<Bundle> {
    let (cluster, _) = caller.cluster()?;
    if !bundle::is_named(&app.pool, cluster, &digest).await? {
        return Err(Error::not_found(format_args!("the bundle {digest}")));
    }
    let content = bundle::content(&app.pool, &digest).await?;
    Ok(Bundle { digest, content })
}

/// Changes what clusters should hold; atomic per cluster.
pub async fn apply(app: &App, caller: &Caller, request: wire::ApplyDesiredRequest) -> Result<wire::ApplyDesiredResponse> {
    owned_by(caller, &request.owner)?;
    if request.changes.len() > MAX_CHANGES {
        return Err(Error::invalid("changes", format!("more than {MAX_CHANGES}")));
    }
    for (index, change) in request.changes.iter().enumerate() {
        check(index, change)?;
    }
    let bundles = checked(request.bundles)?;
    // One transaction for the batch, a savepoint is not needed: a stale change writes nothing.
    let mut tx = db::begin(&app.pool).await?;
    desired::check_epoch(&mut tx, &request.owner, request.leader_epoch.cast_signed()).await?;
    let incarnation = incarnation::current(&mut tx).await?;
    bundle::put(&mut tx, &bundles).await?;
    let results = apply_all(&mut tx, &request.owner, incarnation, &request.changes).await?;
    tx.commit().await?;
    app.send.now();
    Ok(wire::ApplyDesiredResponse { results })
}

fn check(index: usize, change: &wire::ClusterChange) -> Result<()> {
    let field = |name: &str| format!("changes[{index}].{name}");
    let _: ClusterName = parse_name(&field("cluster"), &change.cluster)?;
    if change.generation <= change.base_generation || change.generation > i64::MAX.cast_unsigned() {
        return Err(Error::invalid(field("generation"), "must be greater than base_generation"));
    }
    if change.upserts.len() > MAX_CHANGES || change.deletes.len() > MAX_CHANGES {
        return Err(Error::invalid(field("upserts"), format!("more than {MAX_CHANGES} items")));
    }
    let mut names = BTreeSet::new();
    for (number, item) in change.upserts.iter().enumerate() {
        let at = |name: &str| format!("changes[{index}].upserts[{number}].{name}");
        if item.name.is_empty() || item.name.len() > MAX_NAME {
            return Err(Error::invalid(at("name"), format!("must be 1 to {MAX_NAME} characters")));
        }
        if !names.insert(&item.name) {
            return Err(Error::invalid(at("name"), format!("{} is there twice", item.name)));
        }
        if item.tombstone {
            return Err(Error::invalid(at("tombstone"), "what is to go stands in deletes"));
        }
        if item.after.len() > MAX_AFTER {
            return Err(Error::invalid(at("after"), format!("more than {MAX_AFTER}")));
        }
        let _: Digest = item.bundle_digest.parse().map_err(|error| Error::invalid(at("bundle_digest"), format!("{error}")))?;
    }
    Ok(())
}

/// Applies changes, and answers each. Those of different clusters are written by the same statements; a second one of a cluster
/// comes after the first.
async fn apply_all(
    tx: &mut Tx,
    owner: &str,
    incarnation: u64,
    changes: &[wire::ClusterChange],
) -> Result<Vec<wire::ClusterChangeResult>> {
    let mut results: Vec<Option<wire::ClusterChangeResult>> = vec![None; changes.len()];
    let mut rest: Vec<usize> = (0..changes.len()).collect();
    while !rest.is_empty() {
        let mut clusters = BTreeSet::new();
        let (now, later): (Vec<usize>, Vec<usize>) =
            rest.into_iter().partition(|index| clusters.insert(changes[*index].cluster.as_str()));
        apply_to_each(tx, owner, incarnation, changes, &now, &mut results).await?;
        rest = later;
    }
    Ok(results.into_iter().flatten().collect())
}

/// Applies those of the changes that these indexes name, each of another cluster.
async fn apply_to_each(
    tx: &mut Tx,
    owner: &str,
    incarnation: u64,
    changes: &[wire::ClusterChange],
    indexes: &[usize],
    results: &mut [Option<wire::ClusterChangeResult>],
) -> Result<()> {
    let name = |index: usize| parse_name::<ClusterName>(&format!("changes[{index}].cluster"), &changes[index].cluster);
    let names: Vec<String> = indexes.iter().map(|index| Ok(name(*index)?.cluster().to_owned())).collect::<Result<_>>()?;
    let receivers = desired::lock_receivers(tx, &names, owner).await?;
    let mut taken: Vec<(&wire::ClusterChange, i64)> = Vec::new();
    for (index, name) in indexes.iter().zip(&names) {
        let change = &changes[*index];
        let generation = change.generation.cast_signed();
        let (outcome, current) = match receivers.get(name) {
            None => (Outcome::UnknownCluster, 0),
            Some(known) if known.generation == generation && known.content_digest == change.content_digest => {
                (Outcome::Repeated, generation)
            }
            Some(known) if known.generation != change.base_generation.cast_signed() => (Outcome::Stale, known.generation),
            Some(known) => {
                taken.push((change, known.cluster_id));
                (Outcome::Applied, generation)
            }
        };
        results[*index] = Some(wire::ClusterChangeResult {
            cluster: change.cluster.clone(),
            outcome: outcome.into(),
            current_generation: current.cast_unsigned(),
            incarnation,
        });
    }
    write(tx, owner, incarnation, &taken).await
}

/// Writes changes of clusters, by row, that are to be applied.
async fn write(tx: &mut Tx, owner: &str, incarnation: u64, taken: &[(&wire::ClusterChange, i64)]) -> Result<()> {
    let rows: Vec<i64> = taken.iter().map(|(_, row)| *row).collect();
    let sequences = desired::next_sequences(tx, &rows).await?;
    let (mut items, mut gone, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for (change, cluster_id) in taken {
        let generation = change.generation.cast_signed();
        let sequence = sequences.get(cluster_id).copied().unwrap_or_default();
        let stamp = Stamp { cluster_id: *cluster_id, generation, sequence };
        for item in &change.upserts {
            items.push(NewItem { stamp, name: &item.name, bundle_digest: &item.bundle_digest, options: options(item)? });
        }
        let mut buried: BTreeSet<String> = change.deletes.iter().cloned().collect();
        if change.full {
            let kept: BTreeSet<&String> = change.upserts.iter().map(|item| &item.name).collect();
            let held = desired::names(tx, *cluster_id, owner).await?;
            buried.extend(held.into_iter().filter(|name| !kept.contains(name)));
        }
        gone.extend(buried.into_iter().map(|name| (stamp, name)));
        owners.push((*cluster_id, generation, change.content_digest.as_str()));
    }
    desired::put_items(tx, owner, incarnation.cast_signed(), &items).await?;
    desired::bury(tx, owner, incarnation.cast_signed(), &gone).await?;
    desired::set_owners(tx, owner, &owners).await
}

/// The rest of an item: what the registry decides itself is kept in columns.
fn options(item: &DesiredItem) -> Result<Value> {
    let rest = DesiredItem {
        owner: String::new(),
        name: String::new(),
        generation: None,
        bundle_digest: String::new(),
        tombstone: false,
        ..item.clone()
    };
    serde_json::to_value(rest).map_err(Error::internal)
}

/// What an owner's desired state is.
pub async fn list(app: &App, caller: &Caller, request: wire::ListDesiredRequest) -> Result<wire::ListDesiredResponse> {
    owned_by(caller, &request.owner)?;
    let page = Page::parse(request.page_size, &request.page_token, &request.owner)?;
    let after = page.after.split_once('\n').unwrap_or(("", ""));
    let mut rows = desired::page(&app.pool, &request.owner, after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |(cluster, item)| format!("{cluster}\n{}", item.name));
    let items = rows
        .into_iter()
        .map(|(cluster, item)| Ok(wire::ClusterItem { cluster: format!("clusters/{cluster}"), item: Some(convert::item(item)?) }))
        .collect::<Result<_>>()?;
    let generations = desired::generations(&app.pool, &request.owner).await?;
    let generations = generations.into_iter().map(|(name, n)| (format!("clusters/{name}"), n.cast_unsigned())).collect();
    Ok(wire::ListDesiredResponse { items, next_page_token, generations })
}

/// Observations of an owner's items.
pub async fn watch(
    app: &App,
    caller: &Caller,
    request: wire::WatchObservedRequest,
) -> Result<WatchStream<wire::WatchObservedResponse>> {
    owned_by(caller, &request.owner)?;
    let infix = format!("/items/{}/", request.owner);
    let watched = Observed { pool: app.pool.clone(), owner: request.owner, infix };
    watch::start(&app.tail, &request.resume_token, watched).await
}

struct Observed {
    pool: PgPool,
    owner: String,
    infix: String,
}

#[async_trait]
impl Watched for Observed {
    type Resource = wire::WatchObservedResponse;
    type Response = wire::WatchObservedResponse;

    async fn list(&self) -> Result<(Vec<Self::Resource>, Cursor)> {
        let mut tx = db::begin(&self.pool).await?;
        sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
        let cursor = event::end(&mut tx).await?;
        let rows = observation::of_owner(&mut tx, &self.owner).await?;
        let observed = rows.into_iter().map(|(cluster, body)| {
            let observation = Some(serde_json::from_value(body).map_err(Error::internal)?);
            Ok(wire::WatchObservedResponse { cluster: format!("clusters/{cluster}"), observation, ..Default::default() })
        });
        let sets = verdict::of_owner(&mut tx, &self.owner, None).await?;
        let judged = sets.iter().map(|of| Ok(convert::judged(&of.cluster, convert::verdict_set(&self.owner, &of.name, &of.set))));
        let existing = observed.chain(judged).collect::<Result<_>>()?;
        Ok((existing, cursor))
    }

    fn wants(&self, event: &Event) -> bool {
        event.topic == events::TOPIC && event.aggregate.contains(&self.infix)
    }

    fn respond(&self, change: Change, resource: Option<Self::Resource>, resume_token: String) -> Self::Response {
        let mut response = resource.unwrap_or_default();
        response.resume_token = resume_token;
        response.synced = change == Change::Synced;
        response
    }
}
