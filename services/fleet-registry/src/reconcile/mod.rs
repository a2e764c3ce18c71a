//! The registry's own loops.

pub mod liveness;
pub mod sweep;
