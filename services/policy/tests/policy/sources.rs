//! Policies from git, through the rollout service.

use crate::{
    bindings::{bind, problems},
    harness::{Service, binding, policy},
    policies::create,
    verdicts::allowed,
};
use muster_proto::policy::v1 as proto;

const REPOSITORY: &str = "namespaces/ops/gitRepositories/repo";

async fn bound_from_git() -> Service {
    let service = Service::start().await;
    let entry = "{name: p, source: {gitRepositoryRef: {name: repo}, path: p.yaml}}";
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &[entry]))).await.expect("bound");
    service
}

#[tokio::test]
async fn a_policy_from_git_holds_once_it_is_read() {
    let service = bound_from_git().await;
    assert_eq!(problems(&service, "b").await, ["not read yet"]);
    assert!(allowed(&service).await);
    service.repositories.put(REPOSITORY, "p.yaml", Ok(("c1", &policy("p", "owner"))));
    service.tick_sources().await;
    let request = proto::GetFleetPolicyRequest { name: "fleetPolicies/b".to_owned() };
    let found = service.bindings().get_fleet_policy(request).await.expect("there").into_inner();
    let expected = proto::BoundPolicy {
        policy: "policies/p".to_owned(),
        source: "git".to_owned(),
        commit: "c1".to_owned(),
        problem: String::new(),
    };
    assert_eq!(found.policies, [expected]);
    assert!(!allowed(&service).await);
}

#[tokio::test]
async fn a_second_reading_of_the_same_changes_nothing() {
    let service = bound_from_git().await;
    service.repositories.put(REPOSITORY, "p.yaml", Ok(("c1", &policy("p", "owner"))));
    service.tick_sources().await;
    let (catalog, events) = (service.app.catalog().await.expect("a catalog"), service.events().await);
    service.tick_sources().await;
    assert_eq!(service.app.catalog().await.expect("a catalog").revision, catalog.revision);
    assert_eq!(service.events().await, events);
}

#[tokio::test]
async fn a_repository_that_vanishes_leaves_what_was_read_in_force_and_says_so() {
    let service = bound_from_git().await;
    service.repositories.put(REPOSITORY, "p.yaml", Ok(("c1", &policy("p", "owner"))));
    service.tick_sources().await;
    service.repositories.put(REPOSITORY, "p.yaml", Err("the repository is unreachable"));
    service.tick_sources().await;
    assert_eq!(problems(&service, "b").await, ["the repository is unreachable"]);
    assert!(!allowed(&service).await);
    service.repositories.put(REPOSITORY, "p.yaml", Ok(("c2", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n")));
    service.tick_sources().await;
    assert_eq!(problems(&service, "b").await, ["the file holds no policy p (it holds: x)"]);
    assert!(!allowed(&service).await);
}

#[tokio::test]
async fn git_and_a_policy_of_the_same_name_are_one_while_their_content_is_equal() {
    let service = bound_from_git().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    assert!(!allowed(&service).await, "the name stands for that content, read from git or not");
    service.repositories.put(REPOSITORY, "p.yaml", Ok(("c1", &policy("p", "owner"))));
    service.tick_sources().await;
    assert_eq!(problems(&service, "b").await, [""]);
    service.repositories.put(REPOSITORY, "p.yaml", Ok(("c2", &policy("p", "team"))));
    service.tick_sources().await;
    assert_eq!(problems(&service, "b").await, ["another policy of this name has other content"]);
}
