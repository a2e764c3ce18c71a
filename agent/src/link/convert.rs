//! Between the wire and the domain. Outwards every field is taken apart by name, so that none is forgotten; inwards what
//! is missing or impossible is named.

use super::LinkError;
use crate::{
    domain::{
        item::{Binding, Desired, ItemKey, OWNERS, Options, Policy, Run},
        object::{ObjectRef, api_version},
        observation::{self as seen, Observation},
        verdicts::Row,
    },
    inventory::{Inventory, Node, Preflight, RunUsage},
    ledger::State,
};
use jiff::Timestamp;
use muster_core::{quantity::Quantity, version::Version};
use muster_kit::time::{duration_to_proto, from_proto, to_proto};
use muster_proto::agent::v1 as wire;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

pub(super) fn malformed(field: &str, what: &str) -> LinkError {
    LinkError::Malformed(format!("{field}: {what}"))
}

pub(super) fn timestamp(at: Option<muster_proto::Timestamp>, field: &str) -> Result<Timestamp, LinkError> {
    at.as_ref().and_then(from_proto).ok_or_else(|| malformed(field, "no legal time"))
}

pub(super) fn generation(version: Version) -> wire::Generation {
    wire::Generation { incarnation: version.incarnation, n: version.n }
}

/// An item that the hub desires.
pub(super) fn desired(item: wire::DesiredItem) -> Result<Desired, LinkError> {
    let wire::DesiredItem {
        owner,
        name,
        generation,
        bundle_digest,
        tombstone,
        self_heal,
        prune,
        traceparent,
        run,
        policy,
        after,
        allow_empty,
    } = item;
    if !OWNERS.contains(&owner.as_str()) {
        return Err(malformed("item.owner", &format!("{owner:?} is not known")));
    }
    if name.is_empty() || name.len() > 253 {
        return Err(malformed("item.name", "1 to 253 characters"));
    }
    let generation = generation.ok_or_else(|| malformed("item.generation", "missing"))?;
    let bundle = match tombstone {
        true => None,
        false => Some(bundle_digest.parse().map_err(|error| malformed("item.bundle_digest", &format!("{error}")))?),
    };
    let options = Options {
        self_heal,
        prune,
        allow_empty,
        traceparent,
        run: run.map(|wire::RunOptions { run, movable }| Run { name: run, movable }),
        policy: policy.map(|wire::PolicyOptions { install, bindings, only_evaluated }| Policy {
            install,
            only_evaluated,
            bindings: bindings
                .into_iter()
                .map(|wire::PolicyBinding { policy, namespaces, enforce }| Binding { policy, namespaces, enforce })
                .collect(),
        }),
        after,
    };
    let generation = Version::new(generation.incarnation, generation.n);
    Ok(Desired { key: ItemKey::new(owner, name), generation, bundle, options })
}

/// What the agent holds, per owner.
pub(super) fn digests(state: &State) -> Vec<wire::OwnerDigest> {
    state
        .owners()
        .map(|owner| {
            let mut hash = Sha256::new();
            let mut greatest = Version::ZERO;
            let mut items = Vec::new();
            for (name, record) in state.items_of(owner) {
                let bundle = record.bundle.as_deref();
                hash.update(format!("{name}\0{}\0{}\n", record.generation, bundle.unwrap_or("-")));
                greatest = greatest.max(record.generation);
                items.push(wire::HeldItem {
                    name: name.to_owned(),
                    generation: Some(generation(record.generation)),
                    bundle_digest: bundle.unwrap_or_default().to_owned(),
                });
            }
            let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            wire::OwnerDigest { owner: owner.to_owned(), digest, generation: Some(generation(greatest)), items }
        })
        .collect()
}

/// An observation for the hub.
pub(super) fn observation(observation: Observation) -> wire::Observation {
    use wire::observation::Phase as Wire;
    let Observation { key, generation: at, phase, reason, message, observed_at, run, objects, heal_count, traceparent } =
        observation;
    let ItemKey { owner, name } = key;
    let phase = match phase {
        seen::Phase::Pending => Wire::Pending,
        seen::Phase::Applying => Wire::Applying,
        seen::Phase::Applied => Wire::Applied,
        seen::Phase::Healthy => Wire::Healthy,
        seen::Phase::Degraded => Wire::Degraded,
        seen::Phase::Drifted => Wire::Drifted,
        seen::Phase::Failed => Wire::Failed,
        seen::Phase::Deleted => Wire::Deleted,
    };
    wire::Observation {
        owner,
        name,
        generation: Some(generation(at)),
        phase: phase.into(),
        reason,
        message,
        observe_time: Some(to_proto(observed_at)),
        run: run.map(run_status),
        objects: objects
            .into_iter()
            .map(|seen::ObjectStatus { object, version, reason, message }| wire::ObjectStatus {
                api_version: api_version(&object.group, &version),
                kind: object.kind,
                namespace: object.namespace,
                name: object.name,
                reason,
                message,
            })
            .collect(),
        heal_count,
        traceparent,
    }
}

fn run_status(status: seen::RunStatus) -> wire::RunStatus {
    use wire::run_status::Phase as Wire;
    // The message travels as the observation's.
    let seen::RunStatus { run, phase, started_at, finished_at, pods, exit_code, message: _ } = status;
    let phase = match phase {
        seen::RunPhase::Pending => Wire::Pending,
        seen::RunPhase::Running => Wire::Running,
        seen::RunPhase::Succeeded => Wire::Succeeded,
        seen::RunPhase::Failed => Wire::Failed,
        seen::RunPhase::Stopped => Wire::Stopped,
    };
    wire::RunStatus {
        run,
        phase: phase.into(),
        start_time: started_at.map(to_proto),
        finish_time: finished_at.map(to_proto),
        pods: pods.into_iter().collect(),
        exit_code,
    }
}

/// A row of verdicts for the hub, without its key.
pub(super) fn verdict_row(row: &Row) -> wire::VerdictRow {
    use wire::verdict_row::Row as Wire;
    let row = match row.clone() {
        Row::Count(seen::RuleCount { policy, rule, pass, fail, not_evaluated }) => {
            Wire::Count(wire::RuleCount { policy, rule, pass, fail, not_evaluated })
        }
        Row::Violation(seen::Violation { policy, rule, object, path, message }) => {
            let ObjectRef { group, kind, namespace, name } = object;
            Wire::Violation(wire::Violation { policy, rule, kind, namespace, name, path, message, group })
        }
    };
    wire::VerdictRow { key: Vec::new(), row: Some(row) }
}

/// An inventory for the hub.
pub(super) fn inventory(taken: &Inventory, gpu_utilisation: Option<f64>, at: Timestamp) -> wire::Inventory {
    let Inventory { nodes, policy_kinds } = taken;
    wire::Inventory {
        nodes: nodes.iter().map(node).collect(),
        gpu_utilisation,
        observe_time: Some(to_proto(at)),
        policy_kinds: groups(policy_kinds.clone()),
    }
}

fn node(node: &Node) -> wire::Node {
    let Node { name, flavor, allocatable, used_by_others, used_by_run, schedulable, labels } = node;
    wire::Node {
        name: name.clone(),
        flavor: flavor.clone(),
        allocatable: amounts(allocatable),
        used_by_others: amounts(used_by_others),
        used_by_run: used_by_run
            .iter()
            .map(|RunUsage { run, requests }| wire::RunUsage { run: run.clone(), requests: amounts(requests) })
            .collect(),
        schedulable: *schedulable,
        labels: labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

fn amounts(amounts: &BTreeMap<String, Quantity>) -> BTreeMap<String, String> {
    amounts.iter().map(|(resource, amount)| (resource.clone(), amount.to_string())).collect()
}

fn groups(all: Vec<(String, Vec<String>)>) -> Vec<wire::ApiGroup> {
    all.into_iter().map(|(name, versions)| wire::ApiGroup { name, versions }).collect()
}

/// A preflight for the hub.
pub(super) fn preflight(found: Preflight) -> wire::Preflight {
    let Preflight { kubernetes_version, api_groups, crds, gpu_stack_present, clock_offset, api_round_trip, problems } = found;
    wire::Preflight {
        kubernetes_version,
        api_groups: groups(api_groups),
        crds: groups(crds),
        gpu_stack_present,
        clock_offset: Some(muster_proto::Duration { seconds: clock_offset.as_secs(), nanos: clock_offset.subsec_nanos() }),
        api_round_trip: Some(duration_to_proto(api_round_trip)),
        problems,
    }
}
