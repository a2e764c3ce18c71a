//! Enrolment tokens over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_proto::registry::v1::{self as wire, enrolment_token_service_server::EnrolmentTokenService};
use tonic::{Request, Response, Status};

/// The gRPC side of `EnrolmentTokenService`.
pub struct EnrolmentTokens(pub App);

#[tonic::async_trait]
impl EnrolmentTokenService for EnrolmentTokens {
    async fn get_enrolment_token(
        &self,
        request: Request<wire::GetEnrolmentTokenRequest>,
    ) -> Result<Response<wire::EnrolmentToken>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::enrolment_token::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_enrolment_tokens(
        &self,
        request: Request<wire::ListEnrolmentTokensRequest>,
    ) -> Result<Response<wire::ListEnrolmentTokensResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::enrolment_token::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_enrolment_token(
        &self,
        request: Request<wire::CreateEnrolmentTokenRequest>,
    ) -> Result<Response<wire::EnrolmentToken>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::enrolment_token::create(&self.0, &caller, request.into_inner()).await?))
    }

    async fn update_enrolment_token(
        &self,
        request: Request<wire::UpdateEnrolmentTokenRequest>,
    ) -> Result<Response<wire::EnrolmentToken>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::enrolment_token::update(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete_enrolment_token(
        &self,
        request: Request<wire::DeleteEnrolmentTokenRequest>,
    ) -> Result<Response<wire::DeleteEnrolmentTokenResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::enrolment_token::delete(&self.0, &caller, request.into_inner()).await?))
    }
}
