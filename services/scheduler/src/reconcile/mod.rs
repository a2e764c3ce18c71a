//! The loops: lead and decide, tell clusters, stand by lost ones, follow the registry.

pub mod follow;
pub mod lead;
pub mod standing;
pub mod tell;
