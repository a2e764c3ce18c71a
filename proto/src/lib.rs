//! The wire and nothing else: messages, clients and servers of every Muster service.
//!
//! Generated from `muster/**/*.proto`, which carry the documentation. Every message also reads and writes proto3 JSON
//! through serde; that JSON is the data of our events.
#![allow(clippy::all)]

pub use pbjson_types::{Duration, FieldMask, Timestamp};

/// Every file's descriptor, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/muster.descriptors"));

/// Package `muster.agent`.
pub mod agent {
    /// Package `muster.agent.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/muster.agent.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/muster.agent.v1.serde.rs"));
    }
}

/// Package `muster.event`.
pub mod event {
    /// Package `muster.event.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/muster.event.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/muster.event.v1.serde.rs"));
    }
}

/// Package `muster.policy`.
pub mod policy {
    /// Package `muster.policy.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/muster.policy.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/muster.policy.v1.serde.rs"));
    }
}

/// Package `muster.registry`.
pub mod registry {
    /// Package `muster.registry.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/muster.registry.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/muster.registry.v1.serde.rs"));
    }
}

/// Package `muster.rollout`.
pub mod rollout {
    /// Package `muster.rollout.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/muster.rollout.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/muster.rollout.v1.serde.rs"));
    }
}

/// Package `muster.scheduler`.
pub mod scheduler {
    /// Package `muster.scheduler.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/muster.scheduler.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/muster.scheduler.v1.serde.rs"));
    }
}
