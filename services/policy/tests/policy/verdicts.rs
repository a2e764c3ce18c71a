//! `Evaluate` over gRPC.

use crate::{
    bindings::bind,
    harness::{SERVICE, Service, binding, policy},
    policies::{create, update},
};
use futures::{StreamExt, stream};
use muster_proto::policy::v1::{self as proto, evaluate_stream_response::Answer};
use prost::Message;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
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

fn judging(manifest: &str) -> proto::EvaluateRequest {
    proto::EvaluateRequest { manifests: vec![manifest.to_owned()], ..Default::default() }
}

#[tokio::test]
async fn a_stream_answers_every_request_in_its_order_and_a_bad_one_with_its_field() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}"]))).await.expect("bound");
    let good = "apiVersion: v1\nkind: Service\nmetadata: {name: good, labels: {owner: a}}\n";
    let asked = (0..300).map(|number| match number % 3 {
        0 => judging(good),
        1 => judging(SERVICE),
        _ => judging("a: ["),
    });
    let answers = service.verdicts().evaluate_stream(stream::iter(asked)).await.expect("a stream").into_inner();
    let answers: Vec<String> = answers
        .map(|answer| match answer.expect("no end before the last").answer.expect("an answer") {
            Answer::Verdict(verdict) if verdict.allowed => "allowed".to_owned(),
            Answer::Verdict(verdict) => verdict.violations[0].subject.clone(),
            Answer::Refusal(refusal) => refusal.field,
        })
        .collect()
        .await;
    let expected: Vec<&str> = ["allowed", "Service default/web", "manifests[0]"].into_iter().cycle().take(300).collect();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_stream_reads_no_further_than_its_answers_are_taken_and_ends_with_its_client() {
    let service = Service::start().await;
    let (taken, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
    let (counter, held) = (Arc::clone(&taken), Arc::clone(&gone));
    let endless = stream::repeat_with(move || {
        let _held = &held;
        counter.fetch_add(1, Ordering::SeqCst);
        judging(SERVICE)
    });
    let mut answers = service.verdicts().evaluate_stream(endless).await.expect("a stream").into_inner();
    for _ in 0..1_000 {
        answers.next().await.expect("endless").expect("an answer");
    }
    // Beyond those answered: what is gathered for each thread, and the 32 KiB that each side's encoder fills at a time.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = 1_000 + 64 * (2 + threads) + 2 * 32 * 1024 / judging(SERVICE).encoded_len();
    assert!(taken.load(Ordering::SeqCst) <= most, "{taken:?} taken, at most {most} expected");
    drop(answers);
    assert_eq!(Arc::strong_count(&gone), 1, "the client's requests are let go of");
}

#[tokio::test]
async fn a_stream_ends_when_the_service_stops_and_says_so() {
    let service = Service::start().await;
    let (sender, requests) = futures::channel::mpsc::unbounded();
    let mut answers = service.verdicts().evaluate_stream(requests).await.expect("a stream").into_inner();
    sender.unbounded_send(judging(SERVICE)).expect("open");
    answers.next().await.expect("an answer").expect("a verdict");
    service.app.stopping.cancel();
    let last = answers.next().await.expect("a last word").expect_err("the end");
    assert_eq!(last.code(), Code::Unavailable);
    assert!(answers.next().await.is_none());
}
