//! Plain words of the agent and its pure decisions: nothing in here talks to a cluster, a disk, a hub or a clock.

pub mod fields;
pub mod generation;
pub mod item;
pub mod manifest;
pub mod object;
pub mod observation;
pub mod order;
pub mod routes;
pub mod verdicts;
pub mod workload;
