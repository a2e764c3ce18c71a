//! Use cases: authorise, begin, domain, store, event, commit. One file a noun.

pub mod admission;
pub mod batch;
pub mod budgets;
pub mod control;
pub mod costs;
pub mod decide;
mod emissions;
pub mod explain;
mod fold;
pub mod forecast;
pub mod jobs;
mod lately;
pub mod mind;
pub mod observe;
pub mod queues;
pub mod submit;
pub mod what_if;
pub mod writer;

use std::sync::Arc;

use jiff::Timestamp;
use muster_kit::clock::SharedClock;
use muster_kit::idempotency::{self, Begun, Key};
use muster_kit::reconcile::Wake;
use muster_kit::{Caller, Result, Tx};
use prost::Message;
use sqlx::PgPool;
use tokio::sync::watch;

use crate::config::Settings;
use crate::domain::cost::Charge;
use crate::domain::parts::Parts;
use crate::domain::record::Job;
use crate::peers::Policy;
use mind::Mind;

/// What every use case needs.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Our settings.
    pub settings: Arc<Settings>,
    /// The policy service.
    pub policy: Arc<dyn Policy>,
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// The engine between two passes of the leader.
    pub mind: Arc<std::sync::Mutex<Option<Mind>>>,
    /// What can be decided at submit.
    pub admissions: admission::Admissions,
    /// Where submits are written, many at a time.
    pub writer: writer::Writer,
    /// Wakes the leader.
    pub decide: Wake,
    /// Wakes the writer of desired state.
    pub tell: Wake,
}

/// The epoch of this replica's lease, 0 while another leads.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<watch::Sender<u64>>);

impl Default for Leadership {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Leadership {
    /// The epoch, while this replica leads.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        Some(*self.0.borrow()).filter(|epoch| *epoch > 0)
    }

    /// This replica leads in this epoch, or no more.
    pub fn set(&self, epoch: Option<u64>) {
        self.0.send_if_modified(|known| {
            let new = epoch.unwrap_or(0);
            let changed = *known != new;
            *known = new;
            changed
        });
    }

    /// Waits until this replica leads; gives the epoch.
    pub async fn gained(&self) -> u64 {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as we do.
        receiver.wait_for(|epoch| *epoch > 0).await.map_or(0, |epoch| *epoch)
    }

    /// Waits until this replica does not lead in this epoch any more.
    pub async fn lost(&self, epoch: u64) {
        let mut receiver = self.0.subscribe();
        let _ended = receiver.wait_for(|known| *known != epoch).await;
    }
}

/// A job with everything that is shown of it.
#[derive(Clone, Debug)]
pub struct JobView {
    /// The job.
    pub job: Job,
    /// Its latest run.
    pub run: Option<Parts>,
    /// What its runs are charged for.
    pub charges: Vec<Charge>,
    /// Its manifest, where it is asked for.
    pub manifest: Option<String>,
}

/// A mutation that is done once however often it comes (AIP-155).
pub struct Once<'a, Q> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The method.
    pub method: &'static str,
    /// The caller's number for it; empty if it has none.
    pub request_id: &'a str,
    /// The whole request.
    pub request: &'a Q,
}

impl<Q: Message> Once<'_, Q> {
    /// What it is known by; `None` where it has no `request_id`.
    ///
    /// # Errors
    /// A `request_id` that is no UUID.
    pub fn key(&self) -> Result<Option<Key>> {
        Key::of(self.caller, self.method, self.request_id, self.request)
    }

    /// Looks it up, or claims it.
    ///
    /// # Errors
    /// A `request_id` that is no UUID or was used for something else.
    pub async fn begin<R: Message + Default>(&self, tx: &mut Tx) -> Result<Begun<R>> {
        idempotency::begin(tx, self.caller, self.method, self.request_id, self.request).await
    }
}

impl App {
    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
