//! Random lives of a small world. After every plan: nothing is oversold, gangs are whole, capabilities hold, nobody who
//! could run waits, a second plan is empty, and a fold of the rows is the same engine.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{
    Dice, GPU, PART, RACK, amounts, beyond, cluster, elastic, engine, job, part, queue, racked, shared, tier, together,
};
use muster_scheduler_engine::{
    Amounts, BoundNode, ClusterSpec, ClusterState, Dataset, Decision, Elastic, Engine, Event, Gang, JobId, JobSpec, Placement,
    Prefers, Reason, Resize, RunEnd, SizeChange, Slot, Span, Standing, Threshold, TierOpens, Time, Topology, TopologyMode,
    WorkerGroup,
};

mod regions;

/// What the test itself believes, kept in the slowest and plainest way.
struct Twin {
    clusters: BTreeMap<String, ClusterSpec>,
    jobs: BTreeMap<JobId, JobSpec>,
    runs: BTreeMap<JobId, Placement>,
    /// Of each cluster that a run is on.
    bound: BTreeMap<(JobId, String), Vec<BoundNode>>,
    started: BTreeSet<JobId>,
    /// Runs of which workers were told to leave, with what is left then.
    leaving: BTreeMap<JobId, Vec<Slot>>,
    grown: u64,
    shrunk: u64,
    aside: BTreeSet<JobId>,
    capability: BTreeMap<String, Amounts>,
    parent: BTreeMap<String, String>,
    now: i64,
    /// Whether there are gangs that may be split, over more clusters, and none with parts of GPUs.
    wide: bool,
    split: u64,
}

impl Twin {
    fn on_node(&self, cluster: &str, node: &str) -> Amounts {
        let mut sum = Amounts::new();
        for (id, slots) in self.runs.iter().filter_map(|(id, run)| Some((id, slots_on(run, cluster)?))) {
            if let Some(bound) = self.bound.get(&(*id, cluster.to_owned())) {
                for part in bound.iter().filter(|part| part.node == node) {
                    sum = sum.checked_add(&part.used).unwrap();
                }
                continue;
            }
            for slot in slots.iter().filter(|slot| slot.node == node) {
                let each = &self.jobs[id].gang.groups[slot.group].each;
                sum = sum.checked_add(&each.checked_times(slot.workers).unwrap()).unwrap();
            }
        }
        sum
    }

    /// GPUs of a node that are in use, whole or in part.
    fn gpus_on_node(&self, cluster: &str, node: &str) -> i64 {
        let (mut gpus, mut parts) = (0, BTreeMap::<u16, i64>::new());
        for (id, planned) in self.runs.iter().filter_map(|(id, run)| Some((id, slots_on(run, cluster)?))) {
            let slots = planned.iter().filter(|slot| slot.node == node);
            let each = |group: usize| &self.jobs[id].gang.groups[group].each;
            match self.bound.get(&(*id, cluster.to_owned())) {
                // On which GPUs they are that did not go where they were to go nobody knows.
                Some(bound) if !as_planned(planned, bound) => {
                    let used = bound.iter().filter(|part| part.node == node).map(|part| &part.used);
                    gpus += used.map(|used| used.get(GPU) + used.get(PART).div_euclid(1_000)).sum::<i64>();
                }
                Some(_) | None => {
                    for slot in slots {
                        gpus += each(slot.group).get(GPU) * i64::from(slot.workers);
                        let asked = each(slot.group).get(PART);
                        assert_eq!(slot.gpu.is_some(), asked > 0, "a part is one of a certain GPU");
                        if let Some(gpu) = slot.gpu {
                            *parts.entry(gpu).or_default() += asked;
                        }
                    }
                }
            }
        }
        assert!(parts.values().all(|part| *part <= 1_000), "{cluster}/{node} sold more than a GPU: {parts:?}");
        gpus + parts.len() as i64
    }

    fn usage(&self, queue: &str) -> Amounts {
        self.runs
            .iter()
            .map(|(id, run)| (&self.jobs[id], run))
            .filter(|(job, _)| job.queue == queue || self.parent.get(&job.queue).is_some_and(|parent| parent == queue))
            .fold(Amounts::new(), |sum, (job, run)| sum.checked_add(&job.gang.as_placed(&run.slots).total().unwrap()).unwrap())
    }

    fn take(&mut self, placement: Placement) {
        let gang = &self.jobs[&placement.job].gang;
        for (index, group) in gang.groups.iter().enumerate() {
            let slots = all_parts(&placement).flat_map(|(_, slots)| slots);
            let workers: u32 = slots.filter(|slot| slot.group == index).map(|slot| slot.workers).sum();
            match gang.elastic {
                Some(Elastic { group: elastic, least }) if elastic == index => {
                    assert!((least..=group.replicas).contains(&workers), "{workers} of {group:?}");
                }
                Some(_) | None => assert_eq!(workers, group.replicas, "a gang is whole"),
            }
        }
        for (cluster, slots) in all_parts(&placement) {
            let cluster = &self.clusters[cluster];
            assert_eq!(cluster.state, ClusterState::Live);
            for slot in slots {
                let node = cluster.nodes.iter().find(|node| node.name == slot.node).expect("a plan names nodes that are there");
                if gang.groups[slot.group].each.on_gpu() {
                    assert_eq!(Some(&node.flavor), placement.flavor.as_ref(), "one model for all workers");
                    assert!(gang.flavors.is_empty() || gang.flavors.contains(&node.flavor));
                }
            }
        }
        let cluster = &self.clusters[&placement.cluster];
        let together = gang.topology.as_ref().filter(|topology| topology.mode == TopologyMode::Required);
        if let Some(Topology { level, .. }) = together {
            let domain = |slot: &Slot| -> Option<&String> {
                let node = cluster.nodes.iter().find(|node| node.name == slot.node).expect("it was just there");
                if level == Topology::NODE { Some(&node.name) } else { node.domains.get(level) }
            };
            let domains: BTreeSet<Option<&String>> = placement.slots.iter().map(domain).collect();
            assert!(domains.len() == 1 && !domains.contains(&None), "{:?} stands in {domains:?} of {level}", placement.job);
        }
        let (id, queue) = (placement.job, self.jobs[&placement.job].queue.clone());
        assert!(!self.aside.contains(&id), "a suspended job is not placed");
        let total = self.jobs[&id].gang.as_placed(&placement.slots).total().unwrap();
        let parts: Vec<(String, Vec<Slot>)> =
            all_parts(&placement).map(|(cluster, slots)| (cluster.to_owned(), slots.to_vec())).collect();
        assert!(self.runs.insert(id, placement).is_none(), "a job is placed once");
        self.split += u64::from(parts.len() > 1);
        for (name, slots) in parts {
            self.fits((id, &name), slots, (&queue, &total));
        }
    }

    /// Nothing is oversold that was taken just now, of nodes and of capabilities.
    fn fits(&self, (id, name): (JobId, &str), slots: Vec<Slot>, (queue, asked): (&String, &Amounts)) {
        for slot in slots {
            let node = self.clusters[name].nodes.iter().find(|node| node.name == slot.node).unwrap();
            if self.jobs[&id].gang.groups[slot.group].each.on_gpu() {
                let gpus = self.gpus_on_node(name, &slot.node) + node.used_by_others.gpus();
                assert!(gpus <= node.allocatable.gpus(), "{name}/{} sold {gpus} GPUs", slot.node);
            }
            let used = self.on_node(name, &slot.node).checked_add(&node.used_by_others).unwrap();
            for (resource, asked) in self.jobs[&id].gang.groups[slot.group].each.iter() {
                let have = node.allocatable.get(resource);
                assert!(
                    used.get(resource) <= have,
                    "{name}/{} sold {} of {have} {resource} ({asked} to {id:?})",
                    slot.node,
                    used.get(resource)
                );
            }
        }
        let asked = in_thousandths(asked);
        for queue in [Some(queue), self.parent.get(queue)].into_iter().flatten() {
            let used = in_thousandths(&self.usage(queue));
            for (resource, limit) in in_thousandths(&self.capability.get(queue).cloned().unwrap_or_default()).iter() {
                assert!(
                    asked.get(resource) == 0 || used.get(resource) <= limit,
                    "{queue} uses {} of {limit} {resource}",
                    used.get(resource)
                );
            }
        }
    }
}

impl Twin {
    fn resize(&mut self, resize: Resize) {
        let Resize { job: id, epoch, workers, slots, leaving: _, sized: _, change } = resize;
        let (gang, queue) = (self.jobs[&id].gang.clone(), self.jobs[&id].queue.clone());
        let Elastic { group, least } = gang.elastic.expect("only elastic gangs have several sizes");
        assert!((least..=gang.groups[group].replicas).contains(&workers) && gang.size_of(&slots) == Some(workers));
        assert!(self.runs[&id].epoch == epoch && self.started.contains(&id));
        match change {
            SizeChange::Grows => {
                let old = std::mem::replace(&mut self.runs.get_mut(&id).expect("it runs").slots, slots.clone());
                let more = beyond(&slots, &old);
                assert!(
                    beyond(&old, &slots).is_empty() && !more.is_empty(),
                    "{id:?} moved from {old:?} to {slots:?}, seen {:?}",
                    self.bound
                );
                let name = self.runs[&id].cluster.clone();
                if let Some(bound) = self.bound.get_mut(&(id, name.clone())) {
                    bound.extend(more.iter().map(|slot| on(&gang.groups[slot.group].each, &slot.node, slot.workers)));
                }
                let asked = more.iter().fold(Amounts::new(), |sum, slot| {
                    sum.checked_add(&gang.groups[slot.group].each.checked_times(slot.workers).unwrap()).unwrap()
                });
                self.fits((id, &name), more, (&queue, &asked));
                self.grown += 1;
            }
            SizeChange::Shrinks { .. } => assert!(self.leaving.insert(id, slots).is_none(), "it is told once"),
            SizeChange::HasShrunk => {
                assert!(self.leaving.remove(&id).is_some_and(|left| left == slots), "it was told to");
                self.runs.get_mut(&id).expect("it runs").slots = slots;
                self.shrunk += 1;
            }
        }
    }

    fn follow(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Place(placement) => self.take(placement),
                Decision::Resize(resize) => self.resize(resize),
                // It ends some time.
                Decision::Interrupt(run) => assert!(self.started.contains(&run.job) && !self.leaving.contains_key(&run.job)),
            }
        }
    }
}

fn on(each: &Amounts, node: &str, workers: u32) -> BoundNode {
    BoundNode { node: node.to_owned(), used: each.checked_times(workers).unwrap() }
}

/// The clusters of a run with what it has there.
fn all_parts(run: &Placement) -> impl Iterator<Item = (&str, &[Slot])> {
    let first = (run.cluster.as_str(), run.slots.as_slice());
    std::iter::once(first).chain(run.elsewhere.iter().map(|part| (part.cluster.as_str(), part.slots.as_slice())))
}

/// What a run has on a cluster, if it is there.
fn slots_on<'a>(run: &'a Placement, cluster: &str) -> Option<&'a [Slot]> {
    all_parts(run).find(|(name, _)| *name == cluster).map(|(_, slots)| slots)
}

/// Whether pods are where they were to go.
fn as_planned(planned: &[Slot], bound: &[BoundNode]) -> bool {
    planned.iter().map(|slot| &slot.node).eq(bound.iter().map(|bound| &bound.node))
}

/// GPUs and parts of GPUs together.
fn in_thousandths(amounts: &Amounts) -> Amounts {
    let gpus = amounts.get(PART) + 1_000 * amounts.get(GPU);
    amounts.clone().with(GPU, 0).with(PART, gpus)
}

fn random_job(dice: &mut Dice, wide: bool, id: u64, now: i64) -> JobSpec {
    let queue = ["a", "b", "c", "d"][dice.roll(4) as usize];
    let mut spec = job(id, queue, 1 + dice.roll(4) as u32, [0, 1, 2, 4, 8][dice.roll(5) as usize]);
    if !wide && dice.roll(3) == 0 {
        spec.gang = part(id, queue, 1 + dice.roll(4) as u32, [100, 250, 460, 600, 810][dice.roll(5) as usize]).gang;
    }
    spec.priority = dice.roll(3) as i32;
    spec.submitted_at = Time(now);
    if dice.roll(4) == 0 {
        spec.deadline = Some(Time(now + dice.roll(80) as i64));
    }
    if dice.roll(4) == 0 {
        spec.gang.groups.push(WorkerGroup {
            name: "launcher".to_owned(),
            replicas: 1,
            each: amounts(1 + dice.roll(40) as i64, 1, 0),
        });
    }
    if dice.roll(3) == 0 {
        spec.gang.flavors.insert(["V100", "A100"][dice.roll(2) as usize].to_owned());
    }
    if dice.roll(3) == 0 {
        let region = ["eu", "us"][dice.roll(2) as usize].to_owned();
        spec.gang.dataset = Some(Dataset { region, bytes: Dataset::GIB * dice.roll(4) as i64 });
    }
    if dice.roll(3) == 0 {
        let mode = [TopologyMode::Required, TopologyMode::Preferred][dice.roll(2) as usize];
        spec = together(spec, [RACK, Topology::NODE][dice.roll(2) as usize], mode);
    }
    let workers = spec.gang.groups[0].replicas;
    if workers > 1 && dice.roll(2) == 0 {
        spec = elastic(spec, 1 + dice.roll(u64::from(workers) - 1) as u32);
    }
    if wide { regions::may_be_split(dice, spec) } else { spec }
}

/// What opens the dear tier.
const OPENS: [TierOpens; 3] = [
    TierOpens::AfterWaitingMs(40),
    TierOpens::AfterWaitingForWork { permille: 10 },
    TierOpens::WhileWaiting { gpus: Some(40), jobs: Some(10) },
];

fn world_of(dice: &mut Dice, wide: bool) -> (Engine, Twin) {
    let mut mixed = cluster("mixed", 2, "V100", 3);
    mixed.nodes.extend(cluster("x", 2, "A100", 5).nodes.into_iter().enumerate().map(|(number, mut node)| {
        node.name = format!("big-{number}");
        node
    }));
    mixed.prices.insert("A100".to_owned(), 5);
    let size = dice.roll(3);
    let mut clusters = vec![
        shared(racked(cluster("idc", 3, "V100", 1), 2)),
        cluster("cloud", 2 + size as u32, "A100", 9),
        shared(racked(mixed, 2)),
        cluster("plain", 2, "", 0),
    ];
    if wide {
        clusters = regions::more_of(clusters);
    }
    for cluster in &mut clusters {
        cluster.region = ["eu", "us"][dice.roll(2) as usize].to_owned();
        cluster.egress = BTreeMap::from([(ClusterSpec::ANY_REGION.to_owned(), dice.roll(3) as i64)]);
    }
    let (mut a, mut b, mut c) = (queue("a", 1), queue("b", 3), queue("c", 1));
    let of_a = if wide { amounts(800, 0, 60) } else { amounts(200, 0, 20) };
    a.capability = of_a.clone().into();
    b.parent = Some("lab".to_owned());
    c.parent = Some("lab".to_owned());
    c.tiers = vec![tier(&["idc", "plain"], TierOpens::WhenFull), tier(&["cloud"], OPENS[size as usize])];
    let mut lab = queue("lab", 2);
    let of_lab = Amounts::new().with(GPU, if wide { 80 } else { 40 });
    lab.capability = of_lab.clone().into();
    let twin = Twin {
        clusters: clusters.iter().map(|cluster| (cluster.name.clone(), cluster.clone())).collect(),
        jobs: BTreeMap::new(),
        runs: BTreeMap::new(),
        bound: BTreeMap::new(),
        started: BTreeSet::new(),
        leaving: BTreeMap::new(),
        grown: 0,
        shrunk: 0,
        aside: BTreeSet::new(),
        capability: BTreeMap::from([("a".to_owned(), of_a), ("lab".to_owned(), of_lab)]),
        parent: BTreeMap::from([("b".to_owned(), "lab".to_owned()), ("c".to_owned(), "lab".to_owned())]),
        now: 0,
        wide,
        split: 0,
    };
    let mut d = queue("d", 1);
    d.prefers = Some(Prefers::Greenest);
    if dice.roll(2) == 0 {
        let gpus = |gpus| BTreeMap::from([(GPU.to_owned(), gpus)]);
        (d.guarantee, d.lending_limit) = (Amounts::new().with(GPU, 16), gpus(3));
        (b.guarantee, b.lending_limit) = (Amounts::new().with(GPU, 8), gpus(0));
        c.borrowing_limit = gpus(12);
    }
    for (queue, least_ms) in [(&mut a, 0), (&mut b, 40), (&mut c, 100), (&mut d, 20)] {
        queue.min_runtime_ms = least_ms;
    }
    (engine(clusters, vec![lab, a, b, c, d]), twin)
}

/// One random fact, folded into both.
fn happen(dice: &mut Dice, engine: &mut Engine, twin: &mut Twin, next: &mut u64) {
    twin.now += dice.roll(10) as i64;
    let runs: Vec<JobId> = twin.runs.keys().copied().collect();
    let waiting: Vec<JobId> =
        twin.jobs.keys().filter(|id| !twin.runs.contains_key(id) && !twin.aside.contains(id)).copied().collect();
    let event = match dice.roll(16) {
        // Where few wait there is room for large gangs now and then.
        0..=3 if !twin.wide || waiting.len() < 4 => {
            *next += 1;
            let job = random_job(dice, twin.wide, *next, twin.now);
            twin.jobs.insert(job.id, job.clone());
            let suspended = dice.roll(10) == 0;
            if suspended {
                twin.aside.insert(job.id);
            }
            Event::Submitted { job, suspended }
        }
        4..=6 => {
            let Some(id) = dice.pick(&runs).copied() else { return };
            let epoch = twin.runs.remove(&id).unwrap().epoch;
            twin.bound.retain(|(job, _), _| *job != id);
            twin.started.remove(&id);
            twin.leaving.remove(&id);
            let end = match dice.roll(4) {
                0 => RunEnd::Retry { not_before: Time(twin.now + dice.roll(60) as i64) },
                1 => {
                    twin.aside.insert(id);
                    RunEnd::Suspended
                }
                _ => {
                    twin.jobs.remove(&id);
                    RunEnd::Finished
                }
            };
            Event::Ended { job: id, epoch, end }
        }
        7 => {
            let Some(id) = dice.pick(&waiting).copied() else { return };
            if dice.roll(2) == 0 {
                twin.jobs.remove(&id);
                Event::Withdrawn(id)
            } else {
                twin.aside.insert(id);
                Event::Suspended(id)
            }
        }
        8 => {
            let aside: Vec<JobId> = twin.aside.iter().copied().collect();
            let Some(id) = dice.pick(&aside).copied() else { return };
            twin.aside.remove(&id);
            Event::Resumed(id)
        }
        9 => {
            let names: Vec<String> = twin.clusters.keys().cloned().collect();
            let name = dice.pick(&names).unwrap();
            let cluster = twin.clusters.get_mut(name).unwrap();
            cluster.state =
                [ClusterState::Live, ClusterState::Live, ClusterState::Cordoned, ClusterState::Lost][dice.roll(4) as usize];
            let index = dice.roll(cluster.nodes.len() as u64) as usize;
            let gpus = cluster.nodes[index].allocatable.gpus();
            // Every hour its electricity is another.
            for node in cluster.nodes.iter().filter(|node| !node.flavor.is_empty()) {
                cluster.emissions.insert(node.flavor.clone(), dice.roll(4) as i64);
            }
            cluster.egress.insert(["eu", "us"][dice.roll(2) as usize].to_owned(), dice.roll(3) as i64);
            // A node may be moved to another rack, or out of all.
            let moved = dice.roll(6);
            if moved < 2 {
                cluster.nodes[index].domains.insert(RACK.to_owned(), format!("r{moved}"));
            } else if moved == 2 {
                cluster.nodes[index].domains.clear();
            }
            cluster.nodes[index].used_by_others =
                amounts(dice.roll(20) as i64, dice.roll(100) as i64, dice.roll(gpus as u64 + 1) as i64);
            Event::Cluster(cluster.clone())
        }
        10 => {
            let Some(id) = dice.pick(&runs).copied() else { return };
            let run = &twin.runs[&id];
            let parts: Vec<(&str, &[Slot])> = all_parts(run).collect();
            let (cluster, slots) = if parts.len() > 1 { *dice.pick(&parts).unwrap() } else { parts[0] };
            let key = (id, cluster.to_owned());
            if twin.bound.contains_key(&key) || twin.leaving.contains_key(&id) {
                return;
            }
            let groups = &twin.jobs[&id].gang.groups;
            let nodes = &twin.clusters[cluster].nodes;
            // The cluster's own scheduler may choose other nodes than the plan.
            let bound: Vec<BoundNode> = slots
                .iter()
                .map(|slot| BoundNode {
                    node: if dice.roll(3) == 0 { dice.pick(nodes).unwrap().name.clone() } else { slot.node.clone() },
                    used: groups[slot.group].each.checked_times(slot.workers).unwrap(),
                })
                .collect();
            let (epoch, nodes) = (run.epoch, bound.clone());
            let event = match parts.len() {
                1 => Event::Bound { job: id, epoch, nodes },
                _ => Event::BoundOn { job: id, epoch, cluster: key.1.clone(), nodes },
            };
            twin.bound.insert(key, bound);
            event
        }
        11..=12 => {
            let Some(id) = dice.pick(&runs).copied().filter(|id| !twin.started.contains(id)) else { return };
            twin.started.insert(id);
            Event::Started { job: id, epoch: twin.runs[&id].epoch, at: Time(twin.now) }
        }
        13..=14 => {
            let leaving: Vec<JobId> = twin.leaving.keys().copied().collect();
            let Some(id) = dice.pick(&leaving).copied() else { return };
            // Which of its pods it ends, and where the others are, is the cluster's business.
            let (run, groups) = (&twin.runs[&id], &twin.jobs[&id].gang.groups);
            let nodes = &twin.clusters[&run.cluster].nodes;
            let elsewhere = dice.roll(3) == 0;
            let bound: Vec<BoundNode> = twin.leaving[&id]
                .iter()
                .map(|slot| {
                    let node = if elsewhere { &dice.pick(nodes).unwrap().name } else { &slot.node };
                    on(&groups[slot.group].each, node, slot.workers)
                })
                .collect();
            let epoch = run.epoch;
            twin.bound.insert((id, run.cluster.clone()), bound.clone());
            Event::Bound { job: id, epoch, nodes: bound }
        }
        _ => Event::Time(Time(twin.now)),
    };
    engine.apply(event).expect("the twin only tells what is true");
    engine.apply(Event::Time(Time(twin.now))).unwrap();
}

/// GPUs and jobs that wait in a queue.
fn waiting_in(engine: &Engine, twin: &Twin, queue: &str) -> (i64, u64) {
    let jobs = twin.jobs.iter().filter(|(id, job)| job.queue == queue && !twin.runs.contains_key(id) && !twin.aside.contains(id));
    let waiting = jobs.filter(|(id, _)| engine.explain(**id).is_some_and(|known| known.standing == Standing::Waiting));
    // An elastic gang asks for its least size.
    let asks = |gang: &Gang| {
        let mut gang = gang.clone();
        if let Some(Elastic { group, least }) = gang.elastic {
            gang.groups[group].replicas = least;
        }
        gang.total().unwrap()
    };
    let gpus = |job: &JobSpec| (in_thousandths(&asks(&job.gang)).get(PART) + 999) / 1_000;
    waiting.fold((0, 0), |(sum, count), (_, job)| (sum + gpus(job), count + 1))
}

fn nobody_waits_who_could_run(engine: &Engine, twin: &Twin) {
    for id in twin.jobs.keys().filter(|id| !twin.runs.contains_key(id)) {
        let explanation = engine.explain(*id).expect("an unfinished job is known");
        let has_room = explanation.clusters.iter().any(|verdict| verdict.reason == Reason::Room)
            || explanation.span.as_ref().is_some_and(|span| span.open && span.fits());
        for verdict in &explanation.clusters {
            // What the engine counted as waiting, counted anew.
            if let Reason::TooFewWait(Threshold { queue, gpus: Some((gpus, waiting_gpus)), jobs: Some((jobs, waiting_jobs)) }) =
                &verdict.reason
            {
                assert_eq!((*waiting_gpus, *waiting_jobs), waiting_in(engine, twin, queue), "{queue}");
                assert!(waiting_gpus <= gpus && waiting_jobs <= jobs, "{:?}", verdict.reason);
            }
        }
        if explanation.standing == Standing::Waiting && has_room {
            assert!(!explanation.holds.is_empty(), "{id:?} waits, has room and nothing holds it: {explanation:?}");
        }
    }
}

fn live(seed: u64, events: u32) -> (Engine, Twin) {
    let mut dice = Dice(seed);
    let (mut engine, mut twin) = world_of(&mut dice, false);
    let mut next = 0;
    for step in 0..events {
        happen(&mut dice, &mut engine, &mut twin, &mut next);
        let decided = engine.plan();
        twin.follow(decided);
        let again = engine.plan();
        assert!(again.is_empty(), "the second plan is empty (seed {seed}, step {step}): {again:?}");
        nobody_waits_who_could_run(&engine, &twin);
        if step % 16 == 0 {
            let mut folded = Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
            let decided = folded.plan();
            assert!(decided.is_empty(), "a fold has nothing left to decide (seed {seed}, step {step}): {decided:?}");
            assert_eq!(folded.audit(), engine.audit(), "fold and increment agree (seed {seed}, step {step})");
            assert_eq!(folded.rows(), engine.rows());
        }
    }
    (engine, twin)
}

#[test]
fn random_lives_keep_every_promise() {
    let (mut grown, mut shrunk) = (0, 0);
    for seed in 0..24 {
        let (engine, twin) = live(seed, 600);
        assert!(engine.stats().placed > 40, "the world was alive");
        (grown, shrunk) = (grown + twin.grown, shrunk + twin.shrunk);
    }
    assert!(grown > 20 && shrunk > 20, "{grown} grew, {shrunk} shrank");
}

#[test]
fn the_same_facts_give_the_same_decisions() {
    assert_eq!(live(99, 300).0.audit(), live(99, 300).0.audit());
}

#[test]
fn an_engine_that_was_folded_decides_as_the_one_that_was_not() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let (mut engine, mut twin) = world_of(&mut dice, false);
        let mut next = 0;
        for step in 0..400 {
            happen(&mut dice, &mut engine, &mut twin, &mut next);
            let mut folded = Engine::restore(engine.rows(), engine.now()).unwrap();
            let decided = engine.plan();
            assert_eq!(folded.plan(), decided, "down to nodes (seed {seed}, step {step})");
            twin.follow(decided);
        }
        assert!(engine.stats().placed > 40);
    }
}
