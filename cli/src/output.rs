//! What people and scripts read: tables, JSON, YAML, names; durations and money in words.

pub mod describe;
pub mod format;
pub mod human;
pub mod table;

pub use format::{Format, Printer};
pub use table::Table;
