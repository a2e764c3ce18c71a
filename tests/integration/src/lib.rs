//! What the stories, the demo and the benchmark share: a whole Muster on one machine, and the main job played on it.
//!
//! The one thing to know: every process it starts is on a leash ([`process`]), so that nothing outlives the test or
//! command that started it, however that ends; and what happened is read only where users read it: public RPCs, git,
//! Kafka, the clusters' APIs and audit logs.

pub mod audit;
pub mod clients;
pub mod cluster_api;
pub mod draw;
pub mod faults;
pub mod kafka;
pub mod made;
pub mod main_job;
pub mod muster;
pub mod parts;
pub mod patience;
pub mod platform;
pub mod process;
pub mod proxy;
pub mod refusal;
pub mod repository;
pub mod spans;
pub mod wire;

pub use patience::{eventually, eventually_within};
pub use platform::{Platform, Setup};
