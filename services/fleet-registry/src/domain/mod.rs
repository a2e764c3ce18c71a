//! What the registry knows, and the decisions it takes, without I/O or a clock.

pub mod cluster;
pub mod fleet;
pub mod liveness;
pub mod owner;
pub mod price;
pub mod secret;

pub use cluster::{Cluster, Schedulability, State};
