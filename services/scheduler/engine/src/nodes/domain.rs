//! Gangs whose workers stand together. The *domains* of a level are the nodes that have one value of a label (the nodes of a rack), or
//! each node by itself. A gang goes into the domain with the least left that has room for all of it; one that only prefers that goes
//! into the fewest domains otherwise.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bucket::{Bucket, Members};
use super::{NodeIndex, Nodes, Place, Shortage};
use crate::class::{Class, FlavorId};
use crate::mix::Mix;
use crate::spec::{NodeSpec, Topology, TopologyMode};
use crate::vector::ResourceTable;

/// Number of a domain in its level: in the order of names, and of single nodes in the order in which they were told.
type Domain = usize;

/// The levels that the nodes of a cluster name.
#[derive(Debug, Default)]
pub(super) struct Levels(BTreeMap<String, Level>);

/// One level: its domains by name, and the one of each node that is in some.
#[derive(Debug, Default)]
struct Level {
    names: Vec<String>,
    of: Vec<Option<Domain>>,
}

impl Levels {
    pub(super) fn new(specs: &[NodeSpec]) -> Self {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (level, domain) in specs.iter().flat_map(|spec| &spec.domains) {
            names.entry(level).or_default().insert(domain);
        }
        let level = |(level, names): (&str, BTreeSet<&str>)| {
            let names: Vec<String> = names.into_iter().map(ToOwned::to_owned).collect();
            let domain = |spec: &NodeSpec| names.binary_search(spec.domains.get(level)?).ok();
            let of = specs.iter().map(domain).collect();
            (level.to_owned(), Level { names, of })
        };
        Self(names.into_iter().map(level).collect())
    }

    /// The domains of a level; `None` where no node is in one.
    fn at(&self, level: Option<&str>) -> Option<At<'_>> {
        match level {
            None => Some(At::All),
            Some(Topology::NODE) => Some(At::Node),
            Some(level) => self.0.get(level).map(At::Level),
        }
    }
}

/// Which domains count.
#[derive(Clone, Copy)]
enum At<'a> {
    /// All nodes together.
    All,
    /// Each node.
    Node,
    /// Those of a level.
    Level(&'a Level),
}

impl At<'_> {
    fn domain(self, node: NodeIndex) -> Option<Domain> {
        match self {
            Self::All => Some(0),
            Self::Node => Some(node as usize),
            Self::Level(level) => *level.of.get(node as usize)?,
        }
    }
}

/// How many workers of each group of a gang have room in each domain, each node counted for as many as the group has at most.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    groups: usize,
    workers: Vec<u64>,
}

impl Rooms {
    pub(crate) fn of(&self, domain: Domain) -> &[u64] {
        &self.workers[domain * self.groups..(domain + 1) * self.groups]
    }

    /// Room for more workers of a group in a domain.
    pub(crate) fn gain(&mut self, domain: Domain, group: usize, workers: u64) {
        self.workers[domain * self.groups + group] += workers;
    }

    /// Takes each domain to have room for a group.
    pub(crate) fn fill(&mut self, group: usize, workers: u64) {
        self.workers.iter_mut().skip(group).step_by(self.groups).for_each(|room| *room = workers);
    }

    fn domains(&self) -> std::ops::Range<Domain> {
        0..self.workers.len() / self.groups
    }

    /// Domains with room for each group alone.
    pub(crate) fn enough(&self, class: &Class) -> impl Iterator<Item = Domain> {
        self.domains().filter(|domain| covers(class, self.of(*domain)))
    }
}

fn covers(class: &Class, room: &[u64]) -> bool {
    class.groups.iter().zip(room).all(|(group, room)| *room >= u64::from(group.replicas))
}

impl Nodes {
    /// Whether some node is in a domain of a level.
    pub(crate) fn has_level(&self, level: &str) -> bool {
        level == Topology::NODE || self.levels.0.contains_key(level)
    }

    /// The domain of a node. Without a level all nodes are of one.
    pub(crate) fn domain_of(&self, level: Option<&str>, node: NodeIndex) -> Option<Domain> {
        self.levels.at(level)?.domain(node)
    }

    fn domains(&self, at: At<'_>) -> usize {
        match at {
            At::All => 1,
            At::Node => self.nodes.len(),
            At::Level(level) => level.names.len(),
        }
    }

    fn domain_name(&self, at: At<'_>, domain: Domain) -> String {
        match at {
            At::All => String::new(),
            At::Node => self.name(domain as NodeIndex).to_owned(),
            At::Level(level) => level.names[domain].clone(),
        }
    }

    /// What there is room for in each domain of a level; `None` where no node is in one.
    pub(super) fn rooms(&self, level: &str, class: &Class, flavor: Option<FlavorId>) -> Option<Rooms> {
        Some(self.rooms_at(self.levels.at(Some(level))?, class, flavor))
    }

    /// What there is room for in the domains that count for a gang that must stand in one, or else in all nodes together.
    pub(crate) fn room(&self, class: &Class, flavor: Option<FlavorId>) -> Rooms {
        let none = Rooms { groups: class.groups.len(), workers: Vec::new() };
        match class.gang.required_level() {
            Some(level) => self.rooms(level, class, flavor).unwrap_or(none),
            None => self.rooms_at(At::All, class, flavor),
        }
    }

    fn rooms_at(&self, at: At<'_>, class: &Class, flavor: Option<FlavorId>) -> Rooms {
        let groups = class.groups.len();
        let mut rooms = Rooms { groups, workers: vec![0; self.domains(at) * groups] };
        for (index, group) in class.groups.iter().enumerate() {
            for (bucket, members) in self.eligible(group, flavor) {
                let fits = u64::from(bucket.fits(group).min(group.replicas));
                if matches!(at, At::All) {
                    rooms.gain(0, index, fits * members.nodes.len() as u64);
                } else if fits > 0 {
                    let domains = members.nodes.iter().filter_map(|node| at.domain(*node));
                    domains.for_each(|domain| rooms.gain(domain, index, fits));
                }
            }
        }
        rooms
    }

    /// Free whole GPUs in each domain, of the gang's model if it has one.
    fn gpus_in(&self, at: At<'_>, flavor: Option<FlavorId>) -> Vec<i64> {
        let mut gpus = vec![0; self.domains(at)];
        let of_model = |bucket: &&Bucket| bucket.gpus > 0 && flavor.is_none_or(|flavor| flavor == bucket.flavor);
        for (bucket, members) in self.buckets.iter().filter(|(bucket, _)| of_model(bucket)) {
            for domain in members.nodes.iter().filter_map(|node| at.domain(*node)) {
                gpus[domain] += bucket.gpus;
            }
        }
        gpus
    }

    /// Packs a gang into one domain: of those with room the one with the fewest free GPUs, then with room for the fewest of its workers,
    /// then the first.
    pub(super) fn place_together(
        &mut self,
        topology: &Topology,
        class: &Class,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Result<Vec<Place>, Shortage> {
        let Topology { level, mode } = topology;
        let first = class.packing_order[0];
        let levels = Arc::clone(&self.levels);
        let Some(at) = levels.at(Some(level)).filter(|at| self.domains(*at) > 0) else {
            return match mode {
                TopologyMode::Required => Err(Shortage { group: first, fitting: 0, short_of: BTreeSet::new(), domain: None }),
                TopologyMode::Preferred => self.place_anywhere(class, flavor, resources, mix),
            };
        };
        let (rooms, gpus) = (self.rooms_at(at, class, flavor), self.gpus_in(at, flavor));
        let mut enough: Vec<Domain> = rooms.enough(class).collect();
        enough.sort_unstable_by_key(|domain| (gpus[*domain], rooms.of(*domain)[first], *domain));
        let mut shortage = None;
        for domain in enough {
            match self.place_within(at, &[domain], class, flavor, resources, mix) {
                Ok(places) => return Ok(places),
                Err(short) => shortage = shortage.or(Some((short, domain))),
            }
        }
        if matches!(mode, TopologyMode::Preferred) {
            return self.place_on_fewest((at, &rooms, &gpus), class, flavor, resources, mix);
        }
        let (shortage, domain) = match shortage {
            Some(known) => known,
            None => {
                let domain = closest(class, &rooms);
                match self.place_within(at, &[domain], class, flavor, resources, mix) {
                    Ok(places) => return Ok(places),
                    Err(shortage) => (shortage, domain),
                }
            }
        };
        Err(Shortage { domain: Some(self.domain_name(at, domain)), ..shortage })
    }

    /// Packs a gang into the fewest domains that have room for each of its groups, those with the most room first; the last of them is
    /// the one with the least left that will do. Nodes without a domain are used only if all domains are not enough.
    fn place_on_fewest(
        &mut self,
        (at, rooms, gpus): (At<'_>, &Rooms, &[i64]),
        class: &Class,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Result<Vec<Place>, Shortage> {
        let first = class.packing_order[0];
        let mut order: Vec<Domain> = rooms.domains().filter(|domain| rooms.of(*domain).iter().any(|room| *room > 0)).collect();
        order.sort_unstable_by_key(|domain| (Reverse(rooms.of(*domain)[first]), Reverse(gpus[*domain]), *domain));
        let with = |sum: &[u64], domain: Domain| -> Vec<u64> {
            sum.iter().zip(rooms.of(domain)).map(|(sum, room)| sum + room).collect()
        };
        let mut sum = vec![0; class.groups.len()];
        // Single domains were tried.
        let mut next_try = 1;
        for taken in 0..order.len() {
            let before = sum;
            sum = with(&before, order[taken]);
            if taken < next_try || !covers(class, &sum) {
                continue;
            }
            let enough = order[taken..].iter().copied().filter(|domain| covers(class, &with(&before, *domain)));
            let last = enough.min_by_key(|domain| (gpus[*domain], rooms.of(*domain)[first], *domain));
            let within: Vec<Domain> = order[..taken].iter().copied().chain(last).collect();
            if let Ok(places) = self.place_within(at, &within, class, flavor, resources, mix) {
                return Ok(places);
            }
            // Groups of several sizes don't always fit together where each fits alone: then with a quarter more.
            next_try = taken + 1 + taken / 4;
        }
        self.place_anywhere(class, flavor, resources, mix)
    }

    /// Packs a gang onto the nodes of some domains only.
    fn place_within(
        &mut self,
        at: At<'_>,
        domains: &[Domain],
        class: &Class,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Result<Vec<Place>, Shortage> {
        let within: BTreeSet<Domain> = domains.iter().copied().collect();
        self.only_in(at, &within, class, resources, |nodes| nodes.place_anywhere(class, flavor, resources, mix))
    }

    /// Packs on the nodes of some domains only.
    fn only_in<E>(
        &mut self,
        at: At<'_>,
        within: &BTreeSet<Domain>,
        class: &Class,
        resources: &ResourceTable,
        pack: impl FnOnce(&mut Self) -> Result<Vec<Place>, E>,
    ) -> Result<Vec<Place>, E> {
        let inside = |node: &NodeIndex| at.domain(*node).is_some_and(|domain| within.contains(&domain));
        let mut some: BTreeMap<Bucket, Members> = BTreeMap::new();
        for (bucket, members) in &self.buckets {
            let nodes: BTreeSet<NodeIndex> = members.nodes.iter().copied().filter(inside).collect();
            if !nodes.is_empty() {
                some.insert(bucket.clone(), Members { nodes, ..Members::default() });
            }
        }
        // While it is packed there are no other nodes.
        let all = std::mem::replace(&mut self.buckets, some);
        let placed = pack(self);
        if let Ok(places) = &placed {
            self.give_places(class, places, resources);
        }
        self.buckets = all;
        if let Ok(places) = &placed {
            self.take_places(class, places, resources);
        }
        placed
    }

    /// Packs as many workers of a group as there is room for in the domains of a level in which others of the gang stand; none where some
    /// of these are in no domain.
    pub(super) fn fill_beside(
        &mut self,
        (level, beside): (&str, &[Place]),
        class: &Class,
        workers: (usize, u32),
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Vec<Place> {
        let levels = Arc::clone(&self.levels);
        let Some(at) = levels.at(Some(level)) else { return Vec::new() };
        let domains: Option<BTreeSet<Domain>> = beside.iter().map(|place| at.domain(place.node)).collect();
        let Some(domains) = domains else { return Vec::new() };
        let fill = |nodes: &mut Self| Ok(nodes.fill_anywhere(class, workers, flavor, resources, mix));
        let Ok(places) = self.only_in(at, &domains, class, resources, fill).map_err(|error: std::convert::Infallible| error);
        places
    }

    /// Whether places are where a gang must stand together, as far as it must.
    pub(crate) fn is_together(&self, class: &Class, places: &[Place]) -> bool {
        let Some(level) = class.gang.required_level() else { return true };
        let domains: BTreeSet<Option<Domain>> = places.iter().map(|place| self.domain_of(Some(level), place.node)).collect();
        domains.len() == 1 && !domains.contains(&None)
    }
}

/// The domain in which the most of a gang has room: of its groups in the order of packing, and of the workers of the first that has not.
fn closest(class: &Class, rooms: &Rooms) -> Domain {
    let has = |domain: &Domain| {
        let room = rooms.of(*domain);
        let short = |group: &usize| room[*group] < u64::from(class.groups[*group].replicas);
        let at = class.packing_order.iter().position(short);
        (at, at.map(|at| room[class.packing_order[at]]), Reverse(*domain))
    };
    rooms.domains().max_by_key(has).unwrap_or(0)
}
