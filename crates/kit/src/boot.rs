//! The life of a service process: `run` and `migrate`, start, drain, end.
//!
//! Every task stands in one set; one that panics or ends before its time ends the process, so that no service limps on
//! half alive.

use crate::{
    caller::TokenVerifier,
    clock::{SharedClock, SystemClock},
    config::{self, Config},
    crash::{self, CrashPoint},
    db,
    health::Health,
    idempotency, incarnation,
    kafka::KafkaConfig,
    peer::{Peers, RegistryVerifier},
    reconcile::{self, Reconciler, Wake},
    relay::Relay,
    server, telemetry,
    watch::Tail,
};
use anyhow::{Context, bail};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use sqlx::{PgPool, migrate::Migrator};
use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// What a service is, beside its chassis.
#[async_trait]
pub trait Book: Sized + Send + 'static {
    /// The service's name, as in `scheduler`.
    const NAME: &'static str;
    /// The gRPC services it serves, as in `muster.scheduler.v1.JobService`.
    const SERVICES: &'static [&'static str];
    /// Where it can be told to die.
    const CRASH_POINTS: &'static [CrashPoint] = &[];
    /// Its own section of the configuration.
    type Settings: DeserializeOwned + Clone + Send + Sync + 'static;

    /// Its own tables.
    fn migrations() -> &'static Migrator;

    /// Starts its reconcilers and gives its gRPC services.
    async fn start(settings: Self::Settings, chassis: &mut Chassis) -> anyhow::Result<Routes>;

    /// Commands besides `run` and `migrate`, as in `bootstrap-admin --token-file F`; `None`: not one of its.
    async fn command(_name: &str, _arguments: &[String]) -> Option<anyhow::Result<()>> {
        None
    }
}

/// What a service finds when it starts.
pub struct Chassis {
    /// The service's name.
    pub name: &'static str,
    /// Its database.
    pub pool: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Where its parts say how they are.
    pub health: Health,
    /// The end of its event log, for watches.
    pub tail: Tail,
    /// The other services.
    pub peers: Peers,
    /// Where the brokers are; none: no Kafka.
    pub kafka: KafkaConfig,
    /// Its database's present life.
    pub incarnation: u64,
    /// Cancelled when the process is to end.
    pub shutdown: CancellationToken,
    /// Wakes the relay, which otherwise looks when the log has grown.
    pub relay: Wake,
    /// Whose bearer token it is; by default the registry is asked.
    pub verifier: Option<Arc<dyn TokenVerifier>>,
    tasks: JoinSet<&'static str>,
}

impl Chassis {
    /// Runs a task for the life of the process; it must end only after `shutdown`.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Runs a reconciler; gives what wakes it.
    pub fn reconcile(&mut self, reconciler: Arc<dyn Reconciler>, interval: Duration) -> Wake {
        let wake = Wake::default();
        self.reconcile_on(reconciler, interval, wake.clone());
        wake
    }

    /// Runs a reconciler woken by a given signal.
    pub fn reconcile_on(&mut self, reconciler: Arc<dyn Reconciler>, interval: Duration, wake: Wake) {
        let name = reconciler.name();
        let shutdown = self.shutdown.clone();
        self.spawn(name, reconcile::run(reconciler, interval, wake, shutdown));
    }
}

/// The whole of a service's `main`.
pub fn main<B: Book>() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(dispatch::<B>(&arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-{}: {error:#}", B::NAME);
            ExitCode::FAILURE
        }
    }
}

async fn dispatch<B: Book>(arguments: &[String]) -> anyhow::Result<()> {
    match arguments {
        [verb, flag, file] if verb == "run" && flag == "--config" => run::<B>(config::load(&PathBuf::from(file))?).await,
        [verb, flag, file] if verb == "migrate" && flag == "--config" => {
            let config: Config<B::Settings> = config::load(&PathBuf::from(file))?;
            let pool = db::pool(&config.database, B::NAME)?;
            db::migrate(&pool, B::migrations()).await
        }
        [verb, rest @ ..] => match B::command(verb, rest).await {
            Some(outcome) => outcome,
            None => bail!("usage: muster-{} run|migrate --config FILE", B::NAME),
        },
        [] => bail!("usage: muster-{} run|migrate --config FILE", B::NAME),
    }
}

/// Longest drain before what is left is cut off.
const DRAIN: Duration = Duration::from_secs(15);

async fn run<B: Book>(config: Config<B::Settings>) -> anyhow::Result<()> {
    let _telemetry = telemetry::start(B::NAME, &config.telemetry)?;
    crash::arm(&config.crash, B::CRASH_POINTS)?;
    // Two TLS libraries' defaults would otherwise be a run-time choice.
    rustls::crypto::ring::default_provider().install_default().ok();
    let shutdown = CancellationToken::new();
    let signals = shutdown.clone();
    tokio::spawn(async move {
        if let Err(error) = until_signalled().await {
            tracing::error!(error = %error, "signals cannot be received");
        }
        signals.cancel();
    });

    let pool = db::pool(&config.database, B::NAME)?;
    let health = Health::default();
    let Some(incarnation) = wait_for_database(&pool, &health, &shutdown).await else { return Ok(()) };
    let clock: SharedClock = Arc::new(SystemClock);
    let (tail, feed) = Tail::new(pool.clone(), shutdown.clone());
    let mut chassis = Chassis {
        name: B::NAME,
        pool: pool.clone(),
        clock: Arc::clone(&clock),
        health: health.clone(),
        tail,
        peers: Peers::new(&config.peers, &config.server)?,
        kafka: config.kafka.clone(),
        incarnation,
        shutdown: shutdown.clone(),
        relay: Wake::default(),
        verifier: None,
        tasks: JoinSet::new(),
    };
    chassis.spawn("event-tail", feed);
    chassis.spawn("database-health", watch_database(pool.clone(), health.clone(), shutdown.clone()));
    let relay = Relay::new(pool.clone(), B::NAME, &config.kafka, health.clone())?;
    chassis.reconcile_on(Arc::new(relay), Duration::from_secs(1), chassis.relay.clone());
    chassis.spawn("relay-wake", wake_at_growth(chassis.tail.clone(), chassis.relay.clone(), shutdown.clone()));
    let routes = B::start(config.service, &mut chassis).await?;
    let verifier = match chassis.verifier.take() {
        Some(verifier) => verifier,
        None => Arc::new(RegistryVerifier::new(chassis.peers.registry()?, clock)),
    };
    let serving = server::serve(&config.server, routes, B::SERVICES, verifier, health, shutdown.clone());
    let outcome = until_end(serving, &mut chassis.tasks, &shutdown).await;
    pool.close().await;
    tracing::info!("stopped");
    outcome
}

/// Serves until the end; a task that ends early brings it about.
async fn until_end(
    serving: impl Future<Output = anyhow::Result<()>>,
    tasks: &mut JoinSet<&'static str>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    tokio::pin!(serving);
    let early = tokio::select! {
        outcome = &mut serving => {
            shutdown.cancel();
            Some(outcome)
        }
        Some(ended) = tasks.join_next() => {
            let asked = shutdown.is_cancelled();
            shutdown.cancel();
            match ended {
                Ok(_) if asked => None,
                Ok(name) => Some(Err(anyhow::anyhow!("the task {name} ended before its time"))),
                Err(error) => Some(Err(anyhow::anyhow!(error).context("a task failed"))),
            }
        }
    };
    let drained = tokio::time::timeout(DRAIN, async {
        let served = match early {
            Some(outcome) => outcome,
            None => serving.await,
        };
        while tasks.join_next().await.is_some() {}
        served
    });
    match drained.await {
        Ok(outcome) => outcome,
        Err(_) => {
            tracing::warn!("what was left after {DRAIN:?} is cut off");
            tasks.abort_all();
            Ok(())
        }
    }
}

/// Wakes a reconciler whenever the event log has grown.
async fn wake_at_growth(mut tail: Tail, wake: Wake, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tail.grown() => wake.now(),
        }
    }
}

async fn until_signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits for the database and its tables; `None` if the process is to end before.
async fn wait_for_database(pool: &PgPool, health: &Health, shutdown: &CancellationToken) -> Option<u64> {
    let mut failures = 0;
    loop {
        match incarnation::establish(pool).await {
            Ok(incarnation) => {
                health.report("postgres", None);
                return Some(incarnation);
            }
            Err(error) => {
                failures += 1;
                health.report("postgres", Some(format!("{error} (are the migrations applied?)")));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(reconcile::backoff(failures)) => {}
        }
    }
}

/// Looks at the database every two seconds, and cleans up once a minute.
async fn watch_database(pool: PgPool, health: Health, shutdown: CancellationToken) {
    let mut passes: u32 = 0;
    loop {
        let alive = sqlx::query("select 1").execute(&pool).await;
        health.report("postgres", alive.err().map(|error| error.to_string()));
        passes = passes.wrapping_add(1);
        if passes.is_multiple_of(30)
            && let Err(error) = idempotency::trim(&pool).await
        {
            tracing::debug!(error = %error, "old answers were not forgotten; later");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}
