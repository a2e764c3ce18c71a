//! Runs of jobs: started once, told by the object's own status, stopped when the session ends.

use crate::harness::*;
use muster_agent::domain::{
    item::{ItemKey, Options, Run},
    observation::{Phase, RunPhase},
};
use muster_testkit::eventually;
use serde_json::{Value, json};
use std::time::Duration;

fn key() -> ItemKey {
    ItemKey::new("scheduler", "jobs/ml/train/1")
}

fn options(movable: bool) -> Options {
    Options { run: Some(Run { name: "namespaces/ml/jobs/train/runs/1".into(), movable }), ..healing() }
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"muster.dev/run": "ml.train.1"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": image,
            "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}})
}

fn batch_job(image: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": "ml", "labels": {"muster.dev/run": "ml.train.1"}},
        "spec": {"backoffLimit": 0, "parallelism": 2, "completions": 2, "template": template(image)}})
}

fn pods_made(world: &World) -> usize {
    let lines = world.sim.audit_lines(0, 100_000).expect("the log is read");
    let entries = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    entries
        .filter(|entry| {
            entry["resource"] == "pods"
                && entry["subresource"].as_str().unwrap_or_default().is_empty()
                && entry["namespace"] == "ml"
                && entry["verb"] == "create"
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_once_to_its_end_also_over_a_restart_and_a_deletion() {
    let world = World::start(json!([{"match": "*:quick", "runForMs": 300}])).await;
    world.desire(&key(), 1, &[batch_job("registry.example.com/ml/trainer:quick")], options(false)).await;
    let done = eventually("it succeeds", async || {
        world.last(&key()).and_then(|last| last.run).filter(|run| run.phase == RunPhase::Succeeded)
    })
    .await;
    assert!(done.started_at.is_some() && done.finished_at >= done.started_at, "{done:?}");
    let world = world.restart().await;
    let uid = world.object("jobs.batch", "ml", "train").expect("there")["metadata"]["uid"].clone();
    let object = muster_agent::domain::object::ObjectRef {
        group: "batch".into(),
        kind: "Job".into(),
        namespace: "ml".into(),
        name: "train".into(),
    };
    world.by_hand().delete("v1", &object, uid.as_str().expect("a uid")).await.expect("deleted");
    eventually("it is gone", async || world.object("jobs.batch", "ml", "train").is_none().then_some(())).await;
    world.desire(&key(), 2, &[batch_job("registry.example.com/ml/trainer:quick")], options(false)).await;
    let last = world.until(&key(), 2, Phase::Healthy).await;
    assert_eq!(last.run.map(|run| run.phase), Some(RunPhase::Succeeded));
    assert_eq!(pods_made(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_volcano_job_has_its_exit_code() {
    let world = World::start(json!([{"match": "*:bad", "runForMs": 100, "exitCode": 3}])).await;
    let queue = json!({"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": "default"}, "spec": {"weight": 1}});
    let job = json!({"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": "train", "namespace": "ml"},
        "spec": {"minAvailable": 1, "maxRetry": 0, "queue": "default", "tasks": [{"name": "t", "replicas": 1,
            "template": template("registry.example.com/ml/trainer:bad")}]}});
    world.desire(&key(), 1, &[queue, job], options(false)).await;
    let run =
        eventually("it fails", async || world.last(&key()).and_then(|last| last.run).filter(|run| run.phase == RunPhase::Failed))
            .await;
    assert_eq!(run.exit_code, Some(3), "{run:?}");
    world.until(&key(), 1, Phase::Degraded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_movable_run_ends_with_the_session_and_is_fenced_by_the_cluster_itself() {
    let world = World::start(json!([{"match": "*:long", "runForMs": 600000}])).await;
    world.desire(&key(), 1, &[batch_job("registry.example.com/ml/trainer:long")], options(true)).await;
    assert_eq!(world.until(&key(), 1, Phase::Pending).await.message, "a movable run begins only while the cluster session lasts");
    let lease = &world.reconciler.lease;
    lease.renew(lease.now(), Duration::from_secs(3));
    world.reconciler.dirty.mark(key());
    eventually("it runs", async || world.last(&key()).and_then(|last| last.run).filter(|run| run.phase == RunPhase::Running))
        .await;
    let deadline =
        |world: &World| world.object("jobs.batch", "ml", "train").and_then(|job| job["spec"]["activeDeadlineSeconds"].as_i64());
    assert!(deadline(&world).is_some_and(|seconds| (1..=3).contains(&seconds)), "{:?}", deadline(&world));
    lease.renew(lease.now(), Duration::from_secs(5));
    world.reconciler.dirty.mark(key());
    eventually("the cluster's deadline follows", async || deadline(&world).filter(|seconds| *seconds > 3)).await;
    let stopped = eventually("the lease runs out and the run is stopped", async || {
        world.last(&key()).and_then(|last| last.run).filter(|run| run.phase == RunPhase::Stopped || run.phase == RunPhase::Failed)
    })
    .await;
    assert!(stopped.finished_at.is_some());
    eventually("its pods are gone", async || {
        let running = world.sim.objects("pods", "ml").iter().any(|pod| pod["status"]["phase"] == "Running");
        (!running).then_some(())
    })
    .await;
    lease.renew(lease.now(), Duration::from_secs(60));
    world.reconciler.dirty.mark(key());
    world.desire(&ItemKey::new("scheduler", "jobs/ml/other/1"), 1, &[config_map("other", "1")], healing()).await;
    world.until(&ItemKey::new("scheduler", "jobs/ml/other/1"), 1, Phase::Healthy).await;
    assert_eq!(pods_made(&world), 2, "a run that was stopped is not started again in its epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_makes_no_run_twice() {
    const JOBS: usize = 8;
    let mut world = World::start(json!([{"match": "*:quick", "runForMs": 200}])).await;
    let keys: Vec<_> = (0..JOBS).map(|n| ItemKey::new("scheduler", format!("jobs/ml/train-{n}/1"))).collect();
    for (n, key) in keys.iter().enumerate() {
        let run = Run { name: format!("namespaces/ml/jobs/train-{n}/runs/1"), movable: false };
        let mut job = batch_job("registry.example.com/ml/trainer:quick");
        job["metadata"]["name"] = json!(format!("train-{n}"));
        job["spec"]["parallelism"] = json!(1);
        job["spec"]["completions"] = json!(1);
        // Each crash comes after another number of requests to the API server, dry runs among them. Those of this job count from before
        // it is desired: it may be applied by the time that somebody looks.
        let before = world.requests();
        world.desire(key, 1, &[config_map(&format!("train-{n}"), "1"), job], Options { run: Some(run), ..healing() }).await;
        let asked = async {
            while world.requests() < before + n % 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked).await.expect("a job is applied by several requests");
        world = world.crash().await;
    }
    for key in &keys {
        let what = format!("{key} succeeds");
        eventually(&what, async || world.last(key).and_then(|last| last.run).filter(|run| run.phase == RunPhase::Succeeded))
            .await;
    }
    assert_eq!(pods_made(&world), JOBS);
}
