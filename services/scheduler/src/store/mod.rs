//! The tables. Private row types, checked queries; everything that leaves here is a domain type.

pub mod bundle;
pub mod cluster;
pub mod cost;
pub mod desired;
pub mod inbox;
pub mod job;
mod json;
pub mod notice;
pub mod queue;
pub mod run;

use muster_kit::Error;

/// A value in a column that this program did not write.
fn corrupt(what: &'static str, why: impl std::fmt::Display) -> Error {
    Error::internal(anyhow::anyhow!("the database holds {what} that can't be read: {why}"))
}

/// A count as a column has it.
fn count(what: &'static str, value: i32) -> Result<u32, Error> {
    u32::try_from(value).map_err(|error| corrupt(what, error))
}

/// A count into a column.
fn column(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
