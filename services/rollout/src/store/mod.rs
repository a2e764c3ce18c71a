//! The rows: private row types, checked queries over a transaction or the pool, nothing that decides.

pub mod application;
pub mod cluster;
pub mod desired;
pub mod measurement;
pub mod model;
pub mod release;
pub mod repository;
pub mod target;
pub mod tidy;

use jiff::Timestamp;
use jiff_sqlx::Timestamp as DbTimestamp;

/// A nullable time of a row.
fn time(at: Option<DbTimestamp>) -> Option<Timestamp> {
    at.map(DbTimestamp::to_jiff)
}
