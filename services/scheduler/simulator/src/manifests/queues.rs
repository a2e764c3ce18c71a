//! Queues as they are applied to the platform.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::LabelSelector;
use muster_scheduler_engine::{Prefers, QueueSpec, Tier, TierOpens};

use crate::fault::Fault;
use crate::tree::Node;

/// The most GPUs or jobs that a tier can be made to wait for.
const MOST_WAITING: i64 = 1_000_000_000;

/// The queues, parents before their children.
pub(super) fn read<'a>(
    documents: impl Iterator<Item = Node<'a>>,
    fleets: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<QueueSpec>, Fault> {
    let mut waiting = Vec::new();
    for root in documents {
        let queue = queue(&root, fleets)?;
        if waiting.iter().any(|(_, known): &(Node<'_>, QueueSpec)| known.name == queue.name) {
            return Err(root.need("metadata")?.need("name")?.fault("is there twice"));
        }
        waiting.push((root, queue));
    }
    let mut queues: Vec<QueueSpec> = Vec::new();
    while !waiting.is_empty() {
        let known =
            |queue: &QueueSpec| queue.parent.as_ref().is_none_or(|parent| queues.iter().any(|known| known.name == *parent));
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, queue)| known(queue));
        if let (true, Some((root, queue))) = (ready.is_empty(), rest.first()) {
            let why = format!("{:?} is no queue of this file, or below this one", queue.parent.clone().unwrap_or_default());
            return Err(root.need("spec")?.need("parent")?.fault(why));
        }
        queues.extend(ready.into_iter().map(|(_, queue)| queue));
        waiting = rest;
    }
    Ok(queues)
}

fn queue(root: &Node<'_>, fleets: &BTreeMap<String, BTreeSet<String>>) -> Result<QueueSpec, Fault> {
    root.only(&["apiVersion", "kind", "metadata", "spec"])?;
    let mut queue = QueueSpec::named(root.need("metadata")?.need("name")?.text()?);
    let Some(spec) = root.get("spec") else { return Ok(queue) };
    if let Some(budgets) = spec.get("budgets") {
        return Err(budgets.fault("budgets are not simulated: what counts in them is summed up from the platform's tables"));
    }
    if let Some(half_life) = spec.get("usageHalfLife") {
        return Err(half_life.fault("usage over time is not simulated: it is summed up from the platform's tables"));
    }
    spec.only(&[
        "weight",
        "capability",
        "guarantee",
        "borrowingLimit",
        "lendingLimit",
        "reclaimable",
        "minRuntime",
        "parent",
        "tiers",
        "placement",
    ])?;
    if let Some(weight) = spec.get("weight") {
        // At most 65,535 by this line.
        queue.weight = weight.whole(1, 65_535)? as u32;
    }
    if let Some(capability) = spec.get("capability") {
        queue.capability = capability.limits()?;
    }
    if let Some(guarantee) = spec.get("guarantee") {
        guarantee.only(&["resource"])?;
        queue.guarantee = guarantee.need("resource")?.amounts()?;
    }
    if let Some(borrows) = spec.get("borrowingLimit") {
        queue.borrowing_limit = borrows.limits()?;
    }
    if let Some(lends) = spec.get("lendingLimit") {
        queue.lending_limit = lends.limits()?;
        if let Some((name, _)) = queue.lending_limit.iter().find(|(name, most)| queue.guarantee.get(name) < **most) {
            return Err(lends.need(name)?.fault("is more than the guarantee"));
        }
    }
    if let Some(reclaimable) = spec.get("reclaimable") {
        queue.reclaimable = reclaimable.boolean()?;
    }
    if let Some(runtime) = spec.get("minRuntime") {
        queue.min_runtime_ms = runtime.span_ms()?;
    }
    if let Some(placement) = spec.get("placement") {
        queue.prefers = Some(match placement.text()? {
            "cheapest" => Prefers::Cheapest,
            "fastest" => Prefers::Fastest,
            "greenest" => Prefers::Greenest,
            "listed" => Prefers::Listed,
            other => return Err(placement.fault(format!("{other:?} is none of cheapest, fastest, greenest and listed"))),
        });
    }
    queue.parent =
        spec.get("parent").map(|parent| parent.text()).transpose()?.filter(|parent| *parent != "root").map(str::to_owned);
    for tier in spec.get("tiers").map(|tiers| tiers.items()).transpose()?.unwrap_or_default() {
        queue.tiers.push(self::tier(&tier, fleets)?);
    }
    Ok(queue)
}

fn tier(tier: &Node<'_>, fleets: &BTreeMap<String, BTreeSet<String>>) -> Result<Tier, Fault> {
    tier.only(&["fleet", "clusters", "clusterSelector", "overflowAfter", "overflowAfterWork", "overflowAboveWaiting"])?;
    let mut clusters = BTreeMap::new();
    if let Some(fleet) = tier.get("fleet") {
        let members = fleets.get(fleet.text()?).ok_or_else(|| fleet.fault("no SimulatedCluster is in this fleet"))?;
        clusters.extend(members.iter().map(|name| (name.clone(), Tier::UNLISTED)));
    }
    let named = tier.get("clusters").map(|names| names.texts()).transpose()?.unwrap_or_default();
    let mut seen = BTreeSet::new();
    let named = named.into_iter().filter(|name| seen.insert(*name));
    clusters.extend(named.map(str::to_owned).zip(0..));
    let selector = tier.get("clusterSelector").map(|selector| selector.read::<LabelSelector>()).transpose()?;
    if clusters.is_empty() && selector.is_none() {
        return Err(tier.fault("must name a fleet, clusters or a clusterSelector"));
    }
    let above = tier.get("overflowAboveWaiting");
    let opens = match (tier.get("overflowAfter"), tier.get("overflowAfterWork")) {
        (None, None) => above.as_ref().map_or(Ok(TierOpens::WhenFull), above_waiting)?,
        (Some(_), None) | (None, Some(_)) if above.is_some() => {
            return Err(tier.need("overflowAboveWaiting")?.fault("can't stand beside overflowAfter or overflowAfterWork"));
        }
        (Some(wait), None) => TierOpens::AfterWaitingMs(wait.span_ms()?),
        (None, Some(times)) => {
            let permille = times.number()? * 1e3;
            if permille > 1e6 {
                return Err(times.fault("is more than 1000"));
            }
            TierOpens::AfterWaitingForWork { permille: permille.round() as u32 }
        }
        (Some(_), Some(times)) => return Err(times.fault("can't stand beside overflowAfter")),
    };
    Ok(Tier { clusters, selector, opens })
}

/// How much has to wait, as in `{gpus: 64, jobs: 200}`.
fn above_waiting(node: &Node<'_>) -> Result<TierOpens, Fault> {
    node.only(&["gpus", "jobs"])?;
    let count = |field: &str| node.get(field).map(|count| count.whole(0, MOST_WAITING)).transpose();
    let (gpus, jobs) = (count("gpus")?, count("jobs")?);
    if gpus.is_none() && jobs.is_none() {
        return Err(node.fault("must say how many gpus or jobs"));
    }
    // Not negative by the lines above.
    Ok(TierOpens::WhileWaiting { gpus, jobs: jobs.map(i64::cast_unsigned) })
}
