//! `FleetPolicyService`.

use super::convert;
use crate::app::{App, Change};
use muster_core::{name::FleetPolicyName, page::Page};
use muster_kit::{Caller, Error, error::parse_name};
use muster_proto::policy::v1::{
    CreateFleetPolicyRequest, DeleteFleetPolicyRequest, DeleteFleetPolicyResponse, FleetPolicy, GetFleetPolicyRequest,
    ListFleetPoliciesRequest, ListFleetPoliciesResponse, UpdateFleetPolicyRequest,
    fleet_policy_service_server::FleetPolicyService,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The handlers.
pub struct FleetPolicies(pub Arc<App>);

#[tonic::async_trait]
impl FleetPolicyService for FleetPolicies {
    async fn get_fleet_policy(&self, request: Request<GetFleetPolicyRequest>) -> Result<Response<FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        let name: FleetPolicyName = parse_name("name", &request.into_inner().name)?;
        Ok(Response::new(self.0.get_fleet_policy(&caller, &name).await?.into()))
    }

    async fn list_fleet_policies(
        &self,
        request: Request<ListFleetPoliciesRequest>,
    ) -> Result<Response<ListFleetPoliciesResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token, "").map_err(Error::from)?;
        let (rows, next_page_token) = self.0.list_fleet_policies(&caller, &page).await?;
        let fleet_policies = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(ListFleetPoliciesResponse { fleet_policies, next_page_token }))
    }

    async fn create_fleet_policy(&self, request: Request<CreateFleetPolicyRequest>) -> Result<Response<FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let manifest = request.fleet_policy.as_ref().map(|binding| binding.manifest.clone());
        let id = &request.fleet_policy_id;
        let change = convert::created(id, manifest, "fleet_policy", &request.request_id, request.validate_only)?;
        Ok(Response::new(self.0.create_fleet_policy(&caller, &request, &change).await?))
    }

    async fn update_fleet_policy(&self, request: Request<UpdateFleetPolicyRequest>) -> Result<Response<FleetPolicy>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let binding = request.fleet_policy.clone().ok_or_else(|| Error::invalid("fleet_policy", "is missing"))?;
        let id = match binding.name.as_str() {
            "" => String::new(),
            name => parse_name::<FleetPolicyName>("fleet_policy.name", name)?.binding().to_owned(),
        };
        let change = Change {
            request_id: request.request_id.clone(),
            allow_missing: request.allow_missing,
            validate_only: request.validate_only,
            ..convert::updated(id, binding.manifest, binding.etag, request.update_mask.as_ref())?
        };
        Ok(Response::new(self.0.update_fleet_policy(&caller, &request, &change).await?))
    }

    async fn delete_fleet_policy(
        &self,
        request: Request<DeleteFleetPolicyRequest>,
    ) -> Result<Response<DeleteFleetPolicyResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let name: FleetPolicyName = parse_name("name", &request.name)?;
        let change = Change { etag: request.etag.clone(), request_id: request.request_id.clone(), ..Change::default() };
        Ok(Response::new(self.0.delete_fleet_policy(&caller, &request, &name, &change).await?))
    }
}
