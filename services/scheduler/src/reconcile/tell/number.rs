//! Numbers what clusters are to be told: their changes become rows before anybody is called, all in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::bundle;
use muster_kit::{Error, Result, Tx};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::PgExecutor;

use crate::domain::desired::{Change, Item, MAX_ITEMS, queue_item, run_item};
use crate::domain::queue::{QueueDefinition, VOLCANO_API};
use crate::domain::record::run_resource;
use crate::store;
use crate::store::desired::change::Pending;
use crate::store::run::ToTell;

/// Clusters told in one pass; the registry takes as many in one call.
const CLUSTERS: i64 = 200;

/// The clusters that there is anything to tell, in name order.
///
/// # Errors
/// The database is away.
pub async fn clusters(executor: impl PgExecutor<'_>) -> Result<Vec<String>> {
    store::desired::to_tell(executor, CLUSTERS).await
}

/// The change of each of these clusters that there is anything to tell: the one that is pending, else a new one. `incarnation` is
/// the registry's, as far as is known. However many clusters there are, the statements are as many. They are locked in name order
/// here, unless they are by now.
///
/// # Errors
/// The database is away.
pub async fn changes(tx: &mut Tx, clusters: Vec<String>, incarnation: Option<u64>) -> Result<Vec<Pending>> {
    if clusters.is_empty() {
        return Ok(Vec::new());
    }
    let mut changes = store::desired::change::pending(tx, &clusters).await?;
    let waiting: BTreeSet<String> = changes.iter().map(|change| change.cluster.clone()).collect();
    let free: Vec<String> = clusters.into_iter().filter(|cluster| !waiting.contains(cluster)).collect();
    let locked = store::desired::lock(tx, &free).await?;
    let (whole, parts): (Vec<String>, Vec<String>) =
        free.into_iter().partition(|cluster| locked.get(cluster).is_some_and(|locked| locked.whole));
    let mut compared = untold(tx, &parts).await?;
    for cluster in whole {
        let all = everything(tx, &cluster).await?;
        compared.push((cluster, all));
    }
    let (mut numbered, mut more, mut done) = (Vec::new(), Vec::new(), Vec::new());
    for (cluster, compared) in compared {
        let Some(locked) = locked.get(&cluster) else { continue };
        let all = Change::between(&compared.told, &compared.wanted);
        let mut change = all.clone();
        // What is left is told next; a run that is told before its queue waits for it in the cluster.
        let cut = change.cut();
        if cut || compared.more {
            more.push(cluster.clone());
        }
        if locked.whole && !cut {
            store::desired::mark_whole(tx, &cluster).await?;
        } else if !locked.whole {
            let left = |name: &String| cut && all.touches(name) && !change.touches(name);
            done.extend(compared.runs.into_iter().filter(|(name, _)| !left(name)).map(|(_, run)| run));
        }
        if !change.is_empty() {
            numbered.push(Pending {
                content_digest: content_digest(&change),
                cluster,
                base_generation: locked.generation,
                generation: locked.generation + 1,
                upserts: change.upserts,
                deletes: change.deletes,
            });
        }
    }
    store::desired::touch(tx, &more).await?;
    store::desired::mark_told(tx, &done).await?;
    store::desired::change::number(tx, &numbered, incarnation).await?;
    changes.append(&mut numbered);
    Ok(changes)
}

/// What is held against what.
struct Compared {
    told: BTreeMap<String, Item>,
    wanted: BTreeMap<String, Item>,
    /// The runs that were looked at because they are marked, by item: (job, epoch, part).
    runs: Vec<(String, (i64, u32, u32))>,
    /// There are more of them.
    more: bool,
}

/// All that a cluster should hold: its allowed runs, and the Volcano queues that they, or runs before them, are in.
async fn everything(tx: &mut Tx, cluster: &str) -> Result<Compared> {
    let told = store::desired::all_items(tx, cluster).await?;
    let runs = store::run::wanted(tx, cluster).await?;
    let queues = told.keys().filter_map(|name| name.strip_prefix("queues/")).map(ToOwned::to_owned).collect();
    let wanted = wanted(tx, cluster, queues, &runs).await?;
    Ok(Compared { told, wanted, runs: Vec::new(), more: false })
}

/// The runs that may differ from what their clusters were told, and the queues they are in. Nothing else of the clusters is read.
async fn untold(tx: &mut Tx, clusters: &[String]) -> Result<Vec<(String, Compared)>> {
    let mut compared = Vec::new();
    let mut names = Vec::new();
    for (cluster, runs) in store::run::untold(tx, clusters, MAX_ITEMS).await? {
        let more = runs.len() == MAX_ITEMS;
        let marked: Vec<_> = runs.iter().map(|run| (run.item(), (run.job_id, run.epoch, run.part))).collect();
        let held: Vec<ToTell> = runs.into_iter().filter(|run| run.wanted).collect();
        let wanted = wanted(tx, &cluster, BTreeSet::new(), &held).await?;
        let of_cluster: BTreeSet<&String> = marked.iter().map(|(name, _)| name).chain(wanted.keys()).collect();
        names.extend(of_cluster.into_iter().map(|name| (cluster.clone(), name.clone())));
        compared.push((cluster, Compared { told: BTreeMap::new(), wanted, runs: marked, more }));
    }
    let mut told = store::desired::items(tx, &names).await?;
    for (cluster, compared) in &mut compared {
        compared.told = told.remove(cluster).unwrap_or_default();
    }
    Ok(compared)
}

/// The items of these runs, and of these queues and those that the runs are in.
async fn wanted(tx: &mut Tx, cluster: &str, mut queues: BTreeSet<String>, runs: &[ToTell]) -> Result<BTreeMap<String, Item>> {
    let any_volcano = runs.iter().any(|run| run.kind == "volcano");
    let has_volcano = any_volcano && store::cluster::has_api(tx, cluster, VOLCANO_API).await?;
    let mut wanted = BTreeMap::new();
    for run in runs {
        let volcano = has_volcano && run.kind == "volcano";
        if volcano {
            queues.insert(run.queue.clone());
        }
        let Some(bundle_digest) = run.bundle_digest.clone() else { continue };
        let item = Item {
            bundle_digest,
            traceparent: run.traceparent.clone(),
            run: Some((run_resource(&run.namespace, &run.job, run.epoch), run.movable)),
            after: if volcano { vec![queue_item(&run.queue)] } else { Vec::new() },
        };
        wanted.insert(run.item(), item);
    }
    put_queues(tx, queues, &mut wanted).await?;
    Ok(wanted)
}

async fn put_queues(tx: &mut Tx, queues: BTreeSet<String>, wanted: &mut BTreeMap<String, Item>) -> Result<()> {
    if queues.is_empty() {
        return Ok(());
    }
    let manifests: BTreeMap<String, String> = store::queue::manifests(tx).await?.into_iter().collect();
    let mut bundles = Vec::new();
    for queue in queues {
        let Some(manifest) = manifests.get(&queue) else {
            // The queue was deleted: runs that still name it do not wait for it.
            for item in wanted.values_mut() {
                item.after.retain(|after| *after != queue_item(&queue));
            }
            continue;
        };
        let parsed = muster_core::manifest::parse_one(manifest).map_err(Error::internal)?;
        let definition = QueueDefinition::read(&parsed).map_err(Error::internal)?;
        let (digest, content) = bundle::encode(&[definition.volcano_manifest()]).map_err(Error::internal)?;
        let bundle_digest = digest.as_str().to_owned();
        bundles.push((bundle_digest.clone(), content));
        wanted.insert(queue_item(&queue), Item { bundle_digest, traceparent: String::new(), run: None, after: Vec::new() });
    }
    store::bundle::put(tx, &bundles).await
}

impl ToTell {
    fn item(&self) -> String {
        run_item(&self.namespace, &self.job, self.epoch)
    }
}

/// Digest of a change's content, by which the registry tells a repetition from another change of the same number.
fn content_digest(change: &Change) -> String {
    let upserts: Vec<Value> =
        change.upserts.iter().map(|(name, item)| json!([name, item.bundle_digest, item.run, item.after])).collect();
    let content = bundle::canonical(&json!({"upserts": upserts, "deletes": change.deletes}));
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
