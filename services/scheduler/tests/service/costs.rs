//! GPU-hours, money, energy and emissions, by every grouping and window.

use muster_kit::clock::Clock;
use muster_kit::time::to_proto;
use muster_proto::registry::v1::Cluster;
use muster_proto::scheduler::v1::{DeleteJobRequest, ReportCostRequest, report_cost_request::GroupBy};
use muster_scheduler::domain::job::RunPhase;

use crate::world::{World, create, member, resource, training};

async fn report(world: &mut World, group: GroupBy) -> Vec<(String, f64, i64, u32)> {
    let request = ReportCostRequest { group_by: group.into(), ..Default::default() };
    let rows = world.queues.report_cost(request).await.expect("a report").into_inner().rows;
    rows.into_iter()
        .map(|row| (row.key, row.usage.as_ref().unwrap().gpu_seconds, row.usage.unwrap().cost_micros, row.runs))
        .collect()
}

#[tokio::test]
async fn gpus_times_seconds_times_price_by_queue_job_model_and_cluster() {
    let mut world = World::with_clusters().await;
    for (name, model) in [("one", "models/resnet50"), ("two", "")] {
        let mut request = create(name, &training(name, 1, 8));
        request.job.as_mut().unwrap().model = model.to_owned();
        world.create(request).await.unwrap();
    }
    world.settle().await;
    world.runs("idc", "one", 1).await;
    world.runs("cloud", "two", 1).await;
    world.pass(450);
    world.ends("idc", "one", 1, RunPhase::Succeeded).await;
    world.pass(450);
    // "one": 8 × 450 s at 1 EUR/h; "two": 8 × 900 s at 4 EUR/h and still running.
    assert_eq!(report(&mut world, GroupBy::Queue).await, [("queues/train".to_owned(), 10_800.0, 9_000_000, 2)]);
    assert_eq!(
        report(&mut world, GroupBy::Job).await,
        [(resource("one"), 3_600.0, 1_000_000, 1), (resource("two"), 7_200.0, 8_000_000, 1)]
    );
    assert_eq!(
        report(&mut world, GroupBy::Model).await,
        [(String::new(), 7_200.0, 8_000_000, 1), ("models/resnet50".to_owned(), 3_600.0, 1_000_000, 1)]
    );
    assert_eq!(
        report(&mut world, GroupBy::Cluster).await,
        [("clusters/cloud".to_owned(), 7_200.0, 8_000_000, 1), ("clusters/idc".to_owned(), 3_600.0, 1_000_000, 1)]
    );
    world.jobs.delete_job(DeleteJobRequest { name: resource("one"), ..Default::default() }).await.unwrap();
    assert_eq!(report(&mut world, GroupBy::Queue).await[0].3, 2, "what a deleted job used stays in the report");
}

#[tokio::test]
async fn a_window_counts_only_what_lies_in_it_and_pages_walk_all_rows() {
    let mut world = World::with_clusters().await;
    for name in ["a", "b", "c"] {
        world.submit(name, 1, 2).await;
    }
    world.settle().await;
    for name in ["a", "b", "c"] {
        world.runs("idc", name, 1).await;
    }
    world.pass(100);
    let start = to_proto(world.clock.now());
    world.pass(50);
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ReportCostRequest {
            group_by: GroupBy::Job.into(),
            start_time: Some(start),
            page_size: 1,
            page_token,
            ..Default::default()
        };
        let answer = world.queues.report_cost(request).await.unwrap().into_inner();
        assert_eq!(answer.rows[0].usage.as_ref().unwrap().gpu_seconds, 100.0);
        keys.extend(answer.rows.into_iter().map(|row| row.key));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(keys, [resource("a"), resource("b"), resource("c")]);
}

/// A member that draws 300 W a GPU, with the grams of CO2e of its electricity by hour.
fn drawing(name: &str, micros: i64, grams_per_kwh: &[u32]) -> Cluster {
    let mut cluster = member(name, 1, "V100", micros);
    for price in &mut cluster.prices {
        (price.watts, price.grams_per_kwh) = (300, grams_per_kwh.to_vec());
    }
    cluster
}

#[tokio::test]
async fn jobs_go_where_they_emit_least_at_the_hour_and_their_energy_is_reported() {
    let mut world = World::new().await;
    // At noon idc is greener, from one o'clock on north is, which always emits the same.
    let by_hour: Vec<u32> = (0..24).map(|hour| if hour < 13 { 40 } else { 400 }).collect();
    world.join(drawing("idc", 1_000_000, &by_hour)).await;
    world.join(drawing("north", 2_000_000, &[100])).await;
    world.queue("train", "placement: greenest").await;
    world.submit("noon", 1, 4).await;
    world.settle().await;
    assert_eq!(world.state("noon").await.1, "idc");
    world.runs("idc", "noon", 1).await;
    world.pass(3_600);
    world.submit("one", 1, 4).await;
    let why = world.explain("one").await;
    assert_eq!(
        why.preference,
        "V100 on north comes before V100 on idc: an hour's work emits 30.0 g of CO2e there, and emits 120.0 g of CO2e on the other"
    );
    world.settle().await;
    assert_eq!(world.state("one").await.1, "north");
    let emits = |cluster: &str| {
        why.candidates.iter().find(|candidate| candidate.cluster == cluster).unwrap().models[0].milligrams_per_work_hour
    };
    assert_eq!(emits("clusters/north"), 30_000);
    world.ends("idc", "noon", 1, RunPhase::Succeeded).await;
    let request = ReportCostRequest { group_by: GroupBy::Queue.into(), ..Default::default() };
    let rows = world.queues.report_cost(request).await.expect("a report").into_inner().rows;
    let usage = rows[0].usage.clone().unwrap();
    assert_eq!((usage.energy_kwh, usage.emission_grams), (1.2, 48.0), "4 GPUs for an hour, at the rate of the decision");
    let job = world.job("noon").await.usage.unwrap();
    assert_eq!((job.energy_kwh, job.emission_grams), (1.2, 48.0));
}
