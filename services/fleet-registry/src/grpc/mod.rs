//! gRPC: who calls and what is asked, handed to a use case. Nothing is decided here.

mod access;
mod access_token;
mod cluster;
mod desired;
mod enrolment_token;
mod fleet;
mod link;
mod price_book;

use crate::{app::App, link::session::Hub};
use muster_kit::peer::MAX_MESSAGE_BYTES;
use muster_proto::{
    agent::v1::{agent_link_service_server::AgentLinkServiceServer, enrolment_service_server::EnrolmentServiceServer},
    registry::v1::{
        access_token_service_server::AccessTokenServiceServer, cluster_access_service_server::ClusterAccessServiceServer,
        cluster_service_server::ClusterServiceServer, desired_service_server::DesiredServiceServer,
        enrolment_token_service_server::EnrolmentTokenServiceServer, fleet_service_server::FleetServiceServer,
        price_book_service_server::PriceBookServiceServer,
    },
};
use tonic::service::Routes;

/// Every service of the registry.
pub fn routes(app: App, hub: Hub) -> Routes {
    let link = link::Link(hub);
    Routes::new(ClusterServiceServer::new(cluster::Clusters(app.clone())))
        .add_service(FleetServiceServer::new(fleet::Fleets(app.clone())))
        .add_service(PriceBookServiceServer::new(price_book::PriceBooks(app.clone())))
        .add_service(EnrolmentTokenServiceServer::new(enrolment_token::EnrolmentTokens(app.clone())))
        .add_service(AccessTokenServiceServer::new(access_token::AccessTokens(app.clone())))
        // Bundles of up to 8 MiB, two of them a call.
        .add_service(DesiredServiceServer::new(desired::DesiredState(app.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(ClusterAccessServiceServer::new(access::ClusterAccess(app)))
        // An inventory of 10,000 nodes.
        .add_service(AgentLinkServiceServer::new(link.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(EnrolmentServiceServer::new(link))
}
