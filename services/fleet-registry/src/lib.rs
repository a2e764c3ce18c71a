//! **fleet-registry** knows the clusters and holds the link to the agent in each of them.
//!
//! It owns enrolment and identities, fleets, prices, liveness, and every cluster's desired and observed state. It never
//! calls into a cluster: services write what should be (`ApplyDesired`), agents dial in and are told what differs, and
//! what they observe goes out through the event log to whoever watches.

pub mod app;
pub mod bootstrap;
pub mod config;
mod convert;
pub mod domain;
mod events;
mod grpc;
pub mod link;
pub mod pki;
pub mod reconcile;
mod store;

use crate::{
    app::{App, access_token::Verifier},
    config::Settings,
    link::{Sessions, beats, send::Sender, session::Hub},
};
use async_trait::async_trait;
use muster_kit::boot::{Book, Chassis};
use sqlx::migrate::Migrator;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tonic::service::Routes;

/// Its own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// The service.
pub struct FleetRegistry;

#[async_trait]
impl Book for FleetRegistry {
    const NAME: &'static str = "fleet-registry";
    const SERVICES: &'static [&'static str] = &[
        "muster.registry.v1.ClusterService",
        "muster.registry.v1.FleetService",
        "muster.registry.v1.PriceBookService",
        "muster.registry.v1.EnrolmentTokenService",
        "muster.registry.v1.AccessTokenService",
        "muster.registry.v1.DesiredService",
        "muster.registry.v1.ClusterAccessService",
        "muster.agent.v1.AgentLinkService",
        "muster.agent.v1.EnrolmentService",
    ];
    type Settings = Settings;

    fn migrations() -> &'static Migrator {
        &MIGRATIONS
    }

    async fn start(settings: Settings, chassis: &mut Chassis) -> anyhow::Result<Routes> {
        let authority = pki::Authority::load(&settings.ca_certificate_file, &settings.ca_key_file)?;
        let app = App {
            pool: chassis.pool.clone(),
            clock: Arc::clone(&chassis.clock),
            settings,
            authority: Arc::new(authority),
            tail: chassis.tail.clone(),
            send: muster_kit::reconcile::Wake::default(),
            incarnation: Arc::new(AtomicU64::new(chassis.incarnation)),
        };
        chassis.verifier = Some(Arc::new(Verifier(app.clone())));

        let sessions = Sessions::default();
        let (beats, write_beats) = beats::start(app.clone(), chassis.shutdown.clone());
        chassis.spawn("heartbeats", write_beats);
        let sender = Arc::new(Sender { app: app.clone(), sessions: sessions.clone() });
        chassis.reconcile_on(sender, Duration::from_millis(50), app.send.clone());
        chassis.reconcile(Arc::new(reconcile::liveness::Liveness::new(app.clone())), Duration::from_millis(500));
        chassis.reconcile(Arc::new(reconcile::sweep::Sweep(app.clone())), Duration::from_secs(600));
        Ok(grpc::routes(app.clone(), Hub { app, sessions, beats }))
    }

    async fn command(name: &str, arguments: &[String]) -> Option<anyhow::Result<()>> {
        bootstrap::command(name, arguments).await
    }
}
