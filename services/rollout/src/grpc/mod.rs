//! The wire: five lines an RPC, and the conversion of every message.

/// A mutation: once for each request_id, or not at all where it is only to be checked.
macro_rules! mutate {
    ($server:expr, $caller:expr, $method:literal, $request:expr, $validate_only:expr, $tx:ident => $body:block) => {{
        if $validate_only {
            let mut transaction = muster_kit::db::begin(&$server.app.pool).await?;
            let $tx = &mut transaction;
            // Dropped, and with it everything that the body did.
            let outcome: muster_kit::Result<_> = async { $body }.await;
            outcome
        } else {
            muster_kit::once!($server.app.pool, $caller, $method, $request.request_id, $request, $tx => $body)
        }
    }};
}

mod application;
pub mod convert;
mod model;
mod release;
mod repository;
mod watch;

use crate::app::App;
use muster_kit::watch::Tail;
use tonic::service::Routes;

/// The services, for reflection.
pub const SERVICES: &[&str] = &[
    "muster.rollout.v1.ApplicationService",
    "muster.rollout.v1.ReleaseService",
    "muster.rollout.v1.GitRepositoryService",
    "muster.rollout.v1.ModelService",
];

/// The gRPC side of the service.
#[derive(Clone)]
pub struct Server {
    app: App,
    tail: Tail,
}

impl Server {
    /// A server over the use cases.
    pub fn new(app: App, tail: Tail) -> Self {
        Self { app, tail }
    }

    /// Every service of it.
    pub fn routes(self) -> Routes {
        use muster_proto::rollout::v1 as wire;
        Routes::new(wire::application_service_server::ApplicationServiceServer::new(self.clone()))
            .add_service(wire::release_service_server::ReleaseServiceServer::new(self.clone()))
            .add_service(wire::git_repository_service_server::GitRepositoryServiceServer::new(self.clone()))
            .add_service(wire::model_service_server::ModelServiceServer::new(self))
    }
}
