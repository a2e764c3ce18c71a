//! Verdicts and reports over gRPC.

use crate::app::{self, App};
use futures::{StreamExt, stream::BoxStream};
use muster_kit::Caller;
use muster_proto::policy::v1::{self as wire, verdict_service_server::VerdictService};
use tonic::{Request, Response, Status, Streaming};

/// The gRPC side of `VerdictService`.
pub struct Verdicts(pub App);

#[tonic::async_trait]
impl VerdictService for Verdicts {
    async fn evaluate(&self, request: Request<wire::EvaluateRequest>) -> Result<Response<wire::EvaluateResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::verdict::evaluate(&self.0, &caller, request.into_inner()).await?))
    }

    type EvaluateStreamStream = BoxStream<'static, app::verdict_stream::Answered>;

    async fn evaluate_stream(
        &self,
        request: Request<Streaming<wire::EvaluateRequest>>,
    ) -> Result<Response<Self::EvaluateStreamStream>, Status> {
        let caller = Caller::of(&request);
        let answers = app::verdict_stream::evaluate(self.0.clone(), &caller, request.into_inner())?;
        Ok(Response::new(answers.boxed()))
    }

    async fn get_policy_report(
        &self,
        request: Request<wire::GetPolicyReportRequest>,
    ) -> Result<Response<wire::PolicyReport>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::report::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_policy_reports(
        &self,
        request: Request<wire::ListPolicyReportsRequest>,
    ) -> Result<Response<wire::ListPolicyReportsResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::report::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn summarize_compliance(
        &self,
        request: Request<wire::SummarizeComplianceRequest>,
    ) -> Result<Response<wire::SummarizeComplianceResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::report::summarize(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_compliance_history(
        &self,
        request: Request<wire::ListComplianceHistoryRequest>,
    ) -> Result<Response<wire::ListComplianceHistoryResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::report::history(&self.0, &caller, request.into_inner()).await?))
    }
}
