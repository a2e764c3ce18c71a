//! Who complies, as finely as asked for, and how that changed.

use crate::{
    bindings::bind,
    harness::{Service, binding},
    reports::{observed, take, told},
};
use muster_kit::reconcile::Reconciler;
use muster_proto::policy::v1::{self as proto, summarize_compliance_request::GroupBy};
use tonic::Code;

/// Every row, read in pages of two.
async fn summarized(service: &Service, fleet: &str, by: GroupBy) -> Vec<proto::ComplianceRow> {
    let (mut client, mut rows, mut page_token) = (service.verdicts(), vec![], String::new());
    loop {
        let request = proto::SummarizeComplianceRequest {
            fleet: fleet.to_owned(),
            group_by: by.into(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = client.summarize_compliance(request).await.expect("summarized").into_inner();
        assert!(page.rows.len() <= 2);
        rows.extend(page.rows);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return rows;
        }
    }
}

/// Fleet, policy, cluster, namespace, workload; then compliant, violating, silent, violations.
fn told_of(row: &proto::ComplianceRow) -> (String, [u32; 4]) {
    let proto::ComplianceRow { fleet, policy, cluster, namespace, workload, .. } = row;
    let words = [fleet, policy, cluster, namespace, workload].map(|name| name.rsplit('/').next().unwrap_or_default());
    let counts = [row.compliant_clusters, row.violating_clusters, row.silent_clusters, row.violations];
    (words.join(":"), counts)
}

#[tokio::test]
async fn members_and_violations_are_counted_as_finely_as_asked_for() {
    let service = told().await;
    take(&service, &observed("one", 1, 0, 3)).await;
    take(&service, &observed("two", 1, 0, 0)).await;
    let rows = async |by| summarized(&service, "", by).await.iter().map(told_of).collect::<Vec<_>>();
    let row = |key: &str, counts| (key.to_owned(), counts);
    let by_policy = [row("edge:p:::", [1, 1, 1, 3]), row("edge:q:::", [2, 0, 1, 0])];
    assert_eq!(rows(GroupBy::Policy).await, by_policy);
    assert_eq!(rows(GroupBy::Unspecified).await, by_policy);
    assert_eq!(rows(GroupBy::Fleet).await, [row("edge::::", [1, 1, 1, 3])]);
    let by_cluster = rows(GroupBy::Cluster).await;
    assert_eq!(by_cluster.len(), 6);
    assert_eq!(
        by_cluster[..3],
        [row("edge:p:one::", [0, 1, 0, 3]), row("edge:p:three::", [0, 0, 1, 0]), row("edge:p:two::", [1, 0, 0, 0])]
    );
    assert_eq!(rows(GroupBy::Namespace).await, [row("edge:p::ml:", [0, 1, 0, 3])]);
    let workloads = ["web-0", "web-1", "web-2"].map(|name| row(&format!("edge:p:one:ml:Service {name}"), [0, 1, 0, 1]));
    assert_eq!(rows(GroupBy::Workload).await, workloads);
    assert_eq!(summarized(&service, "fleets/train", GroupBy::Policy).await, []);
}

#[tokio::test]
async fn bad_questions_name_their_field() {
    let service = told().await;
    let refused = async |request| {
        let status = service.verdicts().summarize_compliance(request).await.expect_err("refused");
        (status.code(), status.message().split(':').next().unwrap_or_default().to_owned())
    };
    let fault = |field: &str| (Code::InvalidArgument, field.to_owned());
    let of = proto::SummarizeComplianceRequest::default;
    assert_eq!(refused(proto::SummarizeComplianceRequest { fleet: "edge".to_owned(), ..of() }).await, fault("fleet"));
    assert_eq!(refused(proto::SummarizeComplianceRequest { policy: "p".to_owned(), ..of() }).await, fault("policy"));
    assert_eq!(refused(proto::SummarizeComplianceRequest { group_by: 99, ..of() }).await, fault("group_by"));
    let history = proto::ListComplianceHistoryRequest::default();
    let status = service.verdicts().list_compliance_history(history).await.expect_err("refused");
    assert!(status.message().starts_with("fleet:"), "{status}");
}

async fn history(service: &Service) -> Vec<(String, u32, u32)> {
    let request = proto::ListComplianceHistoryRequest { fleet: "fleets/edge".to_owned(), page_size: 1, ..Default::default() };
    let (mut client, mut points, mut page_token) = (service.verdicts(), vec![], String::new());
    loop {
        let request = proto::ListComplianceHistoryRequest { page_token, ..request.clone() };
        let page = client.list_compliance_history(request).await.expect("listed").into_inner();
        points.extend(page.points.into_iter().map(|point| (point.policy, point.violating_clusters, point.violations)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return points;
        }
    }
}

/// As if everything noted had been so many hours earlier.
async fn hours_later(service: &Service, hours: i32) {
    sqlx::query("update compliance_change set hour = hour - make_interval(hours => $1)")
        .bind(hours)
        .execute(service.db.pool())
        .await
        .expect("moved");
}

#[tokio::test]
async fn violations_come_and_go_hour_by_hour() {
    let service = told().await;
    take(&service, &observed("one", 1, 0, 3)).await;
    take(&service, &observed("two", 1, 0, 2)).await;
    hours_later(&service, 1).await;
    take(&service, &observed("one", 1, 1, 1)).await;
    take(&service, &observed("one", 1, 2, 4)).await;
    hours_later(&service, 1).await;
    take(&service, &observed("two", 1, 3, 0)).await;
    let p = |clusters, violations| ("policies/p".to_owned(), clusters, violations);
    assert_eq!(history(&service).await, [p(2, 5), p(2, 6), p(1, 4)]);

    // A policy that holds no longer is broken no longer.
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: q}"]))).await.expect("bound");
    service.tick_distribute().await.expect("told");
    hours_later(&service, 1).await;
    take(&service, &observed("one", 2, 4, 4)).await;
    assert_eq!(history(&service).await, [p(2, 5), p(2, 6), p(1, 4), p(0, 0)]);

    // Old changes are forgotten; what they came to is not.
    hours_later(&service, 90 * 24 - 1).await;
    service.tick_compliance().await;
    assert_eq!(history(&service).await.last(), Some(&p(0, 0)));
    let kept: i64 =
        sqlx::query_scalar("select count(*) from compliance_change").fetch_one(service.db.pool()).await.expect("counted");
    assert_eq!(kept, 3, "the last of each cluster before, and what came since");
}

#[tokio::test]
async fn metrics_tell_of_every_fleet_and_policy_that_is_bound() {
    let service = told().await;
    take(&service, &observed("one", 1, 0, 3)).await;
    let shown = muster_policy::reconcile::Compliance::new(service.app.clone(), service.leader.clone());
    let metrics = || {
        let families = prometheus::gather();
        let mine = families.iter().filter(|family| family.name().starts_with("muster_policy_"));
        mine.flat_map(|family| {
            family.get_metric().iter().map(|metric| {
                let labels: Vec<&str> = metric.get_label().iter().map(|label| label.value()).collect();
                (labels.join(":"), metric.get_gauge().get_value())
            })
        })
        .collect::<std::collections::BTreeMap<_, _>>()
    };
    shown.tick().await.expect("counted");
    let now = metrics();
    assert_eq!((now["edge:p"], now["edge:p:violating"], now["edge:p:silent"], now["edge:q:compliant"]), (3.0, 1.0, 2.0, 1.0));
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: q}"]))).await.expect("bound");
    shown.tick().await.expect("counted");
    assert!(!metrics().contains_key("edge:p"), "what is not bound is not shown");
}
