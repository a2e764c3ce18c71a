//! What breaks in the middle of the main job, one thing at a time or at random, and what must hold all the same.
//!
//! The one thing to know: a [`Ground`] is the main job's platform with two processes of every service, on a Postgres, a Kafka
//! and a Kubernetes cluster of its own, because they are killed too. [`round`] plays the main job over one fault; [`chaos`]
//! draws faults by a seed. What must hold is in [`invariants`], and is read only where users read it.

pub mod chaos;
mod clock;
mod ground;
pub mod invariants;
pub mod round;
mod staleness;

use std::fmt;
use std::time::Duration;

use crate::platform::Service;
use crate::proxy::Weather;

pub use ground::{Ground, Programs};

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every process of a service is killed.
    Service(Service),
    /// Every agent is killed.
    Agents,
    /// The broker is killed.
    Kafka,
    /// The database server is killed.
    Postgres,
    /// The API server of the training cluster is killed.
    ApiServer,
    /// What that API server keeps everything in is killed.
    Etcd,
    /// The network between every agent and the hub is bad.
    Network(Weather),
    /// The agent of the training cluster can't write to its disk.
    FullDisk,
    /// The wall clock of every agent is ten minutes ahead.
    Clock,
}

/// How far a wrong clock is off.
const CLOCK_OFF: Duration = Duration::from_secs(600);

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 15] = [
        Self::Service(Service::Registry),
        Self::Service(Service::Scheduler),
        Self::Service(Service::Rollout),
        Self::Service(Service::Policy),
        Self::Agents,
        Self::Kafka,
        Self::Postgres,
        Self::ApiServer,
        Self::Etcd,
        Self::Network(Weather::Cut),
        Self::Network(Weather::Slow(Duration::from_millis(500))),
        Self::Network(Weather::Lossy(5)),
        Self::Network(Weather::HalfOpen),
        Self::FullDisk,
        Self::Clock,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(formatter, "{}, both processes", service.name()),
            Self::Agents => formatter.write_str("every agent"),
            Self::Kafka => formatter.write_str("Kafka"),
            Self::Postgres => formatter.write_str("Postgres"),
            Self::ApiServer => formatter.write_str("a member's API server"),
            Self::Etcd => formatter.write_str("a member's etcd"),
            Self::Network(Weather::Clear) => formatter.write_str("network: clear"),
            Self::Network(Weather::Cut) => formatter.write_str("network: cut"),
            Self::Network(Weather::HalfOpen) => formatter.write_str("network: half-open"),
            Self::Network(Weather::Slow(by)) => write!(formatter, "network: {} ms late", by.as_millis()),
            Self::Network(Weather::Lossy(percent)) => write!(formatter, "network: {percent} % lost"),
            Self::FullDisk => formatter.write_str("a full disk under a ledger"),
            Self::Clock => formatter.write_str("agents' clocks 10 min ahead"),
        }
    }
}
