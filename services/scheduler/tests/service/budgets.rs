//! Budgets and tiers that open with time, through the service: what starts, what waits and why, and what a new leader knows.

use muster_proto::scheduler::v1::{GetQueueRequest, Queue, QueueBudget, job::State, queue_budget::Unit};
use muster_scheduler::domain::job::RunPhase;
use tonic_types::StatusExt;

use crate::world::{World, create, training};

async fn budgets(world: &mut World) -> Vec<QueueBudget> {
    let request = GetQueueRequest { name: "queues/train".to_owned() };
    let Queue { budgets, .. } = world.queues.get_queue(request).await.expect("a queue").into_inner();
    budgets
}

async fn placed(world: &mut World, name: &str) -> bool {
    world.state(name).await.0 != State::Queued
}

#[tokio::test]
async fn a_hard_budget_lets_nothing_start_that_it_can_not_pay_and_says_so() {
    let mut world = World::with_clusters().await;
    world.queue("train", "budgets: [{gpuHours: 12, window: P30D}]").await;
    for name in ["a", "b"] {
        world.submit(name, 1, 8).await;
    }
    world.settle().await;
    // An hour is assumed of either: 8 GPU-hours count, and 8 more would make them 16.
    assert_eq!((placed(&mut world, "a").await, placed(&mut world, "b").await), (true, false));
    let why = world.explain("b").await;
    let limit = "budget 1 of queue \"train\" exceeded by 4.00 GPU-hours: 8.00 GPU-hours counted + 8.00 GPU-hours expected > 12.00 GPU-hours";
    assert_eq!(why.queue_limits, [limit]);
    let unblocked = "the window of budget 1 of queue \"train\" moves on, or runs take less than expected, or the budget is raised by 4.00 GPU-hours";
    assert_eq!(why.unblocked_by, [unblocked]);

    // A new leader reads the same from the tables.
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    assert!(!placed(&mut world, "b").await);
    let [budget] = <[QueueBudget; 1]>::try_from(budgets(&mut world).await).expect("one budget");
    assert_eq!((budget.unit(), budget.amount, budget.counted, budget.hard), (Unit::GpuSeconds, 43_200, 28_800, true));

    // It took a quarter of an hour: 2 count, and 8 more are 10.
    world.runs("idc", "a", 1).await;
    world.pass(900);
    world.ends("idc", "a", 1, RunPhase::Succeeded).await;
    world.pass(1);
    world.settle().await;
    assert!(placed(&mut world, "b").await);
    assert_eq!(budgets(&mut world).await[0].counted, 7_200 + 28_800);

    // Thirty days later nothing of "a" counts any more; "b" has run all the time.
    world.runs("idc", "b", 1).await;
    world.pass(30 * 86_400);
    world.submit("c", 1, 8).await;
    world.settle().await;
    assert!(!placed(&mut world, "c").await);
    let [budget] = <[QueueBudget; 1]>::try_from(budgets(&mut world).await).expect("one budget");
    assert_eq!((budget.counted, budget.reached), (30 * 86_400 * 8, true));
    world.ends("idc", "b", 1, RunPhase::Succeeded).await;
    world.pass(30 * 86_400);
    world.settle().await;
    assert!(placed(&mut world, "c").await);
}

#[tokio::test]
async fn a_budget_of_money_takes_the_price_of_the_place() {
    let mut world = World::with_clusters().await;
    // 8 GPUs for the hour that is assumed: 8 on idc, 32 in the cloud.
    world.queue("train", "budgets: [{money: 20, window: month}]").await;
    for name in ["a", "b"] {
        world.submit(name, 1, 8).await;
    }
    world.settle().await;
    assert_eq!(world.state("a").await, (State::Placed, "idc".to_owned()));
    assert!(!placed(&mut world, "b").await, "idc is full, and the cloud is too dear");
    world.runs("idc", "a", 1).await;
    world.pass(3_600);
    world.ends("idc", "a", 1, RunPhase::Succeeded).await;
    world.pass(1);
    world.settle().await;
    assert_eq!(world.state("b").await, (State::Placed, "idc".to_owned()));
    assert_eq!(budgets(&mut world).await[0].counted, 16_000_000);
    world.runs("idc", "b", 1).await;
    world.pass(3_600);
    world.ends("idc", "b", 1, RunPhase::Succeeded).await;
    world.submit("c", 1, 8).await;
    world.settle().await;
    let why = world.explain("c").await;
    let window = "the window of budget 1 of queue \"train\" begins anew at 2026-12-01T00:00:00Z";
    assert!(why.unblocked_by[0].starts_with(window), "{:?}", why.unblocked_by);
    world.pass(8 * 86_400);
    world.settle().await;
    assert!(placed(&mut world, "c").await, "December has begun");
}

#[tokio::test]
async fn beyond_a_soft_budget_a_queue_stands_behind_the_others() {
    let mut world = World::with_clusters().await;
    world.queue("train", "weight: 9, budgets: [{gpuHours: 0, window: week, enforcement: soft}]").await;
    world.queue("other", "").await;
    world.submit("a", 1, 8).await;
    world.submit("b", 1, 8).await;
    for name in ["c", "d"] {
        world.create(create(name, &training(name, 1, 8).replace("queue: train", "queue: other"))).await.unwrap();
    }
    world.settle().await;
    let mut states = Vec::new();
    for name in ["a", "b", "c", "d"] {
        states.push(placed(&mut world, name).await);
    }
    assert_eq!(states, [false, false, true, true]);
    assert!(budgets(&mut world).await[0].reached);
}

#[tokio::test]
async fn a_dear_tier_opens_once_a_job_has_waited_for_a_multiple_of_its_work() {
    let mut world = World::with_clusters().await;
    world.queue("train", "tiers: [{clusters: [idc]}, {clusters: [cloud], overflowAfterWork: 0.5}]").await;
    world.submit("a", 1, 8).await;
    world.submit("b", 1, 2).await;
    world.settle().await;
    assert!(!placed(&mut world, "b").await);
    // An hour on each of two GPUs is assumed, and half of that is an hour.
    let why = world.explain("b").await;
    assert!(why.unblocked_by.contains(&"tier 2 opens at 2026-11-23T13:00:00Z".to_owned()), "{:?}", why.unblocked_by);
    world.pass(3_599);
    world.settle().await;
    assert!(!placed(&mut world, "b").await);
    world.pass(1);
    world.settle().await;
    assert_eq!(world.state("b").await, (State::Placed, "cloud".to_owned()));
}

#[tokio::test]
async fn a_dear_tier_opens_in_time_for_a_deadline() {
    let mut world = World::with_clusters().await;
    world.queue("train", "tiers: [{clusters: [idc]}, {clusters: [cloud], overflowAfter: 8h}]").await;
    world.submit("a", 1, 8).await;
    let due = |name: &str, deadline: &str| {
        let annotated = format!("metadata: {{annotations: {{muster.dev/deadline: {deadline:?}}}, ");
        create(name, &training(name, 1, 2).replacen("metadata: {", &annotated, 1))
    };
    let job = world.create(due("b", "2026-11-23T14:30:00Z")).await.expect("a sound job");
    let told = job.deadline.as_ref().and_then(muster_kit::time::from_proto);
    assert_eq!(told.map(|at| at.to_string()).as_deref(), Some("2026-11-23T14:30:00Z"));
    world.settle().await;
    // It is taken to last an hour, since nothing like it has finished.
    let why = world.explain("b").await;
    assert!(why.unblocked_by.contains(&"tier 2 opens at 2026-11-23T13:30:00Z".to_owned()), "{:?}", why.unblocked_by);
    world.pass(5_399);
    world.settle().await;
    assert!(!placed(&mut world, "b").await);
    world.pass(1);
    world.settle().await;
    assert_eq!(world.state("b").await, (State::Placed, "cloud".to_owned()));
    let refused = world.create(due("c", "tomorrow")).await.expect_err("no time");
    let fields = refused.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations).map(|fault| fault.field);
    assert_eq!(fields.collect::<Vec<_>>(), ["job.manifest.metadata.annotations[muster.dev/deadline]"]);
}

async fn told_of_spent(world: &World) -> Vec<serde_json::Value> {
    let told = "select state from event where topic = 'muster.jobs' and type = 'queue.budget_reached' order by event_id";
    sqlx::query_scalar(told).fetch_all(world.db.pool()).await.expect("events")
}

#[tokio::test]
async fn that_a_budget_is_spent_is_told_once_in_its_window_whoever_leads() {
    let mut world = World::with_clusters().await;
    world.queue("train", "budgets: [{gpuHours: 900, window: P30D}, {gpuHours: 8, window: day, enforcement: soft}]").await;
    world.submit("a", 1, 4).await;
    world.settle().await;
    world.pass(61);
    world.settle().await;
    assert!(told_of_spent(&world).await.is_empty(), "four GPU-hours are expected");
    world.submit("b", 1, 4).await;
    world.settle().await;
    for _ in 0..3 {
        world.pass(61);
        world.settle().await;
    }
    let told = told_of_spent(&world).await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0]["queue"].as_str(), told[0]["number"].as_u64()), (Some("queues/train"), Some(2)));
    assert_eq!((told[0]["budget"]["counted"].as_str(), told[0]["budget"]["window"].as_str()), (Some("28800"), Some("day")));
    // A new leader knows that it was told.
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    world.pass(61);
    world.settle().await;
    assert_eq!(told_of_spent(&world).await.len(), 1);
    // On the next day it is spent again.
    world.runs("idc", "a", 1).await;
    world.pass(86_400);
    world.settle().await;
    assert_eq!(told_of_spent(&world).await.len(), 2);
    // Who changes the queue is told where it stands.
    world.queue("train", "budgets: [{gpuHours: 9, window: day}]").await;
    world.settle().await;
    let told = told_of_spent(&world).await;
    assert_eq!((told.len(), told[2]["number"].as_u64(), told[2]["budget"]["hard"].as_bool()), (3, Some(1), Some(true)));
}
