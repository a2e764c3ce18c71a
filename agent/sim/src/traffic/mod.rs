//! Simulated requests. (thin)
use crate::{cluster::Inner, config::ClusterConfig};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The requests of one cluster.
#[derive(Debug)]
pub struct Traffic {
    rate: f64,
}
impl Traffic {
    /// As configured.
    pub fn new(config: &ClusterConfig) -> Self {
        Self { rate: config.requests_per_second }
    }
    /// Changes the rate.
    pub fn set_requests_per_second(&mut self, rate: f64) {
        self.rate = rate;
    }
    /// The rate.
    pub fn requests_per_second(&self) -> f64 {
        self.rate
    }
}
/// Runs it.
pub async fn run(_cluster: Arc<Inner>, shutdown: CancellationToken) {
    shutdown.cancelled().await;
}
