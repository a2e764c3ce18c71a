//! What comes from an agent: inventory and observations, each stored in one transaction with its events.

use crate::{
    app::{App, membership::Rules},
    domain::State,
    events,
    store::{
        cluster,
        observation::{self, NewObservation},
    },
};
use muster_kit::{
    Error, Result, Tx, db,
    event::{self, Prepared},
    telemetry,
};
use muster_proto::{
    agent::v1::{Inventory, Observation, Preflight, observation::Phase},
    registry::v1::WatchObservedResponse,
};
use std::collections::HashSet;

/// Observations of one batch, at most.
const MAX_BATCH: usize = 200;
/// Nodes of a cluster, at most.
const MAX_NODES: usize = 10_000;

/// Stores a batch.
pub async fn observations(app: &App, cluster_id: i64, name: &str, batch: Vec<Observation>) -> Result<()> {
    if batch.len() > MAX_BATCH {
        return Err(Error::invalid("observations", format!("more than {MAX_BATCH}")));
    }
    let mut tx = db::begin(&app.pool).await?;
    let mut events = Vec::with_capacity(batch.len());
    let mut rest = batch;
    while !rest.is_empty() {
        // What is told of one item twice is stored one after the other.
        let mut items = HashSet::new();
        let (now, later): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|seen| items.insert((seen.owner.clone(), seen.name.clone())));
        store(&mut tx, cluster_id, name, now, &mut events).await?;
        rest = later;
    }
    event::append_all(&mut tx, &events).await?;
    tx.commit().await?;
    Ok(())
}

/// Stores observations, each of another item.
async fn store(tx: &mut Tx, cluster_id: i64, name: &str, batch: Vec<Observation>, events: &mut Vec<Prepared>) -> Result<()> {
    let new: Vec<NewObservation> = batch.iter().map(new_observation).collect::<Result<_>>()?;
    for (seen, version) in batch.into_iter().zip(observation::put(tx, cluster_id, &new).await?) {
        // An older generation's observation counts for nothing; it is acknowledged all the same, or it would come for ever.
        let Some(version) = version else { continue };
        // The trace goes on from the agent's span: whoever acts on this observation is its child.
        let span = tracing::info_span!("observe", otel.name = "observe", cluster.name = name, item = seen.name);
        telemetry::continue_trace(&span, &seen.traceparent);
        let kind = kind(seen.phase())?;
        let response =
            WatchObservedResponse { cluster: format!("clusters/{name}"), observation: Some(seen), ..Default::default() };
        events.push(events::observed(kind, version, &response, telemetry::traceparent_of(&span))?);
    }
    Ok(())
}

fn new_observation(seen: &Observation) -> Result<NewObservation> {
    let generation = seen.generation.ok_or_else(|| Error::invalid("observations.generation", "is missing"))?;
    kind(seen.phase())?;
    Ok(NewObservation {
        owner: seen.owner.clone(),
        name: seen.name.clone(),
        incarnation: generation.incarnation.cast_signed(),
        generation: generation.n.cast_signed(),
        body: serde_json::to_value(seen).map_err(Error::internal)?,
    })
}

fn kind(phase: Phase) -> Result<&'static str> {
    Ok(match phase {
        Phase::Unspecified => return Err(Error::invalid("observations.phase", "must be specified")),
        Phase::Pending => "cluster.item.pending",
        Phase::Applying => "cluster.item.applying",
        Phase::Applied => "cluster.item.applied",
        Phase::Healthy => "cluster.item.healthy",
        Phase::Degraded => "cluster.item.degraded",
        Phase::Drifted => "cluster.item.drifted",
        Phase::Failed => "cluster.item.failed",
        Phase::Deleted => "cluster.item.deleted",
    })
}

/// Stores an inventory, where it says something new.
pub async fn inventory(app: &App, name: &str, inventory: Inventory) -> Result<()> {
    if inventory.nodes.len() > MAX_NODES {
        return Err(Error::invalid("inventory.nodes", format!("more than {MAX_NODES}")));
    }
    let body = serde_json::to_value(&inventory).map_err(Error::internal)?;
    let mut tx = db::begin(&app.pool).await?;
    let mut known = cluster::lock(&mut tx, name).await?;
    if known.inventory.as_ref() == Some(&body) {
        return Ok(());
    }
    known.inventory = Some(body);
    let kind = if known.state == State::Joining {
        known.state = State::Live;
        known.reason.clear();
        "cluster.live"
    } else {
        "cluster.inventory_changed"
    };
    Rules::load(&mut tx).await?.apply(&mut known);
    known.version = cluster::update(&mut tx, &known).await?;
    events::cluster(&mut tx, kind, &known).await?;
    tx.commit().await?;
    Ok(())
}

/// Stores what a preflight found and which agent it is.
pub async fn preflight(app: &App, name: &str, agent_version: &str, preflight: Option<Preflight>) -> Result<()> {
    let body = preflight.map(serde_json::to_value).transpose().map_err(Error::internal)?;
    let mut tx = db::begin(&app.pool).await?;
    let mut known = cluster::lock(&mut tx, name).await?;
    let agent_version: String = agent_version.chars().take(64).collect();
    if known.preflight == body && known.agent_version == agent_version {
        return Ok(());
    }
    known.preflight = body;
    known.agent_version = agent_version;
    known.version = cluster::update(&mut tx, &known).await?;
    events::cluster(&mut tx, "cluster.preflight", &known).await?;
    tx.commit().await?;
    Ok(())
}
