//! Questions to clusters over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_proto::agent::v1::{DryRunResult, LogChunk, MetricsResult};
use muster_proto::registry::v1::{self as wire, cluster_access_service_server::ClusterAccessService};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The gRPC side of `ClusterAccessService`.
pub struct ClusterAccess(pub App);

#[tonic::async_trait]
impl ClusterAccessService for ClusterAccess {
    type ReadLogsStream = ReceiverStream<Result<LogChunk, Status>>;

    async fn read_logs(&self, request: Request<wire::ReadLogsRequest>) -> Result<Response<Self::ReadLogsStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::question::read_logs(&self.0, &caller, request.into_inner()).await?))
    }

    async fn query_metrics(&self, request: Request<wire::QueryMetricsRequest>) -> Result<Response<MetricsResult>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::question::query_metrics(&self.0, &caller, request.into_inner()).await?))
    }

    async fn dry_run(&self, request: Request<wire::DryRunRequest>) -> Result<Response<DryRunResult>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::question::dry_run(&self.0, &caller, request.into_inner()).await?))
    }
}
