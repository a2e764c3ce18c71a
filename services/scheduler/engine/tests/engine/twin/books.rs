//! What the twin believes: its books of who has what, and what it asserts of every decision that it enters in them.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Dice, beyond};
use muster_scheduler_engine::{
    Amounts, BoundNode, Cause, ClusterSpec, Dataset, Elastic, Epoch, Gang, Interruption, JobId, JobSpec, MOST_PARTS, Placement,
    QueueSpec, Resize, SizeChange, Slot, Span, TierOpens, Topology, TopologyMode,
};

/// What the twin knows of a job.
#[derive(Clone, Debug)]
pub(super) enum Its {
    Waiting,
    Aside,
    Running(Running),
}

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) epoch: Epoch,
    pub(super) cluster: String,
    pub(super) flavor: Option<String>,
    /// What it holds there.
    pub(super) slots: Vec<Slot>,
    /// What it holds on other clusters.
    pub(super) elsewhere: Vec<(String, Vec<Slot>)>,
    /// What it holds once those have left that were told to.
    pub(super) shrinks_to: Option<Vec<Slot>>,
    pub(super) started: bool,
    pub(super) told_to_end: bool,
    /// When it began or last changed its size.
    pub(super) changed: i64,
}

pub(super) struct Twin {
    /// cpu, memory and GPUs that are free, by cluster and node.
    pub(super) free: BTreeMap<(String, String), Amounts>,
    pub(super) flavor: BTreeMap<(String, String), String>,
    /// By node: they are of the same name in each cluster, and in the same rack.
    pub(super) rack: BTreeMap<String, String>,
    pub(super) queues: BTreeMap<String, QueueSpec>,
    pub(super) clusters: BTreeMap<String, ClusterSpec>,
    /// Everything that there is.
    pub(super) everything: Amounts,
    pub(super) used: BTreeMap<String, Amounts>,
    pub(super) jobs: BTreeMap<JobId, (JobSpec, Its)>,
    /// When the back-off of a waiting job is over.
    pub(super) backs_off: BTreeMap<JobId, i64>,
    /// Jobs for which runs were told to end: their room is kept for them.
    pub(super) kept: BTreeSet<JobId>,
    pub(super) now: i64,
    pub(super) next: u64,
    pub(super) placed: u64,
    /// Placements in tiers that were open by what waited.
    pub(super) opened: u64,
    /// Placements to which a dataset was moved at a price.
    pub(super) moved: u64,
    pub(super) ended_for_others: u64,
    /// Runs that were ended for a better place of their own.
    pub(super) went_on: u64,
    pub(super) grown: u64,
    pub(super) shrunk: u64,
    /// Placements over several clusters.
    pub(super) split: u64,
}

fn minus(from: &Amounts, what: &Amounts) -> Amounts {
    what.iter().fold(from.clone(), |rest, (name, amount)| {
        let left = rest.get(name) - amount;
        rest.with(name, left)
    })
}

impl Twin {
    /// A queue and those above it.
    pub(super) fn chain(&self, queue: &str) -> Vec<String> {
        let above = |name: &String| self.queues[name].parent.clone();
        std::iter::successors(Some(queue.to_owned()), above).collect()
    }

    /// What is taken of a resource in a queue, or in all (`None`): what is used, and what the queues below keep of what they are
    /// guaranteed and do not lend.
    pub(super) fn taken(&self, queue: Option<&str>, resource: &str) -> i64 {
        let below: Vec<&QueueSpec> = self.queues.values().filter(|spec| spec.parent.as_deref() == queue).collect();
        if let (true, Some(queue)) = (below.is_empty(), queue) {
            return self.used.get(queue).map_or(0, |used| used.get(resource));
        }
        let of = |spec: &QueueSpec| {
            let guarantee = spec.guarantee.get(resource);
            let keeps = spec.lending_limit.get(resource).map_or(0, |lent| guarantee - lent);
            self.taken(Some(&spec.name), resource).max(keeps)
        };
        below.into_iter().map(of).sum()
    }

    /// The most that may be taken of a resource in a queue, or in all.
    pub(super) fn most(&self, queue: Option<&str>, resource: &str) -> i64 {
        let Some(queue) = queue else { return self.everything.get(resource) };
        let spec = &self.queues[queue];
        let capability = spec.capability.get(resource).copied().unwrap_or(i64::MAX);
        spec.borrowing_limit.get(resource).map_or(capability, |most| capability.min(spec.guarantee.get(resource) + most))
    }

    pub(super) fn charge(&mut self, queue: &str, what: &Amounts) {
        let chain = self.chain(queue);
        let levels = || chain.iter().map(|name| Some(name.as_str())).chain([None]);
        let asked: Vec<&str> = what.iter().map(|(resource, _)| resource).collect();
        let taken = |twin: &Self| -> Vec<i64> {
            levels()
                .flat_map(|at| asked.iter().map(move |resource| (at, resource)))
                .map(|(at, resource)| twin.taken(at, resource))
                .collect()
        };
        let before = taken(self);
        for name in &chain {
            let used = self.used.entry(name.clone()).or_default();
            *used = used.checked_add(what).unwrap();
        }
        let after = taken(self);
        let each = levels().flat_map(|at| asked.iter().map(move |resource| (at, *resource)));
        for ((at, resource), (before, after)) in each.zip(before.into_iter().zip(after)) {
            let most = self.most(at, resource);
            assert!(after == before || after <= most, "{after} of {most} {resource} are taken in {at:?}");
        }
    }

    pub(super) fn discharge(&mut self, queue: &str, what: &Amounts) {
        for name in self.chain(queue) {
            let used = self.used.get_mut(&name).unwrap();
            *used = minus(used, what);
        }
    }

    /// GPUs and jobs that wait in a queue and below it.
    pub(super) fn waiting(&self, queue: &str) -> (i64, u64) {
        let waits = |(id, (spec, its)): &(&JobId, &(JobSpec, Its))| {
            let backs_off = self.backs_off.get(id).is_some_and(|until| *until > self.now);
            matches!(its, Its::Waiting) && !backs_off && self.chain(&spec.queue).iter().any(|above| above == queue)
        };
        // An elastic gang asks for its least size.
        let asks = |gang: &Gang| {
            let spared = gang.elastic.map_or(0, |Elastic { group, least }| {
                gang.groups[group].each.gpus() * i64::from(gang.groups[group].replicas - least)
            });
            gang.total().unwrap().gpus() - spared
        };
        let waiting = self.jobs.iter().filter(waits).map(|(_, (spec, _))| asks(&spec.gang));
        waiting.fold((0, 0), |(gpus, jobs), asked| (gpus + asked, jobs + 1))
    }

    /// The tiers up to a cluster's are open by what waits. Room that is kept stays kept when less does, and a deadline opens all.
    pub(super) fn is_open(&mut self, spec: &JobSpec, cluster: &str) {
        let overdue = self.now - spec.submitted_at.0 >= 36 * 3_600_000;
        let Some(says) = self.chain(&spec.queue).into_iter().find(|name| !self.queues[name].tiers.is_empty()) else { return };
        let tiers = &self.queues[&says].tiers;
        let at = tiers.iter().position(|tier| tier.clusters.contains_key(cluster)).expect("a tier has the cluster");
        let opened = tiers[1..=at.max(1)].iter().take(at).filter_map(|tier| match tier.opens {
            TierOpens::WhileWaiting { gpus, jobs } => Some((gpus, jobs)),
            _ => None,
        });
        let (waiting_gpus, waiting_jobs) = self.waiting(&says);
        let kept = self.kept.contains(&spec.id) || overdue || spec.deadline.is_some();
        for (gpus, jobs) in opened.collect::<Vec<_>>() {
            let enough = gpus.is_some_and(|gpus| waiting_gpus > gpus) || jobs.is_some_and(|jobs| waiting_jobs > jobs);
            assert!(enough || kept, "{cluster} takes {:?} while {waiting_gpus} GPUs and {waiting_jobs} jobs wait", spec.id);
            self.opened += u64::from(!kept);
        }
    }

    pub(super) fn place(&mut self, placement: &Placement) {
        let (spec, its) = self.jobs.get(&placement.job).expect("only known jobs are placed").clone();
        assert!(matches!(its, Its::Waiting), "{:?} is placed while {its:?}", placement.job);
        self.is_open(&spec, &placement.cluster);
        self.is_paid(&spec, &placement.cluster, (placement.price_micros, placement.egress_micros), &placement.flavor);
        if !placement.elsewhere.is_empty() {
            self.may_be_split(&spec, placement);
        }
        self.kept.remove(&placement.job);
        let running = Running {
            epoch: placement.epoch,
            cluster: placement.cluster.clone(),
            flavor: placement.flavor.clone(),
            slots: placement.slots.clone(),
            elsewhere: placement.elsewhere.iter().map(|part| (part.cluster.clone(), part.slots.clone())).collect(),
            shrinks_to: None,
            started: false,
            told_to_end: false,
            changed: self.now,
        };
        self.sound(&spec, &running, &running.slots);
        self.take(&spec, &running.cluster, &running.slots);
        for (cluster, slots) in &running.elsewhere {
            self.take(&spec, cluster, slots);
        }
        self.charge(&spec.queue, &spec.gang.as_placed(&running.slots).total().unwrap());
        self.placed += 1;
        self.jobs.insert(placement.job, (spec, Its::Running(running)));
    }

    /// What a place costs is what was told of its cluster.
    fn is_paid(&mut self, spec: &JobSpec, cluster: &str, paid: (Option<i64>, i64), flavor: &Option<String>) {
        let cluster = &self.clusters[cluster];
        let price = flavor.as_ref().and_then(|flavor| cluster.prices.get(flavor).copied());
        let moving = spec.gang.dataset.as_ref().filter(|dataset| dataset.region != cluster.region);
        let egress = moving.and_then(|dataset| Some(cluster.egress.get(&dataset.region)? * (dataset.bytes / Dataset::GIB)));
        assert_eq!(paid, (price, egress.unwrap_or(0)), "{:?} reads {moving:?}", spec.id);
        self.moved += u64::from(egress.is_some());
    }

    /// A gang that may be split is, over clusters of one region and of one tier, on each of which it has something.
    fn may_be_split(&mut self, spec: &JobSpec, placement: &Placement) {
        assert_eq!(spec.gang.span, Span::Region, "{:?} is split", spec.id);
        let tier_of = |twin: &Self, cluster: &str| {
            let says = twin.chain(&spec.queue).into_iter().find(|name| !twin.queues[name].tiers.is_empty());
            says.and_then(|says| twin.queues[&says].tiers.iter().position(|tier| tier.clusters.contains_key(cluster)))
        };
        let (region, tier) = (self.clusters[&placement.cluster].region.clone(), tier_of(self, &placement.cluster));
        let mut seen = BTreeSet::from([&placement.cluster]);
        let gpus = |slots: &[Slot]| -> i64 {
            slots.iter().map(|slot| spec.gang.groups[slot.group].each.gpus() * i64::from(slot.workers)).sum()
        };
        assert!(!region.is_empty() && !placement.slots.is_empty() && placement.elsewhere.len() < MOST_PARTS);
        assert_eq!(placement.gpus, gpus(&placement.slots));
        for part in &placement.elsewhere {
            assert!(seen.insert(&part.cluster) && !part.slots.is_empty(), "{:?} has {part:?}", spec.id);
            assert_eq!((&self.clusters[&part.cluster].region, tier_of(self, &part.cluster)), (&region, tier), "{:?}", spec.id);
            assert_eq!(part.gpus, gpus(&part.slots));
            self.is_paid(spec, &part.cluster, (part.price_micros, part.egress_micros), &placement.flavor);
        }
        self.split += 1;
    }

    /// A plan is of a whole gang, or of one between its least and its full size, and stands together.
    pub(super) fn sound(&self, spec: &JobSpec, running: &Running, slots: &[Slot]) {
        if let Some(Topology { level, mode: TopologyMode::Required }) = &spec.gang.topology {
            let nodes = slots.iter().map(|slot| &slot.node);
            let domains: BTreeSet<&String> =
                if level == Topology::NODE { nodes.collect() } else { nodes.map(|node| &self.rack[node]).collect() };
            assert_eq!(domains.len(), 1, "{:?} stands in {domains:?} of {level}", spec.id);
        }
        for (index, group) in spec.gang.groups.iter().enumerate() {
            let here = slots.iter().map(|slot| (&running.cluster, slot));
            let further = running.elsewhere.iter().flat_map(|(cluster, slots)| slots.iter().map(move |slot| (cluster, slot)));
            let of_group = here.chain(further).filter(|(_, slot)| slot.group == index);
            let workers = of_group.clone().map(|(_, slot)| slot.workers).sum::<u32>();
            match spec.gang.elastic {
                Some(Elastic { group: elastic, least }) if elastic == index => {
                    assert!((least..=group.replicas).contains(&workers), "{:?}: {workers} of {group:?}", spec.id);
                }
                Some(_) | None => assert_eq!(workers, group.replicas, "a gang is whole"),
            }
            for (cluster, slot) in of_group.filter(|_| group.each.gpus() > 0) {
                let key = (cluster.clone(), slot.node.clone());
                assert_eq!(running.flavor.as_ref(), self.flavor.get(&key), "one model for all workers");
            }
        }
    }

    pub(super) fn take(&mut self, spec: &JobSpec, cluster: &str, slots: &[Slot]) {
        for slot in slots {
            let key = (cluster.to_owned(), slot.node.clone());
            let amount = spec.gang.groups[slot.group].each.checked_times(slot.workers).unwrap();
            let free = self.free.get_mut(&key).expect("a plan names nodes that are there");
            *free = minus(free, &amount);
            assert!(free.iter().all(|(_, left)| left >= 0), "{key:?} is oversold: {free:?}");
        }
    }

    pub(super) fn give(&mut self, spec: &JobSpec, cluster: &str, slots: &[Slot]) {
        for slot in slots {
            let free = self.free.get_mut(&(cluster.to_owned(), slot.node.clone())).unwrap();
            *free = free.checked_add(&spec.gang.groups[slot.group].each.checked_times(slot.workers).unwrap()).unwrap();
        }
    }

    pub(super) fn resize(&mut self, resize: &Resize) {
        let (spec, its) = self.jobs.get(&resize.job).expect("only known runs get another size").clone();
        let Its::Running(mut running) = its else { panic!("{:?} does not run", resize.job) };
        assert!(running.epoch == resize.epoch && running.started, "a started run gets another size");
        assert_eq!(spec.gang.size_of(&resize.slots), Some(resize.workers));
        self.sound(&spec, &running, &resize.slots);
        match resize.change {
            SizeChange::Grows => {
                assert!(!running.told_to_end && running.shrinks_to.is_none(), "{:?} is to be smaller, not larger", resize.job);
                let least_ms = self.queues[&spec.queue].min_runtime_ms;
                assert!(self.now - running.changed >= least_ms, "{:?} is left at its size for a while", resize.job);
                let more = beyond(&resize.slots, &running.slots);
                assert!(!more.is_empty() && beyond(&running.slots, &resize.slots).is_empty(), "nobody moves when a gang grows");
                self.take(&spec, &running.cluster, &more);
                // As one amount: a limit is held by the gang as it is then.
                let (old, new) = (spec.gang.as_placed(&running.slots), spec.gang.as_placed(&resize.slots));
                self.charge(&spec.queue, &minus(&new.total().unwrap(), &old.total().unwrap()));
                (running.slots, running.changed) = (resize.slots.clone(), self.now);
                self.grown += 1;
            }
            SizeChange::Shrinks { in_favour_of, cause } => {
                assert!(!running.told_to_end && running.shrinks_to.is_none(), "{:?} is told once", resize.job);
                assert!(beyond(&resize.slots, &running.slots).is_empty(), "nobody moves when a gang shrinks");
                let (taker, its) = self.jobs.get(&in_favour_of).expect("for a known job");
                assert!(matches!(its, Its::Waiting), "for a job that waits");
                match cause {
                    Cause::Priority => assert!(taker.priority > spec.priority),
                    Cause::Sooner => assert!(taker.priority >= spec.priority),
                    Cause::Surplus if taker.queue == spec.queue => assert!(taker.priority >= spec.priority),
                    Cause::Overdue | Cause::Share | Cause::Surplus => {}
                    Cause::Better => panic!("nobody shrinks for a place of its own"),
                }
                self.kept.insert(in_favour_of);
                running.shrinks_to = Some(resize.slots.clone());
            }
            SizeChange::Refused => {
                assert!(!running.told_to_end && running.shrinks_to.is_none(), "{:?} is told once", resize.job);
                assert!(beyond(&resize.slots, &running.slots).is_empty(), "nobody moves when a gang shrinks");
                running.shrinks_to = Some(resize.slots.clone());
            }
            SizeChange::HasShrunk => {
                // The twin told so before: its books are closed already.
                assert!(running.shrinks_to.is_none() && running.slots == resize.slots, "{:?}: {running:?}", resize.job);
                running.changed = self.now;
                self.shrunk += 1;
            }
        }
        self.jobs.insert(resize.job, (spec, Its::Running(running)));
    }

    /// Those have left that were told to: what is bound from then on.
    pub(super) fn have_left(&mut self, id: JobId) -> Vec<BoundNode> {
        let (spec, its) = self.jobs.get(&id).unwrap().clone();
        let Its::Running(mut running) = its else { panic!("{id:?} does not run") };
        let left = running.shrinks_to.take().expect("it was told to shrink");
        let gone = beyond(&running.slots, &left);
        self.give(&spec, &running.cluster, &gone);
        let (old, new) = (spec.gang.as_placed(&running.slots), spec.gang.as_placed(&left));
        self.discharge(&spec.queue, &minus(&old.total().unwrap(), &new.total().unwrap()));
        let used = |slot: &Slot| spec.gang.groups[slot.group].each.checked_times(slot.workers).unwrap();
        let bound = left.iter().map(|slot| BoundNode { node: slot.node.clone(), used: used(slot) }).collect();
        running.slots = left;
        self.jobs.insert(id, (spec, Its::Running(running)));
        bound
    }

    /// A run is over: what it took is free.
    pub(super) fn free_up(&mut self, id: JobId) -> Epoch {
        let (spec, its) = self.jobs.get(&id).unwrap().clone();
        let Its::Running(Running { epoch, slots, cluster, elsewhere, .. }) = its else { panic!("{id:?} does not run") };
        self.give(&spec, &cluster, &slots);
        for (cluster, slots) in &elsewhere {
            self.give(&spec, cluster, slots);
        }
        self.discharge(&spec.queue, &spec.gang.as_placed(&slots).total().unwrap());
        epoch
    }

    pub(super) fn interrupt(&mut self, interruption: &Interruption) {
        let (spec, its) = self.jobs.get_mut(&interruption.job).expect("only known runs are interrupted");
        let Its::Running(running) = its else { panic!("{:?} does not run", interruption.job) };
        let told_once = running.started && !running.told_to_end && running.shrinks_to.is_none();
        assert!(told_once && running.epoch == interruption.epoch, "a started run is told once");
        running.told_to_end = true;
        let (priority, may_move) = (spec.priority, spec.gang.restart_ms.is_some() && spec.gang.elastic.is_none());
        let (taker, its) = self.jobs.get(&interruption.in_favour_of).expect("for a known job");
        let moves = interruption.in_favour_of == interruption.job;
        assert!(moves || matches!(its, Its::Waiting), "for a job that waits");
        match interruption.cause {
            Cause::Better => assert!(moves && may_move),
            _ if moves => panic!("a run makes room for itself"),
            Cause::Priority => assert!(taker.priority > priority),
            Cause::Sooner => assert!(taker.priority >= priority),
            Cause::Overdue | Cause::Share => {}
            Cause::Surplus => panic!("nothing ends for the sake of what others have beyond their least size"),
        }
        self.kept.insert(interruption.in_favour_of);
        if moves {
            self.went_on += 1;
        } else {
            self.ended_for_others += 1;
        }
    }

    pub(super) fn pick(&self, dice: &mut Dice, which: impl Fn(&Its) -> bool) -> Option<JobId> {
        let some: Vec<JobId> = self.jobs.iter().filter(|(_, (_, its))| which(its)).map(|(id, _)| *id).collect();
        dice.pick(&some).copied()
    }
}
