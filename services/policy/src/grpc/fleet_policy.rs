//! Bindings over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_proto::policy::v1::{self as wire, fleet_policy_service_server::FleetPolicyService};
use tonic::{Request, Response, Status};

/// The gRPC side of `FleetPolicyService`.
pub struct FleetPolicies(pub App);

#[tonic::async_trait]
impl FleetPolicyService for FleetPolicies {
    async fn get_fleet_policy(
        &self,
        request: Request<wire::GetFleetPolicyRequest>,
    ) -> Result<Response<wire::FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet_policy::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_fleet_policies(
        &self,
        request: Request<wire::ListFleetPoliciesRequest>,
    ) -> Result<Response<wire::ListFleetPoliciesResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet_policy::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_fleet_policy(
        &self,
        request: Request<wire::CreateFleetPolicyRequest>,
    ) -> Result<Response<wire::FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet_policy::create(&self.0, &caller, request.into_inner()).await?))
    }

    async fn update_fleet_policy(
        &self,
        request: Request<wire::UpdateFleetPolicyRequest>,
    ) -> Result<Response<wire::FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet_policy::update(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete_fleet_policy(
        &self,
        request: Request<wire::DeleteFleetPolicyRequest>,
    ) -> Result<Response<wire::DeleteFleetPolicyResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet_policy::delete(&self.0, &caller, request.into_inner()).await?))
    }

    async fn pause_ramp(&self, request: Request<wire::PauseRampRequest>) -> Result<Response<wire::FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::ramp::pause(&self.0, &caller, request.into_inner()).await?))
    }

    async fn resume_ramp(&self, request: Request<wire::ResumeRampRequest>) -> Result<Response<wire::FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::ramp::resume(&self.0, &caller, request.into_inner()).await?))
    }

    async fn abort_ramp(&self, request: Request<wire::AbortRampRequest>) -> Result<Response<wire::FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::ramp::abort(&self.0, &caller, request.into_inner()).await?))
    }
}
