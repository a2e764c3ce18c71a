//! `VerdictService`.

use crate::app::App;
use muster_core::{
    name::{ClusterName, FleetName, PolicyReportName},
    page::Page,
};
use muster_kit::{Caller, Error, error::parse_name};
use muster_proto::policy::v1::{
    EvaluateRequest, EvaluateResponse, GetPolicyReportRequest, ListPolicyReportsRequest, ListPolicyReportsResponse, PolicyReport,
    SummarizeComplianceRequest, SummarizeComplianceResponse, verdict_service_server::VerdictService,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The handlers.
pub struct Verdicts(pub Arc<App>);

#[tonic::async_trait]
impl VerdictService for Verdicts {
    async fn evaluate(&self, request: Request<EvaluateRequest>) -> Result<Response<EvaluateResponse>, Status> {
        let caller = Caller::of(&request);
        let EvaluateRequest { manifests, clusters, namespace } = request.into_inner();
        let (revision, verdict) = self.0.evaluate(&caller, &manifests, &clusters, &namespace).await?;
        Ok(Response::new(EvaluateResponse {
            policy_revision: revision.to_string(),
            allowed: verdict.is_allowed(),
            violations: verdict.broken.into_iter().map(Into::into).collect(),
            warnings: verdict.warnings,
        }))
    }

    async fn get_policy_report(&self, request: Request<GetPolicyReportRequest>) -> Result<Response<PolicyReport>, Status> {
        let caller = Caller::of(&request);
        let name: PolicyReportName = parse_name("name", &request.into_inner().name)?;
        Ok(Response::new(self.0.get_report(&caller, &name).await?.into()))
    }

    async fn list_policy_reports(
        &self,
        request: Request<ListPolicyReportsRequest>,
    ) -> Result<Response<ListPolicyReportsResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token, &request.parent).map_err(Error::from)?;
        let cluster = match request.parent.as_str() {
            "clusters/-" => None,
            parent => Some(parse_name::<ClusterName>("parent", parent)?),
        };
        let cluster = cluster.as_ref().map(ClusterName::cluster);
        let (rows, next_page_token) = self.0.list_reports(&caller, cluster, &page).await?;
        let policy_reports = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(ListPolicyReportsResponse { policy_reports, next_page_token }))
    }

    async fn summarize_compliance(
        &self,
        request: Request<SummarizeComplianceRequest>,
    ) -> Result<Response<SummarizeComplianceResponse>, Status> {
        let caller = Caller::of(&request);
        let fleet = match request.into_inner().fleet.as_str() {
            "" => None,
            name => Some(parse_name::<FleetName>("fleet", name)?),
        };
        let rows = self.0.compliance(&caller, fleet.as_ref()).await?;
        Ok(Response::new(SummarizeComplianceResponse { rows: rows.into_iter().map(Into::into).collect() }))
    }
}
