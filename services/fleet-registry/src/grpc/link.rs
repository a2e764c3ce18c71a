//! The agent link and enrolment over gRPC.

use crate::{
    app,
    link::session::{Hub, Outgoing},
};
use muster_kit::Caller;
use muster_proto::agent::v1::{
    self as wire, agent_link_service_server::AgentLinkService, enrolment_service_server::EnrolmentService,
};
use tonic::{Request, Response, Status, Streaming};

/// The gRPC side of `AgentLinkService` and `EnrolmentService`.
#[derive(Clone)]
pub struct Link(pub Hub);

#[tonic::async_trait]
impl AgentLinkService for Link {
    type ConnectStream = Outgoing;

    async fn connect(&self, request: Request<Streaming<wire::AgentMessage>>) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.0.connect(&caller, request.into_inner()).await?))
    }

    async fn fetch_bundle(&self, request: Request<wire::FetchBundleRequest>) -> Result<Response<wire::Bundle>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::desired::fetch_bundle(&self.0.app, &caller, request.into_inner().digest).await?))
    }
}

#[tonic::async_trait]
impl EnrolmentService for Link {
    async fn enrol(&self, request: Request<wire::EnrolRequest>) -> Result<Response<wire::EnrolResponse>, Status> {
        Ok(Response::new(app::enrolment::enrol(&self.0.app, request.into_inner()).await?))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::RenewResponse>, Status> {
        Ok(Response::new(app::enrolment::renew(&self.0.app, request.into_inner()).await?))
    }
}
