//! Gangs and plans as JSON columns. The engine's types know nothing of JSON.

use std::collections::{BTreeMap, BTreeSet};

use muster_kit::{Error, Result};
use muster_scheduler_engine::{Amounts, Dataset, Elastic, Gang, Slot, Span, Topology, TopologyMode, WorkerGroup};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::corrupt;

#[derive(Serialize, Deserialize)]
struct GangRow {
    groups: Vec<GroupRow>,
    min_available: u32,
    flavors: BTreeSet<String>,
    api: String,
    /// Absent from rows of jobs that were submitted before it was known.
    #[serde(default)]
    restart_ms: Option<i64>,
    /// By GPU model, in thousandths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    speeds: BTreeMap<String, u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topology: Option<TopologyRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dataset: Option<DatasetRow>,
    /// Absent from rows of gangs of one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    elastic: Option<ElasticRow>,
    /// Absent from rows of gangs that are in one cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    span: Option<SpanRow>,
}

#[derive(Serialize, Deserialize)]
struct DatasetRow {
    region: String,
    bytes: i64,
}

/// The group that may be smaller, and how many of its workers there are at least.
#[derive(Serialize, Deserialize)]
struct ElasticRow {
    group: usize,
    least: u32,
}

/// How far its workers may be apart.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SpanRow {
    Region,
}

/// The level, by whether it is required or only preferred.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TopologyRow {
    Required(String),
    Preferred(String),
}

#[derive(Serialize, Deserialize)]
struct GroupRow {
    name: String,
    replicas: u32,
    each: BTreeMap<String, i64>,
}

#[derive(Serialize, Deserialize)]
struct SlotRow {
    group: usize,
    node: String,
    workers: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu: Option<u16>,
}

fn map(amounts: &Amounts) -> BTreeMap<String, i64> {
    amounts.iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

fn write<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(Error::internal)
}

pub(super) fn write_gang(gang: &Gang) -> Result<Value> {
    let Gang { groups, min_available, flavors, api, restart_ms, speeds, topology, dataset, elastic, span } = gang;
    let groups = groups.iter().map(|WorkerGroup { name, replicas, each }| GroupRow {
        name: name.clone(),
        replicas: *replicas,
        each: map(each),
    });
    write(&GangRow {
        groups: groups.collect(),
        min_available: *min_available,
        flavors: flavors.clone(),
        api: api.clone(),
        restart_ms: *restart_ms,
        speeds: speeds.clone(),
        topology: topology.as_ref().map(|Topology { level, mode }| match mode {
            TopologyMode::Required => TopologyRow::Required(level.clone()),
            TopologyMode::Preferred => TopologyRow::Preferred(level.clone()),
        }),
        dataset: dataset.as_ref().map(|Dataset { region, bytes }| DatasetRow { region: region.clone(), bytes: *bytes }),
        elastic: elastic.map(|Elastic { group, least }| ElasticRow { group, least }),
        span: match span {
            Span::Cluster => None,
            Span::Region => Some(SpanRow::Region),
        },
    })
}

pub(super) fn read_gang(value: Value) -> Result<Gang> {
    let GangRow { groups, min_available, flavors, api, restart_ms, speeds, topology, dataset, elastic, span } =
        serde_json::from_value(value).map_err(|error| corrupt("a gang", error))?;
    let groups = groups.into_iter().map(|GroupRow { name, replicas, each }| WorkerGroup {
        name,
        replicas,
        each: each.into_iter().collect(),
    });
    let topology = topology.map(|row| match row {
        TopologyRow::Required(level) => Topology { level, mode: TopologyMode::Required },
        TopologyRow::Preferred(level) => Topology { level, mode: TopologyMode::Preferred },
    });
    let dataset = dataset.map(|DatasetRow { region, bytes }| Dataset { region, bytes });
    let elastic = elastic.map(|ElasticRow { group, least }| Elastic { group, least });
    let span = match span {
        None => Span::Cluster,
        Some(SpanRow::Region) => Span::Region,
    };
    Ok(Gang { groups: groups.collect(), min_available, flavors, api, restart_ms, speeds, topology, dataset, elastic, span })
}

pub(super) fn write_slots(slots: &[Slot]) -> Result<Value> {
    let row = |slot: &Slot| {
        let Slot { group, node, workers, gpu } = slot;
        SlotRow { group: *group, node: node.clone(), workers: *workers, gpu: *gpu }
    };
    let rows = slots.iter().map(row);
    write(&rows.collect::<Vec<_>>())
}

pub(super) fn read_slots(value: Value) -> Result<Vec<Slot>> {
    let rows: Vec<SlotRow> = serde_json::from_value(value).map_err(|error| corrupt("a plan", error))?;
    Ok(rows.into_iter().map(|SlotRow { group, node, workers, gpu }| Slot { group, node, workers, gpu }).collect())
}
