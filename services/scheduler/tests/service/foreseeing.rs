//! What is foreseen: when a job is expected to start, and what would be if something were otherwise.

use muster_proto::scheduler::v1::{
    ForeseenStart, WhatIfChange, WhatIfNodes, WhatIfPrice, WhatIfRequest, WhatIfResponse, what_if_change::Change,
};
use muster_scheduler::domain::job::RunPhase;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::world::{World, resource};

/// (seconds since the clock began to stand still, cluster).
fn at(world: &World, start: &ForeseenStart) -> (i64, String) {
    use muster_kit::clock::Clock;
    let seconds = start.time.as_ref().expect("a time").seconds - world.clock.now().as_second();
    (seconds, start.cluster.trim_start_matches("clusters/").to_owned())
}

async fn what_if(world: &mut World, changes: Vec<Change>) -> Result<WhatIfResponse, Status> {
    let changes = changes.into_iter().map(|change| WhatIfChange { change: Some(change) }).collect();
    world.jobs.what_if(WhatIfRequest { changes, ..WhatIfRequest::default() }).await.map(tonic::Response::into_inner)
}

fn nodes(cluster: &str, flavor: &str, count: i32) -> Change {
    Change::Nodes(WhatIfNodes { cluster: format!("clusters/{cluster}"), flavor: flavor.to_owned(), count })
}

/// Both clusters are full, and `next` waits: `eval` took a minute once, of `a-1` and `b-1` nothing is known.
async fn full() -> World {
    let mut world = World::with_clusters().await;
    world.submit("eval-1", 1, 8).await;
    world.settle().await;
    world.runs("idc", "eval-1", 1).await;
    world.settle().await;
    world.pass(60);
    world.ends("idc", "eval-1", 1, RunPhase::Succeeded).await;
    world.settle().await;
    for name in ["eval-2", "b-1"] {
        world.submit(name, 1, 8).await;
        world.settle().await;
    }
    world.runs("idc", "eval-2", 1).await;
    world.runs("cloud", "b-1", 1).await;
    world.submit("next", 1, 8).await;
    world.settle().await;
    world
}

#[tokio::test]
async fn a_waiting_job_is_told_when_it_is_expected_to_start_and_how_sure_that_is() {
    let mut world = full().await;
    let why = world.explain("next").await;
    let (expected, late) = (why.expected_start.expect("within 30 days"), why.late_start.expect("within 30 days"));
    let (seconds, cluster) = at(&world, &expected);
    // Runs of a minute are of the level from 48 s to 64 s.
    assert!((48..=64).contains(&seconds), "{seconds}");
    assert_eq!(cluster, "idc");
    assert_eq!((expected.ends_before, expected.ends_learned, expected.learned), (1, 1, false));
    assert_eq!((expected.lasts_seconds, expected.cost_micros), (3_600, 8_000_000));
    assert_eq!(at(&world, &late), (seconds, cluster), "all of its like took as long");
    assert_eq!(world.explain("eval-2").await.expected_start, None, "it runs");
}

#[tokio::test]
async fn more_nodes_another_price_and_another_queue_are_answered_and_nothing_is_changed() {
    let mut world = full().await;
    let before = world.app.mind.lock().unwrap().as_ref().expect("a leader's mind").engine.rows();

    let answer = what_if(&mut world, vec![nodes("cloud", "A100", 1)]).await.expect("an answer");
    let [job] = answer.jobs.as_slice() else { panic!("one job: {answer:?}") };
    assert_eq!(job.job, resource("next"));
    assert_eq!(at(&world, job.today.as_ref().expect("today")).1, "idc");
    let then = job.then.as_ref().expect("then");
    assert_eq!((at(&world, then), then.cost_micros), ((0, "cloud".to_owned()), 32_000_000));
    let (today, then) = (answer.today.expect("today"), answer.then.expect("then"));
    assert_eq!((today.waiting, today.started, then.started, then.mean_wait_seconds), (1, 1, 1, 0.0));

    let price = Change::Price(WhatIfPrice {
        cluster: "clusters/idc".to_owned(),
        flavor: "V100".to_owned(),
        micros_per_gpu_hour: 500_000,
    });
    let answer = what_if(&mut world, vec![price]).await.expect("an answer");
    assert_eq!(answer.jobs[0].then.as_ref().expect("then").cost_micros, 4_000_000);

    let manifest =
        "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec: {budgets: [{gpuHours: 1, window: day}]}\n";
    let answer = what_if(&mut world, vec![Change::QueueManifest(manifest.to_owned())]).await.expect("an answer");
    assert_eq!(answer.jobs[0].then, None, "the budget does not allow it");

    let after = world.app.mind.lock().unwrap().as_ref().expect("a leader's mind").engine.rows();
    assert_eq!(before, after);
    world.settle().await;
    assert_eq!(world.explain("next").await.position, 1, "it waits as before");
}

#[tokio::test]
async fn a_question_that_can_not_be_answered_names_its_field() {
    let mut world = World::with_clusters().await;
    world.settle().await;
    let cases = [
        (vec![], "changes"),
        (vec![nodes("idc", "V100", 0)], "changes[0].nodes.count"),
        (vec![nodes("idc", "V100", 1), nodes("nowhere", "V100", 1)], "changes[1].nodes.cluster"),
        (vec![nodes("idc", "H100", 1)], "changes[0].nodes"),
        (vec![nodes("idc", "V100", -2)], "changes[0].nodes"),
        (vec![Change::QueueManifest("kind: Queue\n".to_owned())], "changes[0].queue_manifest"),
    ];
    for (changes, field) in cases {
        let refused = what_if(&mut world, changes).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let named = refused.get_details_bad_request().expect("a field").field_violations.remove(0).field;
        assert!(named.starts_with(field), "{named} is not {field}");
    }
}
