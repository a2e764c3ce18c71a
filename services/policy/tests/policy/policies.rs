//! Policies over gRPC.

use crate::harness::{Service, binding, person, policy};
use muster_kit::{Caller, Role};
use muster_proto::{FieldMask, policy::v1 as proto};
use tonic::{Code, Status};
use tonic_types::StatusExt;

pub fn create(manifest: &str) -> proto::CreatePolicyRequest {
    let policy = proto::Policy { manifest: manifest.to_owned(), ..Default::default() };
    proto::CreatePolicyRequest { policy: Some(policy), ..Default::default() }
}

pub fn update(manifest: &str) -> proto::UpdatePolicyRequest {
    let policy = proto::Policy { manifest: manifest.to_owned(), ..Default::default() };
    proto::UpdatePolicyRequest { policy: Some(policy), allow_missing: true, ..Default::default() }
}

fn field(status: &Status) -> String {
    status.get_details_bad_request().map_or_else(String::new, |details| {
        details.field_violations.first().map_or_else(String::new, |violation| violation.field.clone())
    })
}

#[tokio::test]
async fn a_policy_is_made_read_changed_and_deleted() {
    let service = Service::start().await;
    let mut client = service.policies();
    let made = client.create_policy(create(&policy("p", "owner"))).await.expect("made").into_inner();
    assert_eq!((made.name.as_str(), made.etag.as_str()), ("policies/p", "v1"));
    assert_eq!((made.rules[0].name.as_str(), made.rules[0].body.as_str()), ("has-owner", "validate.pattern"));
    let changed = client.update_policy(update(&policy("p", "team"))).await.expect("changed").into_inner();
    assert_eq!(changed.etag, "v2");
    assert_ne!(changed.digest, made.digest);
    let read = client.get_policy(proto::GetPolicyRequest { name: "policies/p".to_owned() }).await.expect("there").into_inner();
    assert_eq!(read, changed);
    client.delete_policy(proto::DeletePolicyRequest { name: "policies/p".to_owned(), ..Default::default() }).await.expect("gone");
    let gone = client.get_policy(proto::GetPolicyRequest { name: "policies/p".to_owned() }).await.expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(service.events().await, ["policy.created", "policy.updated", "policy.deleted"]);
}

#[tokio::test]
async fn the_same_content_twice_is_one_policy_and_other_content_is_refused() {
    let service = Service::start().await;
    let mut client = service.policies();
    let first = client.create_policy(create(&policy("p", "owner"))).await.expect("made").into_inner();
    let json =
        serde_json::to_string(&muster_core::manifest::parse_one(&policy("p", "owner")).expect("yaml").value).expect("json");
    let again = client.create_policy(create(&json)).await.expect("one").into_inner();
    assert_eq!(first, again);
    let other = client.create_policy(create(&policy("p", "team"))).await.expect_err("other content");
    assert_eq!(other.code(), Code::AlreadyExists);
    let elsewhere = policy("p", "owner").replace("{name: p}", "{name: p, namespace: ml}");
    let collision = client.update_policy(update(&elsewhere)).await.expect_err("another namespace");
    assert_eq!(collision.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_first_result() {
    let service = Service::start().await;
    let mut client = service.policies();
    let id = uuid::Uuid::new_v4().to_string();
    let request = proto::UpdatePolicyRequest { request_id: id.clone(), ..update(&policy("p", "owner")) };
    let first = client.update_policy(request.clone()).await.expect("made").into_inner();
    client.update_policy(update(&policy("p", "team"))).await.expect("changed");
    assert_eq!(client.update_policy(request).await.expect("repeated").into_inner(), first);
    let misused = proto::UpdatePolicyRequest { request_id: id, ..update(&policy("q", "owner")) };
    assert_eq!(field(&client.update_policy(misused).await.expect_err("another request")), "request_id");
}

#[tokio::test]
async fn a_check_stores_nothing() {
    let service = Service::start().await;
    let mut client = service.policies();
    let request = proto::CreatePolicyRequest { validate_only: true, ..create(&policy("p", "owner")) };
    assert_eq!(client.create_policy(request).await.expect("legal").into_inner().name, "policies/p");
    let listed = client.list_policies(proto::ListPoliciesRequest::default()).await.expect("listed").into_inner();
    assert_eq!(listed.policies, []);
    assert_eq!(service.events().await, Vec::<String>::new());
}

#[tokio::test]
async fn three_pages_hold_every_policy_once() {
    let service = Service::start().await;
    let mut client = service.policies();
    for name in ["a", "b", "c-d", "c.d", "e"] {
        client.create_policy(create(&policy(name, "owner"))).await.expect("made");
    }
    let (mut page_token, mut seen) = (String::new(), vec![]);
    for _ in 0..3 {
        let request = proto::ListPoliciesRequest { page_size: 2, page_token };
        let page = client.list_policies(request).await.expect("a page").into_inner();
        seen.push(page.policies.into_iter().map(|policy| policy.name).collect::<Vec<_>>());
        page_token = page.next_page_token;
    }
    let expected = [vec!["policies/a", "policies/b"], vec!["policies/c-d", "policies/c.d"], vec!["policies/e"]];
    assert_eq!(seen, expected);
    assert_eq!(page_token, "");
    let bad = proto::ListPoliciesRequest { page_token: "x".to_owned(), ..Default::default() };
    assert_eq!(field(&client.list_policies(bad).await.expect_err("no token")), "page_token");
}

#[tokio::test]
async fn what_is_wrong_is_named_by_its_field() {
    let service = Service::start().await;
    let mut client = service.policies();
    let long = "n".repeat(64);
    let cases = [
        (create("a: ["), "policy.manifest"),
        (create(""), "policy.manifest"),
        (create(&"#".repeat(256 * 1024 + 1)), "policy.manifest"),
        (create("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p}"), "policy.manifest.apiVersion"),
        (create(&policy(&long, "owner")), "policy.manifest.metadata.name"),
        (
            create(&policy("p", "owner").replace("\"?*\"", &format!("\"{}\"", "*a".repeat(600)))),
            "policy.manifest.spec.rules[0].validate.pattern",
        ),
        (proto::CreatePolicyRequest { policy_id: "q".to_owned(), ..create(&policy("p", "owner")) }, "policy_id"),
        (proto::CreatePolicyRequest::default(), "policy"),
        (proto::CreatePolicyRequest { request_id: "x".to_owned(), ..create(&policy("p", "owner")) }, "request_id"),
    ];
    for (request, expected) in cases {
        let refused = client.create_policy(request).await.expect_err(expected);
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, expected));
    }
    let masked = proto::UpdatePolicyRequest {
        update_mask: Some(FieldMask { paths: vec!["rules".to_owned()] }),
        ..update(&policy("p", "owner"))
    };
    assert_eq!(field(&client.update_policy(masked).await.expect_err("no such field")), "update_mask");
    let missing = proto::UpdatePolicyRequest { allow_missing: false, ..update(&policy("p", "owner")) };
    assert_eq!(client.update_policy(missing).await.expect_err("not there").code(), Code::NotFound);
    let name = proto::GetPolicyRequest { name: "fleets/p".to_owned() };
    assert_eq!(field(&client.get_policy(name).await.expect_err("another kind")), "name");
}

#[tokio::test]
async fn a_stale_etag_changes_nothing() {
    let service = Service::start().await;
    let mut client = service.policies();
    client.create_policy(create(&policy("p", "owner"))).await.expect("made");
    client.update_policy(update(&policy("p", "team"))).await.expect("changed");
    let mut stale = update(&policy("p", "other"));
    stale.policy.as_mut().expect("a policy").etag = "v1".to_owned();
    assert_eq!(client.update_policy(stale).await.expect_err("stale").code(), Code::Aborted);
    let request = proto::DeletePolicyRequest { name: "policies/p".to_owned(), etag: "v1".to_owned(), ..Default::default() };
    assert_eq!(client.delete_policy(request).await.expect_err("stale").code(), Code::Aborted);
}

#[tokio::test]
async fn a_policy_that_a_binding_names_is_not_deleted() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    let manifest = binding("b", "edge", &["{name: p}"]);
    let request = proto::UpdateFleetPolicyRequest {
        fleet_policy: Some(proto::FleetPolicy { manifest, ..Default::default() }),
        allow_missing: true,
        ..Default::default()
    };
    service.bindings().update_fleet_policy(request).await.expect("bound");
    let request = proto::DeletePolicyRequest { name: "policies/p".to_owned(), ..Default::default() };
    let refused = service.policies().delete_policy(request.clone()).await.expect_err("in use");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let unbind = proto::DeleteFleetPolicyRequest { name: "fleetPolicies/b".to_owned(), ..Default::default() };
    service.bindings().delete_fleet_policy(unbind).await.expect("unbound");
    service.policies().delete_policy(request).await.expect("free by now");
}

#[tokio::test]
async fn viewers_read_and_do_not_write() {
    let service = Service::start().await;
    let mut viewer = service.policies_as(person(Role::Viewer));
    viewer.list_policies(proto::ListPoliciesRequest::default()).await.expect("may read");
    let refused = viewer.create_policy(create(&policy("p", "owner"))).await.expect_err("may not write");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut nobody = service.policies_as(Caller::Anonymous);
    let unknown = nobody.list_policies(proto::ListPoliciesRequest::default()).await.expect_err("nobody");
    assert_eq!(unknown.code(), Code::Unauthenticated);
}
