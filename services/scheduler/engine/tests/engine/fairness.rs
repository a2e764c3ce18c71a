//! Shares between queues: weighted, dominant-resource, over all clusters.

use crate::world::{Dice, GPU, amounts, cluster, engine, job, plan, queue, submit};
use muster_scheduler_engine::{Engine, Event, JobId, QueueShare, RunEnd};

fn gpus(engine: &Engine, queue: &str) -> i64 {
    engine.usage(queue).expect("a known queue").get(GPU)
}

#[test]
fn queues_that_all_want_more_share_by_weight() {
    let mut engine = engine(
        vec![cluster("idc", 7, "V100", 1), cluster("cloud", 7, "A100", 2)],
        vec![queue("a", 1), queue("b", 2), queue("c", 4)],
    );
    for id in 0..600 {
        submit(&mut engine, job(id, ["a", "b", "c"][id as usize % 3], 1, 1));
    }
    plan(&mut engine);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b"), gpus(&engine, "c")), (16, 32, 64));
}

#[test]
fn what_one_queue_does_not_want_goes_to_the_others() {
    let mut engine = engine(vec![cluster("idc", 8, "V100", 1)], vec![queue("idle", 10), queue("busy", 1)]);
    for id in 0..100 {
        submit(&mut engine, job(id, if id < 4 { "idle" } else { "busy" }, 1, 1));
    }
    plan(&mut engine);
    assert_eq!((gpus(&engine, "idle"), gpus(&engine, "busy")), (4, 60));
}

#[test]
fn the_dominant_resource_decides_and_not_the_gpu() {
    // 4 nodes: 384 cores, 32 GPUs. "cores" asks for 24 cores and 1 GPU, "gpus" for 2 cores and 2 GPUs; DRF evens
    // 24x/384 with 2y/32, so y = x, until 32 GPUs are gone or 384 cores: x + 2y = 32 → 10 and 10 (11th of one).
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![queue("cores", 1), queue("gpus", 1)]);
    for id in 0..80 {
        let (name, each) = if id % 2 == 0 { ("cores", amounts(24, 1, 1)) } else { ("gpus", amounts(2, 1, 2)) };
        let mut job = job(id, name, 1, 1);
        job.gang.groups[0].each = each;
        submit(&mut engine, job);
    }
    plan(&mut engine);
    let cores = engine.usage("cores").unwrap().get("cpu") / 24_000;
    let pairs = gpus(&engine, "gpus") / 2;
    assert!((cores - pairs).abs() <= 1, "{cores} and {pairs}");
}

#[test]
fn children_share_what_their_parent_gets() {
    let (mut left, mut right) = (queue("left", 3), queue("right", 1));
    left.parent = Some("lab".to_owned());
    right.parent = Some("lab".to_owned());
    let mut engine = engine(vec![cluster("idc", 8, "V100", 1)], vec![queue("lab", 1), left, right, queue("other", 1)]);
    for id in 0..300 {
        submit(&mut engine, job(id, ["left", "right", "other"][id as usize % 3], 1, 1));
    }
    plan(&mut engine);
    assert_eq!((gpus(&engine, "left"), gpus(&engine, "right"), gpus(&engine, "other")), (24, 8, 32));
}

#[test]
fn shares_stay_within_one_gang_of_the_weights_while_jobs_come_and_go() {
    let weights = [("a", 1_i64), ("b", 2), ("c", 5)];
    let mut engine =
        engine(vec![cluster("idc", 8, "V100", 1)], weights.iter().map(|(name, weight)| queue(name, *weight as u32)).collect());
    let mut next = 0;
    for _ in 0..200 {
        for (name, _) in weights {
            submit(&mut engine, job(next, name, 1, 1));
            next += 1;
        }
    }
    let mut dice = Dice(11);
    let mut running: Vec<JobId> = plan(&mut engine).iter().map(|placement| placement.job).collect();
    for _ in 0..300 {
        let ended = running.swap_remove(dice.roll(running.len() as u64) as usize);
        let epoch = muster_scheduler_engine::Epoch(1);
        engine.apply(Event::Ended { job: ended, epoch, end: RunEnd::Finished }).unwrap();
        submit(&mut engine, job(next, weights[next as usize % 3].0, 1, 1));
        next += 1;
        running.extend(plan(&mut engine).iter().map(|placement| placement.job));
        if engine.audit().waiting.len() < 3 {
            continue;
        }
        for (name, weight) in weights {
            let fair = 64 * weight / 8;
            assert!((gpus(&engine, name) - fair).abs() <= 1, "{name} has {} of a fair {fair}", gpus(&engine, name));
        }
    }
}

/// Two queues of equal weight with eight jobs of one GPU each, on eight GPUs; `a` has used so many GPUs lately.
fn after_using(gpus: i64, guaranteed: i64) -> Engine {
    let mut a = queue("a", 1);
    a.guarantee = amounts(0, 0, guaranteed);
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![a, queue("b", 1)]);
    engine.apply(Event::UsedLately { queue: "a".to_owned(), gpus: 1_000 * gpus }).unwrap();
    for id in 0..16 {
        submit(&mut engine, job(id, ["a", "b"][id as usize % 2], 1, 1));
    }
    engine
}

#[test]
fn what_was_used_lately_counts_besides_what_is_used_now() {
    for (lately, has) in [(0, (4, 4)), (2, (3, 5)), (4, (2, 6)), (8, (0, 8)), (100, (0, 8))] {
        let mut engine = after_using(lately, 0);
        let mut restored = Engine::restore(engine.rows(), engine.now()).unwrap();
        let decided = plan(&mut engine);
        assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), has, "{lately}");
        assert_eq!(plan(&mut restored), decided, "a new leader is told the same");
    }
}

#[test]
fn what_is_guaranteed_is_there_whatever_was_used_lately() {
    let mut engine = after_using(100, 3);
    plan(&mut engine);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (3, 5));
}

#[test]
fn what_counts_lately_is_explained_and_forgotten_when_it_is_none() {
    let mut engine = after_using(4, 0);
    plan(&mut engine);
    let waits = |engine: &Engine| engine.audit().waiting["a"].first().copied().expect("one waits");
    let share = |engine: &Engine| engine.explain(waits(engine)).unwrap().shares.remove(0);
    let QueueShare { share_ppm, used_lately, .. } = share(&engine);
    assert_eq!((share_ppm, used_lately), (750_000, 4_000), "2 used and 4 lately, of 8");
    engine.apply(Event::UsedLately { queue: "a".to_owned(), gpus: 0 }).unwrap();
    assert_eq!((share(&engine).share_ppm, share(&engine).used_lately), (250_000, 0));
    let refused = engine.apply(Event::UsedLately { queue: "a".to_owned(), gpus: -1 }).unwrap_err();
    assert_eq!(refused.field, "gpus");
    assert_eq!(engine.apply(Event::UsedLately { queue: "z".to_owned(), gpus: 1 }).unwrap_err().field, "queue");
}
