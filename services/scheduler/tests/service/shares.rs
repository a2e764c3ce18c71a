//! What was used lately, and speeds that are learned, through the service: what starts, what explain says, what a new leader knows.

use muster_proto::scheduler::v1::{candidate_model::SpeedSource, job::State};
use muster_scheduler::domain::job::RunPhase;

use crate::world::{World, create, training};

async fn submit(world: &mut World, name: &str, queue: &str, gpus: u32) {
    let manifest = training(name, 1, gpus).replace("queue: train", &format!("queue: {queue}"));
    world.create(create(name, &manifest)).await.expect("a sound job");
}

async fn placed(world: &mut World, name: &str) -> bool {
    world.state(name).await.0 != State::Queued
}

/// Runs a job on a cluster from now on, for so long.
async fn run(world: &mut World, cluster: &str, name: &str, seconds: u64) {
    world.settle().await;
    world.runs(cluster, name, 1).await;
    world.settle().await;
    world.pass(seconds);
    world.ends(cluster, name, 1, RunPhase::Succeeded).await;
    world.settle().await;
}

#[tokio::test]
async fn what_a_queue_has_used_lately_counts_by_half_after_a_half_life() {
    let mut world = World::with_clusters().await;
    world.queue("lab", "usageHalfLife: 1h").await;
    for name in ["a", "b"] {
        world.queue(name, "parent: lab").await;
    }
    // Of eight GPUs for two hours three quarters count at their end: 6.
    submit(&mut world, "past", "a", 8).await;
    run(&mut world, "idc", "past", 7_200).await;
    world.pass(61);
    for name in ["a-1", "b-1", "a-2", "b-2"] {
        submit(&mut world, name, &name[..1], 4).await;
    }
    submit(&mut world, "b-3", "b", 4).await;
    world.settle().await;
    let mut states = Vec::new();
    for name in ["a-1", "a-2", "b-1", "b-2", "b-3"] {
        states.push(placed(&mut world, name).await);
    }
    assert_eq!(states, [true, false, true, true, true], "4 and almost 6 of the past, beside 12");
    let why = world.explain("a-2").await;
    let expected = "queue \"a\": 62.06 % of everything, weight 1; in this count 5.93 GPUs that it has used lately on the mean (half-life 1 h)";
    assert_eq!(why.queue_shares[0], expected);
    assert!(why.queue_shares[1].starts_with("queue \"lab\": "), "{:?}", why.queue_shares);

    // A new leader sums up the same; without a half-life nothing counts.
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    assert_eq!(world.explain("a-2").await.queue_shares[0], expected);
    world.queue("lab", "").await;
    world.settle().await;
    assert_eq!(world.explain("a-2").await.queue_shares[0], "queue \"a\": 25.00 % of everything, weight 1");
}

#[tokio::test]
async fn speeds_are_learned_and_explained_and_a_new_leader_knows_them() {
    let mut world = World::with_clusters().await;
    // An hour costs 1 on idc's V100s and 4 on the cloud's A100s, on which the same takes an eighth of the time.
    for number in 0..3 {
        let (slow, fast) = (format!("nightly-{number}"), format!("nightly-9{number}"));
        submit(&mut world, &slow, "train", 8).await;
        submit(&mut world, &fast, "train", 8).await;
        world.settle().await;
        world.runs("idc", &slow, 1).await;
        world.runs("cloud", &fast, 1).await;
        world.settle().await;
        world.pass(600);
        world.ends("cloud", &fast, 1, RunPhase::Succeeded).await;
        world.settle().await;
        world.pass(4_200);
        world.ends("idc", &slow, 1, RunPhase::Succeeded).await;
        world.settle().await;
    }
    submit(&mut world, "nightly-7", "train", 8).await;
    submit(&mut world, "other", "train", 8).await;
    let why = world.explain("nightly-7").await;
    let models: Vec<_> = why.candidates.iter().map(|candidate| (candidate.cluster.as_str(), &candidate.models[0])).collect();
    let (first, fast) = models[0];
    assert_eq!(
        (first, fast.speed_permille, fast.speed_source(), fast.learned_runs),
        ("clusters/cloud", 1_000, SpeedSource::Learned, 3)
    );
    let (second, slow) = models[1];
    assert_eq!((second, slow.speed_permille, slow.micros_per_work_hour), ("clusters/idc", 125, 8_000_000));
    assert_eq!(
        why.preference,
        "A100 on cloud comes before V100 on idc: an hour's work costs 4.00 there, and costs 8.00 on the other"
    );
    let why = world.explain("other").await;
    assert_eq!(why.candidates[0].cluster, "clusters/idc");
    assert_eq!(why.candidates[0].models[0].speed_source(), SpeedSource::Assumed);
    let (kept, folded) = world.learned().await;
    assert_eq!(folded, kept);
    world.settle().await;
    assert_eq!(world.state("nightly-7").await, (State::Placed, "cloud".to_owned()));
    assert_eq!(world.state("other").await, (State::Placed, "idc".to_owned()));
}
