//! Elastic gangs: how large they start, when they grow, and what they teach.

use crate::sizes::{HOUR_MS, MINUTE_MS, Told, end, gpus, leave, pool, size, step, tell};
use crate::world::{RACK, amounts, cluster, elastic, engine, job, queue, racked, submit, tier, together};
use muster_scheduler_engine::{
    ClusterSpec, ClusterState, Elastic, Engine, Epoch, Event, JobId, JobSpec, JobState, Outlook, QueueSpec, RunEnd, Slot,
    Smaller, TierOpens, Time, TopologyMode, WorkerGroup, check,
};

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
    with_launcher.gang.groups.push(WorkerGroup { name: "launcher".to_owned(), replicas: 2, each: amounts(30, 1, 0) });
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
    assert!(
        slots.iter().all(|slot| slot.node == "node-2" || slot.node == "node-3")
            || slots.iter().all(|slot| slot.node == "node-0" || slot.node == "node-1"),
        "{slots:?}"
    );
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
fn its_least_size_is_all_that_must_fit_anywhere() {
    let engine = pool(1, vec![queue("a", 1)]);
    assert_eq!(engine.admit(&elastic(job(1, "a", 100, 1), 8)), Ok(()));
    let refused = engine.admit(&elastic(job(1, "a", 100, 1), 9)).expect_err("nine don't fit on eight GPUs");
    assert_eq!(refused.field, "groups");
}

#[test]
fn a_later_tier_is_used_for_the_full_size_once_it_is_open() {
    let tiers = vec![tier(&["idc"], TierOpens::WhenFull), tier(&["cloud"], TierOpens::AfterWaitingMs(HOUR_MS))];
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
