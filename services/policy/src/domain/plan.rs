//! Who is asked about manifests that may go to some clusters, worked out once for every set of fleets of a catalog, and for every
//! part of them that a ramp has come to.
//!
//! Fleets with the same exceptions are asked together, and a policy that several of them bind in the same way is asked
//! once: what an object costs follows the policies, not the fleets.

use super::{Binding, Catalog, Members};
use muster_policy_evaluator::{Bound, KindIndex, PolicyException, Surroundings};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// Plans that are known at a time.
const MAX_PLANS: usize = 64;

/// What is asked together.
#[derive(Debug, Default)]
pub struct Together {
    /// With the exceptions that excuse from it.
    pub surroundings: Surroundings,
    /// Which of the catalog's bindings hold a policy that is judged.
    judged: Vec<usize>,
    /// Of those policies.
    pub index: KindIndex,
    /// Which hold a kind that is not judged here.
    unjudged: Vec<usize>,
}

impl Together {
    /// The policies that are judged.
    pub fn bound<'c>(&self, catalog: &'c Catalog) -> Vec<Bound<'c>> {
        self.judged.iter().filter_map(|position| bound(&catalog.bindings[*position])).collect()
    }

    /// What nobody here judges.
    pub fn unjudged<'c>(&self, catalog: &'c Catalog) -> impl Iterator<Item = &'c Binding> {
        self.unjudged.iter().map(|position| &catalog.bindings[*position])
    }
}

/// Whom a question is about.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Reached {
    /// Fleets with one of the clusters, in order.
    pub fleets: Vec<String>,
    /// Which of the bindings that hold for a part of their fleet hold for one of the clusters, in order.
    parts: Vec<usize>,
}

impl Reached {
    /// Whether a binding, by its position in the catalog, holds for one of them.
    pub fn has(&self, position: usize, binding: &Binding) -> bool {
        match &binding.members {
            Members::All => self.fleets.binary_search(&binding.fleet).is_ok(),
            Members::Only(_) | Members::Except(_) => self.parts.binary_search(&position).is_ok(),
        }
    }
}

/// Plans by whom they are for; `None`: all.
type ByReached = HashMap<Option<Reached>, Arc<Vec<Together>>>;

/// The plans made so far. A copy begins without any.
#[derive(Debug, Default)]
pub struct Plans(Mutex<ByReached>);

impl Clone for Plans {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Catalog {
    /// What is asked of what goes to any of the clusters; of all fleets where none is named.
    pub(super) fn plan(&self, clusters: &[String]) -> Arc<Vec<Together>> {
        let reached = (!clusters.is_empty()).then(|| self.reached(clusters));
        // Nothing is left half done where a holder panics: a plan is put in whole.
        let mut plans = self.plans.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&reached) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(self.planned(reached.as_ref()));
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        plans.insert(reached, Arc::clone(&plan));
        plan
    }

    pub(super) fn reached(&self, clusters: &[String]) -> Reached {
        let is_reached = |members: &BTreeSet<String>| clusters.iter().any(|cluster| members.contains(cluster));
        let fleets = self.fleets.iter().filter(|(_, members)| is_reached(members)).map(|(fleet, _)| fleet.clone()).collect();
        let holds = |binding: &Binding| {
            let members = self.fleets.get(&binding.fleet).filter(|_| !matches!(binding.members, Members::All));
            members.is_some_and(|all| clusters.iter().any(|cluster| all.contains(cluster) && binding.members.has(cluster)))
        };
        // Only what is ramped holds for a part of its fleet.
        let bindings = self.bindings.iter().enumerate().filter(|_| !self.ramps.is_empty());
        let parts = bindings.filter(|(_, binding)| holds(binding)).map(|(position, _)| position).collect();
        Reached { fleets, parts }
    }

    fn planned(&self, reached: Option<&Reached>) -> Vec<Together> {
        let mut excused: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        let mut asked = BTreeSet::new();
        let mut together: BTreeMap<BTreeSet<&str>, Together> = BTreeMap::new();
        for (position, binding) in self.bindings.iter().enumerate() {
            let Binding { fleet_policy: _, fleet, members: _, document, action, namespaces, allow_not_evaluated } = binding;
            if reached.is_some_and(|reached| !reached.has(position, binding)) {
                continue;
            }
            let excusing = || self.excusing(fleet).map(|of| of.document.digest()).collect();
            let digests = excused.entry(fleet).or_insert_with(excusing);
            if !asked.insert((digests.clone(), Arc::as_ptr(document), *action, namespaces, *allow_not_evaluated)) {
                continue;
            }
            let together = together.entry(digests.clone()).or_default();
            let positions = if document.judged().is_some() { &mut together.judged } else { &mut together.unjudged };
            positions.push(position);
        }
        let planned = together.into_iter().map(|(digests, mut together)| {
            // What is found is to be said in this order.
            together.judged.sort_by_key(|position| self.bindings[*position].document.name());
            let policies = together.judged.iter().filter_map(|position| self.bindings[*position].document.judged());
            let index = KindIndex::of(policies);
            let surroundings = Surroundings { exceptions: self.exceptions_of(&digests), ..Surroundings::default() };
            Together { surroundings, index, ..together }
        });
        planned.collect()
    }

    fn exceptions_of(&self, digests: &BTreeSet<&str>) -> Vec<PolicyException> {
        let by_digest: BTreeMap<&str, _> =
            self.exceptions.iter().map(|of| (of.document.digest(), of.document.exception())).collect();
        digests.iter().filter_map(|digest| (*by_digest.get(digest)?).cloned()).collect()
    }
}

fn bound(binding: &Binding) -> Option<Bound<'_>> {
    Some(Bound {
        policy: binding.document.judged()?,
        action: binding.action,
        allow_not_evaluated: binding.allow_not_evaluated,
        namespaces: &binding.namespaces,
    })
}
