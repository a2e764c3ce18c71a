//! Where gangs go, in what order, and what becomes of them.

use crate::world::{GPU, amounts, cluster, engine, job, placed, plan, queue, submit, tier};
use muster_scheduler_engine::{BoundNode, ClusterState, Engine, Epoch, Event, Hold, JobId, JobSpec, RunEnd, TierOpens, Time};

fn ended(engine: &mut Engine, id: u64, epoch: u32, end: RunEnd) {
    engine.apply(Event::Ended { job: JobId(id), epoch: Epoch(epoch), end }).expect("a placed job");
}

#[test]
fn the_cheap_cluster_fills_before_the_dear_one() {
    let mut engine =
        engine(vec![cluster("cloud", 2, "A100", 4_000_000), cluster("idc", 1, "V100", 1_000_000)], vec![queue("train", 1)]);
    for id in 1..=4 {
        submit(&mut engine, job(id, "train", 1, 8));
    }
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc"), (2, "cloud"), (3, "cloud")]);
    assert!(plan(&mut engine).is_empty());
    ended(&mut engine, 1, 1, RunEnd::Finished);
    assert_eq!(placed(&plan(&mut engine)), [(4, "idc")]);
}

#[test]
fn a_gang_that_does_not_fit_whole_is_not_placed_in_part() {
    let mut engine = engine(vec![cluster("one", 2, "V100", 1), cluster("two", 2, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 3, 8));
    submit(&mut engine, job(2, "train", 2, 8));
    assert_eq!(placed(&plan(&mut engine)), [(2, "one")]);
}

#[test]
fn free_gpus_that_are_scattered_over_nodes_do_not_make_a_whole_node() {
    let mut torn = cluster("idc", 4, "V100", 1);
    for node in &mut torn.nodes {
        node.used_by_others = amounts(4, 32, 4);
    }
    let mut engine = engine(vec![torn.clone()], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 1, 8));
    assert!(plan(&mut engine).is_empty(), "16 GPUs are free, and no node has 8");
    torn.nodes[2].used_by_others = amounts(0, 0, 0);
    engine.apply(Event::Cluster(torn)).unwrap();
    let placements = plan(&mut engine);
    assert_eq!(placed(&placements), [(1, "idc")]);
    assert_eq!(placements[0].slots[0].node, "node-2");
}

#[test]
fn small_gangs_leave_whole_nodes_whole() {
    let mut engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 1, 2));
    submit(&mut engine, job(2, "train", 3, 2));
    submit(&mut engine, job(3, "train", 1, 8));
    assert_eq!(plan(&mut engine).len(), 3);
}

#[test]
fn cpu_and_memory_are_as_hard_a_limit_as_gpus() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("train", 1)]);
    let mut greedy = job(1, "train", 1, 1);
    greedy.gang.groups[0].each = amounts(90, 32, 1);
    submit(&mut engine, greedy);
    let mut second = job(2, "train", 1, 1);
    second.gang.groups[0].each = amounts(8, 32, 1);
    submit(&mut engine, second);
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
    let explanation = engine.explain(JobId(2)).unwrap();
    assert_eq!(explanation.holds[0].to_string(), "room on a cluster it may use; short of cpu");
}

#[test]
fn a_named_extended_resource_is_found_where_it_is() {
    let mut with = cluster("idc", 1, "V100", 9);
    with.nodes[0].allocatable.set("example.com/licence", 1);
    let mut engine = engine(vec![with, cluster("cheap", 1, "V100", 1)], vec![queue("train", 1)]);
    let mut licensed = job(1, "train", 1, 1);
    licensed.gang.groups[0].each.set("example.com/licence", 1);
    submit(&mut engine, licensed.clone());
    licensed.id = JobId(2);
    submit(&mut engine, licensed);
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
}

#[test]
fn the_models_a_job_names_are_the_only_ones_it_gets() {
    let mut engine = engine(vec![cluster("cloud", 1, "A100", 4), cluster("idc", 1, "V100", 1)], vec![queue("train", 1)]);
    let mut picky = job(1, "train", 1, 1);
    picky.gang.flavors.insert("A100".to_owned());
    submit(&mut engine, picky);
    let placements = plan(&mut engine);
    assert_eq!(placements[0].flavor.as_deref(), Some("A100"));
    assert_eq!(placements[0].price_micros, Some(4));
}

#[test]
fn priority_goes_before_time_and_time_before_row() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("train", 1)]);
    for (id, priority, at) in [(1, 0, 10), (2, 5, 30), (3, 5, 20), (4, 5, 20)] {
        let mut job = job(id, "train", 1, 8);
        job.priority = priority;
        job.submitted_at = Time(at);
        submit(&mut engine, job);
    }
    let mut order = Vec::new();
    while let [placement] = plan(&mut engine).as_slice() {
        order.push(placement.job.0);
        let (id, epoch) = (placement.job, placement.epoch);
        engine.apply(Event::Ended { job: id, epoch, end: RunEnd::Finished }).unwrap();
    }
    assert_eq!(order, [3, 4, 2, 1]);
}

#[test]
fn a_queue_never_uses_more_than_its_capability_over_all_clusters() {
    let mut capped = queue("train", 1);
    capped.capability = amounts(0, 0, 12).into();
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1), cluster("cloud", 1, "A100", 2)], vec![capped]);
    for id in 1..=4 {
        submit(&mut engine, job(id, "train", 1, 4));
    }
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc"), (2, "idc"), (3, "cloud")]);
    let hold = engine.explain(JobId(4)).unwrap().holds[0].to_string();
    assert_eq!(hold, r#"capability of queue "train" exceeded by 4 nvidia.com/gpu: 12 used + 4 asked > 12"#);
    ended(&mut engine, 1, 1, RunEnd::Finished);
    assert_eq!(placed(&plan(&mut engine)), [(4, "idc")]);
}

#[test]
fn a_capability_of_nothing_is_a_limit_too() {
    let mut without = queue("train", 1);
    without.capability.insert(GPU.to_owned(), 0);
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![without]);
    submit(&mut engine, job(1, "train", 1, 1));
    submit(&mut engine, job(2, "train", 1, 0));
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")], "only what asks for a GPU is held back");
    let hold = engine.explain(JobId(1)).unwrap().holds[0].to_string();
    assert_eq!(hold, r#"capability of queue "train" exceeded by 1 nvidia.com/gpu: 0 used + 1 asked > 0"#);
}

#[test]
fn a_parents_capability_holds_its_children_together() {
    let mut parent = queue("lab", 1);
    parent.capability = amounts(0, 0, 8).into();
    let (mut left, mut right) = (queue("left", 1), queue("right", 1));
    left.parent = Some("lab".to_owned());
    right.parent = Some("lab".to_owned());
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![parent, left, right]);
    submit(&mut engine, job(1, "left", 1, 8));
    submit(&mut engine, job(2, "right", 1, 8));
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
    ended(&mut engine, 1, 1, RunEnd::Finished);
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")]);
}

#[test]
fn a_later_tier_opens_after_the_wait_it_names() {
    let mut tiered = queue("train", 1);
    tiered.tiers = vec![tier(&["idc"], TierOpens::WhenFull), tier(&["cloud"], TierOpens::AfterWaitingMs(1_000))];
    let mut engine = engine(vec![cluster("cloud", 1, "A100", 1), cluster("idc", 1, "V100", 9)], vec![tiered]);
    submit(&mut engine, job(1, "train", 1, 8));
    submit(&mut engine, job(2, "train", 1, 8));
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
    assert_eq!(engine.next_timer(), Some(Time(1_002)));
    engine.apply(Event::Time(Time(1_001))).unwrap();
    assert!(plan(&mut engine).is_empty());
    engine.apply(Event::Time(Time(1_002))).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(2, "cloud")]);
}

/// An engine with a full node and a dear cluster that opens after this multiple of a job's work, having seen ten runs each of a
/// minute and of an hour; with the instant.
fn with_history(permille: u32) -> (Engine, i64) {
    let mut tiered = queue("train", 1);
    tiered.tiers = vec![tier(&["idc"], TierOpens::WhenFull), tier(&["cloud"], TierOpens::AfterWaitingForWork { permille })];
    let mut engine = engine(vec![cluster("cloud", 9, "A100", 9), cluster("idc", 1, "V100", 1)], vec![tiered]);
    let mut now = 0;
    for id in 0..20 {
        let (kind, lasts) = if id % 2 == 0 { ("short", 60_000) } else { ("long", 3_600_000) };
        submit(&mut engine, of_kind(id, now, kind));
        assert_eq!(placed(&plan(&mut engine)), [(id, "idc")]);
        engine.apply(Event::Started { job: JobId(id), epoch: Epoch(1), at: Time(now) }).unwrap();
        now += lasts;
        engine.apply(Event::Time(Time(now))).unwrap();
        ended(&mut engine, id, 1, RunEnd::Finished);
    }
    submit(&mut engine, of_kind(20, now, "filler"));
    assert_eq!(placed(&plan(&mut engine)), [(20, "idc")]);
    (engine, now)
}

/// A job that takes all GPUs of a node.
fn of_kind(id: u64, at: i64, kind: &str) -> JobSpec {
    JobSpec { kind: kind.to_owned(), submitted_at: Time(at), ..job(id, "train", 1, 8) }
}

/// How long a job of a kind waits for the dear cluster.
fn waits_ms(permille: u32, kind: &str) -> i64 {
    let (mut engine, now) = with_history(permille);
    submit(&mut engine, of_kind(21, now, kind));
    if let [placement] = plan(&mut engine).as_slice() {
        assert_eq!((placement.cluster.as_str(), placement.tier), ("cloud", 1));
        return 0;
    }
    let opens = engine.explain(JobId(21)).unwrap().holds.into_iter().find_map(|hold| match hold {
        Hold::TierOpens { tier: 1, at } => Some(at),
        _ => None,
    });
    let opens = opens.expect("the explanation says when the tier opens");
    engine.apply(Event::Time(Time(opens.0 - 1))).unwrap();
    assert!(plan(&mut engine).is_empty());
    engine.apply(Event::Time(opens)).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(21, "cloud")]);
    opens.0 - now
}

#[test]
fn a_tier_opens_after_a_multiple_of_the_work_that_is_expected() {
    let (short, long) = (waits_ms(100, "short"), waits_ms(100, "long"));
    // A tenth of the GPU-time of eight GPUs; expectations are in steps of half a doubling.
    assert!((24_000..=80_000).contains(&short), "{short}");
    assert!((1_440_000..=4_800_000).contains(&long), "{long}");
    assert_eq!(waits_ms(200, "short"), 2 * short);
    assert_eq!(waits_ms(0, "long"), 0);
}

#[test]
fn a_job_of_which_nothing_is_known_waits_as_if_it_took_an_hour() {
    assert_eq!(waits_ms(100, "new"), 8 * 360_000);
}

#[test]
fn what_a_job_has_run_is_no_waiting() {
    let (mut engine, now) = with_history(100);
    ended(&mut engine, 20, 1, RunEnd::Finished);
    let mut goes_on = of_kind(21, now, "long");
    goes_on.gang.restart_ms = Some(1_000);
    submit(&mut engine, goes_on);
    assert_eq!(placed(&plan(&mut engine)), [(21, "idc")]);
    engine.apply(Event::Started { job: JobId(21), epoch: Epoch(1), at: Time(now) }).unwrap();
    // If its run counted, it would have waited for more than a tenth of what eight GPUs are expected to take still.
    let later = now + 12 * 24 * 3_600_000;
    engine.apply(Event::Time(Time(later))).unwrap();
    submit(&mut engine, of_kind(22, now, "filler"));
    ended(&mut engine, 21, 1, RunEnd::Retry { not_before: Time(later + 1) });
    assert_eq!(placed(&plan(&mut engine)), [(22, "idc")]);
    engine.apply(Event::Time(Time(later + 1))).unwrap();
    assert!(plan(&mut engine).is_empty());
    let holds = engine.explain(JobId(21)).unwrap().holds;
    let opens = holds.iter().find_map(|hold| if let Hold::TierOpens { at, .. } = hold { Some(*at) } else { None }).unwrap();
    engine.apply(Event::Time(opens)).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(21, "cloud")]);
}

#[test]
fn a_tier_opens_while_a_deadline_can_still_be_met() {
    let opens = |kind: &str, after_ms: i64| {
        // Without a deadline it would wait for years.
        let (mut engine, now) = with_history(1_000_000);
        submit(&mut engine, JobSpec { deadline: Some(Time(now + after_ms)), ..of_kind(21, now, kind) });
        assert_eq!(plan(&mut engine), [], "{kind}");
        let at = engine.next_timer().expect("a timer").0;
        let told = engine.explain(JobId(21)).unwrap().holds.contains(&Hold::TierOpens { tier: 1, at: Time(at) });
        assert!(told, "{kind}");
        engine.apply(Event::Time(Time(at - 1))).unwrap();
        assert_eq!(plan(&mut engine), [], "{kind}");
        engine.apply(Event::Time(Time(at))).unwrap();
        assert_eq!(placed(&plan(&mut engine)), [(21, "cloud")]);
        now + after_ms - at
    };
    const DAY_MS: i64 = 24 * 3_600_000;
    // As long before it as the job is expected to take, in steps of half a doubling.
    let (short, long) = (opens("short", DAY_MS), opens("long", DAY_MS));
    assert!((30_000..=100_000).contains(&short), "{short}");
    assert!((1_800_000..=6_000_000).contains(&long), "{long}");
    assert_eq!(opens("new", DAY_MS), 3_600_000, "nothing is known of it");
    // One that can't be met any more, and one beyond the usual wait, which stands.
    let (mut engine, now) = with_history(100);
    submit(&mut engine, JobSpec { deadline: Some(Time(now)), ..of_kind(21, now, "new") });
    assert_eq!(placed(&plan(&mut engine)), [(21, "cloud")]);
    submit(&mut engine, JobSpec { deadline: Some(Time(now + DAY_MS)), ..of_kind(22, now, "new") });
    assert_eq!(plan(&mut engine), []);
    engine.apply(Event::Time(Time(now + 8 * 360_000))).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(22, "cloud")]);
}

#[test]
fn a_multiple_beyond_all_times_is_never_reached() {
    let (mut engine, now) = with_history(u32::MAX);
    submit(&mut engine, of_kind(21, now, "long"));
    engine.apply(Event::Time(Time(now + 1_000 * 60 * 60 * 1_000))).unwrap();
    assert!(plan(&mut engine).is_empty());
    ended(&mut engine, 20, 1, RunEnd::Finished);
    assert_eq!(placed(&plan(&mut engine)), [(21, "idc")]);
}

#[test]
fn clusters_that_take_no_jobs_are_used_only_by_tiers_that_name_them() {
    let mut edge = cluster("edge", 1, "T4", 1);
    edge.takes_jobs = false;
    let mut named = queue("named", 1);
    named.tiers = vec![tier(&["edge"], TierOpens::WhenFull)];
    let mut engine = engine(vec![edge], vec![queue("any", 1), named]);
    submit(&mut engine, job(1, "any", 1, 1));
    submit(&mut engine, job(2, "named", 1, 1));
    assert_eq!(placed(&plan(&mut engine)), [(2, "edge")]);
}

#[test]
fn a_run_on_a_lost_cluster_waits_and_nothing_new_goes_there() {
    let idc = cluster("idc", 1, "V100", 1);
    let mut engine = engine(vec![idc.clone()], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 1, 4));
    assert_eq!(plan(&mut engine).len(), 1);
    let mut lost = idc.clone();
    lost.state = ClusterState::Lost;
    engine.apply(Event::Cluster(lost)).unwrap();
    submit(&mut engine, job(2, "train", 1, 4));
    assert!(plan(&mut engine).is_empty());
    assert_eq!(engine.usage("train").unwrap().get(GPU), 4);
    engine.apply(Event::Cluster(idc)).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")]);
}

#[test]
fn a_failed_run_goes_back_to_its_place_after_the_back_off() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 1, 8));
    assert_eq!(plan(&mut engine)[0].epoch, Epoch(1));
    submit(&mut engine, job(2, "train", 1, 8));
    submit(&mut engine, job(3, "train", 1, 8));
    ended(&mut engine, 1, 1, RunEnd::Retry { not_before: Time(500) });
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")]);
    engine.apply(Event::Time(Time(500))).unwrap();
    ended(&mut engine, 2, 1, RunEnd::Finished);
    let placements = plan(&mut engine);
    assert_eq!(placed(&placements), [(1, "idc")], "its time of submission counts, not that of the retry");
    assert_eq!(placements[0].epoch, Epoch(2));
    let stale = engine.apply(Event::Ended { job: JobId(1), epoch: Epoch(1), end: RunEnd::Finished }).unwrap_err();
    assert_eq!(stale.to_string(), "epoch: job 1 is at epoch 2, not 1");
}

#[test]
fn what_is_to_stop_is_charged_until_it_has() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 1, 8));
    assert_eq!(plan(&mut engine).len(), 1);
    submit(&mut engine, job(2, "train", 1, 8));
    engine.apply(Event::Stopping { job: JobId(1), epoch: Epoch(1) }).unwrap();
    assert!(plan(&mut engine).is_empty());
    ended(&mut engine, 1, 1, RunEnd::Suspended);
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")]);
    engine.apply(Event::Resumed(JobId(1))).unwrap();
    assert!(plan(&mut engine).is_empty());
    ended(&mut engine, 2, 1, RunEnd::Finished);
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
}

#[test]
fn a_withdrawn_or_suspended_job_is_never_placed() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("train", 1)]);
    for id in 1..=3 {
        submit(&mut engine, job(id, "train", 1, 4));
    }
    engine.apply(Event::Withdrawn(JobId(1))).unwrap();
    engine.apply(Event::Suspended(JobId(2))).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(3, "idc")]);
}

#[test]
fn the_observed_binding_replaces_the_plan() {
    let mut engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 1, 4));
    assert_eq!(plan(&mut engine)[0].slots[0].node, "node-0");
    let elsewhere = vec![BoundNode { node: "node-1".to_owned(), used: amounts(16, 128, 4) }];
    engine.apply(Event::Bound { job: JobId(1), epoch: Epoch(1), nodes: elsewhere }).unwrap();
    submit(&mut engine, job(2, "train", 1, 8));
    let placements = plan(&mut engine);
    assert_eq!(placements[0].slots[0].node, "node-0");
}

#[test]
fn a_binding_of_some_pods_keeps_the_places_of_the_others() {
    let mut engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 2, 8));
    assert_eq!(plan(&mut engine).len(), 1);
    let one = vec![BoundNode { node: "node-1".to_owned(), used: amounts(32, 256, 8) }];
    engine.apply(Event::Bound { job: JobId(1), epoch: Epoch(1), nodes: one }).unwrap();
    submit(&mut engine, job(2, "train", 1, 8));
    assert!(plan(&mut engine).is_empty());
}

#[test]
fn a_job_no_cluster_could_hold_is_refused_with_what_each_lacks() {
    let mut engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 2, 8));
    assert_eq!(plan(&mut engine).len(), 1);
    assert!(engine.admit(&job(2, "train", 2, 8)).is_ok(), "full is not too small");
    let refused = engine.admit(&job(3, "train", 3, 8)).unwrap_err();
    assert_eq!(refused.field, "groups");
    assert!(refused.why.ends_with("idc: room for 2 of 3 workers × (32 cpu, 256Gi memory, 8 nvidia.com/gpu)"), "{refused}");
}

#[test]
fn impossible_gangs_are_refused_by_field() {
    let engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("train", 1)]);
    let field = |change: &dyn Fn(&mut muster_scheduler_engine::JobSpec)| {
        let mut job = job(1, "train", 2, 1);
        change(&mut job);
        engine.admit(&job).unwrap_err().field
    };
    assert_eq!(field(&|job| job.gang.groups[0].each.set("cpu", -1)), "groups[0].each[cpu]");
    assert_eq!(field(&|job| job.gang.groups[0].each.set("memory", i64::MAX)), "groups[memory]");
    assert_eq!(field(&|job| job.gang.groups[0].replicas = 0), "groups[0].replicas");
    assert_eq!(field(&|job| job.gang.groups[0].replicas = u32::MAX), "groups");
    assert_eq!(field(&|job| job.gang.min_available = 3), "min_available");
    assert_eq!(field(&|job| job.gang.groups.clear()), "groups");
    assert_eq!(field(&|job| job.queue = "nobody".to_owned()), "queue");
}

#[test]
fn a_job_goes_only_where_its_api_is_served() {
    let (mut plain, mut volcano) = (cluster("plain", 1, "V100", 1), cluster("volcano", 1, "V100", 2));
    plain.apis.insert("batch/v1".to_owned());
    volcano.apis.insert("batch.volcano.sh/v1alpha1".to_owned());
    let mut engine = engine(vec![plain, volcano], vec![queue("train", 1)]);
    for id in 1..=2 {
        let mut job = job(id, "train", 1, 8);
        job.gang.api = "batch.volcano.sh/v1alpha1".to_owned();
        submit(&mut engine, job);
    }
    assert_eq!(placed(&plan(&mut engine)), [(1, "volcano")]);
    let explanation = engine.explain(JobId(2)).unwrap();
    assert_eq!(explanation.clusters[0].reason.to_string(), "does not serve batch.volcano.sh/v1alpha1");
}
