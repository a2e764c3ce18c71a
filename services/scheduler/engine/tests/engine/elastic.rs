//! Elastic gangs: how large they start, when they grow, and who gets what they have beyond their least size.

use crate::world::{GPU, RACK, amounts, cluster, elastic, engine, job, queue, racked, submit, together};
use muster_scheduler_engine::{
    BoundNode, Cause, ClusterSpec, ClusterState, Decision, Elastic, Engine, Epoch, Event, JobId, JobSpec, JobState, Outlook, QueueSpec,
    Resize, RunEnd, SizeChange, SizeVerdict, Smaller, Slot, TierOpens, Time, TopologyMode, check,
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// What happened, in the order of decision: jobs with the workers of their first group.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Placed(u64, u32),
    Grown(u64, u32),
    Told(u64, u32, Cause),
    Shrunk(u64, u32),
    Ended(u64, Cause),
}

fn workers(slots: &[Slot]) -> u32 {
    slots.iter().filter(|slot| slot.group == 0).map(|slot| slot.workers).sum()
}

fn what(decisions: &[Decision]) -> Vec<Told> {
    let one = |decision: &Decision| match decision {
        Decision::Place(placement) => Told::Placed(placement.job.0, workers(&placement.slots)),
        Decision::Interrupt(interruption) => Told::Ended(interruption.job.0, interruption.cause),
        Decision::Resize(Resize { job, workers: size, slots, change, .. }) => {
            assert_eq!(workers(slots), *size);
            match change {
                SizeChange::Grows => Told::Grown(job.0, *size),
                SizeChange::Shrinks { cause, .. } => Told::Told(job.0, *size, *cause),
                SizeChange::HasShrunk => Told::Shrunk(job.0, *size),
            }
        }
    };
    decisions.iter().map(one).collect()
}

/// Plans once; what is placed starts at once.
fn step(engine: &mut Engine) -> Vec<Told> {
    let decisions = engine.plan();
    for decision in &decisions {
        if let Decision::Place(placement) = decision {
            let at = engine.now();
            engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at }).unwrap();
        }
    }
    what(&decisions)
}

/// Workers that were told to leave have left, from where the plan has them.
fn leave(engine: &mut Engine, id: u64) {
    let row = engine.job(JobId(id)).expect("a known job");
    let JobState::Placed { slots, leaving, .. } = row.state else { panic!("{id} does not run") };
    let stays = |slot: &Slot| {
        let gone = leaving.iter().filter(|gone| (gone.group, &gone.node) == (slot.group, &slot.node));
        slot.workers - gone.map(|gone| gone.workers).sum::<u32>()
    };
    let used = |slot: &Slot| row.spec.gang.groups[slot.group].each.checked_times(stays(slot)).unwrap();
    let nodes = slots.iter().map(|slot| BoundNode { node: slot.node.clone(), used: used(slot) }).collect();
    engine.apply(Event::Bound { job: JobId(id), epoch: row.epoch, nodes }).unwrap();
}

fn tell(engine: &mut Engine, at_ms: i64) {
    engine.apply(Event::Time(Time(at_ms))).unwrap();
}

fn end(engine: &mut Engine, id: u64) {
    let epoch = engine.job(JobId(id)).expect("a known job").epoch;
    engine.apply(Event::Ended { job: JobId(id), epoch, end: RunEnd::Finished }).unwrap();
}

fn gpus(engine: &Engine, queue: &str) -> i64 {
    engine.usage(queue).expect("a known queue").get(GPU)
}

fn size(engine: &Engine, id: u64) -> SizeVerdict {
    engine.explain(JobId(id)).expect("a known job").size.expect("an elastic gang")
}

/// One cluster of so many nodes of eight GPUs, and queues.
fn pool(nodes: u32, queues: Vec<QueueSpec>) -> Engine {
    engine(vec![cluster("idc", nodes, "V100", 1)], queues)
}

#[test]
fn it_starts_at_its_full_size_where_that_has_room_before_it_is_smaller_where_it_comes_first() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1), cluster("cloud", 2, "A100", 9)], vec![queue("a", 1)]);
    submit(&mut engine, elastic(job(1, "a", 12, 1), 4));
    assert_eq!(step(&mut engine), [Told::Placed(1, 12)]);
    let JobState::Placed { cluster, .. } = engine.job(JobId(1)).unwrap().state else { panic!("it is placed") };
    assert_eq!(cluster, "cloud");
    submit(&mut engine, elastic(job(2, "a", 12, 1), 4));
    assert_eq!(step(&mut engine), [Told::Placed(2, 8)], "no place has room for twelve; the first has room for eight");
    assert_eq!(gpus(&engine, "a"), 20);
    submit(&mut engine, JobSpec { priority: -1, ..elastic(job(3, "a", 12, 1), 5) });
    assert_eq!(step(&mut engine), [], "four are too few");
    let said = size(&engine, 2);
    assert_eq!((said.group.as_str(), said.least, said.full, said.workers), ("worker", 4, 12, 8));
}

#[test]
fn one_that_is_not_elastic_is_placed_whole() {
    let mut engine = pool(1, vec![queue("a", 1)]);
    let mut whole = job(1, "a", 12, 1);
    whole.gang.min_available = 4;
    submit(&mut engine, whole);
    assert_eq!(step(&mut engine), []);
    assert_eq!(engine.explain(JobId(1)).unwrap().size, None);
}

#[test]
fn it_starts_as_large_as_its_queue_may_have_it() {
    let capped = QueueSpec { capability: amounts(0, 0, 6).into(), ..queue("a", 1) };
    let mut engine = pool(2, vec![capped, queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 4, 2), 1));
    assert_eq!(step(&mut engine), [Told::Placed(1, 3)]);
    tell(&mut engine, HOUR_MS);
    assert_eq!(step(&mut engine), []);
    let why = size(&engine, 1).why.expect("it is smaller than it may be");
    assert!(matches!(&why, Smaller::Limit(_)), "{why:?}");
    assert!(why.to_string().starts_with("capability of queue \"a\" exceeded by 2 nvidia.com/gpu"), "{why}");
}

#[test]
fn other_groups_are_always_whole() {
    let mut engine = pool(1, vec![queue("a", 1)]);
    let mut with_launcher = elastic(job(1, "a", 12, 1), 4);
    with_launcher.gang.groups.push(muster_scheduler_engine::WorkerGroup {
        name: "launcher".to_owned(),
        replicas: 2,
        each: amounts(30, 1, 0),
    });
    submit(&mut engine, with_launcher);
    assert_eq!(step(&mut engine), [Told::Placed(1, 8)], "60 of 96 cores are the launchers', and 4 each the workers'");
    let placed = engine.job(JobId(1)).unwrap();
    let JobState::Placed { slots, .. } = &placed.state else { panic!("it is placed") };
    assert_eq!(slots.iter().filter(|slot| slot.group == 1).map(|slot| slot.workers).sum::<u32>(), 2);
    assert_eq!(placed.spec.gang.as_placed(slots).total().unwrap().get("cpu"), 92_000);
}

#[test]
fn it_grows_into_room_that_nobody_who_waits_can_use_and_not_before_its_least_run_time() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, job(1, "b", 1, 4));
    step(&mut engine);
    submit(&mut engine, elastic(job(2, "a", 8, 1), 2));
    assert_eq!(step(&mut engine), [Told::Placed(2, 4)]);
    let started = engine.now().0;
    end(&mut engine, 1);
    assert_eq!(step(&mut engine), [], "it has only just begun");
    assert!(matches!(size(&engine, 2).why, Some(Smaller::TooSoon { at }) if at == Time(started + MINUTE_MS)));
    assert_eq!(engine.next_timer(), Some(Time(started + MINUTE_MS)), "the engine asks to be woken");
    submit(&mut engine, job(3, "b", 1, 2));
    assert_eq!(step(&mut engine), [Told::Placed(3, 1)], "who waits comes first");
    tell(&mut engine, started + MINUTE_MS);
    submit(&mut engine, job(4, "b", 1, 1));
    assert_eq!(step(&mut engine), [Told::Placed(4, 1), Told::Grown(2, 5)]);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (5, 3));
    assert_eq!(step(&mut engine), [], "the second plan is empty");
    tell(&mut engine, started + 3 * MINUTE_MS);
    assert_eq!(step(&mut engine), []);
    assert_eq!(size(&engine, 2).why, Some(Smaller::NoRoom));
    end(&mut engine, 3);
    assert_eq!(step(&mut engine), [Told::Grown(2, 7)]);
    end(&mut engine, 4);
    tell(&mut engine, started + 4 * MINUTE_MS);
    assert_eq!(step(&mut engine), [Told::Grown(2, 8)]);
    assert_eq!(size(&engine, 2).why, None);
}

#[test]
fn the_queue_with_the_least_share_grows_first_and_then_who_came_first() {
    let mut engine = pool(2, vec![queue("a", 1), queue("b", 4)]);
    submit(&mut engine, job(9, "a", 1, 8));
    step(&mut engine);
    for (id, queue) in [(1, "a"), (2, "b"), (3, "b")] {
        submit(&mut engine, elastic(job(id, queue, 4, 2), 1));
        step(&mut engine);
    }
    // Four workers each are eight GPUs: the first took them, the others give it no peace.
    let sizes: Vec<u32> = (1..=3).map(|id| size(&engine, id).workers).collect();
    assert_eq!(sizes, [4, 0, 0]);
    for _ in 0..4 {
        leave(&mut engine, 1);
        step(&mut engine);
    }
    let sizes: Vec<u32> = (1..=3).map(|id| size(&engine, id).workers).collect();
    assert_eq!(sizes.iter().sum::<u32>(), 4, "{sizes:?}");
    end(&mut engine, 9);
    tell(&mut engine, HOUR_MS);
    let told = step(&mut engine);
    let mut grown = told.iter().map(|told| match told {
        Told::Grown(id, _) => *id,
        other => panic!("{other:?}"),
    });
    assert_eq!(grown.next(), Some(2), "of queue b, which has less for its weight, the one that came first: {told:?}");
    drop(grown);
    assert_eq!(gpus(&engine, "a") + gpus(&engine, "b"), 16, "nothing is left idle: {told:?}");
}

#[test]
fn what_is_beyond_its_least_size_is_given_to_whoever_waits_and_nothing_ends() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    assert_eq!(step(&mut engine), [Told::Placed(1, 8)]);
    submit(&mut engine, job(2, "b", 1, 3));
    assert_eq!(step(&mut engine), [Told::Told(1, 5, Cause::Surplus)], "three workers are enough");
    assert_eq!(size(&engine, 1).why, Some(Smaller::Leaving { workers: 3 }));
    assert_eq!(gpus(&engine, "a"), 8, "it is charged for them until they have left");
    assert_eq!(step(&mut engine), [], "it is told once");
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 5), Told::Placed(2, 1)]);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (5, 3));
    // The run goes on where it was, in its first run.
    assert_eq!(engine.job(JobId(1)).unwrap().epoch, Epoch(1));
    submit(&mut engine, job(3, "b", 1, 4));
    assert_eq!(step(&mut engine), [], "b would have more than a then");
    submit(&mut engine, job(4, "a", 1, 3));
    assert_eq!(step(&mut engine), [Told::Told(1, 2, Cause::Surplus)], "in its own queue there is nothing to compare");
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 2), Told::Placed(4, 1)]);
    submit(&mut engine, job(5, "a", 1, 1));
    assert_eq!(step(&mut engine), [], "it is never smaller than its least size");
}

#[test]
fn who_has_a_lower_priority_takes_nothing_in_its_queue_and_of_one_that_is_not_reclaimable_nobody() {
    let keeps = QueueSpec { reclaimable: false, ..queue("a", 1) };
    let mut engine = pool(1, vec![keeps, queue("b", 1)]);
    submit(&mut engine, JobSpec { priority: 1, ..elastic(job(1, "a", 8, 1), 2) });
    step(&mut engine);
    submit(&mut engine, job(2, "a", 1, 1));
    submit(&mut engine, job(3, "b", 1, 1));
    assert_eq!(step(&mut engine), []);
    submit(&mut engine, JobSpec { priority: 1, ..job(4, "a", 1, 1) });
    assert_eq!(step(&mut engine), [Told::Told(1, 7, Cause::Surplus)]);
}

#[test]
fn inside_a_full_capability_a_queues_own_gangs_make_room_for_each_other() {
    let capped = QueueSpec { capability: amounts(0, 0, 8).into(), ..queue("a", 1) };
    let mut engine = pool(4, vec![capped, queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    submit(&mut engine, elastic(job(2, "b", 8, 1), 2));
    step(&mut engine);
    submit(&mut engine, job(3, "a", 1, 4));
    assert_eq!(step(&mut engine), [Told::Told(1, 4, Cause::Surplus)], "what b gave would not help");
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 4), Told::Placed(3, 1)]);
    assert_eq!(gpus(&engine, "a"), 8);
}

#[test]
fn the_youngest_gives_first_and_whole_nodes_become_free() {
    let mut engine = pool(3, vec![queue("a", 1), queue("b", 1)]);
    for id in 1..=2 {
        submit(&mut engine, elastic(job(id, "a", 12, 1), 4));
        step(&mut engine);
        let later = engine.now().0 + MINUTE_MS;
        tell(&mut engine, later);
    }
    assert_eq!(gpus(&engine, "a"), 24);
    submit(&mut engine, job(3, "b", 1, 8));
    let told = step(&mut engine);
    // Each has a whole node and half of the third.
    assert_eq!(told, [Told::Told(2, 4, Cause::Surplus)]);
    leave(&mut engine, 2);
    assert_eq!(step(&mut engine), [Told::Shrunk(2, 4), Told::Placed(3, 1)]);
}

#[test]
fn a_higher_priority_takes_the_surplus_before_it_ends_a_gang() {
    let mut engine = pool(2, vec![queue("a", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 6));
    submit(&mut engine, job(2, "a", 1, 2));
    submit(&mut engine, job(3, "a", 1, 6));
    assert_eq!(step(&mut engine).len(), 3);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, JobSpec { priority: 1, ..job(4, "a", 1, 4) });
    let told = step(&mut engine);
    assert_eq!(told.len(), 1, "{told:?}");
    let whole = told.iter().filter(|told| matches!(told, Told::Ended(..))).count();
    assert_eq!(whole, 1, "two workers of one node are not enough, and the surplus is spared again: {told:?}");
    submit(&mut engine, JobSpec { priority: 1, ..job(5, "a", 1, 2) });
    let told = step(&mut engine);
    assert_eq!(told, [Told::Told(1, 6, Cause::Surplus)], "here it is");
}

#[test]
fn a_gang_that_is_in_the_way_gives_its_surplus_or_ends_whole_and_never_both() {
    let mut engine = pool(1, vec![queue("a", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 4));
    step(&mut engine);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, JobSpec { priority: 1, ..job(2, "a", 1, 6) });
    assert_eq!(step(&mut engine), [Told::Ended(1, Cause::Priority)], "with four of its eight gone six don't fit yet");
    engine.apply(Event::Ended { job: JobId(1), epoch: Epoch(1), end: RunEnd::Retry { not_before: Time(0) } }).unwrap();
    assert_eq!(step(&mut engine), [Told::Placed(2, 1)]);
    assert_eq!(gpus(&engine, "a"), 6);
    end(&mut engine, 2);
    assert_eq!(step(&mut engine), [Told::Placed(1, 8)]);
}

#[test]
fn where_other_pods_leave_than_was_thought_the_gang_waits_for_room_like_any_other() {
    let mut engine = pool(2, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 16, 1), 8));
    assert_eq!(step(&mut engine), [Told::Placed(1, 16)]);
    submit(&mut engine, job(2, "b", 1, 8));
    assert_eq!(step(&mut engine), [Told::Told(1, 8, Cause::Surplus)]);
    // The cluster ends half of the pods on each node.
    let each = amounts(4 * 4, 32 * 4, 4);
    let half = |node: &str| BoundNode { node: node.to_owned(), used: each.clone() };
    engine.apply(Event::Bound { job: JobId(1), epoch: Epoch(1), nodes: vec![half("node-0"), half("node-1")] }).unwrap();
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 8)], "there is no node with eight free");
    assert!(engine.audit().free["idc"].values().all(|free| free.get(GPU) == 4), "{:?}", engine.audit().free);
    submit(&mut engine, job(3, "b", 1, 4));
    assert_eq!(step(&mut engine), [Told::Placed(3, 1)], "nothing is kept for who can't use it");
}

#[test]
fn surplus_is_taken_where_the_pods_were_seen() {
    let mut engine = pool(3, vec![queue("a", 1), queue("b", 2)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    // The plan fills one node; the cluster has spread them.
    let each = |node: &str, workers: i64| BoundNode { node: node.to_owned(), used: amounts(4 * workers, 32 * workers, workers) };
    let nodes = vec![each("node-0", 2), each("node-1", 3), each("node-2", 3)];
    engine.apply(Event::Bound { job: JobId(1), epoch: Epoch(1), nodes }).unwrap();
    submit(&mut engine, job(2, "b", 1, 8));
    let decisions = engine.plan();
    let [Decision::Resize(resize)] = decisions.as_slice() else { panic!("{decisions:?}") };
    let left: Vec<(&str, u32)> = resize.slots.iter().map(|slot| (slot.node.as_str(), slot.workers)).collect();
    assert_eq!((resize.workers, left), (6, vec![("node-1", 3), ("node-2", 3)]));
}

#[test]
fn it_stays_in_the_rack_in_which_it_must_stand() {
    let racks = racked(cluster("idc", 4, "V100", 1), 2);
    let mut engine = engine(vec![racks], vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, job(1, "b", 3, 8));
    submit(&mut engine, job(2, "b", 1, 4));
    assert_eq!(step(&mut engine).len(), 2);
    submit(&mut engine, together(elastic(job(3, "a", 4, 4), 1), RACK, TopologyMode::Required));
    assert_eq!(step(&mut engine), [Told::Placed(3, 1)], "of the four GPUs that are left");
    end(&mut engine, 1);
    tell(&mut engine, HOUR_MS);
    let told = step(&mut engine);
    assert_eq!(told, [Told::Grown(3, 3)], "the node beside it is of its rack, the other two are not");
    let JobState::Placed { slots, .. } = engine.job(JobId(3)).unwrap().state else { panic!("it runs") };
    assert!(slots.iter().all(|slot| slot.node == "node-2" || slot.node == "node-3") || slots.iter().all(|slot| slot.node == "node-0" || slot.node == "node-1"), "{slots:?}");
}

#[test]
fn a_cluster_that_takes_nothing_new_lets_nobody_grow() {
    let mut engine = pool(1, vec![queue("a", 1)]);
    submit(&mut engine, job(1, "a", 1, 4));
    submit(&mut engine, elastic(job(2, "a", 8, 1), 4));
    step(&mut engine);
    end(&mut engine, 1);
    let cordoned = ClusterSpec { state: ClusterState::Cordoned, ..cluster("idc", 1, "V100", 1) };
    engine.apply(Event::Cluster(cordoned)).unwrap();
    tell(&mut engine, HOUR_MS);
    assert_eq!(step(&mut engine), []);
    assert_eq!(size(&engine, 2).why, Some(Smaller::NotLive));
    engine.apply(Event::Cluster(cluster("idc", 1, "V100", 1))).unwrap();
    assert_eq!(step(&mut engine), [Told::Grown(2, 8)]);
}

#[test]
fn what_remains_is_gpu_time_so_that_half_the_size_takes_twice_as_long() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    let kind = |spec: JobSpec| JobSpec { kind: "train".to_owned(), ..spec };
    for id in 1..=8 {
        submit(&mut engine, kind(elastic(job(id, "a", 8, 1), 4)));
        step(&mut engine);
        let done = engine.now().0 + HOUR_MS;
        tell(&mut engine, done);
        end(&mut engine, id);
    }
    submit(&mut engine, job(20, "b", 1, 4));
    step(&mut engine);
    submit(&mut engine, kind(elastic(job(21, "a", 8, 1), 4)));
    assert_eq!(step(&mut engine), [Told::Placed(21, 4)]);
    let began = engine.now().0;
    submit(&mut engine, job(22, "b", 1, 8));
    let foreseen = |engine: &Engine| {
        let forecast = engine.clone().forecast(Outlook { horizon_ms: 100 * HOUR_MS, most_steps: 100, permille: 500 });
        forecast.starts.get(&JobId(22)).map(|start| start.at.0)
    };
    end(&mut engine, 20);
    // It grows in a minute: until then half of that has been done.
    let at = foreseen(&engine).expect("it starts some time");
    let expected = began + HOUR_MS;
    assert!((at - expected).abs() < 30 * MINUTE_MS, "{} minutes after it began", (at - began) / MINUTE_MS);
    tell(&mut engine, began + HOUR_MS / 2);
    assert_eq!(step(&mut engine), [Told::Grown(21, 8)]);
    let JobState::Placed { sized: Some(sized), .. } = engine.job(JobId(21)).unwrap().state else { panic!("it has grown") };
    assert_eq!((sized.at.0, sized.done_ms), (began + HOUR_MS / 2, HOUR_MS / 4), "half an hour at half the size");
    tell(&mut engine, began + HOUR_MS);
    let epoch = engine.job(JobId(21)).unwrap().epoch;
    let mut back = engine.clone();
    back.apply(Event::Ended { job: JobId(21), epoch, end: RunEnd::Suspended }).unwrap();
    assert_eq!(back.job(JobId(21)).unwrap().attained_ms, 0, "it does not go on from a checkpoint");
}

#[test]
fn what_goes_on_from_a_checkpoint_keeps_what_it_did_at_each_size() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, job(1, "b", 1, 6));
    step(&mut engine);
    let mut patient = elastic(job(2, "a", 8, 1), 2);
    patient.gang.restart_ms = Some(1_000);
    submit(&mut engine, patient);
    assert_eq!(step(&mut engine), [Told::Placed(2, 2)]);
    let began = engine.now().0;
    tell(&mut engine, began + HOUR_MS);
    end(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Grown(2, 8)]);
    tell(&mut engine, began + 2 * HOUR_MS);
    engine.apply(Event::Ended { job: JobId(2), epoch: Epoch(1), end: RunEnd::Suspended }).unwrap();
    assert_eq!(engine.job(JobId(2)).unwrap().attained_ms, HOUR_MS / 4 + HOUR_MS);
}

#[test]
fn a_restored_engine_knows_who_is_leaving_and_for_whom() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, job(2, "b", 1, 4));
    assert_eq!(step(&mut engine), [Told::Told(1, 4, Cause::Surplus)]);
    let mut other = Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
    assert_eq!((other.audit(), other.rows()), (engine.audit(), engine.rows()));
    for engine in [&mut engine, &mut other] {
        leave(engine, 1);
    }
    // Also where it was seen and not yet taken in.
    let mut third = Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
    let decided = engine.plan();
    assert_eq!(what(&decided), [Told::Shrunk(1, 4), Told::Placed(2, 1)]);
    assert_eq!((other.plan(), third.plan()), (decided.clone(), decided));
    assert_eq!((other.rows(), third.rows()), (engine.rows(), engine.rows()));
}

#[test]
fn a_run_that_ends_while_workers_leave_makes_room_all_the_same() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    submit(&mut engine, job(2, "b", 1, 4));
    assert_eq!(step(&mut engine), [Told::Told(1, 4, Cause::Surplus)]);
    end(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Placed(2, 1)]);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (0, 4));
}

#[test]
fn who_waited_for_it_may_be_withdrawn_and_it_grows_back() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    submit(&mut engine, job(2, "b", 1, 4));
    step(&mut engine);
    engine.apply(Event::Withdrawn(JobId(2))).unwrap();
    assert_eq!(step(&mut engine), []);
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 4)], "it is left at that for a minute");
    let later = engine.now().0 + MINUTE_MS;
    tell(&mut engine, later);
    assert_eq!(step(&mut engine), [Told::Grown(1, 8)]);
}

#[test]
fn its_least_size_is_all_that_must_fit_anywhere() {
    let engine = pool(1, vec![queue("a", 1)]);
    assert_eq!(engine.admit(&elastic(job(1, "a", 100, 1), 8)), Ok(()));
    let refused = engine.admit(&elastic(job(1, "a", 100, 1), 9)).expect_err("nine don't fit on eight GPUs");
    assert_eq!(refused.field, "groups");
}

#[test]
fn a_later_tier_is_used_for_the_full_size_once_it_is_open() {
    let tiers = vec![
        crate::world::tier(&["idc"], TierOpens::WhenFull),
        crate::world::tier(&["cloud"], TierOpens::AfterWaitingMs(HOUR_MS)),
    ];
    let clusters = vec![cluster("idc", 1, "V100", 1), cluster("cloud", 4, "V100", 9)];
    let mut engine = engine(clusters, vec![QueueSpec { tiers, ..queue("a", 1) }]);
    submit(&mut engine, elastic(job(1, "a", 16, 1), 4));
    assert_eq!(step(&mut engine), [Told::Placed(1, 8)], "it does not wait for a dearer tier to be larger");
}

#[test]
fn what_makes_no_sense_is_refused_by_the_field() {
    let field = |change: &dyn Fn(&mut JobSpec)| {
        let mut spec = elastic(job(1, "a", 8, 1), 2);
        change(&mut spec);
        check(&spec.gang).expect_err("it makes no sense").field
    };
    assert_eq!(field(&|spec| spec.gang.elastic = Some(Elastic { group: 1, least: 2 })), "elastic.group");
    assert_eq!(field(&|spec| spec.gang.elastic = Some(Elastic { group: 0, least: 0 })), "elastic.least");
    assert_eq!(field(&|spec| spec.gang.elastic = Some(Elastic { group: 0, least: 8 })), "elastic.least");
    assert_eq!(field(&|spec| spec.gang.min_available = 3), "elastic.least");
}

#[test]
fn a_row_of_another_size_than_there_may_be_is_refused() {
    let mut engine = pool(1, vec![queue("a", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 4));
    step(&mut engine);
    let mut rows = engine.rows();
    if let JobState::Placed { slots, .. } = &mut rows.jobs[0].state {
        slots[0].workers = 3;
    }
    let refused = Engine::restore(rows, engine.now()).expect_err("three are too few");
    assert_eq!(refused.field, "jobs[1].slots");
    let mut rows = engine.rows();
    if let JobState::Placed { leaving, .. } = &mut rows.jobs[0].state {
        leaving.push(Slot { group: 0, node: "elsewhere".to_owned(), workers: 1, gpu: None });
    }
    let refused = Engine::restore(rows, engine.now()).expect_err("nobody is there");
    assert_eq!(refused.field, "jobs[1].leaving");
}
