//! What clusters reported, and who complies.

use super::App;
use crate::{domain::compliance, store};
use muster_core::{
    name::{ClusterName, FleetName, PolicyReportName},
    page::Page,
};
use muster_kit::{Caller, Error, Result, Role, error::parse_name};
use muster_proto::policy::v1 as wire;

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

/// Who complies, by fleet and policy.
pub async fn summarize(
    app: &App,
    caller: &Caller,
    request: wire::SummarizeComplianceRequest,
) -> Result<wire::SummarizeComplianceResponse> {
    caller.require(Role::Viewer)?;
    let fleet = match request.fleet.as_str() {
        "" => None,
        name => Some(parse_name::<FleetName>("fleet", name)?),
    };
    let standings = store::report::standings(&app.pool, fleet.as_ref().map(FleetName::fleet)).await?;
    Ok(wire::SummarizeComplianceResponse { rows: compliance(&standings).into_iter().map(Into::into).collect() })
}
