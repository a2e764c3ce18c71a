//! Random lives with gangs that may be split, over several clusters in two regions. Beside what holds for all gangs: a gang is split only
//! if it may be and no cluster has room for all of it, over clusters of one region and with one model; nothing of it is left after its
//! end; and it does not wait where clusters of a region have room together, counted node by node.

use super::*;
use muster_scheduler_engine::{Hold, JobState, MOST_PARTS};

/// Free amounts per cluster and node.
type Free = BTreeMap<String, BTreeMap<String, Amounts>>;

/// More clusters like those, and all of them smaller.
pub(super) fn more_of(mut clusters: Vec<ClusterSpec>) -> Vec<ClusterSpec> {
    let more = [("idc-2", 2, "V100", 2), ("idc-3", 1, "V100", 2), ("cloud-2", 2, "A100", 8)];
    clusters.extend(more.map(|(name, nodes, model, price)| racked(cluster(name, nodes, model, price), 1)));
    for cluster in &mut clusters {
        cluster.nodes.retain(|node| !["node-2", "node-3"].contains(&node.name.as_str()));
        cluster.nodes.iter_mut().for_each(|node| node.allocatable.set(PART, 0));
    }
    clusters
}

/// The job, which now and then is larger and may be split.
pub(super) fn may_be_split(dice: &mut Dice, mut job: JobSpec) -> JobSpec {
    let together = job.gang.topology.as_ref().is_some_and(|topology| topology.mode == TopologyMode::Required);
    if job.gang.elastic.is_some() || together || dice.roll(3) == 0 {
        return job;
    }
    job.gang.span = Span::Region;
    if dice.roll(2) == 0 {
        job.gang.groups[0].replicas = 3 + dice.roll(7) as u32;
        job.gang.min_available = 1;
        job.gang.groups[0].each = amounts(16, 128, [4, 8][dice.roll(2) as usize]);
    }
    if dice.roll(2) == 0 {
        job.gang.restart_ms = Some(0);
    }
    job
}

/// How many workers have room on a cluster, on one model if they have GPUs: each node for itself.
fn room(cluster: &ClusterSpec, free: &Free, each: &Amounts, model: Option<&str>) -> u64 {
    let nodes = cluster.nodes.iter().filter(|node| model.is_none_or(|model| node.flavor == model));
    let on_node = |name: &str| {
        let free = &free[&cluster.name][name];
        each.iter().map(|(resource, amount)| (free.get(resource).max(0) / amount).unsigned_abs()).min().unwrap_or(0)
    };
    nodes.map(|node| on_node(&node.name)).sum()
}

/// The models that a gang may get; `[None]` without GPUs.
fn models(gang: &Gang) -> Vec<Option<&'static str>> {
    if gang.groups[0].each.gpus() == 0 {
        return vec![None];
    }
    let suits = |model: &&str| gang.flavors.is_empty() || gang.flavors.contains(*model);
    ["V100", "A100"].into_iter().filter(suits).map(Some).collect()
}

/// Whether a gang is simple enough to be counted: equal workers that may stand anywhere, in a queue that may use every cluster.
fn is_plain(job: &JobSpec) -> bool {
    job.gang.groups.len() == 1 && job.gang.span == Span::Region && job.queue != "c"
}

impl Twin {
    fn live(&self) -> impl Iterator<Item = &ClusterSpec> {
        self.clusters.values().filter(|cluster| cluster.state == ClusterState::Live)
    }

    /// A split was allowed, and needed as things were before it.
    fn is_rightly_split(&self, placement: &Placement, before: &Free) {
        let job = &self.jobs[&placement.job];
        assert_eq!(job.gang.span, Span::Region, "{placement:?}");
        let regions: BTreeSet<&str> = all_parts(placement).map(|(cluster, _)| self.clusters[cluster].region.as_str()).collect();
        assert!(regions.len() == 1 && !regions.contains(""), "{placement:?} is in {regions:?}");
        let clusters: BTreeSet<&str> = all_parts(placement).map(|(cluster, _)| cluster).collect();
        assert!(clusters.len() == placement.elsewhere.len() + 1 && clusters.len() <= MOST_PARTS, "{placement:?}");
        assert!(all_parts(placement).all(|(_, slots)| !slots.is_empty()), "{placement:?}");
        if !is_plain(job) {
            return;
        }
        let group = &job.gang.groups[0];
        for model in models(&job.gang) {
            for cluster in self.live() {
                let room = room(cluster, before, &group.each, model);
                assert!(room < u64::from(group.replicas), "{} has room for all of {placement:?}", cluster.name);
            }
        }
        // No fewer clusters of its region would do.
        let model = placement.flavor.as_deref();
        let of_region = self.live().filter(|cluster| regions.contains(cluster.region.as_str()));
        let mut rooms: Vec<u64> = of_region.map(|cluster| room(cluster, before, &group.each, model)).collect();
        rooms.sort_unstable_by_key(|room| std::cmp::Reverse(*room));
        let fewer: u64 = rooms.iter().take(clusters.len() - 1).sum();
        assert!(fewer < u64::from(group.replicas), "{placement:?} could be on fewer clusters: {rooms:?}");
    }

    /// Who waits although a region has room is held by something else.
    fn nobody_waits_whom_a_region_could_hold(&self, engine: &Engine) {
        let free = engine.audit().free;
        for (id, job) in self.jobs.iter().filter(|(id, job)| !self.runs.contains_key(id) && is_plain(job)) {
            let explanation = engine.explain(*id).expect("an unfinished job is known");
            let group = &job.gang.groups[0];
            let held =
                explanation.holds.iter().any(|hold| !matches!(hold, Hold::Room { .. } | Hold::Region(_) | Hold::NoCluster));
            if explanation.standing != Standing::Waiting || held {
                continue;
            }
            for (region, model) in
                ["eu", "us"].into_iter().flat_map(|region| models(&job.gang).into_iter().map(move |model| (region, model)))
            {
                let of_region = self.live().filter(|cluster| cluster.region == region);
                let room: u64 = of_region.map(|cluster| room(cluster, &free, &group.each, model)).sum();
                assert!(room < u64::from(group.replicas), "{region} has {room} places on {model:?} for {job:?}: {explanation:?}");
            }
        }
    }

    /// Nothing is charged on any node or to any queue but what runs.
    fn nothing_is_left_over(&self, engine: &Engine) {
        let audit = engine.audit();
        let promised = engine.rows().jobs.iter().any(|row| match &row.state {
            JobState::Waiting { promised, .. } | JobState::Placed { promised, .. } => promised.is_some(),
            JobState::Suspended => false,
        });
        for cluster in self.clusters.values().filter(|_| !promised) {
            for node in &cluster.nodes {
                let used = self.on_node(&cluster.name, &node.name).checked_add(&node.used_by_others).unwrap();
                let known = audit.free[&cluster.name][&node.name].checked_add(&used).unwrap();
                assert_eq!(known, node.allocatable, "{}/{}", cluster.name, node.name);
            }
        }
        for (id, run) in &self.runs {
            let clusters: BTreeSet<String> = all_parts(run).map(|(cluster, _)| cluster.to_owned()).collect();
            assert_eq!(audit.placed[id], clusters, "{id:?}");
        }
        assert_eq!(audit.placed.len(), self.runs.len());
    }
}

fn live_wide(seed: u64, events: u32) -> (Engine, Twin) {
    let mut dice = Dice(seed);
    let (mut engine, mut twin) = world_of(&mut dice, true);
    let mut next = 0;
    for step in 0..events {
        happen(&mut dice, &mut engine, &mut twin, &mut next);
        loop {
            // One by one, so that it is known what was free before each.
            let before = engine.audit().free;
            let decided = engine.plan_at_most(1);
            if decided.is_empty() {
                break;
            }
            for decision in &decided {
                if let Decision::Place(placement) = decision
                    && !placement.elsewhere.is_empty()
                {
                    twin.is_rightly_split(placement, &before);
                }
            }
            twin.follow(decided);
        }
        let again = engine.plan();
        assert!(again.is_empty(), "the second plan is empty (seed {seed}, step {step}): {again:?}");
        nobody_waits_who_could_run(&engine, &twin);
        twin.nobody_waits_whom_a_region_could_hold(&engine);
        twin.nothing_is_left_over(&engine);
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
fn random_lives_over_regions_keep_every_promise() {
    let mut split = 0;
    for seed in 0..32 {
        let (engine, twin) = live_wide(seed, 600);
        assert!(engine.stats().placed > 40, "the world was alive");
        split += twin.split;
    }
    assert!(split > 60, "{split} were split");
}

#[test]
fn an_engine_that_was_folded_splits_as_the_one_that_was_not() {
    let mut split = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let (mut engine, mut twin) = world_of(&mut dice, true);
        let mut next = 0;
        for step in 0..400 {
            happen(&mut dice, &mut engine, &mut twin, &mut next);
            let mut folded = Engine::restore(engine.rows(), engine.now()).unwrap();
            let decided = engine.plan();
            assert_eq!(folded.plan(), decided, "down to nodes (seed {seed}, step {step})");
            twin.follow(decided);
        }
        split += twin.split;
    }
    assert!(split > 80, "{split} were split");
}
