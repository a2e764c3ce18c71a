//! What a submit takes and what it refuses.

use muster_proto::scheduler::v1::{Job, job::State};
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{World, create, member, training};

fn field(status: &tonic::Status) -> String {
    status.get_details_bad_request().expect("a field violation").field_violations[0].field.clone()
}

#[tokio::test]
async fn the_cheap_cluster_fills_the_next_overflows_and_the_one_past_the_capability_waits() {
    let mut world = World::with_clusters().await;
    world.queue("train", "capability: {nvidia.com/gpu: 12}").await;
    for name in ["one", "two", "three", "four"] {
        world.submit(name, 1, 4).await;
    }
    world.settle().await;
    assert_eq!(world.state("one").await, (State::Placed, "idc".to_owned()));
    assert_eq!(world.state("two").await, (State::Placed, "idc".to_owned()));
    assert_eq!(world.state("three").await, (State::Placed, "cloud".to_owned()));
    assert_eq!(world.state("four").await.0, State::Queued);
    let explanation = world.explain("four").await;
    assert_eq!(explanation.queue_limits, [r#"capability of queue "train" exceeded by 4 nvidia.com/gpu: 12 used + 4 asked > 12"#]);
    assert_eq!((explanation.position, explanation.waiting_jobs), (1, 1));
    let clusters: Vec<(&str, bool, &str)> = explanation
        .candidates
        .iter()
        .map(|candidate| (candidate.cluster.as_str(), candidate.fits, candidate.flavor.as_str()))
        .collect();
    assert_eq!(clusters, [("clusters/idc", false, "V100"), ("clusters/cloud", true, "A100")]);
}

#[tokio::test]
async fn a_gang_that_does_not_fit_whole_waits_whole() {
    let mut world = World::new().await;
    world.join(member("idc", 2, "V100", 1)).await;
    world.queue("train", "").await;
    world.submit("first", 1, 8).await;
    world.submit("gang", 2, 8).await;
    world.settle().await;
    assert_eq!(world.state("gang").await.0, State::Queued);
    let explanation = world.explain("gang").await;
    assert!(
        explanation.candidates[0].reason.ends_with("room for 1, short of cpu and nvidia.com/gpu")
            || explanation.candidates[0].reason.contains("room for 1, short of nvidia.com/gpu"),
        "{explanation:?}"
    );
    assert_eq!(world.items("idc"), ["jobs/ml/first/1", "queues/train"]);
}

#[tokio::test]
async fn the_same_job_again_is_the_same_job_and_another_of_its_name_is_refused() {
    let mut world = World::with_clusters().await;
    let first = world.submit("train", 1, 1).await;
    let again = world.submit("train", 1, 1).await;
    assert_eq!((first.name, first.etag), (again.name, again.etag));
    let other = world.create(create("train", &training("train", 2, 1))).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    assert!(other.message().contains("generateName"), "{other:?}");
}

#[tokio::test]
async fn a_finished_jobs_name_is_taken_and_generate_name_makes_another() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world
        .jobs
        .cancel_job(muster_proto::scheduler::v1::CancelJobRequest { name: crate::world::resource("train"), ..Default::default() })
        .await
        .unwrap();
    let refused = world.create(create("train", &training("train", 1, 1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let manifest = training("x", 1, 1).replace("name: x", "generateName: train-");
    let (one, two) = (world.create(create("", &manifest)).await.unwrap(), world.create(create("", &manifest)).await.unwrap());
    assert_ne!(one.name, two.name);
    assert!(one.name.starts_with("namespaces/ml/jobs/train-"), "{}", one.name);
}

#[tokio::test]
async fn what_is_impossible_is_refused_by_field() {
    let mut world = World::with_clusters().await;
    let cases = [
        (training("j", 3, 8), "job.manifest.spec"),
        (
            training("j", 1, 1).replace("cpu: 4", "cpu: -4"),
            "job.manifest.spec.tasks[0].template.spec.containers[0].resources.limits[cpu]",
        ),
        (training("j", 0, 1), "job.manifest.spec.tasks"),
        (training("j", 1, 1).replace("queue: train", "queue: Train!"), "job.manifest.spec.queue"),
        (training("J_", 1, 1), "job.manifest.metadata.name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: j}\n".to_owned(), "job.manifest"),
        ("a: [".to_owned(), "job.manifest"),
    ];
    for (manifest, expected) in cases {
        let refused = world.create(create("", &manifest)).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, expected), "{manifest}");
    }
    let too_large = world.create(create("", &training("j", 3, 8))).await.unwrap_err();
    assert!(too_large.message().contains("idc: room for 1 of 3 workers"), "{too_large:?}");
}

#[tokio::test]
async fn a_job_may_come_before_its_queue_and_says_what_it_waits_for() {
    let mut world = World::new().await;
    world.join(member("idc", 1, "V100", 1)).await;
    world.submit("early", 1, 1).await;
    world.settle().await;
    assert_eq!(world.explain("early").await.summary, r#"queue "train" does not exist"#);
    world.queue("train", "").await;
    world.settle().await;
    assert_eq!(world.state("early").await, (State::Placed, "idc".to_owned()));
}

#[tokio::test]
async fn validate_only_stores_nothing() {
    let mut world = World::with_clusters().await;
    let mut request = create("dry", &training("dry", 1, 1));
    request.validate_only = true;
    let job = world.create(request).await.unwrap();
    assert_eq!(job.state(), State::Queued);
    let missing = world.jobs.get_job(muster_proto::scheduler::v1::GetJobRequest { name: job.name }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn priority_goes_first_and_can_be_changed_while_a_job_waits() {
    let mut world = World::new().await;
    world.join(member("idc", 1, "V100", 1)).await;
    world.queue("train", "").await;
    for name in ["running", "second", "third"] {
        world.submit(name, 1, 8).await;
    }
    world.settle().await;
    let job = Job { name: crate::world::resource("third"), priority: Some(10), ..Job::default() };
    let request = muster_proto::scheduler::v1::UpdateJobRequest { job: Some(job), ..Default::default() };
    world.jobs.update_job(request).await.unwrap();
    world.runs("idc", "running", 1).await;
    world.ends("idc", "running", 1, muster_scheduler::domain::job::RunPhase::Succeeded).await;
    world.settle().await;
    assert_eq!(world.state("third").await.0, State::Placed);
    assert_eq!(world.state("second").await.0, State::Queued);
}

#[tokio::test]
async fn names_too_long_to_label_pods_are_refused() {
    let mut world = World::with_clusters().await;
    let refused = world.create(create("", &training(&"a".repeat(54), 1, 1))).await.unwrap_err();
    assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "job.manifest.metadata.name"));
    world.create(create("", &training(&"a".repeat(53), 1, 1))).await.expect("55 characters with the namespace");
}
