//! The chassis of a service: everything that is the same in all of them, so that a service is only what it is for.
//!
//! A service implements [`boot::Book`] and calls [`boot::main`]. From there on it has configuration, telemetry, a TLS
//! server that knows its callers, a pool, the event log with relay and watch, idempotency, leases and reconcilers.

pub mod audit;
pub mod boot;
pub mod caller;
pub mod clock;
pub mod config;
pub mod consume;
pub mod crash;
pub mod db;
pub mod error;
pub mod event;
pub mod gather;
pub mod health;
pub mod idempotency;
pub mod incarnation;
pub mod kafka;
pub mod lease;
pub mod metrics;
pub mod peer;
pub mod reconcile;
mod refusal;
pub mod relay;
pub mod server;
pub mod telemetry;
pub mod time;
pub mod watch;

pub use caller::{Caller, Role};
pub use clock::{Clock, FakeClock, SystemClock};
pub use db::Tx;
pub use error::{Error, Kind, Result};
