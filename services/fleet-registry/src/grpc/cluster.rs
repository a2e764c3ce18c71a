//! Clusters over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_kit::watch::WatchStream;
use muster_proto::registry::v1::{self as wire, cluster_service_server::ClusterService};
use tonic::{Request, Response, Status};

/// The gRPC side of `ClusterService`.
pub struct Clusters(pub App);

#[tonic::async_trait]
impl ClusterService for Clusters {
    type WatchClustersStream = WatchStream<wire::WatchClustersResponse>;

    async fn watch_clusters(
        &self,
        request: Request<wire::WatchClustersRequest>,
    ) -> Result<Response<Self::WatchClustersStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::watch(&self.0, &caller, request.into_inner()).await?))
    }

    async fn get_cluster(&self, request: Request<wire::GetClusterRequest>) -> Result<Response<wire::Cluster>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_clusters(
        &self,
        request: Request<wire::ListClustersRequest>,
    ) -> Result<Response<wire::ListClustersResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_cluster(&self, request: Request<wire::CreateClusterRequest>) -> Result<Response<wire::Cluster>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::create(&self.0, &caller, request.into_inner()).await?))
    }

    async fn update_cluster(&self, request: Request<wire::UpdateClusterRequest>) -> Result<Response<wire::Cluster>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::update(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete_cluster(
        &self,
        request: Request<wire::DeleteClusterRequest>,
    ) -> Result<Response<wire::DeleteClusterResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::delete(&self.0, &caller, request.into_inner()).await?))
    }

    async fn cordon_cluster(&self, request: Request<wire::CordonClusterRequest>) -> Result<Response<wire::Cluster>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::cordon(&self.0, &caller, request.into_inner()).await?))
    }

    async fn uncordon_cluster(&self, request: Request<wire::UncordonClusterRequest>) -> Result<Response<wire::Cluster>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::uncordon(&self.0, &caller, request.into_inner()).await?))
    }

    async fn drain_cluster(&self, request: Request<wire::DrainClusterRequest>) -> Result<Response<wire::Cluster>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::drain(&self.0, &caller, request.into_inner()).await?))
    }

    async fn leave_cluster(&self, request: Request<wire::LeaveClusterRequest>) -> Result<Response<wire::Cluster>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::cluster::leave(&self.0, &caller, request.into_inner()).await?))
    }
}
