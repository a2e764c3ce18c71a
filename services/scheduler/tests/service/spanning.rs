//! Jobs whose workers may be in several clusters of a region: there everywhere, or nowhere.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use muster_kit::clock::Clock;
use muster_kit::db;
use muster_kit::reconcile::Reconciler;
use muster_kit::time::to_proto;
use muster_proto::registry::v1::{Cluster, cluster};
use muster_proto::scheduler::v1::{
    CancelJobRequest, DeleteJobRequest, GetQueueRequest, GetRunRequest, Job, ListRunsRequest, ReportCostRequest, Run,
    SuspendJobRequest, job::State, report_cost_request::GroupBy,
};
use muster_scheduler::app::mind::Mind;
use muster_scheduler::app::observe::ItemPhase;
use muster_scheduler::domain::job::RunPhase;
use muster_scheduler_engine::JobState;
use tonic_types::StatusExt;

use crate::world::{Says, World, create, member, resource, training, violation, with_run};

/// A Volcano job whose workers may be in several clusters of a region.
fn spanning(name: &str, workers: u32, gpus: u32) -> String {
    let plain = format!("metadata: {{name: {name}}}");
    let spans = format!("metadata: {{name: {name}, annotations: {{muster.dev/span: region}}}}");
    training(name, workers, gpus).replace(&plain, &spans)
}

fn in_region(name: &str, micros: i64) -> Cluster {
    Cluster { region: "eu".to_owned(), ..member(name, 1, "V100", micros) }
}

/// `idc` at 1 and `annex` at 2, both in `eu`, with a node of 8 GPUs each.
async fn world() -> World {
    let mut world = World::new().await;
    world.join(in_region("idc", 1_000_000)).await;
    world.join(in_region("annex", 2_000_000)).await;
    world.queue("train", "").await;
    world
}

/// `wide`, two workers of 8 GPUs, is placed, and both clusters are told.
async fn told(max_retries: u32, movable: bool) -> World {
    let mut world = world().await;
    let mut request = create("wide", &spanning("wide", 2, 8));
    let job = request.job.as_mut().unwrap();
    (job.max_retries, job.movable) = (max_retries, movable);
    world.create(request).await.expect("a sound job");
    world.settle().await;
    assert_eq!(world.holders("wide", 1), ["annex", "idc"]);
    world
}

/// As [`told`], and it runs.
async fn running(max_retries: u32, movable: bool) -> World {
    let mut world = told(max_retries, movable).await;
    world.runs("idc", "wide", 1).await;
    world.runs("annex", "wide", 1).await;
    world.settle().await;
    assert_eq!(world.state("wide").await.0, State::Running);
    world
}

impl World {
    /// Clusters that hold a run of a job.
    fn holders(&self, job: &str, epoch: u32) -> Vec<&'static str> {
        let item = format!("jobs/ml/{job}/{epoch}");
        ["annex", "idc"].into_iter().filter(|cluster| self.items(cluster).contains(&item)).collect()
    }

    async fn run(&mut self, job: &str, epoch: u32) -> Run {
        let request = GetRunRequest { name: format!("{}/runs/{epoch}", resource(job)) };
        self.jobs.get_run(request).await.expect("a run").into_inner()
    }

    async fn gpus_of_queue(&mut self) -> String {
        let request = GetQueueRequest { name: "queues/train".to_owned() };
        let allocated = self.queues.get_queue(request).await.expect("a queue").into_inner().allocated;
        allocated.get("nvidia.com/gpu").cloned().unwrap_or_default()
    }

    /// The leader's engine has what a new one would fold from the tables.
    async fn the_fold_agrees(&self) {
        let kept = self.app.mind.lock().unwrap().clone().expect("the leader keeps its engine").engine;
        let mut tx = db::begin(self.db.pool()).await.unwrap();
        let folded = Mind::load(&mut tx, 0, self.app.now()).await.unwrap().engine;
        let (folds, keeps) = (folded.audit(), kept.audit());
        assert_eq!((folds.usage, folds.waiting, folds.placed), (keeps.usage, keeps.waiting, keeps.placed));
        assert_eq!(folds.free, keeps.free);
        let standing = |state: JobState| match state {
            JobState::Placed { cluster, slots, elsewhere, started_at, stopping, .. } => {
                let parts = elsewhere.into_iter().map(|part| (part.cluster, part.slots));
                Some((std::iter::once((cluster, slots)).chain(parts).collect::<Vec<_>>(), started_at, stopping))
            }
            JobState::Waiting { .. } | JobState::Suspended => None,
        };
        for row in kept.rows().jobs {
            let other = folded.job(row.spec.id).expect("a known job");
            assert_eq!((other.epoch, other.spec), (row.epoch, row.spec));
            assert_eq!(standing(other.state), standing(row.state));
        }
    }
}

/// (workers, GPUs, state) by cluster.
fn parts(job: &Job) -> BTreeMap<String, (u32, u32, State)> {
    let shown = job.parts.iter().map(|part| {
        let cluster = part.cluster.trim_start_matches("clusters/").to_owned();
        (cluster, (part.workers, part.gpus, part.state()))
    });
    shown.collect()
}

fn both(idc: State, annex: State) -> BTreeMap<String, (u32, u32, State)> {
    BTreeMap::from([("idc".to_owned(), (1, 8, idc)), ("annex".to_owned(), (1, 8, annex))])
}

#[tokio::test]
async fn a_gang_that_no_cluster_holds_whole_runs_in_two_and_succeeds_once_both_have() {
    let mut world = world().await;
    let alone = world.create(create("alone", &training("alone", 2, 8))).await.expect_err("no cluster holds it");
    assert!(alone.get_details_bad_request().is_some(), "{alone:?}");
    world.create(create("wide", &spanning("wide", 2, 8))).await.expect("a sound job");
    world.settle().await;
    let placed = world.job("wide").await;
    assert_eq!((placed.state(), placed.gpus, parts(&placed)), (State::Placed, 16, both(State::Placed, State::Placed)));
    assert!(placed.reason.contains("idc (1 worker)"), "{}", placed.reason);
    assert_eq!(world.gpus_of_queue().await, "16");
    the_objects_tell_their_parts(&world);
    world.the_fold_agrees().await;

    world.runs("idc", "wide", 1).await;
    world.settle().await;
    let half = world.job("wide").await;
    assert_eq!((half.state(), parts(&half)), (State::Placed, both(State::Running, State::Placed)));
    assert!(half.start_time.is_none(), "half of it is nothing");
    world.the_fold_agrees().await;
    world.pass(100);
    world.runs("annex", "wide", 1).await;
    world.settle().await;
    let whole = world.job("wide").await;
    assert_eq!((whole.state(), whole.start_time), (State::Running, Some(to_proto(world.clock.now()))));
    world.the_fold_agrees().await;

    world.pass(3_600);
    world.ends("annex", "wide", 1, RunPhase::Succeeded).await;
    world.settle().await;
    let half = world.job("wide").await;
    assert_eq!((half.state(), parts(&half)), (State::Running, both(State::Running, State::Succeeded)));
    assert_eq!(world.gpus_of_queue().await, "16", "it is charged until all of it is over");
    world.the_fold_agrees().await;
    world.pass(100);
    world.ends("idc", "wide", 1, RunPhase::Succeeded).await;
    world.settle().await;
    let done = world.job("wide").await;
    assert_eq!((done.state(), parts(&done)), (State::Succeeded, both(State::Succeeded, State::Succeeded)));
    assert_eq!(done.finish_time, Some(to_proto(world.clock.now())));
    assert_eq!(world.gpus_of_queue().await, "");
    world.the_fold_agrees().await;
    let (kept, folded) = world.learned().await;
    assert_eq!(folded, kept, "from when both run until both have ended");
}

fn the_objects_tell_their_parts(world: &World) {
    let mut numbers = BTreeSet::new();
    for cluster in ["idc", "annex"] {
        let object = world.object(cluster, "jobs/ml/wide/1");
        let shape = (&object["spec"]["minAvailable"], &object["spec"]["tasks"][0]["replicas"]);
        assert_eq!((shape.0.as_u64(), shape.1.as_u64()), (Some(1), Some(1)));
        assert_eq!(object["metadata"]["annotations"]["muster.dev/workers"], "2");
        numbers.insert(object["metadata"]["labels"]["muster.dev/part"].as_str().expect("a number").to_owned());
    }
    assert_eq!(numbers, BTreeSet::from(["0".to_owned(), "1".to_owned()]));
}

#[tokio::test]
async fn a_gang_that_one_cluster_holds_whole_stays_there() {
    let mut world = world().await;
    world.create(create("narrow", &spanning("narrow", 2, 4))).await.expect("a sound job");
    world.settle().await;
    let job = world.job("narrow").await;
    assert_eq!((job.state(), job.cluster.as_str(), job.parts.len()), (State::Placed, "clusters/idc", 0));
    assert_eq!(job.reason, "placed on idc");
    let object = world.object("idc", "jobs/ml/narrow/1");
    assert_eq!(object["spec"]["tasks"][0]["replicas"], 2);
    assert_eq!(object["metadata"]["annotations"]["muster.dev/parts"], "1");
}

#[tokio::test]
async fn where_one_cluster_may_not_have_its_part_no_cluster_is_told() {
    let mut world = world().await;
    world.create(create("wide", &spanning("wide", 2, 8))).await.expect("a sound job");
    *world.policy.says.lock().unwrap() = Says::AwayIn("annex");
    world.lead.tick().await.unwrap();
    world.tell.tick().await.expect_err("one verdict can't be taken");
    assert_eq!(world.holders("wide", 1), [""; 0]);
    let waits = world.job("wide").await;
    assert!(waits.reason.contains("can't be taken"), "{}", waits.reason);

    *world.policy.says.lock().unwrap() = Says::NoIn("annex", vec![violation("no-annex", "/spec")]);
    world.settle().await;
    let refused = world.job("wide").await;
    assert_eq!((refused.state(), parts(&refused)), (State::Refused, both(State::Refused, State::Refused)));
    assert!(refused.reason.contains("no-annex"), "{}", refused.reason);
    assert_eq!(world.holders("wide", 1), [""; 0]);
    world.the_fold_agrees().await;

    *world.policy.says.lock().unwrap() = Says::Yes;
    world.submit("next", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("next").await.0, State::Placed, "what it had is free");
}

#[tokio::test]
async fn where_a_part_fails_the_other_is_stopped_and_the_whole_is_started_once_more() {
    let mut world = running(1, false).await;
    world.submit("next", 1, 8).await;
    world.pass(60);
    let mut failed = world.seen("annex", "wide", 1, RunPhase::Failed);
    failed.exit_code = Some(137);
    world.observe(failed).await;
    world.settle().await;
    let job = world.job("wide").await;
    assert_eq!((job.state(), job.reason.as_str()), (State::Queued, "run 1 failed: annex: exit code 137; retry 1 of 1 in 10 s"));
    assert_eq!(world.holders("wide", 1), ["annex"], "the object of what failed stays for its logs");
    assert_eq!(world.state("next").await.0, State::Queued, "all of it is charged until the last part is gone");
    world.the_fold_agrees().await;
    // Nothing that is seen of what is to end changes that.
    world.pass(20);
    world.settle().await;
    assert_eq!(world.job("wide").await.run_epoch, 1);

    world.ends("idc", "wide", 1, RunPhase::Stopped).await;
    world.settle().await;
    let run = world.run("wide", 1).await;
    assert_eq!((run.state(), run.gpus, run.reason.as_str()), (State::Failed, 16, "annex: exit code 137"));
    assert_eq!(run.parts.iter().map(|part| part.state()).collect::<BTreeSet<_>>(), [State::Failed, State::Cancelled].into());
    world.the_fold_agrees().await;
    // One of them had a retry to wait for, which is over; the other came later.
    let (wide, next) = (world.job("wide").await, world.job("next").await);
    assert!(next.state() == State::Placed || wide.run_epoch == 2, "{wide:?} {next:?}");
    if next.state() == State::Placed {
        let cluster = world.state("next").await.1;
        world.runs(&cluster, "next", 1).await;
        world.ends(&cluster, "next", 1, RunPhase::Succeeded).await;
        world.settle().await;
    }
    assert_eq!(world.job("wide").await.run_epoch, 2);
    assert_eq!(world.holders("wide", 2), ["annex", "idc"]);
    world.runs("idc", "wide", 2).await;
    world.ends("idc", "wide", 2, RunPhase::Failed).await;
    let failed = world.job("wide").await;
    assert_eq!((failed.state(), parts(&failed)["idc"].2), (State::Failed, State::Failed));
    world.settle().await;
    world.ends("annex", "wide", 2, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.state("wide").await.0, State::Failed);
    world.the_fold_agrees().await;
    let runs = world.jobs.list_runs(ListRunsRequest { parent: resource("wide"), page_size: 1, ..Default::default() }).await;
    let runs = runs.unwrap().into_inner();
    assert_eq!((runs.runs.len(), runs.runs[0].parts.len()), (1, 2), "a page has whole runs");
    world.jobs.delete_job(DeleteJobRequest { name: resource("wide"), ..Default::default() }).await.expect("it is over");
}

#[tokio::test]
async fn what_one_cluster_refuses_or_loses_ends_the_whole() {
    let mut world = told(0, false).await;
    let mut refused = world.seen("annex", "wide", 1, RunPhase::Pending);
    refused.phase = ItemPhase::Refused;
    refused.reason = "Invalid: spec.queue".to_owned();
    world.observe(refused).await;
    world.settle().await;
    let job = world.job("wide").await;
    assert_eq!((job.state(), job.reason.as_str()), (State::Failed, "annex: Invalid: spec.queue"));
    assert_eq!(world.holders("wide", 1), ["annex"]);
    world.ends("idc", "wide", 1, RunPhase::Stopped).await;
    world.settle().await;

    world.create(create("other", &spanning("other", 2, 8))).await.expect("a sound job");
    world.settle().await;
    assert_eq!(world.holders("other", 1), ["annex", "idc"]);
    let mut gone = world.seen("idc", "other", 1, RunPhase::Running);
    gone.phase = ItemPhase::Gone;
    world.observe(gone).await;
    world.settle().await;
    let job = world.job("other").await;
    assert_eq!(
        (job.state(), job.reason.as_str()),
        (State::Queued, "run 1 stopped: idc: its object is gone from the cluster; it is started anew")
    );
    world.ends("annex", "other", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.holders("other", 2), ["annex", "idc"]);
    world.the_fold_agrees().await;
}

#[tokio::test]
async fn a_cancelled_one_is_charged_until_both_clusters_confirm() {
    let mut world = running(0, false).await;
    world.jobs.cancel_job(CancelJobRequest { name: resource("wide"), ..Default::default() }).await.unwrap();
    world.settle().await;
    assert_eq!(world.state("wide").await.0, State::Cancelled);
    assert_eq!(world.holders("wide", 1), [""; 0]);
    assert_eq!(world.gpus_of_queue().await, "16");
    world.ends("idc", "wide", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.gpus_of_queue().await, "16");
    world.the_fold_agrees().await;
    let unfinished = world.jobs.delete_job(DeleteJobRequest { name: resource("wide"), ..Default::default() }).await;
    assert!(unfinished.is_err(), "a cluster has not confirmed");
    world.ends("annex", "wide", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.gpus_of_queue().await, "");
    let run = world.run("wide", 1).await;
    assert_eq!((run.state(), run.parts.len()), (State::Cancelled, 2));
    world.the_fold_agrees().await;
}

#[tokio::test]
async fn one_that_no_cluster_was_told_of_is_cancelled_at_once() {
    let mut world = world().await;
    world.create(create("wide", &spanning("wide", 2, 8))).await.expect("a sound job");
    world.lead.tick().await.unwrap();
    world.jobs.cancel_job(CancelJobRequest { name: resource("wide"), ..Default::default() }).await.unwrap();
    world.settle().await;
    assert_eq!((world.holders("wide", 1), world.gpus_of_queue().await), (Vec::new(), String::new()));
    world.the_fold_agrees().await;
}

#[tokio::test]
async fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let mut world = running(0, false).await;
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    assert_eq!(world.state("wide").await.0, State::Running);
    world.the_fold_agrees().await;
    world.jobs.suspend_job(SuspendJobRequest { name: resource("wide"), ..Default::default() }).await.unwrap();
    world.settle().await;
    world.ends("annex", "wide", 1, RunPhase::Stopped).await;
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    world.submit("next", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("next").await.0, State::Queued);
    world.the_fold_agrees().await;
    world.ends("idc", "wide", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!((world.state("wide").await.0, world.state("next").await.0), (State::Suspended, State::Placed));
    world.the_fold_agrees().await;
}

#[tokio::test]
async fn each_part_costs_what_its_cluster_asks() {
    let mut world = World::new().await;
    world.join(in_region("idc", 1_000_000)).await;
    world.join(in_region("annex", 2_000_000)).await;
    world.queue("train", "budgets: [{money: 100, window: day}]").await;
    world.create(create("wide", &spanning("wide", 2, 8))).await.expect("a sound job");
    world.settle().await;
    let counted = async |world: &mut World| {
        let request = GetQueueRequest { name: "queues/train".to_owned() };
        world.queues.get_queue(request).await.expect("a queue").into_inner().budgets[0].counted
    };
    assert_eq!(counted(&mut world).await, 24_000_000, "an hour is expected, of 8 GPUs at 1 and 8 at 2");
    world.runs("idc", "wide", 1).await;
    assert_eq!(counted(&mut world).await, 24_000_000);
    world.pass(1_800);
    world.runs("annex", "wide", 1).await;
    world.pass(1_800);
    world.ends("idc", "wide", 1, RunPhase::Succeeded).await;
    assert_eq!(counted(&mut world).await, 24_000_000);
    world.ends("annex", "wide", 1, RunPhase::Succeeded).await;
    assert_eq!(counted(&mut world).await, 16_000_000);
    let usage = world.job("wide").await.usage.unwrap();
    assert_eq!((usage.gpu_seconds, usage.cost_micros), (8.0 * 5_400.0, 16_000_000));
    assert_eq!(world.run("wide", 1).await.usage.unwrap().cost_micros, 16_000_000);
    let report = async |world: &mut World, group: GroupBy| {
        let request = ReportCostRequest { group_by: group.into(), ..Default::default() };
        let rows = world.queues.report_cost(request).await.expect("a report").into_inner().rows;
        rows.into_iter().map(|row| (row.key, row.usage.unwrap().cost_micros, row.runs)).collect::<Vec<_>>()
    };
    assert_eq!(report(&mut world, GroupBy::Job).await, [(resource("wide"), 16_000_000, 1)], "it is one run");
    assert_eq!(
        report(&mut world, GroupBy::Cluster).await,
        [("clusters/annex".to_owned(), 8_000_000, 1), ("clusters/idc".to_owned(), 8_000_000, 1)]
    );
}

#[tokio::test]
async fn where_one_cluster_is_lost_the_job_waits_for_it() {
    let mut world = running(0, false).await;
    let state = |state: cluster::State| Cluster { state: state.into(), ..in_region("annex", 2_000_000) };
    world.join(state(cluster::State::Lost)).await;
    world.settle().await;
    let lost = world.job("wide").await;
    assert_eq!((lost.state(), lost.reason.as_str()), (State::Lost, "annex is lost; the job waits for it"));
    let versions = lost.history.len();
    // What the other cluster says does not bring it back, and nobody who looks after clusters does.
    world.runs("idc", "wide", 1).await;
    world.settle().await;
    let still = world.job("wide").await;
    assert_eq!((still.state(), still.history.len(), still.reason), (State::Lost, versions, lost.reason));
    world.join(state(cluster::State::Live)).await;
    world.settle().await;
    assert_eq!(world.state("wide").await.0, State::Running);
    assert_eq!(world.job("wide").await.run_epoch, 1);
}

#[tokio::test]
async fn a_movable_one_leaves_all_its_clusters_where_one_is_lost_or_drained() {
    let mut world = running(0, true).await;
    world.join(in_region("third", 3_000_000)).await;
    let lease = world.clock.now() + SignedDuration::from_secs(40);
    let lost = Cluster { state: cluster::State::Lost.into(), lease_expire_time: Some(to_proto(lease)), ..in_region("annex", 1) };
    world.join(lost).await;
    world.pass(100);
    world.settle().await;
    assert_eq!(world.state("wide").await.0, State::Lost);
    world.pass(1);
    world.settle().await;
    let job = world.job("wide").await;
    assert_eq!((job.state(), job.reason.as_str()), (State::Queued, "annex is lost; it is started elsewhere"));
    assert_eq!(world.holders("wide", 1), [""; 0], "what it left on the others is stopped");
    world.the_fold_agrees().await;
    world.ends("idc", "wide", 1, RunPhase::Stopped).await;
    world.settle().await;
    let job = world.job("wide").await;
    let clusters: BTreeSet<String> = parts(&job).into_keys().collect();
    assert_eq!((job.state(), job.run_epoch, clusters), (State::Placed, 2, ["idc".to_owned(), "third".to_owned()].into()));

    let draining = Cluster { schedulability: cluster::Schedulability::Draining.into(), ..in_region("third", 3_000_000) };
    world.join(draining).await;
    world.settle().await;
    let job = world.job("wide").await;
    assert_eq!((job.state(), job.reason.as_str()), (State::Queued, "moved away: third is drained"));
    assert!(!world.items("idc").contains(&"jobs/ml/wide/2".to_owned()));
}

#[tokio::test]
async fn gpus_of_a_part_are_free_when_the_pods_there_are_gone() {
    let mut world = running(0, false).await;
    world.join(with_run(in_region("idc", 1_000_000), 0, "wide", 1, 8)).await;
    world.join(with_run(in_region("annex", 2_000_000), 0, "wide", 1, 8)).await;
    world.settle().await;
    world.ends("idc", "wide", 1, RunPhase::Succeeded).await;
    world.ends("annex", "wide", 1, RunPhase::Succeeded).await;
    world.join(in_region("annex", 2_000_000)).await;
    world.submit("one", 1, 8).await;
    world.submit("two", 1, 8).await;
    world.settle().await;
    let placed =
        BTreeSet::from([world.state("one").await, world.state("two").await].map(|(state, cluster)| (state as i32, cluster)));
    assert_eq!(placed, [(State::Placed as i32, "annex".to_owned()), (State::Queued as i32, String::new())].into());
    world.join(in_region("idc", 1_000_000)).await;
    world.settle().await;
    assert_eq!((world.state("one").await.0, world.state("two").await.0), (State::Placed, State::Placed));
}

#[tokio::test]
async fn a_span_that_makes_no_sense_is_refused_by_its_annotation() {
    let mut world = world().await;
    let manifest = spanning("wide", 2, 8).replace("span: region", "span: world");
    let refused = world.create(create("wide", &manifest)).await.expect_err("another word");
    let violations = refused.get_details_bad_request().expect("a field").field_violations;
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["job.manifest.metadata.annotations[muster.dev/span]"]);
}
