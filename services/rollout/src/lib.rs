//! The rollout service: commits become releases, releases go wave by wave, bad ones turn back.
//!
//! It reads git repositories ([`reconcile::sources`]), decides what a commit means to each application
//! ([`reconcile::decide`]), takes releases through their waves ([`reconcile::releases`]), tells the registry what each
//! cluster is to hold ([`reconcile::dispatch`]), and writes model versions and reverts to git ([`reconcile::write`]).
//! Every decision is a pure function of [`domain`]; one replica decides at a time.

pub mod app;
pub mod config;
pub mod crash;
pub mod domain;
mod error;
pub mod events;
pub mod git;
pub mod grpc;
pub mod peers;
pub mod reconcile;
pub mod render;
pub mod store;

use app::{App, Wakes, source::Sources};
use async_trait::async_trait;
use config::Settings;
use muster_kit::boot::{Book, Chassis};
use muster_kit::consume::Consumer;
use muster_kit::crash::CrashPoint;
use peers::{policy::RemotePolicy, registry::RemoteRegistry, scheduler::RemoteScheduler};
use reconcile::{
    decide::DecisionReconciler, dispatch::DispatchReconciler, fleets::FleetReconciler, leader::Leader,
    releases::ReleaseReconciler, sources::SourceReconciler, tidy::TidyReconciler, verify::VerifyReconciler,
    write::WriteReconciler,
};
use render::{Kustomize, Renderer};
use sqlx::migrate::Migrator;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;

/// The service's own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// The topic on which trainings are reported.
const MLOPS_EVENTS: &str = "mlops.events";

/// The rollout service.
pub struct Rollout;

#[async_trait]
impl Book for Rollout {
    const NAME: &'static str = "rollout";
    const SERVICES: &'static [&'static str] = grpc::SERVICES;
    const CRASH_POINTS: &'static [CrashPoint] = crash::POINTS;
    type Settings = Settings;

    fn migrations() -> &'static Migrator {
        &MIGRATIONS
    }

    async fn start(settings: Settings, chassis: &mut Chassis) -> anyhow::Result<Routes> {
        let registry = RemoteRegistry::new(chassis.peers.registry()?);
        let wakes = Wakes::default();
        let app = App {
            pool: chassis.pool.clone(),
            clock: Arc::clone(&chassis.clock),
            registry: Arc::new(registry.clone()),
            policy: Arc::new(RemotePolicy::new(chassis.peers.policy()?)),
            scheduler: Arc::new(RemoteScheduler::new(chassis.peers.scheduler()?)),
            sources: Sources::new(settings.git(), settings.state_directory.join("mirrors"), settings.credentials()?),
            renderer: Renderer::new(Kustomize::new(&settings.kustomize_file, settings.kustomize_timeout())),
            fast_concurrency: settings.fast_concurrency,
            wakes: wakes.clone(),
        };
        if !settings.kustomize_file.exists() {
            let problem = format!("{} does not exist; overlays cannot be rendered", settings.kustomize_file.display());
            chassis.health.report("kustomize", Some(problem));
        }
        follow(&app, &registry, chassis);
        reconcilers(&app, chassis);
        let consumer = Consumer::new(
            chassis.pool.clone(),
            chassis.kafka.clone(),
            MLOPS_EVENTS,
            "rollout-mlops-events",
            Arc::new(events::Inbound(app.clone())),
            chassis.health.clone(),
        );
        let shutdown = chassis.shutdown.clone();
        chassis.spawn("mlops-events", async move {
            consumer.run(shutdown.clone()).await;
            // Without brokers there is nothing to consume, and that is no reason to end.
            shutdown.cancelled().await;
        });
        Ok(grpc::Server::new(app, chassis.tail.clone()).routes())
    }
}

/// Keeps what others know: clusters, fleets, observations.
fn follow(app: &App, registry: &RemoteRegistry, chassis: &mut Chassis) {
    let (pool, health, shutdown) = (chassis.pool.clone(), chassis.health.clone(), chassis.shutdown.clone());
    let wakes = vec![app.wakes.decide.clone(), app.wakes.advance.clone(), app.wakes.dispatch.clone()];
    chassis.spawn("clusters", registry.clone().follow_clusters(pool.clone(), wakes, health.clone(), shutdown.clone()));
    chassis
        .spawn("observations", registry.clone().follow_observations(pool, app.wakes.advance.clone(), health.clone(), shutdown));
    chassis.reconcile(Arc::new(FleetReconciler { app: app.clone(), health }), Duration::from_secs(1));
}

/// The loops that decide and act.
fn reconcilers(app: &App, chassis: &mut Chassis) {
    let leader = Leader::new(chassis.pool.clone());
    let wakes = app.wakes.clone();
    let (app, health) = (app.clone(), chassis.health.clone());
    let half_a_second = Duration::from_millis(500);
    let sources = Arc::new(SourceReconciler { app: app.clone(), leader: leader.clone() });
    chassis.reconcile_on(sources, half_a_second, wakes.sources);
    let decide = Arc::new(DecisionReconciler { app: app.clone(), leader: leader.clone() });
    chassis.reconcile_on(decide, half_a_second, wakes.decide);
    let releases = Arc::new(ReleaseReconciler { app: app.clone(), leader: leader.clone() });
    chassis.reconcile_on(releases, Duration::from_millis(250), wakes.advance);
    let write = Arc::new(WriteReconciler { app: app.clone(), leader: leader.clone() });
    chassis.reconcile_on(write, half_a_second, wakes.write);
    let tidy = Arc::new(TidyReconciler { app: app.clone(), leader: leader.clone() });
    chassis.reconcile(tidy, Duration::from_secs(600));
    let verify = Arc::new(VerifyReconciler { app: app.clone(), leader: leader.clone(), health: health.clone() });
    chassis.reconcile(verify, Duration::from_secs(10));
    let dispatch = Arc::new(DispatchReconciler { app, leader, incarnation: chassis.incarnation, health });
    chassis.reconcile_on(dispatch, half_a_second, wakes.dispatch);
}
