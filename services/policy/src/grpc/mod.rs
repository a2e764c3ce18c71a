//! The wire: who calls, and the use case.

mod fleet_policy;
mod policy;
mod verdict;

use crate::app::App;
use muster_proto::policy::v1::{
    fleet_policy_service_server::FleetPolicyServiceServer, policy_service_server::PolicyServiceServer,
    verdict_service_server::VerdictServiceServer,
};
use tonic::service::Routes;

/// A request to judge holds 4 MiB of manifests; the rest is names.
const MAX_REQUEST_BYTES: usize = 5 * 1024 * 1024;

/// The gRPC services.
pub fn routes(app: &App) -> Routes {
    let mut routes = Routes::builder();
    routes
        .add_service(PolicyServiceServer::new(policy::Policies(app.clone())))
        .add_service(FleetPolicyServiceServer::new(fleet_policy::FleetPolicies(app.clone())))
        .add_service(VerdictServiceServer::new(verdict::Verdicts(app.clone())).max_decoding_message_size(MAX_REQUEST_BYTES));
    routes.routes()
}
