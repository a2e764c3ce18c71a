//! Jobs that read a dataset, tiers that open by what waits, and the order of a list, from the manifest to the cost report.

use muster_kit::clock::Clock;
use muster_kit::time::to_proto;
use muster_proto::registry::v1::{Cluster, EgressPrice};
use muster_proto::scheduler::v1::job::State;
use muster_proto::scheduler::v1::{GetQueueRequest, ReportCostRequest, Usage, report_cost_request::GroupBy};
use muster_scheduler::domain::job::RunPhase;
use tonic_types::StatusExt;

use crate::world::{World, create, member, training};

/// A job that reads so many GiB in `eu`.
fn reads(name: &str, gpus: u32, gib: u32) -> String {
    let annotations = format!("{{muster.dev/dataset: eu, muster.dev/dataset-size: {gib}Gi}}");
    training(name, 1, gpus).replace("metadata: {name", &format!("metadata: {{annotations: {annotations}, name"))
}

fn in_region(name: &str, region: &str, micros: i64) -> Cluster {
    Cluster { region: region.to_owned(), ..member(name, 1, "V100", micros) }
}

/// `home` at 3 in `eu`, `away` at 1 in `us`, into which a GiB out of `eu` costs 0.02.
async fn home_and_away(queue: &str) -> World {
    let mut world = World::new().await;
    world.join(in_region("home", "eu", 3_000_000)).await;
    let egress = EgressPrice { from: "eu".to_owned(), micros_per_gib: 20_000, currency: "EUR".to_owned() };
    world.join(Cluster { egress: vec![egress], ..in_region("away", "us", 1_000_000) }).await;
    world.queue("train", queue).await;
    world
}

impl World {
    async fn usage_by_queue(&mut self, from: i64) -> Usage {
        let start = self.clock.now().checked_sub(jiff::SignedDuration::from_secs(from)).unwrap();
        let request =
            ReportCostRequest { group_by: GroupBy::Queue.into(), start_time: Some(to_proto(start)), ..Default::default() };
        self.queues.report_cost(request).await.expect("a report").into_inner().rows.remove(0).usage.expect("usage")
    }
}

#[tokio::test]
async fn data_is_moved_where_that_costs_less_than_it_saves_and_is_charged_once() {
    let mut world = home_and_away("").await;
    world.create(create("small", &reads("small", 4, 100))).await.expect("a sound job");
    world.create(create("large", &reads("large", 4, 900))).await.expect("a sound job");
    let why = world.explain("large").await;
    assert_eq!(
        why.preference,
        "V100 on home comes before V100 on away: an hour's work costs 3.00 there, and costs 5.50 with 4.50 of it for moving its \
         dataset on the other"
    );
    let away = why.candidates.iter().find(|candidate| candidate.cluster == "clusters/away").unwrap();
    assert_eq!(away.reason, "has room; moving 900Gi out of eu costs 18.00");
    let start = world.explain("small").await.expected_start.expect("a start");
    assert_eq!(start.cost_micros, 6_000_000, "four hours of a GPU and 2 for moving 100 GiB");
    world.settle().await;
    assert_eq!(world.state("small").await, (State::Placed, "away".to_owned()));
    assert_eq!(world.state("large").await, (State::Placed, "home".to_owned()));

    world.runs("away", "small", 1).await;
    world.pass(1_800);
    world.ends("away", "small", 1, RunPhase::Succeeded).await;
    let usage = world.job("small").await.usage.unwrap();
    assert_eq!((usage.cost_micros, usage.egress_micros, usage.currency.as_str()), (4_000_000, 2_000_000, "EUR"));
    assert_eq!(world.usage_by_queue(3_600).await.egress_micros, 2_000_000);
    assert_eq!(world.usage_by_queue(60).await.egress_micros, 0, "it was moved before that");
    world.runs("home", "large", 1).await;
    world.pass(3_600);
    world.ends("home", "large", 1, RunPhase::Succeeded).await;
    let usage = world.job("large").await.usage.unwrap();
    assert_eq!((usage.cost_micros, usage.egress_micros), (12_000_000, 0));
}

#[tokio::test]
async fn what_moving_costs_counts_in_a_budget_of_money_also_after_a_restart() {
    let mut world = home_and_away("tiers: [{clusters: [away]}], budgets: [{money: 8, window: day}]").await;
    world.create(create("small", &reads("small", 4, 100))).await.expect("a sound job");
    world.create(create("next", &reads("next", 1, 100))).await.expect("a sound job");
    world.settle().await;
    assert_eq!(world.state("small").await.0, State::Placed);
    assert_eq!(world.state("next").await.0, State::Queued, "6 count, and 1 with 2 for its dataset would be more than 8");
    let counted = async |world: &mut World| {
        let request = GetQueueRequest { name: "queues/train".to_owned() };
        world.queues.get_queue(request).await.expect("a queue").into_inner().budgets[0].counted
    };
    assert_eq!(counted(&mut world).await, 6_000_000, "4 that are expected, and 2");
    // A new leader reads the same from the tables.
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    assert_eq!(world.state("next").await.0, State::Queued);
    let explained = world.explain("next").await;
    let limit =
        "budget 1 of queue \"train\" exceeded by 1.00 of money: 6.00 of money counted + 3.00 of money expected > 8.00 of money";
    assert_eq!(explained.queue_limits, [limit]);
    world.runs("away", "small", 1).await;
    world.pass(1_800);
    world.ends("away", "small", 1, RunPhase::Succeeded).await;
    assert_eq!(counted(&mut world).await, 4_000_000);
    world.settle().await;
    world.pass(2);
    world.settle().await;
    assert_eq!(world.state("next").await.0, State::Placed);
}

#[tokio::test]
async fn a_dataset_that_is_said_by_half_is_refused_by_its_annotation() {
    let mut world = home_and_away("").await;
    let manifest = reads("job", 1, 1).replace(", muster.dev/dataset-size: 1Gi", "");
    let refused = world.create(create("job", &manifest)).await.expect_err("half a dataset");
    let violations = refused.get_details_bad_request().expect("a field").field_violations;
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["job.manifest.metadata.annotations[muster.dev/dataset-size]"]);
}

#[tokio::test]
async fn a_tier_opens_while_more_waits_than_its_threshold_and_explain_says_so() {
    let mut world = home_and_away("tiers: [{clusters: [home]}, {clusters: [away], overflowAboveWaiting: {gpus: 8}}]").await;
    world.submit("one", 1, 8).await;
    world.submit("two", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("one").await, (State::Placed, "home".to_owned()));
    let why = world.explain("two").await;
    let away = why.candidates.iter().find(|candidate| candidate.cluster == "clusters/away").unwrap();
    let threshold = "opens when more than 8 GPUs wait in queue \"train\"; 8 do";
    assert_eq!(away.reason, format!("its tier {threshold}"));
    assert!(why.unblocked_by.contains(&format!("tier 2 {threshold}")), "{why:?}");
    world.submit("three", 1, 1).await;
    world.settle().await;
    assert_eq!(world.state("two").await, (State::Placed, "away".to_owned()));
    assert_eq!(world.state("three").await.0, State::Queued, "only one GPU waits now");
}

#[tokio::test]
async fn what_a_queue_lists_first_comes_first() {
    let mut world = home_and_away("placement: listed, tiers: [{clusters: [home, away]}]").await;
    world.submit("one", 1, 8).await;
    assert_eq!(world.explain("one").await.preference, "V100 on home comes before V100 on away: its tier lists it first");
    world.settle().await;
    assert_eq!(world.state("one").await, (State::Placed, "home".to_owned()));
}
