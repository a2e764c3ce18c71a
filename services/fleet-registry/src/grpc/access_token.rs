//! Access tokens over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_proto::registry::v1::{self as wire, access_token_service_server::AccessTokenService};
use tonic::{Request, Response, Status};

/// The gRPC side of `AccessTokenService`.
pub struct AccessTokens(pub App);

#[tonic::async_trait]
impl AccessTokenService for AccessTokens {
    async fn get_access_token(
        &self,
        request: Request<wire::GetAccessTokenRequest>,
    ) -> Result<Response<wire::AccessToken>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::access_token::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_access_tokens(
        &self,
        request: Request<wire::ListAccessTokensRequest>,
    ) -> Result<Response<wire::ListAccessTokensResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::access_token::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_access_token(
        &self,
        request: Request<wire::CreateAccessTokenRequest>,
    ) -> Result<Response<wire::AccessToken>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::access_token::create(&self.0, &caller, request.into_inner()).await?))
    }

    async fn update_access_token(
        &self,
        request: Request<wire::UpdateAccessTokenRequest>,
    ) -> Result<Response<wire::AccessToken>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::access_token::update(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete_access_token(
        &self,
        request: Request<wire::DeleteAccessTokenRequest>,
    ) -> Result<Response<wire::DeleteAccessTokenResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::access_token::delete(&self.0, &caller, request.into_inner()).await?))
    }

    async fn introspect_access_token(
        &self,
        request: Request<wire::IntrospectAccessTokenRequest>,
    ) -> Result<Response<wire::IntrospectAccessTokenResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::access_token::introspect(&self.0, &caller, request.into_inner()).await?))
    }
}
