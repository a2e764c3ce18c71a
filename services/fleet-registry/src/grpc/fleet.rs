//! Fleets over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_proto::registry::v1::{self as wire, fleet_service_server::FleetService};
use tonic::{Request, Response, Status};

/// The gRPC side of `FleetService`.
pub struct Fleets(pub App);

#[tonic::async_trait]
impl FleetService for Fleets {
    async fn get_fleet(&self, request: Request<wire::GetFleetRequest>) -> Result<Response<wire::Fleet>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_fleets(&self, request: Request<wire::ListFleetsRequest>) -> Result<Response<wire::ListFleetsResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_fleet(&self, request: Request<wire::CreateFleetRequest>) -> Result<Response<wire::Fleet>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet::create(&self.0, &caller, request.into_inner()).await?))
    }

    async fn update_fleet(&self, request: Request<wire::UpdateFleetRequest>) -> Result<Response<wire::Fleet>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet::update(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete_fleet(
        &self,
        request: Request<wire::DeleteFleetRequest>,
    ) -> Result<Response<wire::DeleteFleetResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::fleet::delete(&self.0, &caller, request.into_inner()).await?))
    }
}
