//! Queues as they are applied to the platform.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::LabelSelector;
use muster_scheduler_engine::{Prefers, QueueSpec, Tier, TierOpens};

use crate::fault::Fault;
use crate::tree::Node;

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
            other => return Err(placement.fault(format!("{other:?} is neither cheapest nor fastest"))),
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
    tier.only(&["fleet", "clusters", "clusterSelector", "overflowAfter", "overflowAfterWork"])?;
    let mut clusters = BTreeSet::new();
    if let Some(fleet) = tier.get("fleet") {
        let members = fleets.get(fleet.text()?).ok_or_else(|| fleet.fault("no SimulatedCluster is in this fleet"))?;
        clusters.extend(members.iter().cloned());
    }
    for name in tier.get("clusters").map(|names| names.texts()).transpose()?.unwrap_or_default() {
        clusters.insert(name.to_owned());
    }
    let selector = tier.get("clusterSelector").map(|selector| selector.read::<LabelSelector>()).transpose()?;
    if clusters.is_empty() && selector.is_none() {
        return Err(tier.fault("must name a fleet, clusters or a clusterSelector"));
    }
    let opens = match (tier.get("overflowAfter"), tier.get("overflowAfterWork")) {
        (None, None) => TierOpens::WhenFull,
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
