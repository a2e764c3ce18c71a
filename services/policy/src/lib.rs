//! The policy service: which policies hold in which fleets, what they say of manifests before these leave, and who
//! complies.
//!
//! Policies are Kyverno's documents. A `FleetPolicy` binds them to a fleet, from the policies kept here, from itself or
//! from git (read through the rollout service). `Evaluate` judges manifests by the pure evaluator and a catalog that is
//! void with the next revision. One leading replica tells every cluster the policies of its fleets through the registry,
//! and keeps what the clusters' agents report.

pub mod app;
pub mod config;
pub mod convert;
pub mod domain;
mod error;
pub mod events;
pub mod grpc;
pub mod peers;
pub mod reconcile;
pub mod store;

use app::App;
use async_trait::async_trait;
use config::Settings;
use muster_kit::boot::{Book, Chassis};
use peers::{Registry, RegistryClient, RolloutClient};
use reconcile::{Clusters, Compliance, Distribute, Fleets, Leader, Ramps, Reports, Sources, Verify};
use sqlx::migrate::Migrator;
use std::{sync::Arc, time::Duration};
use tonic::service::Routes;

/// The service's own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// The policy service, for the chassis.
pub struct PolicyBook;

#[async_trait]
impl Book for PolicyBook {
    const NAME: &'static str = "policy";
    const SERVICES: &'static [&'static str] =
        &["muster.policy.v1.PolicyService", "muster.policy.v1.FleetPolicyService", "muster.policy.v1.VerdictService"];
    type Settings = Settings;

    fn migrations() -> &'static Migrator {
        &MIGRATIONS
    }

    async fn start(settings: Settings, chassis: &mut Chassis) -> anyhow::Result<Routes> {
        let app = App::new(chassis.pool.clone(), chassis.shutdown.clone());
        let registry: Arc<dyn Registry> = Arc::new(RegistryClient::new(chassis.peers.registry()?));
        let repositories = Arc::new(RolloutClient::new(chassis.peers.rollout()?));
        let lease = Duration::from_millis(settings.lease_ms);
        let leader = Arc::new(Leader::new(chassis.pool.clone(), lease));

        // Three renewals within the lease, so that one lost does not cost the lead.
        chassis.reconcile(Arc::clone(&leader) as _, lease / 3);
        let fleets = Fleets {
            app: app.clone(),
            leader: Arc::clone(&leader),
            registry: Arc::clone(&registry),
            health: chassis.health.clone(),
        };
        chassis.reconcile(Arc::new(fleets), Duration::from_millis(settings.fleets_interval_ms));
        let sources = Sources { app: app.clone(), leader: Arc::clone(&leader), repositories };
        chassis.reconcile_on(Arc::new(sources), Duration::from_millis(settings.sources_interval_ms), app.sources.clone());
        let ramps = Ramps { app: app.clone(), leader: Arc::clone(&leader), clock: chassis.clock.clone() };
        chassis.reconcile(Arc::new(ramps), Duration::from_millis(settings.ramps_interval_ms));
        let distribute = Distribute { app: app.clone(), leader: Arc::clone(&leader), registry: Arc::clone(&registry) };
        chassis.reconcile_on(
            Arc::new(distribute),
            Duration::from_millis(settings.distribute_interval_ms),
            app.distribute.clone(),
        );

        let verify = Verify { app: app.clone(), leader: Arc::clone(&leader), registry: Arc::clone(&registry) };
        chassis.reconcile(Arc::new(verify), Duration::from_millis(settings.verify_interval_ms));

        let compliance = Compliance::new(app.clone(), Arc::clone(&leader));
        chassis.reconcile(Arc::new(compliance), Duration::from_millis(settings.compliance_interval_ms));

        let clusters = Clusters { app: app.clone(), leader: Arc::clone(&leader), registry: Arc::clone(&registry) };
        chassis.spawn("clusters", clusters.run(chassis.shutdown.clone()));
        let reports = Reports { app: app.clone(), leader: Arc::clone(&leader), registry };
        chassis.spawn("reports", reports.run(chassis.shutdown.clone()));
        let (resigning, shutdown) = (leader, chassis.shutdown.clone());
        chassis.spawn("resign", async move {
            shutdown.cancelled().await;
            resigning.resign().await;
        });
        Ok(grpc::routes(&app))
    }
}
