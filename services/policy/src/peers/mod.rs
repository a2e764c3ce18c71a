//! What the service asks of others, behind the few calls it needs, so that tests can stand in for them.

pub mod registry;
pub mod rollout;

pub use registry::{Applied, ClusterEvent, ObservedEvent, Outcome, Registry, RegistryClient, Said, ToApply, Verdicts};
pub use rollout::{File, Repositories, RolloutClient};
