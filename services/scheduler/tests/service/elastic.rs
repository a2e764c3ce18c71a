//! Elastic jobs: what their clusters are told at each size, what is charged, and what a new leader knows of them.

use std::collections::BTreeMap;

use muster_kit::db;
use muster_proto::agent::v1::RunUsage;
use muster_proto::registry::v1::Cluster;
use muster_proto::scheduler::v1::{
    GetQueueRequest, GetRunRequest, Job, JobSize, ReportCostRequest, job::State, report_cost_request::GroupBy,
};
use muster_scheduler::app::mind::Mind;
use muster_scheduler::app::observe::{ItemPhase, Observed};
use muster_scheduler::domain::job::RunPhase;
use muster_scheduler_engine::{JobId, JobState};
use serde_json::json;

use crate::world::{Says, World, create, member, resource, training, violation};

/// A Volcano job of two to `workers` workers of one GPU.
fn elastic(name: &str, workers: u32) -> String {
    let manifest = training(name, workers, 1);
    let manifest = manifest.replace(
        &format!("metadata: {{name: {name}}}"),
        &format!("metadata: {{name: {name}, annotations: {{muster.dev/elastic: \"true\"}}}}"),
    );
    manifest.replace("  queue: train\n", "  queue: train\n  minAvailable: 2\n")
}

/// The cluster's inventory shows so many pods of a run.
fn showing(mut cluster: Cluster, runs: &[(&str, u32)]) -> Cluster {
    for (job, pods) in runs {
        let requests =
            BTreeMap::from([("nvidia.com/gpu".to_owned(), pods.to_string()), ("cpu".to_owned(), (4 * pods).to_string())]);
        let run = format!("{}/runs/1", resource(job));
        cluster.inventory.as_mut().expect("an inventory").nodes[0].used_by_run.push(RunUsage { run, requests });
    }
    cluster
}

async fn world() -> World {
    let mut world = World::new().await;
    world.join(member("idc", 1, "V100", 3_600_000)).await;
    world.queue("train", "").await;
    world.queue("other", "").await;
    world
}

async fn submit(world: &mut World, name: &str, workers: u32) -> Job {
    world.create(create(name, &elastic(name, workers))).await.expect("a sound job")
}

async fn submit_other(world: &mut World, name: &str, gpus: u32) -> Job {
    let manifest = training(name, 1, gpus).replace("queue: train", "queue: other");
    world.create(create(name, &manifest)).await.expect("a sound job")
}

/// `long` has three workers and was told to have eight, since `short`, which had the other five GPUs, has ended.
async fn told_to_grow() -> World {
    let mut world = world().await;
    let shows = |runs: &[(&str, u32)]| showing(member("idc", 1, "V100", 3_600_000), runs);
    submit_other(&mut world, "short", 5).await;
    world.settle().await;
    world.runs("idc", "short", 1).await;
    submit(&mut world, "long", 8).await;
    world.settle().await;
    world.runs("idc", "long", 1).await;
    world.join(shows(&[("short", 5), ("long", 3)])).await;
    world.pass(100);
    world.ends("idc", "short", 1, RunPhase::Succeeded).await;
    world.join(shows(&[("long", 3)])).await;
    world.settle().await;
    assert_eq!(world.job("long").await.size, size(8, 0));
    world
}

fn size(workers: u32, leaving: u32) -> Option<JobSize> {
    Some(JobSize { group: "worker".to_owned(), least: 2, full: 8, workers, leaving })
}

fn replicas(world: &World, job: &str) -> u64 {
    let object = world.object("idc", &format!("jobs/ml/{job}/1"));
    assert_eq!(object["spec"]["minAvailable"], 2, "how many must run does not change");
    object["spec"]["tasks"][0]["replicas"].as_u64().expect("a number")
}

/// The leader's engine has what a new one would fold from the tables, but for the room that it keeps for somebody who waits.
async fn the_fold_agrees(world: &World) {
    let kept = world.app.mind.lock().unwrap().clone().expect("the leader keeps its engine").engine;
    let mut tx = db::begin(world.db.pool()).await.unwrap();
    let folded = Mind::load(&mut tx, 0, world.app.now()).await.unwrap().engine;
    let (folds, keeps) = (folded.audit(), kept.audit());
    assert_eq!((folds.usage, &folds.waiting, folds.placed), (keeps.usage, &keeps.waiting, keeps.placed));
    if keeps.waiting.values().all(Vec::is_empty) {
        assert_eq!(folds.free, keeps.free);
    }
    for row in kept.rows().jobs {
        let other = folded.job(row.spec.id).expect("a known job");
        assert_eq!(other.spec, row.spec);
        if let (
            JobState::Placed { leaving, sized, refused, .. },
            JobState::Placed { leaving: others, sized: other, refused: others_refused, .. },
        ) = (row.state, other.state)
        {
            assert_eq!((leaving, sized, refused), (others, other, others_refused));
        }
    }
}

#[tokio::test]
async fn it_starts_as_large_as_there_is_room_and_its_cluster_is_told_each_size() {
    let mut world = world().await;
    submit_other(&mut world, "short", 5).await;
    world.settle().await;
    world.runs("idc", "short", 1).await;
    let job = submit(&mut world, "long", 8).await;
    assert_eq!((job.size, job.gpus), (size(0, 0), 8));
    world.settle().await;
    let job = world.job("long").await;
    assert_eq!(
        (job.state(), job.size, job.reason.as_str()),
        (State::Placed, size(3, 0), "placed on idc with 3 of 8 \"worker\" workers")
    );
    assert_eq!(replicas(&world, "long"), 3);
    let request = GetQueueRequest { name: "queues/train".to_owned() };
    let allocated = world.queues.get_queue(request.clone()).await.expect("a queue").into_inner().allocated;
    assert_eq!(allocated["nvidia.com/gpu"], "3", "what it has, not what it asks for");
    let first = world.object("idc", "jobs/ml/long/1");
    world.runs("idc", "long", 1).await;
    let generation = world.registry.state.lock().unwrap().clusters["idc"].generation;
    world.pass(100);
    world.ends("idc", "short", 1, RunPhase::Succeeded).await;
    world.settle().await;
    let job = world.job("long").await;
    assert_eq!((job.state(), job.size, job.reason.as_str()), (State::Running, size(8, 0), "grows to 8 of 8 \"worker\" workers"));
    assert_eq!(job.run_epoch, 1, "it is the same run");
    let allocated = world.queues.get_queue(request).await.expect("a queue").into_inner().allocated;
    assert_eq!(allocated["nvidia.com/gpu"], "8");
    assert_eq!(replicas(&world, "long"), 8);
    assert!(world.registry.state.lock().unwrap().clusters["idc"].generation > generation);
    let mut second = world.object("idc", "jobs/ml/long/1");
    second["spec"]["tasks"][0]["replicas"] = json!(3);
    assert_eq!(second, first, "nothing else of the object changes: clusters would refuse it");
    the_fold_agrees(&world).await;
    // What is seen of the object as it was before counts no more, and what is seen of it now does.
    world.runs("idc", "long", 1).await;
    assert_eq!(world.state("long").await.0, State::Running);
}

#[tokio::test]
async fn what_it_has_beyond_its_minimum_goes_to_who_waits_once_its_pods_have_left() {
    let mut world = world().await;
    submit(&mut world, "long", 8).await;
    world.settle().await;
    assert_eq!(replicas(&world, "long"), 8);
    world.runs("idc", "long", 1).await;
    world.join(showing(member("idc", 1, "V100", 3_600_000), &[("long", 8)])).await;
    world.pass(100);
    submit_other(&mut world, "short", 3).await;
    world.settle().await;
    let job = world.job("long").await;
    assert_eq!((job.state(), job.size), (State::Running, size(8, 3)));
    assert_eq!(
        job.reason,
        format!("goes on with 5 of 8 \"worker\" workers, for {}, which needs them to start", resource("short"))
    );
    assert_eq!(replicas(&world, "long"), 5);
    assert_eq!(world.state("short").await.0, State::Queued);
    let why = world.explain("long").await;
    assert_eq!(
        (why.size, why.not_larger_because.as_str()),
        (size(8, 3), "3 of its workers are told to leave, for a gang that waits")
    );
    the_fold_agrees(&world).await;
    // Seven are left, and then five.
    world.join(showing(member("idc", 1, "V100", 3_600_000), &[("long", 7)])).await;
    world.settle().await;
    assert_eq!((world.state("short").await.0, world.job("long").await.size), (State::Queued, size(8, 3)));
    world.pass(50);
    world.join(showing(member("idc", 1, "V100", 3_600_000), &[("long", 5)])).await;
    world.settle().await;
    assert_eq!((world.state("short").await.0, world.job("long").await.size), (State::Placed, size(5, 0)));
    assert_eq!(world.job("long").await.reason, "runs with 5 of 8 \"worker\" workers");
    let why = world.explain("long").await;
    assert!(why.not_larger_because.starts_with("its size is left as it is until 2026-11-23T12:03:30"), "{why:?}");
    the_fold_agrees(&world).await;
    assert_eq!(replicas(&world, "long"), 5);
    // The other is done, and after its least run time it grows again.
    world.runs("idc", "short", 1).await;
    world.pass(70);
    world.ends("idc", "short", 1, RunPhase::Succeeded).await;
    world.settle().await;
    assert_eq!((world.job("long").await.size, replicas(&world, "long")), (size(8, 0), 8));
}

#[tokio::test]
async fn pods_that_no_inventory_showed_have_left_once_their_cluster_knows_the_size() {
    let mut world = told_to_grow().await;
    // Between two inventories five pods come and go.
    world.submit("next", 1, 5).await;
    world.settle().await;
    assert_eq!((world.state("next").await.0, world.job("long").await.size), (State::Queued, size(8, 5)));
    world.runs("idc", "long", 1).await;
    world.settle().await;
    assert_eq!((world.state("next").await.0, world.job("long").await.size), (State::Placed, size(3, 0)));
}

#[tokio::test]
async fn each_size_is_charged_for_its_time_and_no_longer() {
    let mut world = world().await;
    submit(&mut world, "long", 8).await;
    world.settle().await;
    world.runs("idc", "long", 1).await;
    world.join(showing(member("idc", 1, "V100", 3_600_000), &[("long", 8)])).await;
    world.pass(1_000);
    submit_other(&mut world, "short", 3).await;
    world.settle().await;
    world.pass(10);
    // Those that leave are charged until they have left: 8 × 1,010 s, then 5 × 500 s, then 8 × 200 s.
    world.join(showing(member("idc", 1, "V100", 3_600_000), &[("long", 5)])).await;
    world.settle().await;
    world.runs("idc", "short", 1).await;
    world.pass(500);
    let used = |job: Job| job.usage.expect("usage").gpu_seconds;
    assert_eq!(used(world.job("long").await), 8_080.0 + 2_500.0, "as it is while it runs");
    world.ends("idc", "short", 1, RunPhase::Succeeded).await;
    world.settle().await;
    world.pass(200);
    world.ends("idc", "long", 1, RunPhase::Succeeded).await;
    let all = 8_080.0 + 2_500.0 + 1_600.0;
    let job = world.job("long").await;
    assert_eq!((job.state(), job.size.as_ref().map(|size| size.workers)), (State::Succeeded, Some(0)));
    // A GPU-hour costs 3.60: a GPU-second a thousandth.
    let usage = job.usage.expect("usage");
    assert_eq!((usage.gpu_seconds, usage.cost_micros), (all, 12_180_000));
    let request = GetRunRequest { name: format!("{}/runs/1", resource("long")) };
    let run = world.jobs.get_run(request).await.expect("a run").into_inner();
    assert_eq!(run.usage.expect("usage").gpu_seconds, all);
    let request = ReportCostRequest { group_by: GroupBy::Job.into(), ..Default::default() };
    let rows = world.queues.report_cost(request).await.expect("a report").into_inner().rows;
    let rows: Vec<(&str, f64, u32)> =
        rows.iter().map(|row| (row.key.as_str(), row.usage.as_ref().unwrap().gpu_seconds, row.runs)).collect();
    assert_eq!(rows, [(resource("long").as_str(), all, 1), (resource("short").as_str(), 1_500.0, 1)], "one run, in three pieces");
    // What it teaches is the time that it would have taken at its full size.
    world.settle().await;
    let (kept, folded) = world.learned().await;
    let of_long = |histories: &[muster_scheduler_engine::HistoryRow]| {
        histories.iter().find(|history| history.queue == "train").map(|history| history.finished.clone())
    };
    assert_eq!(of_long(&kept), of_long(&folded));
    assert_eq!(
        of_long(&kept).map(|finished| finished.into_keys().collect::<Vec<_>>()),
        Some(vec![20]),
        "1,522 s; as long as it was there it would be 21, from 1,536 s on"
    );
}

#[tokio::test]
async fn a_new_leader_goes_on_where_the_old_one_was() {
    let mut world = world().await;
    submit(&mut world, "long", 8).await;
    world.settle().await;
    world.runs("idc", "long", 1).await;
    world.join(showing(member("idc", 1, "V100", 3_600_000), &[("long", 8)])).await;
    submit_other(&mut world, "short", 3).await;
    world.settle().await;
    // Its engine is gone: who was to get the room is forgotten, that workers leave is not.
    *world.app.mind.lock().unwrap() = None;
    world.join(showing(member("idc", 1, "V100", 3_600_000), &[("long", 5)])).await;
    world.settle().await;
    assert_eq!((world.state("short").await.0, world.job("long").await.size), (State::Placed, size(5, 0)));
    let kept = world.app.mind.lock().unwrap().clone().expect("the leader keeps its engine").engine;
    assert!(kept.job(JobId(1)).is_some());
    the_fold_agrees(&world).await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_workers_leave_ends_and_makes_room() {
    let mut world = world().await;
    submit(&mut world, "long", 8).await;
    world.settle().await;
    world.runs("idc", "long", 1).await;
    submit_other(&mut world, "short", 3).await;
    world.settle().await;
    let request = muster_proto::scheduler::v1::CancelJobRequest { name: resource("long"), ..Default::default() };
    world.jobs.cancel_job(request).await.expect("it can be cancelled");
    world.settle().await;
    world.ends("idc", "long", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!((world.state("long").await.0, world.state("short").await.0), (State::Cancelled, State::Placed));
    the_fold_agrees(&world).await;
}

#[tokio::test]
async fn each_size_is_judged_by_the_policies_before_its_cluster_is_told() {
    let mut world = world().await;
    submit_other(&mut world, "short", 5).await;
    world.settle().await;
    world.runs("idc", "short", 1).await;
    submit(&mut world, "long", 8).await;
    world.settle().await;
    world.runs("idc", "long", 1).await;
    world.pass(100);
    *world.policy.says.lock().unwrap() = Says::Away;
    world.ends("idc", "short", 1, RunPhase::Succeeded).await;
    // The policy service is away: the passes that tell clusters fail, and the run goes on as it is.
    crate::passes::repeated(&world.lead).await.expect("decisions are written");
    assert!(crate::passes::repeated(&world.tell).await.is_err(), "a verdict can't be taken");
    assert_eq!((replicas(&world, "long"), world.job("long").await.size), (3, size(8, 0)));
    *world.policy.says.lock().unwrap() = Says::Yes;
    world.settle().await;
    assert_eq!(replicas(&world, "long"), 8);
    let asked = world.policy.asked.lock().unwrap().last().cloned().expect("it was asked");
    assert_eq!((&asked.0["spec"]["tasks"][0]["replicas"], asked.1), (&json!(8), vec!["idc".to_owned()]));
    submit_other(&mut world, "next", 3).await;
    *world.policy.says.lock().unwrap() = Says::Yes;
    world.settle().await;
    assert_eq!(replicas(&world, "long"), 5);
    *world.policy.says.lock().unwrap() = Says::No(vec![violation("small", "spec.tasks[0].replicas")]);
    world.join(member("idc", 1, "V100", 3_600_000)).await;
    world.settle().await;
    assert_eq!(world.job("long").await.size, size(8, 3), "what was allowed is not asked again");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_the_field() {
    let mut world = world().await;
    let manifest = elastic("odd", 8).replace("minAvailable: 2", "minAvailable: 8");
    let refused = world.create(create("odd", &manifest)).await.expect_err("all is no smaller number");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("spec.minAvailable"), "{refused:?}");
}

#[tokio::test]
async fn what_its_cluster_refuses_of_a_larger_run_is_given_back_and_charged_no_more() {
    let mut world = told_to_grow().await;
    let refused = Observed {
        phase: ItemPhase::Refused,
        run_phase: None,
        reason: "exceeded quota: gpus".to_owned(),
        ..world.seen("idc", "long", 1, RunPhase::Running)
    };
    for _ in 0..2 {
        world.observe(refused.clone()).await;
    }
    world.settle().await;
    let job = world.job("long").await;
    assert_eq!((job.state(), job.size), (State::Running, size(8, 5)));
    assert_eq!(job.reason, "goes on with 3 of 8 \"worker\" workers: its cluster refused to have it larger");
    assert_eq!(replicas(&world, "long"), 3, "which is what is there");
    // Its cluster takes that, and has no more pods than that.
    world.runs("idc", "long", 1).await;
    world.settle().await;
    assert_eq!(world.job("long").await.size, size(3, 0));
    world.pass(600);
    world.settle().await;
    assert_eq!(world.job("long").await.size, size(3, 0), "it is not asked again soon");
    world.submit("next", 1, 5).await;
    world.settle().await;
    assert_eq!(world.state("next").await.0, State::Placed, "others get the room");
    the_fold_agrees(&world).await;
}
