//! Policies over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_proto::policy::v1::{self as wire, policy_service_server::PolicyService};
use tonic::{Request, Response, Status};

/// The gRPC side of `PolicyService`.
pub struct Policies(pub App);

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn get_policy(&self, request: Request<wire::GetPolicyRequest>) -> Result<Response<wire::Policy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::policy::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_policies(
        &self,
        request: Request<wire::ListPoliciesRequest>,
    ) -> Result<Response<wire::ListPoliciesResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::policy::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_policy(&self, request: Request<wire::CreatePolicyRequest>) -> Result<Response<wire::Policy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::policy::create(&self.0, &caller, request.into_inner()).await?))
    }

    async fn update_policy(&self, request: Request<wire::UpdatePolicyRequest>) -> Result<Response<wire::Policy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::policy::update(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete_policy(
        &self,
        request: Request<wire::DeletePolicyRequest>,
    ) -> Result<Response<wire::DeletePolicyResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::policy::delete(&self.0, &caller, request.into_inner()).await?))
    }
}
