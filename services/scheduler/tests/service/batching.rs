//! Many jobs in one transaction: what one of them does to its neighbours, and to itself when it comes twice.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use muster_kit::health::Health;
use muster_kit::reconcile::Reconciler;
use muster_kit::{Caller, Result, Role, idempotency::Key};
use muster_proto::scheduler::v1::{CancelJobRequest, CreateJobRequest, DeleteJobRequest, job::State};
use muster_scheduler::app::App;
use muster_scheduler::app::writer::{NewJob, Written};
use muster_scheduler::domain::job::RunPhase;
use muster_scheduler::peers::{Policy, Question, Registry, Verdict};
use muster_scheduler::reconcile::tell::Tell;
use muster_scheduler::store;
use sqlx::PgPool;
use tonic::Code;

use crate::world::{PlayedPolicy, World, create, member, resource, training};

async fn count(world: &World, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(world.db.pool()).await.expect("a count")
}

/// A job as a submit makes it, under another name than the one that is there.
async fn another(world: &World, like: &str, name: &str) -> NewJob {
    let mut job = store::job::get(world.db.pool(), "ml", like).await.unwrap().expect("a job");
    name.clone_into(&mut job.name);
    NewJob {
        request: None,
        caller: "ci@example.com".to_owned(),
        method: "CreateJob",
        job,
        manifest: training(like, 1, 1),
        answer: name.as_bytes().to_vec(),
        traceparent: String::new(),
    }
}

fn key(id: &str, request: &CreateJobRequest) -> Option<Key> {
    let caller = Caller::Person { subject: "ci@example.com".to_owned(), role: Role::Operator };
    Key::of(&caller, "CreateJob", id, request).expect("a UUID")
}

#[tokio::test]
async fn submits_that_come_together_are_one_transaction_in_their_order() {
    let mut world = World::with_clusters().await;
    world.submit("first", 1, 1).await;
    let mut new = Vec::new();
    for number in 0..60 {
        new.push(another(&world, "first", &format!("job-{number:02}")).await);
    }
    let written = join_all(new.into_iter().map(|new| world.app.writer.write(new))).await;
    assert!(written.into_iter().all(|outcome| outcome.unwrap() == Written::Stored));
    let transactions = "select count(distinct xid) from event where aggregate like '%/job-%'";
    assert_eq!(count(&world, transactions).await, 1);
    let names: Vec<String> = sqlx::query_scalar("select name from job where name like 'job-%' order by job_id")
        .fetch_all(world.db.pool())
        .await
        .unwrap();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(count(&world, "select count(*) from audit where resource like '%/job-%'").await, 60);
}

#[tokio::test]
async fn a_job_that_can_not_be_stored_fails_no_other_of_its_batch() {
    let mut world = World::with_clusters().await;
    world.submit("first", 1, 1).await;
    let (before, mut bad, after) =
        (another(&world, "first", "a").await, another(&world, "first", "b").await, another(&world, "first", "c").await);
    // No text of Postgres holds it.
    "\0".clone_into(&mut bad.job.reason);
    let written = join_all([before, bad, after].into_iter().map(|new| world.app.writer.write(new))).await;
    assert!(matches!(written.as_slice(), [Ok(Written::Stored), Err(_), Ok(Written::Stored)]), "{written:?}");
    assert_eq!(count(&world, "select count(*) from job where name in ('a', 'b', 'c')").await, 2);
    assert_eq!(count(&world, "select count(*) from event where aggregate in ('namespaces/ml/jobs/b')").await, 0);
}

#[tokio::test]
async fn one_request_twice_in_a_batch_is_done_once_and_answered_twice() {
    let mut world = World::with_clusters().await;
    world.submit("first", 1, 1).await;
    let id = "6f1c2f0e-5a0e-4c7e-9d5a-0d3c6a1b2c3d";
    let (request, other_request) = (create("a", "same"), create("b", "other"));
    let mut first = another(&world, "first", "a").await;
    first.request = key(id, &request);
    let again = first.clone();
    let mut another_question = another(&world, "first", "b").await;
    another_question.request = key(id, &other_request);
    let written = join_all([first, again, another_question].into_iter().map(|new| world.app.writer.write(new))).await;
    assert_eq!(written[0].as_ref().unwrap(), &Written::Stored);
    assert_eq!(written[1].as_ref().unwrap(), &Written::Repeated(b"a".to_vec()));
    assert_eq!(written[2].as_ref().unwrap_err().to_string().split(":").next(), Some("request_id"));
    assert_eq!(count(&world, "select count(*) from job where name in ('a', 'b')").await, 1);
    assert_eq!(count(&world, "select count(*) from audit where resource = 'namespaces/ml/jobs/a'").await, 1);
}

#[tokio::test]
async fn of_two_jobs_with_one_name_in_a_batch_the_second_is_refused_and_its_request_may_come_again() {
    let mut world = World::with_clusters().await;
    let submit = |workers: u32, id: &str| {
        let mut client = world.jobs.clone();
        let request = CreateJobRequest { request_id: id.to_owned(), ..create("twin", &training("twin", workers, 1)) };
        async move { client.create_job(request).await }
    };
    let (one, two) = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
    let (first, second) = tokio::join!(submit(1, one), submit(2, two));
    let refused = [first, second].into_iter().filter_map(std::result::Result::err).collect::<Vec<_>>();
    assert_eq!(refused.iter().map(tonic::Status::code).collect::<Vec<_>>(), [Code::AlreadyExists]);
    assert_eq!(count(&world, "select count(*) from request").await, 1, "the refused request is not remembered");
    let (same, again) = tokio::join!(submit(1, one), submit(1, "00000000-0000-4000-8000-000000000003"));
    assert_eq!(same.is_ok(), again.is_ok());
    assert_eq!(world.state("twin").await.0, State::Queued);
}

#[tokio::test]
async fn what_is_decided_together_is_one_transaction_and_every_job_has_its_run() {
    let mut world = World::new().await;
    world.join(member("idc", 8, "V100", 1_000_000)).await;
    world.queue("train", "").await;
    for number in 0..40 {
        world.submit(&format!("job-{number}"), 1, 1).await;
    }
    world.settle().await;
    assert_eq!(count(&world, "select count(distinct xid) from event where type = 'job.placed'").await, 1);
    assert_eq!(count(&world, "select count(*) from event where type = 'job.placed'").await, 40);
    assert_eq!(count(&world, "select count(*) from run where not untold").await, 40);
    assert_eq!(world.registry.state.lock().unwrap().changes, 1, "one change for all of them");
    assert_eq!(world.items("idc").len(), 41, "the runs and their queue");
}

#[tokio::test]
async fn what_is_allowed_is_numbered_by_one_transaction_for_all_clusters_and_sent_until_it_is_answered() {
    let mut world = World::with_clusters().await;
    for number in 0..12 {
        world.submit(&format!("job-{number:02}"), 1, 1).await;
    }
    world.lead.tick().await.unwrap();
    world.registry.state.lock().unwrap().away = true;
    assert!(world.tell.tick().await.is_err(), "it is tried again");
    let transactions = "select count(distinct xmin::text) from (
        select xmin from desired_change union all select xmin from desired_item union all select xmin from run where not untold
    ) written";
    assert_eq!(count(&world, transactions).await, 1);
    assert_eq!(count(&world, "select count(*) from desired_change").await, 2);
    assert_eq!(count(&world, "select count(*) from run where bundle_digest is not null and not untold").await, 12);

    world.registry.state.lock().unwrap().away = false;
    world.settle().await;
    assert_eq!(count(&world, "select count(*) from desired_change").await, 0);
    assert_eq!((world.items("idc").len(), world.items("cloud").len()), (9, 5), "each with its queue");
    assert_eq!(world.registry.state.lock().unwrap().changes, 2);
    // From now on it is known as whom the registry answers, before it does.
    world.submit("late", 1, 1).await;
    world.settle().await;
    assert_eq!(count(&world, "select count(*) from desired_item where incarnation = 1").await, 15);
    world.runs("cloud", "late", 1).await;
    assert_eq!(world.state("late").await.0, State::Running);
}

#[tokio::test]
async fn what_nothing_names_any_more_is_dropped_a_part_at_a_time() {
    let mut world = World::with_clusters().await;
    let left = "select count(*) from bundle where digest like 'sha256:00000000%'";
    let strays =
        "insert into bundle (digest, content) select 'sha256:' || lpad(n::text, 64, '0'), '' from generate_series(1, 4500) n";
    sqlx::query(strays).execute(world.db.pool()).await.unwrap();
    world.submit("train", 1, 1).await;
    world.settle().await;
    let kept = "select count(*) from bundle where digest not like 'sha256:00000000%'";
    for expected in [2_500, 500, 0, 0] {
        assert_eq!(count(&world, left).await, expected);
        world.pass(11);
        world.tell.tick().await.unwrap();
    }
    assert_eq!(count(&world, kept).await, 2, "the run's and the queue's");
    world.runs("idc", "train", 1).await;
    world.ends("idc", "train", 1, RunPhase::Succeeded).await;
    world.pass(7_200);
    world.settle().await;
    for _ in 0..3 {
        world.pass(11);
        world.tell.tick().await.unwrap();
    }
    assert_eq!(count(&world, kept).await, 1, "the queue's");
    assert_eq!(count(&world, "select count(*) from manifest").await, 1, "the job's");
}

#[tokio::test]
async fn observations_of_one_run_in_one_batch_are_taken_in_their_order_and_unknown_ones_harm_none() {
    let mut world = World::with_clusters().await;
    world.submit("one", 1, 1).await;
    world.submit("two", 1, 1).await;
    world.settle().await;
    let now = world.app.now();
    let mut running = world.seen("idc", "one", 1, RunPhase::Running);
    running.start = Some(now);
    let mut succeeded = world.seen("idc", "one", 1, RunPhase::Succeeded);
    succeeded.finish = Some(now + jiff::SignedDuration::from_secs(60));
    let mut unknown = world.seen("idc", "two", 1, RunPhase::Running);
    "jobs/ml/nobody/1".clone_into(&mut unknown.item);
    let mut other = world.seen("idc", "two", 1, RunPhase::Running);
    other.start = Some(now);
    // The last one comes too late: the run is over.
    let late = world.seen("idc", "one", 1, RunPhase::Running);
    let fenced = world.app.observe_all(world.epoch() + 1, &[running.clone(), other.clone()]).await.unwrap_err();
    assert_eq!(fenced.reason(), "NOT_LEADER");
    assert_eq!(world.state("one").await.0, State::Placed, "nothing of it was written");
    world.app.observe_all(world.epoch(), &[running, unknown, succeeded, other, late]).await.expect("observations");
    assert_eq!(world.state("one").await.0, State::Succeeded);
    assert_eq!(world.state("two").await.0, State::Running);
    let seconds = "select extract(epoch from finished_at - started_at)::bigint from cost where job = 'one'";
    assert_eq!(count(&world, seconds).await, 60);
    world.settle().await;
    let kept = world.app.mind.lock().unwrap().clone().expect("the leader keeps its engine");
    let mut tx = muster_kit::db::begin(world.db.pool()).await.unwrap();
    let folded = muster_scheduler::app::mind::Mind::load(&mut tx, 0, world.app.now()).await.unwrap();
    assert_eq!(folded.engine.audit(), kept.engine.audit());
}

/// Another replica takes the lease while this one waits for its verdicts.
struct Usurping {
    pool: PgPool,
    says: Arc<PlayedPolicy>,
}

#[async_trait]
impl Policy for Usurping {
    async fn evaluate(&self, questions: Vec<Question>) -> Vec<Result<Verdict>> {
        sqlx::query("update lease set epoch = epoch + 1").execute(&self.pool).await.expect("the lease is taken");
        self.says.evaluate(questions).await
    }
}

#[tokio::test]
async fn a_lease_that_is_lost_in_the_middle_writes_nothing() {
    let mut world = World::with_clusters().await;
    for name in ["one", "two", "three"] {
        world.submit(name, 1, 1).await;
    }
    world.lead.tick().await.expect("decisions are written");
    let policy = Usurping { pool: world.db.pool().clone(), says: Arc::clone(&world.policy) };
    let app = App { policy: Arc::new(policy), ..world.app.clone() };
    let tell = Tell::new(app, Arc::clone(&world.registry) as Arc<dyn Registry>, 1, Health::default());
    assert_eq!(tell.tick().await.unwrap_err().reason(), "NOT_LEADER");
    assert_eq!(count(&world, "select count(*) from run where bundle_digest is null").await, 3);
    assert_eq!(count(&world, "select count(*) from bundle").await, 0);
    assert!(world.items("idc").is_empty());
    world.submit("four", 1, 1).await;
    assert_eq!(world.app.decide_all(world.epoch()).await.unwrap_err().reason(), "NOT_LEADER");
    assert_eq!(world.state("four").await.0, State::Queued);
    assert_eq!(count(&world, "select count(*) from inbox where kind = 'job'").await, 1, "the next leader looks at it");
}

#[tokio::test]
async fn what_a_cluster_is_told_bit_by_bit_is_all_that_it_should_hold() {
    let mut world = World::with_clusters().await;
    for name in ["runs", "ends", "cancelled", "deleted"] {
        world.submit(name, 1, 1).await;
    }
    world.settle().await;
    world.queue("train", "weight: 3").await;
    for name in ["runs", "ends", "deleted"] {
        world.runs("idc", name, 1).await;
    }
    world.ends("idc", "ends", 1, RunPhase::Succeeded).await;
    world.ends("idc", "deleted", 1, RunPhase::Succeeded).await;
    world.jobs.cancel_job(CancelJobRequest { name: resource("cancelled"), ..Default::default() }).await.unwrap();
    world.jobs.delete_job(DeleteJobRequest { name: resource("deleted"), ..Default::default() }).await.unwrap();
    world.settle().await;
    world.submit("late", 1, 1).await;
    world.settle().await;
    assert_eq!(world.items("idc"), ["jobs/ml/ends/1", "jobs/ml/late/1", "jobs/ml/runs/1", "queues/train"]);
    let told = world.registry.state.lock().unwrap().changes;
    sqlx::query("update desired_cluster set dirty = true, whole = true").execute(world.db.pool()).await.unwrap();
    world.settle().await;
    assert_eq!(world.registry.state.lock().unwrap().changes, told, "looking at everything finds nothing more to tell");
    assert_eq!(count(&world, "select count(*) from desired_cluster where whole or dirty").await, 0);
}
