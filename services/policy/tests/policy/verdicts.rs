//! `Evaluate` over gRPC.

use crate::{
    bindings::bind,
    harness::{SERVICE, Service, binding, policy},
    policies::{create, update},
};
use muster_proto::policy::v1 as proto;
use tonic::Code;

pub async fn evaluate(service: &Service, manifests: &[&str], clusters: &[&str]) -> proto::EvaluateResponse {
    let request = proto::EvaluateRequest {
        manifests: manifests.iter().map(|text| (*text).to_owned()).collect(),
        clusters: clusters.iter().map(|cluster| format!("clusters/{cluster}")).collect(),
        namespace: String::new(),
    };
    service.verdicts().evaluate(request).await.expect("judged").into_inner()
}

pub async fn allowed(service: &Service) -> bool {
    evaluate(service, &[SERVICE], &[]).await.allowed
}

#[tokio::test]
async fn a_violation_names_policy_rule_subject_path_and_manifest() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}"]))).await.expect("bound");
    let good = "apiVersion: v1\nkind: Service\nmetadata: {name: good, labels: {owner: a}}\n";
    let verdict = evaluate(&service, &[good, &format!("{good}---\n{SERVICE}")], &[]).await;
    assert!(!verdict.allowed);
    let expected = proto::PolicyViolation {
        policy: "policies/p".to_owned(),
        rule: "has-owner".to_owned(),
        subject: "Service default/web".to_owned(),
        path: "metadata.labels".to_owned(),
        message: "validation error: needs owner. rule has-owner failed at path /metadata/labels/".to_owned(),
        enforced: true,
        manifest_index: 1,
        not_evaluated_reason: String::new(),
    };
    assert_eq!(verdict.violations, [expected]);
}

#[tokio::test]
async fn only_what_holds_in_the_clusters_counts_and_members_may_change() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}"]))).await.expect("bound");
    service.project(&[("one", false), ("two", false)], &[("edge", &["one"])]).await;
    let before = evaluate(&service, &[SERVICE], &["two"]).await;
    assert!(before.allowed);
    assert!(!evaluate(&service, &[SERVICE], &["one", "two"]).await.allowed);
    service.project(&[("one", false), ("two", false)], &[("edge", &["one", "two"])]).await;
    let after = evaluate(&service, &[SERVICE], &["two"]).await;
    assert!(!after.allowed);
    assert_ne!(before.policy_revision, after.policy_revision);
}

#[tokio::test]
async fn equal_revisions_mean_equal_verdicts_and_a_change_of_policy_is_another_revision() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}"]))).await.expect("bound");
    let first = evaluate(&service, &[SERVICE], &[]).await;
    assert_eq!(evaluate(&service, &[SERVICE], &[]).await, first);
    service.policies().update_policy(update(&policy("p", "team"))).await.expect("changed");
    let second = evaluate(&service, &[SERVICE], &[]).await;
    assert_ne!(first.policy_revision, second.policy_revision);
    assert_eq!(second.violations[0].rule, "has-team");
}

#[tokio::test]
async fn a_binding_may_audit_what_the_policy_enforces() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    let audit = binding("b", "edge", &["{name: p, action: audit, namespaces: [default]}"]);
    service.bindings().update_fleet_policy(bind(&audit)).await.expect("bound");
    let verdict = evaluate(&service, &[SERVICE], &[]).await;
    assert!(verdict.allowed);
    assert_eq!((verdict.violations.len(), verdict.violations[0].enforced), (1, false));
    let elsewhere = SERVICE.replace("{name: web}", "{name: web, namespace: ml}");
    assert_eq!(evaluate(&service, &[&elsewhere], &[]).await.violations, []);
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let service = Service::start().await;
    let evaluate = |request| async {
        let refused = service.verdicts().evaluate(request).await.expect_err("refused");
        (refused.code(), refused.message().split(':').next().unwrap_or_default().to_owned())
    };
    let manifests =
        |text: &str| proto::EvaluateRequest { manifests: vec![SERVICE.to_owned(), text.to_owned()], ..Default::default() };
    let named = |field: &str| (Code::InvalidArgument, field.to_owned());
    assert_eq!(evaluate(manifests("a: [")).await, named("manifests[1]"));
    assert_eq!(evaluate(manifests("just text")).await, named("manifests[1]"));
    assert_eq!(evaluate(manifests(&"#".repeat(4 * 1024 * 1024))).await, named("manifests"));
    let clusters = proto::EvaluateRequest { clusters: vec!["fleets/x".to_owned()], ..Default::default() };
    assert_eq!(evaluate(clusters).await, named("clusters[0]"));
    let namespace = proto::EvaluateRequest { namespace: "Upper".to_owned(), ..Default::default() };
    assert_eq!(evaluate(namespace).await, named("namespace"));
}
