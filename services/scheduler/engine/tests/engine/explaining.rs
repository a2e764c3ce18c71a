//! What a person is told about a job that waits.

use crate::world::{cluster, engine, job, plan, queue, submit, tier};
use muster_scheduler_engine::{ClusterState, Event, JobId, Standing, TierOpens, Time};

#[test]
fn every_cluster_gives_its_own_reason() {
    let mut tiered = queue("train", 1);
    tiered.tiers = vec![
        tier(&["full", "small", "t4", "plain", "cordoned", "lost"], TierOpens::WhenFull),
        tier(&["later"], TierOpens::AfterWaitingMs(60_000)),
    ];
    let (mut cordoned, mut lost) = (cluster("cordoned", 4, "V100", 1), cluster("lost", 4, "V100", 1));
    cordoned.state = ClusterState::Cordoned;
    lost.state = ClusterState::Lost;
    let clusters = vec![
        cluster("full", 5, "V100", 1),
        cluster("small", 2, "V100", 1),
        cluster("t4", 4, "T4", 1),
        cluster("plain", 4, "", 1),
        cordoned,
        lost,
        cluster("later", 4, "V100", 1),
        cluster("other", 4, "V100", 1),
    ];
    let mut engine = engine(clusters, vec![tiered]);
    for id in 1..=3 {
        let mut filler = job(id, "train", 1, 8);
        filler.gang.flavors.insert("V100".to_owned());
        submit(&mut engine, filler);
    }
    assert_eq!(plan(&mut engine).len(), 3);
    let mut waiting = job(9, "train", 4, 8);
    waiting.gang.flavors.insert("V100".to_owned());
    submit(&mut engine, waiting);
    assert!(plan(&mut engine).is_empty());
    let explanation = engine.explain(JobId(9)).unwrap();
    let said: Vec<String> =
        explanation.clusters.iter().map(|verdict| format!("{}: {}", verdict.cluster, verdict.reason)).collect();
    let need = r#"gang needs 4 "worker" workers × (32 cpu, 256Gi memory, 8 nvidia.com/gpu), room for 2"#;
    assert_eq!(
        said,
        [
            "cordoned: cordoned".to_owned(),
            format!("full: {need}, short of nvidia.com/gpu"),
            "later: its tier opens for this job at 60009 ms".to_owned(),
            "lost: lost: not heard of".to_owned(),
            "other: no tier of the queue selects it".to_owned(),
            "plain: has no GPUs; wanted: V100".to_owned(),
            format!("small: too small even when empty: {need}, short of nvidia.com/gpu"),
            "t4: has no V100, only T4".to_owned(),
        ]
    );
    let holds: Vec<String> = explanation.holds.iter().map(ToString::to_string).collect();
    assert_eq!(holds, ["room on a cluster it may use; short of nvidia.com/gpu", "tier 1 opens at 60009 ms"]);
}

#[test]
fn the_position_counts_those_before_it_in_the_queues_order() {
    let mut engine = engine(vec![], vec![queue("train", 1)]);
    for id in 1..=5 {
        let mut job = job(id, "train", 1, i64::from(id % 2 == 0));
        job.priority = if id == 5 { 1 } else { 0 };
        submit(&mut engine, job);
    }
    plan(&mut engine);
    let ahead: Vec<u64> = (1..=5).map(|id| engine.explain(JobId(id)).unwrap().ahead).collect();
    assert_eq!(ahead, [1, 2, 3, 4, 0]);
    assert_eq!(engine.explain(JobId(1)).unwrap().holds[0].to_string(), "a cluster it may use that can hold it");
}

#[test]
fn the_seventh_of_a_queue_is_held_by_cpu_and_memory() {
    let mut train = queue("train-queue", 1);
    train.capability =
        muster_scheduler_engine::Amounts::new().with("cpu", 200_000).with("memory", 800 << 30).with(crate::world::GPU, 64).into();
    let mut engine = engine(vec![cluster("train-gpu", 8, "V100", 1)], vec![train]);
    for id in 1..=7 {
        let mut job = job(id, "train-queue", 4, 1);
        job.gang.groups[0].each = crate::world::amounts(8, 32, 1);
        submit(&mut engine, job);
    }
    assert_eq!(plan(&mut engine).len(), 6);
    let holds: Vec<String> = engine.explain(JobId(7)).unwrap().holds.iter().map(ToString::to_string).collect();
    assert_eq!(
        holds,
        [
            r#"capability of queue "train-queue" exceeded by 24 cpu: 192 used + 32 asked > 200"#,
            r#"capability of queue "train-queue" exceeded by 96Gi memory: 768Gi used + 128Gi asked > 800Gi"#,
        ]
    );
}

#[test]
fn a_placed_and_a_suspended_job_say_so() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("train", 1)]);
    submit(&mut engine, job(1, "train", 1, 1));
    let epoch = plan(&mut engine)[0].epoch;
    engine.apply(Event::Started { job: JobId(1), epoch, at: Time(77) }).unwrap();
    let explanation = engine.explain(JobId(1)).unwrap();
    assert_eq!(explanation.standing, Standing::Placed { cluster: "idc".to_owned(), epoch, started_at: Some(Time(77)) });
    assert!(explanation.holds.is_empty());
    engine.apply(Event::Submitted { job: job(2, "train", 1, 1), suspended: true }).unwrap();
    assert_eq!(engine.explain(JobId(2)).unwrap().holds[0].to_string(), "suspended: resume it");
    assert!(engine.explain(JobId(3)).is_none());
}
