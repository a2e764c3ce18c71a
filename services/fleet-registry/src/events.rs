//! What the registry tells the world: topic `muster.clusters`.

use crate::{convert, domain::Cluster};
use muster_kit::{
    Result, Tx,
    event::{self, NewEvent, Prepared},
};
use muster_proto::registry::v1::WatchObservedResponse;

/// The topic.
pub const TOPIC: &str = "muster.clusters";

/// Something happened to a cluster; `kind` as in `cluster.live`.
pub async fn cluster(tx: &mut Tx, kind: &'static str, cluster: &Cluster) -> Result<()> {
    append(tx, kind, cluster, false).await
}

/// A cluster is gone.
pub async fn cluster_deleted(tx: &mut Tx, cluster: &Cluster) -> Result<()> {
    append(tx, "cluster.deleted", cluster, true).await
}

async fn append(tx: &mut Tx, kind: &'static str, cluster: &Cluster, deleted: bool) -> Result<()> {
    let state = convert::cluster(cluster)?;
    let aggregate = cluster.resource();
    event::append(tx, NewEvent { topic: TOPIC, kind, aggregate: &aggregate, version: cluster.version, deleted, state: &state })
        .await
}

/// An item of a cluster was observed, as the span of `traceparent` tells; its aggregate is `clusters/{c}/items/{owner}/{name}`.
pub fn observed(kind: &'static str, version: i64, response: &WatchObservedResponse, traceparent: String) -> Result<Prepared> {
    let (owner, name) = response.observation.as_ref().map_or(("", ""), |seen| (seen.owner.as_str(), seen.name.as_str()));
    let aggregate = format!("{}/items/{owner}/{name}", response.cluster);
    NewEvent { topic: TOPIC, kind, aggregate: &aggregate, version, deleted: false, state: response }.caused_by(traceparent)
}

/// The verdicts of an item changed; its aggregate is `clusters/{c}/items/{owner}/{name}/verdicts`. The rows are read by whoever wants
/// them.
pub fn verdicts(version: i64, response: &WatchObservedResponse, traceparent: String) -> Result<Prepared> {
    let (owner, name) = response.verdicts.as_ref().map_or(("", ""), |set| (set.owner.as_str(), set.name.as_str()));
    let aggregate = format!("{}/items/{owner}/{name}/verdicts", response.cluster);
    let kind = "cluster.item.verdicts_changed";
    NewEvent { topic: TOPIC, kind, aggregate: &aggregate, version, deleted: false, state: response }.caused_by(traceparent)
}
