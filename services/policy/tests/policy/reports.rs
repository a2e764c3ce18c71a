//! What clusters report, and who complies.

use crate::{
    bindings::bind,
    harness::{Rows, Service, binding, policy},
    policies::{create, update},
};
use jiff::Timestamp;
use muster_core::version::Version;
use muster_policy::{
    domain::{ReportRow, ReportedViolation, RuleSummary},
    peers::{ObservedEvent, Said},
    reconcile::reports::{self, Taken},
    store::report::Observed,
};
use muster_proto::policy::v1 as proto;
use tonic::Code;

pub async fn told() -> Service {
    let service = Service::start().await;
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    service.policies().create_policy(create(&policy("q", "team"))).await.expect("made");
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}", "{name: q}"]))).await.expect("bound");
    service.project(&[("one", true), ("two", true), ("three", true)], &[("edge", &["one", "two", "three"])]).await;
    service.tick_distribute().await.expect("told");
    service
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("a time")
}

/// What an agent says of its cluster in a version.
#[derive(Clone)]
pub struct Judged {
    pub event: ObservedEvent,
    rows: Rows,
}

/// So many Services break the rule of `p`. What is said in a later second is a later version.
pub fn observed(cluster: &str, generation: i64, second: i64, failing: u32) -> Judged {
    let violation = |index: u32| ReportedViolation {
        rule: "has-owner".to_owned(),
        group: String::new(),
        kind: "Service".to_owned(),
        namespace: "ml".to_owned(),
        object: format!("web-{index}"),
        path: "metadata.labels".to_owned(),
        message: "needs owner".to_owned(),
    };
    let rule = RuleSummary { rule: "has-owner".to_owned(), pass: 5, fail: failing, not_evaluated: 0 };
    let rows = (0..failing).map(violation).map(ReportRow::Violation).chain([ReportRow::Rule(rule)]);
    Judged { event: judged(cluster, 1, generation, second), rows: rows.map(|row| ("p".to_owned(), row)).collect() }
}

fn judged(cluster: &str, incarnation: u64, generation: i64, second: i64) -> ObservedEvent {
    ObservedEvent {
        cluster: cluster.to_owned(),
        observed: Observed { incarnation: incarnation.cast_signed(), generation, at: at(second) },
        said: Said::Verdicts(Version::new(incarnation, second.cast_unsigned() + 1)),
    }
}

pub async fn take(service: &Service, judged: &Judged) -> Taken {
    let Judged { event, rows } = judged;
    let Said::Verdicts(version) = event.said else { panic!("verdicts are said") };
    let said = (event.observed, version, rows.clone());
    service.registry.said.lock().expect("unpoisoned").entry(event.cluster.clone()).or_default().push(said);
    hear(service, event).await
}

pub async fn hear(service: &Service, event: &ObservedEvent) -> Taken {
    reports::take(&service.app, &*service.registry, service.epoch(), event).await.expect("looked at")
}

async fn report(service: &Service, name: &str) -> Result<proto::PolicyReport, Code> {
    let request = proto::GetPolicyReportRequest { name: name.to_owned() };
    service.verdicts().get_policy_report(request).await.map(tonic::Response::into_inner).map_err(|status| status.code())
}

#[tokio::test]
async fn a_cluster_reports_every_policy_it_was_told_of() {
    let service = told().await;
    assert_eq!(take(&service, &observed("one", 1, 0, 2)).await, Taken::Yes);
    let about_p = report(&service, "clusters/one/policyReports/p").await.expect("reported");
    assert_eq!((about_p.rules[0].fail, about_p.violations.len()), (2, 2));
    assert_eq!(about_p.violations[1].object, "web-1");
    let about_q = report(&service, "clusters/one/policyReports/q").await.expect("nothing meets it, and that is said");
    assert_eq!(about_q.rules, []);
    assert_eq!(report(&service, "clusters/two/policyReports/p").await, Err(Code::NotFound));
    assert_eq!(service.events().await.iter().filter(|kind| *kind == "policy.reported").count(), 2);
}

#[tokio::test]
async fn an_observation_counts_only_for_the_generation_it_names() {
    let service = told().await;
    assert_eq!(take(&service, &observed("one", 2, 0, 1)).await, Taken::Ahead);
    assert_eq!(take(&service, &observed("one", 1, 5, 2)).await, Taken::Yes);
    assert_eq!(take(&service, &observed("one", 1, 3, 7)).await, Taken::Old, "an older look at the same");
    service.policies().update_policy(update(&policy("p", "cost"))).await.expect("changed");
    service.tick_distribute().await.expect("told");
    assert_eq!(report(&service, "clusters/one/policyReports/p").await, Err(Code::NotFound), "it is about what holds no longer");
    assert_eq!(take(&service, &observed("one", 1, 9, 1)).await, Taken::Old);
    assert_eq!(take(&service, &observed("one", 2, 1, 1)).await, Taken::Yes);
    assert_eq!(report(&service, "clusters/one/policyReports/p").await.expect("reported").violations.len(), 1);
    assert_eq!(take(&service, &observed("stranger", 1, 0, 1)).await, Taken::Ahead);
}

#[tokio::test]
async fn a_report_from_a_restored_registry_counts_for_the_same_number() {
    let service = told().await;
    take(&service, &observed("one", 1, 7, 3)).await;
    let restored = Judged { event: judged("one", 2, 1, 0), ..observed("one", 1, 0, 2) };
    assert_eq!(take(&service, &restored).await, Taken::Yes);
    assert_eq!(report(&service, "clusters/one/policyReports/p").await.expect("reported").violations.len(), 2);
    assert_eq!(take(&service, &observed("one", 1, 9, 1)).await, Taken::Old, "from before the restore");
}

#[tokio::test]
async fn reports_are_listed_in_pages_by_cluster_and_over_all() {
    let service = told().await;
    for cluster in ["one", "two", "three"] {
        take(&service, &observed(cluster, 1, 0, 0)).await;
    }
    let mut client = service.verdicts();
    let (mut page_token, mut seen) = (String::new(), vec![]);
    for _ in 0..3 {
        let request = proto::ListPolicyReportsRequest { parent: "clusters/-".to_owned(), page_size: 2, page_token };
        let page = client.list_policy_reports(request).await.expect("a page").into_inner();
        seen.extend(page.policy_reports.into_iter().map(|report| report.name));
        page_token = page.next_page_token;
    }
    let expected = ["one", "three", "two"]
        .into_iter()
        .flat_map(|cluster| ["p", "q"].map(|policy| format!("clusters/{cluster}/policyReports/{policy}")));
    assert_eq!((seen, page_token.as_str()), (expected.collect(), ""));
    let of_one = proto::ListPolicyReportsRequest { parent: "clusters/two".to_owned(), ..Default::default() };
    assert_eq!(client.list_policy_reports(of_one).await.expect("a page").into_inner().policy_reports.len(), 2);
    let bad = proto::ListPolicyReportsRequest { parent: "two".to_owned(), ..Default::default() };
    assert_eq!(client.list_policy_reports(bad).await.expect_err("no cluster").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_what_changes_is_told_and_without_its_violations() {
    let service = told().await;
    take(&service, &observed("one", 1, 0, 2)).await;
    take(&service, &observed("one", 1, 1, 2)).await;
    take(&service, &observed("one", 1, 2, 3)).await;
    let states: Vec<serde_json::Value> =
        sqlx::query_scalar("select state from event where type = 'policy.reported' order by event_id")
            .fetch_all(service.db.pool())
            .await
            .expect("the log is read");
    let told: Vec<_> = states.iter().map(|state| state["name"].as_str().unwrap_or_default().rsplit('/').next()).collect();
    assert_eq!(told, [Some("p"), Some("q"), Some("p")]);
    assert_eq!((&states[2]["rules"][0]["fail"], states[2].get("violations")), (&3.into(), None));
    assert_eq!(*service.registry.rows_read.lock().expect("unpoisoned"), 3 + 3, "the whole once, then what changed");
    let latest = report(&service, "clusters/one/policyReports/q").await.expect("reported");
    assert_eq!(latest.observe_time.map(|time| time.seconds), Some(at(2).as_second()), "seen again, and the same");
}

#[tokio::test]
async fn what_was_missed_comes_with_the_next_and_twice_is_once() {
    let service = told().await;
    take(&service, &observed("one", 1, 0, 4)).await;
    let missed = observed("one", 1, 1, 2);
    let rows = missed.rows.clone();
    let Said::Verdicts(version) = missed.event.said else { panic!("verdicts are said") };
    service.registry.said.lock().expect("unpoisoned").get_mut("one").expect("said").push((missed.event.observed, version, rows));
    assert_eq!(take(&service, &observed("one", 1, 2, 3)).await, Taken::Yes);
    let seen = report(&service, "clusters/one/policyReports/p").await.expect("reported");
    assert_eq!((seen.rules[0].fail, seen.violations.len()), (3, 3));
    assert_eq!(hear(&service, &missed.event).await, Taken::Old, "its event came after all");
    assert_eq!(report(&service, "clusters/one/policyReports/p").await.expect("reported"), seen);
}
