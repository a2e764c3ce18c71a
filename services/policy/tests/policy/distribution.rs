//! What clusters are told.

use crate::{
    bindings::{bind, inline},
    harness::{ADMISSION, KYVERNO, Service, binding, policy},
    policies::{create, update},
    reports::{hear, observed},
};
use muster_kit::{Kind, reconcile::Reconciler};
use muster_policy::{
    domain::{Installation, Stage},
    peers::{ObservedEvent, Said},
    reconcile::Leader,
};
use muster_proto::policy::v1::{self as proto, fleet_policy_cluster::State, policy_form::Form};
use std::time::Duration;

async fn told() -> Service {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}"]))).await.expect("bound");
    service.project(&[("one", true), ("two", false), ("three", true)], &[("edge", &["one", "two"])]).await;
    service.tick_distribute().await.expect("told");
    service
}

#[tokio::test]
async fn members_of_the_fleet_are_told_and_others_are_not() {
    let service = told().await;
    let one = service.registry.kept("one").expect("told");
    assert_eq!((one.generation, one.install, one.manifests.len()), (1, true, 1));
    assert_eq!(one.manifests[0]["metadata"]["name"], "p");
    let two = service.registry.kept("two").expect("told");
    assert!(!two.install, "the cluster has no Kyverno: its agent judges alone");
    assert_eq!(service.registry.kept("three"), None);
}

#[tokio::test]
async fn the_second_pass_tells_nothing() {
    let service = told().await;
    let calls = service.registry.calls();
    service.tick_distribute().await.expect("nothing to do");
    assert_eq!(service.registry.calls(), calls);
}

#[tokio::test]
async fn a_change_is_told_under_the_next_number_and_leaving_the_fleet_takes_all_away() {
    let service = told().await;
    service.policies().update_policy(update(&policy("p", "team"))).await.expect("changed");
    service.tick_distribute().await.expect("told");
    assert_eq!(service.registry.kept("one").expect("told").generation, 2);
    service.project(&[("one", true), ("two", false), ("three", true)], &[("edge", &["two"])]).await;
    service.tick_distribute().await.expect("told");
    let one = service.registry.kept("one").expect("told");
    assert_eq!((one.generation, one.manifests.len()), (3, 0));
}

#[tokio::test]
async fn the_same_policy_by_two_bindings_is_sent_once_and_the_bindings_action_is_written_into_it() {
    let service = told().await;
    let entry = "{name: p, action: audit}";
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &[entry]))).await.expect("bound");
    service.bindings().update_fleet_policy(bind(&binding("c", "edge", &[entry, &inline("q", "team")]))).await.expect("bound");
    service.tick_distribute().await.expect("told");
    let manifests = service.registry.kept("one").expect("told").manifests;
    let names: Vec<_> = manifests.iter().map(|manifest| manifest["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["p", "q"]);
    assert_eq!(manifests[0]["spec"]["validationFailureAction"], "Audit");
    assert_eq!(manifests[1]["spec"]["validationFailureAction"], "enforce");
}

#[tokio::test]
async fn after_a_lost_answer_the_same_is_said_again_and_after_a_lost_database_it_goes_on_above() {
    let service = told().await;
    sqlx::query("delete from distribution where cluster_id = 'one'").execute(service.db.pool()).await.expect("deleted");
    service.tick_distribute().await.expect("told again");
    assert_eq!(service.registry.kept("one").expect("told").generation, 1, "a repetition is recognised");
    service.policies().update_policy(update(&policy("p", "team"))).await.expect("changed");
    service.tick_distribute().await.expect("told");
    sqlx::query("update distribution set generation = 0, content_digest = ''").execute(service.db.pool()).await.expect("lost");
    service.tick_distribute().await.expect("told");
    assert_eq!(service.registry.kept("one").expect("told").generation, 3, "it goes on above what the registry remembers");
}

#[tokio::test]
async fn a_registry_that_forgot_is_told_again() {
    let service = told().await;
    let calls = service.registry.calls();
    service.tick_verify().await;
    service.tick_distribute().await.expect("nothing to do");
    assert_eq!(service.registry.calls(), calls, "equal numbers need no telling");
    let before = service.registry.kept("one");
    service.registry.kept.lock().expect("unpoisoned").remove("one");
    service.tick_verify().await;
    service.tick_distribute().await.expect("told again");
    assert_eq!(service.registry.kept("one"), before);
}

#[tokio::test]
async fn a_cluster_the_registry_does_not_know_yet_is_told_later() {
    let service = Service::start().await;
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &[&inline("p", "owner")]))).await.expect("bound");
    service.project(&[("one", true)], &[("edge", &["one"])]).await;
    service.registry.unknown.lock().expect("unpoisoned").insert("one".to_owned());
    service.tick_distribute().await.expect("nobody to tell");
    assert_eq!(service.registry.kept("one"), None);
    service.registry.unknown.lock().expect("unpoisoned").clear();
    service.tick_distribute().await.expect("told");
    assert_eq!(service.registry.kept("one").expect("told").generation, 1);
}

#[tokio::test]
async fn a_cluster_that_left_and_comes_back_starts_afresh() {
    let service = told().await;
    service.project(&[("two", false)], &[("edge", &["one", "two"])]).await;
    service.registry.kept.lock().expect("unpoisoned").remove("one");
    service.project(&[("one", true), ("two", false)], &[("edge", &["one", "two"])]).await;
    service.tick_distribute().await.expect("told");
    assert_eq!(service.registry.kept("one").expect("told").generation, 1);
}

#[tokio::test]
async fn an_old_leader_changes_nothing() {
    let service = told().await;
    sqlx::query("update lease set expires_at = now() - interval '1 minute'").execute(service.db.pool()).await.expect("run out");
    let successor = Leader::new(service.db.pool().clone(), Duration::from_secs(60));
    successor.tick().await.expect("elected");
    assert!(successor.epoch().expect("leads") > service.epoch());
    service.policies().update_policy(update(&policy("p", "team"))).await.expect("changed");
    let (calls, before) = (service.registry.calls(), service.registry.kept("one"));
    let refused = service.tick_distribute().await.expect_err("deposed");
    assert_eq!((refused.kind(), refused.reason()), (Kind::Conflict, "NOT_LEADER"));
    assert_eq!((service.registry.calls(), service.registry.kept("one")), (calls, before));
    assert_eq!(service.tick_fleets().await.expect_err("deposed").reason(), "NOT_LEADER");
}

#[tokio::test]
async fn deleting_a_binding_takes_its_policies_away() {
    let service = told().await;
    let request = proto::DeleteFleetPolicyRequest { name: "fleetPolicies/b".to_owned(), ..Default::default() };
    service.bindings().delete_fleet_policy(request).await.expect("deleted");
    service.tick_distribute().await.expect("told");
    assert_eq!(service.registry.kept("one").expect("told").manifests, Vec::<serde_json::Value>::new());
}

async fn shown(service: &Service) -> Vec<proto::FleetPolicyCluster> {
    let request = proto::GetFleetPolicyRequest { name: "fleetPolicies/b".to_owned() };
    service.bindings().get_fleet_policy(request).await.expect("shown").into_inner().clusters
}

fn said(cluster: &str, stage: Stage, message: &str) -> ObservedEvent {
    let installation = Installation { stage, message: message.to_owned() };
    ObservedEvent { said: Said::Installation(installation), ..observed(cluster, 1, 0, 0).event }
}

#[tokio::test]
async fn each_cluster_has_a_policy_in_the_form_that_it_can_enforce_and_says_how_far_it_came() {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    let entry = "{name: p, action: enforce, namespaces: [ml]}";
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &[entry]))).await.expect("bound");
    let clusters = [("kyverno", KYVERNO), ("native", ADMISSION), ("neither", &[][..])];
    service.project_served(&clusters, &[("edge", &["kyverno", "native", "neither", "stranger"])]).await;
    let states = |clusters: &[proto::FleetPolicyCluster]| {
        clusters.iter().map(|member| (member.cluster.replace("clusters/", ""), member.state())).collect::<Vec<_>>()
    };
    let all = |state| ["kyverno", "native", "neither", "stranger"].map(|name| (name.to_owned(), state)).to_vec();
    assert_eq!(states(&shown(&service).await), all(State::Waiting));
    service.tick_distribute().await.expect("told");

    let native = service.registry.kept("native").expect("told");
    let kinds: Vec<&str> = native.manifests.iter().filter_map(|manifest| manifest["kind"].as_str()).collect();
    assert_eq!(kinds, ["ClusterPolicy", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]);
    assert_eq!((native.install, native.only_evaluated), (true, 1));
    assert_eq!(native.manifests[2]["spec"]["validationActions"], serde_json::json!(["Deny"]));

    let known = async |event| hear(&service, &event).await;
    known(said("kyverno", Stage::Refused, "field not declared in schema")).await;
    known(said("native", Stage::InForce, "")).await;
    let clusters = shown(&service).await;
    let expected = [State::Refused, State::InForce, State::Applying, State::Waiting];
    assert_eq!(states(&clusters).into_iter().map(|(_, state)| state).collect::<Vec<_>>(), expected);
    assert_eq!(clusters[0].reason, "field not declared in schema");
    let forms: Vec<(Form, &str)> =
        clusters.iter().flat_map(|member| &member.policies).map(|policy| (policy.form(), policy.api_version.as_str())).collect();
    let native = (Form::AdmissionPolicy, "admissionregistration.k8s.io/v1");
    assert_eq!(forms, [(Form::Kyverno, "kyverno.io/v1"), native, (Form::EvaluatedOnly, "")]);
    let reason = "the cluster serves no ClusterPolicy and no admission policies of its own";
    assert_eq!(clusters[2].policies[0].reason, reason);
}

#[tokio::test]
async fn a_cluster_that_gets_kyverno_gets_the_documents_and_loses_their_translations() {
    let service = told().await;
    let kinds = async |kinds: &[&str]| {
        service.project_served(&[("one", kinds), ("two", KYVERNO)], &[("edge", &["one", "two"])]).await;
        service.tick_distribute().await.expect("told");
        let kept = service.registry.kept("one").expect("told");
        (kept.manifests.len(), kept.only_evaluated)
    };
    assert_eq!(kinds(ADMISSION).await, (3, 1));
    assert_eq!(kinds(&[KYVERNO, ADMISSION].concat()).await, (1, 0));
}

#[tokio::test]
async fn a_cluster_of_which_it_is_not_known_what_it_serves_keeps_what_it_has() {
    let service = told().await;
    let before = service.registry.kept("one");
    sqlx::query("update cluster set served = null").execute(service.db.pool()).await.expect("forgotten");
    service.policies().update_policy(update(&policy("p", "team"))).await.expect("changed");
    service.tick_distribute().await.expect("nobody to tell");
    assert_eq!(service.registry.kept("one"), before);
}
