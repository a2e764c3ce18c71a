//! Use cases: authorise, begin, decide, store, say so, commit. One file a noun.

pub mod access_token;
pub mod cluster;
pub mod desired;
pub mod enrolment;
pub mod enrolment_token;
pub mod fleet;
pub mod membership;
pub mod price_book;
pub mod question;
pub mod verdict;

use crate::{config::Settings, pki::Authority};
use muster_kit::{clock::SharedClock, reconcile::Wake, watch::Tail};
use sqlx::PgPool;
use std::sync::Arc;

/// What every use case works with.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Thresholds.
    pub settings: Settings,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// The end of the event log.
    pub tail: Tail,
    /// There is something to send to agents.
    pub send: Wake,
    /// The database's present life.
    pub incarnation: Arc<std::sync::atomic::AtomicU64>,
}

/// An identifier for something that came without one: the kind's prefix and eight characters of randomness.
pub fn made_up_id(prefix: &str) -> String {
    let bytes: [u8; 4] = rand::random();
    format!("{prefix}-{}", hex::encode(bytes))
}

/// Manifests of fleets and price books, at most.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;
