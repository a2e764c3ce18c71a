//! The wire: five lines an RPC, conversions in `convert`.

mod convert;
mod fleet_policy;
mod policy;
mod verdict;

use crate::app::App;
use muster_proto::policy::v1::{
    fleet_policy_service_server::FleetPolicyServiceServer, policy_service_server::PolicyServiceServer,
    verdict_service_server::VerdictServiceServer,
};
use std::sync::Arc;
use tonic::service::Routes;

/// A request to judge holds 4 MiB of manifests; the rest is names.
const MAX_REQUEST_BYTES: usize = 5 * 1024 * 1024;

/// The gRPC services.
pub fn routes(app: &Arc<App>) -> Routes {
    let mut routes = Routes::builder();
    routes
        .add_service(PolicyServiceServer::new(policy::Policies(Arc::clone(app))))
        .add_service(FleetPolicyServiceServer::new(fleet_policy::FleetPolicies(Arc::clone(app))))
        .add_service(VerdictServiceServer::new(verdict::Verdicts(Arc::clone(app))).max_decoding_message_size(MAX_REQUEST_BYTES));
    routes.routes()
}
