//! What clusters reported, and who complies.

use super::App;
use crate::{
    domain::{ComplianceKey, ComplianceRow, GroupBy},
    store::{self, compliance::Wanted},
};
use jiff::Timestamp;
use muster_core::{
    name::{ClusterName, FleetName, NameError, PolicyName, PolicyReportName},
    page::Page,
};
use muster_kit::{Caller, Error, Result, Role, error::parse_name, time};
use muster_proto::policy::v1::{self as wire, summarize_compliance_request::GroupBy as WireGroupBy};

/// One report.
pub async fn get(app: &App, caller: &Caller, request: wire::GetPolicyReportRequest) -> Result<wire::PolicyReport> {
    caller.require(Role::Viewer)?;
    let name: PolicyReportName = parse_name("name", &request.name)?;
    let report = store::report::get(&app.pool, name.cluster(), name.report()).await?;
    Ok(report.ok_or_else(|| Error::not_found(name))?.into())
}

/// A page of reports, of one cluster or of all.
pub async fn list(
    app: &App,
    caller: &Caller,
    request: wire::ListPolicyReportsRequest,
) -> Result<wire::ListPolicyReportsResponse> {
    caller.require(Role::Viewer)?;
    let page = Page::parse(request.page_size, &request.page_token, &request.parent)?;
    let cluster = match request.parent.as_str() {
        "clusters/-" => None,
        parent => Some(parse_name::<ClusterName>("parent", parent)?),
    };
    let after = page.after.split_once('/').unwrap_or_default();
    let mut rows = store::report::list(&app.pool, cluster.as_ref().map(ClusterName::cluster), after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |row| format!("{}/{}", row.cluster, row.policy));
    Ok(wire::ListPolicyReportsResponse { policy_reports: rows.into_iter().map(Into::into).collect(), next_page_token })
}

/// Who complies, as finely as asked for.
pub async fn summarize(
    app: &App,
    caller: &Caller,
    request: wire::SummarizeComplianceRequest,
) -> Result<wire::SummarizeComplianceResponse> {
    caller.require(Role::Viewer)?;
    let wire::SummarizeComplianceRequest { fleet, policy, group_by, page_size, page_token } = &request;
    let by = match WireGroupBy::try_from(*group_by) {
        Ok(WireGroupBy::Unspecified | WireGroupBy::Policy) => GroupBy::Policy,
        Ok(WireGroupBy::Fleet) => GroupBy::Fleet,
        Ok(WireGroupBy::Cluster) => GroupBy::Cluster,
        Ok(WireGroupBy::Namespace) => GroupBy::Namespace,
        Ok(WireGroupBy::Workload) => GroupBy::Workload,
        Err(_) => return Err(Error::invalid("group_by", format!("{group_by} is none of its values"))),
    };
    let page = Page::parse(*page_size, page_token, &format!("{fleet} {policy} {by:?}"))?;
    let fleet = named::<FleetName>("fleet", fleet)?;
    let policy = named::<PolicyName>("policy", policy)?;
    let after = match page.after.as_str() {
        "" => ComplianceKey::default(),
        text => serde_json::from_str(text).map_err(|_| Error::invalid("page_token", "not a token of this list"))?,
    };
    let wanted = Wanted {
        fleet: fleet.as_ref().map(FleetName::fleet),
        policy: policy.as_ref().map(PolicyName::policy),
        after: &after,
        limit: page.limit(),
    };
    let mut rows = store::compliance::summary(&app.pool, by, wanted).await?;
    let key = |row: &ComplianceRow| serde_json::to_string(&row.key).expect("five strings always serialise");
    let next_page_token = page.finish(&mut rows, key);
    Ok(wire::SummarizeComplianceResponse { rows: rows.into_iter().map(Into::into).collect(), next_page_token })
}

/// How the violations in a fleet came and went.
pub async fn history(
    app: &App,
    caller: &Caller,
    request: wire::ListComplianceHistoryRequest,
) -> Result<wire::ListComplianceHistoryResponse> {
    caller.require(Role::Viewer)?;
    let wire::ListComplianceHistoryRequest { fleet, policy, start_time, page_size, page_token } = &request;
    let fleet: FleetName = parse_name("fleet", fleet)?;
    let from = match start_time {
        None => Timestamp::UNIX_EPOCH,
        Some(time) => time::from_proto(time).ok_or_else(|| Error::invalid("start_time", "is outside years 1 to 9999"))?,
    };
    let page = Page::parse(*page_size, page_token, &format!("{fleet} {policy} {from}"))?;
    let policy = named::<PolicyName>("policy", policy)?;
    let bad_token = || Error::invalid("page_token", "not a token of this list");
    let (after_policy, after_hour) = page.after.split_once(' ').unwrap_or_default();
    let after_hour = match after_hour {
        "" => Timestamp::UNIX_EPOCH,
        hour => hour.parse().map_err(|_| bad_token())?,
    };
    let policy = policy.as_ref().map(PolicyName::policy);
    let after = (after_policy, after_hour);
    let mut points = store::compliance::history(&app.pool, fleet.fleet(), policy, from, after, page.limit()).await?;
    let next_page_token = page.finish(&mut points, |point| format!("{} {}", point.policy, point.hour));
    Ok(wire::ListComplianceHistoryResponse { points: points.into_iter().map(Into::into).collect(), next_page_token })
}

fn named<N: std::str::FromStr<Err = NameError>>(field: &str, name: &str) -> Result<Option<N>> {
    if name.is_empty() { Ok(None) } else { parse_name(field, name).map(Some) }
}
