//! What tests need around the thing they test: a fresh database, a broker, a free port, patience.
//!
//! The one thing to know: nothing here skips. Where the surroundings are missing a test fails and says that
//! `cargo xtask test` brings them.

mod broker;
mod database;
mod patience;
mod port;

pub use broker::{Broker, State as BrokerState};
pub use database::{DATABASE_URL_VARIABLE, TestDb};
pub use patience::{PATIENCE, eventually, eventually_within};
pub use port::free_port;
