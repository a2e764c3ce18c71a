//! A cluster in the engine, and the order in which a class tries clusters.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::class::{Class, FlavorId, Flavors};
use crate::event::{ClusterState, JobId, Time};
use crate::nodes::Nodes;
use crate::prefer::Place;
use crate::queues::QueueIndex;
use crate::spec::{ClusterSpec, Prefers, Tier};
use crate::typical::Typical;
use crate::vector::Vector;

/// Place of a cluster in [`crate::Engine`]'s list.
pub(crate) type ClusterIndex = usize;

/// A started run by its priority, the lowest first, of these the youngest first.
pub(crate) type Started = (i32, Reverse<Time>, Reverse<JobId>);

/// Runs that may be interrupted, by the GPU-time in milliseconds that they are expected to take still, the longest first.
pub(crate) type Interruptible = BTreeSet<(Reverse<i64>, JobId)>;

/// Where runs are: a cluster's name with what is known of it. It outlives the cluster, because runs do.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    /// `None` while no such cluster is known.
    pub(crate) cluster: Option<Cluster>,
    /// Its nodes, and names of nodes that runs still have.
    pub(crate) nodes: Nodes,
    /// Counts what was taken on it. Who knows this count knows that nothing became scarcer since.
    pub(crate) taken: u64,
    /// Placed jobs.
    pub(crate) runs: BTreeSet<JobId>,
    /// Runs that may be interrupted for a shorter gang, the longest expected remaining GPU-time first.
    pub(crate) interruptible: Interruptible,
    /// Started runs per queue, the lowest priority first, of these the youngest.
    pub(crate) started: BTreeMap<QueueIndex, BTreeSet<Started>>,
    /// Started runs with more workers than they need, the youngest first.
    pub(crate) surplus: BTreeSet<(Reverse<Time>, Reverse<JobId>)>,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cluster: None,
            nodes: Nodes::default(),
            taken: 0,
            runs: BTreeSet::new(),
            interruptible: BTreeSet::new(),
            started: BTreeMap::new(),
            surplus: BTreeSet::new(),
        }
    }
}

/// A cluster as it was told.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) spec: ClusterSpec,
    /// Everything allocatable on all nodes.
    pub(crate) allocatable: Vector,
}

impl Cluster {
    /// Everything of the spec but how much others use: what candidates and shares depend on.
    pub(crate) fn differs_beyond_use(&self, spec: &ClusterSpec) -> bool {
        let old = &self.spec;
        old.labels != spec.labels
            || old.state != spec.state
            || old.takes_jobs != spec.takes_jobs
            || old.region != spec.region
            || old.apis != spec.apis
            || old.prices != spec.prices
            || old.emissions != spec.emissions
            || old.egress != spec.egress
            || old.nodes.len() != spec.nodes.len()
            || old.nodes.iter().zip(&spec.nodes).any(|(old, new)| {
                (&old.name, &old.flavor, &old.domains) != (&new.name, &new.flavor, &new.domains)
                    || old.allocatable != new.allocatable
            })
    }

    /// Whether the API a gang needs is there, as far as is known.
    pub(crate) fn serves(&self, api: &str) -> bool {
        api.is_empty() || self.spec.apis.is_empty() || self.spec.apis.contains(api)
    }

    /// Price of a GPU-hour of the flavor in millionths.
    pub(crate) fn price(&self, flavors: &Flavors, flavor: FlavorId) -> Option<i64> {
        self.spec.prices.get(flavors.name(flavor)).copied()
    }

    /// Milligrams of CO2e of a GPU-hour of the flavor.
    pub(crate) fn emissions(&self, flavors: &Flavors, flavor: FlavorId) -> Option<i64> {
        self.spec.emissions.get(flavors.name(flavor)).copied()
    }
}

/// One place a class may go: a cluster, and for gangs with GPUs the model there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) tier: usize,
    pub(crate) cluster: ClusterIndex,
    pub(crate) flavor: Option<FlavorId>,
    pub(crate) price: Option<i64>,
    /// What a GPU-hour emits there, where that is what counts.
    pub(crate) emissions: Option<i64>,
    /// What moving the gang's dataset there costs, in millionths; 0 if there is nothing to move; `None`: nobody says.
    pub(crate) egress: Option<i64>,
}

/// The first tier that has the cluster; without tiers 0 for every cluster that takes jobs.
pub(crate) fn tier_of(tiers: &[Tier], spec: &ClusterSpec) -> Option<usize> {
    if tiers.is_empty() {
        return spec.takes_jobs.then_some(0);
    }
    tiers.iter().position(|tier| {
        tier.clusters.contains_key(&spec.name) || tier.selector.as_ref().is_some_and(|selector| selector.matches(&spec.labels))
    })
}

/// By what places are compared.
#[derive(Clone, Copy)]
pub(crate) struct Yardstick<'a> {
    pub(crate) prefers: Prefers,
    pub(crate) typical: &'a Typical,
    /// The work that is expected of the gang; of no meaning without a dataset.
    pub(crate) lasts_ms: i64,
}

/// Every place the class may go, in the order it is tried: tier, then what is preferred ([`Place::key`]), then name. Where the order
/// of the list is preferred: tier, place in the list, name, then what is cheapest.
pub(crate) fn candidates(
    tiers: &[Tier],
    Yardstick { prefers, typical, lasts_ms }: Yardstick<'_>,
    class: &Class,
    sites: &[Site],
    flavors: &Flavors,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        let Some(cluster) = &site.cluster else { continue };
        if cluster.spec.state != ClusterState::Live {
            continue;
        }
        let Some(tier) = tier_of(tiers, &cluster.spec) else { continue };
        if !cluster.serves(&class.gang.api) {
            continue;
        }
        let egress = cluster.egress(class);
        if !class.on_gpu {
            found.push(Candidate { tier, cluster: index, flavor: None, price: None, emissions: None, egress });
            continue;
        }
        for flavor in site.nodes.flavors().filter(|flavor| class.flavors.is_empty() || class.flavors.contains(flavor)) {
            let emissions = cluster.emissions(flavors, flavor).filter(|_| prefers == Prefers::Greenest);
            found.push(Candidate {
                tier,
                cluster: index,
                flavor: Some(flavor),
                price: cluster.price(flavors, flavor),
                emissions,
                egress,
            });
        }
    }
    let order = |candidate: &Candidate| {
        let place = Place::of(class, candidate, lasts_ms);
        let advantage = match prefers {
            Prefers::Cheapest | Prefers::Greenest | Prefers::Listed => 0,
            Prefers::Fastest => candidate.flavor.map_or(0, |flavor| typical.advantage(flavor, place.speed)),
        };
        let preferred = place.key(prefers, advantage);
        let flavor = candidate.flavor.map(|flavor| flavors.name(flavor));
        let name = sites[candidate.cluster].name.as_str();
        let (first, then) = match prefers {
            Prefers::Cheapest | Prefers::Greenest | Prefers::Fastest => (preferred, [0; 5]),
            Prefers::Listed => {
                let listed = tiers.get(candidate.tier).map_or(Tier::UNLISTED, |tier| tier.place_of(name));
                ([i64::from(listed), 0, 0, 0, 0], preferred)
            }
        };
        (candidate.tier, first, name, then, flavor)
    };
    found.sort_by(|left, right| order(left).cmp(&order(right)));
    found
}
