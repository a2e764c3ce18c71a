//! Leaders, standbys, crashes: what is decided is decided once.

use std::sync::Arc;

use muster_kit::error::Kind;
use muster_kit::health::Health;
use muster_kit::reconcile::Reconciler;
use muster_proto::scheduler::v1::job::State;
use muster_scheduler::domain::job::RunPhase;
use muster_scheduler::peers::Registry;
use muster_scheduler::reconcile::lead::Lead;
use muster_scheduler::reconcile::tell::Tell;

use crate::world::{World, app};

#[tokio::test]
async fn two_replicas_agree() {
    let mut world = World::with_clusters().await;
    let other = app(&world.db, &world.clock, &world.policy);
    let standby = Lead::new(other.clone());
    standby.tick().await.expect("it stands by");
    assert_eq!(other.leadership.epoch(), None);
    world.submit("one", 1, 8).await;
    world.settle().await;
    let old = world.epoch();
    world.lead.release().await.unwrap();
    standby.tick().await.expect("it takes over");
    let new = other.leadership.epoch().expect("it leads");
    assert!(new > old);
    world.submit("two", 1, 8).await;
    standby.tick().await.expect("it decides");
    assert_eq!(world.state("two").await, (State::Placed, "cloud".to_owned()), "it knows what the first one placed");
    let fenced = world.app.decide_all(old).await.unwrap_err();
    assert_eq!((fenced.kind(), fenced.reason()), (Kind::Conflict, "NOT_LEADER"));
    let seen = world.seen("idc", "one", 1, RunPhase::Running);
    assert_eq!(world.app.observe(old, &seen).await.unwrap_err().reason(), "NOT_LEADER");
}

#[tokio::test]
async fn a_leader_that_crashed_goes_on_from_the_tables() {
    let mut world = World::with_clusters().await;
    world.queue("train", "capability: {nvidia.com/gpu: 12}").await;
    for name in ["one", "two", "three", "four"] {
        world.submit(name, 1, 4).await;
    }
    world.settle().await;
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    assert_eq!(world.state("four").await.0, State::Queued, "the capability is remembered");
    world.runs("idc", "one", 1).await;
    *world.app.mind.lock().unwrap() = None;
    world.ends("idc", "one", 1, RunPhase::Succeeded).await;
    world.settle().await;
    assert_eq!(world.state("four").await, (State::Placed, "idc".to_owned()));
}

#[tokio::test]
async fn a_running_engine_is_the_fold_of_its_tables() {
    let mut world = World::with_clusters().await;
    for name in ["one", "two", "three", "four"] {
        world.submit(name, 1, 4).await;
    }
    world.settle().await;
    world.runs("idc", "one", 1).await;
    world.ends("idc", "one", 1, RunPhase::Failed).await;
    world.submit("five", 1, 8).await;
    world.submit("six", 2, 4).await;
    world.settle().await;
    let kept = world.app.mind.lock().unwrap().clone().expect("the leader keeps its engine");
    let mut tx = muster_kit::db::begin(world.db.pool()).await.unwrap();
    let folded = muster_scheduler::app::mind::Mind::load(&mut tx, 0, world.app.now()).await.unwrap();
    assert_eq!(folded.engine.audit(), kept.engine.audit());
}

#[tokio::test]
async fn a_new_leader_knows_what_its_predecessor_learned() {
    let mut world = World::with_clusters().await;
    for (name, seconds, phase) in [("train-1", 600, RunPhase::Succeeded), ("eval-1", 20, RunPhase::Failed)] {
        world.submit(name, 1, 4).await;
        world.settle().await;
        world.runs("idc", name, 1).await;
        world.settle().await;
        world.pass(seconds);
        world.ends("idc", name, 1, phase).await;
        world.settle().await;
    }
    let (kept, folded) = world.learned().await;
    assert_eq!(kept.iter().map(|history| history.kind.as_str()).collect::<Vec<_>>(), ["ml/eval-", "ml/train-"], "{kept:?}");
    assert_eq!(folded, kept);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_sent_again_and_applied_once() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world.lead.tick().await.unwrap();
    world.registry.state.lock().unwrap().lose_next_answer = true;
    assert!(world.tell.tick().await.is_err());
    // Another process takes the row up where this one left it.
    let tell = Tell::new(world.app.clone(), Arc::clone(&world.registry) as Arc<dyn Registry>, 1, Health::default());
    tell.tick().await.expect("the same change again");
    tell.tick().await.expect("nothing is left");
    let state = world.registry.state.lock().unwrap();
    assert_eq!((state.clusters["idc"].generation, state.changes), (1, 2));
}

#[tokio::test]
async fn a_registry_that_remembers_more_is_believed() {
    let mut world = World::with_clusters().await;
    world.submit("one", 1, 1).await;
    world.settle().await;
    world.registry.state.lock().unwrap().clusters.get_mut("idc").unwrap().generation = 41;
    world.submit("two", 1, 1).await;
    world.settle().await;
    world.settle().await;
    assert_eq!(world.items("idc"), ["jobs/ml/one/1", "jobs/ml/two/1", "queues/train"]);
    assert_eq!(world.registry.state.lock().unwrap().clusters["idc"].generation, 42);
}

#[tokio::test]
async fn while_the_registry_is_away_decisions_wait_and_are_told_when_it_is_back() {
    let mut world = World::with_clusters().await;
    world.registry.state.lock().unwrap().away = true;
    world.submit("train", 1, 1).await;
    world.lead.tick().await.unwrap();
    assert_eq!(world.tell.tick().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(world.state("train").await.0, State::Placed);
    world.registry.state.lock().unwrap().away = false;
    world.settle().await;
    assert_eq!(world.items("idc"), ["jobs/ml/train/1", "queues/train"]);
}

#[tokio::test]
async fn a_removal_that_only_the_registry_remembers_still_ends_the_run() {
    let mut world = World::with_clusters().await;
    world.submit("one", 1, 8).await;
    world.settle().await;
    world
        .jobs
        .cancel_job(muster_proto::scheduler::v1::CancelJobRequest { name: crate::world::resource("one"), ..Default::default() })
        .await
        .unwrap();
    // As after a restore of the scheduler's database: the registry has removed the item in a change that is not known here.
    {
        let mut state = world.registry.state.lock().unwrap();
        let told = state.clusters.get_mut("idc").unwrap();
        told.items.remove("jobs/ml/one/1");
        told.removed.insert("jobs/ml/one/1".to_owned(), 9);
        told.generation = 9;
    }
    world.settle().await;
    world.ends("idc", "one", 1, RunPhase::Stopped).await;
    world.submit("two", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("two").await, (State::Placed, "idc".to_owned()));
}

#[tokio::test]
async fn a_cluster_that_joins_again_is_told_what_it_should_hold() {
    let mut world = World::with_clusters().await;
    world.submit("one", 1, 8).await;
    world.registry.state.lock().unwrap().unknown.insert("idc".to_owned());
    world.settle().await;
    assert!(world.items("idc").is_empty());
    world.registry.state.lock().unwrap().unknown.clear();
    let again =
        muster_proto::registry::v1::Cluster { region: "eu".to_owned(), ..crate::world::member("idc", 1, "V100", 1_000_000) };
    world.join(again).await;
    world.settle().await;
    assert_eq!(world.items("idc"), ["jobs/ml/one/1", "queues/train"]);
}

#[tokio::test]
async fn a_restored_scheduler_is_obeyed_by_the_registry() {
    let mut world = World::with_clusters().await;
    // Before the restore the lease had come further than it stands now.
    world.registry.state.lock().unwrap().leader_epoch = (1 << 32) | 7;
    world.submit("one", 1, 8).await;
    world.lead.tick().await.unwrap();
    assert_eq!(world.tell.tick().await.unwrap_err().reason(), "NOT_LEADER");
    let restored = Tell::new(world.app.clone(), Arc::clone(&world.registry) as Arc<dyn Registry>, 2, Health::default());
    restored.tick().await.expect("a later life of the database counts more than any epoch of an earlier one");
    assert_eq!(world.items("idc"), ["jobs/ml/one/1", "queues/train"]);
}
