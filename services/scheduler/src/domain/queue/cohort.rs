//! Cohorts: queues whose quota is that of their members.

use std::collections::{BTreeMap, BTreeSet};

use muster_scheduler_engine::{Amounts, MAX_DEPTH, QueueSpec};

use super::{Kind, QueueDefinition};
use crate::domain::cluster::ClusterFacts;

/// All queues as the engine has them, among them the cohorts that are there only by being named: an order to tell them in is not
/// given.
#[must_use]
pub fn specs(definitions: &BTreeMap<String, QueueDefinition>, clusters: &[ClusterFacts]) -> BTreeMap<String, QueueSpec> {
    let of_definition = |definition: &QueueDefinition| (definition.name.clone(), definition.spec(clusters.iter()));
    let mut specs: BTreeMap<String, QueueSpec> = definitions.values().map(of_definition).collect();
    let mut cohorts: Vec<String> =
        definitions.values().filter(|queue| queue.kind == Kind::Cohort).map(|queue| queue.name.clone()).collect();
    for parent in definitions.values().filter(|queue| queue.kind != Kind::Queue).filter_map(|queue| queue.parent.clone()) {
        if !specs.contains_key(&parent) {
            specs.insert(parent.clone(), QueueSpec::named(&parent));
            cohorts.push(parent);
        }
    }
    let quotas: Vec<(String, Quota)> =
        cohorts.into_iter().map(|name| (name.clone(), Quota::of(&name, &specs, definitions, 0))).collect();
    for (name, Quota { amounts, covered }) in quotas {
        let Some(spec) = specs.get_mut(&name) else { continue };
        if spec.parent.is_none() {
            // Nobody lends to it.
            spec.borrowing_limit = covered.into_iter().map(|resource| (resource, 0)).collect();
        }
        spec.guarantee = amounts;
    }
    specs
}

/// What a queue says that it has, and, if it is a cohort, what those below it have.
struct Quota {
    amounts: Amounts,
    covered: BTreeSet<String>,
}

impl Quota {
    fn of(
        name: &str,
        specs: &BTreeMap<String, QueueSpec>,
        definitions: &BTreeMap<String, QueueDefinition>,
        depth: usize,
    ) -> Self {
        let definition = definitions.get(name);
        let mut quota = Self {
            amounts: definition.map_or_else(Amounts::new, |definition| definition.guarantee.clone()),
            covered: definition.map_or_else(BTreeSet::new, |definition| definition.covered.clone()),
        };
        // Queues that are below themselves are refused elsewhere.
        if depth > MAX_DEPTH || definition.is_some_and(|definition| definition.kind != Kind::Cohort) {
            return quota;
        }
        for member in specs.values().filter(|spec| spec.parent.as_deref() == Some(name)) {
            let of_member = Self::of(&member.name, specs, definitions, depth + 1);
            quota.amounts = quota.amounts.checked_add(&of_member.amounts).unwrap_or(quota.amounts);
            quota.covered.extend(of_member.covered);
        }
        quota
    }
}
