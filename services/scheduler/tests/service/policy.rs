//! Verdicts: at submit, and again at dispatch.

use muster_kit::reconcile::Reconciler;
use muster_proto::scheduler::v1::{CreateJobRequest, GetJobRequest, job::State};
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{Says, World, create, resource, training, violation};

#[tokio::test]
async fn a_job_that_breaks_policy_is_refused_with_every_violation_and_nothing_is_stored() {
    let mut world = World::with_clusters().await;
    *world.policy.says.lock().unwrap() =
        Says::No(vec![violation("require-limits", "/spec/a"), violation("no-latest", "/spec/b")]);
    let refused = world.create(create("train", &training("train", 1, 1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let violations = refused.get_details_precondition_failure().expect("violations").violations;
    let said: Vec<(&str, &str, &str)> = violations
        .iter()
        .map(|violation| (violation.r#type.as_str(), violation.subject.as_str(), violation.description.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("policies/baseline/rules/require-limits", "Job ml/train /spec/a", "require-limits is broken"),
            ("policies/baseline/rules/no-latest", "Job ml/train /spec/b", "no-latest is broken"),
        ]
    );
    assert_eq!(world.jobs.get_job(GetJobRequest { name: resource("train") }).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_verdict_is_of_the_object_as_it_will_be_and_of_the_clusters_it_may_go_to() {
    let mut world = World::with_clusters().await;
    world.queue("train", "tiers: [{clusters: [cloud]}]").await;
    world.submit("train", 1, 1).await;
    world.settle().await;
    let asked = world.policy.asked.lock().unwrap();
    assert_eq!(asked[0].1, ["cloud"]);
    assert_eq!(asked[0].0["metadata"]["labels"]["muster.dev/queue"], "train");
    assert_eq!(asked[1].1, ["cloud"]);
}

#[tokio::test]
async fn what_was_accepted_is_answered_again_however_policies_have_turned() {
    let mut world = World::with_clusters().await;
    let request = CreateJobRequest {
        request_id: "5f0c5f4e-6d60-4d3c-9d4e-0d3b1f6f0a01".to_owned(),
        ..create("train", &training("train", 1, 1))
    };
    let first = world.create(request.clone()).await.expect("allowed");
    for says in [Says::No(vec![violation("require-limits", "/spec/a")]), Says::Away] {
        *world.policy.says.lock().unwrap() = says;
        assert_eq!(world.create(request.clone()).await.expect("a repetition"), first);
        assert_eq!(world.create(create("train", &training("train", 1, 1))).await.expect("the same job").name, first.name);
        let other = world.create(create("train", &training("train", 2, 1))).await.unwrap_err();
        assert_eq!(other.code(), Code::AlreadyExists, "{other:?}");
    }
}

#[tokio::test]
async fn a_verdict_that_turned_before_dispatch_refuses_the_job_and_no_cluster_hears_of_it() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 8).await;
    world.lead.tick().await.unwrap();
    *world.policy.says.lock().unwrap() = Says::No(vec![violation("require-limits", "/spec/a")]);
    world.settle().await;
    let job = world.job("train").await;
    assert_eq!(job.state(), State::Refused);
    assert!(job.reason.contains("policy baseline rule require-limits at /spec/a"), "{}", job.reason);
    assert!(world.items("idc").is_empty());
    *world.policy.says.lock().unwrap() = Says::Yes;
    world.submit("next", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("next").await, (State::Placed, "idc".to_owned()), "its GPUs are free again");
}

#[tokio::test]
async fn without_the_policy_service_nothing_is_submitted_and_nothing_dispatched_unchecked() {
    let mut world = World::with_clusters().await;
    world.submit("early", 1, 1).await;
    world.lead.tick().await.unwrap();
    *world.policy.says.lock().unwrap() = Says::Away;
    assert_eq!(world.create(create("late", &training("late", 1, 1))).await.unwrap_err().code(), Code::Unavailable);
    assert!(world.tell.tick().await.is_err(), "it is tried again");
    assert!(world.items("idc").is_empty());
    assert!(world.job("early").await.reason.contains("the policy service is away"));
    *world.policy.says.lock().unwrap() = Says::Yes;
    world.settle().await;
    assert_eq!(world.items("idc"), ["jobs/ml/early/1", "queues/train"]);
}
