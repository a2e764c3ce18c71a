//! The agent of a member cluster: dials out to the hub and makes the cluster look like what it was told.
//!
//! `domain` decides, `ledger` remembers, `cluster` writes, `watch` sees, `health` judges and `reconcile` puts them
//! together, one item at a time. `link` is the only part that knows the wire; everything else works the same with the
//! hub away.

pub mod agent;
pub mod cluster;
pub mod config;
pub mod control;
pub mod crash;
pub mod domain;
pub mod health;
pub mod http;
pub mod inventory;
pub mod lease;
pub mod ledger;
pub mod link;
pub mod logs;
pub mod metrics;
pub mod policy;
pub mod reconcile;
pub mod watch;
