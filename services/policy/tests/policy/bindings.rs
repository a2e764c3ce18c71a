//! Bindings over gRPC.

use crate::{
    harness::{Service, binding, policy},
    policies::{create, update},
};
use muster_proto::policy::v1 as proto;
use tonic::Code;

pub fn bind(manifest: &str) -> proto::UpdateFleetPolicyRequest {
    let fleet_policy = proto::FleetPolicy { manifest: manifest.to_owned(), ..Default::default() };
    proto::UpdateFleetPolicyRequest { fleet_policy: Some(fleet_policy), allow_missing: true, ..Default::default() }
}

pub async fn problems(service: &Service, name: &str) -> Vec<String> {
    let request = proto::GetFleetPolicyRequest { name: format!("fleetPolicies/{name}") };
    let found = service.bindings().get_fleet_policy(request).await.expect("there").into_inner();
    found.policies.into_iter().map(|bound| bound.problem).collect()
}

/// A policy as it stands in a binding, as JSON on one line.
pub fn inline(name: &str, label: &str) -> String {
    let document = muster_core::manifest::parse_one(&policy(name, label)).expect("a policy").value;
    format!("{{name: {name}, inline: {document}}}")
}

#[tokio::test]
async fn a_binding_may_come_before_its_policy() {
    let service = Service::start().await;
    let bound = service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}"]))).await.expect("bound");
    let bound = bound.into_inner();
    assert_eq!((bound.name.as_str(), bound.fleet.as_str()), ("fleetPolicies/b", "fleets/edge"));
    assert_eq!(problems(&service, "b").await, ["there is no policy of this name"]);
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    assert_eq!(problems(&service, "b").await, [""]);
    assert_eq!(service.events().await, ["policy.bound", "policy.bound", "policy.created"]);
}

#[tokio::test]
async fn inline_content_under_a_name_that_has_other_content_is_refused() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    let other = bind(&binding("b", "edge", &[&inline("p", "team")]));
    let refused = service.bindings().update_fleet_policy(other).await.expect_err("other content");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("fleet_policy.manifest.spec.policies[0].inline"), "{}", refused.message());
    let equal = bind(&binding("b", "edge", &[&inline("p", "owner")]));
    service.bindings().update_fleet_policy(equal).await.expect("the same policy twice is one");
    assert_eq!(problems(&service, "b").await, [""]);
    let changed = service.policies().update_policy(update(&policy("p", "team"))).await.expect_err("it stands inline");
    assert_eq!(changed.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_binding_is_replaced_whole_and_listed() {
    let service = Service::start().await;
    let mut client = service.bindings();
    for name in ["a", "b", "c"] {
        client.update_fleet_policy(bind(&binding(name, "edge", &["{name: p}", "{name: q}"]))).await.expect("bound");
    }
    client.update_fleet_policy(bind(&binding("b", "train", &["{name: q, action: audit}"]))).await.expect("replaced");
    let request = proto::ListFleetPoliciesRequest { page_size: 2, ..Default::default() };
    let page = client.list_fleet_policies(request).await.expect("a page").into_inner();
    let shape = |binding: &proto::FleetPolicy| (binding.name.clone(), binding.fleet.clone(), binding.policies.len());
    let shapes: Vec<_> = page.fleet_policies.iter().map(shape).collect();
    let expected = [("fleetPolicies/a", "fleets/edge", 2), ("fleetPolicies/b", "fleets/train", 1)];
    assert_eq!(shapes, expected.map(|(name, fleet, count)| (name.to_owned(), fleet.to_owned(), count)));
    let request = proto::ListFleetPoliciesRequest { page_size: 2, page_token: page.next_page_token };
    let last = client.list_fleet_policies(request).await.expect("a page").into_inner();
    assert_eq!((last.fleet_policies.len(), last.next_page_token.as_str()), (1, ""));
}

#[tokio::test]
async fn the_same_binding_again_is_one_and_from_another_namespace_a_collision() {
    let service = Service::start().await;
    let mut client = service.bindings();
    let manifest = binding("b", "edge", &["{name: p}"]);
    let create = |manifest: &str| proto::CreateFleetPolicyRequest {
        fleet_policy: Some(proto::FleetPolicy { manifest: manifest.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let first = client.create_fleet_policy(create(&manifest)).await.expect("made").into_inner();
    assert_eq!(client.create_fleet_policy(create(&manifest)).await.expect("one").into_inner(), first);
    assert_eq!(client.update_fleet_policy(bind(&manifest)).await.expect("one").into_inner(), first);
    let other = client.create_fleet_policy(create(&binding("b", "train", &["{name: p}"]))).await.expect_err("other content");
    assert_eq!(other.code(), Code::AlreadyExists);
    let elsewhere = bind(&manifest.replace("namespace: ops", "namespace: dev"));
    assert_eq!(client.update_fleet_policy(elsewhere).await.expect_err("collision").code(), Code::AlreadyExists);
}

#[tokio::test]
async fn writers_of_one_name_at_once_all_get_through() {
    let service = Service::start().await;
    let writes = (0..12).map(|number| {
        let (mut policies, mut bindings) = (service.policies(), service.bindings());
        async move {
            let label = format!("label-{number}");
            match number % 2 {
                0 => policies.update_policy(update(&policy("p", &label))).await.map(|_| ()),
                _ => {
                    let name = format!("b-{}", number % 4);
                    let entry = format!("{{name: p, namespaces: [\"{label}\"]}}");
                    bindings.update_fleet_policy(bind(&binding(&name, "edge", &[&entry, "{name: q}"]))).await.map(|_| ())
                }
            }
        }
    });
    for outcome in futures::future::join_all(writes).await {
        outcome.expect("written");
    }
    assert_eq!(problems(&service, "b-1").await, ["", "there is no policy of this name"]);
    assert_eq!(problems(&service, "b-3").await, ["", "there is no policy of this name"]);
}
