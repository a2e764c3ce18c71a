//! What is foreseen: a copy of the engine plays on as if nothing else were submitted. The live one is never touched.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_kit::{Error, Result, db};
use muster_scheduler_engine::{Engine, Forecast, JobId, Outlook, Start};

use super::App;
use super::mind::Mind;
use crate::store;

/// A larger engine is not copied: that would take seconds and its memory again.
const MOST_JOBS: usize = 20_000;
/// Ends of runs and other moments played at most: some seconds of work.
const MOST_STEPS: u32 = 100_000;
/// The farthest horizon.
pub const FARTHEST_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// Runs last as long as half of their like at most.
pub(super) const MEDIAN: u16 = 500;
/// Runs last as long as nine of ten of their like at most.
const LONG: u16 = 900;
/// Milliseconds of an hour, for which prices are.
const HOUR_MS: i128 = 3_600_000;

/// A start that is foreseen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeseenStart {
    /// When.
    pub time: Timestamp,
    /// In which cluster, or in which first.
    pub cluster: String,
    /// In which others too.
    pub further: Vec<String>,
    /// On which model; empty without GPUs.
    pub flavor: String,
    /// In the queue's which tier, from 1.
    pub tier: u32,
    /// At what price in the first cluster; 0 without one.
    pub micros_per_gpu_hour: i64,
    /// How long the run is taken to last.
    pub lasts_ms: i64,
    /// Whether something like it has finished.
    pub learned: bool,
    /// GPUs × time × price, and what moving its dataset costs.
    pub cost_micros: i64,
    /// Runs that end before it.
    pub ends_before: u32,
    /// Those of them like which something has finished.
    pub ends_learned: u32,
}

impl ForeseenStart {
    pub(super) fn new(start: &Start) -> Self {
        let Start { at, placement, lasts_ms, learned, ends: (ends_before, ends_learned) } = start;
        let price = placement.price_micros.unwrap_or(0);
        let share = |gpus: i64, price: Option<i64>, egress: i64| {
            i128::from(*lasts_ms) * i128::from(gpus) * i128::from(price.unwrap_or(0)) / HOUR_MS + i128::from(egress)
        };
        let first = share(placement.gpus, placement.price_micros, placement.egress_micros);
        let elsewhere = placement.elsewhere.iter();
        let cost = elsewhere.fold(first, |sum, part| sum + share(part.gpus, part.price_micros, part.egress_micros));
        Self {
            time: Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::MAX),
            cluster: placement.cluster.clone(),
            further: placement.elsewhere.iter().map(|part| part.cluster.clone()).collect(),
            flavor: placement.flavor.clone().unwrap_or_default(),
            tier: u32::try_from(placement.tier + 1).unwrap_or(u32::MAX),
            micros_per_gpu_hour: price,
            lasts_ms: *lasts_ms,
            learned: *learned,
            cost_micros: i64::try_from(cost).unwrap_or(i64::MAX),
            ends_before: *ends_before,
            ends_learned: *ends_learned,
        }
    }
}

/// Plays on, away from the threads that serve.
pub(super) async fn play(engine: Engine, horizon_ms: i64, permille: u16) -> Result<Forecast> {
    let outlook = Outlook { horizon_ms, most_steps: MOST_STEPS, permille };
    tokio::task::spawn_blocking(move || engine.forecast(outlook)).await.map_err(Error::internal)
}

/// When a waiting job is expected to start: by the median of what runs last, and by what nine of ten last at most.
///
/// # Errors
/// The forecast panicked.
pub(super) async fn expected_start(engine: Engine, job: JobId) -> Result<(Option<ForeseenStart>, Option<ForeseenStart>)> {
    let found = |forecast: Forecast| forecast.starts.get(&job).map(ForeseenStart::new);
    let expected = found(play(engine.clone(), FARTHEST_MS, MEDIAN).await?);
    let late = found(play(engine, FARTHEST_MS, LONG).await?);
    Ok((expected, late))
}

/// Whether the engine is small enough to be copied.
pub(super) fn may_be_copied(mind: &Mind) -> bool {
    mind.engine.jobs() <= MOST_JOBS
}

impl App {
    /// A mind that is read from the tables, as any replica can.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn load_mind(&self) -> Result<Mind> {
        let mut tx = db::begin(&self.pool).await?;
        let mind = Mind::load(&mut tx, 0, self.now()).await?;
        tx.rollback().await?;
        Ok(mind)
    }

    /// A copy of the leader's mind, or one that is read from the tables.
    ///
    /// # Errors
    /// Too many jobs, or the database away.
    pub(super) async fn fork(&self) -> Result<Mind> {
        let copied = {
            let mind = self.mind.lock().expect("no holder of this lock panics");
            let own = mind.as_ref().filter(|mind| self.leadership.epoch() == Some(mind.epoch));
            own.map(|mind| may_be_copied(mind).then(|| mind.clone()))
        };
        let mind = match copied {
            Some(mind) => mind,
            None => Some(self.load_mind().await?).filter(may_be_copied),
        };
        mind.ok_or_else(|| Error::precondition("TOO_MANY_JOBS", format!("more than {MOST_JOBS} jobs are unfinished")))
    }

    /// The names of jobs, by row.
    pub(super) async fn names(&self, jobs: &[JobId]) -> Result<BTreeMap<JobId, store::job::Named>> {
        let rows: Vec<i64> = jobs.iter().map(|job| job.0.cast_signed()).collect();
        let named = store::job::named(&self.pool, &rows).await?;
        Ok(named.into_iter().map(|named| (crate::domain::record::engine_id(named.id), named)).collect())
    }
}
