//! Simulated Kubernetes clusters, in memory: an API an ordinary client talks to, the controllers behind it, nodes whose
//! containers do what their image says, and the metrics of the requests they would have had.
//!
//! [`SimCluster::start`] runs one in process, `kube::Client::new(cluster.service(), "default")` talks to it, and
//! [`server::serve`] puts it behind sockets, as the program `muster-simcluster` does. Everything that changes in a cluster
//! is in one [`state::State`] behind one lock; requests ([`api`]) and controllers ([`controllers`]) take it for one step at
//! a time, and every write goes through [`write`] or [`delete`] and into the [`audit`] log.

pub mod amend;
pub mod api;
pub mod apply;
pub mod audit;
pub mod body;
pub mod cluster;
pub mod config;
pub mod contract;
pub mod control;
pub mod controllers;
pub mod delete;
pub mod faults;
pub mod fields;
pub mod images;
pub mod json;
pub mod managed;
pub mod names;
pub mod patch;
pub mod prepare;
pub mod presets;
pub mod prometheus;
pub mod promql;
pub mod quantity;
pub mod random;
pub mod resource;
pub mod schema;
pub mod seed;
pub mod selector;
pub mod server;
pub mod state;
pub mod status;
pub mod store;
pub mod traffic;
pub mod validate;
pub mod write;

pub use cluster::{SimCluster, StartError};
pub use config::{ClusterConfig, CrdPreset, Delays, NodeGroup, SimConfig};
pub use images::ImageRule;
