//! Millions of random events, told to the engine and to a twin that believes nothing: it adds up what every decision takes, node by
//! node and queue by queue, and stops at the first that takes more than there is, splits a gang, or loses or doubles a job.
//!
//! The tests play what a build for development does in half a minute; `cargo run --release -p muster-scheduler-engine --example twin`
//! plays as many as it is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Dice, GPU, RACK, amounts, beyond, cluster, elastic, engine, job, queue, racked, tier, together};
use muster_scheduler_engine::{
    Amounts, BoundNode, Cause, ClusterSpec, Dataset, Decision, Elastic, Engine, Epoch, Event, Gang, Interruption, JobId, JobSpec,
    JobState, Placement, Prefers, QueueSpec, Resize, RunEnd, SizeChange, Slot, TierOpens, Time, Topology, TopologyMode,
};

/// Events of each test.
#[cfg(test)]
const EVENTS: u64 = 1_000_000;
/// Unfinished jobs at a time: enough that most wait.
const MOST_JOBS: usize = 120;
const QUEUES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What the twin knows of a job.
#[derive(Clone, Debug)]
enum Its {
    Waiting,
    Aside,
    Running(Running),
}

/// A run.
#[derive(Clone, Debug)]
struct Running {
    epoch: Epoch,
    cluster: String,
    flavor: Option<String>,
    /// What it holds.
    slots: Vec<Slot>,
    /// What it holds once those have left that were told to.
    shrinks_to: Option<Vec<Slot>>,
    started: bool,
    told_to_end: bool,
    /// When it began or last changed its size.
    changed: i64,
}

struct Twin {
    /// cpu, memory and GPUs that are free, by cluster and node.
    free: BTreeMap<(String, String), Amounts>,
    flavor: BTreeMap<(String, String), String>,
    /// By node: they are of the same name in each cluster, and in the same rack.
    rack: BTreeMap<String, String>,
    queues: BTreeMap<String, QueueSpec>,
    clusters: BTreeMap<String, ClusterSpec>,
    /// Everything that there is.
    everything: Amounts,
    used: BTreeMap<String, Amounts>,
    jobs: BTreeMap<JobId, (JobSpec, Its)>,
    /// When the back-off of a waiting job is over.
    backs_off: BTreeMap<JobId, i64>,
    /// Jobs for which runs were told to end: their room is kept for them.
    kept: BTreeSet<JobId>,
    now: i64,
    next: u64,
    placed: u64,
    /// Placements in tiers that were open by what waited.
    opened: u64,
    /// Placements to which a dataset was moved at a price.
    moved: u64,
    ended_for_others: u64,
    /// Runs that were ended for a better place of their own.
    went_on: u64,
    grown: u64,
    shrunk: u64,
}

fn minus(from: &Amounts, what: &Amounts) -> Amounts {
    what.iter().fold(from.clone(), |rest, (name, amount)| {
        let left = rest.get(name) - amount;
        rest.with(name, left)
    })
}

impl Twin {
    /// A queue and those above it.
    fn chain(&self, queue: &str) -> Vec<String> {
        let above = |name: &String| self.queues[name].parent.clone();
        std::iter::successors(Some(queue.to_owned()), above).collect()
    }

    /// What is taken of a resource in a queue, or in all (`None`): what is used, and what the queues below keep of what they are
    /// guaranteed and do not lend.
    fn taken(&self, queue: Option<&str>, resource: &str) -> i64 {
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
    fn most(&self, queue: Option<&str>, resource: &str) -> i64 {
        let Some(queue) = queue else { return self.everything.get(resource) };
        let spec = &self.queues[queue];
        let capability = spec.capability.get(resource).copied().unwrap_or(i64::MAX);
        spec.borrowing_limit.get(resource).map_or(capability, |most| capability.min(spec.guarantee.get(resource) + most))
    }

    fn charge(&mut self, queue: &str, what: &Amounts) {
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

    fn discharge(&mut self, queue: &str, what: &Amounts) {
        for name in self.chain(queue) {
            let used = self.used.get_mut(&name).unwrap();
            *used = minus(used, what);
        }
    }

    /// GPUs and jobs that wait in a queue and below it.
    fn waiting(&self, queue: &str) -> (i64, u64) {
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
    fn is_open(&mut self, spec: &JobSpec, cluster: &str) {
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

    fn place(&mut self, placement: &Placement) {
        let (spec, its) = self.jobs.get(&placement.job).expect("only known jobs are placed").clone();
        assert!(matches!(its, Its::Waiting), "{:?} is placed while {its:?}", placement.job);
        self.is_open(&spec, &placement.cluster);
        let cluster = &self.clusters[&placement.cluster];
        let moving = spec.gang.dataset.as_ref().filter(|dataset| dataset.region != cluster.region);
        let egress = moving.and_then(|dataset| Some(cluster.egress.get(&dataset.region)? * (dataset.bytes / Dataset::GIB)));
        assert_eq!(placement.egress_micros, egress.unwrap_or(0), "{:?} reads {moving:?}", placement.job);
        self.moved += u64::from(egress.is_some());
        self.kept.remove(&placement.job);
        let running = Running {
            epoch: placement.epoch,
            cluster: placement.cluster.clone(),
            flavor: placement.flavor.clone(),
            slots: placement.slots.clone(),
            shrinks_to: None,
            started: false,
            told_to_end: false,
            changed: self.now,
        };
        self.sound(&spec, &running, &running.slots);
        self.take(&spec, &running, &running.slots);
        self.charge(&spec.queue, &spec.gang.as_placed(&running.slots).total().unwrap());
        self.placed += 1;
        self.jobs.insert(placement.job, (spec, Its::Running(running)));
    }

    /// A plan is of a whole gang, or of one between its least and its full size, and stands together.
    fn sound(&self, spec: &JobSpec, running: &Running, slots: &[Slot]) {
        if let Some(Topology { level, mode: TopologyMode::Required }) = &spec.gang.topology {
            let nodes = slots.iter().map(|slot| &slot.node);
            let domains: BTreeSet<&String> =
                if level == Topology::NODE { nodes.collect() } else { nodes.map(|node| &self.rack[node]).collect() };
            assert_eq!(domains.len(), 1, "{:?} stands in {domains:?} of {level}", spec.id);
        }
        for (index, group) in spec.gang.groups.iter().enumerate() {
            let of_group = slots.iter().filter(|slot| slot.group == index);
            let workers = of_group.clone().map(|slot| slot.workers).sum::<u32>();
            match spec.gang.elastic {
                Some(Elastic { group: elastic, least }) if elastic == index => {
                    assert!((least..=group.replicas).contains(&workers), "{:?}: {workers} of {group:?}", spec.id);
                }
                Some(_) | None => assert_eq!(workers, group.replicas, "a gang is whole"),
            }
            for slot in of_group.filter(|_| group.each.gpus() > 0) {
                let key = (running.cluster.clone(), slot.node.clone());
                assert_eq!(running.flavor.as_ref(), self.flavor.get(&key), "one model for all workers");
            }
        }
    }

    fn take(&mut self, spec: &JobSpec, running: &Running, slots: &[Slot]) {
        for slot in slots {
            let key = (running.cluster.clone(), slot.node.clone());
            let amount = spec.gang.groups[slot.group].each.checked_times(slot.workers).unwrap();
            let free = self.free.get_mut(&key).expect("a plan names nodes that are there");
            *free = minus(free, &amount);
            assert!(free.iter().all(|(_, left)| left >= 0), "{key:?} is oversold: {free:?}");
        }
    }

    fn give(&mut self, spec: &JobSpec, cluster: &str, slots: &[Slot]) {
        for slot in slots {
            let free = self.free.get_mut(&(cluster.to_owned(), slot.node.clone())).unwrap();
            *free = free.checked_add(&spec.gang.groups[slot.group].each.checked_times(slot.workers).unwrap()).unwrap();
        }
    }

    fn resize(&mut self, resize: &Resize) {
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
                self.take(&spec, &running, &more);
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
    fn have_left(&mut self, id: JobId) -> Vec<BoundNode> {
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
    fn free_up(&mut self, id: JobId) -> Epoch {
        let (spec, its) = self.jobs.get(&id).unwrap().clone();
        let Its::Running(Running { epoch, slots, cluster, .. }) = its else { panic!("{id:?} does not run") };
        self.give(&spec, &cluster, &slots);
        self.discharge(&spec.queue, &spec.gang.as_placed(&slots).total().unwrap());
        epoch
    }

    fn interrupt(&mut self, interruption: &Interruption) {
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

    fn pick(&self, dice: &mut Dice, which: impl Fn(&Its) -> bool) -> Option<JobId> {
        let some: Vec<JobId> = self.jobs.iter().filter(|(_, (_, its))| which(its)).map(|(id, _)| *id).collect();
        dice.pick(&some).copied()
    }
}

/// A small world, in which queues may keep what they are guaranteed for themselves.
fn world(limited: bool) -> (Engine, Twin) {
    let clusters = [cluster("idc", 4, "V100", 1), cluster("cloud", 3, "A100", 9), cluster("plain", 2, "", 0)];
    let mut clusters = clusters.map(|cluster| racked(cluster, 2)).to_vec();
    for (cluster, (region, egress)) in clusters.iter_mut().zip([("eu", 3), ("us", 2), ("eu", 1)]) {
        cluster.region = region.to_owned();
        cluster.egress = [("us", egress), ("eu", 2 * egress)].map(|(from, micros)| (from.to_owned(), micros)).into();
    }
    let below = |name: &str, parent: &str| QueueSpec { parent: Some(parent.to_owned()), ..queue(name, 1 + name.len() as u32) };
    // `b` has the tiers of `lab`; its jobs and those of `c` open the second one.
    let while_waiting = |gpus, jobs| TierOpens::WhileWaiting { gpus, jobs };
    let tiers_of_lab = vec![tier(&["idc", "plain"], TierOpens::WhenFull), tier(&["cloud"], while_waiting(Some(12), None))];
    let lab = QueueSpec {
        capability: Amounts::new().with(GPU, 40).into(),
        guarantee: Amounts::new().with(GPU, 16),
        tiers: tiers_of_lab,
        ..queue("lab", 2)
    };
    let a = QueueSpec { capability: amounts(200, 0, 20).into(), ..queue("a", 1) };
    let b = QueueSpec { guarantee: Amounts::new().with(GPU, 8), min_runtime_ms: 0, ..below("b", "lab") };
    let tiers = vec![tier(&["idc", "plain"], TierOpens::WhenFull), tier(&["cloud"], TierOpens::AfterWaitingMs(600_000))];
    let c = QueueSpec { tiers, ..below("c", "lab") };
    let d = QueueSpec { reclaimable: false, prefers: Some(Prefers::Fastest), ..queue("d", 3) };
    let tiers = vec![
        tier(&["cloud", "plain"], TierOpens::WhenFull),
        tier(&["idc"], while_waiting(Some(30), Some(if limited { 2 } else { 4 }))),
    ];
    let mut queues = vec![lab, a, b, c, d, QueueSpec { tiers, prefers: Some(Prefers::Listed), ..queue("e", 1) }];
    if limited {
        let gpus = |gpus| BTreeMap::from([(GPU.to_owned(), gpus)]);
        let limits =
            [("lab", 16, Some(12), None), ("b", 8, Some(2), None), ("c", 4, None, Some(10)), ("e", 8, Some(0), Some(12))];
        for (name, guarantee, lends, borrows) in limits {
            let spec = queues.iter_mut().find(|spec| spec.name == name).expect("a queue of the world");
            spec.guarantee = Amounts::new().with(GPU, guarantee);
            (spec.lending_limit, spec.borrowing_limit) =
                (lends.map_or_else(BTreeMap::new, gpus), borrows.map_or_else(BTreeMap::new, gpus));
        }
    }
    let nodes = clusters.iter().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster.name.clone(), node)));
    let twin = Twin {
        free: nodes.clone().map(|(name, node)| ((name, node.name.clone()), node.allocatable.clone())).collect(),
        flavor: nodes.clone().map(|(name, node)| ((name, node.name.clone()), node.flavor.clone())).collect(),
        rack: nodes.clone().map(|(_, node)| (node.name.clone(), node.domains[RACK].clone())).collect(),
        clusters: clusters.iter().map(|cluster| (cluster.name.clone(), cluster.clone())).collect(),
        queues: queues.iter().map(|queue| (queue.name.clone(), queue.clone())).collect(),
        everything: nodes.clone().fold(Amounts::new(), |sum, (_, node)| sum.checked_add(&node.allocatable).unwrap()),
        used: BTreeMap::new(),
        jobs: BTreeMap::new(),
        backs_off: BTreeMap::new(),
        kept: BTreeSet::new(),
        now: 0,
        next: 0,
        placed: 0,
        opened: 0,
        moved: 0,
        ended_for_others: 0,
        went_on: 0,
        grown: 0,
        shrunk: 0,
    };
    (engine(clusters, queues), twin)
}

fn random_job(dice: &mut Dice, id: u64, now: i64) -> JobSpec {
    let gpus = [0, 1, 1, 2, 4, 8][dice.roll(6) as usize];
    let mut spec = job(id, QUEUES[dice.roll(5) as usize], 1 + dice.roll(3) as u32, gpus);
    spec.kind = ["short", "long", ""][dice.roll(3) as usize].to_owned();
    spec.priority = [0, 0, 0, 1, 2][dice.roll(5) as usize];
    spec.submitted_at = Time(now);
    if dice.roll(3) == 0 {
        spec.deadline = Some(Time(now + 100_000 * dice.roll(40) as i64));
    }
    if dice.roll(2) == 0 {
        spec.gang.restart_ms = Some(1_000);
    }
    if dice.roll(3) == 0 {
        let speeds = [("V100", 250 + 250 * dice.roll(8) as u32), ("A100", 2_000)];
        spec.gang.speeds = speeds.into_iter().map(|(model, speed)| (model.to_owned(), speed)).collect();
    }
    if dice.roll(4) == 0 {
        let mode = [TopologyMode::Required, TopologyMode::Preferred][dice.roll(2) as usize];
        spec = together(spec, [RACK, Topology::NODE][dice.roll(2) as usize], mode);
    }
    if dice.roll(4) == 0 {
        let region = ["eu", "us", "asia"][dice.roll(3) as usize].to_owned();
        spec.gang.dataset = Some(Dataset { region, bytes: Dataset::GIB * dice.roll(50) as i64 });
    }
    if dice.roll(4) == 0 {
        spec.gang.groups.push(muster_scheduler_engine::WorkerGroup {
            name: "launcher".to_owned(),
            replicas: 1,
            each: amounts(1 + dice.roll(40) as i64, 1, 0),
        });
    }
    if spec.gang.groups[0].replicas > 1 && dice.roll(3) == 0 {
        let least = 1 + dice.roll(u64::from(spec.gang.groups[0].replicas) - 1) as u32;
        spec = elastic(spec, least);
    }
    spec
}

/// One random fact, told to both.
fn happen(dice: &mut Dice, engine: &mut Engine, twin: &mut Twin) {
    // Mostly seconds, now and then a good part of a day, so that gangs become overdue.
    twin.now += if dice.roll(200) == 0 { dice.roll(40_000_000) as i64 } else { dice.roll(60_000) as i64 };
    engine.apply(Event::Time(Time(twin.now))).unwrap();
    if dice.roll(128) == 0 {
        let queue = QUEUES[dice.roll(5) as usize].to_owned();
        engine.apply(Event::UsedLately { queue, gpus: 500 * dice.roll(40) as i64 }).unwrap();
    }
    let event = match dice.roll(16) {
        0..=5 if twin.jobs.len() < MOST_JOBS => {
            twin.next += 1;
            let job = random_job(dice, twin.next, twin.now);
            let suspended = dice.roll(20) == 0;
            twin.jobs.insert(job.id, (job.clone(), if suspended { Its::Aside } else { Its::Waiting }));
            Event::Submitted { job, suspended }
        }
        0..=9 => {
            let Some(id) = twin.pick(dice, |its| matches!(its, Its::Running(_))) else { return };
            let epoch = twin.free_up(id);
            let end = match dice.roll(8) {
                0 => RunEnd::Retry { not_before: Time(twin.now + dice.roll(100_000) as i64) },
                1 => RunEnd::Suspended,
                _ => RunEnd::Finished,
            };
            let (spec, _) = twin.jobs.remove(&id).unwrap();
            match end {
                RunEnd::Finished => {}
                RunEnd::Suspended => drop(twin.jobs.insert(id, (spec, Its::Aside))),
                RunEnd::Retry { not_before } => {
                    twin.backs_off.insert(id, not_before.0);
                    twin.jobs.insert(id, (spec, Its::Waiting));
                }
            }
            Event::Ended { job: id, epoch, end }
        }
        10 => {
            let Some(id) = twin.pick(dice, |its| matches!(its, Its::Waiting)) else { return };
            if dice.roll(2) == 0 {
                twin.jobs.remove(&id);
                Event::Withdrawn(id)
            } else {
                twin.kept.remove(&id);
                twin.jobs.get_mut(&id).unwrap().1 = Its::Aside;
                Event::Suspended(id)
            }
        }
        11 => {
            let Some(id) = twin.pick(dice, |its| matches!(its, Its::Aside)) else { return };
            twin.jobs.get_mut(&id).unwrap().1 = Its::Waiting;
            twin.backs_off.remove(&id);
            Event::Resumed(id)
        }
        _ => {
            // Runs that were told to end, and workers that were told to leave, do, sooner or later; the others start.
            let to_come = |its: &Its| match its {
                Its::Running(running) => !running.started || running.told_to_end || running.shrinks_to.is_some(),
                Its::Waiting | Its::Aside => false,
            };
            let Some(id) = twin.pick(dice, to_come) else { return };
            match &mut twin.jobs.get_mut(&id).unwrap().1 {
                Its::Running(running @ Running { started: false, .. }) => {
                    (running.started, running.changed) = (true, twin.now);
                    Event::Started { job: id, epoch: running.epoch, at: Time(twin.now) }
                }
                Its::Running(Running { epoch, shrinks_to: Some(_), .. }) => {
                    let epoch = *epoch;
                    Event::Bound { job: id, epoch, nodes: twin.have_left(id) }
                }
                Its::Running(_) | Its::Waiting | Its::Aside => {
                    let epoch = twin.free_up(id);
                    twin.jobs.get_mut(&id).unwrap().1 = Its::Waiting;
                    Event::Ended { job: id, epoch, end: RunEnd::Retry { not_before: Time(twin.now) } }
                }
            }
        }
    };
    engine.apply(event).expect("the twin only tells what is true");
}

fn follow(decisions: Vec<Decision>, twin: &mut Twin) {
    for decision in decisions {
        match decision {
            Decision::Place(placement) => twin.place(&placement),
            Decision::Interrupt(interruption) => twin.interrupt(&interruption),
            Decision::Resize(resize) => twin.resize(&resize),
        }
    }
}

/// Every job is where the twin has it, and nowhere else.
fn compare(engine: &Engine, twin: &Twin) {
    let rows = engine.rows();
    assert_eq!(rows.jobs.len(), twin.jobs.len(), "no job is lost and none is doubled");
    for row in &rows.jobs {
        let (spec, its) = twin.jobs.get(&row.spec.id).expect("a known job");
        assert_eq!(&row.spec, spec);
        match (its, &row.state) {
            (Its::Waiting, JobState::Waiting { .. }) | (Its::Aside, JobState::Suspended) => {}
            (Its::Running(running), JobState::Placed { cluster, slots, leaving, .. }) => {
                assert_eq!((running.epoch, &running.cluster), (row.epoch, cluster));
                assert!(running.slots == *slots, "{:?}: {running:?} and {slots:?}", row.spec.id);
                let leave = running.shrinks_to.as_ref().map_or_else(Vec::new, |left| beyond(&running.slots, left));
                assert_eq!(&leave, leaving, "{:?}", row.spec.id);
            }
            (its, state) => panic!("{:?}: {its:?} and {state:?}", row.spec.id),
        }
    }
    for queue in QUEUES.iter().chain(&["lab"]) {
        assert_eq!(engine.usage(queue).unwrap(), twin.used.get(*queue).cloned().unwrap_or_default(), "{queue}");
    }
}

/// Plays so many events and stops at the first decision that is wrong; in worlds of odd seeds queues limit what they lend and borrow.
/// `progress` is told how many are done, now and then.
pub fn play(seed: u64, events: u64, progress: &dyn Fn(u64)) {
    let mut dice = Dice(seed);
    let (mut engine, mut twin) = world(seed % 2 == 1);
    for step in 0..events {
        happen(&mut dice, &mut engine, &mut twin);
        let folded =
            (step % 2_000 == 1).then(|| Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote"));
        let decided = engine.plan();
        if let Some(mut folded) = folded {
            assert_eq!(folded.plan(), decided, "a new leader decides what the old one would have (step {step})");
        }
        follow(decided, &mut twin);
        if step % 1_000 == 0 {
            let again = engine.plan();
            assert!(again.is_empty(), "the second plan is empty (step {step}): {again:?}");
            compare(&engine, &twin);
        }
        if step % 20_000 == 0 {
            progress(step);
            let mut folded = Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
            assert!(folded.plan().is_empty(), "a fold has nothing left to decide (step {step})");
            assert_eq!(folded.audit(), engine.audit(), "fold and increment agree (step {step})");
            assert_eq!(folded.rows(), engine.rows(), "step {step}");
        }
    }
    assert!(twin.moved > events / 100, "{} of {} placements moved a dataset", twin.moved, twin.placed);
    assert!(twin.opened > events / 1_000, "{} of {} placements were by what waited", twin.opened, twin.placed);
    assert!(twin.placed > events / 10 && twin.ended_for_others > events / 1_000, "the world was alive");
    assert!(twin.went_on > events / 10_000, "{} runs went on in a better place", twin.went_on);
    assert!(twin.grown > events / 1_000 && twin.shrunk > events / 10_000, "{} grew, {} shrank", twin.grown, twin.shrunk);
}

#[test]
fn the_twin_agrees_over_millions_of_events() {
    play(2024, EVENTS, &|_| ());
}

#[test]
fn the_twin_agrees_over_millions_of_other_events() {
    play(7, EVENTS, &|_| ());
}
