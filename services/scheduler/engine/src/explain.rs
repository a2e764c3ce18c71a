//! Why a job stands where it stands: its place in its queue, what holds it, and per cluster the exact reason. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use crate::amounts::show;
use crate::class::{self, Class, FlavorId, NORMAL_SPEED, time_of};
use crate::cluster::{Cluster, Yardstick, candidates, tier_of};
use crate::engine::{Engine, State};
use crate::event::{ClusterState, JobId, Refused, Time};
use crate::lanes::Waits;
use crate::nodes::{Nodes, Place, Shortage};
use crate::queues::{Excess, QueueIndex, ROOT, Work};
use crate::reason::{Apart, ClusterVerdict, Explanation, Gap, Hold, QueueShare, Reason, Standing, Threshold, level_word};
use crate::regions::OverRegions;
use crate::spec::{BudgetUnit, JobSpec, TierOpens};
use crate::vector::units;

/// Which tiers are open to a job at the moment.
struct TiersFor {
    /// How many.
    open: usize,
    /// When the next one opens, whatever waits then.
    opens: Option<Time>,
    /// How much has to wait for it.
    threshold: Option<Threshold>,
}

impl Engine {
    /// Explains an unfinished job; `None` if it isn't known.
    #[must_use]
    pub fn explain(&self, id: JobId) -> Option<Explanation> {
        let job = self.jobs.get(id)?;
        // A gang that waits has room where its least size has.
        let class = self.classes.get(job.asks);
        let (placed_on, standing) = match &job.state {
            State::Waiting(_) => (Vec::new(), Standing::Waiting),
            State::BackOff(until) => (Vec::new(), Standing::BackOff { until: *until }),
            State::Suspended => (Vec::new(), Standing::Suspended),
            State::Placed(run) => {
                let cluster = &self.sites[run.cluster].name;
                let standing = Standing::Placed { cluster: cluster.clone(), epoch: job.epoch, started_at: run.started_at };
                (run.clusters().collect(), standing)
            }
        };
        let owner = self.queues.tier_owner(job.queue);
        let tiers = self.tiers_for(owner, self.waits(job));
        let mut empty_fits = BTreeMap::new();
        let lasts_ms = TierOpens::lasts_ms(job.expected_ms);
        let yardstick = Yardstick { prefers: self.queues.prefers(job.queue), typical: &self.typical, lasts_ms };
        let places = candidates(self.queues.tiers(owner), yardstick, class, &self.sites, &self.flavors);
        let mut clusters: Vec<ClusterVerdict> = self
            .sites
            .iter()
            .enumerate()
            .filter_map(|(index, site)| Some((index, &site.nodes, site.cluster.as_ref()?)))
            .map(|(index, nodes, cluster)| {
                let tier = tier_of(self.queues.tiers(owner), &cluster.spec);
                let reason = if placed_on.contains(&index) {
                    Reason::Here
                } else {
                    self.judge(class, (cluster, nodes), tier, &tiers, owner == ROOT, &mut empty_fits)
                };
                let models = self.model_verdicts(job, class, cluster, nodes);
                let place = places.iter().position(|place| place.cluster == index);
                let moving = cluster.moving(class);
                ClusterVerdict { cluster: cluster.spec.name.clone(), tier, place, reason, moving, models }
            })
            .collect();
        clusters.sort_by(|left, right| left.cluster.cmp(&right.cluster));
        let whole = !placed_on.is_empty() || clusters.iter().any(|verdict| verdict.reason == Reason::Room);
        let span = if whole { None } else { self.look_over_regions(job, class, &places, tiers.open) };
        let holds = match placed_on.is_empty() {
            true => self.holds((job, class), &standing, &clusters, span.as_ref(), tiers),
            false => Vec::new(),
        };
        let span = span.map(|span| span.verdict);
        let ahead = if standing == Standing::Waiting { self.ahead_of(job) } else { 0 };
        let size = self.size_verdict(job);
        let (queue, preference) = (self.queues.get(job.queue).spec.name.clone(), self.preference(job, class, &places));
        let shares = self.queues.chain(job.queue).map(|index| self.share_of(index)).collect();
        Some(Explanation { job: id, queue, standing, size, ahead, holds, shares, preference, span, clusters })
    }

    fn tiers_for(&self, owner: QueueIndex, waits: Waits) -> TiersFor {
        let (open, opens) = self.tiers_open(owner, waits);
        let says = self.queues.tiers_said_by(owner);
        let now = open.now(self.queues.shut(says));
        if now == open.tiers {
            return TiersFor { open: now, opens, threshold: None };
        }
        TiersFor { open: now, opens: waits.begin_by, threshold: self.queues.threshold(says, now) }
    }

    fn holds(
        &self,
        (job, class): (&crate::engine::Job, &Class),
        standing: &Standing,
        clusters: &[ClusterVerdict],
        span: Option<&OverRegions>,
        tiers: TiersFor,
    ) -> Vec<Hold> {
        let mut holds = Vec::new();
        match standing {
            Standing::BackOff { until } => holds.push(Hold::BackOff { until: *until }),
            Standing::Suspended => holds.push(Hold::Resume),
            Standing::Waiting | Standing::Placed { .. } => {}
        }
        for queue in self.queues.chain(job.queue).chain([ROOT]) {
            let excess = self.queues.excess(job.queue, queue, &class.total);
            holds.extend(excess.into_iter().map(|excess| self.limit_exceeded(queue, excess)));
        }
        let prices =
            clusters.iter().filter(|verdict| matches!(verdict.reason, Reason::Room | Reason::Full(_) | Reason::Apart(_)));
        let prices = prices.filter_map(|verdict| Some((self.cheapest(class, &verdict.cluster)?, verdict.moving.as_ref())));
        let works = prices.map(|((price, speed), moving)| {
            let egress = moving.and_then(|moving| moving.micros);
            Self::work_at(job, class, Some(price), speed).with_egress(egress)
        });
        let work = works.min_by_key(|work| work.of(BudgetUnit::Micros));
        let split = span.filter(|span| span.verdict.fits());
        let work = split.filter(|split| split.verdict.open).map(|split| split.work).or(work);
        let work = work.unwrap_or_else(|| Self::work_at(job, class, None, NORMAL_SPEED));
        for index in self.queues.chain(job.queue) {
            let queue = self.queues.get(index);
            for (number, budget, counted, asked) in queue.unaffordable(work) {
                let (queue, budget) = (queue.spec.name.clone(), *budget);
                holds.push(Hold::Budget { queue, number, budget, counted, asked });
            }
        }
        let has_room = clusters.iter().any(|verdict| verdict.reason == Reason::Room);
        if !has_room && split.is_none_or(|split| !split.verdict.open) {
            let mut short_of = BTreeSet::new();
            let mut full = false;
            for verdict in clusters {
                if let Reason::Full(gap) = &verdict.reason {
                    full = true;
                    short_of.extend(gap.short_of.iter().cloned());
                }
            }
            let closed = |verdict: &ClusterVerdict| matches!(verdict.reason, Reason::TierClosed { .. } | Reason::TooFewWait(_));
            let closed = split.is_some() || clusters.iter().any(closed);
            let region = span.filter(|span| span.is_possible && split.is_none());
            let apart = clusters.iter().any(|verdict| matches!(verdict.reason, Reason::Apart(_)));
            if full {
                holds.push(Hold::Room { short_of });
            }
            holds.extend(region.map(|span| Hold::Region(span.verdict.clone())));
            if let Some(level) = class.gang.required_level().filter(|_| apart) {
                holds.push(Hold::Together { level: level.to_owned() });
            } else if !full && !closed && region.is_none() {
                holds.push(Hold::NoCluster);
            }
            let TiersFor { open: tier, opens, threshold } = tiers;
            if let Some(threshold) = threshold.filter(|_| closed) {
                holds.push(Hold::MoreWaiting { tier, threshold });
            }
            if let Some(at) = opens.filter(|_| closed) {
                holds.push(Hold::TierOpens { tier, at });
            }
        }
        holds
    }

    /// What a job counts with in budgets at a price and a speed.
    fn work_at(job: &crate::engine::Job, class: &Class, price: Option<i64>, speed: i64) -> Work {
        let lasts_ms = time_of(TierOpens::lasts_ms(job.expected_ms), speed);
        Work::new(lasts_ms.saturating_mul(class.gpus), price)
    }

    fn share_of(&self, index: QueueIndex) -> QueueShare {
        let queue = self.queues.get(index);
        let share = self.queues.whole_share(index, &self.everything) * f64::from(queue.spec.weight);
        QueueShare {
            queue: queue.spec.name.clone(),
            weight: queue.spec.weight,
            // Not negative, and no more than a few.
            share_ppm: (share * 1e6).round() as u64,
            used_lately: queue.lately.as_ref().map_or(0, |lately| lately.gpus),
        }
    }

    /// Which of the limits of a queue it is that a gang would exceed.
    pub(crate) fn limit_exceeded(&self, queue: QueueIndex, excess: Excess) -> Hold {
        let entry = self.queues.get(queue);
        let Excess { resource: index, limit, used, kept, asked } = excess;
        let by_what_is_kept = kept > 0 && used.saturating_add(asked) <= limit;
        let keepers = if by_what_is_kept { self.queues.keepers(queue, index) } else { BTreeSet::new() };
        let guaranteed = self.queues.guarantee(queue).get(index);
        let (resource, [limit, used, kept, asked, guaranteed]) =
            self.resources.named(index, [limit, used, kept, asked, guaranteed]);
        let name = entry.spec.name.clone();
        if by_what_is_kept {
            let queue = Some(name).filter(|name| !name.is_empty());
            return Hold::Lending { queue, resource, keepers, limit, used, kept, asked };
        }
        let used = used.saturating_add(kept);
        let of_capability = entry.spec.capability.iter().any(|(name, most)| {
            let (name, most) = units(name, *most);
            self.resources.find(name) == Some(index) && most == excess.limit
        });
        if entry.spec.borrowing_limit.contains_key(self.resources.name(index)) && !of_capability {
            let most = limit.saturating_sub(guaranteed);
            return Hold::Borrowing { queue: name, resource, guaranteed, most, used, asked };
        }
        Hold::Capability { queue: name, resource, limit, used, asked }
    }

    /// The price of a GPU-hour and the speed of the model on a cluster on which a unit of work costs least.
    fn cheapest(&self, class: &Class, cluster: &str) -> Option<(i64, i64)> {
        let site = &self.sites[*self.site_by_name.get(cluster)?];
        let flavors = self.flavors_for(class, &site.nodes).into_iter().flatten();
        let price = |flavor| Some((site.cluster.as_ref()?.price(&self.flavors, flavor)?, class.speed(Some(flavor))));
        flavors.filter_map(price).min_by_key(|(price, speed)| time_of(*price, *speed))
    }

    fn judge(
        &self,
        class: &Class,
        (cluster, nodes): (&Cluster, &Nodes),
        tier: Option<usize>,
        tiers: &TiersFor,
        without_tiers: bool,
        empty_fits: &mut BTreeMap<String, Result<(), Shortage>>,
    ) -> Reason {
        let Some(tier) = tier else {
            return if without_tiers { Reason::TakesNoJobs } else { Reason::NotInTiers };
        };
        match cluster.spec.state {
            ClusterState::Live => {}
            ClusterState::Cordoned => return Reason::Cordoned,
            ClusterState::Suspect => return Reason::Suspect,
            ClusterState::Lost => return Reason::Lost,
            ClusterState::Absent => return Reason::Absent,
        }
        if !cluster.serves(&class.gang.api) {
            return Reason::NoApi { wanted: class.gang.api.clone() };
        }
        let flavors: Vec<Option<FlavorId>> = self.flavors_for(class, nodes);
        if flavors.is_empty() {
            return Reason::NoFlavor {
                wanted: class.gang.flavors.clone(),
                present: nodes.flavors().map(|flavor| self.flavors.name(flavor).to_owned()).collect(),
            };
        }
        if let Some(level) = class.gang.required_level().filter(|level| !nodes.has_level(level)) {
            return Reason::NoLevel { level: level.to_owned() };
        }
        let in_empty = empty_fits
            .entry(cluster.spec.name.clone())
            .or_insert_with(|| self.try_flavors(class, &nodes.emptied(&self.resources), &flavors));
        if let Err(shortage) = in_empty {
            return match self.apart(class, &nodes.emptied(&self.resources), &flavors, shortage) {
                Ok(apart) => Reason::NoDomain(apart),
                Err(gap) => Reason::TooSmall(gap),
            };
        }
        if tier >= tiers.open {
            return match &tiers.threshold {
                Some(threshold) if tier == tiers.open => Reason::TooFewWait(threshold.clone()),
                Some(_) | None => Reason::TierClosed { opens: tiers.opens.filter(|_| tier == tiers.open) },
            };
        }
        match self.try_flavors(class, nodes, &flavors) {
            Ok(()) => Reason::Room,
            Err(shortage) => match self.apart(class, nodes, &flavors, &shortage) {
                Ok(apart) => Reason::Apart(apart),
                Err(gap) => Reason::Full(gap),
            },
        }
    }

    /// How far a gang is from fitting into one domain, if it would fit into several; else how far it is from fitting anywhere.
    fn apart(&self, class: &Class, nodes: &Nodes, flavors: &[Option<FlavorId>], shortage: &Shortage) -> Result<Apart, Gap> {
        let (Some(level), Some(domain)) = (class.gang.required_level(), &shortage.domain) else {
            return Err(self.gap(class, shortage));
        };
        match self.try_with(flavors, |flavor| nodes.clone().place_anywhere(class, flavor, &self.resources, &self.mix)) {
            Ok(()) => Ok(Apart { level: level.to_owned(), domain: domain.clone(), gap: self.gap(class, shortage) }),
            Err(anywhere) => Err(self.gap(class, &anywhere)),
        }
    }

    /// Models of the nodes that would do; `[None]` for a gang without GPUs.
    pub(crate) fn flavors_for(&self, class: &Class, nodes: &Nodes) -> Vec<Option<FlavorId>> {
        if !class.on_gpu {
            return vec![None];
        }
        nodes.flavors().filter(|flavor| class.flavors.is_empty() || class.flavors.contains(flavor)).map(Some).collect()
    }

    /// Whether the gang fits with one of the models; else the shortage of the one that comes closest.
    fn try_flavors(&self, class: &Class, nodes: &Nodes, flavors: &[Option<FlavorId>]) -> Result<(), Shortage> {
        self.try_with(flavors, |flavor| nodes.clone().place(class, flavor, &self.resources, &self.mix))
    }

    fn try_with(
        &self,
        flavors: &[Option<FlavorId>],
        place: impl Fn(Option<FlavorId>) -> Result<Vec<Place>, Shortage>,
    ) -> Result<(), Shortage> {
        let mut closest: Option<Shortage> = None;
        for flavor in flavors {
            match place(*flavor) {
                Ok(_) => return Ok(()),
                Err(shortage) if closest.as_ref().is_none_or(|known| known.fitting < shortage.fitting) => {
                    closest = Some(shortage)
                }
                Err(_) => {}
            }
        }
        Err(closest.expect("callers pass at least one model"))
    }

    fn gap(&self, class: &Class, shortage: &Shortage) -> Gap {
        let group = &class.gang.groups[shortage.group];
        Gap {
            group: group.name.clone(),
            workers: group.replicas,
            fitting: shortage.fitting,
            each: group.each.iter().map(|(name, amount)| format!("{} {name}", show(name, amount))).collect::<Vec<_>>().join(", "),
            short_of: shortage.short_of.iter().map(|index| self.resources.name(*index).to_owned()).collect(),
        }
    }

    fn ahead_of(&self, job: &crate::engine::Job) -> u64 {
        let own = job.expected_ms.saturating_mul(self.classes.get(job.class).gpus.max(1)).min(crate::lanes::MOST_HEAD_START_MS);
        let lanes = self.queues.get(job.queue).sections.values().flat_map(|section| &section.lanes);
        lanes
            .map(|(_, lane)| self.lanes.get(*lane))
            .map(|lane| match lane.priority.cmp(&job.priority) {
                std::cmp::Ordering::Greater => lane.jobs.len() as u64,
                std::cmp::Ordering::Equal => {
                    // Who of this lane stands where the job stands was submitted then.
                    let level = job.submitted_at.0.saturating_add(own).saturating_sub(lane.head_start_ms());
                    lane.jobs.range(..(Time(level), job.id)).count() as u64
                }
                std::cmp::Ordering::Less => 0,
            })
            .sum()
    }

    /// Whether a job can be taken in at all: its queue exists and takes jobs, its gang is sound, and of the clusters that
    /// the queue may use now (whatever their state and load) at least one could hold it when empty. With none known yet
    /// it is taken in and waits.
    ///
    /// # Errors
    /// The field at fault and, for a gang that is too large, what each cluster lacks.
    pub fn admit(&self, spec: &JobSpec) -> Result<(), Refused> {
        class::check(&spec.gang)?;
        let queue = self
            .queues
            .find(&spec.queue)
            .ok_or_else(|| Refused::new("queue", format!("queue {:?} does not exist", spec.queue)))?;
        if !self.queues.get(queue).children.is_empty() {
            return Err(Refused::new("queue", format!("queue {:?} has queues below it; jobs go to those", spec.queue)));
        }
        // The tables are copied, so that a job that is refused leaves no trace; they are small.
        let gang = spec.gang.elastic.map_or_else(|| spec.gang.clone(), |elastic| spec.gang.at(elastic.least));
        let class = class::build(&gang, &mut self.resources.clone(), &mut self.flavors.clone(), &mut self.mix.clone());
        let tiers = self.queues.tiers(queue);
        let (mut refusals, mut apart, mut without_room) = (Vec::new(), false, false);
        let known = self.sites.iter().filter_map(|site| Some((&site.nodes, site.cluster.as_ref()?)));
        for (nodes, cluster) in known.filter(|(_, cluster)| tier_of(tiers, &cluster.spec).is_some()) {
            let flavors = self.flavors_for(&class, nodes);
            if cluster.spec.nodes.is_empty() {
                return Ok(());
            }
            if !cluster.serves(&spec.gang.api) {
                refusals.push(format!("{} does not serve {}", cluster.spec.name, spec.gang.api));
                continue;
            }
            if flavors.is_empty() {
                refusals.push(format!("{} has no such GPU", cluster.spec.name));
                continue;
            }
            if let Some(level) = class.gang.required_level().filter(|level| !nodes.has_level(level)) {
                apart = true;
                refusals.push(format!("no node of {} has the label {level}", cluster.spec.name));
                continue;
            }
            let emptied = nodes.emptied(&self.resources);
            let Err(shortage) = self.try_flavors(&class, &emptied, &flavors) else { return Ok(()) };
            let cluster = &cluster.spec.name;
            match self.apart(&class, &emptied, &flavors, &shortage) {
                Ok(Apart { level, domain, .. }) => {
                    apart = true;
                    let gap = self.admit_gap(&gang, &shortage);
                    refusals.push(format!("{cluster}, in one {}, {domain:?}: {gap}", level_word(&level)));
                }
                Err(_) => {
                    without_room = true;
                    refusals.push(format!("{cluster}: {}", self.admit_gap(&gang, &shortage)));
                }
            }
        }
        if refusals.is_empty() || self.could_be_split(&class, &self.places_in_any_state(queue, &class)) {
            return Ok(());
        }
        refusals.truncate(8);
        Err(Refused::new(
            if apart && !without_room { "topology" } else { "groups" },
            format!("no {} of the queue could hold the gang, even when empty: {}", gang.span.whole(), refusals.join("; ")),
        ))
    }

    fn admit_gap(&self, gang: &crate::Gang, shortage: &Shortage) -> String {
        let group = &gang.groups[shortage.group];
        let each =
            group.each.iter().map(|(name, amount)| format!("{} {name}", show(name, amount))).collect::<Vec<_>>().join(", ");
        format!("room for {} of {} workers × ({each})", shortage.fitting, group.replicas)
    }
}
