//! Desired and observed state over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_kit::watch::WatchStream;
use muster_proto::agent::v1::Bundle;
use muster_proto::registry::v1::{self as wire, desired_service_server::DesiredService};
use tonic::{Request, Response, Status};

/// The gRPC side of `DesiredService`.
pub struct DesiredState(pub App);

#[tonic::async_trait]
impl DesiredService for DesiredState {
    type WatchObservedStream = WatchStream<wire::WatchObservedResponse>;

    async fn watch_observed(
        &self,
        request: Request<wire::WatchObservedRequest>,
    ) -> Result<Response<Self::WatchObservedStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::desired::watch(&self.0, &caller, request.into_inner()).await?))
    }

    type ReadVerdictsStream = app::verdict::Parts;

    async fn read_verdicts(
        &self,
        request: Request<wire::ReadVerdictsRequest>,
    ) -> Result<Response<Self::ReadVerdictsStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::verdict::read(&self.0, &caller, request.into_inner()).await?))
    }

    async fn put_bundles(&self, request: Request<wire::PutBundlesRequest>) -> Result<Response<wire::PutBundlesResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::desired::put_bundles(&self.0, &caller, request.into_inner()).await?))
    }

    async fn get_bundle(&self, request: Request<wire::GetBundleRequest>) -> Result<Response<Bundle>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::desired::get_bundle(&self.0, &caller, request.into_inner()).await?))
    }

    async fn apply_desired(
        &self,
        request: Request<wire::ApplyDesiredRequest>,
    ) -> Result<Response<wire::ApplyDesiredResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::desired::apply(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_desired(
        &self,
        request: Request<wire::ListDesiredRequest>,
    ) -> Result<Response<wire::ListDesiredResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::desired::list(&self.0, &caller, request.into_inner()).await?))
    }
}
