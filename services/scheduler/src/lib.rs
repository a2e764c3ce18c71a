//! The scheduler: decides which gang trains on which cluster, tells the cluster, and keeps what it cost.
//!
//! A submit is checked and stored by any replica. One replica leads: it folds what changed into its engine, decides, and
//! writes the decisions in the same transaction (`app/decide.rs`). A second loop takes the verdict at dispatch and tells
//! the clusters through the registry (`reconcile/tell.rs`). What clusters observe comes back as facts about runs
//! (`app/observe.rs`), and ends in the engine again. Everything in memory is a fold of the tables.

pub mod app;
pub mod config;
pub mod crash;
pub mod domain;
mod error;
pub mod events;
pub mod grpc;
pub mod peers;
pub mod reconcile;
pub mod store;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use muster_kit::boot::{self, Book, Chassis};
use muster_kit::crash::CrashPoint;
use muster_kit::reconcile::{Reconciler, Wake, backoff};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use app::admission::Admissions;
use app::writer::Writer;
use app::{App, Leadership};
use config::Settings;
use peers::policy::PolicyClient;
use peers::registry::RegistryClient;
use reconcile::follow::{What, follow};
use reconcile::lead::Lead;
use reconcile::standing::Stand;
use reconcile::tell::Tell;

/// Our own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// How often the leader looks for work that nobody woke it for: submits at other replicas, and timers.
const DECIDE_EVERY: Duration = Duration::from_millis(50);
/// How often a standby looks whether the lease is free.
const STAND_BY: Duration = Duration::from_millis(500);
/// How often the writer of desired state does.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// How often lost and drained clusters are looked at.
const STAND_EVERY: Duration = Duration::from_millis(500);

struct Scheduler;

#[async_trait]
impl Book for Scheduler {
    const NAME: &'static str = "scheduler";
    const SERVICES: &'static [&'static str] = grpc::SERVICES;
    const CRASH_POINTS: &'static [CrashPoint] = crash::POINTS;
    type Settings = Settings;

    fn migrations() -> &'static Migrator {
        &MIGRATIONS
    }

    async fn start(settings: Settings, chassis: &mut Chassis) -> anyhow::Result<Routes> {
        let registry = RegistryClient::new(chassis.peers.registry()?);
        let (writer, writing) = Writer::new(chassis.pool.clone(), Arc::clone(&chassis.clock));
        chassis.spawn("submit-writer", writing);
        let (admissions, admitting) = Admissions::new(chassis.pool.clone(), Arc::clone(&chassis.clock));
        chassis.spawn("admissions", admitting);
        let (policy, asking) = PolicyClient::new(chassis.peers.policy()?);
        chassis.spawn("policy-questions", asking);
        let app = App {
            pool: chassis.pool.clone(),
            clock: Arc::clone(&chassis.clock),
            settings: Arc::new(settings),
            policy: Arc::new(policy),
            leadership: Leadership::default(),
            mind: Arc::new(Mutex::new(None)),
            admissions,
            writer,
            decide: Wake::default(),
            tell: Wake::default(),
        };
        let (health, shutdown) = (chassis.health.clone(), chassis.shutdown.clone());
        let leadership = app.leadership.clone();
        let leads = move || leadership.epoch().is_some();
        chassis.spawn("lead", lead(Lead::new(app.clone()), leads, app.decide.clone(), shutdown.clone()));
        let tell = Tell::new(app.clone(), Arc::new(registry.clone()), chassis.incarnation, health.clone());
        chassis.reconcile_on(Arc::new(tell), TELL_EVERY, app.tell.clone());
        chassis.reconcile(Arc::new(Stand(app.clone())), STAND_EVERY);
        for what in [What::Clusters, What::Observations] {
            chassis.spawn(what.part(), follow(what, app.clone(), registry.clone(), health.clone(), shutdown.clone()));
        }
        Ok(grpc::routes(app, chassis.tail.clone()))
    }
}

/// Leads, or stands by, until `shutdown`; then lets go of the lease.
///
/// The chassis' own loop waits longer after each failure. A leader that waits lets its lease run out, so this one does not
/// wait longer than a part of it.
async fn lead(lead: Lead, leads: impl Fn() -> bool, wake: Wake, shutdown: CancellationToken) {
    let mut failures = 0;
    while !shutdown.is_cancelled() {
        let began = Instant::now();
        let pause = match lead.tick().await {
            Ok(()) => {
                failures = 0;
                if leads() { DECIDE_EVERY } else { STAND_BY }
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(error = %error, failures, "a decision failed; the engine is built anew");
                backoff(failures).min(Duration::from_secs(1))
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = wake.wait_after(began.elapsed()), if failures == 0 => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Err(error) = lead.release().await {
        tracing::debug!(error = %error, "the lease was not released; it runs out");
    }
}

/// The whole of `main`.
#[must_use]
pub fn run() -> ExitCode {
    boot::main::<Scheduler>()
}
