//! From submit to the end, and every way of ending early.

use muster_kit::reconcile::Reconciler;
use muster_proto::scheduler::v1::{
    CancelJobRequest, DeleteJobRequest, GetRunRequest, ListRunsRequest, ResumeJobRequest, SuspendJobRequest, job::State,
};
use muster_scheduler::app::observe::ItemPhase;
use muster_scheduler::domain::job::RunPhase;
use tonic::Code;

use crate::world::{World, create, member, resource, training, with_run};

async fn cancel(world: &mut World, job: &str) {
    world.jobs.cancel_job(CancelJobRequest { name: resource(job), ..Default::default() }).await.expect("it is cancelled");
}

#[tokio::test]
async fn a_job_is_placed_runs_and_succeeds() {
    let mut world = World::with_clusters().await;
    world.submit("train", 2, 1).await;
    world.settle().await;
    assert_eq!(world.items("idc"), ["jobs/ml/train/1", "queues/train"]);
    let object = world.object("idc", "jobs/ml/train/1");
    assert_eq!(object["metadata"]["name"], "train");
    assert_eq!(object["metadata"]["labels"]["muster.dev/run"], "ml.train.1");
    assert_eq!(object["spec"]["tasks"][0]["template"]["spec"]["containers"][0]["env"][0]["value"], "1");
    assert_eq!(world.object("idc", "queues/train")["kind"], "Queue");
    world.runs("idc", "train", 1).await;
    let running = world.job("train").await;
    assert_eq!((running.state(), running.flavor.as_str(), running.run_epoch), (State::Running, "V100", 1));
    assert!(running.start_time.is_some());
    world.pass(1_800);
    world.ends("idc", "train", 1, RunPhase::Succeeded).await;
    let done = world.job("train").await;
    assert_eq!(done.state(), State::Succeeded);
    let states: Vec<State> = done.history.iter().map(|transition| transition.state()).collect();
    assert_eq!(states, [State::Queued, State::Placed, State::Running, State::Succeeded]);
    let usage = done.usage.unwrap();
    assert_eq!((usage.gpu_seconds, usage.cost_micros, usage.currency.as_str()), (3_600.0, 1_000_000, "EUR"));
}

#[tokio::test]
async fn gpus_of_a_run_are_free_when_its_pods_are_gone_and_not_before() {
    let mut world = World::new().await;
    let idc = member("idc", 1, "V100", 1);
    world.join(idc.clone()).await;
    world.queue("train", "").await;
    world.submit("first", 1, 8).await;
    world.submit("second", 1, 8).await;
    world.settle().await;
    world.join(with_run(idc.clone(), 0, "first", 1, 8)).await;
    world.runs("idc", "first", 1).await;
    world.ends("idc", "first", 1, RunPhase::Succeeded).await;
    world.settle().await;
    assert_eq!(world.state("second").await.0, State::Queued, "the pods of the first are still there");
    world.join(idc).await;
    world.settle().await;
    assert_eq!(world.state("second").await.0, State::Placed);
}

#[tokio::test]
async fn a_cancelled_run_is_charged_until_its_cluster_confirms_that_it_is_gone() {
    let mut world = World::new().await;
    world.join(member("idc", 1, "V100", 1)).await;
    world.queue("train", "").await;
    world.submit("first", 1, 8).await;
    world.submit("second", 1, 8).await;
    world.settle().await;
    world.runs("idc", "first", 1).await;
    cancel(&mut world, "first").await;
    world.settle().await;
    assert_eq!(world.state("first").await.0, State::Cancelled);
    assert_eq!(world.items("idc"), ["queues/train"]);
    assert_eq!(world.state("second").await.0, State::Queued);
    let unfinished = world.jobs.delete_job(DeleteJobRequest { name: resource("first"), ..Default::default() }).await.unwrap_err();
    assert_eq!(unfinished.code(), Code::FailedPrecondition);
    world.ends("idc", "first", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.state("second").await.0, State::Placed);
    world.jobs.delete_job(DeleteJobRequest { name: resource("first"), ..Default::default() }).await.expect("it is over");
}

#[tokio::test]
async fn a_job_that_no_cluster_was_told_of_is_cancelled_at_once() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 8).await;
    world.lead.tick().await.unwrap();
    assert_eq!(world.state("train").await.0, State::Placed);
    cancel(&mut world, "train").await;
    world.settle().await;
    assert!(world.items("idc").is_empty());
    world.submit("next", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("next").await, (State::Placed, "idc".to_owned()));
}

#[tokio::test]
async fn a_suspended_job_frees_its_gpus_and_goes_on_as_a_new_run() {
    let mut world = World::new().await;
    world.join(member("idc", 1, "V100", 1)).await;
    world.queue("train", "").await;
    world.submit("train", 1, 8).await;
    world.settle().await;
    world.runs("idc", "train", 1).await;
    world.jobs.suspend_job(SuspendJobRequest { name: resource("train"), ..Default::default() }).await.unwrap();
    world.settle().await;
    world.ends("idc", "train", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.state("train").await.0, State::Suspended);
    assert!(world.explain("train").await.unblocked_by[0].contains("resumes"));
    world.jobs.resume_job(ResumeJobRequest { name: resource("train"), ..Default::default() }).await.unwrap();
    world.settle().await;
    assert_eq!(world.job("train").await.run_epoch, 2);
    assert_eq!(world.object("idc", "jobs/ml/train/2")["metadata"]["name"], "train-r2");
    let runs = world
        .jobs
        .list_runs(ListRunsRequest { parent: resource("train"), ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .runs;
    assert_eq!(runs.iter().map(|run| run.state()).collect::<Vec<_>>(), [State::Suspended, State::Placed]);
}

#[tokio::test]
async fn a_failed_run_is_retried_after_its_back_off_until_no_retry_is_left() {
    let mut world = World::with_clusters().await;
    let mut request = create("train", &training("train", 1, 1));
    request.job.as_mut().unwrap().max_retries = 1;
    world.create(request).await.unwrap();
    world.settle().await;
    world.runs("idc", "train", 1).await;
    let mut failed = world.seen("idc", "train", 1, RunPhase::Failed);
    failed.exit_code = Some(137);
    world.observe(failed).await;
    world.settle().await;
    let waiting = world.job("train").await;
    assert_eq!((waiting.state(), waiting.reason.as_str()), (State::Queued, "run 1 failed: exit code 137; retry 1 of 1 in 10 s"));
    world.pass(9);
    world.settle().await;
    assert_eq!(world.job("train").await.run_epoch, 1);
    assert!(world.explain("train").await.summary.starts_with("waits for its retry until"));
    world.pass(1);
    world.settle().await;
    assert_eq!(world.job("train").await.run_epoch, 2);
    world.ends("idc", "train", 2, RunPhase::Failed).await;
    assert_eq!(world.state("train").await.0, State::Failed);
    let run = world.jobs.get_run(GetRunRequest { name: format!("{}/runs/1", resource("train")) }).await.unwrap().into_inner();
    assert_eq!((run.state(), run.reason.as_str()), (State::Failed, "exit code 137"));
}

#[tokio::test]
async fn an_observation_of_an_old_generation_or_an_old_run_changes_nothing() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world.settle().await;
    let mut old = world.seen("idc", "train", 1, RunPhase::Succeeded);
    old.generation.1 -= 1;
    world.observe(old).await;
    let mut other_life = world.seen("idc", "train", 1, RunPhase::Succeeded);
    other_life.generation.0 -= 1;
    world.observe(other_life).await;
    assert_eq!(world.state("train").await.0, State::Placed);
    let first = world.seen("idc", "train", 1, RunPhase::Succeeded);
    world.jobs.suspend_job(SuspendJobRequest { name: resource("train"), ..Default::default() }).await.unwrap();
    world.settle().await;
    world.observe(first.clone()).await;
    assert_eq!(world.state("train").await.0, State::Suspended);
    world.ends("idc", "train", 1, RunPhase::Stopped).await;
    world.jobs.resume_job(ResumeJobRequest { name: resource("train"), ..Default::default() }).await.unwrap();
    world.settle().await;
    world.observe(first).await;
    assert_eq!(world.state("train").await.0, State::Placed);
}

#[tokio::test]
async fn what_the_cluster_refuses_is_said_word_for_word() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world.settle().await;
    let mut refused = world.seen("idc", "train", 1, RunPhase::Pending);
    refused.phase = ItemPhase::Refused;
    refused.reason = "Invalid: spec.tasks[0].policies: unknown field".to_owned();
    world.observe(refused).await;
    let job = world.job("train").await;
    assert_eq!((job.state(), job.reason.as_str()), (State::Failed, "Invalid: spec.tasks[0].policies: unknown field"));
}

#[tokio::test]
async fn a_run_whose_object_somebody_deletes_is_started_anew() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world.settle().await;
    world.runs("idc", "train", 1).await;
    let mut gone = world.seen("idc", "train", 1, RunPhase::Running);
    gone.phase = ItemPhase::Gone;
    world.observe(gone).await;
    world.settle().await;
    let job = world.job("train").await;
    assert_eq!((job.state(), job.run_epoch), (State::Placed, 2));
    assert_eq!(world.items("idc"), ["jobs/ml/train/2", "queues/train"]);
}

#[tokio::test]
async fn a_finished_runs_object_stays_for_its_logs_and_goes_after_a_while() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world.settle().await;
    world.runs("idc", "train", 1).await;
    world.ends("idc", "train", 1, RunPhase::Succeeded).await;
    world.settle().await;
    assert_eq!(world.items("idc"), ["jobs/ml/train/1", "queues/train"]);
    world.pass(3_601);
    world.settle().await;
    assert_eq!(world.items("idc"), ["queues/train"]);
}

#[tokio::test]
async fn a_long_run_that_allows_it_makes_room_for_a_short_job_and_goes_on_after_it() {
    let mut world = World::new().await;
    world.join(member("idc", 1, "V100", 1)).await;
    world.queue("train", "").await;
    let plain = "metadata: {name: long}";
    let willing = "metadata: {name: long, annotations: {muster.dev/restart-cost: 30s}}";
    let manifest = training("long", 1, 8);
    assert!(manifest.contains(plain));
    world.create(create("long", &manifest.replace(plain, willing))).await.expect("a sound job");
    world.settle().await;
    world.runs("idc", "long", 1).await;
    world.settle().await;
    world.pass(3_600);
    world.submit("short", 1, 8).await;
    world.settle().await;
    let long = world.job("long").await;
    assert_eq!(long.state(), State::Queued);
    let reason = &long.history.last().expect("a history").reason;
    assert_eq!(reason, "interrupted for namespaces/ml/jobs/short, which is expected to be done much sooner");
    assert_eq!(world.state("short").await.0, State::Queued, "the run is charged until its cluster confirms that it is gone");
    assert_eq!(world.items("idc"), ["queues/train"]);
    world.ends("idc", "long", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.state("short").await, (State::Placed, "idc".to_owned()));
    world.runs("idc", "short", 1).await;
    world.ends("idc", "short", 1, RunPhase::Succeeded).await;
    world.settle().await;
    let long = world.job("long").await;
    assert_eq!((long.state(), long.run_epoch), (State::Placed, 2));
    world.runs("idc", "long", 2).await;
    world.settle().await;
    world.pass(600);
    world.ends("idc", "long", 2, RunPhase::Succeeded).await;
    world.settle().await;
    let (kept, folded) = world.learned().await;
    assert!(kept.iter().any(|history| history.kind == "ml/long"), "{kept:?}");
    assert_eq!(folded, kept, "both of its runs together");
}

#[tokio::test]
async fn a_run_goes_on_in_the_cheap_cluster_once_that_is_idle() {
    let mut world = World::new().await;
    world.join(member("idc", 1, "V100", 1)).await;
    world.join(member("cloud", 1, "A100", 9)).await;
    world.queue("train", "").await;
    world.submit("first", 1, 8).await;
    let willing = "metadata: {name: long, annotations: {muster.dev/restart-cost: 30s}}";
    let manifest = training("long", 1, 8).replace("metadata: {name: long}", willing);
    world.settle().await;
    world.create(create("long", &manifest)).await.expect("a sound job");
    world.settle().await;
    assert_eq!(world.state("long").await, (State::Placed, "cloud".to_owned()));
    world.runs("idc", "first", 1).await;
    world.runs("cloud", "long", 1).await;
    world.settle().await;
    world.pass(3_600);
    world.ends("idc", "first", 1, RunPhase::Succeeded).await;
    world.settle().await;
    let long = world.job("long").await;
    assert_eq!(long.state(), State::Queued);
    assert_eq!(long.history.last().expect("a history").reason, "interrupted: it goes on in a better place");
    // What comes meanwhile does not get its place, and it does not get back its own before that is free.
    world.submit("later", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("later").await.0, State::Queued);
    world.ends("cloud", "long", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.state("long").await, (State::Placed, "idc".to_owned()));
    assert_eq!(world.job("long").await.run_epoch, 2);
    assert_eq!(world.state("later").await, (State::Placed, "cloud".to_owned()));
}
