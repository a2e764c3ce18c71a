//! Outwards: the domain as messages. Every field is named, so that a new one cannot be forgotten.

use crate::{
    domain::{
        Cluster, Schedulability, State,
        cluster::{EgressPrice, FlavorPrice},
    },
    store::{desired::Item, verdict::Set},
};
use muster_kit::{Error, Result, db::etag, time::to_proto};
use muster_proto::{
    agent::v1::{DesiredItem, Generation, VerdictSet},
    registry::v1::{self as wire, cluster},
};

/// A state on the wire.
pub fn state(state: State) -> cluster::State {
    match state {
        State::NotEnrolled => cluster::State::NotEnrolled,
        State::Joining => cluster::State::Joining,
        State::Live => cluster::State::Live,
        State::Suspect => cluster::State::Suspect,
        State::Lost => cluster::State::Lost,
        State::Leaving => cluster::State::Leaving,
        State::Left => cluster::State::Left,
    }
}

fn schedulability(value: Schedulability) -> cluster::Schedulability {
    match value {
        Schedulability::Open => cluster::Schedulability::Open,
        Schedulability::Cordoned => cluster::Schedulability::Cordoned,
        Schedulability::Draining => cluster::Schedulability::Draining,
    }
}

/// A cluster on the wire.
pub fn cluster(cluster: &Cluster) -> Result<wire::Cluster> {
    let Cluster {
        id: _,
        name: _,
        uid,
        version,
        state: standing,
        reason,
        schedulability: open,
        labels,
        region,
        takes_jobs,
        preflight,
        inventory,
        agent_version,
        fleets,
        prices,
        egress,
        last_seen_at,
        steady_since_at: _,
        lease_expires_at,
        enrolled_at,
        created_at,
    } = cluster;
    Ok(wire::Cluster {
        name: cluster.resource(),
        etag: etag(*version),
        uid: uid.clone().unwrap_or_default(),
        state: state(*standing).into(),
        schedulability: schedulability(*open).into(),
        labels: labels.clone(),
        region: region.clone(),
        takes_jobs: *takes_jobs,
        preflight: preflight.clone().map(serde_json::from_value).transpose().map_err(Error::internal)?,
        inventory: inventory.clone().map(serde_json::from_value).transpose().map_err(Error::internal)?,
        prices: prices.iter().map(price).collect(),
        fleets: fleets.iter().map(|fleet| format!("fleets/{fleet}")).collect(),
        agent_version: agent_version.clone(),
        last_seen_time: last_seen_at.map(to_proto),
        enrol_time: enrolled_at.map(to_proto),
        create_time: Some(to_proto(*created_at)),
        lease_expire_time: lease_expires_at.map(to_proto),
        reason: reason.clone(),
        egress: egress.iter().map(self::egress).collect(),
    })
}

fn egress(egress: &EgressPrice) -> wire::EgressPrice {
    let EgressPrice { from, micros_per_gib, currency } = egress;
    wire::EgressPrice { from: from.clone(), micros_per_gib: *micros_per_gib, currency: currency.clone() }
}

fn price(price: &FlavorPrice) -> wire::FlavorPrice {
    let FlavorPrice { flavor, micros_per_gpu_hour, currency, watts, grams_per_kwh } = price;
    wire::FlavorPrice {
        flavor: flavor.clone(),
        micros_per_gpu_hour: *micros_per_gpu_hour,
        currency: currency.clone(),
        watts: *watts,
        grams_per_kwh: grams_per_kwh.clone(),
    }
}

/// A desired item on the wire: what was stored of it as JSON, and what the registry decided.
pub fn item(item: Item) -> Result<DesiredItem> {
    let Item { owner, name, incarnation, generation, sequence: _, bundle_digest, tombstone, options } = item;
    let mut wire: DesiredItem = serde_json::from_value(options).map_err(Error::internal)?;
    wire.owner = owner;
    wire.name = name;
    wire.generation = Some(Generation { incarnation: incarnation.cast_unsigned(), n: generation.cast_unsigned() });
    wire.bundle_digest = bundle_digest.unwrap_or_default();
    wire.tombstone = tombstone;
    Ok(wire)
}

/// What is held of an item's verdicts, without its rows.
pub fn verdict_set(owner: &str, name: &str, set: &Set) -> VerdictSet {
    let generation = |incarnation: i64, n: i64| Generation { incarnation: incarnation.cast_unsigned(), n: n.cast_unsigned() };
    VerdictSet {
        owner: owner.to_owned(),
        name: name.to_owned(),
        generation: Some(generation(set.incarnation, set.generation)),
        version: Some(generation(set.version_incarnation, set.version)),
        evaluate_time: Some(to_proto(set.evaluated_at.to_jiff())),
    }
}

/// The same for whoever watches.
pub fn judged(cluster: &str, verdicts: VerdictSet) -> wire::WatchObservedResponse {
    wire::WatchObservedResponse { cluster: format!("clusters/{cluster}"), verdicts: Some(verdicts), ..Default::default() }
}
