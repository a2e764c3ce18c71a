//! `PolicyService`.

use super::convert;
use crate::app::{App, Change};
use muster_core::{name::PolicyName, page::Page};
use muster_kit::{Caller, Error, error::parse_name};
use muster_proto::policy::v1::{
    CreatePolicyRequest, DeletePolicyRequest, DeletePolicyResponse, GetPolicyRequest, ListPoliciesRequest, ListPoliciesResponse,
    Policy, UpdatePolicyRequest, policy_service_server::PolicyService,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The handlers.
pub struct Policies(pub Arc<App>);

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<Policy>, Status> {
        let caller = Caller::of(&request);
        let name: PolicyName = parse_name("name", &request.into_inner().name)?;
        Ok(Response::new(self.0.get_policy(&caller, &name).await?.into()))
    }

    async fn list_policies(&self, request: Request<ListPoliciesRequest>) -> Result<Response<ListPoliciesResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token, "").map_err(Error::from)?;
        let (rows, next_page_token) = self.0.list_policies(&caller, &page).await?;
        let policies = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(ListPoliciesResponse { policies, next_page_token }))
    }

    async fn create_policy(&self, request: Request<CreatePolicyRequest>) -> Result<Response<Policy>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let manifest = request.policy.as_ref().map(|policy| policy.manifest.clone());
        let change = convert::created(&request.policy_id, manifest, "policy", &request.request_id, request.validate_only)?;
        Ok(Response::new(self.0.create_policy(&caller, &request, &change).await?))
    }

    async fn update_policy(&self, request: Request<UpdatePolicyRequest>) -> Result<Response<Policy>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let policy = request.policy.clone().ok_or_else(|| Error::invalid("policy", "is missing"))?;
        let id = match policy.name.as_str() {
            "" => String::new(),
            name => parse_name::<PolicyName>("policy.name", name)?.policy().to_owned(),
        };
        let change = Change {
            request_id: request.request_id.clone(),
            allow_missing: request.allow_missing,
            validate_only: request.validate_only,
            ..convert::updated(id, policy.manifest, policy.etag, request.update_mask.as_ref())?
        };
        Ok(Response::new(self.0.update_policy(&caller, &request, &change).await?))
    }

    async fn delete_policy(&self, request: Request<DeletePolicyRequest>) -> Result<Response<DeletePolicyResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let name: PolicyName = parse_name("name", &request.name)?;
        let change = Change { etag: request.etag.clone(), request_id: request.request_id.clone(), ..Change::default() };
        Ok(Response::new(self.0.delete_policy(&caller, &request, &name, &change).await?))
    }
}
