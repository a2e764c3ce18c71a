//! Gangs that stand together: in one rack or on one node, or in as few as there can be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Dice, RACK, amounts, cluster, engine, job, plan, queue, racked, submit, together};
use muster_scheduler_engine::{
    ClusterSpec, Decision, Engine, Event, JobId, NodeSpec, Placement, Reason, RunEnd, Time, Topology, TopologyMode::Preferred,
    TopologyMode::Required, WorkerGroup,
};

/// Racks of 16 GPUs on two nodes each, with so many GPUs of each node in use by others.
fn world(used: &[i64]) -> Engine {
    engine(vec![with_used(used)], vec![queue("train", 1)])
}

fn with_used(used: &[i64]) -> ClusterSpec {
    let mut idc = racked(cluster("idc", used.len() as u32, "V100", 1), 2);
    for (node, gpus) in idc.nodes.iter_mut().zip(used) {
        node.used_by_others = amounts(0, 0, *gpus);
    }
    idc
}

fn nodes(placements: &[Placement]) -> Vec<&str> {
    placements.iter().flat_map(|placement| &placement.slots).map(|slot| slot.node.as_str()).collect()
}

fn said(engine: &Engine, id: u64) -> (String, Vec<String>) {
    let explanation = engine.explain(JobId(id)).expect("it is not finished");
    (explanation.clusters[0].reason.to_string(), explanation.holds.iter().map(ToString::to_string).collect())
}

#[test]
fn a_gang_waits_for_a_rack_although_the_cluster_has_room() {
    let mut engine = world(&[]);
    engine.apply(Event::Cluster(with_used(&[4, 0, 0, 4]))).unwrap();
    submit(&mut engine, together(job(1, "train", 2, 8), RACK, Required));
    assert!(plan(&mut engine).is_empty(), "there are two whole nodes, in two racks");
    let (reason, holds) = said(&engine, 1);
    assert_eq!(
        reason,
        "no single rack has room for the gang, though the cluster has; \"r0\" comes closest of topology.kubernetes.io/rack: gang \
         needs 2 \"worker\" workers × (32 cpu, 256Gi memory, 8 nvidia.com/gpu), room for 1, short of nvidia.com/gpu"
    );
    assert_eq!(holds, ["room in a single rack of a cluster it may use"]);
    engine.apply(Event::Cluster(with_used(&[4, 0, 0, 0]))).unwrap();
    assert_eq!(nodes(&plan(&mut engine)), ["node-2", "node-3"]);
}

#[test]
fn a_gang_waits_for_a_node_although_the_cluster_has_room() {
    let mut engine = world(&[5, 5, 6, 5]);
    submit(&mut engine, together(job(1, "train", 4, 1), Topology::NODE, Required));
    assert!(plan(&mut engine).is_empty());
    let (reason, holds) = said(&engine, 1);
    assert!(
        reason.starts_with("no single node has room for the gang, though the cluster has; \"node-0\" comes closest"),
        "{reason}"
    );
    assert_eq!(holds, ["room in a single node of a cluster it may use"]);
    engine.apply(Event::Cluster(with_used(&[5, 5, 6, 2]))).unwrap();
    assert_eq!(nodes(&plan(&mut engine)), ["node-3"]);
}

#[test]
fn where_the_whole_cluster_is_full_that_is_what_is_said() {
    let mut engine = world(&[8, 8, 8, 1]);
    submit(&mut engine, together(job(1, "train", 2, 8), RACK, Required));
    assert!(plan(&mut engine).is_empty());
    let (reason, holds) = said(&engine, 1);
    assert!(reason.starts_with("gang needs 2"), "{reason}");
    assert_eq!(holds, ["room on a cluster it may use; short of nvidia.com/gpu"]);
}

#[test]
fn the_rack_with_the_least_left_is_filled_first() {
    let mut engine = world(&[0, 0, 0, 4, 0, 0]);
    submit(&mut engine, together(job(1, "train", 3, 4), RACK, Required));
    assert_eq!(nodes(&plan(&mut engine)), ["node-2", "node-3"], "whole racks stay whole");
}

#[test]
fn a_preference_is_for_the_fewest_racks_and_the_last_is_the_smallest_that_will_do() {
    let used = [0, 0, 0, 0, 0, 8, 6, 8];
    let start = |workers: u32, gpus: i64| {
        let mut engine = world(&used);
        submit(&mut engine, together(job(1, "train", workers, gpus), RACK, Preferred));
        let placements = plan(&mut engine);
        let racks: BTreeSet<usize> = placements[0].slots.iter().map(|slot| rack_number(&slot.node)).collect();
        racks.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(start(2, 8), [0], "one rack if one has room");
    assert_eq!(start(3, 8), [0, 2], "the rest goes where one node is left");
    assert_eq!(start(4, 8), [0, 1]);
    assert_eq!(start(40, 1), [0, 1, 2]);
    assert_eq!(start(42, 1), [0, 1, 2, 3], "spread at the worst");
}

fn rack_number(node: &str) -> usize {
    node.trim_start_matches("node-").parse::<usize>().expect("a number") / 2
}

#[test]
fn all_workers_of_all_groups_stand_together() {
    let mut engine = world(&[0, 8, 0, 0]);
    let mut gang = together(job(1, "train", 1, 8), RACK, Required);
    gang.gang.groups.push(WorkerGroup { name: "launcher".to_owned(), replicas: 1, each: amounts(80, 1, 0) });
    gang.gang.groups.push(WorkerGroup { name: "store".to_owned(), replicas: 1, each: amounts(80, 1, 0) });
    submit(&mut engine, gang);
    let placed = plan(&mut engine);
    assert!(placed.is_empty(), "80 + 80 + 32 cores are not on two nodes of 96");
    assert!(matches!(engine.explain(JobId(1)).unwrap().clusters[0].reason, Reason::NoDomain(_)));
    let mut gang = together(job(2, "train", 1, 8), RACK, Required);
    gang.gang.groups.push(WorkerGroup { name: "launcher".to_owned(), replicas: 1, each: amounts(80, 1, 0) });
    submit(&mut engine, gang);
    assert_eq!(nodes(&plan(&mut engine)), ["node-0", "node-1"], "the launcher needs no GPU of the rack with the fewest");
}

#[test]
fn what_no_rack_could_ever_hold_is_refused() {
    let engine = world(&[0, 0, 0, 0]);
    let refused = engine.admit(&together(job(1, "train", 3, 8), RACK, Required)).unwrap_err();
    assert_eq!(refused.field, "topology");
    assert!(refused.why.contains("idc, in one rack, \"r0\": room for 2 of 3 workers"), "{}", refused.why);
    let refused = engine.admit(&together(job(1, "train", 1, 8), "example.com/row", Required)).unwrap_err();
    assert_eq!(refused.field, "topology");
    assert!(refused.why.contains("no node of idc has the label example.com/row"), "{}", refused.why);
    engine.admit(&together(job(1, "train", 3, 8), RACK, Preferred)).unwrap();
    engine.admit(&together(job(1, "train", 3, 8), "example.com/row", Preferred)).unwrap();
    assert_eq!(engine.admit(&together(job(1, "train", 5, 8), RACK, Required)).unwrap_err().field, "groups");
    assert_eq!(engine.admit(&together(job(1, "train", 5, 8), "", Preferred)).unwrap_err().field, "topology.level");
}

#[test]
fn nodes_without_the_label_are_in_no_rack() {
    let mut idc = with_used(&[0, 0, 0, 0]);
    idc.nodes[0].domains.clear();
    let mut engine = engine(vec![idc], vec![queue("train", 1)]);
    submit(&mut engine, together(job(1, "train", 2, 8), RACK, Preferred));
    assert_eq!(nodes(&plan(&mut engine)), ["node-2", "node-3"]);
    submit(&mut engine, together(job(2, "train", 2, 8), RACK, Required));
    assert!(plan(&mut engine).is_empty());
    submit(&mut engine, together(job(3, "train", 2, 8), RACK, Preferred));
    assert_eq!(nodes(&plan(&mut engine)), ["node-0", "node-1"], "a preference takes what there is");
}

#[test]
fn room_is_made_in_one_rack() {
    let mut engine = world(&[0, 0, 0, 0]);
    for id in 1..=4 {
        submit(&mut engine, job(id, "train", 1, 8));
    }
    for placement in plan(&mut engine) {
        engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at: Time(10) }).unwrap();
    }
    engine.apply(Event::Time(Time(3_600_000))).unwrap();
    let mut urgent = together(job(9, "train", 2, 8), RACK, Required);
    urgent.priority = 1;
    submit(&mut engine, urgent);
    let ended: Vec<u64> = engine
        .plan()
        .into_iter()
        .map(|decision| match decision {
            Decision::Interrupt(interruption) => interruption.job.0,
            Decision::Place(placement) => panic!("there is no room for {placement:?}"),
            Decision::Resize(resize) => panic!("no gang here is elastic: {resize:?}"),
        })
        .collect();
    let on = |id: u64| rack_number(&engine.rows().jobs.iter().find(|row| row.spec.id.0 == id).map(slot_of).unwrap());
    let racks: BTreeSet<usize> = ended.iter().map(|id| on(*id)).collect();
    assert_eq!((ended.len(), racks.len()), (2, 1), "runs of one rack end, and no others: {ended:?}");
}

fn slot_of(row: &muster_scheduler_engine::JobRow) -> String {
    match &row.state {
        muster_scheduler_engine::JobState::Placed { slots, .. } => slots[0].node.clone(),
        other => panic!("{other:?} is not placed"),
    }
}

/// What the slow twin knows of a rack or node: its free GPUs, how many of the gang's workers have room, and its number.
type Known = (i64, u64, usize);

/// Per domain what is free, found out node by node.
fn known(idc: &ClusterSpec, free: &BTreeMap<&str, i64>, level: &str, workers: u64, gpus: i64) -> BTreeMap<String, Known> {
    let mut domains: BTreeMap<String, Known> = BTreeMap::new();
    for (number, node) in idc.nodes.iter().enumerate() {
        let domain =
            |node: &NodeSpec| if level == Topology::NODE { Some(node.name.clone()) } else { node.domains.get(level).cloned() };
        let Some(domain) = domain(node) else { continue };
        let entry = domains.entry(domain).or_insert((0, 0, number));
        let has = free[node.name.as_str()];
        (entry.0, entry.1) = (entry.0 + has, entry.1 + workers.min((has / gpus) as u64));
    }
    if level != Topology::NODE {
        domains.values_mut().enumerate().for_each(|(number, known)| known.2 = number);
    }
    domains
}

#[test]
fn a_slow_twin_chooses_the_same_racks() {
    let (mut single, mut several, mut waited) = (0, 0, 0);
    for seed in 0..1_500 {
        let mut dice = Dice(seed);
        let used: Vec<i64> = (0..4 + dice.roll(9)).map(|_| dice.roll(9) as i64).collect();
        let mut idc = with_used(&used);
        for node in &mut idc.nodes {
            if dice.roll(8) == 0 {
                node.domains.clear();
            }
        }
        let free: BTreeMap<&str, i64> = idc.nodes.iter().zip(&used).map(|(node, used)| (node.name.as_str(), 8 - used)).collect();
        let (workers, gpus) = (1 + dice.roll(12), [1, 2, 4, 8][dice.roll(4) as usize]);
        let level = [RACK, Topology::NODE][dice.roll(2) as usize];
        let mode = [Required, Preferred][dice.roll(2) as usize];
        let domains = known(&idc, &free, level, workers, gpus);
        let mut engine = engine(vec![idc.clone()], vec![queue("train", 1)]);
        submit(&mut engine, together(job(1, "train", workers as u32, gpus), level, mode));
        let placements = plan(&mut engine);
        let domain_of = |node: &str| {
            let node = idc.nodes.iter().find(|its| its.name == node).unwrap();
            if level == Topology::NODE { Some(node.name.clone()) } else { node.domains.get(level).cloned() }
        };
        let taken: BTreeSet<Option<String>> = nodes(&placements).into_iter().map(domain_of).collect();
        let whole = domains.iter().filter(|(_, known)| known.1 >= workers).min_by_key(|(_, known)| **known);
        if let Some((domain, _)) = whole {
            assert_eq!(taken, BTreeSet::from([Some(domain.clone())]), "seed {seed}");
            single += 1;
            continue;
        }
        if mode == Required {
            assert!(placements.is_empty(), "seed {seed}: {placements:?}");
            waited += 1;
            continue;
        }
        let everywhere: i64 = free.values().map(|free| free / gpus).sum();
        assert_eq!(placements.len(), usize::from(everywhere >= workers as i64), "seed {seed}");
        let mut most: Vec<u64> = domains.values().map(|known| known.1).collect();
        most.sort_unstable_by_key(|room| Reverse(*room));
        let fewest = (1..=most.len()).find(|count| most[..*count].iter().sum::<u64>() >= workers);
        if let (Some(fewest), false) = (fewest, placements.is_empty()) {
            assert_eq!(taken.len(), fewest, "seed {seed}: {taken:?} of {domains:?}");
            several += 1;
        }
    }
    assert!(single > 200 && several > 50 && waited > 100, "the worlds are of all kinds: {single}, {several}, {waited}");
}

#[test]
fn what_was_promised_to_a_gang_holds_after_a_restart() {
    let mut engine = world(&[0, 0, 0, 0]);
    let mut filler = job(1, "train", 4, 8);
    filler.gang.restart_ms = Some(1_000);
    submit(&mut engine, filler);
    let placement = plan(&mut engine).remove(0);
    engine.apply(Event::Started { job: JobId(1), epoch: placement.epoch, at: Time(10) }).unwrap();
    engine.apply(Event::Time(Time(3_600_000))).unwrap();
    let mut urgent = together(job(9, "train", 2, 8), RACK, Required);
    urgent.priority = 1;
    submit(&mut engine, urgent);
    assert_eq!(engine.plan().len(), 1, "the run is told to end");
    let mut restored = Engine::restore(engine.rows(), engine.now()).unwrap();
    for engine in [&mut engine, &mut restored] {
        let end = RunEnd::Retry { not_before: Time(7_200_000) };
        engine.apply(Event::Ended { job: JobId(1), epoch: placement.epoch, end }).unwrap();
        let places = plan(engine);
        let racks: BTreeSet<usize> = nodes(&places).into_iter().map(rack_number).collect();
        assert_eq!((places.len(), racks.len()), (1, 1));
    }
    assert_eq!(engine.rows(), restored.rows());
}
